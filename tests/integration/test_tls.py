"""
Every level against every kind of receiver: the decision table, seen from outside (T47, T48, and of T49 and T50 what one
delivery shows).  One daemon delivers to all cells at once; each cell is a test of its own.
"""

import itertools
import subprocess
import threading
import time

import pytest

from harness import HOURLY, PATIENCE, World, group, wait_until

LEVELS = {
    "off": dict(starttls="off"),
    "on-never": dict(starttls="on", clear_after_tls_failure="never"),
    "on-later": dict(starttls="on", clear_after_tls_failure="later"),
    "on-now": dict(starttls="on", clear_after_tls_failure="now"),
    "require": dict(starttls="require"),
    "verify": dict(starttls="verify"),
}
RECEIVERS = {
    "good": dict(),
    "tls12": dict(tls_max="TLSv1.2"),
    "self_signed": dict(cert="self_signed"),
    "expired": dict(cert="expired"),
    "not_yet_valid": dict(cert="not_yet_valid"),
    "unknown_ca": dict(cert="unknown_ca"),
    "wrong_name": dict(cert="wrong_name"),
    "no_starttls": dict(tls="none"),
    "helo_only": dict(ehlo=False),
    "refused_454": dict(starttls_reply="454 4.7.0 TLS not available"),
    "refused_502": dict(starttls_reply="502 5.5.1 not implemented"),
    "refused_554": dict(starttls_reply="554 5.7.0 no"),
    "refused_421": dict(starttls_reply="421 4.3.2 going away"),
    "accepted_250": dict(starttls_reply="250 2.0.0 sure"),
    "garbage": dict(starttls_break="garbage"),
    "closes": dict(starttls_break="close"),
    "silent": dict(starttls_break="silence"),
    "alert": dict(starttls_break="alert"),
    "extra": dict(starttls_break="extra"),
    "hangs_up": dict(starttls_break="after"),
    "tls10": dict(tls_min="TLSv1", tls_max="TLSv1"),
    "tls11": dict(tls_min="TLSv1.1", tls_max="TLSv1.1"),
    "tls13_only": dict(tls_min="TLSv1.3"),
    "hello_twice": dict(tls_curve="secp521r1"),
    "asks_client": dict(client_ca=True),
    "by_sni": dict(cert="wrong_name", sni="good"),
    "not_by_sni": dict(cert="good", sni="unknown_ca"),
    "rsa": dict(cert="rsa"),
    "chain": dict(cert="chain_without_root"),
    "chain_shuffled": dict(cert="chain_shuffled"),
    "wildcard": dict(cert="wildcard"),
    "wildcard_two": dict(cert="wildcard_two"),
    "wildcard_part": dict(cert="wildcard_part"),
    "cn_only": dict(cert="cn_only"),
    "sha1": dict(cert="sha1"),
    "rsa1024": dict(cert="weak"),
    "ca_false": dict(cert="ca_false"),
    "path_too_long": dict(cert="path_too_long"),
    "not_for_servers": dict(cert="not_for_servers"),
    "unrelated": dict(cert="chain_unrelated"),
    "hundred": dict(cert="hundred"),
    "huge": dict(cert="huge"),
    "static_rsa": dict(cert="rsa", tls_max="TLSv1.2", tls_ciphers="AES128-GCM-SHA256:AES256-SHA"),
    "anonymous": dict(tls_max="TLSv1.2", tls_ciphers="aNULL"),
}
GOOD = {"good", "tls12", "tls13_only", "hello_twice", "asks_client", "by_sni", "rsa", "chain", "chain_shuffled", "wildcard"}
# What is recorded of a certificate, at every level.
BAD_CERT = {
    "self_signed": "self-signed", "expired": "expired", "not_yet_valid": "not-yet-valid", "unknown_ca": "unknown-ca",
    "wrong_name": "wrong-name", "not_by_sni": "unknown-ca", "wildcard_two": "wrong-name", "wildcard_part": "wrong-name",
    "cn_only": "wrong-name", "sha1": "weak", "rsa1024": "weak", "ca_false": "bad", "path_too_long": "bad", "not_for_servers": "bad",
    "unrelated": "unknown-ca", "hundred": "bad"}
