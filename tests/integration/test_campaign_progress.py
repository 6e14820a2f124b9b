"""When will a campaign be done, and what keeps it: the limit that binds, by group; and what does not move at all."""

import time

from harness import HOURLY, group, wait_until
from test_fairness import flood, submit
from test_quiet_hours import hours
from test_sources import pool_policy, start

SPRING = ["X-Campaign: spring"]


def show(daemon):
    return daemon.json("campaign", "show", "spring")


def groups(daemon):
    return {g["group"]: g for g in show(daemon)["groups"]}


def test_a_rate_is_named_and_the_time_is_right(world):
    world.receiver("slow", "slow.test")
    daemon = world.daemon(group("slow", ["slow.test"], limits={"messages_per_second": 20}))
    flood(daemon, "a", 260, SPRING)
    wait_until(lambda: show(daemon)["delivered"] >= 130, what="a steady rate", step=0.2)
    before, g = time.monotonic(), groups(daemon)["slow"]
    assert g["limited_by"]["limit"] == "messages_per_second"
    assert 1100 <= g["rate_per_minute"] <= 1300, "20 a second"
    assert abs(g["eta_s"] - g["waiting"] / 20) <= 2
    (listed,) = daemon.json("campaign", "list")["campaigns"]
    assert abs(listed["eta_s"] - listed["waiting"] / 20) <= 3, "the list says so, too, before a minute has passed"
    top = show(daemon)
    assert (top["limited_by"]["group"], top["limited_by"]["limit"], top["not_moving"]) == ("slow", "messages_per_second", 0)
    text = daemon.hayauma("campaign", "show", "spring")
    assert "(messages_per_second of slow)" in text and "not moving" not in text
    wait_until(lambda: show(daemon)["delivered"] == 260, 30, "the end")
    assert abs((time.monotonic() - before) - g["eta_s"]) <= 4
    assert show(daemon)["eta_s"] is None and show(daemon)["limited_by"] is None


def test_what_waits_for_tls_or_a_retry_has_no_time(world):
    world.receiver("plain", "plain.test", tls="none")
    world.receiver("grey", "grey.test", replies={"RCPT": "450 4.2.0 greylisted"})
    world.receiver("gone", "gone.test")
    world.receivers.change("gone", port=9)
    daemon = world.daemon(group("strict", ["plain.test"], starttls="require", retry=HOURLY),
                          group("grey", ["grey.test"], retry=HOURLY))
    submit(daemon, [f"a{i}@plain.test" for i in range(12)], SPRING)
    submit(daemon, [f"b{i}@grey.test" for i in range(3)], SPRING)
    wait_until(lambda: {k: g["later"] for k, g in groups(daemon).items()}.get("grey") == 3, what="the greylisted")
    wait_until(lambda: groups(daemon)["strict"]["limited_by"], what="the reason")
    strict, grey = groups(daemon)["strict"], groups(daemon)["grey"]
    assert strict["eta_s"] is None and strict["not_moving"] == 12
    assert strict["later_limit"] == "tls" or strict["limited_by"]["limit"] == "suspended"
    assert "TLS is required" in (strict["later_why"] or strict["limited_by"]["why"])
    assert (grey["limited_by"]["limit"], grey["eta_s"], grey["not_moving"]) == ("retry", None, 3)
    top = show(daemon)
    assert (top["eta_s"], top["not_moving"], top["limited_by"]["group"]) == (None, 15, "strict")
    text = daemon.hayauma("campaign", "show", "spring")
    assert "not moving: 3 wait for a retry at group grey" in text and "450 4.2.0 greylisted" in text
    assert "at group strict" in text and "TLS is required" in text and "done in" not in text


