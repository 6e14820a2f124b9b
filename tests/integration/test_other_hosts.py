"""A mail host that lacks what a message needs is passed over for the next one (RFC 5321 5.1), and only by that message."""

import collections
import re

import pytest

from harness import HOURLY, SENDER, Raw, compose, group, wait_until
from secure_world import SecureWorld, require_signed_world
from test_delivery import dsns, home  # noqa: F401
from test_requiretls_delivery import submit

LARGE = "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 100
MANY = 30


def send_utf8(daemon, *recipients, body="Hello\r\n", headers=()):
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")
        raw.ok(f"MAIL FROM:<{SENDER}> SMTPUTF8 BODY=8BITMIME")
        for recipient in recipients:
            raw.ok(f"RCPT TO:<{recipient}>")
        raw.ok("DATA", 354)
        raw.send(compose(["list@origin.example"], body=body, headers=headers)[1])
        raw.ok(".")


def asked(world, name):
    """How many transactions were begun there."""
    return world.seen.commands[name]["MAIL"]


@pytest.mark.parametrize("how", [dict(smtputf8=False), dict(size=1500), dict(eightbit=False, smtputf8=False)],
                         ids=["SMTPUTF8", "SIZE", "8BITMIME"])
def test_the_next_host_gets_what_the_first_cannot_take_and_the_first_the_rest(home, how):  # noqa: F811
    home.receiver("first", **how)
    home.receiver("second")
    home.dns.mx("two.test", "10 mx.first.test", "20 mx.second.test")
    daemon = home.daemon(group("default", retry=HOURLY))
    for i in range(MANY):
        daemon.send(f"easy{i}@two.test")
        if "size" in how:
            daemon.send(f"hard{i}@two.test", body=LARGE)
        elif "eightbit" in how:
            daemon.send(f"hard{i}@two.test", body="Grüße\r\n", options=["BODY=8BITMIME"])
        else:
            send_utf8(daemon, f"härd{i}@two.test", f"with{i}@two.test")  # whose name is no obstacle
    easy = MANY if "size" in how or "eightbit" in how else 2 * MANY
    home.got(MANY, at="second")
    home.got(easy, at="first")
    assert {d.recipient[0] for d in home.seen.at("second")} == {"h"}
    assert {d.recipient[0] for d in home.seen.at("first")} <= {"e", "w"}
    assert asked(home, "first") == easy and asked(home, "second") == MANY, "nothing was asked that could not be"
    total = daemon.totals()
    assert (total["delivered"], total["bounced"], total["waiting"]) == (easy + MANY, 0, 0) and not dsns(home)
    hard = daemon.attempts(home.seen.at("second")[0].recipient)
    assert [a["mx"] for a in hard] == ["mx.second.test"] and hard[0]["attempts"] == "1", "looking on is no attempt"


def test_each_need_leads_to_the_host_that_meets_it_by_one_connection_at_a_time(home):  # noqa: F811
    home.receiver("one", smtputf8=False)
    home.receiver("two", size=1500)
    home.receiver("three")
    home.dns.mx("three.test", "10 mx.one.test", "20 mx.two.test", "30 mx.three.test")
    daemon = home.daemon(group("default", retry=HOURLY, limits={"connections": 1}))
    for i in range(10):
        daemon.send(f"easy{i}@three.test")
        daemon.send(f"large{i}@three.test", body=LARGE)
        send_utf8(daemon, f"ärger{i}@three.test")
        send_utf8(daemon, f"öde{i}@three.test", body=LARGE)
    for name, initials, count in ("one", "el", 20), ("two", "ä", 10), ("three", "ö", 10):
        home.got(count, 30, at=name)
        assert {d.recipient[0] for d in home.seen.at(name)} == set(initials)
        assert asked(home, name) == count and home.seen.peak[name] == 1
    assert daemon.totals()["bounced"] == 0


