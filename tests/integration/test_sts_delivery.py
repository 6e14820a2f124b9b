"""
MTA-STS (RFC 8461) and what it does to mail: every kind of policy against every kind of receiver at every level, on one daemon;
then what changes in the course of time.  How policies are found and kept is test_mta_sts.py.
"""

import dataclasses
import itertools
import time

import pytest

from harness import HOURLY, PATIENCE, group, stays, wait_until
from secure_world import SecureWorld, require_signed_world
from test_dane import settle
from test_tls import check_wire
from world import certs as world_certs
from world import sts

PORT = 2526
LEVELS = {
    "on": dict(starttls="on", mta_sts="try", clear_after_tls_failure="now"),
    "require": dict(starttls="require", mta_sts="try"),
    "verify": dict(starttls="verify", mta_sts="try"),
    "not-asked": dict(starttls="on", mta_sts="off", clear_after_tls_failure="now"),
    "off": dict(starttls="off", mta_sts="try"),
}
# What the receiver's TLS is worth: what PKIX says, or the code with which mail waits for it.
RECEIVERS = {
    "good": dict(),
    "expired": dict(cert="expired"),
    "self-signed": dict(cert="self_signed"),
    "unknown-ca": dict(cert="unknown_ca"),
    "wrong-name": dict(cert="good", names=["elsewhere.test"]),
    "no-starttls": dict(tls="none"),
    "refused": dict(starttls_reply="454 4.7.0 not now"),
    "broken": dict(starttls_break="garbage"),
    "tls10": dict(tls_min="TLSv1", tls_max="TLSv1"),
}
WAITS = {"no-starttls": "4.7.4", "refused": "4.7.4", "broken": "4.7.5", "tls10": "4.7.5"}
FAILURES = {
    "good": None, "expired": "certificate-expired", "self-signed": "certificate-not-trusted", "unknown-ca": "certificate-not-trusted",
    "wrong-name": "certificate-host-mismatch", "no-starttls": "starttls-not-supported", "refused": "starttls-not-supported",
    "broken": "validation-failure", "tls10": "validation-failure"}


@dataclasses.dataclass(frozen=True)
class Policy:
    """What is published; `mode` is what a sender must make of it: enforce, testing, none, absent or failed."""

    mode: str
    mx: str = "mx.{d}"  # pattern; {d} is the domain
    named: bool = True  # does the pattern name the host?
    failure: str = ""  # of the lookup
    host: str = "mx.{d}"
    more: dict = dataclasses.field(default_factory=dict)


POLICIES = {
    "enforce": Policy("enforce"),
    "enforce-wildcard": Policy("enforce", "*.{d}"),
    "enforce-upper-case": Policy("enforce", "MX.{d}"),
    "enforce-other": Policy("enforce", "other.{d}", named=False),
    "enforce-wildcard-two-labels": Policy("enforce", "*.{d}", named=False, host="a.mx.{d}"),
    "enforce-wildcard-no-label": Policy("enforce", "*.mx.{d}", named=False),
    "testing": Policy("testing"),
    "testing-other": Policy("testing", "other.{d}", named=False),
    "none": Policy("none"),
    "absent": Policy("absent", more=dict(txt=None)),
    "two-records": Policy("absent", more=dict(txt='v=STSv1; id=1;"\n_mta-sts.{d}. TXT "v=STSv1; id=2;')),
    "not-ours": Policy("absent", more=dict(txt="v=spf1 -all")),
    "not-found": Policy("failed", failure="sts-policy-fetch-error", more=dict(status=404)),
    "redirect": Policy("failed", failure="sts-policy-fetch-error", more=dict(status=301, headers={"Location": "https://mta-sts.x.plain.test/"})),
    "web-expired": Policy("failed", failure="sts-webpki-invalid", more=dict(cert="expired")),
    "web-wrong-name": Policy("failed", failure="sts-webpki-invalid", more=dict(cert_names=["elsewhere.test"])),
    "nonsense": Policy("failed", failure="sts-policy-invalid", more=dict(body=b"version: STSv2\r\nmode: enforce\r\n")),
    "html": Policy("failed", failure="sts-policy-invalid", more=dict(content_type="text/html")),
}
# Every policy against a good receiver; those that say something against all others.
CASES = [(p, r) for p, r in itertools.product(POLICIES, RECEIVERS)
         if r == "good" or p in ("enforce", "enforce-wildcard", "testing", "testing-other", "none", "not-found")]
