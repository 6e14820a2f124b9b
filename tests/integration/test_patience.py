"""How long a receiver is waited for, and when the sender hears that it takes long."""

import pytest

from harness import HOURLY, MX_PORT, group, wait_until
from test_delivery import dsns, home, status_of  # noqa: F401
from world import net

# Which wait of the group ends, at which stage, and how the receiver keeps silent there.
WAITS = {
    "greeting": ("greeting", dict(banner_delay_s=600)),
    "ehlo": ("ehlo", dict(replies={"EHLO": "silence"})),
    "mail": ("mail", dict(replies={"MAIL": "silence"})),
    "rcpt": ("rcpt", dict(replies={"RCPT": "silence"})),
    "data": ("data", dict(chunking=False, replies={"DATA": "silence"})),
    "block": ("data", dict(chunking=False, replies={"DATA": lambda session, _: session.transport.pause_reading()})),
    "dot": ("dot", dict(replies={"BDAT": "silence"})),
}
LONG = {wait: "1h" for wait in ("connect", "idle", *WAITS)}


def test_each_wait_has_a_limit_of_its_own(world):
    """All others are an hour: only the one that is named can have ended the attempt."""
    nowhere = world.net.address()
    hole = net.BlackHole(nowhere, MX_PORT)
    world.dns.a("mx.connect.test", nowhere).mx("connect.test", "10 mx.connect.test")
    for wait, (_, how) in WAITS.items():
        world.receiver(wait, f"{wait}.test", tls="none", **how)
    stages = {"connect": "connect", **{wait: stage for wait, (stage, _) in WAITS.items()}}
    daemon = world.daemon(*[group(w, [f"{w}.test"], retry=HOURLY, timeouts={**LONG, w: "1s"}) for w in stages],
                          dns={"timeout": "2s", "total_timeout": "30s"})
    try:
        daemon.send(*[f"a@{w}.test" for w in stages if w != "block"])
        daemon.send("a@block.test", body=(b"x" * 998 + b"\r\n") * 16000)  # more than the kernel takes by itself
        wait_until(lambda: all(r["attempts"] for r in daemon.queued()), 40, "an attempt for each")
        for wait, stage in stages.items():
            (attempt,) = wait_until(lambda: daemon.json("explain", f"{wait}.test")["attempts"], 5, wait)
            assert (attempt["outcome"], attempt["stage"], attempt["said_by"]) == ("deferred", stage, "us"), attempt
            assert attempt["enhanced"] == ("4.4.1" if wait == "connect" else "4.4.2"), attempt
            assert attempt["duration_ms"] >= 1000, attempt  # an hour otherwise: nobody would have seen the end
    finally:
        hole.stop()


def test_an_idle_connection_is_kept_as_long_as_the_group_says(world):
    world.receiver("short", "short.test")
    world.receiver("long", "long.test")
    daemon = world.daemon(group("s", ["short.test"], timeouts={"idle": "500ms"}), group("l", ["long.test"], timeouts={"idle": "1h"}))
    daemon.send("a@short.test", "a@long.test")
    world.got(2)
    wait_until(lambda: world.seen.open["short"] == 0, 10, "the end of the one")
    assert world.seen.open["long"] == 1
    assert world.seen.commands["short"]["QUIT"] == 1


def test_a_delay_is_told_once_and_only_to_who_asked(home):  # noqa: F811
    home.receiver("busy", "busy.test", replies={"RCPT": "450 4.2.1 mailbox busy"})
    daemon = home.daemon(group("b", ["busy.test"], retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "1h", "delay_notice": "1s"}))
    daemon.send("asked@busy.test", rcpt_options=["NOTIFY=DELAY,FAILURE"])
    daemon.send("other@busy.test", rcpt_options=["NOTIFY=FAILURE"])
    daemon.send("silent@busy.test")
    wait_until(lambda: dsns(home), 20, "the notice")
    told = {r["recipient"]: r["attempts"] for r in daemon.queued()}
    wait_until(lambda: all(r["attempts"] > told[r["recipient"]] for r in daemon.queued()), 20, "one more attempt of each")
    (dsn,) = dsns(home)
    assert status_of(dsn) == {"asked@busy.test": ("delayed", "4.2.1")}
    fields = dsn.get_payload()[1].get_payload()[1]
    assert fields["Will-Retry-Until"] and fields["Diagnostic-Code"] == "smtp; 450 4.2.1 mailbox busy"
    home.receivers.change("busy", replies={})
    home.got(3, at="busy")
    assert len(dsns(home)) == 1 and not daemon.queued()
