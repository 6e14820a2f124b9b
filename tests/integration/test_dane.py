"""
DANE from outside (T52): every case of dane_rows.py at every level, on one daemon and one world whose names are really signed.
What happens to the mail, what is recorded, and what crossed the wire.
"""

import concurrent.futures
import itertools
import time

import pytest

from dane_rows import BY_NAME, CASES, OPENSSL_DIFFERS, PORT, describe
from harness import HOURLY, PATIENCE, group, wait_until
from secure_world import SecureWorld, require_signed_world
from test_tls import check_wire
from world import certs as world_certs
from world import judges, servers

ZONES = ["sec.test", "nsec3.test", "ins.test"]
LEVELS = {
    "on-try": dict(starttls="on", dane="try", clear_after_tls_failure="now"),
    "verify-try": dict(starttls="verify", dane="try"),
    "on-only": dict(starttls="on", dane="only", clear_after_tls_failure="now"),
    "on-off": dict(starttls="on", dane="off", clear_after_tls_failure="now"),
}
CELLS = list(itertools.product(LEVELS, BY_NAME))
# Offered, refused, broken: what happens where TLS is not had, by the personality.
NO_TLS = {"tls": "4.7.4", "starttls_reply": "4.7.4", "starttls_break": "4.7.5", "tls_min": "4.7.5"}


def lack_of_tls(case):
    """The code of a wait for TLS; None where the receiver's TLS works."""
    return next((NO_TLS[k] for k in case.offers if k in NO_TLS), None)


def expected(level, case):
    """(what happens, dane, verify, failure): "tls", "clear", or the code that the recipient waits with."""
    no_tls = lack_of_tls(case)
    not_had = {"4.7.4": "starttls-not-supported", "4.7.5": "validation-failure"}.get(no_tls)
    if level == "on-off":
        return ("clear", "off", "none", None) if no_tls else ("tls", "off", None, None)
    if case.state == "bogus":
        return "4.7.5", "bogus", "none", "dnssec-invalid"
    if level == "on-only" and case.state in ("none", "unusable", "half") or level == "on-only" and case.name == "insecure-mx-mismatch":
        return "4.7.5", None, "none", "dane-required"
    if case.state in ("match", "half", "mismatch") and no_tls:
        return no_tls, "found", "none", not_had
    if case.state == "mismatch":
        return "4.7.5", "mismatch", None, "tlsa-invalid"
    if case.state in ("match", "half"):
        return "tls", "match", "verified-dane" if case.state == "match" else "verified-dane-half", None
    # No DANE, or records that only say that there must be TLS: the group's level decides about the certificate.
    dane = case.state
    if no_tls:
        if level == "on-try" and case.state == "none":
            return "clear", dane, "none", None
        return no_tls, dane, "none", not_had
    if level == "verify-try" and case.verify != "verified-pkix":
        return "4.7.5", dane, case.verify, "certificate-not-trusted"
    return "tls", dane, case.verify, None if case.verify == "verified-pkix" else "certificate-not-trusted"


@pytest.fixture(scope="module")
def dane(tmp_path_factory, certs):
    require_signed_world()
    world = SecureWorld(tmp_path_factory.mktemp("dane"), certs)
    try:
        world.zone("nsec3.test", nsec3=True)
        world.zone("ins.test", "unsigned")
        world.names = {cell: describe(BY_NAME[cell[1]], world, cell[0]) for cell in CELLS}
        world.start()
        for (level, name), (_, host, base) in world.names.items():
            if BY_NAME[name].dns.startswith("fail-"):
                world.dns.fail(f"_{PORT}._tcp.{base}", "TLSA", BY_NAME[name].dns[5:])
        daemon = world.daemon(
            *[group(level, [f".{level}.{zone}" for zone in ZONES], retry=HOURLY, tls={"ca_file": str(certs.ca_file)},
                    timeouts={"ehlo": f"{int(3 * PATIENCE)}s"}, **rules) for level, rules in LEVELS.items()],
            dns={"timeout": "2s", "total_timeout": f"{int(6 * PATIENCE)}s"})
        daemon.send(*[f"user@{domain}" for domain, _, _ in world.names.values()])
        world.attempts = settle(world, daemon, [domain for domain, _, _ in world.names.values()])
        yield world
    finally:
        world.stop()