CELLS = [(level, *case) for level, case in itertools.product(LEVELS, CASES)
         if level in ("on", "require", "verify") or case[0] in ("enforce", "enforce-other", "testing")]


def domain(level, policy, receiver):
    return f"{policy}.{receiver}.{level}.plain.test"


def by_group(level, receiver):
    """"tls", "clear", or the code that mail waits with."""
    if level == "off":
        return "clear"
    if receiver in WAITS:
        return "clear" if level in ("on", "not-asked") else WAITS[receiver]
    return "4.7.5" if level == "verify" and receiver != "good" else "tls"


def expected(level, policy, receiver):
    """(what happens, sts, failure, effective level, why)"""
    p = POLICIES[policy]
    own = level if level != "not-asked" else "on"
    if level in ("off", "not-asked"):
        return by_group(level, receiver), "off", FAILURES[receiver] if level != "off" else None, own, "rule"
    if p.mode == "enforce":
        level_and_why = ("sts-enforce", "sts") if level != "verify" else (None, None)  # it is the stricter
        if not p.named:
            return "4.7.5", "mx-mismatch", "validation-failure", *level_and_why
        if receiver == "good":
            return "tls", "ok", None, *level_and_why
        return WAITS.get(receiver, "4.7.5"), "cert-bad", FAILURES[receiver], *level_and_why
    if p.mode == "testing":
        level_and_why = ("sts-testing", "sts") if level == "on" else (own, "rule")
        if not p.named:
            return by_group(level, receiver), "mx-mismatch", FAILURES[receiver] or "validation-failure", *level_and_why
        return by_group(level, receiver), "ok" if receiver == "good" else "cert-bad", FAILURES[receiver], *level_and_why
    word = {"none": "mode-none", "absent": "none", "failed": "failed"}[p.mode]
    return by_group(level, receiver), word, FAILURES[receiver] or p.failure or None, own, "rule"


def publish(world, d, p, host):
    more = dict(p.more)
    if p.mode == "absent" and more.get("txt") is None:
        return
    if "txt" in more:
        more["txt"] = more["txt"].format(d=d)
    if "cert_names" in more:
        more["cert"] = world.certs.good(*more.pop("cert_names"))
    mode = p.mode if p.mode in ("enforce", "testing", "none") else "enforce"
    more.setdefault("body", sts.policy(mode, [p.mx.format(d=d)]))
    world.policy(d, zone=world.zone("plain.test"), **more)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory, certs):
    require_signed_world()
    world = SecureWorld(tmp_path_factory.mktemp("sts"), certs)
    try:
        zone = world.zone("plain.test", "unsigned")
        for cell in CELLS:
            d = domain(*cell)
            p = POLICIES[cell[1]]
            host = p.host.format(d=d)
            world.mail_host(d, host, record=True, **RECEIVERS[cell[2]])
            zone.add(f"{d}. MX 10 {host}.", f"{host}. A {world.address_of(d)}")
            publish(world, d, p, host)
        world.start()
        daemon = world.daemon(
            *[group(level, [f".{level}.plain.test"], retry=HOURLY, tls={"ca_file": str(certs.ca_file)},
                    timeouts={"ehlo": f"{int(3 * PATIENCE)}s"}, **rules) for level, rules in LEVELS.items()],
            dns={"timeout": "2s", "total_timeout": f"{int(10 * PATIENCE)}s"})
        domains = [domain(*cell) for cell in CELLS]
        daemon.send(*[f"user@{d}" for d in domains])
        world.attempts = settle(world, daemon, domains)
        yield world
    finally:
        world.stop()