# What RFC 8460 §4.3 calls it.
FAILURE = {
    "wrong-name": "certificate-host-mismatch", "expired": "certificate-expired", "not-yet-valid": "certificate-expired",
    "self-signed": "certificate-not-trusted", "unknown-ca": "certificate-not-trusted", "weak": "certificate-not-trusted",
    "bad": "validation-failure"}
OPPORTUNISTIC = {"static_rsa"}  # TLS that is better than clear text, and no more: at `on` alone
NOT_OFFERED = {"no_starttls", "helo_only"}
REFUSED = {"refused_454", "refused_502", "refused_554"}
# 421 and 250 are no clean refusal; the rest is a handshake that fails.


def expected(level, receiver):
    """tls, clear, or the enhanced code with which the recipient waits."""
    if level == "off":
        return "clear"
    if receiver == "refused_421":
        return "4.7."  # closing: the next host, then later; it says nothing about TLS
    if receiver in GOOD:
        return "tls"
    if receiver in BAD_CERT:
        return "4.7.5" if level == "verify" else "tls"
    if receiver in OPPORTUNISTIC and level.startswith("on"):
        return "tls"
    if receiver in NOT_OFFERED | REFUSED:
        return "clear" if level.startswith("on") else "4.7.4"
    return "clear" if level == "on-now" else "4.7.5"


CELLS = list(itertools.product(LEVELS, RECEIVERS))


def recorded(level, receiver):
    """(verify, failure) of the first attempt."""
    want = expected(level, receiver)
    if level == "off" or receiver == "refused_421":
        return "none", None
    if receiver == "hangs_up":
        return "none" if want == "clear" else "verified-pkix", "validation-failure"
    if receiver in GOOD | OPPORTUNISTIC and want == "tls":
        return "verified-pkix", None
    if receiver in BAD_CERT:
        return BAD_CERT[receiver], FAILURE[BAD_CERT[receiver]]
    return "none", "starttls-not-supported" if receiver in NOT_OFFERED | REFUSED else "validation-failure"


def domain(level, receiver):
    return f"{receiver.replace('_', '-')}.{level}.test"


def name(level, receiver):
    return f"{receiver}@{level}"


@pytest.fixture(scope="module")
def matrix(tmp_path_factory, certs):
    world = World(tmp_path_factory.mktemp("matrix"), certs)
    try:
        for level, receiver in itertools.product(LEVELS, RECEIVERS):
            d = domain(level, receiver)
            how = dict(RECEIVERS[receiver])
            if "sni" in how:
                how["sni"] = {f"mx.{d}": getattr(certs, how["sni"])(f"mx.{d}")}
            if "client_ca" in how:
                how["client_ca"] = str(certs.ca_file)
            world.receiver(name(level, receiver), d, host=f"mx.{d}", record=True, **how)
        groups = [
            group(level, ["." + level + ".test"], retry=HOURLY, tls={"ca_file": str(certs.ca_file)},
                  timeouts={"ehlo": f"{int(2 * PATIENCE)}s", "greeting": "10s"}, **rules)
            for level, rules in LEVELS.items()]
        daemon = world.daemon(*groups, dns={"timeout": "2s", "total_timeout": f"{int(10 * PATIENCE)}s"})
        world.message_id = daemon.send(*[f"user@{domain(*c)}" for c in CELLS], headers=["X-Campaign: matrix"])

        def settled():
            rows = daemon.queued()
            return len(world.seen.deliveries) + len(rows) == len(CELLS) and all(r["attempts"] >= 1 for r in rows)

        end = time.monotonic() + 20 * PATIENCE
        while not settled() and time.monotonic() < end:  # a cell without an outcome fails by itself
            time.sleep(0.1)
        world.waiting = {r["recipient"]: r for r in daemon.queued()}
        world.attempts = {c: daemon.api(f"/api/v1/explain/{domain(*c)}")["attempts"] for c in CELLS}
        yield world
    finally:
        world.stop()


