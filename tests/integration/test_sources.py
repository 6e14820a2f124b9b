"""Pools of source addresses: whose turn it is, what this host does not have, and warm-up; counted at the receivers."""

import collections
import re
import time

import pytest

from harness import HOURLY, PATIENCE, group, wait_until
from test_delivery import submit_many

NOWHERE = "192.0.2.77"  # no host has it: RFC 5737


def pool_policy(daemon, addresses, groups, warmup=None):
    """The document with one pool, and groups that send from it."""
    pool = {"name": "out", "addresses": addresses, **({"warmup": warmup} if warmup else {})}
    text = daemon.policy_text([{**g, "source": {"pool": "out"}} for g in groups])
    return "{" + f'"sources": {__import__("json").dumps([pool])},' + text.lstrip()[1:]


def start(world, addresses, *groups, warmup=None, **config):
    daemon = world.daemon(start=False, **config)
    daemon.policy_file.write_text(pool_policy(daemon, addresses, groups, warmup))
    return daemon.start()


def by_source(world):
    return collections.Counter(d.peer.rsplit(":", 1)[0] for d in world.seen.deliveries)


def sources(daemon):
    return {s["address"]: s for s in daemon.json("source", "list")["sources"]}


@pytest.mark.parametrize("connections", [2, 40])
def test_addresses_share_the_messages_by_weight_over_all_workers_and_give_their_own_names(world, connections):
    a, b = world.net.address(), world.net.address()
    names = {}

    def on_ehlo(session, rest):
        names.setdefault(session.peer.rsplit(":", 1)[0], set()).add(rest)

    world.receiver("w", *[f"d{i}.test" for i in range(8)], tls="none", replies={"EHLO": on_ehlo})
    daemon = start(world, [{"address": a, "ehlo_name": "a.out.example", "weight": 3}, {"address": b}],
                   group("default", ehlo_name="all.out.example", limits={"connections": connections}), workers=4)
    submit_many(daemon, [f"r{i}@d{i % 8}.test" for i in range(400)])
    world.got(400, 60)
    count = by_source(world)
    assert set(count) == {a, b}
    assert 260 <= count[a] <= 340, count
    assert names == {a: {"a.out.example"}, b: {"all.out.example"}}
    assert {k: s["groups"][0]["ehlo_name"] for k, s in sources(daemon).items()} == {a: "a.out.example", b: "all.out.example"}
    assert re.search(rf"{b} +all\.out\.example", daemon.hayauma("source", "list"))
    report = {r["source"]: r for r in daemon.json("report", "delivery", "--by", "source")["rows"]}
    assert {k: r["delivered"] for k, r in report.items()} == dict(count)
    attempt = daemon.api("/api/v1/explain/r0@d0.test")["attempts"][-1]
    assert attempt["ehlo_name"] == {a: "a.out.example", b: "all.out.example"}[attempt["source"]]


def test_an_address_that_this_host_does_not_have_is_reported_and_left_out(world):
    here = world.net.address()
    world.receiver("h", "h.test", tls="none")
    daemon = start(world, [NOWHERE, here], group("default", retry=HOURLY))
    submit_many(daemon, [f"r{i}@h.test" for i in range(20)])
    world.got(20)
    assert by_source(world) == {here: 20}
    listed = sources(daemon)
    assert listed[here]["usable"] and not listed[NOWHERE]["usable"] and "assign" in listed[NOWHERE]["why"]
    assert [s["address"] for s in daemon.api("/api/v1/status")["sources"]["unusable"]] == [NOWHERE]
    assert f'hayauma_source_usable{{pool="out",address="{NOWHERE}"}} 0' in daemon.api("/metrics")
    assert any(c["check"] == "source" and c["level"] == "fail" and NOWHERE in c["text"]
               for c in daemon.api("/api/v1/doctor")["checks"])
    assert daemon.log().count("source.unusable") == 1
    assert f"nothing leaves from {NOWHERE}" in daemon.hayauma("status")
    assert f"{NOWHERE}: Cannot assign" in daemon.hayauma("explain", "h.test")


def test_without_any_usable_address_mail_waits_and_goes_when_there_is_one(world):
    here = world.net.address()
    world.receiver("h", "h.test", tls="none")
    daemon = start(world, [NOWHERE], group("default"))
    submit_many(daemon, ["r@h.test"])
    wait_until(lambda: daemon.attempts("r@h.test"), what="an attempt")
    first = daemon.attempts("r@h.test")[0]
    assert first["result"] == "deferred" and NOWHERE in first["text"] and first["enhanced"] == "4.3.5"
    time.sleep(0.5)
    assert not world.seen.deliveries and not world.seen.sessions["h"], "it never left from another address"
    daemon.api("/api/v1/policy", "POST", pool_policy(daemon, [NOWHERE, here], [group("default")]))
    world.got(1)
    assert by_source(world) == {here: 1}


def test_a_groups_own_address_that_this_host_does_not_have_is_named(world):
    world.receiver("h", "h.test", tls="none")
    daemon = world.daemon(group("default", retry=HOURLY, source={"ipv4": NOWHERE}))
    submit_many(daemon, ["r@h.test"])
    (attempt,) = wait_until(lambda: daemon.attempts("r@h.test"), what="the attempt")
    assert (attempt["result"], attempt["enhanced"]) == ("deferred", "4.3.5")
    assert f"the source address {NOWHERE} cannot be bound" in attempt["text"]
    assert not world.seen.sessions["h"]