def test_what_no_host_takes_is_returned_once_and_what_a_silent_one_may_take_waits(home):  # noqa: F811
    home.receiver("alone", "alone.test", smtputf8=False)
    home.receiver("other", smtputf8=False)
    home.dns.mx("both.test", "10 mx.alone.test", "20 mx.other.test")
    home.dns.mx("half.test", "10 mx.alone.test", "20 mx.dead.test")
    home.dns.a("mx.dead.test", home.net.address())  # nobody listens there
    daemon = home.daemon(group("default", retry=HOURLY))
    texts = {}
    for domain in ("alone.test", "both.test"):
        send_utf8(daemon, f"ä@{domain}")
        (last,) = wait_until(lambda: daemon.attempts(f"ä@{domain}"), what="the attempt")
        assert (last["result"], last["code"], last["enhanced"], last["attempts"]) == ("bounced", "550", "5.6.7", "1")
        texts[domain] = last["text"]
    assert texts["both.test"] == texts["alone.test"]
    wait_until(lambda: len(dsns(home)) >= 2, what="the notifications")
    send_utf8(daemon, "ä@half.test", "plain@half.test")
    (last,) = wait_until(lambda: daemon.attempts("ä@half.test"), what="the attempt")
    assert (last["result"], last["enhanced"]) == ("deferred", "4.4.1")
    assert re.search(r"connect to mx\.dead\.test.*; the other hosts lack what it needs", last["text"])
    assert [q["recipient"] for q in daemon.queued()] == ["ä@half.test"]
    assert [d.recipient for d in home.got(1, at="alone")] == ["plain@half.test"]
    assert [d.as_string().count("\nStatus: 5.6.7\n") for d in dsns(home)] == [1, 1]


def test_a_new_policy_while_mail_waits_for_the_other_host_loses_and_doubles_nothing(home):  # noqa: F811
    home.receiver("first", smtputf8=False)
    home.receiver("second", banner_delay_s=0.5)
    home.dns.mx("two.test", "10 mx.first.test", "20 mx.second.test")
    daemon = home.daemon(group("default", retry=HOURLY, limits={"connections": 2}))
    for i in range(20):
        send_utf8(daemon, f"ä{i}@two.test", headers=["TLS-Required: No"] * (i % 2))
    wait_until(lambda: "host.unfit" in daemon.log(), what="the first looked at")
    for comment in range(3):
        daemon.apply([group("default", retry=HOURLY, limits={"connections": 1 + comment})])
    assert len({d.recipient for d in home.got(20, 30, at="second")}) == 20
    assert asked(home, "first") == 0 and daemon.totals()["delivered"] == 20


# ---- whatever it asks of TLS ----

def first_words(world, name):
    """What is said of each message in its recipient, by session: no two kinds of mail ever share one."""
    sessions = {}
    for d in world.seen.at(name):
        sessions.setdefault(d.session, set()).add(d.recipient.partition("@")[0].rstrip("0123456789"))
    assert all(len(words) == 1 for words in sessions.values()), sessions
    return collections.Counter(d.recipient.partition("@")[0].rstrip("0123456789") for d in world.seen.at(name))


def test_tls_required_no_goes_to_the_next_host_in_clear_and_nothing_beside_it_does(home, certs):  # noqa: F811
    home.receiver("first", smtputf8=False)
    home.receiver("second", tls="none")
    home.receiver("third")
    home.dns.mx("three.test", "10 mx.first.test", "20 mx.second.test", "30 mx.third.test")
    daemon = home.daemon(group("default", starttls="verify", retry=HOURLY, tls={"ca_file": str(certs.ca_file)},
                               limits={"connections": 2}))
    for i in range(10):
        send_utf8(daemon, f"öptional{i}@three.test", headers=["TLS-Required: No"])
        send_utf8(daemon, f"söber{i}@three.test")
        daemon.send(f"optional{i}@three.test", headers=["TLS-Required: No"])
        daemon.send(f"plain{i}@three.test")
    home.got(40, 30)
    assert first_words(home, "first") == {"optional": 10, "plain": 10} and asked(home, "first") == 20
    assert first_words(home, "second") == {"öptional": 10} and {d.tls for d in home.seen.at("second")} == {"clear"}
    assert first_words(home, "third") == {"söber": 10} and {d.tls[:4] for d in home.seen.at("third")} == {"TLSv"}
    assert {d.tls[:4] for d in home.seen.at("first")} == {"TLSv"}
    assert daemon.totals()["bounced"] == 0 and not dsns(home)


