"""What the engine imposes on a receiver by itself: seen, over a restart, by hand, and only on whom it concerns."""

import time

import pytest

from harness import HOURLY, PATIENCE, group, stays, wait_until
from test_delivery import submit_many

SOON = {"schedule": ["1s"], "jitter": "0%", "lifetime": "1h"}


def events(daemon, *which):
    return daemon.json("shaping", "list", *which)["events"]


def one_event(daemon, what="", *which):
    """The only event in force, once there is one; a first refusal may let the site rest as well."""
    wanted = lambda: [e for e in events(daemon, *which) if e["what"] == what or e["what"] != "resting"]
    (found,) = wait_until(wanted, what="an event")
    assert found["what"] == what, found
    return found


def metric(daemon, line):
    """The number behind a metric's name and labels; 0 where it is not shown."""
    rows = [row.rpartition(" ") for row in daemon.api("/metrics").splitlines()]
    return sum(float(value) for name, _, value in rows if name == line)


@pytest.mark.parametrize("end", ["SIGTERM", "kill -9"])
def test_a_suspension_outlives_the_daemon_and_ends_by_hand_at_once(world, end):
    world.receiver("busy", "busy.test", "also.test", replies={"MAIL": "421 4.7.0 too much from you"})
    world.receiver("fine", "fine.test")
    daemon = world.daemon(group("g", ["busy.test", "also.test", "fine.test"], retry=SOON,
                                replies=[{"code": 421, "stage": "mail", "suspend": "1h"}]), workers=4)
    daemon.send("a@busy.test")
    before = one_event(daemon, "suspended")
    assert before["by"] == "rule" and before["group"] == "g" and before["mx"] == "mx.busy.test" and before["code"] == 421
    assert before["text"] == "too much from you" and before["stage"] == "mail" and before["scope"] == "site"
    assert 3590 <= before["seconds_left"] <= 3600 and abs(before["since_unix"] - time.time()) < 30
    world.receivers.change("busy", replies={})
    time.sleep(0.3)  # it is written behind the answer
    if end == "SIGTERM":
        daemon.stop()
    else:
        daemon.kill()
    daemon.start()
    after = one_event(daemon, "suspended")
    same = ("id", "group", "hosts", "line", "since_unix", "code", "enhanced", "stage", "text")
    assert {k: after[k] for k in same} == {k: before[k] for k in same}
    assert abs(after["until_unix"] - before["until_unix"]) <= 1
    submit_many(daemon, [f"r{i}@{d}.test" for d in ("busy", "also", "fine") for i in range(10)])
    wait_until(lambda: len(world.seen.at("fine")) == 10, what="the mail of the same group to others")
    sessions = world.seen.sessions["busy"]
    stays(lambda: not world.seen.at("busy") and world.seen.sessions["busy"] == sessions, 1.5, "silence")
    assert metric(daemon, 'hayauma_shaping_in_force{group="g",what="suspended"}') == 1
    status = daemon.json("status")
    assert status["shaping"]["in_force"] == 1 and status["shaping"]["newest"]["id"] == after["id"]
    assert [e["id"] for e in status["groups"]["g"]["shaping"]] == [after["id"]]
    assert [e["id"] for e in daemon.json("explain", "busy.test")["shaping"]] == [after["id"]]
    assert daemon.json("explain", "fine.test")["shaping"] == [] == events(daemon, "--domain", "fine.test")
    assert "too much from you" in daemon.hayauma("explain", "also.test") and "suspended" in daemon.hayauma("shaping", "list")
    daemon.hayauma("shaping", "clear", str(after["id"] + 1), code=1)
    assert daemon.json("shaping", "clear", "--domain", "fine.test") == {"cleared": 0}
    began = time.time()
    assert daemon.json("shaping", "clear", str(after["id"])) == {"cleared": 1}
    wait_until(lambda: len(world.seen.at("busy")) == 21, 10, "all that waited")
    assert world.seen.at("busy")[0].time - began < 2
    assert events(daemon) == [] and metric(daemon, 'hayauma_shaping_in_force{group="g",what="suspended"}') == 0
    log = daemon.log()
    assert log.count(" what=suspended value=") == 1 and log.count(" what=suspended group=") == 1 and "cleared by" in log
    daemon.stop()
    daemon.start()
    assert events(daemon) == []


STEP = f"{int(3 * PATIENCE)}s"
HALVING = {"adaptive": {"adaptive": {"storm_replies": 20, "recover_after": STEP}},
           "rule": {"adaptive": "off", "replies": [{"text": "slow down", "back_off": STEP}]}}