@pytest.mark.xdist_group("sts")
@pytest.mark.parametrize("level, policy, receiver", CELLS)
def test_cell(matrix, level, policy, receiver):
    what, word, failure, effective, why = expected(level, policy, receiver)
    d = domain(level, policy, receiver)
    got = [x.tls for x in matrix.seen.to(f"user@{d}")]
    assert matrix.attempts[d], "no attempt was recorded"
    attempt = matrix.attempts[d][0]
    seen = {k: attempt[k] for k in ("enhanced", "text", "tls_effective", "tls_why", "tls_verify", "sts", "tls_failure", "fallback")}
    if what == "tls":
        assert got and got[0].startswith("TLSv1"), seen
    elif what == "clear":
        assert got == ["clear"], seen
    else:
        assert not got and attempt["enhanced"] == what, seen
    assert attempt["sts"] == word, seen
    assert attempt["tls_failure"] == failure, seen
    if effective:
        assert (attempt["tls_effective"], attempt["tls_why"]) == (effective, why), seen


@pytest.mark.xdist_group("sts")
@pytest.mark.parametrize("level, policy, receiver", [c for c in CELLS if expected(*c)[0] != "clear"])
def test_no_octet_of_mail_in_clear(matrix, level, policy, receiver):
    sessions = matrix.seen.transcripts[domain(level, policy, receiver)]
    if expected(level, policy, receiver)[1] == "mx-mismatch" and POLICIES[policy].mode == "enforce":
        assert not sessions, "a host that the policy does not name is not connected to"
        return
    assert sessions
    for session in sessions:
        check_wire(bytes(session.raw))


@pytest.mark.xdist_group("sts")
@pytest.mark.parametrize("level, policy, receiver", [c for c in CELLS if c[2] == "good" and c[0] == "on"])
def test_explain_foretells_the_level(matrix, level, policy, receiver):
    d = domain(level, policy, receiver)
    told = matrix.explained[d]["hosts"][0]["tls"]
    did = matrix.attempts[d][0]
    assert (told["level"], told["why"]) == (did["tls_effective"], did["tls_why"])


@pytest.mark.xdist_group("sts")
def test_where_the_rule_does_not_ask_nobody_is_asked(matrix):
    for level in ("off", "not-asked"):
        assert not [h for h, _, _ in matrix.hosts.log if f".{level}." in h]
        assert not [q for q in matrix.dns.log if q[0].startswith("_mta-sts.") and f".{level}." in q[0]]


@pytest.mark.xdist_group("sts")
def test_a_policy_is_fetched_once_for_a_domain(matrix):
    for cell in CELLS:
        if cell[0] in ("on", "require", "verify") and POLICIES[cell[1]].mode in ("enforce", "testing", "none"):
            fetched = matrix.hosts.asked(domain(*cell))
            again = POLICIES[cell[1]].mode == "enforce" and expected(*cell)[0] != "tls"  # §5.1: asked again before mail fails
            assert fetched == 1 or again and fetched <= 2, cell


# ---- several hosts, and DANE beside MTA-STS (RFC 8461 §2) ----

