"""Many hostile clients at once (T21, T23, T31): what is limited, and that who has mail to hand in gets through."""

import base64
import os
import pathlib
import re
import resource
import socket
import struct
import threading
import time

import pytest

from harness import PATIENCE, SANITIZED, SENDER, Raw, compose, group, no_check, wait_until
from test_submission_attacks import cpu_seconds

ANY = no_check()


def from_address(daemon, port, source, greet=True):
    raw = Raw.__new__(Raw)
    raw.sock = socket.create_connection((daemon.address, port), 20 * PATIENCE, source_address=(source, 0))
    raw.file = raw.sock.makefile("rb")
    assert not greet or raw.reply()[0] == 220
    return raw


def rss(daemon):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{daemon.pid}/status").read()).group(1)) * 1024


def counters(daemon):
    return daemon.api("/api/v1/status")["counters"]


def plain(user, password):
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


# ---- T21: connections that do nothing ----

@pytest.mark.serial
def test_t21_ten_thousand_idle_connections_keep_nobody_out(world):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = 2000 if SANITIZED else min(10000, hard - 1000)
    world.receiver("inbox", "inbox.test")
    daemon = world.daemon(submission={"connections": most}, log={"level": "info"})
    user, password = daemon.account()
    before, held = rss(daemon), []
    try:
        for i in range(most):
            s = socket.socket()
            s.bind((f"127.77.{i // 400 // 250}.{i // 400 % 250 + 1}", 0))  # 400 an address: 500 are allowed
            s.connect(daemon.submission)
            held.append(s)
        wait_until(lambda: counters(daemon)["connections_in_open"] == most, 20, "all of them")
        assert SANITIZED or (rss(daemon) - before) / most < 8192, f"{(rss(daemon) - before) / most} octets a connection"
        time.sleep(1)  # nobody is turned out sooner
        begun = time.monotonic()
        with from_address(daemon, daemon.port, "127.0.0.5") as raw:
            raw.ok("EHLO client.example")
            raw.starttls(ANY)
            raw.ok("EHLO client.example")
            raw.ok(plain(user, password), 235)
            raw.ok(f"MAIL FROM:<{SENDER}>")
            raw.ok("RCPT TO:<a@inbox.test>")
            raw.ok("DATA", 354)
            raw.send(compose()[1])
            raw.ok(".")
            assert time.monotonic() - begun < PATIENCE
            # Those that have proved who they are keep their place when strangers come.
            strangers = [from_address(daemon, daemon.port, "127.0.0.6") for _ in range(50)]
            raw.ok("NOOP")
        world.got(1)
        turned_out = [s for s in held if s.recv(4096, socket.MSG_DONTWAIT).count(b"421 4.7.0 Others wait")]
        assert len(turned_out) == 51 and counters(daemon)["connections_refused"] == 51
        assert 1 <= daemon.log().count(" client.turned_out ") <= 20
        for raw in strangers:
            raw.close()
        wait_until(lambda: counters(daemon)["connections_in_open"] < most - 50, what="free places")
        # One address may have its five hundred, for which others go, and no more.
        many = [from_address(daemon, daemon.port, "127.0.0.7", greet=False) for _ in range(501)]
        codes = [raw.reply()[0] for raw in many]
        assert codes.count(220) == 500 and codes.count(421) == 1
        for raw in many:
            raw.close()
    finally:
        for s in held:
            s.close()
    wait_until(lambda: counters(daemon)["connections_in_open"] == 0, 20, "the end of all of them")
    daemon.send("b@inbox.test")
    world.got(2)


# ---- T23: connections that are gone at once ----

