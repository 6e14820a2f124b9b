"""Rules about replies: what a receiver says changes what is sent to it, and only to it."""

import json
import threading
import time

import pytest

from harness import group, stays, wait_until
from test_delivery import dsns, home, status_of, submit_many  # noqa: F401

SLOW = {"schedule": ["1h"], "jitter": "0%", "lifetime": "2d"}


def with_replies(daemon, *rules):
    """The daemon's policy with rules for the whole document; before its start."""
    document = json.loads(daemon.policy_text())
    document["replies"] = list(rules)
    daemon.policy_file.write_text(json.dumps(document, indent=1) + "\n")
    daemon.start()
    return daemon


def test_a_temporary_refusal_may_be_final_and_a_permanent_one_may_not(home):  # noqa: F811
    answers = {"full": "452 4.2.2 mailbox full", "other": "452 4.3.1 no room", "odd": "550 5.7.1 we think this is odd"}
    home.receiver("r", "r.test", unknown_prefix="", replies={"RCPT": lambda s, a: answers[a.partition("<")[2].partition("@")[0]]})
    daemon = home.daemon(group("r", ["r.test"], retry=SLOW, replies=[{"enhanced": "4.2.2", "treat_as": "permanent"}]), start=False)
    with_replies(daemon, {"code": "5xx", "text": "THINK.*odd", "group": "r", "treat_as": "temporary"})
    daemon.send("full@r.test")
    daemon.send("other@r.test")
    daemon.send("odd@r.test")
    wait_until(lambda: dsns(home), what="the DSN")
    wait_until(lambda: len(home.seen.refusals) == 3, what="three refusals")
    time.sleep(0.5)
    assert [status_of(d) for d in dsns(home)] == [{"full@r.test": ("failed", "4.2.2")}]
    assert {q["recipient"] for q in daemon.queued()} == {"other@r.test", "odd@r.test"}


def test_retry_after_goes_before_the_schedule(world):
    world.receiver("r", "r.test", replies={"RCPT": "451 4.7.1 come back in two seconds"})
    daemon = world.daemon(group("r", ["r.test"], retry=SLOW, replies=[{"text": "two seconds", "retry_after": "2s"}]))
    daemon.send("a@r.test")
    wait_until(lambda: world.seen.refusals, what="the refusal")
    first = world.seen.refusals[0].time
    world.receivers.change("r", replies={})
    world.got(1, 20)
    assert 2 <= world.seen.deliveries[0].time - first <= 6


def test_a_suspended_receiver_gets_nothing_and_the_others_all(world):
    world.receiver("busy", *[f"busy{i}.test" for i in range(8)], replies={"MAIL": "421 4.7.0 too much from you, leave us alone"})
    world.receiver("fine", "fine.test")
    daemon = world.daemon(group("g", [f"busy{i}.test" for i in range(8)],
                                replies=[{"code": 421, "text": "too much", "suspend": "6s"}]), workers=4)
    daemon.send("a@busy0.test")
    wait_until(lambda: daemon.json("status")["groups"]["g"].get("shaping"), what="the suspension")
    began = time.time()
    (one,) = daemon.json("status")["groups"]["g"]["shaping"]
    assert one["what"] == "suspended" and one["code"] == 421 and "too much" in one["text"] and one["seconds_left"] <= 6
    world.receivers.change("busy", replies={})
    submit_many(daemon, [f"r{i}@busy{i % 8}.test" for i in range(40)] + [f"r{i}@fine.test" for i in range(10)])
    wait_until(lambda: len(world.seen.at("fine")) == 10, what="the mail of others")
    sessions = world.seen.sessions["busy"]
    stays(lambda: not world.seen.at("busy") and world.seen.sessions["busy"] == sessions, 2, "silence, in all workers")
    wait_until(lambda: len(world.seen.at("busy")) == 41, 30, "the rest")
    assert min(d.time for d in world.seen.at("busy")) >= began + 3.5


def test_retry_by_hand_lifts_a_suspension(world):
    world.receiver("busy", "busy.test", replies={"MAIL": "421 4.7.0 too much"})
    daemon = world.daemon(group("g", ["busy.test"], replies=[{"code": 421, "stage": "mail", "suspend": "1h"}]))
    daemon.send("a@busy.test")
    wait_until(lambda: daemon.json("status")["groups"]["g"].get("shaping"), what="the suspension")
    world.receivers.change("busy", replies={})
    stays(lambda: not world.seen.deliveries, 2, "an hour is longer")
    assert "suspended, for" in daemon.hayauma("explain", "busy.test")
    daemon.hayauma("queue", "retry", "--domain", "busy.test")
    world.got(1, 20)
    assert "shaping" not in daemon.json("status")["groups"]["g"]