@pytest.fixture(scope="module")
def mixed(tmp_path_factory, certs):
    """Domains with two hosts, or with TLSA records and a policy at once; each is named after what it is."""
    require_signed_world()
    world = SecureWorld(tmp_path_factory.mktemp("mixed"), certs)
    try:
        zone = world.zone("sec.test")

        def site(name, policy, *hosts):
            """hosts: (label, personality, function of the certificate's chain to TLSA texts)"""
            d = f"{name}.sec.test"
            for i, (label, how, records) in enumerate(hosts):
                host = f"{label}.{d}"
                pair = world.mail_host(f"{label}@{name}", host, record=True, **how)
                zone.add(f"{d}. MX {10 * i + 10} {host}.", f"{host}. A {world.address_of(f'{label}@{name}')}")
                if records:
                    zone.add(*[f"_{PORT}._tcp.{host}. TLSA {t}" for t in records(world_certs.load(pair[0]))])
            world.policy(d, sts.policy("enforce", [p.format(d=d) for p in policy]), zone=zone)

        ee = lambda chain: [world_certs.tlsa(chain[0], 3, 1, 1)]
        wrong = lambda chain: ["3 1 1 " + "ab" * 32]
        unusable = lambda chain: ["1 1 1 " + "ab" * 32]
        site("second-named", ["b.{d}"], ("a", {}, None), ("b", {}, None))
        site("second-good", ["*.{d}"], ("a", dict(cert="expired"), None), ("b", {}, None))
        site("second-tls", ["*.{d}"], ("a", dict(tls="none"), None), ("b", {}, None))
        site("pattern-in-certificate", ["*.{d}"], ("a", dict(names=["b.pattern-in-certificate.sec.test"]), None))
        site("dane-good-not-named", ["other.{d}"], ("a", dict(cert="self_signed"), ee))
        site("dane-bad-named", ["*.{d}"], ("a", {}, wrong))
        site("dane-bogus-named", ["*.{d}"], ("a", {}, ee))
        zone.flip(f"_{PORT}._tcp.a.dane-bogus-named.sec.test.", "TLSA")
        site("dane-unusable-good", ["*.{d}"], ("a", {}, unusable))
        site("dane-unusable-bad", ["*.{d}"], ("a", dict(cert="self_signed"), unusable))
        site("dane-unusable-not-named", ["other.{d}"], ("a", {}, unusable))
        site("dane-none", ["*.{d}"], ("a", dict(cert="self_signed"), None))
        world.start()
        daemon = world.daemon(
            group("both", [".sec.test"], starttls="on", dane="try", mta_sts="try", clear_after_tls_failure="now", retry=HOURLY,
                  tls={"ca_file": str(certs.ca_file)}))
        domains = [d[8:] for d in world.hosts.sites]
        daemon.send(*[f"user@{d}" for d in domains])
        world.attempts = settle(world, daemon, domains)
        yield world
    finally:
        world.stop()


@pytest.mark.xdist_group("sts")
@pytest.mark.parametrize("name, host, code, verify, dane, failure", [
    ("second-named", "b", None, "verified-pkix", "none", None),
    ("second-good", "b", None, "verified-pkix", "none", None),
    ("second-tls", "b", None, "verified-pkix", "none", None),
    ("pattern-in-certificate", None, "4.7.5", "wrong-name", "none", "certificate-host-mismatch"),
    ("dane-good-not-named", "a", None, "verified-dane", "match", None),
    ("dane-bad-named", None, "4.7.5", None, "mismatch", "tlsa-invalid"),
    ("dane-bogus-named", None, "4.7.5", "none", "bogus", "dnssec-invalid"),
    ("dane-unusable-good", "a", None, "verified-pkix", "unusable", None),
    ("dane-unusable-bad", None, "4.7.5", "self-signed", "unusable", "certificate-not-trusted"),
    ("dane-unusable-not-named", None, "4.7.5", "none", "unusable", "validation-failure"),
    ("dane-none", None, "4.7.5", "self-signed", "none", "certificate-not-trusted"),
])
def test_hosts_and_dane(mixed, name, host, code, verify, dane, failure):
    d = f"{name}.sec.test"
    attempt = mixed.attempts[d][0]
    seen = {k: attempt[k] for k in ("enhanced", "text", "tls_effective", "tls_verify", "dane", "sts", "tls_failure")}
    assert [x.receiver for x in mixed.seen.to(f"user@{d}")] == ([f"{host}@{name}"] if host else []), seen
    if code:
        assert attempt["enhanced"] == code, seen
    if verify:
        assert attempt["tls_verify"] == verify, seen
    assert (attempt["dane"], attempt["tls_failure"]) == (dane, failure), seen
    for receiver in [r for r in mixed.receivers.by_name if r.endswith("@" + name)]:
        for session in mixed.seen.transcripts[receiver]:
            check_wire(bytes(session.raw))


@pytest.mark.xdist_group("sts")
@pytest.mark.parametrize("receiver", ["a@second-named", "a@dane-bogus-named", "a@dane-unusable-not-named"])
def test_a_host_that_may_not_be_used_is_not_connected_to(mixed, receiver):
    assert mixed.seen.sessions[receiver] == 0


# ---- in the course of time ----

