"""What hostile clients do to a listener of any kind (T20–T39): cheap for us, and nobody else notices.  TLS itself is
in test_submission_attacks.py."""

import itertools
import re
import select
import socket
import struct
import time

import pytest

from harness import PATIENCE, SANITIZED, SENDER, Raw, compose, no_check, wait_until
from test_submission_attacks import Wire

KINDS = ["clear", "starttls", "implicit"]
ANY = no_check()  # made once: it reads all authorities of the system


@pytest.fixture(scope="module")
def daemon(shared_world):
    """All kinds of listeners, each in the mode that refuses bare newlines and in that which makes them right; short of time."""
    world = shared_world
    world.receiver("dots", "dots.test", keep_bodies=True, chunking=False)
    world.receiver("chunks", "chunks.test", keep_bodies=True, chunking=True)
    d = world.daemon(start=False, log={"level": "info"}, submission={
        "command_timeout": "2s", "data_timeout": "2s", "message_size": "20M", "errors_per_connection": 1000,
        "recipients": 1000, "convert_8bit": True})
    d.at = {"reject": (d.open_port, d.tls_port), "normalize": (d.open_port + 1, d.tls_port + 1)}
    d.config["listeners"] = [
        {"address": f"{d.address}:{port}", "tls": tls, "auth": "none", "trusted_networks": ["127.0.0.0/8"],
         "bare_newline": mode, **({"require_tls": False} if tls == "starttls" else {})}
        for mode, ports in d.at.items() for port, tls in zip(ports, ("starttls", "implicit"))]
    d.world = world
    return d.start()


def talk(daemon, kind, mode="reject", hello=True):
    """A client that may send, at the listener of that kind."""
    raw = Raw(daemon.address, daemon.at[mode][kind == "implicit"], greet=kind != "implicit")
    if kind == "implicit":
        raw.wrap(ANY)
        assert raw.reply()[0] == 220
    if kind == "starttls":
        raw.ok("EHLO client.example")
        raw.starttls(ANY)
    if hello:
        raw.ok("EHLO client.example")
    return raw


def rss(daemon):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{daemon.pid}/status").read()).group(1)) * 1024


def sent_within(daemon, seconds=1.0):
    """A real client gets its message through."""
    begun = time.monotonic()
    daemon.send("real@dots.test")
    assert time.monotonic() - begun < seconds * PATIENCE


def play(raw, *script):
    """What is sent in one go, and the codes of the answers to it."""
    for octets, *codes in script:
        raw.send(octets)
        assert [raw.reply()[0] for _ in codes] == codes, octets[:80]