def settle(world, daemon, domains):
    """Waits until every domain has its first attempt behind it; those attempts by domain."""
    def settled():
        rows = daemon.queued()
        return len(world.seen.deliveries) + len(rows) >= len(domains) and all(r["attempts"] >= 1 for r in rows)

    end = time.monotonic() + 30 * PATIENCE
    while not settled() and time.monotonic() < end:  # a cell without an outcome fails by itself
        time.sleep(0.1)
    time.sleep(0.3)  # the history is written behind the answer
    world.explained = {}

    def explain(domain):
        world.explained[domain] = daemon.api(f"/api/v1/explain/{domain}")
        return domain, world.explained[domain]["attempts"]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return dict(pool.map(explain, domains))


@pytest.mark.xdist_group("dane")
@pytest.mark.parametrize("level, name", CELLS)
def test_cell(dane, level, name):
    case = BY_NAME[name]
    domain, host, base = dane.names[(level, name)]
    what, dane_word, verify, failure = expected(level, case)
    got = [d.tls for d in dane.seen.to(f"user@{domain}")]
    attempts = dane.attempts[domain]
    assert attempts, "no attempt was recorded"
    attempt = attempts[0]
    seen = {k: attempt[k] for k in ("outcome", "enhanced", "text", "tls_effective", "tls_why", "tls_verify", "dane", "tls_failure")}
    if what == "tls":
        assert got and got[0].startswith("TLSv1"), seen
    elif what == "clear":
        assert got == ["clear"], seen
    else:
        assert not got, "mail went that must not go"
        assert attempt["enhanced"] == what, seen
    if dane_word:
        assert attempt["dane"] == dane_word, seen
    if verify:
        assert attempt["tls_verify"] == verify, seen
    if what not in ("tls", "clear") or dane_word == "match":
        assert attempt["tls_failure"] == failure, seen


@pytest.mark.xdist_group("dane")
@pytest.mark.parametrize("level, name", [c for c in CELLS if expected(c[0], BY_NAME[c[1]])[0] != "clear" and c[0] != "on-off"])
def test_no_octet_of_mail_in_clear(dane, level, name):
    case = BY_NAME[name]
    sessions = dane.seen.transcripts[f"{name}@{level}"]
    if case.state == "bogus" or expected(level, case)[3] == "dane-required":
        assert not sessions, "the host must not even be connected to"
        return
    assert sessions
    for session in sessions:
        check_wire(bytes(session.raw))


@pytest.mark.xdist_group("dane")
@pytest.mark.parametrize("name", [c.name for c in CASES if c.state in ("match", "half", "mismatch") and not lack_of_tls(c)])
def test_the_server_is_asked_for_by_the_name_of_its_records(dane, name):
    _, _, base = dane.names[("on-try", name)]
    assert {s.sni for s in dane.seen.transcripts[f"{name}@on-try"]} == {base}


@pytest.mark.xdist_group("dane")
@pytest.mark.parametrize("name", BY_NAME)
def test_explain_foretells_the_level(dane, name):
    """What `explain` says of a host before mail is sent is what the attempt then records."""
    domain, host, _ = dane.names[("on-try", name)]
    told = [h for h in dane.explained[domain]["hosts"] if h["host"] == host][0]["tls"]
    did = dane.attempts[domain][0]
    assert (told["level"], told["why"]) == (did["tls_effective"], did["tls_why"])


@pytest.mark.xdist_group("dane")
def test_no_tlsa_question_is_asked_where_the_addresses_are_not_signed(dane):
    """RFC 7672 §2.2.2: servers of unsigned zones break on such questions."""
    for level, name in CELLS:
        if name in ("unsigned-zone", "secure-mx-insecure-host", "alias-out-of-unsigned"):
            _, host, base = dane.names[(level, name)]
            assert not dane.dns.asked(f"_{PORT}._tcp.{host}", "TLSA"), (level, name)


