"""T02: a thread that others rely on stands still.  The others go on, it is told in every place where an operator looks, and
nothing is lost: when it comes back, when the daemon is stopped, and when the watchdog ends it."""

import signal
import subprocess

import pytest

from freeze import frozen
from harness import BUILD, PATIENCE, Raw, UnixConnection, group, wait_until
from world import servers

DOMAINS = [f"d{i}.test" for i in range(12)]
QUICKLY = {"stuck_after": "2s"}


def told(daemon, thread):
    wait_until(lambda: f"watchdog.stuck thread={thread} " in daemon.log(), 10, "the watchdog's word")


def healthz(daemon):
    connection = UnixConnection(daemon.socket)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def owners(daemon):
    """Which worker has which domain, by what it logs of its attempts."""
    return {d: int(daemon.attempts(f"before@{d}")[0]["worker"]) for d in DOMAINS}


def test_t02_a_stuck_worker_is_told_and_the_others_go_on(world):
    world.receiver("r", *DOMAINS)
    daemon = world.daemon(workers=2, watchdog=QUICKLY)
    for d in DOMAINS:
        daemon.send(f"before@{d}")
    world.got(len(DOMAINS))
    owner = owners(daemon)
    assert set(owner.values()) == {0, 1}
    its = [d for d in DOMAINS if owner[d] == 0]
    with frozen(daemon.pid, "worker-0"):
        told(daemon, "worker-0")
        for d in DOMAINS:
            daemon.send(f"during@{d}")  # every connection reaches the other worker
        wait_until(lambda: all(world.seen.to(f"during@{d}") for d in DOMAINS if owner[d] == 1), what="the other worker's mail")
        assert not any(world.seen.to(f"during@{d}") for d in its)
        threads = {t["thread"]: t for t in daemon.json("status")["threads"]}
        assert {name for name, t in threads.items() if t["stuck"]} == {"worker-0"}
        assert threads["worker-0"]["seconds_without_turn"] >= 2 > threads["store"]["seconds_without_turn"]
        assert set(threads) == {"worker-0", "worker-1", "store", "history", "intake", "main"}
        assert "the thread worker-0 has stood still for" in daemon.hayauma("status")
        assert 'hayauma_thread_stuck{thread="worker-0"} 1\n' in daemon.api("/metrics")
        assert healthz(daemon)[0] == 503
        refused = subprocess.run([servers.program(BUILD, "hayauma"), "explain", its[0], "--socket", daemon.socket],
                                 capture_output=True, text=True, timeout=20 * PATIENCE)
        assert refused.returncode != 0 and "its worker, 0, is stuck" in refused.stderr
        daemon.apply([group("default", starttls="off")])  # does not wait for it either
    wait_until(lambda: "watchdog.back thread=worker-0 " in daemon.log(), 10, "its return")
    world.got(2 * len(DOMAINS))
    assert healthz(daemon) == (200, "ok\n")
    for d in DOMAINS:
        daemon.send(f"after@{d}")
    world.got(3 * len(DOMAINS))
    assert {world.seen.to(f"after@{d}")[0].tls for d in its} == {"clear"}, "it took the policy that it had missed"
    for i in range(20):
        daemon.send(f"again{i}@{DOMAINS[0]}")
    lines = daemon.log().partition("watchdog.back")[2].splitlines()
    assert {line.split("worker=")[1].split()[0] for line in lines if " accept " in line} == {"0", "1"}, "both listen"


@pytest.mark.parametrize("thread", ["store", "history"])
def test_t02_a_stuck_store_or_history_makes_mail_wait_and_nothing_else(world, thread):
    world.receiver("r", "r.test")
    daemon = world.daemon(watchdog=QUICKLY)
    daemon.send("before@r.test")
    world.got(1)
    with frozen(daemon.pid, thread):
        told(daemon, thread)
        with Raw(*daemon.open) as raw:
            raw.begin("during@r.test")
            raw.ok("DATA", 354)
            raw.send("Subject: x\r\n\r\nx\r\n.\r\n")
            assert [t["thread"] for t in daemon.json("status")["threads"] if t["stuck"]] == [thread], "status answers all the same"
            assert f"{thread} has stood still" in daemon.hayauma("doctor", code=None)
            if thread == "history":
                assert raw.reply()[0] == 250
                world.got(2)
                assert daemon.json("status")["history_backlog"] == 1
    wait_until(lambda: f"watchdog.back thread={thread} " in daemon.log(), 10, "its return")
    wait_until(lambda: daemon.totals()["waiting"] == 0, what="everything settled")


@pytest.mark.parametrize("how", ["stopped", "aborted"])
def test_t02_a_daemon_with_a_stuck_worker_ends_in_time_and_loses_nothing(world, how):
    world.receiver("r", *DOMAINS)
    daemon = world.daemon(workers=2, watchdog={**QUICKLY, "abort_after": "4s" if how == "aborted" else "0"})
    for d in DOMAINS:
        daemon.send(f"before@{d}")
    world.got(len(DOMAINS))
    with frozen(daemon.pid, "worker-0"):
        told(daemon, "worker-0")
        for d in DOMAINS:
            daemon.send(f"during@{d}")
        if how == "stopped":
            daemon._signal(signal.SIGTERM)
        code = daemon.process.wait(15 * PATIENCE)
        assert code == (3 if how == "stopped" else -signal.SIGABRT)
        assert ("stop.left" if how == "stopped" else "watchdog.abort thread=worker-0 ") in daemon.log()
    daemon.config["watchdog"]["abort_after"] = "0"
    daemon.start()
    world.got(2 * len(DOMAINS), 30)