@pytest.mark.serial
def test_t23_five_thousand_connects_and_resets_leave_nothing(world):
    world.receiver("inbox", "inbox.test")
    daemon = world.daemon(log={"level": "info"})
    files = lambda: len(os.listdir(f"/proc/{daemon.pid}/fd"))
    daemon.send("a@inbox.test")
    world.got(1)
    before, memory, cpu, log = files(), rss(daemon), cpu_seconds(daemon), len(daemon.log())
    for i in range(5000):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.bind((f"127.0.0.{i % 50 + 2}", 0))
        s.connect(daemon.submission if i % 2 else daemon.open)
        s.close()
        if i % 1000 == 500:
            begun = time.monotonic()
            daemon.send(f"r{i}@inbox.test")
            assert time.monotonic() - begun < PATIENCE
    wait_until(lambda: counters(daemon)["connections_in_open"] == 0, what="their end")
    world.got(6)
    wait_until(lambda: files() <= before + 2, what="their descriptors")
    assert counters(daemon)["messages_in"] == 6 and daemon.queued() == []
    assert cpu_seconds(daemon) - cpu < 4 * PATIENCE
    assert SANITIZED or rss(daemon) - memory < 8 << 20
    assert len(daemon.log()) - log < 2 << 20, "a line or two a connection at the most"


def test_t23_refusals_are_logged_at_a_bounded_rate(world):
    daemon = world.daemon(submission={"connection_rate_per_address": 10}, log={"level": "info"})
    codes = []
    for _ in range(500):
        with from_address(daemon, daemon.port, "127.0.0.9", greet=False) as raw:
            codes.append(raw.reply()[0])
    assert codes == [220] * 10 + [421] * 490
    assert 1 <= daemon.log().count(" client.limited ") <= 20  # ten a minute and worker


# ---- T31: passwords by the hundred ----

def attempts(daemon, source, words):
    """The codes that these AUTH lines get, on one connection."""
    with from_address(daemon, daemon.port, source) as raw:
        raw.ok("EHLO client.example")
        return [raw.cmd(line)[0] for line in words]


@pytest.fixture
def guessed(world):
    """A daemon whose accounts can be guessed at without the cost of TLS."""
    world.receiver("inbox", "inbox.test")
    daemon = world.daemon(start=False, log={"level": "info"})
    daemon.config["listeners"][0].update(auth_without_tls=True, require_tls=False)
    daemon.start()
    daemon.account("shop", "right horse")
    daemon.account("bank", "right battery")
    return daemon


def test_t31_who_guesses_passwords_is_stopped_and_nobody_else_is_locked_out(guessed):
    right, wrong, bank = plain("shop", "right horse"), plain("shop", "guess"), plain("bank", "right battery")
    # One address has twenty tries a minute, at whatever names and mechanisms.
    names = [plain(f"nobody{i}", "guess") for i in range(9)] + [wrong] * 9
    assert attempts(guessed, "127.0.0.2", names) == [535] * 18
    assert attempts(guessed, "127.0.0.2", [wrong, wrong, wrong, right, bank, "AUTH LOGIN", "AUTH SCRAM-SHA-256"]) == [
        535, 535, 454, 454, 454, 454, 454]
    # So have all addresses together, at one name ...
    assert attempts(guessed, "127.0.0.3", [wrong] * 9) == [535] * 9
    for i in range(4, 24):
        codes = attempts(guessed, f"127.0.0.{i}", [wrong] * 5)
        assert codes == [535, 454, 454, 454, 454], (i, codes)
    assert counters(guessed)["auth_failures"] == 20 + 9 + 20
    # ... which locks nobody out who has not failed himself, nor him who guessed from other accounts.
    assert attempts(guessed, "127.0.0.99", [right]) == [235]
    assert attempts(guessed, "127.0.0.3", [right, bank]) == [454, 235]
    # A name that there is not is treated like one that there is.
    assert attempts(guessed, "127.0.0.100", [plain("ghost", "guess")] * 20 + ["NOOP"])[:20] == [535] * 20
    assert attempts(guessed, "127.0.0.101", [plain("ghost", "guess")] * 3) == [535, 454, 454]
    assert 1 <= guessed.log().count(" auth.limited ") <= 20


