"""What is bounded however much there is: memory, and the descriptors that connections take."""

import re
import time

import pytest

from harness import MX_PORT, SANITIZED, group, wait_until
from test_delivery import submit_many


@pytest.mark.skipif(SANITIZED, reason="sanitizers need descriptors of their own")
def test_fewer_descriptors_than_connections_make_mail_wait_and_nothing_else(world):
    world.receiver("r", *[f"d{i}.test" for i in range(20)], delay_s=0.05)
    daemon = world.daemon(group("default", limits={"connections": 500, "connections_per_host": 500}), start=False,
                          wrapper=["sh", "-c", 'ulimit -n 130; exec "$0" "$@"'], workers=2)
    daemon.start()
    wait_until(lambda: "descriptors.few" in daemon.log(), 5, "the warning at start")
    line = next(line for line in daemon.log().splitlines() if "descriptors.few" in line)
    assert "allowed=130" in line and "LimitNOFILE" in line
    submit_many(daemon, [f"r{i}@d{i % 20}.test" for i in range(600)])
    world.got(600, 60)
    assert world.seen.peak["r"] == 30, "a hundred are kept for the rest"
    assert "descriptors.out" not in daemon.log()
    for i in (0, 299, 599):
        assert len(daemon.attempts(f"r{i}@d{i % 20}.test")) == 1, "nothing was tried in vain"


def test_many_destinations_share_the_memory_for_waiting_recipients(world):
    domains = [f"d{i}.test" for i in range(100)]
    world.receiver("r", *domains, delay_s=0.01)
    daemon = world.daemon(group("default", limits={"connections": 1, "messages_per_second": 1}), workers=1,
                          delivery={"jobs_in_memory": 1000, "jobs_per_domain": 2000})
    for i in range(30):
        daemon.send(*[f"r{i}@{domain}" for domain in domains])
    status = daemon.json("status")
    assert status["store"]["waiting"] > 2500, "most of it still waits"
    assert 500 < status["counters"]["jobs_in_memory"] <= 1400, "a thousand, and four for each that came when it was full"
    daemon.apply([group("default", limits={"connections": 20})])
    world.got(3000, 60)
    assert len({d.recipient for d in world.seen.deliveries}) == 3000


def test_a_start_with_mail_for_many_destinations_meets_them_by_and_by(world):
    count = 6000
    world.receiver("relay", "relay.test")
    relay = {"smarthost": [f"mx.relay.test:{MX_PORT}"]}
    daemon = world.daemon(group("default", route=relay, limits={"messages_per_second": 1, "connections": 1}), workers=2)
    for first in range(0, count, 1000):
        daemon.send(*[f"a@d{i}.test" for i in range(first, first + 1000)])
    daemon.send("urgent@last.test", headers=["X-Hayauma-Priority: high"])
    daemon.send("bulk@very-last.test")
    daemon.stop()
    before = len(world.seen.deliveries)
    began = time.monotonic()
    daemon.start()
    met, asked = 0, 1500  # by two workers that have room for a thousand each
    while time.monotonic() - began < (1.5 if met > 1000 else 20):
        met = daemon.json("status")["counters"]["destinations"]
        seconds = int(time.monotonic() - began) + 1
        assert met <= 2000 + asked + seconds * (250 + 10 * seconds), "not all at once"
        time.sleep(0.1)
    wait_until(lambda: len(world.seen.deliveries) > before + 3, 20, "some deliveries")
    assert "urgent@last.test" in {d.recipient for d in world.seen.deliveries[:before + 4]}, "nothing urgent waits"
    daemon.apply([group("default", route=relay, limits={"connections": 20})])
    want = {f"a@d{i}.test" for i in range(count)} | {"urgent@last.test", "bulk@very-last.test"}
    wait_until(lambda: daemon.json("status")["store"]["waiting"] == 0, 60, "the end of the queue")
    wait_until(lambda: daemon.json("status")["counters"]["destinations"] == 0, what="that none stays when its mail has gone")
    assert len(world.seen.deliveries) == len(want) and {d.recipient for d in world.seen.deliveries} == want


def tried(daemon, times):
    """Those that were put off so often."""
    return set(re.findall(rf" to=(\S+) result=deferred .* attempts={times} ", daemon.log()))


def test_a_dead_relay_of_many_destinations_has_no_more_than_its_share_of_memory(world):
    count, address = 3000, world.net.address()
    relay = group("default", route={"smarthost": [f"{address}:{MX_PORT}"]}, retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "1h"})
    daemon = world.daemon(relay, workers=1, delivery={"jobs_in_memory": 1000})
    want = {f"a@d{i}.test" for i in range(count)}
    for part in range(3):
        daemon.send(*[f"a@d{i}.test" for i in range(part, count, 3)])
    wait_until(lambda: tried(daemon, 1) == want, 30, "a first attempt for each")
    time.sleep(0.5)
    held, until = [], time.monotonic() + 60
    while tried(daemon, 2) != want and time.monotonic() < until:
        held.append(daemon.json("status")["counters"]["jobs_in_memory"])
        time.sleep(0.02)
    assert tried(daemon, 2) == want, "each has its turn, if not at each try of the host"
    assert 500 < sorted(held)[len(held) * 9 // 10] <= 1100, "while the host rests, the others lie on disk"
    world.receiver("relay", address=address)
    world.got(count, 60)
    assert {d.recipient for d in world.seen.deliveries} == want