@pytest.mark.xdist_group("dane")
def test_off_asks_for_no_tlsa_records_at_all(dane):
    asked = [q[0] for q in dane.dns.log if q[1] == "TLSA"]
    assert asked and not [q for q in asked if ".on-off." in q]


@pytest.mark.xdist_group("dane")
def test_fifty_records_come_over_tcp(dane):
    _, _, base = dane.names[("on-try", "ee-fifty")]
    assert {q[2] for q in dane.dns.asked(f"_{PORT}._tcp.{base}", "TLSA")} == {"udp", "tcp"}


# ---- sessions, and resolvers ----

@pytest.fixture
def small(tmp_path, certs, request):
    require_signed_world()
    world = SecureWorld(tmp_path, certs)
    yield world
    failed = getattr(request.node, "report_call", None) is None or request.node.report_call.failed
    world.stop(check=not failed)


def share_a_host(world, domains, names, records):
    """All domains have the one host mx.sec.test, whose certificate has these names."""
    zone = world.zone("sec.test")
    pair = world.mail_host("host", "mx.sec.test", cert="chain", names=names)
    zone.add(f"mx A {world.address_of('host')}", *[f"{d} MX 10 mx" for d in domains])
    zone.add(*[f"_{PORT}._tcp.mx TLSA {t}" for t in records(world_certs.load(pair[0]))])
    world.start()


def domains_by_session(world):
    found = {}
    for d in world.seen.deliveries:
        found.setdefault(d.session, set()).add(d.recipient.partition("@")[2])
    return found


def test_a_certificate_for_one_next_hop_is_none_for_another(small):
    """T58, RFC 7672 §3.2.3: the next hop is a reference name of its own mail alone."""
    share_a_host(small, ["one", "two"], ["one.sec.test"], lambda chain: [world_certs.tlsa(chain[1], 2, 1, 1)])
    daemon = small.daemon(group("g", [".sec.test"], starttls="on", dane="try", retry=HOURLY, timeouts={"idle": "1s"}), workers=1)
    daemon.send("a@one.sec.test")
    small.got(1)
    for i in range(5):
        daemon.send(f"b{i}@two.sec.test", f"b{i}@one.sec.test")
    small.got(6)
    wait_until(lambda: len(daemon.queued()) == 5 and daemon.attempts("b0@two.sec.test"), 15, "the other domain waits")
    daemon.send("c@one.sec.test")  # the failure of the other is none of its business
    small.got(7)
    assert {d.recipient.partition("@")[2] for d in small.seen.deliveries} == {"one.sec.test"}


def test_rules_about_dane_keep_sessions_apart(small):
    """T58: the same host, the same records, and four ideas of what they mean."""
    domains = ["plain", "try", "only", "verify"]
    share_a_host(small, domains, ["mx.sec.test"], lambda chain: [world_certs.tlsa(chain[0], 3, 1, 1)])
    tls = {"ca_file": str(small.certs.ca_file)}
    daemon = small.daemon(
        group("plain", ["plain.sec.test"], starttls="on", tls=tls), group("try", ["try.sec.test"], starttls="on", dane="try", tls=tls),
        group("only", ["only.sec.test"], starttls="on", dane="only", tls=tls), group("verify", ["verify.sec.test"], starttls="verify", tls=tls),
        workers=1)
    for i in range(10):
        daemon.send(*[f"r{i}@{d}.sec.test" for d in domains])
    small.got(40)
    assert all(len(d) == 1 for d in domains_by_session(small).values())


def test_a_session_that_dane_verified_serves_all_it_was_verified_for(small):
    """What is equal in everything may share: usage 3 proves the host, whoever the mail is for."""
    share_a_host(small, ["one", "two"], ["mx.sec.test"], lambda chain: [world_certs.tlsa(chain[0], 3, 1, 1)])
    daemon = small.daemon(group("g", [".sec.test"], starttls="on", dane="try", limits={"connections": 1}), workers=1)
    for i in range(10):
        daemon.send(f"r{i}@one.sec.test", f"r{i}@two.sec.test")
    small.got(20)
    assert any(len(d) == 2 for d in domains_by_session(small).values())


