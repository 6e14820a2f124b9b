"""What hostile clients do to a listener of any kind (T20–T39): cheap for us, and nobody else notices.  TLS itself is
in test_submission_attacks.py."""

import re
import select
import socket
import time

import pytest

from harness import PATIENCE, SANITIZED, Raw, no_check, wait_until
from test_submission_attacks import Wire

KINDS = ["clear", "starttls", "implicit"]


@pytest.fixture(scope="module")
def daemon(shared_world):
    """All kinds of listeners, short of time; domains whose receivers keep every body."""
    world = shared_world
    world.receiver("inbox", "inbox.test", keep_bodies=True)
    world.receiver("chunks", "chunks.test", keep_bodies=True, chunking=True)
    d = world.daemon(start=False, submission={"command_timeout": "2s", "data_timeout": "2s"},
                     log={"level": "info"})
    d.config["listeners"].append({"address": f"{d.address}:{d.tls_port}", "tls": "implicit", "auth": "none",
                                  "trusted_networks": ["127.0.0.0/8"]})
    d.world = world
    return d.start()


def talk(daemon, kind, hello=True):
    """A client that may send, at the listener of that kind."""
    raw = Raw(daemon.address, daemon.tls_port if kind == "implicit" else daemon.open_port, greet=kind != "implicit")
    if kind == "implicit":
        raw.wrap()
        assert raw.reply()[0] == 220
    if kind == "starttls":
        raw.ok("EHLO client.example")
        raw.starttls()
    if hello:
        raw.ok("EHLO client.example")
    return raw


def rss(daemon):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{daemon.pid}/status").read()).group(1)) * 1024


def sent_within(daemon, seconds=1.0):
    """A real client gets its message through."""
    begun = time.monotonic()
    daemon.send("real@inbox.test")
    assert time.monotonic() - begun < seconds * PATIENCE


# ---- T20: one octet now and then ----

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 500  # how a ClientHello begins


def test_t20_who_sends_an_octet_now_and_then_is_cut_off(daemon):
    def in_clear():
        return socket.create_connection((daemon.address, daemon.open_port))

    def before_tls():
        raw = Raw(daemon.address, daemon.open_port)
        raw.ok("EHLO client.example")
        raw.ok("STARTTLS", 220)
        return raw.sock

    slow = {
        "command": (in_clear(), b"EHLO " + b"x" * 500),
        "command in TLS": (talk(daemon, "implicit").sock, b"NOOP " + b"x" * 500),
        "handshake": (socket.create_connection((daemon.address, daemon.tls_port)), HELLO),
        "handshake behind STARTTLS": (before_tls(), HELLO),
        "nothing": (in_clear(), b""),
        "nothing for a handshake": (socket.create_connection((daemon.address, daemon.tls_port)), b""),
    }
    begun, at, ends, said = time.monotonic(), 0, {}, {what: b"" for what in slow}
    while len(ends) < len(slow):
        assert time.monotonic() - begun < 8 * PATIENCE, f"still connected: {set(slow) - set(ends)}"
        for what, (sock, octets) in slow.items():
            if what in ends:
                continue
            sock.settimeout(0.01)
            try:
                sock.sendall(octets[at:at + 1])
                data = sock.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                data = b""
            said[what] += data
            if not data:
                ends[what] = time.monotonic() - begun
        at += 1
        time.sleep(0.1)
    assert min(ends.values()) > 1.5, ends
    for what in slow:
        assert (b"421 4.4.2" in said[what]) == (what in ("command", "command in TLS", "nothing")), (what, said[what])
    sent_within(daemon)
    wait_until(lambda: daemon.api("/api/v1/status")["counters"]["connections_in_open"] == 0, what="the end of all of them")


def test_t20_a_message_that_stops_is_cut_off(daemon):
    """That a trickle is not enough either, a_trickle_of_data_is_not_enough says (test_server_life.c)."""
    slow = []
    for kind in KINDS:
        for command in ("DATA", "BDAT 1000"):
            raw = talk(daemon, kind)
            raw.ok("MAIL FROM:<slow@origin.example>")
            raw.ok("RCPT TO:<slow@inbox.test>")
            raw.send(command + "\r\n")
            if command == "DATA":
                assert raw.reply()[0] == 354
            raw.send(b"Subject: slow\r\n\r\n")
            slow.append((raw, time.monotonic()))
    for raw, begun in slow:
        code, text = raw.reply()
        assert code == 421 and text.startswith("4.4.2") and raw.reply()[0] == 0
        assert time.monotonic() - begun > 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_t20_who_asks_and_never_reads_costs_no_memory(daemon, kind):
    """And when he reads at last, nothing is missing."""
    count, line = 200000, b"HELP\r\n"  # the answers are 21 MB, of which the kernel holds a few
    if kind == "clear":
        raw = talk(daemon, kind)
        sock, octets = raw.sock, line * count + b"QUIT\r\n"
        decrypted = lambda data: data
    else:
        port = daemon.tls_port if kind == "implicit" else daemon.open_port
        wire = Wire(daemon.address, port, no_check(), starttls=kind == "starttls")
        if kind == "implicit":
            wire.hear(220)
        wire.say(b"EHLO client.example\r\n")
        wire.hear(250)
        for _ in range(count // 1000):
            wire.tls.write(line * 1000)
        wire.tls.write(b"QUIT\r\n")
        sock, octets = wire.sock, wire.outgoing.read()

        def decrypted(data):
            wire.incoming.write(data)
            text = b""
            while True:
                try:
                    text += wire.tls.read(1 << 20)
                except OSError:
                    return text

    before, left = rss(daemon), memoryview(octets)
    sock.setblocking(False)
    while left and select.select([], [sock], [], 0.5)[1]:
        left = left[sock.send(left[:65536]):]
    time.sleep(0.3)
    assert SANITIZED or rss(daemon) - before < 3 << 20
    replies, data, end = [], b"first", time.monotonic() + 20 * PATIENCE
    while data and time.monotonic() < end:
        readable, writable, _ = select.select([sock], [sock] if left else [], [], 1)
        if writable:
            left = left[sock.send(left[:65536]):]
        if readable:
            data = sock.recv(1 << 20)
            replies.append(decrypted(data))
    lines = b"".join(replies).split(b"\r\n")
    assert [x[:4] for x in lines] == [b"214 "] * count + [b"221 ", b""]
    sock.close()
    sent_within(daemon)


# ---- T35: who does not wait ----

@pytest.mark.parametrize("kind", ["clear", "implicit"])
def test_t35_who_speaks_before_the_greeting_is_not_served(daemon, kind):
    early = b"EHLO a.example\r\nMAIL FROM:<early@origin.example>\r\nRCPT TO:<early@inbox.test>\r\nDATA\r\n"
    with Raw(daemon.address, daemon.tls_port if kind == "implicit" else daemon.open_port, greet=False) as raw:
        if kind == "implicit":
            raw.wrap()
        raw.send(early)
        codes = []
        while not codes or codes[-1]:
            codes.append(raw.reply()[0])
    # It may come a moment after the greeting: then it has not waited for the answer to EHLO, which is as bad.
    assert codes in ([554, 0], [220, 554, 0])