def test_a_suspended_and_a_paused_campaign_say_so(world):
    world.dns.mx("down.test", "10 mx.down.test")
    world.dns.a("mx.down.test", world.net.address())
    world.receiver("night", "night.test")
    daemon = world.daemon(group("down", ["down.test"], retry=HOURLY), group("night", ["night.test"], quiet_hours=hours(-3600, 7200, "UTC", 0)))
    submit(daemon, ["a@down.test"], SPRING)
    wait_until(lambda: groups(daemon).get("down", {}).get("later") == 1, what="the refusal")
    submit(daemon, ["b@down.test", "c@down.test"], SPRING)
    wait_until(lambda: groups(daemon)["down"]["limited_by"]["limit"] == "suspended", what="the rest of the host")
    down = groups(daemon)["down"]
    assert down["limited_by"]["until_unix"] > time.time() + 60 and down["limited_by"]["why"]
    assert (down["waiting"], down["later"], down["not_moving"], down["eta_s"]) == (3, 1, 3, None)
    text = daemon.hayauma("campaign", "show", "spring")
    assert "2 wait while nothing is sent at group down, until" in text and "1 wait for a retry" in text
    submit(daemon, ["d@night.test"], ["X-Campaign: autumn"])
    wait_until(lambda: "1 wait for the end of quiet hours at group night, until" in daemon.hayauma("campaign", "show", "autumn"), what="the night")
    daemon.hayauma("campaign", "pause", "spring")
    top = show(daemon)
    assert (top["limited_by"]["limit"], top["eta_s"], top["not_moving"], top["paused"]) == ("paused", None, 3, 3)


def test_what_a_warm_up_let_go_is_no_rate_and_its_next_steps_tell_the_end(world):
    """A step is sent within a second; how long the rest takes the ladder tells.  What leaves from elsewhere moves."""
    cold, warm = world.net.address(), world.net.address()
    world.receiver("w", "w.test", tls="none")
    ladder = {"address": cold, "warmup": {"steps": [20, 40], "per": "1h"}}
    daemon = start(world, [ladder], group("default"), workers=4)
    submit(daemon, [f"a{i}@w.test" for i in range(50)], SPRING)
    world.got(20)
    wait_until(lambda: (show(daemon)["limited_by"] or {}).get("limit") == "warmup", what="the limit that binds")
    wait_until(lambda: groups(daemon)["default"]["rate_per_minute"], what="a second that is over, and a rate")
    top = show(daemon)
    assert (top["not_moving"], top["waiting"], top["limited_by"]["limit"]) == (0, 30, "warmup")
    assert 3500 < top["eta_s"] <= 3601 and 3500 < top["limited_by"]["until_unix"] - time.time() <= 3601
    submit(daemon, [f"b{i}@w.test" for i in range(11)], SPRING)  # 40 in the next hour, and then it is warm
    wait_until(lambda: 7100 < (show(daemon)["eta_s"] or 0) <= 7201, what="the step behind it")
    text = daemon.hayauma("campaign", "show", "spring")
    assert "(warmup of default)" in text and "not moving" not in text
    daemon.hayauma("source", "warmup", "hold", cold)
    wait_until(lambda: 10700 < (show(daemon)["eta_s"] or 0) <= 10801, what="twenty in an hour, and no more")
    slowly = group("default", limits={"messages_per_second": 10})
    daemon.api("/api/v1/policy", "POST", pool_policy(daemon, [ladder, warm], [slowly]))
    wait_until(lambda: show(daemon)["delivered"] >= 30, what="the address that is warm")
    g = groups(daemon)["default"]
    assert (g["limited_by"]["limit"], g["not_moving"]) == ("messages_per_second", 0) and 1 <= g["eta_s"] <= 30
    world.got(61)


def test_the_last_minute_is_counted_right_after_a_kill(world):
    """Ids of records jump where the program starts anew: that made a minute an hour, and its rate a sixtieth."""
    world.receiver("w", "w.test", tls="none")
    daemon = world.daemon(group("default"))
    began = time.time()
    submit(daemon, [f"a{i}@w.test" for i in range(60)], SPRING)
    world.got(60)
    wait_until(lambda: show(daemon)["delivered"] == 60, what="the records")
    time.sleep(max(0, began + 2.5 - time.time()))  # two million ids, and more than are counted one by one
    daemon.kill()
    daemon.start()
    submit(daemon, ["b@w.test"], SPRING)
    wait_until(lambda: show(daemon)["delivered"] == 61, what="another record")
    (listed,) = daemon.json("campaign", "list")["campaigns"]
    assert listed["rate_per_minute"] == 61 or time.time() - began > 55
    q = daemon.api("/api/v1/reports/delivery", since="5m")
    assert (q["totals"]["delivered"], time.time() - q["since_unix"] < 360) == (61, True), "not of the whole hour"
