"""What hostile clients do to a listener's TLS (T27–T30): refused, said at a bounded rate, and cheap for us."""

import os
import random
import re
import socket
import ssl
import struct
import subprocess
import time

import pytest

from harness import PATIENCE, SENDER, Raw, compose, no_check, wait_until


@pytest.fixture
def daemon(world):
    """STARTTLS with AUTH, STARTTLS for everybody here, and implicit TLS."""
    d = world.daemon(start=False)
    d.config["listeners"].append({"address": f"{d.address}:{d.tls_port}", "tls": "implicit", "auth": "required"})
    return d.start()


@pytest.fixture(scope="module")
def many(shared_world):
    """One daemon for the many ways in which one thing can end."""
    return shared_world.daemon()


def attacks(daemon, what=None):
    found = re.findall(r'warn  attack .*?what=(\S+)', daemon.log())
    return found.count(what) if what else found


def said(daemon, what):
    wait_until(lambda: attacks(daemon, what), what=f"the word of {what} in the log")


def cpu_seconds(daemon):
    fields = open(f"/proc/{daemon.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def still_serves(daemon):
    """A real client gets through, and nothing was queued by whoever came before."""
    assert daemon.queued() == []
    with Raw(daemon.address, daemon.port) as raw:
        raw.ok("EHLO client.example")
        raw.starttls()
        raw.ok("EHLO client.example")


def ended(sock, seconds=10):
    """The daemon closes, whatever it says before."""
    sock.settimeout(seconds * PATIENCE)
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass


class Wire:
    """A TLS client whose records we hold in our hands."""

    def __init__(self, address, port, context=None, starttls=True):
        self.sock = socket.create_connection((address, port), 20 * PATIENCE)
        if starttls:
            self.clear(b"", 220), self.clear(b"EHLO client.example\r\n", 250), self.clear(b"STARTTLS\r\n", 220)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or no_check()).wrap_bio(self.incoming, self.outgoing)
        self.step(self.tls.do_handshake)

    def clear(self, data, code):
        self.sock.sendall(data)
        text = b""
        while not re.search(rb"(^|\n)\d{3} [^\n]*\n$", text):
            text += self.sock.recv(4096)
        assert re.findall(rb"(?:^|\n)(\d{3}) ", text)[-1] == str(code).encode(), text

    def step(self, call, *args):
        while True:
            try:
                done = call(*args)
            except ssl.SSLWantReadError:
                done = None
            else:
                self.flush()
                return done
            self.flush()
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self.incoming.write(data)

    def flush(self):
        data = self.outgoing.read()
        if data:
            self.sock.sendall(data)

    def say(self, data):
        self.step(self.tls.write, data)

    def hear(self, code):
        text = b""
        while not re.search(rb"(^|\n)\d{3} [^\n]*\n$", text):
            text += self.step(self.tls.read, 65536)
        assert re.findall(rb"(?:^|\n)(\d{3}) ", text)[-1] == str(code).encode(), text
        return text

    def close_notify(self):
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass
        self.flush()


# ---- T27: what stands behind STARTTLS in clear ----

@pytest.mark.parametrize("behind", [
    b"MAIL FROM:<injected@origin.example>\r\nRCPT TO:<victim@p.test>\r\n", b"EHLO injected.example\r\n", b"RSET\r\n", b"\r\n",
    b"AUTH PLAIN AGFwcABjb3JyZWN0IGhvcnNl\r\n", b"NOOP", b"\x16\x03\x01", b"x" * 5000],
                         ids=["mail", "ehlo", "rset", "empty", "auth", "noop", "record", "long"])
def test_t27_what_stands_behind_starttls_is_dropped(daemon, behind):
    with Raw(daemon.address, daemon.open_port) as raw:
        raw.ok("EHLO client.example")
        raw.send(b"STARTTLS\r\n" + behind)
        assert raw.reply()[0] == 220
        raw.wrap()
        assert raw.cmd("RCPT TO:<a@p.test>")[0] == 503
        assert raw.cmd(f"MAIL FROM:<{SENDER}>")[0] == 503  # not even its EHLO counts
        raw.ok("EHLO client.example")
        raw.ok(f"MAIL FROM:<{SENDER}>")
        raw.ok("RCPT TO:<real@p.test>")
    said(daemon, "starttls-injection")
    still_serves(daemon)