@pytest.mark.parametrize("dane_mode, delivered", [("try", True), ("only", False)])
def test_a_resolver_that_does_not_validate_stops_no_mail_but_that_which_needs_it(small, dane_mode, delivered):
    """Without AD there is no DANE; `only` waits, and `try` goes by its level, and says so."""
    share_a_host(small, ["one"], ["mx.sec.test"], lambda chain: ["3 1 1 " + "ab" * 32])
    small.dns.without_ad = True
    daemon = small.daemon(group("g", [".sec.test"], starttls="require", dane=dane_mode, retry=HOURLY))
    daemon.send("a@one.sec.test")
    attempt = wait_until(lambda: daemon.attempts("a@one.sec.test"), 15, "an attempt")[0]
    assert (attempt["result"] == "delivered") == delivered
    assert not small.dns.asked(f"_{PORT}._tcp.mx.sec.test", "TLSA")
    wait_until(lambda: "dnssec.not_working" in daemon.log(), 10, "a word about it")


def test_addresses_that_are_bogus_are_not_used(small):
    share_a_host(small, ["one"], ["mx.sec.test"], lambda chain: [world_certs.tlsa(chain[0], 3, 1, 1)])
    small.dns.fail("mx.sec.test", "A", "SERVFAIL")
    daemon = small.daemon(group("g", [".sec.test"], starttls="on", dane="try", clear_after_tls_failure="now", retry=HOURLY))
    daemon.send("a@one.sec.test")
    attempt = wait_until(lambda: daemon.attempts("a@one.sec.test"), 15, "an attempt")[0]
    assert attempt["enhanced"] == "4.4.3" and small.seen.sessions["host"] == 0


# ---- judges: what others make of the same hosts ----

# Our word for what was found before the session decided is "found": there was no session to judge.
RECORDED = {"match": "match", "mismatch": "mismatch", "none": "none", "unusable": "unusable", "bogus": "bogus", "found": "no-tls"}


def recorded(dane, name):
    """What the daemon recorded of the case, in the judges' words."""
    attempt = dane.attempts[dane.names[("on-try", name)][0]][0]
    return "half" if attempt["tls_verify"] == "verified-dane-half" else RECORDED[attempt["dane"]]


@pytest.fixture(scope="module")
def finger(dane, certs):
    reason = servers.jail_works()
    if reason:
        pytest.skip(reason)
    if dane.dns.port != 53:
        pytest.skip("posttls-finger asks on port 53 alone, and this user may not open it")
    judge = judges.Finger(dane.net.prefix, certs.ca_file, dane.dns.address)
    yield judge
    judge.close()


@pytest.mark.xdist_group("dane")
@pytest.mark.parametrize("name", BY_NAME)
def test_postfix_agrees(dane, finger, name):
    verdict, said = finger.ask(dane.names[("on-try", name)][0], PORT)
    assert recorded(dane, name) == verdict, said


@pytest.mark.xdist_group("dane")
@pytest.mark.parametrize("name", [c.name for c in CASES if c.state in ("match", "half", "mismatch", "unusable") and not lack_of_tls(c)])
def test_openssl_agrees(dane, name):
    case = BY_NAME[name]
    domain, host, base = dane.names[("on-try", name)]
    receiver = dane.receivers.by_name[f"{name}@on-try"].p
    records = case.records(world_certs.load(receiver.cert[0]), dane.certs)
    verdict, said = judges.openssl(receiver.address, PORT, base, [base, host, domain], records)
    ours = recorded(dane, name).replace("half", "match")  # who the MX is, OpenSSL was not asked
    if name in OPENSSL_DIFFERS:
        assert ours != verdict, f"no longer so: {OPENSSL_DIFFERS[name]}"
    else:
        assert ours == verdict, said
