"""What must not get past the API's gate: requests that two read differently, strangers, and crowds."""

import http.client
import os
import pathlib
import socket
import stat
import threading

import pytest

from api_client import GOOD, PASSWORD, V1, ask, get, refused
from harness import BUILD, PATIENCE
from world import servers

try:
    servers.program(BUILD, "hayaumad")
except FileNotFoundError as error:
    pytest.skip(str(error), allow_module_level=True)


# ---- the gate ----

def raw(daemon, data, tcp=None, half_close=False):
    """All octets that come back until the connection ends, or nothing more comes."""
    s = socket.create_connection(tcp) if tcp else socket.socket(socket.AF_UNIX)
    s.settimeout(5 * PATIENCE)
    if not tcp:
        s.connect(daemon.socket)
    with s:
        try:
            s.sendall(data)
            if half_close:
                s.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass
        got = b""
        while True:
            try:
                more = s.recv(65536)
            except ConnectionResetError:
                more = b""
            except TimeoutError:
                return got, False
            if not more:
                return got, True
            got += more


def answers_in(data):
    return data.count(b"HTTP/1.")


SMUGGLED = b"DELETE /api/v1/accounts/app HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("head", [
    b"Host: x\r\nContent-Length: 5\r\nContent-Length: 0\r\n",
    b"Host: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
    b"Host: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    b"Host: x\r\nTransfer-Encoding: gzip\r\n",
    b"Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    b"Host: x\r\nContent-Length: +5\r\n",
    b"Host: x\r\nContent-Length: 0x5\r\n",
    b"Host: x\r\nContent-Length: -5\r\n",
    b"Host: x\r\nContent-Length: 99999999999999999999999\r\n",
    b"Host: x\r\nContent-Length : 5\r\n",
    b"Host: x\r\nHost: y\r\n",
    b"Content-Length: 0\r\n",
    b"Host: x\r\nX-A: a\x01b\r\n",
    b"Host: x\r\nX-A: a\x7fb\r\n",
    b"Host: x\r\nX-A: a\x00b\r\n",
    b"Host: x\r\nContent-Length: 0\x00 5\r\n",
    b"Host: x\r\nContent\x00-Length: 5\r\n",
    b"Host: x\r\nX-A: a\r\n folded: b\r\n",
    b"Host: x\nX-A: b\r\n",
    b"Host:x\r\n",
    b"Host: x\r\nBad Name: a\r\n",
    b"Host: x\r\nno colon here\r\n",
], ids=lambda head: head[:60].decode("latin-1").replace("\r\n", "|").replace("\0", "NUL"))
def test_what_can_be_read_in_two_ways_is_refused_and_nothing_after_it_is_served(mail, head):
    ask(mail, "PUT", f"{V1}/accounts/app", {"password": PASSWORD})
    got, closed = raw(mail, b"POST /api/v1/policy/check HTTP/1.1\r\n" + head + b"\r\n" + SMUGGLED + SMUGGLED)
    # libmicrohttpd writes its own refusals twice, and then closes.
    assert closed and all(line[9:10] == b"4" for line in got.split(b"\r\n") if line.startswith(b"HTTP/1.")), got
    get(mail, f"{V1}/accounts/app")


@pytest.mark.parametrize("line", [b"GET /a%00 HTTP/1.1", b"GET /a%zz HTTP/1.1", b"GET a HTTP/1.1", b"GET http://x/healthz HTTP/1.1", b"GET * HTTP/1.1",
                                  b"GET /healthz?a=1&a=2 HTTP/1.1", b"GET /" + b"a/" * 20 + b" HTTP/1.1", b"BREW /healthz HTTP/1.1",
                                  b"get /healthz HTTP/1.1", b"GET /healthz HTTP/3.0", b"GET /healthz"])
def test_request_lines_that_are_none(mail, line):
    got, closed = raw(mail, line + b"\r\nHost: x\r\n\r\n", half_close=True)
    assert closed and answers_in(got) <= 1 and (got == b"" or got.split()[1][:1] in (b"4", b"5")), got