def messages_in(daemon):
    return daemon.api("/api/v1/status")["counters"]["messages_in"]


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
            raw.ok("RCPT TO:<slow@dots.test>")
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
        wire = Wire(daemon.address, port, ANY, starttls=kind == "starttls")
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
    assert SANITIZED or rss(daemon) - before < 8 << 20  # one read of 64 KiB asks for a megabyte; without a limit it is 16
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
    early = b"EHLO a.example\r\nMAIL FROM:<early@origin.example>\r\nRCPT TO:<early@dots.test>\r\nDATA\r\n"
    with Raw(daemon.address, daemon.tls_port if kind == "implicit" else daemon.open_port, greet=False) as raw:
        if kind == "implicit":
            raw.wrap()
        raw.send(early)
        codes = []
        while not codes or codes[-1]:
            codes.append(raw.reply()[0])
    # It may come a moment after the greeting: then it has not waited for the answer to EHLO, which is as bad.
    assert codes in ([554, 0], [220, 554, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_t35_pipelined_commands_are_answered_in_order(daemon, kind):
    before = messages_in(daemon)
    with talk(daemon, kind) as raw:
        play(raw,
             (b"MAIL FROM:<a@origin.example>\r\nRCPT TO:<bad address>\r\nRCPT TO:<a@dots.test>\r\nNOOP\r\nVRFY x\r\nRCPT TO:<>\r\n"
              b"RSET\r\nMAIL FROM:<a@origin.example>\r\nRCPT TO:<x@y@z>\r\nDATA\r\n",
              250, 501, 250, 250, 252, 501, 250, 250, 501, 554),
             (b"RSET\r\n", 250))
        # What stands behind a DATA that was refused is a message, and must not be taken for commands.
        play(raw, (b"MAIL FROM:<a@origin.example>\r\nRCPT TO:<x@y@z>\r\nDATA\r\nMAIL FROM:<evil@origin.example>\r\n.\r\n",
                   250, 501, 554, 0))
    assert messages_in(daemon) == before


# ---- T24: without end ----

@pytest.mark.parametrize("kind", KINDS)
def test_t24_what_has_no_end_is_refused_and_costs_no_memory(daemon, kind):
    before, came = rss(daemon), messages_in(daemon)
    with talk(daemon, kind) as raw:
        play(raw, (b"NOOP " + b"x" * (10 << 20) + b"\r\n", 500), (b"NOOP\r\n", 250))
        for content in (b"X-Long: " + b"y" * (1 << 20) + b"\r\n\r\nbody\r\n", b"X: y\r\n" * 1000000 + b"\r\nbody\r\n"):
            play(raw, (f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<a@dots.test>\r\nDATA\r\n", 250, 250, 354), (content + b".\r\n", 552))
        assert messages_in(daemon) == came
        part = "--b\r\nContent-Type: text/plain\r\n\r\nä\r\n".encode()
        _, text = compose(["a@dots.test"], body=part * (900000 // len(part)) + b"--b--\r\n",  # as much as is converted
                          headers=["MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=b"])
        begun = time.monotonic()
        play(raw, (f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<a@dots.test>\r\nDATA\r\n", 250, 250, 354), (text + b".\r\n", 250))
        assert time.monotonic() - begun < 2 * PATIENCE
    assert SANITIZED or rss(daemon) - before < 12 << 20
    sent_within(daemon)


# ---- T25, T26: one message, or none ----

BARE = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r.\n", b"\n\n.\r\n", b"\r\r\n.\r\r\n",
        b"\r\n.\r\r\n", b"\r\n.\n\r\n", b"\n\r\n.\n", b"\n\r.\r\n"]
NUL = [b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\0\n", b"\r\n.\0", b"\0\n.\n"]
PLAIN = [b"\r\n..\r\n", b"\r\n. \r\n", b"\r\n .\r\n", b"\r\n.\t\r\n", b"\xc2\x85.\xc2\x85", b"\xe2\x80\xa8.\xe2\x80\xa8"]
EVIL = b"MAIL FROM:<evil@origin.example>\r\nRCPT TO:<evil@dots.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nowned\r\n"


def made_right(body):
    return re.sub(rb"\r\n|\r|\n", b"\r\n", body)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["reject", "normalize"])
def test_t25_t26_no_form_of_smuggling_makes_two_messages(daemon, kind, mode):
    """In at every kind of listener by DATA and BDAT, out again to a receiver of each.  Cut at every octet they are in
    no_smuggled_line_end_makes_two_messages (test_server_content.c)."""
    world, want, raw = daemon.world, {}, talk(daemon, kind, mode)
    for end, command in itertools.product(BARE + NUL + PLAIN, ["DATA", "BDAT"]):
        body = b"first" + end + EVIL
        taken = end not in NUL and (mode == "normalize" or end in PLAIN)
        message_id, text = compose(["good@dots.test"], body=body)
        play(raw, (f"MAIL FROM:<{SENDER}> BODY=8BITMIME\r\nRCPT TO:<good@dots.test>\r\nRCPT TO:<good@chunks.test>\r\n", 250, 250, 250))
        if command == "DATA":
            play(raw, (b"DATA\r\n", 354), (text + b".\r\n", 250 if taken else 550))
            body = re.sub(rb"\r\n\.", b"\r\n", body)  # where a line began with a dot, it was stuffing
        else:
            play(raw, (b"BDAT %d LAST\r\n" % len(text) + text, 250 if taken else 550))
        play(raw, (b"NOOP\r\n", 250))  # and nothing else was answered
        if taken:
            want[message_id] = made_right(body) if max(body) < 0x80 else None  # 8-bit: arrives encoded
    play(raw, (b"QUIT\r\n", 221, 0))
    bodies = world.seen.bodies
    for receiver, (message_id, body) in itertools.product(("dots", "chunks"), want.items()):
        got = wait_until(lambda: bodies.get((receiver, message_id)), what=f"{message_id} at {receiver}")
        assert b"\0" not in got and not re.search(rb"\r(?!\n)|(?<!\r)\n", got)
        if body is not None:
            assert got.partition(b"\r\n\r\n")[2] == body
    assert not world.seen.to("evil@dots.test")
    assert len(world.seen.to("good@chunks.test")) == len({k for k in bodies if k[0] == "chunks"}), "none came twice"


# ---- T33: chunks ----

@pytest.mark.parametrize("kind", KINDS)
def test_t33_chunks_are_taken_exactly_whatever_is_said_of_them(daemon, kind):
    """Cut at every octet they are among the scenes of test_server.c; a million of them in test_server_limits.c."""
    came, mail = messages_in(daemon), f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<chunky@dots.test>\r\n".encode()
    with talk(daemon, kind) as raw:
        play(raw,
             (mail + b"BDAT 0 LAST\r\n", 250, 250, 250),
             (mail + b"BDAT 007 LAST\r\n12345\r\n", 250, 250, 250),
             (b"BDAT 21 LAST\r\nMAIL FROM:<x@y.z>\r\n\r\nNOOP\r\n", 503, 250),
             (b"MAIL FROM:<a@b@c>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", 501, 503, 250),
             (mail + b"BDAT 3\r\na\r\nDATA\r\n", 250, 250, 250, 503), (b"RCPT TO:<c@dots.test>\r\nBDAT 0 LAST\r\n", 503, 250),
             (mail + b"BDAT 3\r\na\r\nRSET\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n", 250, 250, 250, 250, 503, 250))
    for size, code in ((b"2147483648", 552), (b"18446744073709551616", 501), (b"-1", 501), (b"+1", 501), (b"0x10", 501), (b"", 501)):
        with talk(daemon, kind) as raw:  # nobody can say how much will follow: the connection ends
            play(raw, (mail + b"BDAT " + size + b" LAST\r\nNOOP\r\n", 250, 250, code, 0))
    assert messages_in(daemon) == came + 3


# ---- T36: lies about sizes, and crowds ----

@pytest.mark.parametrize("kind", KINDS)
def test_t36_sizes_are_measured_and_a_crowd_is_taken_in_parts(daemon, kind):
    came = messages_in(daemon)
    with talk(daemon, kind) as raw:
        assert "SIZE 20971520" in raw.ok("EHLO client.example")
        for size, code in ((20971521, 552), (10 ** 20 - 1, 552), (10 ** 20, 501), ("-1", 501), ("1k", 501)):
            assert raw.cmd(f"MAIL FROM:<{SENDER}> SIZE={size}")[0] == code
        play(raw, (f"MAIL FROM:<{SENDER}> SIZE=20971520\r\nRSET\r\n", 250, 250))
        play(raw, (f"MAIL FROM:<{SENDER}> SIZE=1\r\nRCPT TO:<a@dots.test>\r\nDATA\r\n", 250, 250, 354),
             (b"a larger one than that is taken\r\n.\r\n", 250))
        play(raw, (f"MAIL FROM:<{SENDER}> SIZE=1\r\nRCPT TO:<a@dots.test>\r\nDATA\r\n", 250, 250, 354),
             (b"\r\n" + (b"x" * 998 + b"\r\n") * 20972 + b".\r\n", 552))
        play(raw, (f"MAIL FROM:<{SENDER}>\r\n", 250))
        crowd = 3000
        raw.send("".join(f"RCPT TO:<r{i}@dots.test>\r\n" for i in range(crowd)))
        assert [raw.reply()[0] for _ in range(crowd)] == [250] * 1000 + [452] * (crowd - 1000)
        play(raw, (b"RSET\r\n", 250))
    assert messages_in(daemon) == came + 1


# ---- T37: round and round ----

@pytest.mark.parametrize("kind", KINDS)
def test_t37_a_message_that_goes_round_is_refused(daemon, kind):
    came = messages_in(daemon)
    with talk(daemon, kind) as raw:
        for hops, code in ((120, 554), (100, 554), (99, 250)):
            received = [f"Received: from h{i}.example by h{i + 1}.example; Sat, 21 Nov 2026 09:00:00 +0000" for i in range(hops)]
            _, text = compose(["a@dots.test"], headers=received)
            play(raw, (f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<a@dots.test>\r\nDATA\r\n", 250, 250, 354))
            raw.send(text + b".\r\n")
            got, words = raw.reply()
            assert got == code and (code == 250 or "5.4.6" in words)
    assert messages_in(daemon) == came + 1


# ---- T38: octets and addresses ----

@pytest.mark.parametrize("kind", KINDS)
def test_t38_octets_and_addresses_have_their_rules(daemon, kind):
    long_local = "l" * 65
    with talk(daemon, kind) as raw:
        for line, code, word in (
                (f"MAIL FROM:<{long_local}@origin.example>", 250, "2.1.0"),  # VERP
                (f"RCPT TO:<{long_local}@dots.test>", 501, "5.1.3"), (f"RCPT TO:<{'l' * 64}@dots.test>", 250, "2.1.5"),
                (f"RCPT TO:<a@{'d' * 64}.test>", 501, "5.1.3"), ('RCPT TO:<"a b"@dots.test>', 250, "2.1.5"),
                ('RCPT TO:<"a>@<b"@dots.test>', 250, "2.1.5"), ("RCPT TO:<jürgen@dots.test>", 553, "5.6.7"),
                (b"RCPT TO:<\xff@dots.test>", 501, "5.1.3"), ("RCPT TO:<a@dots.test\0>", 500, "5.5.2"),
                ("RCPT TO:<a\r@dots.test>", 500, "5.5.2"), ("RCPT TO:<postmaster>", 550, "5.1.3"), ("RCPT TO:<a@localhost>", 554, "5.1.3"),
                ("RCPT TO:<a@192.0.2.1>", 554, "5.1.3"), ("RCPT TO:<a@[192.0.2.1]>", 250, "2.1.5"), ("RSET", 250, "2.0.0"),
                ("MAIL FROM:<ä@origin.example>", 553, "5.6.7"), ("MAIL FROM:<ä@origin.example> SMTPUTF8", 250, "2.1.0"),
                ("RCPT TO:<jürgen@dots.test>", 250, "2.1.5"), ("RSET", 250, "2.0.0")):
            got, words = raw.cmd(line)
            assert got == code and words.startswith(word), (line, got, words)
        for content, code, word in ((b"a\0b\r\n", 550, "5.6.0"), (b"a\rb\r\n", 550, "5.5.2"), ("grün\r\n".encode(), 250, "2.0.0")):
            play(raw, (f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<a@dots.test>\r\nDATA\r\n", 250, 250, 354))
            raw.send(b"Subject: octets\r\n\r\n" + content + b".\r\n")
            got, words = raw.reply()
            assert got == code and words.startswith(word), content
    with talk(daemon, kind) as raw:  # a bare LF in a command: nobody can say where the next one begins
        play(raw, (b"NOOP\nMAIL FROM:<a@b.example>\r\n", 500, 0))


# ---- T39: gone after the dot ----

@pytest.mark.parametrize("kind", KINDS)
def test_t39_a_client_that_vanishes_behind_the_dot_has_sent_once_or_not_at_all(daemon, kind):
    world, came, sent = daemon.world, messages_in(daemon), []
    for n, end in itertools.product(range(8), ("close", "reset", "half", "read")):
        recipient = f"{end}-{n}-{kind}@dots.test"
        message_id, text = compose([recipient])
        raw = talk(daemon, kind)
        play(raw, (f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n", 250, 250, 354))
        raw.send(text + b".\r\n")
        if end == "reset":
            raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if end == "half":
            raw.sock.shutdown(socket.SHUT_WR)
        if end == "read":
            assert raw.reply()[0] == 250
        raw.close()
        sent.append((recipient, message_id, end))
    wait_until(lambda: daemon.api("/api/v1/status")["counters"]["connections_in_open"] == 0, what="their end")
    wait_until(lambda: not daemon.queued(), what="an empty queue")
    copies = [len(world.seen.to(recipient)) for recipient, _, _ in sent]
    assert max(copies) == 1 and sum(copies) == messages_in(daemon) - came
    assert all(n == 1 for (_, _, end), n in zip(sent, copies) if end == "read")
    # Whoever did not hear of it sends it again: that is a message of its own.
    for recipient, message_id, _ in sent[:4]:
        daemon.send(recipient, message_id=message_id)
    for (recipient, _, _), n in zip(sent[:4], copies):
        wait_until(lambda: len(world.seen.to(recipient)) == n + 1, what=f"the second copy for {recipient}")