def test_t27_what_comes_after_the_220_in_clear_ends_the_connection(daemon):
    for junk in (b"MAIL FROM:<injected@origin.example>\r\n", b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n"):
        with Raw(daemon.address, daemon.open_port) as raw:
            raw.ok("EHLO client.example")
            raw.ok("STARTTLS", 220)
            raw.send(junk)
            ended(raw.sock)
    said(daemon, "tls-handshake")
    still_serves(daemon)


# ---- T28: STARTTLS where it has no place ----

def test_t28_starttls_out_of_place(daemon):
    user, password = daemon.account()
    with Raw(daemon.address, daemon.open_port) as raw:
        assert raw.cmd("STARTTLS")[0] == 503  # before EHLO
        raw.ok("EHLO client.example")
        assert raw.cmd("STARTTLS now")[0] == 501
        raw.ok(f"MAIL FROM:<{SENDER}>")
        assert raw.cmd("STARTTLS")[0] == 503
        raw.ok("RCPT TO:<a@p.test>")
        assert raw.cmd("STARTTLS")[0] == 503
        raw.ok("RSET")
        raw.starttls()
        assert raw.cmd("STARTTLS")[0] == 503
        raw.ok("EHLO client.example")
        assert raw.cmd("STARTTLS")[0] == 503
        import base64
        raw.ok("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode(), 235)
        assert raw.cmd("STARTTLS")[0] == 503
        raw.ok(f"MAIL FROM:<{SENDER}>")
    for what in ("starttls-with-argument", "starttls-in-transaction", "starttls-twice"):
        said(daemon, what)
    still_serves(daemon)


# ---- T29: the end of TLS in the middle of a message ----

ENDS = {
    "close_notify": lambda w: w.close_notify(),
    "fin": lambda w: w.sock.shutdown(socket.SHUT_WR),
    "reset": lambda w: w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
    "clear": lambda w: w.sock.sendall(b"more in clear\r\n.\r\nQUIT\r\n"),
    "close_notify, then clear": lambda w: (w.close_notify(), w.sock.sendall(b"rest\r\n.\r\nMAIL FROM:<x@y.example>\r\n")),
    "half a record": lambda w: w.sock.sendall(b"\x17\x03\x03\x40\x00" + b"x" * 100) or w.sock.shutdown(socket.SHUT_WR),
    "a forged record": lambda w: w.sock.sendall(b"\x17\x03\x03\x00\x20" + os.urandom(32)),
    "a record too long": lambda w: w.sock.sendall(b"\x17\x03\x03\xff\xff" + b"x" * 70000),
    "a fatal alert": lambda w: w.sock.sendall(b"\x15\x03\x03\x00\x02\x02\x28"),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("command", ["DATA", "BDAT"])
def test_t29_an_end_of_tls_within_a_message_queues_nothing(many, how, version, command):
    wire = Wire(many.address, many.open_port, no_check(version, version))
    wire.say(b"EHLO client.example\r\n"), wire.hear(250)
    wire.say(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<a@p.test>\r\n".encode()), wire.hear(250)
    text = compose()[1]
    if command == "DATA":
        wire.say(b"DATA\r\n"), wire.hear(354)
        wire.say(text)
    else:
        wire.say(b"BDAT %d LAST\r\n" % (len(text) + 40) + text)
    try:
        ENDS[how](wire)
        if how == "reset":
            wire.sock.close()
        else:
            ended(wire.sock)
    except (BrokenPipeError, ConnectionResetError):
        pass
    wire.sock.close()
    wait_until(lambda: many.api("/api/v1/status")["counters"]["connections_in_open"] == 0, what="the connection's end")
    assert many.api("/api/v1/status")["counters"]["messages_in"] == 0
    still_serves(many)


# ---- T30: floods and old tongues ----

def s_client(daemon, *words, text="", seconds=60, port=None, starttls=True):
    start = ["-starttls", "smtp"] if starttls else []
    return subprocess.run(["openssl", "s_client", *start, "-connect", f"{daemon.address}:{port or daemon.port}", *words],
                          input=text, capture_output=True, text=True, timeout=seconds * PATIENCE)


def test_t30_a_client_cannot_renegotiate(daemon):
    before = cpu_seconds(daemon)
    done = s_client(daemon, "-tls1_2", text="R\n" * 50)
    assert "renegotiation" in (done.stdout + done.stderr).lower()
    said(daemon, "tls-broken")
    assert "renegotiation" in daemon.log() and cpu_seconds(daemon) - before < 2 * PATIENCE
    still_serves(daemon)


def test_t30_ten_thousand_key_updates_end_the_connection(daemon):
    before, sent = cpu_seconds(daemon), 0
    client = subprocess.Popen(["openssl", "s_client", "-starttls", "smtp", "-tls1_3", "-connect", f"{daemon.address}:{daemon.port}"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 60 * PATIENCE
        while sent < 10000 and client.poll() is None and time.monotonic() < end:
            client.stdin.write(b"K\n")  # one at a time: s_client looks only at the first letter of what it reads
            client.stdin.flush()
            sent += 1
            time.sleep(0.001)
    except BrokenPipeError:
        pass
    client.kill()
    assert b"KEYUPDATE" in client.communicate()[0] and 5 < sent < 10000
    said(daemon, "tls-broken")
    assert cpu_seconds(daemon) - before < 2 * PATIENCE
    still_serves(daemon)


def test_t30_no_early_data(daemon, tmp_path):
    ticket, early = tmp_path / "ticket", tmp_path / "early"
    early.write_text("EHLO early.example\r\nMAIL FROM:<early@origin.example>\r\n")
    # The end of its input would end s_client before the ticket comes; the answer to QUIT comes after it.
    words = ["-tls1_3", "-ign_eof", "-crlf"]
    s_client(daemon, *words, "-sess_out", str(ticket), text="EHLO a.example\nQUIT\n", port=daemon.tls_port, starttls=False)
    assert ticket.exists()
    done = s_client(daemon, *words, "-sess_in", str(ticket), "-early_data", str(early), text="QUIT\n", port=daemon.tls_port,
                    starttls=False)
    assert "Reused, TLSv1.3" in done.stdout and "Early data was not sent" in done.stdout
    assert "early.example" not in daemon.log()
    still_serves(daemon)


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_t30_old_versions_are_refused_on_every_port(daemon, version):
    for port, starttls in ((daemon.port, True), (daemon.tls_port, False)):
        done = s_client(daemon, version, "-cipher", "DEFAULT:@SECLEVEL=0", port=port, starttls=starttls)
        assert done.returncode != 0 and re.search(r"Cipher is \(NONE\)|Cipher\s*: 0000", done.stdout)
    said(daemon, "tls-handshake")
    still_serves(daemon)


SSLV2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80\x03\x00\x80\x04\x00\x80\x05\x00\x80\x06\x00\x40\x07\x00\xc0" + b"c" * 16
HEARTBEAT = b"\x18\x03\x02\x00\x03\x01\x40\x00"


def junk():
    r = random.Random(4711)
    yield SSLV2
    yield HEARTBEAT
    yield b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + r.randbytes(200)  # a ClientHello that never comes whole
    yield b"GET / HTTP/1.1\r\nHost: mail.example\r\n\r\n"
    yield b"\x16\x03\x01\x00\x00" * 200  # empty handshake records
    for _ in range(60):
        yield r.randbytes(r.randrange(1, 3000))


@pytest.mark.parametrize("where", ["implicit", "starttls"])
def test_t30_rubbish_is_refused_cheaply_and_said_at_a_bounded_rate(daemon, where):
    before, started, sent = cpu_seconds(daemon), time.monotonic(), 0
    for data in junk():
        sent += 1
        with Raw(daemon.address, daemon.tls_port if where == "implicit" else daemon.open_port, greet=where != "implicit") as raw:
            if where == "starttls":
                raw.ok("EHLO client.example")
                raw.ok("STARTTLS", 220)
            try:
                raw.send(data)
                raw.sock.shutdown(socket.SHUT_WR)
                ended(raw.sock)
            except (BrokenPipeError, ConnectionResetError, OSError):
                pass
    minutes = 1 + int((time.monotonic() - started) / 60)
    assert cpu_seconds(daemon) - before < 3 * PATIENCE
    counters = daemon.api("/api/v1/status")["counters"]
    assert counters["attacks_in"] >= sent / 2 and counters["messages_in"] == 0
    assert 0 < attacks(daemon, "tls-handshake") <= 20 * minutes  # ten a minute and worker
    still_serves(daemon)


def test_a_browser_is_not_served(daemon):
    form = b"POST / HTTP/1.1\r\nHost: mail.example\r\nContent-Length: 99\r\n\r\nEHLO x\r\nMAIL FROM:<a@origin.example>\r\n"
    for tls in (False, True):
        with Raw(daemon.address, daemon.open_port) as raw:
            if tls:
                raw.ok("EHLO client.example")
                raw.starttls()
            raw.send(form)
            assert raw.reply()[0] == 554
            assert raw.reply()[0] == 0
    said(daemon, "http-request")
    with Raw(daemon.address, daemon.open_port) as raw:
        assert raw.cmd("GET")[0] == 500  # a word alone is only unknown
        raw.ok("EHLO client.example")
    still_serves(daemon)


# ---- the view from outside ----

def test_sslscan_finds_nothing_weak(daemon):
    import shutil
    if not shutil.which("sslscan"):
        pytest.skip("sslscan is not installed")
    for words in ([f"{daemon.address}:{daemon.tls_port}"], ["--starttls-smtp", f"{daemon.address}:{daemon.port}"]):
        done = subprocess.run(["sslscan", "--no-colour", *words], capture_output=True, text=True, timeout=120 * PATIENCE)
        out = done.stdout
        versions = dict(re.findall(r"^(SSLv2|SSLv3|TLSv1\.\d)\s+(enabled|disabled)", out, re.M))
        assert versions == {"SSLv2": "disabled", "SSLv3": "disabled", "TLSv1.0": "disabled", "TLSv1.1": "disabled",
                            "TLSv1.2": "enabled", "TLSv1.3": "enabled"}, out
        ciphers = re.findall(r"^(?:Preferred|Accepted)\s+(\S+)\s+(\d+) bits\s+(\S+)", out, re.M)
        assert len(ciphers) >= 5, out
        for version, bits, cipher in ciphers:
            assert int(bits) >= 128 and re.search("GCM|CHACHA20", cipher), (version, bits, cipher)
            assert version == "TLSv1.3" or cipher.startswith("ECDHE-"), cipher
        assert "Session renegotiation not supported" in out or "Secure session renegotiation supported" in out
        assert "vulnerable to heartbleed" not in out.replace("not vulnerable", "")


@pytest.mark.slow
def test_testssl_finds_nothing_weak(daemon, tmp_path):
    import json
    import shutil
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if not program:
        pytest.skip("testssl.sh is not installed")
    for name, words in (("465", [f"{daemon.address}:{daemon.tls_port}"]), ("587", ["-t", "smtp", f"{daemon.address}:{daemon.port}"])):
        report = tmp_path / f"{name}.json"
        done = subprocess.run([program, "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", daemon.address,
                               "-p", "-s", "-f", "-U", "--jsonfile", str(report), *words],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900 * PATIENCE)
        findings = json.loads(report.read_text())
        assert len(findings) > 20, done.stdout[-3000:]
        weak = [f for f in findings if f["severity"] in ("LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL")]
        assert not weak, weak
        assert {f["id"] for f in findings} >= {"BEAST", "CCS", "CRIME_TLS", "DROWN"}
