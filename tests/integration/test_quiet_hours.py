"""Hours in which no mail to a group is begun."""

import datetime
import time

import pytest

from harness import group, stays, wait_until
from test_delivery import submit_many


def hours(begin, end, zone="Asia/Tokyo", ahead=9, **more):
    """Quiet hours from `begin` to `end` seconds from now, by the zone's clock."""
    now = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=ahead)))
    clock = lambda s: (now + datetime.timedelta(seconds=s)).strftime("%H:%M:%S")
    return {"from": clock(begin), "to": clock(end), "time_zone": zone, "spread": 0, **more}


@pytest.mark.parametrize("workers", [1, 4])
def test_mail_waits_for_the_end_and_others_do_not(world, workers):
    world.receiver("night", *[f"n{i}.test" for i in range(8)])
    world.receiver("day", "day.test")
    rules = lambda end: [group("night", [f"n{i}.test" for i in range(8)], quiet_hours=hours(-3600, end)),
                         group("day", ["day.test"], quiet_hours=hours(3600, 7200, "UTC", 0))]
    daemon = world.daemon(*rules(3600), workers=workers)
    submit_many(daemon, [f"r{i}@n{i % 8}.test" for i in range(40)] + [f"r{i}@day.test" for i in range(10)])
    wait_until(lambda: len(world.seen.at("day")) == 10, what="the mail of others")
    about = daemon.json("explain", "n0.test")["quiet_hours"]
    assert about["quiet"] is True and about["time_zone"] == "Asia/Tokyo"
    assert 3500 <= about["changes_unix"] - time.time() <= 3601
    assert "nothing is begun; they end in " in daemon.hayauma("explain", "n0.test")
    assert "group night has quiet hours" in daemon.hayauma("status")
    assert daemon.json("status")["groups"]["day"]["quiet_hours"]["quiet"] is False
    daemon.hayauma("queue", "retry", "--group", "night")
    stays(lambda: not world.seen.sessions["night"], 1, "silence, in all workers")
    assert len(daemon.queued()) == 40
    wait_until(lambda: not daemon.json("status")["groups"]["night"].get("jobs_in_memory"), what="all of it on disk")
    # They end by the clock, without a word from anybody.
    daemon.apply(rules(4))
    ends = daemon.json("explain", "n0.test")["quiet_hours"]["changes_unix"]
    world.got(50, 30)
    assert min(d.time for d in world.seen.at("night")) >= ends - 0.01
    assert max(d.time for d in world.seen.at("night")) <= ends + 10


def test_they_begin_under_way_and_retries_are_due_at_their_end(world):
    world.receiver("night", "n.test", delay_s=0.2, replies={"RCPT": lambda s, a: "451 4.7.1 later" if "later" in a else None})
    retry = {"schedule": ["5s"], "jitter": "0%", "lifetime": "1h"}
    night, now = hours(4, 12, "UTC", 0), int(time.time())
    daemon = world.daemon(group("night", ["n.test"], limits={"connections": 1}, quiet_hours=night, retry=retry))
    begins, ends = now + 4, now + 12  # or a second earlier: `night` was made just before
    submit_many(daemon, ["later@n.test"] + [f"r{i}@n.test" for i in range(60)])
    wait_until(lambda: time.time() > begins + 2, what="the hours")
    sent = len(world.seen.deliveries)
    assert 1 <= sent < 60
    assert max(d.time for d in world.seen.deliveries) <= begins + 2
    stays(lambda: len(world.seen.deliveries) == sent, 2, "nothing more is begun")
    (later,) = daemon.queued(recipient="later@n.test")
    assert later["due_unix"] in (ends - 1, ends), "5 s after the attempt it is quiet"
    world.receivers.change("night", delay_s=0, replies={})
    world.got(61, 30)
    assert min(d.time for d in world.seen.deliveries[sent:]) >= ends - 1


def test_the_hours_count_for_nobodys_age(world):
    """Older than its lifetime, but not awake for so long; the same without quiet hours is given up."""
    world.receiver("busy", "a.test", "b.test", replies={"RCPT": "451 4.7.1 later"})
    retry = {"schedule": ["1s"], "jitter": "0%", "lifetime": "5s"}
    began = time.time()
    daemon = world.daemon(group("a", ["a.test"], retry=retry, quiet_hours=hours(2, 13)), group("b", ["b.test"], retry=retry))
    daemon.send("r@a.test")
    daemon.send("r@b.test")
    wait_until(lambda: daemon.totals()["expired"] == 1, 20, what="the end of what has no quiet hours")
    assert len(daemon.queued(recipient="r@a.test", state="waiting")) == 1
    world.receivers.change("busy", replies={})
    world.got(1, 20)
    assert world.seen.deliveries[0].time >= began + 12
    assert daemon.totals()["delivered"] == 1 and daemon.totals()["expired"] == 1


def test_connections_come_back_one_by_one_within_the_spread(world):
    world.receiver("night", *[f"n{i}.test" for i in range(8)], delay_s=0.1)
    daemon = world.daemon(group("night", [f"n{i}.test" for i in range(8)], limits={"connections": 20},
                                quiet_hours=hours(-3600, 2, spread="6s")), workers=2)
    ends = daemon.json("explain", "n0.test")["quiet_hours"]["changes_unix"]
    submit_many(daemon, [f"r{i}@n{i % 8}.test" for i in range(150)])
    wait_until(lambda: time.time() > ends + 1.5, 20, what="the end")
    assert 1 <= world.seen.peak["night"] <= 7, "a quarter of the spread: 6 of 20, and one that races"
    wait_until(lambda: "quiet_hours.spread" in daemon.json("status")["groups"]["night"].get("limited_by", {}) or
               time.time() > ends + 6, what="status names it")
    world.got(150, 60)
    assert 8 <= world.seen.peak["night"] <= 20


def test_a_zone_that_the_host_does_not_know_is_refused(world):
    daemon = world.daemon()
    text = daemon.policy_text([group("g", ["g.test"], quiet_hours=hours(0, 60, "Asia/Nowhere"))])
    (error,) = daemon.api("/api/v1/policy/check", "POST", text)["errors"]
    assert "knows no zone Asia/Nowhere" in error["text"]
    for wrong, says in (({"from": "25:00"}, "not a time of day"), ({"time_zone": "../x"}, "not a time zone"),
                        ({"to": None}, "a time of day"), ({"from": "01:00", "to": "01:00"}, "never or always")):
        text = daemon.policy_text([group("g", ["g.test"], quiet_hours={**hours(0, 60), **wrong})])
        errors = daemon.api("/api/v1/policy/check", "POST", text)["errors"]
        assert any(says in e["text"] for e in errors), errors