@pytest.mark.serial
def test_t31_a_flood_of_guesses_takes_no_time_from_the_mail(guessed, world):
    """Names and addresses without number, so that no limit helps: the threads that count rounds give way."""
    stop, tried = threading.Event(), []

    def guess(n):
        for i in range(100000):
            if stop.is_set():
                return
            source = f"127.{60 + n}.{i // 200 % 250}.{i % 200 + 1}"
            tried.extend(attempts(guessed, source, [plain(f"name{n}-{i}-{j}", "guess") for j in range(4)]))

    threads = [threading.Thread(target=guess, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    try:
        wait_until(lambda: len(tried) >= 100, what="the flood")
        begun = time.monotonic()
        for i in range(50):
            guessed.send(f"r{i}@inbox.test")
        world.got(50, 10)
        first = time.monotonic()
        assert attempts(guessed, "127.0.0.50", [plain("shop", "right horse")]) == [235]
        assert time.monotonic() - first < PATIENCE
        seconds = time.monotonic() - begun
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert set(tried) == {535} and len(tried) > 20 * seconds / PATIENCE, "it went on all the time"
    # Field 19 of stat is the niceness: those that hashed, and no other.
    nice = [int(p.read_text().rpartition(")")[2].split()[16]) for p in pathlib.Path(f"/proc/{guessed.pid}/task").glob("*/stat")]
    assert 1 <= nice.count(10) <= 4 and nice.count(0) == len(nice) - nice.count(10)
    assert guessed.log().count(" auth.failed ") <= 600 * (1 + seconds / 60)  # three hundred a minute and worker


# ---- T32: AUTH where and how it must not be ----

@pytest.mark.parametrize("tls", [True, False])
def test_t32_auth_out_of_place_and_out_of_form_has_its_codes(world, tls):
    daemon = world.daemon(start=False)
    if not tls:
        daemon.config["listeners"][0].update(require_tls=False)
    daemon.start()
    user, password = daemon.account()
    right = plain(user, password)
    with from_address(daemon, daemon.port, "127.0.0.2") as raw:
        assert raw.cmd(right)[0] == 503  # before EHLO
        raw.ok("EHLO client.example")
        assert raw.cmd(right) == (538, "5.7.11 AUTH is offered only inside TLS; send STARTTLS first")
        if not tls:
            return
        raw.starttls(ANY)
        raw.ok("HELO client.example")
        assert raw.cmd(right)[0] == 503  # HELO knows no AUTH
        raw.ok("EHLO client.example")
        for line, code, enhanced in (
                ("AUTH", 501, "5.5.4"), ("AUTH GSSAPI", 504, "5.5.4"), ("AUTH EXTERNAL =", 504, "5.5.4"),
                ("AUTH PLAIN ====", 501, "5.5.2"), ("AUTH PLAIN YQ", 501, "5.5.2"), ("AUTH PLAIN =", 501, "5.5.2"),
                ("AUTH PLAIN " + "A" * (12288 - 16), 501, "5.5.2"),  # as long as may be: base64 of zeros
                ("AUTH PLAIN " + "A" * 12288, 500, "5.5.2")):
            code_, text = raw.cmd(line)
            assert code_ == code and text.startswith(enhanced), (line[:40], code_, text)
        raw.ok("AUTH PLAIN", 334)
        assert raw.cmd("*")[0] == 501
        raw.ok("AUTH PLAIN", 334)
        assert raw.cmd("A" * 12286)[0] == 501
        raw.ok("AUTH LOGIN", 334)
        assert raw.cmd("B" * 12288)[0] == 500
        raw.ok("AUTH LOGIN", 334)
        raw.ok(base64.b64encode(user.encode()).decode(), 334)
        assert raw.cmd(base64.b64encode(b"wrong").decode())[0] == 535
        assert raw.cmd(f"MAIL FROM:<{SENDER}>")[0] == 530  # nothing of all that has let anybody in
        raw.ok(right, 235)  # another mechanism, and nothing of the last one is left
        assert raw.cmd(right)[0] == 503
        raw.ok(f"MAIL FROM:<{SENDER}> AUTH=<>")
        assert raw.cmd(right)[0] == 503
        raw.ok("RCPT TO:<a@inbox.test>")
        assert raw.cmd(right)[0] == 503