@pytest.fixture
def hosts(world):
    h = sts.PolicyHosts(world.net.address())
    world.dns.ttl = 0  # records change under the daemon's eyes
    yield h
    h.stop()


def set_policy(world, hosts, d, body, id="1"):
    hosts.add(d, sts.Site(body, cert=world.certs.good(f"mta-sts.{d}")))
    world.dns.remove(f"_mta-sts.{d}", "TXT")
    world.dns.remove(f"mta-sts.{d}", "A")
    world.dns.add(f"_mta-sts.{d}", "TXT", f'"v=STSv1; id={id};"').a(f"mta-sts.{d}", hosts.address)


def set_mx(world, d, host):
    world.dns.remove(d, "MX")
    world.dns.mx(d, f"10 {host}")


def start(world, hosts, *groups, **config):
    return world.daemon(*groups, mta_sts={"ca_file": str(world.certs.ca_file), "port": hosts.port}, **config)


def sts_group(world, *match, **rules):
    rules.setdefault("retry", HOURLY)
    rules.setdefault("tls", {"ca_file": str(world.certs.ca_file)})
    return group("s", list(match), starttls="on", mta_sts="try", clear_after_tls_failure="now", **rules)


def test_a_policy_that_changed_is_seen_before_mail_fails(world, hosts):
    """RFC 8461 §5.1: the receiver moved and said so; a cached policy must not hold its mail up."""
    world.receiver("old")
    world.receiver("new")
    set_mx(world, "a.test", "mx.old.test")
    set_policy(world, hosts, "a.test", sts.policy(mx=["mx.old.test"]))
    daemon = start(world, hosts, sts_group(world, "a.test", limits={"messages_per_connection": 1}))
    daemon.send("one@a.test")
    world.got(1)
    set_mx(world, "a.test", "mx.new.test")
    set_policy(world, hosts, "a.test", sts.policy(mx=["mx.new.test"]), id="2")
    daemon.send("two@a.test")
    assert world.got(2)[1].receiver == "new"
    assert hosts.asked("a.test") == 2
    assert [a["result"] for a in daemon.attempts("two@a.test")] == ["delivered"], "no attempt is counted"


def test_a_policy_that_did_not_change_holds(world, hosts):
    """The same from an attacker: the MX is another, the policy is not."""
    world.receiver("real")
    world.receiver("evil")
    set_mx(world, "a.test", "mx.real.test")
    set_policy(world, hosts, "a.test", sts.policy(mx=["mx.real.test"]))
    daemon = start(world, hosts, sts_group(world, "a.test", limits={"messages_per_connection": 1}))
    daemon.send("one@a.test")
    world.got(1)
    set_mx(world, "a.test", "mx.evil.test")
    daemon.send("two@a.test")
    wait_until(lambda: daemon.attempts("two@a.test"), 15, "an attempt")
    assert world.seen.sessions["evil"] == 0 and len(world.seen.deliveries) == 1


@pytest.mark.parametrize("restart", [False, True])
def test_a_known_policy_outlives_an_outage(world, hosts, restart):
    """§3.3: what cannot be asked for now is in force until max_age; also after a restart."""
    world.receiver("real")
    world.receiver("evil", cert="self_signed")
    set_mx(world, "a.test", "mx.real.test")
    set_policy(world, hosts, "a.test", sts.policy(mx=["mx.real.test"]))
    daemon = start(world, hosts, sts_group(world, "a.test", limits={"messages_per_connection": 1}))
    daemon.send("one@a.test")
    world.got(1)
    hosts.sites.clear()
    world.dns.fail("_mta-sts.a.test", "TXT", "SERVFAIL")
    if restart:
        daemon.stop()
        daemon.start()
    daemon.send("two@a.test")
    assert world.got(2)[1].receiver == "real"
    attempt = wait_until(lambda: [a for a in daemon.json("explain", "a.test")["attempts"] if a["address"] == "two@a.test"], 10, "its record")[0]
    assert (attempt["tls_effective"], attempt["tls_why"], attempt["sts"]) == ("sts-enforce", "sts", "ok")
    set_mx(world, "a.test", "mx.evil.test")
    daemon.send("three@a.test")
    wait_until(lambda: daemon.attempts("three@a.test"), 15, "an attempt")
    assert world.seen.sessions["evil"] == 0