@pytest.fixture
def signed_hosts(tmp_path, certs, request):
    """Names of mail hosts that DNSSEC proves: those without `requiretls` keep REQUIRETLS out."""
    require_signed_world()
    world = SecureWorld(tmp_path, certs)
    zone = world.zone("sec.test")
    for name, how in {"small": dict(size=1500, requiretls=True), "tight": dict(size=1500, requiretls=True),
                      "plain": {}, "strict": dict(requiretls=True)}.items():
        world.mail_host(name, f"mx.{name}.sec.test", **how)
        zone.add(f"mx.{name} A {world.address_of(name)}")
    zone.add(f"mx.dead A {world.net.address()}")  # nobody listens there
    for domain, hosts in {"all": ("small", "plain", "strict"), "back": ("plain", "small"), "none": ("small", "plain"),
                          "both": ("small", "tight"), "half": ("small", "dead")}.items():
        zone.add(*[f"{domain} MX {10 * i + 10} mx.{host}" for i, host in enumerate(hosts)])
    world.start()
    yield world, world.daemon(group("g", [".sec.test"], retry=HOURLY, tls={"ca_file": str(certs.ca_file)}))
    failed = getattr(request.node, "report_call", None) is None or request.node.report_call.failed
    world.stop(check=not failed)


def test_requiretls_goes_to_the_next_host_that_proves_itself_and_is_returned_when_none_does(signed_hosts):
    world, daemon = signed_hosts
    for i in range(4):
        submit(daemon, [f"required{i}@all.sec.test"], options=["REQUIRETLS"])
        submit(daemon, [f"large-required{i}@all.sec.test"], options=["REQUIRETLS"], body=LARGE)
        daemon.send(f"large{i}@all.sec.test", body=LARGE)
    world.got(4, 30, at="small")
    world.got(4, 30, at="plain")
    world.got(4, 30, at="strict")
    assert first_words(world, "small") == {"required": 4} and asked(world, "small") == 4
    assert first_words(world, "plain") == {"large": 4} and asked(world, "plain") == 4
    assert first_words(world, "strict") == {"large-required": 4}
    assert all("REQUIRETLS" in d.parameters.split() and d.tls.startswith("TLSv") for d in world.seen.at("strict"))

    for domain, code, text in (("back", "5.7.30", r"REQUIRETLS is asked for, but not offered by host mx\.plain\.sec\.test\[.*\]; the other"),
                               ("none", "5.7.30", r"REQUIRETLS is asked for, but not offered by host mx\.plain\.sec\.test\[.*\]; the other"),
                               ("both", "5.3.4", r"\(SIZE\)"),
                               ("half", "4.4.1", r"connect to mx\.dead\.sec\.test.*; the other hosts lack what it needs")):
        submit(daemon, [f"a@{domain}.sec.test"], options=["REQUIRETLS"], body=LARGE, notify=["NOTIFY=NEVER"])
        (last,) = wait_until(lambda: daemon.attempts(f"a@{domain}.sec.test"), what="the attempt")
        assert (last["result"], last["enhanced"], last["attempts"]) == ("deferred" if code[0] == "4" else "bounced", code, "1")
        assert re.search(text, last["text"])
    looks = [line for line in daemon.log().splitlines() if "host.unfit" in line and "to=a@" in line]
    assert [re.search(r"to=a@(\w+)\.sec\.test .*mx=mx\.(\w+)\.", line).groups() for line in looks] == [
        ("back", "small"), ("none", "small"), ("both", "small"), ("half", "small")], "each host once"
    assert [q["recipient"] for q in daemon.queued()] == ["a@half.sec.test"] and len(world.seen.deliveries) == 12