def test_a_host_of_a_family_that_the_pool_does_not_have_is_passed_over_and_explain_says_so(world):
    here = world.net.address()
    world.receiver("two", "two.test", tls="none")
    world.dns.aaaa("mx.two.test", "::1")
    daemon = start(world, [here], group("default", retry=HOURLY))
    submit_many(daemon, [f"r{i}@two.test" for i in range(5)])
    world.got(5)
    facts = daemon.api("/api/v1/explain/two.test")
    assert facts["source_pool"] == "out" and facts["hosts"][0]["without_source"] == ["::1"]
    assert "::1" in daemon.hayauma("explain", "two.test")
    assert "connect to" not in daemon.log()


@pytest.mark.parametrize("workers", [1, 4])
def test_connections_and_rates_by_source_hold_for_each_address_of_a_pool(world, workers):
    a, b = world.net.address(), world.net.address()
    world.receiver("r", *[f"d{i}.test" for i in range(4)], tls="none")
    daemon = start(world, [a, b], group("default", limits={"connections_per_source": 2, "messages_per_second_per_source": 20}),
                   workers=workers)
    submit_many(daemon, [f"r{i}@d{i % 4}.test" for i in range(120)])
    world.got(120, 30)
    assert world.seen.peak["r"] <= 4
    for address in (a, b):
        t = sorted(d.time for d in world.seen.deliveries if d.peer.startswith(address + ":"))
        assert len(t) >= 40
        assert t[-1] - t[0] >= (len(t) - 2) / 20 * 0.9


@pytest.mark.serial
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_step_sends_its_number_in_each_period_over_all_workers_and_a_restart(world, how):
    a = world.net.address()
    period = 8 * PATIENCE
    world.receiver("r", *[f"d{i}.test" for i in range(4)], tls="none", delay_s=0.05)
    daemon = start(world, [a], group("default", limits={"connections": 4}), workers=4,
                   warmup={"steps": [50, 60], "per": f"{period:.0f}s", "max_refused": "100%"})
    submit_many(daemon, [f"r{i}@d{i % 4}.test" for i in range(150)])
    wait_until(lambda: len(world.seen.deliveries) >= 15, what="the first")
    getattr(daemon, how)()
    daemon.start()
    wait_until(lambda: len(world.seen.deliveries) >= (50 if how == "stop" else 40), period - 2, what="the step")
    time.sleep(1)
    first = len(world.seen.deliveries)
    assert first == 50 if how == "stop" else first <= 50
    wait_until(lambda: "warmup" in daemon.api("/api/v1/status")["groups"]["default"].get("limited_by", {}),
               what="status names the limit")
    state = sources(daemon)[a]["groups"][0]["warmup"]
    assert (state["step"], state["steps"], state["taken"], state["left"]) == (1, 2, 50, 0)
    if how == "stop":
        wait_until(lambda: len(world.seen.deliveries) >= 110, 2 * period, what="the second step")
        time.sleep(0.5)
        assert len(world.seen.deliveries) == 110
        assert world.seen.deliveries[50].time - world.seen.deliveries[0].time >= period - 0.5
        world.got(150, 2 * period)
        assert sources(daemon)[a]["groups"][0]["warmup"]["state"] == "warm"


def test_refusals_take_a_step_back_and_the_rest_goes_by_the_warm_addresses(world):
    cold, warm = world.net.address(), world.net.address()

    def on_rcpt(session, _):
        return "450 4.7.1 too much mail from your address" if session.peer.startswith(cold + ":") else None

    world.receiver("r", "r.test", tls="none", replies={"RCPT": on_rcpt})
    daemon = start(world, [{"address": cold, "warmup": {"steps": [10, 20, 30], "per": "1h", "on_refused": "back",
                                                        "min_attempts": 4}}, warm],
                   group("default", limits={"connections": 2}), workers=1)
    daemon.hayauma("source", "warmup", "step", cold, "2")
    submit_many(daemon, [f"r{i}@r.test" for i in range(60)])
    world.got(60, 30)
    assert by_source(world) == {warm: 60}
    state = sources(daemon)[cold]["groups"][0]["warmup"]
    assert state["state"] == "stopped" and state["step"] == 1 and 4 <= state["refused"] <= 20
    assert daemon.log().count("what=back") == 1
    listed = f"{cold} .*warm-up held at step 1|warm-up held at step 1.*{cold}"
    for restarted in range(2):  # an event like every automatic change: with its reply, its end, over a kill
        (event,) = daemon.json("shaping", "list")["events"]
        assert (event["what"], event["scope"], event["source"], event["by"]) == ("warmup_step", "source", cold, "warmup")
        assert (event["group"], event["value"], event["returns_to"], event["code"]) == ("default", 1, 2, 450)
        assert event["text"] == "too much mail from your address" and "refused in a period" in event["detail"]
        assert 3000 < event["seconds_left"] <= 3600
        assert re.search(listed, daemon.hayauma("shaping", "list"))
        assert f"{cold}: warm-up held at step 1" in daemon.hayauma("status")
        assert "warm-up held at step 1" in daemon.hayauma("explain", "r.test")
        if not restarted:
            daemon.kill()
            daemon.start()
    assert "1 event cleared" in daemon.hayauma("shaping", "clear", str(event["id"]))
    state = sources(daemon)[cold]["groups"][0]["warmup"]
    assert (state["state"], state["step"], state["refused"]) == ("warming", 2, 0)
    assert not daemon.json("shaping", "list")["events"]
    daemon.hayauma("source", "warmup", "hold", cold)
    daemon.hayauma("source", "warmup", "step", cold, "3")
    state = sources(daemon)[cold]["groups"][0]["warmup"]
    assert (state["state"], state["step"], state["left"]) == ("held", 3, 30)
    daemon.hayauma("source", "warmup", "resume", cold)
    assert sources(daemon)[cold]["groups"][0]["warmup"]["state"] == "warming"
    daemon.hayauma("source", "warmup", "hold", warm, code=1)