def test_a_policy_withdrawn_by_mode_none_ends_it(world, hosts):
    """§2, §5.2: the way out for a receiver."""
    world.receiver("real", cert="self_signed")
    set_mx(world, "a.test", "mx.real.test")
    set_policy(world, hosts, "a.test", sts.policy(mx=["mx.real.test"]))
    retry = {"schedule": ["1s"], "jitter": "0%", "lifetime": "1h"}
    daemon = start(world, hosts, sts_group(world, "a.test", retry=retry))
    daemon.send("one@a.test")
    wait_until(lambda: daemon.attempts("one@a.test"), 15, "an attempt")
    assert not world.seen.deliveries
    set_policy(world, hosts, "a.test", sts.policy("none"), id="2")
    world.got(1)


def test_testing_is_counted_and_enforced_later(world, hosts):
    world.receiver("real", cert="self_signed")
    set_mx(world, "a.test", "mx.real.test")
    set_policy(world, hosts, "a.test", sts.policy("testing", ["mx.real.test"]))
    daemon = start(world, hosts, sts_group(world, "a.test", limits={"messages_per_connection": 1}))
    daemon.send("one@a.test")
    world.got(1)
    set_policy(world, hosts, "a.test", sts.policy("enforce", ["mx.real.test"]), id="2")
    daemon.api("/api/v1/tls/sts/a.test/refresh", "POST")
    daemon.send("two@a.test")
    wait_until(lambda: daemon.attempts("two@a.test"), 15, "an attempt")
    stays(lambda: len(world.seen.deliveries) == 1, 0.5, "nothing more is delivered")


def test_the_parent_has_nothing_to_say(world, hosts):
    """§3.4: the policy of a domain is its own, never that of the domain above it."""
    world.receiver("sub", "sub.a.test", cert="self_signed")
    set_policy(world, hosts, "a.test", sts.policy(mx=["mx.elsewhere.test"]))
    daemon = start(world, hosts, sts_group(world, ".a.test", "a.test"))
    daemon.send("one@sub.a.test")
    world.got(1)
    assert not hosts.asked("a.test")


def test_a_slow_policy_host_delays_its_own_mail_alone(world, hosts):
    world.receiver("both", "slow.test", "quick.test")
    for d in ("slow.test", "quick.test"):
        set_policy(world, hosts, d, sts.policy(mx=["mx.both.test"]))
    hosts.sites["mta-sts.slow.test"].delay_s = 2
    daemon = start(world, hosts, sts_group(world, "slow.test", "quick.test"), workers=1)
    begun = time.monotonic()
    daemon.send("a@slow.test")
    daemon.send("a@quick.test")
    wait_until(lambda: world.seen.to("a@quick.test"), 10, "the quick one")
    if PATIENCE == 1:
        assert time.monotonic() - begun < 1.9
    assert not world.seen.to("a@slow.test")
    world.got(2)


def test_domains_with_different_policies_on_one_host_never_share_a_session(world, hosts):
    """T58: what one domain's policy proved says nothing about another's."""
    domains = ["enforce.test", "testing.test", "none.test", "without.test", "wild.test"]
    world.receiver("both", *domains)
    set_policy(world, hosts, "enforce.test", sts.policy("enforce", ["mx.both.test"]))
    set_policy(world, hosts, "testing.test", sts.policy("testing", ["mx.both.test"]))
    set_policy(world, hosts, "none.test", sts.policy("none"))
    set_policy(world, hosts, "wild.test", sts.policy("enforce", ["*.both.test"]))
    daemon = start(world, hosts, sts_group(world, *domains), workers=1)
    for i in range(10):
        daemon.send(*[f"r{i}@{d}" for d in domains])
    by_session = {}
    for d in world.got(50):
        by_session.setdefault(d.session, set()).add(d.recipient.partition("@")[2])
    assert all(len(found) == 1 for found in by_session.values()), by_session
