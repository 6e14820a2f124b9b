"""A mail host that lacks what a message needs is passed over for the next one (RFC 5321 5.1), and only by that message."""

import re

import pytest

from harness import HOURLY, SENDER, Raw, compose, group, wait_until
from test_delivery import dsns, home  # noqa: F401

LARGE = "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 100
MANY = 30


def send_utf8(daemon, *recipients, body="Hello\r\n"):
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")
        raw.ok(f"MAIL FROM:<{SENDER}> SMTPUTF8 BODY=8BITMIME")
        for recipient in recipients:
            raw.ok(f"RCPT TO:<{recipient}>")
        raw.ok("DATA", 354)
        raw.send(compose(["list@origin.example"], body=body)[1])
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
        send_utf8(daemon, f"ä{i}@two.test")
    wait_until(lambda: "host.unfit" in daemon.log(), what="the first looked at")
    for comment in range(3):
        daemon.apply([group("default", retry=HOURLY, limits={"connections": 1 + comment})])
    assert len({d.recipient for d in home.got(20, 30, at="second")}) == 20
    assert asked(home, "first") == 0 and daemon.totals()["delivered"] == 20