@pytest.mark.xdist_group("matrix")
@pytest.mark.parametrize("level, receiver", CELLS, ids=lambda v: v)
def test_cell(matrix, level, receiver):
    want = expected(level, receiver)
    rcpt = f"user@{domain(level, receiver)}"
    got = matrix.seen.to(rcpt)
    commands = matrix.seen.commands[name(level, receiver)]
    if want == "tls":
        assert [d.tls.startswith("TLSv1") for d in got] == [True]
    elif want == "clear":
        assert [d.tls for d in got] == ["clear"]
        if level == "off":
            assert commands["STARTTLS"] == 0, "off never asks"
    else:
        assert not got
        assert commands["MAIL"] == 0 and commands["DATA"] == 0 and commands["BDAT"] == 0
        row = matrix.waiting[rcpt]
        assert want in row["last_outcome"], row


@pytest.mark.xdist_group("matrix")
@pytest.mark.parametrize("receiver", RECEIVERS)
def test_require_never_says_a_word_of_mail_in_clear(matrix, receiver):
    """The octets as they came off the socket: greetings and STARTTLS in clear, and after that only TLS records."""
    sessions = matrix.seen.transcripts[name("require", receiver)]
    assert sessions
    for session in sessions:
        check_wire(bytes(session.raw))


def check_wire(raw):
    head, verb, rest = raw.partition(b"STARTTLS\r\n")
    words = [line.split(b" ")[0].upper() for line in head.split(b"\r\n") if line]
    assert set(words) <= {b"EHLO", b"HELO", b"RSET", b"NOOP", b"QUIT"}, words
    if not verb:
        return
    if rest[:1] in (b"Q", b"E", b"H", b"R"):  # the server did not go along: still no mail
        words = [line.split(b" ")[0].upper() for line in rest.split(b"\r\n") if line]
        assert set(words) <= {b"EHLO", b"HELO", b"RSET", b"QUIT"}, words
        return
    while rest:
        assert rest[0] in (20, 21, 22, 23) and rest[1] == 3, f"not a TLS record: {rest[:40]!r}"
        length = int.from_bytes(rest[3:5], "big")
        rest = rest[5 + length:]


def test_the_wire_check_would_see_clear_text():
    with pytest.raises(AssertionError):
        check_wire(b"EHLO a\r\nMAIL FROM:<a@b>\r\n")
    with pytest.raises(AssertionError):
        check_wire(b"EHLO a\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\n")
    with pytest.raises(AssertionError):
        check_wire(b"EHLO a\r\nSTARTTLS\r\n\x16\x03\x01\x00\x01xMAIL FROM:<a@b>\r\n")


@pytest.mark.xdist_group("matrix")
@pytest.mark.parametrize("level, receiver", CELLS, ids=lambda v: v)
def test_what_was_seen_is_recorded_whether_it_decides_or_not(matrix, level, receiver):
    attempt = matrix.attempts[(level, receiver)][0]
    assert (attempt["tls_verify"], attempt["tls_failure"]) == recorded(level, receiver), attempt["text"]
    assert (attempt["dane"], attempt["sts"], attempt["tls_why"]) == ("off", "off", "rule"), attempt
    assert attempt["tls_effective"] == level.partition("-")[0]
    assert attempt["fallback"] == (expected(level, receiver) == "clear" and level == "on-now"
                                   and receiver not in NOT_OFFERED | REFUSED)


def test_a_host_without_tls_is_skipped_for_one_that_has_it_under_require(world):
    world.receiver("plain", tls="none")
    world.receiver("good")
    world.dns.mx("two.test", "10 mx.plain.test", "20 mx.good.test")
    daemon = world.daemon(group("r", ["two.test"], starttls="require"))
    daemon.send("a@two.test")
    (got,) = world.got(1)
    assert got.receiver == "good" and got.tls != "clear"
    assert world.seen.commands["plain"]["MAIL"] == 0


def test_later_goes_clear_only_on_a_later_attempt_and_never_before_five_minutes(world):
    world.receiver("broken", "b.test", starttls_break="garbage")
    daemon = world.daemon(group("b", ["b.test"], starttls="on", clear_after_tls_failure="later"))
    daemon.send("a@b.test")
    wait_until(lambda: world.seen.commands["broken"]["STARTTLS"] >= 3, 20, "three attempts")
    assert not world.seen.deliveries