def test_a_limit_of_connections_holds_from_the_first_one_after_a_restart(world):
    refusals = []

    def once(session, argument):
        if not refusals:
            refusals.append(argument)
            return "451 4.7.0 too many connections"

    world.receiver("r", *[f"r{i}.test" for i in range(12)], delay_s=0.02, replies={"RCPT": once})
    daemon = world.daemon(group("default", retry=SOON, replies=[{"text": "too many", "limit_connections": 2, "for": "1h"}]),
                          workers=4)
    daemon.send("first@r0.test")
    event = one_event(daemon, "connections")
    time.sleep(0.3)  # it is written behind the answer
    daemon.kill()
    daemon.start()
    assert one_event(daemon, "connections")["id"] == event["id"]
    submit_many(daemon, [f"x{i}@r{i % 12}.test" for i in range(80)])
    world.got(81, 60)
    assert world.seen.peak["r"] == 2


@pytest.mark.parametrize("workers, by", [(2, "adaptive"), (4, "adaptive"), (4, "rule")])
def test_halved_connections_are_never_exceeded_come_back_in_steps_and_leave_the_group_alone(world, workers, by):
    slow = {"RCPT": "451 4.7.0 rate limit exceeded, slow down"}
    world.receiver("busy", *[f"busy{i}.test" for i in range(8)], delay_s=0.05, replies=slow)
    world.receiver("fine", "fine.test")
    daemon = world.daemon(group("g", [f"busy{i}.test" for i in range(8)] + ["fine.test"], retry=SOON,
                                limits={"connections": 16}, timeouts={"idle": "1s"}, **HALVING[by]), workers=workers)
    submit_many(daemon, [f"x{i}@busy{i % 8}.test" for i in range(120)])
    event = one_event(daemon, "connections", "--group", "g")
    world.receivers.change("busy", replies={})
    assert event["by"] == by and (event["line"] > 0) == (by == "rule") and "slow down" in event["text"]
    most = event["value"]
    assert 1 <= most <= world.seen.peak["busy"] / 2 <= 8
    wait_until(lambda: world.seen.open["busy"] <= most, 10, "fewer connections")
    assert len(events(daemon)) == 1 and events(daemon)[0]["value"] == most
    world.seen.peak["busy"] = world.seen.open["busy"]
    submit_many(daemon, [f"y{i}@fine.test" for i in range(20)])
    wait_until(lambda: len(world.seen.at("fine")) == 20, 5, "the mail of the same group to others")
    submit_many(daemon, [f"z{i}@busy{i % 8}.test" for i in range(80)])
    while True:
        peak, now = world.seen.peak["busy"], events(daemon)
        if not now or now[0]["value"] != most:
            break
        assert peak <= most, "one connection more than were left"
        time.sleep(0.02)
    assert not now or (now[0]["id"] == event["id"] and most < now[0]["value"] <= 2 * most)
    world.got(220, 60)
    wait_until(lambda: not events(daemon), 30, "the end of it")
    wait_until(lambda: " shaping.end " in daemon.log(), 30, "the worker that tells of the end")
    assert daemon.log().count(" shaping.begin ") == 1 and daemon.log().count(" shaping.end ") == 1


def test_a_storm_that_goes_on_at_one_connection_slows_the_rate(world):
    world.receiver("busy", "busy.test", replies={"RCPT": "451 4.7.0 slow down"})
    daemon = world.daemon(group("g", ["busy.test"], retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "1h"},
                                limits={"connections": 1}, adaptive={"storm_replies": 5, "recover_after": "1h"}))
    submit_many(daemon, [f"x{i}@busy.test" for i in range(60)])
    wait_until(lambda: [e["what"] for e in events(daemon)] == ["messages_per_second", "connections"], 20, "a slower rate")
    world.receivers.change("busy", replies={})
    rate = events(daemon)[0]["value"]
    assert events(daemon)[1]["value"] == 1
    wait_until(lambda: len(world.seen.deliveries) >= 3, 20, "some mail")
    first = world.seen.deliveries[0].time
    time.sleep(2)
    after = [d for d in world.seen.deliveries if d.time > first]
    assert len(after) <= rate * (time.time() - first) * 1.1 + 1, (rate, len(after))
    assert daemon.json("shaping", "clear", "--all") == {"cleared": 2}
    world.got(60, 15)


