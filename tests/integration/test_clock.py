"""T16: somebody sets the clock of a running daemon, by a day, by ten years, to the eve of a leap day.  The monotonic clock stays as
it is, as on a real machine (tests/preload/clock.c)."""

import calendar
import struct
import time

import pytest

from harness import BUILD, SANITIZED, group, wait_until

WAITING = 5
DAY = 86400

pytestmark = pytest.mark.skipif(SANITIZED, reason="preloaded libraries and sanitizers do not go together")


class Clock:
    """By how much the daemon's wall clock is ahead of ours."""

    def __init__(self, world):
        self.file = world.folder / "clock"
        self.file.write_bytes(struct.pack("=q", 0))
        self.env = {"LD_PRELOAD": str(BUILD / "tests/preload/hayauma-test-clock.so"), "HAYAUMA_TEST_CLOCK": str(self.file), "TZ": "UTC"}

    def set(self, ahead_s):
        with open(self.file, "r+b") as f:
            f.write(struct.pack("=q", int(ahead_s)))


def leap_day():
    return calendar.timegm((2028, 2, 28, 23, 59, 58)) - time.time()


@pytest.mark.parametrize("jumps", [[DAY, 0, -DAY], [3650 * DAY, -3650 * DAY], [leap_day]], ids=["a day", "ten years", "leap day"])
def test_t16_a_clock_that_jumps_expires_nothing_and_hurries_nothing(world, jumps):
    """Mail that waits, with a lifetime of an hour and a retry every second: after each jump it is neither expired nor tried all the
    time, nor does it wait for the clock to come back; new mail goes at once."""
    world.receiver("r", "r.test")
    world.receiver("later", "later.test", replies={"RCPT": "450 4.2.0 later"})
    clock = Clock(world)
    daemon = world.daemon(group("default", retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "1h"}), env=clock.env)
    for i in range(WAITING):
        daemon.send(f"w{i}@later.test")

    def tries():
        return [sum(1 for a in daemon.attempts(f"w{i}@later.test")) for i in range(WAITING)]

    wait_until(lambda: min(tries()) >= 1, what="a first attempt")
    for n, to in enumerate(jumps):
        clock.set(to() if callable(to) else to)
        before, began = tries(), time.monotonic()
        daemon.send(f"new{n}@r.test")
        wait_until(lambda: world.seen.to(f"new{n}@r.test"), 3, "new mail")
        wait_until(lambda: all(a > b + 1 for a, b in zip(tries(), before)), 8, "two more attempts each")
        after, took = tries(), time.monotonic() - began
        assert all(a - b <= took + 2 for a, b in zip(after, before)), f"{before} {after} in {took:.1f} s"
        totals = daemon.totals()
        assert totals["bounced"] + totals["expired"] == 0 and daemon.json("status")["queue"]["waiting"] == WAITING
        assert "watchdog.stuck" not in daemon.log()
    if jumps == [leap_day]:
        wait_until(lambda: "2028-02-29T00:00:0" in daemon.log(), 5, "a day that is there")
    world.receivers.change("later", replies={})
    wait_until(lambda: all(world.seen.to(f"w{i}@later.test") for i in range(WAITING)), 8, "what waited")
    world.got(WAITING + len(jumps))


def test_t16_certificates_are_judged_by_the_clock_on_the_wall(world, certs):
    """Ten years ahead everybody's certificate has expired: mail waits, and goes when the clock is right again."""
    world.receiver("r", "r.test")
    world.receiver("s", "s.test")  # one that was not met before: no session is resumed
    clock = Clock(world)
    daemon = world.daemon(group("default", starttls="verify", tls={"ca_file": str(certs.ca_file)}), env=clock.env)
    daemon.send("a@r.test")
    world.got(1)
    clock.set(3650 * DAY)
    daemon.send("b@s.test")
    wait_until(lambda: daemon.attempts("b@s.test"), what="an attempt")
    assert (daemon.attempts("b@s.test")[0]["result"], daemon.attempts("b@s.test")[0]["verify"]) == ("deferred", "expired")
    clock.set(0)
    world.got(2)