def test_pipelined_requests_are_answered_in_order(mail):
    got, _ = raw(mail, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answers_in(got) == 2 and got.index(b"200 OK") < got.index(b"404")


def test_chunked_bodies_are_read_whole(mail):
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (GOOD[:1].encode(), GOOD[1:30].encode(), GOOD[30:].encode())) + b"0\r\n\r\n"
    got, _ = raw(mail, b"POST /api/v1/policy/check HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert b'"ok":true' in got


def test_a_body_beyond_the_limit_is_refused(mail):
    got, closed = raw(mail, b"POST /api/v1/policy HTTP/1.1\r\nHost: x\r\nContent-Length: 16777217\r\n\r\n" + b"x" * 1000)
    assert closed and b"413" in got[:20] and b"too_large" in got
    chunk = b"100000\r\n" + b"#" * 0x100000 + b"\r\n"
    got, closed = raw(mail, b"POST /api/v1/policy/check HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 17 + b"0\r\n\r\n")
    assert b"413" in got[:20] and b"too_large" in got
    assert get(mail, "/healthz") == "ok\n"


def test_methods_are_told(mail):
    status, value, headers = ask(mail, "POST", f"{V1}/accounts/app", {})
    assert status == 405 and value["error"]["code"] == "method" and headers["Allow"] == "GET, HEAD, PUT, DELETE"
    status, _, headers = ask(mail, "HEAD", "/healthz")
    assert status == 200 and headers["Content-Length"] == "3"
    refused(mail, "GET", f"{V1}/nothing", 404, "not_found")
    refused(mail, "GET", f"{V1}/status/", 404, "not_found")
    refused(mail, "GET", f"{V1}/status", says="verbose", verbose=1)


# ---- the sockets ----

def test_the_tcp_address_serves_health_and_metrics_only(mail):
    address = mail.config["api"]["listen"].rsplit(":", 1)
    for method, path, want in (("GET", "/healthz", 200), ("GET", "/metrics", 200), ("GET", f"{V1}/status", 403), ("GET", f"{V1}/accounts", 403),
                               ("POST", f"{V1}/queue/ops", 403), ("PUT", f"{V1}/accounts/x", 403), ("GET", "/", 404)):
        c = http.client.HTTPConnection(address[0], int(address[1]), timeout=20)
        c.request(method, path, '{"op": "cancel", "all": true}' if method == "POST" else None)
        assert c.getresponse().status == want, path
        c.close()


def test_the_socket_is_for_its_user_alone(mail):
    assert stat.S_IMODE(os.stat(mail.socket).st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_another_users_process_is_refused_even_with_the_mode_open(world):
    daemon = world.daemon()
    daemon.wait_for_api()
    os.chmod(daemon.socket, 0o777)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            s = socket.socket(socket.AF_UNIX)
            s.connect(daemon.socket)
            s.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
            os.write(writer, s.recv(65536))
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    got = os.read(reader, 65536)
    os.close(reader)
    assert got.startswith(b"HTTP/1.1 403") and b"denied" in got and b"uptime" not in got


def test_a_stale_socket_is_replaced_and_a_file_is_not(world):
    daemon = world.daemon()
    daemon.wait_for_api()
    daemon.kill()
    assert os.path.exists(daemon.socket)
    daemon.start()
    daemon.wait_for_api()
    assert get(daemon, "/healthz") == "ok\n"
    daemon.stop()
    precious = pathlib.Path(daemon.socket)
    precious.write_text("precious")
    daemon.start(wait=False)
    assert daemon.process.wait(20 * PATIENCE) == 1
    assert "is not a socket" in daemon.log() and precious.read_text() == "precious"
    precious.unlink()


def test_a_socket_on_which_somebody_answers_is_left_alone(world):
    first = world.daemon()
    first.wait_for_api()
    second = world.daemon(start=False)
    second.config["api"]["socket"] = first.socket
    second.start(wait=False)
    assert second.process.wait(20 * PATIENCE) == 1
    assert "somebody answers" in second.log()
    assert get(first, "/healthz") == "ok\n"


def test_many_clients_at_once_and_slow_ones_do_not_stop_the_others(mail):
    idle = []
    for _ in range(40):
        s = socket.socket(socket.AF_UNIX)
        s.connect(mail.socket)
        s.sendall(b"GET /api/v1/status HTTP/1.1\r\nHo")
        idle.append(s)
    errors = []

    def work():
        try:
            for _ in range(10):
                get(mail, f"{V1}/queue/recipients", limit=3)
                get(mail, f"{V1}/status")
                get(mail, f"{V1}/reports/delivery", by="domain")
        except Exception as error:  # shown below, in the test's own thread
            errors.append(error)
    threads = [threading.Thread(target=work) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for s in idle:
        s.close()
    assert not errors