def test_a_receiver_that_refuses_connections_keeps_those_that_stand(world):
    """It takes three; each other one meets 421 in place of a greeting."""
    world.receiver("small", *[f"small{i}.test" for i in range(6)], max_connections=3, delay_s=0.1)
    daemon = world.daemon(group("g", [f"small{i}.test" for i in range(6)], retry=SOON, timeouts={"idle": "30s"}), workers=1)
    submit_many(daemon, [f"x{i}@small{i % 6}.test" for i in range(30)])
    wait_until(lambda: any(e.get("value", 9) <= 3 for e in events(daemon)), what="three are left, or half of what was tried")
    event = one_event(daemon, "connections")
    assert event["by"] == "adaptive" and event["stage"] == "greeting"
    assert event["text"] == "too many connections" and event["code"] == 421
    sessions = world.seen.sessions["small"]
    world.got(30, 30)
    assert world.seen.sessions["small"] - sessions <= 2, "no more were tried"
    wait_until(lambda: daemon.totals()["delivered"] == 30, what="the books")


def test_a_host_out_of_step_is_remembered_over_a_restart_until_it_is_cleared(world):
    early = []

    def on_dot(session, _):
        session.early = len(session.buf) > 0

    def on_mail(session, _):
        if getattr(session, "early", False):
            early.append(time.time())
            return "503 5.5.1 one at a time"

    world.receiver("step", "step.test", banner_delay_s=0.5, replies={"DOT": on_dot, "MAIL": on_mail})
    daemon = world.daemon(group("s", ["step.test"], pipelining="full", retry=HOURLY, limits={"connections": 1},
                                timeouts={"idle": "500ms"}), workers=1)
    submit_many(daemon, [f"r{i}@step.test" for i in range(20)])
    world.got(20, 20)
    event = one_event(daemon, "pipelining")
    assert event["scope"] == "host" and event["mx"] == "mx.step.test" and "until_unix" not in event
    time.sleep(0.3)
    daemon.kill()
    daemon.start()
    assert one_event(daemon, "pipelining")["id"] == event["id"]
    submit_many(daemon, [f"s{i}@step.test" for i in range(20)])
    world.got(40, 20)
    assert len(early) == 1, "it was seen once, and remembered"
    assert daemon.json("shaping", "clear", "--domain", "step.test") == {"cleared": 1}
    wait_until(lambda: world.seen.open["step"] == 0, 30, "the next connection")
    submit_many(daemon, [f"t{i}@step.test" for i in range(20)])
    world.got(60, 20)
    assert len(early) == 2


def test_a_rule_meets_its_stage_and_no_other(world):
    refusals = {"greeting": ("CONNECT", "421 4.3.2 no"), "ehlo": ("EHLO", "421 4.3.2 no"), "mail": ("MAIL", "451 4.3.2 no"),
                "rcpt": ("RCPT", "450 4.2.1 no"), "data": ("DATA", "451 4.3.2 no"), "dot": ("DOT", "452 4.3.1 no")}
    for stage, (when, reply) in refusals.items():
        world.receiver(stage, f"{stage}.test", chunking=False, replies={when: reply})
    world.receiver("starttls", "starttls.test", starttls_reply="454 4.7.0 no")
    world.receiver("fine", "fine.test")
    world.dns.a("mx.connect.test", world.net.address())  # nobody listens
    world.dns.mx("connect.test", "10 mx.connect.test")
    stages = ["connect", *refusals, "starttls"]
    rules = [{"stage": stage, "suspend": f"{i + 1}h"} for i, stage in enumerate(stages)]
    daemon = world.daemon(group("g", [f"{s}.test" for s in [*stages, "fine"]], retry=HOURLY, replies=rules))
    for stage in [*stages, "fine"]:
        daemon.send(f"a@{stage}.test")
    suspended = lambda: {e["mx"]: e for e in events(daemon) if e["what"] == "suspended"}
    wait_until(lambda: len(suspended()) == len(stages), what="a suspension for each stage")
    for i, stage in enumerate(stages):
        event = suspended()[f"mx.{stage}.test"]
        assert event["stage"] == stage and (i + 1) * 3600 - 60 <= event["seconds_left"] <= (i + 1) * 3600
    world.got(1, at="fine")
    assert len(world.seen.deliveries) == 1, "also what could have gone in clear waits"


def test_a_receiver_without_an_answer_is_left_alone_until_that_is_cleared(world):
    address = world.net.address()
    world.dns.a("mx.dead.test", address)
    world.dns.mx("dead.test", "10 mx.dead.test")
    daemon = world.daemon(group("g", ["dead.test"], retry=HOURLY))
    daemon.send("a@dead.test")
    event = one_event(daemon, "resting")
    assert event["by"] == "adaptive" and event["failures"] == 1 and event["stage"] == "connect" and "refused" in event["text"]
    assert 3500 <= event["seconds_left"] <= 3600
    world.receiver("dead", "dead.test", address=address, host="mx.dead.test")
    daemon.send("b@dead.test")
    stays(lambda: world.seen.sessions["dead"] == 0, 1, "it is left alone")
    assert daemon.json("shaping", "clear", "--group", "g") == {"cleared": 1}
    world.got(1, 5)
    assert world.seen.deliveries[0].recipient == "b@dead.test" and events(daemon) == []