def test_later_saves_what_failed_in_tls_on_the_next_attempt_and_nothing_else(world):
    """All of the handshake's failures go in clear then; a host that closes with 421 has said nothing about TLS."""
    broken = ["garbage", "closes", "silent", "alert", "extra", "tls10", "tls11", "anonymous", "accepted_250"]
    for kind in [*broken, "refused_421"]:
        world.receiver(kind, f"{kind.replace('_', '-')}.test", **RECEIVERS[kind])
    daemon = world.daemon(
        group("default", starttls="on", clear_after_tls_failure="later", timeouts={"ehlo": f"{int(PATIENCE)}s"},
              retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "1d"}), delivery={"clear_fallback_after": "100ms"})
    daemon.send(*[f"a@{kind.replace('_', '-')}.test" for kind in [*broken, "refused_421"]])
    world.got(len(broken), 20)
    closing = wait_until(lambda: [r for r in daemon.queued() if r["attempts"] >= 3], 20, "a third attempt")
    assert [r["recipient"] for r in closing] == ["a@refused-421.test"]
    assert world.seen.commands["refused_421"]["MAIL"] == 0
    for kind in broken:
        first, second = daemon.json("explain", f"{kind.replace('_', '-')}.test")["attempts"]
        assert (first["outcome"], first["enhanced"], first["fallback"]) == ("deferred", "4.7.5", False), first
        assert (second["outcome"], second["tls_version"], second["fallback"]) == ("delivered", None, True), second


def test_a_tls_session_is_resumed_on_the_next_connection(world):
    world.receiver("good", "g.test")
    daemon = world.daemon(group("g", ["g.test"], starttls="require", limits={"messages_per_connection": 1}))
    for i in range(4):
        daemon.send(f"r{i}@g.test")
        world.got(i + 1)
        time.sleep(0.1)
    assert any(d.resumed for d in world.seen.deliveries[1:])


def test_two_domains_with_different_rules_on_one_host_never_share_a_session(world):
    world.receiver("both", "clear.test", "secret.test")
    daemon = world.daemon(group("c", ["clear.test"], starttls="off"), group("s", ["secret.test"], starttls="require"))
    for i in range(20):
        daemon.send(f"r{i}@clear.test", f"r{i}@secret.test")
    for d in world.got(40):
        assert (d.tls == "clear") == d.recipient.endswith("@clear.test")
    by_session = {}
    for d in world.seen.deliveries:
        by_session.setdefault(d.session, set()).add(d.recipient.partition("@")[2])
    assert all(len(domains) == 1 for domains in by_session.values())


def test_an_attempt_that_tls_ended_is_recorded_with_what_was_seen(world):
    world.receiver("breaks", "b.test", starttls_break="close")
    world.receiver("expired", "e.test", cert="expired")
    daemon = world.daemon(group("b", ["b.test"], starttls="require", retry=HOURLY),
                          group("e", [".test"], starttls="verify", retry=HOURLY))
    daemon.send("a@b.test", "a@e.test")
    broken, judged = [wait_until(lambda: daemon.json("explain", domain)["attempts"], 10, domain)[0]
                      for domain in ("b.test", "e.test")]
    assert [broken[k] for k in ("stage", "tls_offered", "tls_version", "source")] == ["tls", True, None, "127.0.0.1"]
    assert [judged[k] for k in ("stage", "tls_offered", "tls_version", "tls_verify")] == ["tls", True, "TLS1.3", "expired"]


def test_a_record_names_the_rule_even_where_no_host_was_found(world):
    world.dns.fail("in.suffix.test", "MX", "SERVFAIL")
    world.dns.fail("other.example", "MX", "SERVFAIL")
    daemon = world.daemon(group("s", [".suffix.test"], retry=HOURLY), group("default", retry=HOURLY))
    daemon.send("a@in.suffix.test", "a@other.example")
    for domain, rule in (("in.suffix.test", ["s", "suffix", ".suffix.test"]), ("other.example", ["default", "default", ""])):
        attempt = wait_until(lambda: daemon.json("explain", domain)["attempts"], 10, domain)[0]
        assert [attempt[k] for k in ("group", "match", "pattern")] == rule