def test_a_421_to_a_connection_that_has_worked_obeys_a_rule_and_costs_no_attempt(world):
    """Such a one says nothing of the message, which goes over another connection at once; but it may be a word to the site."""
    world.receiver("old", "old.test", replies={"MAIL": lambda s, a: "421 4.4.2 idle for too long" if s.mails == 2 else None})
    world.receiver("fed", "fed.test", replies={"MAIL": lambda s, a: "421 4.7.0 you send too much" if s.mails == 3 else None})
    daemon = world.daemon(group("g", ["old.test", "fed.test"], limits={"connections_per_host": 1},
                                replies=[{"code": 421, "stage": "mail", "suspend": "1h"}]))
    submit_many(daemon, [f"a{i}@{d}.test" for d in ("old", "fed") for i in range(10)])
    wait_until(lambda: len(world.seen.at("old")) == 10, what="the mail to where only connections were idle")
    (one,) = wait_until(lambda: daemon.json("status")["groups"]["g"].get("shaping"), what="the suspension")
    assert (one["what"], one["mx"], one["stage"], one["text"]) == ("suspended", "mx.fed.test", "mail", "you send too much")
    fed = world.seen.at("fed")  # over one connection, unless submission was slower than a second
    assert sum(d.session == fed[-1].session for d in fed) == 3 and world.seen.sessions["fed"] == len({d.session for d in fed})
    assert [q["attempts"] for q in daemon.queued()] == [0] * (10 - len(fed))


def test_connections_after_a_limit_are_never_one_more_over_all_workers(world):
    """The receiver counts what is open; the first refusal brings two, and two they stay."""
    world.receiver("r", *[f"r{i}.test" for i in range(12)], delay_s=0.02)
    first = threading.Event()

    def once(session, argument):
        if first.is_set():
            return None
        first.set()
        return "451 4.7.0 too many connections"

    world.receivers.change("r", replies={"RCPT": once})
    daemon = world.daemon(group("default", retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "1h"},
                                timeouts={"idle": "1s"},
                                replies=[{"text": "too many connections", "limit_connections": 2, "for": "1h"}]), workers=4)
    daemon.send("first@r0.test")
    wait_until(lambda: daemon.json("status")["groups"]["default"].get("shaping"), what="the limit")
    submit_many(daemon, [f"x{i}@r{i % 12}.test" for i in range(100)])
    world.got(101, 60)
    assert world.seen.peak["r"] == 2


def test_a_slowed_receiver_gets_its_rate_and_no_more(world):
    world.receiver("r", "r.test", "s.test", replies={"RCPT": "450 4.7.28 rate limited"})
    daemon = world.daemon(group("r", ["r.test", "s.test"], retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "1h"},
                                replies=[{"enhanced": "4.7", "slow_to": 10, "for": "1h"}]), workers=4)
    daemon.send("a@r.test")
    wait_until(lambda: world.seen.refusals, what="the refusal")
    world.receivers.change("r", replies={})
    submit_many(daemon, [f"x{i}@{'rs'[i % 2]}.test" for i in range(60)])
    world.got(61, 60)
    times = sorted(d.time for d in world.seen.deliveries)
    rate = 60 / (times[-1] - times[0])
    assert 8 <= rate <= 10.5, rate


def test_a_storm_of_421_halves_the_connections_without_any_rule(world):
    world.receiver("r", "r.test", delay_s=0.05, replies={"RCPT": "451 4.7.0 rate limit exceeded, slow down"})
    world.receiver("fine", "fine.test")
    daemon = world.daemon(group("r", ["r.test", "fine.test"], retry={"schedule": ["2s"], "jitter": "0%", "lifetime": "1h"}))
    submit_many(daemon, [f"x{i}@r.test" for i in range(60)])
    wait_until(lambda: daemon.json("status")["groups"]["r"].get("shaping"), what="the halving")
    (one,) = daemon.json("status")["groups"]["r"]["shaping"]
    assert one["what"] == "connections" and one["line"] == 0 and "slow down" in one["text"]
    assert 1 <= one["value"] <= world.seen.peak["r"] / 2 + 1
    assert "after rcpt 451" in daemon.hayauma("explain", "r.test")
    submit_many(daemon, [f"x{i}@fine.test" for i in range(20)])
    wait_until(lambda: len(world.seen.at("fine")) == 20, what="the mail of others")
    world.receivers.change("r", replies={})
    world.got(80, 60)


def test_single_mailboxes_that_are_asked_to_slow_down_halve_nothing(world):
    world.receiver("r", "r.test", replies={"RCPT": lambda s, a: "450 4.7.0 rate limit exceeded" if "<slow" in a else None})
    daemon = world.daemon(group("r", ["r.test"], retry={"schedule": ["1h"], "jitter": "0%", "lifetime": "2d"}))
    submit_many(daemon, [f"{'slow' if i % 4 == 3 else 'x'}{i}@r.test" for i in range(80)])
    world.got(60, 30)
    wait_until(lambda: len(world.seen.refusals) == 20, what="the refusals")
    assert "shaping" not in daemon.json("status")["groups"]["r"]