def test_a_reply_is_one_however_many_recipients_it_is_about(world):
    """To MAIL, when it ends the only connection, and to the dot, on one that stands."""
    refusals = []

    def later(session, _):
        if len(refusals) < 3:
            refusals.append(session.id)
            return "451 4.3.2 later"

    world.receiver("ends", "ends.test", replies={"MAIL": "421 4.3.2 later"})
    world.receiver("goes", "goes.test", replies={"DOT": later})
    daemon = world.daemon(group("g", ["ends.test", "goes.test"], retry=HOURLY))
    for _ in range(3):
        daemon.send(*[f"x{i}@goes.test" for i in range(30)])
    daemon.send(*[f"x{i}@ends.test" for i in range(30)])
    wait_until(lambda: daemon.json("status")["counters"]["deferred"] == 120, what="the refusals")
    assert one_event(daemon, "resting")["mx"] == "mx.ends.test" and world.seen.sessions["ends"] == 1


def test_adaptive_off_imposes_nothing_and_ends_what_was(world):
    world.receiver("busy", "busy.test", replies={"RCPT": "451 4.7.0 slow down"})
    settings = {"match": ["busy.test"], "retry": HOURLY}
    daemon = world.daemon(group("g", adaptive={"storm_replies": 5, "recover_after": "1h"}, **settings))
    submit_many(daemon, [f"x{i}@busy.test" for i in range(20)])
    one_event(daemon, "connections")
    daemon.apply([group("g", adaptive="off", **settings)])
    submit_many(daemon, [f"y{i}@busy.test" for i in range(20)])
    wait_until(lambda: len(world.seen.refusals) == 40, what="the refusals")
    assert events(daemon) == []
    assert "adaptive: off" in daemon.api("/api/v1/explain/busy.test")["settings"]


def test_who_has_no_connection_waits_for_his_turn_while_others_stand(world):
    """It takes three, whichever workers they belong to: nobody's mail is deferred, and everybody has his turn."""
    domains = [f"small{i}.test" for i in range(8)]
    world.receiver("small", *domains, max_connections=3, delay_s=0.02)
    daemon = world.daemon(group("g", domains, retry=HOURLY, limits={"connections": 16}, timeouts={"idle": "30s"},
                                adaptive={"recover_after": "1h"}), workers=4)
    daemon.send("first@small0.test")
    wait_until(lambda: world.seen.deliveries, what="a session")
    submit_many(daemon, [f"x{i}@small{i % 8}.test" for i in range(80)])
    world.got(81, 60)
    (event,) = [e for e in events(daemon) if e["what"] == "connections"]
    assert event["stage"] == "greeting" and event["text"] == "too many connections" and 1 <= event["value"] <= 3
    wait_until(lambda: daemon.totals()["delivered"] == 81, what="the books")
    assert daemon.json("status")["counters"]["deferred"] == 0


def test_a_storm_of_refused_connections_halves_them_and_they_come_back_in_steps(world):
    """Eight stand; it ends every other one, and refuses those that follow.  That no reply makes the storm, the rule sees to."""
    order, refusals, night = [], [], []

    def greet(session, _):
        if night:
            refusals.append(session.id)
            return "421 4.3.2 no more connections"
        order.append(session.id)

    def mail(session, _):
        return "421 4.3.2 good night" if night and order.index(session.id) % 2 else None

    domains = [f"busy{i}.test" for i in range(4)]
    world.receiver("busy", *domains, delay_s=0.02, replies={"CONNECT": greet, "MAIL": mail})
    daemon = world.daemon(group("g", domains, retry=SOON, limits={"connections": 8},
                                adaptive={"storm_replies": 1000, "recover_after": STEP}), workers=1)
    submit_many(daemon, [f"x{i}@busy{i % 4}.test" for i in range(400)])
    wait_until(lambda: world.seen.open["busy"] == 8, what="all connections")
    night.append(True)
    halved = lambda: [e for e in events(daemon) if e["what"] == "connections" and e["value"] <= 4]
    (event,) = wait_until(halved, what="half of them")
    night.clear()
    assert event["text"] == "no more connections" and event["returns_to"] >= 5 and len(refusals) >= 2
    now = wait_until(lambda: [e for e in [*events(daemon), None] if not e or e["value"] > event["value"]], 30, "a step back up")
    assert not now[0] or now[0]["value"] <= 2 * event["value"]
    world.got(400, 60)
    wait_until(lambda: not events(daemon), 30, "the end of it")
    assert world.seen.peak["busy"] == 8