class OpensslServer:
    """`openssl s_server`: says what a test tells it to, and can do what Python's ssl cannot."""

    def __init__(self, address, pair, *options):
        self.process = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"{address}:2526", "-cert", pair[0], "-key", pair[1], "-crlf", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.heard = bytearray()
        threading.Thread(target=self._hear, daemon=True).start()
        self.wait_for(b"ACCEPT")

    def _hear(self):
        while chunk := self.process.stdout.read1(65536):
            self.heard.extend(chunk)

    def wait_for(self, text):
        wait_until(lambda: text in self.heard, 10, text.decode())

    def say(self, text):
        self.process.stdin.write(text + b"\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("word", [b"354 go on", b"R"])
def test_a_server_that_renegotiates_is_refused(world, certs, word):
    """
    T51: a second handshake in the middle of a message is how others' octets came to stand before it (RFC 9325 §3.5).  A line
    "R" makes OpenSSL's server ask for one.
    """
    here = world.net.address()
    server = OpensslServer(here, certs.rsa("relay.test"), "-tls1_2", "-naccept", "1")
    try:
        world.dns.a("relay.test", here)
        daemon = world.daemon(group("r", ["r.test"], starttls="require", retry=HOURLY,
                                    route={"smarthost": "relay.test:2526", "implicit_tls": True}))
        daemon.send("a@r.test")
        server.wait_for(b"CIPHER")
        server.say(b"220 relay.test ESMTP")
        for verb, reply in ((b"EHLO", b"250 relay.test"), (b"MAIL FROM", b"250 ok"), (b"RCPT TO", b"250 ok"), (b"DATA", word)):
            server.wait_for(verb)
            server.say(reply)
        if word != b"R":
            server.wait_for(b"Message-ID")  # without renegotiation it comes
            server.kill()
        attempt = wait_until(lambda: daemon.attempts("a@r.test"), 15, "an attempt")[0]
        assert attempt["result"] == "deferred", attempt
        if word == b"R":
            assert "renegotiation" in attempt["text"], attempt
            assert b"Message-ID" not in server.heard
    finally:
        server.kill()


@pytest.mark.parametrize("level, staple, chain, verdict", [
    ("verify", "good", "chain_without_root", "verified-pkix"), ("verify", "revoked", "chain_without_root", "revoked"),
    ("verify", "none", "chain_without_root", "verified-pkix"), ("require", "revoked", "chain_without_root", "revoked"),
    ("verify", "good", "good", "verified-pkix"), ("verify", "revoked", "good", "revoked")])
def test_a_certificate_that_its_authority_revoked(world, certs, level, staple, chain, verdict):
    """T49: the server itself shows the authority's word (OCSP stapling)."""
    here = world.net.address()
    pair = getattr(certs, chain)(f"relay-{staple}.test")  # "good": a leaf alone, directly below the root that we trust
    options = [] if staple == "none" else ["-status_file", certs.staple(pair[0], staple == "revoked")]
    server = OpensslServer(here, pair, "-cert_chain", pair[0], *options)
    try:
        world.dns.a(f"relay-{staple}.test", here)
        daemon = world.daemon(group("r", ["r.test"], starttls=level, retry=HOURLY, tls={"ca_file": str(certs.ca_file)},
                                    timeouts={"greeting": "2s"}, route={"smarthost": f"relay-{staple}.test:2526", "implicit_tls": True}))
        daemon.send("a@r.test")
        wait_until(lambda: daemon.attempts("a@r.test"), 15, "an attempt")
        attempt = wait_until(lambda: daemon.json("explain", "r.test")["attempts"], 10, "its record")[0]
        assert attempt["tls_verify"] == verdict, attempt
        # A server that is good enough is waited for, in vain: it never says a word.
        assert attempt["stage"] == ("tls" if (level, verdict) == ("verify", "revoked") else "greeting"), attempt
    finally:
        server.kill()
