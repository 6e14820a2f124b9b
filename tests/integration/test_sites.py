"""Domains that share their mail hosts share connections and limits; what is asked of a group is done for all of it."""

import collections
import threading
import time

import pytest

from harness import HOURLY, group, stays, wait_until
from test_delivery import submit_many

FAST = {"connections": 5, "connections_per_host": 100}


def spread(count, domains):
    return [f"r{i}@{domains[i % len(domains)]}" for i in range(count)]


@pytest.mark.parametrize("workers", [2, 4])
def test_fifty_domains_at_one_provider_share_five_connections(world, workers):
    """In whatever order DNS gives the hosts, and whatever numbers their preferences have."""
    domains = [f"d{i}.test" for i in range(50)]
    world.receiver("one", delay_s=0.01)
    world.receiver("two", delay_s=0.01)
    for i, d in enumerate(domains):
        first, second = (10, 20) if i % 2 else (1, 5)
        hosts = [f"{first} mx.one.test", f"{second} mx.two.test"]
        world.dns.mx(d, *(hosts if i % 3 else reversed(hosts)))
    daemon = world.daemon(group("default", limits=FAST), workers=workers)
    sites, done = set(), threading.Event()

    def look():
        while not done.wait(0.02):
            sites.add(daemon.api("/api/v1/status")["groups"]["default"].get("sites", 0))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        submit_many(daemon, spread(250, domains))
        world.got(250, 60)
    finally:
        done.set()
        watcher.join()
    assert world.seen.peak["one"] == 5 and not world.seen.at("two")
    assert 1 <= max(sites) <= workers, "one site a worker"
    sessions = world.seen.sessions["one"]
    assert sessions < 50, "messages of several domains went over one connection"


def test_a_site_with_a_backlog_does_not_keep_the_others_of_its_group_out(world):
    """One connection for all: who has none gets it in turn, on whichever worker."""
    world.receiver("one", *[f"d{i}.test" for i in range(8)], delay_s=0.005)
    daemon = world.daemon(group("default", limits={"connections": 1}), workers=4)
    submit_many(daemon, [f"r{i}@d0.test" for i in range(180)])
    submit_many(daemon, [f"s@d{i}.test" for i in range(1, 8)])
    world.got(187, 60)
    order = [d.recipient for d in sorted(world.seen.deliveries, key=lambda d: d.time)]
    places = [i for i, r in enumerate(order) if r.startswith("s@")]
    assert max(places) < 170, "some of the backlog comes after all of the others"
    assert world.seen.peak["one"] == 1 and world.seen.sessions["one"] <= 30


def test_hosted_domains_share_the_limits_of_their_providers_group(world):
    """By name, by MX suffix, at different hosts of the provider: one group, one limit; and nobody else's."""
    world.receiver("big", "big.test", delay_s=0.02, host="mx1.in.big.test")
    world.receiver("hosted", *[f"h{i}.test" for i in range(10)], delay_s=0.02, host="mx2.in.big.test")
    world.receiver("other", "other.test", delay_s=0.02)
    together, connected = [], world.seen.connected

    def count(name):
        connected(name)
        together.append(world.seen.open["big"] + world.seen.open["hosted"])

    world.seen.connected = count
    daemon = world.daemon(group("big", ["big.test"], mx=[".in.big.test"], limits={"connections": 4}),
                          group("default", limits={"connections": 10}), workers=4)
    submit_many(daemon, spread(60, ["big.test"]) + spread(120, [f"h{i}.test" for i in range(10)]) + spread(60, ["other.test"]))
    world.got(240, 60)
    assert max(together) == 4
    assert {daemon.attempts(f"r{i}@h{i % 10}.test")[0]["group"] for i in range(10)} == {"big"}
    assert {daemon.attempts("r0@other.test")[0]["group"]} == {"default"}


@pytest.mark.parametrize("workers", [1, 4])
def test_a_host_that_two_sites_share_has_one_limit(world, workers):
    world.receiver("shared", delay_s=0.01)
    for i in range(12):
        world.receiver(f"own{i}", delay_s=0.01)
        world.dns.mx(f"d{i}.test", "10 mx.shared.test", f"20 mx.own{i}.test")
    daemon = world.daemon(group("default", limits={"connections": 50, "connections_per_host": 3}), workers=workers)
    submit_many(daemon, spread(240, [f"d{i}.test" for i in range(12)]))
    world.got(240, 60)
    assert world.seen.peak["shared"] == 3
    assert max(world.seen.peak[f"own{i}"] for i in range(12)) <= 3


def test_retry_now_reaches_all_domains_of_a_group_and_no_others(world):
    """Those that only their MX hosts put into the group as well; any operation does, also when nobody has asked for
    these hosts since the start."""
    later = {"RCPT": "450 4.2.0 later"}
    world.receiver("big", "big.test", *[f"h{i}.test" for i in range(6)], host="mx.in.big.test", replies=later)
    world.receiver("other", "other.test", replies=later)
    daemon = world.daemon(group("big", ["big.test"], mx=[".in.big.test"], retry=HOURLY, adaptive="off"),
                          group("default", retry=HOURLY), workers=4)
    submit_many(daemon, spread(21, ["big.test", *[f"h{i}.test" for i in range(6)]]) + ["r@other.test"])
    wait_until(lambda: len(world.seen.refusals) == 22, what="a refusal of each")
    wait_until(lambda: all(q["attempts"] == 1 for q in daemon.queued()) and len(daemon.queued()) == 22, what="all waiting")
    for name in ("big", "other"):
        world.receivers.change(name, replies={})
    stays(lambda: not world.seen.deliveries, 1, "an hour is longer")
    assert "21" in daemon.hayauma("queue", "retry", "--group", "big")
    world.got(21, 20)
    assert not world.seen.at("other")

    world.receivers.change("big", replies=later)
    submit_many(daemon, spread(12, ["big.test", *[f"h{i}.test" for i in range(5)]]))
    wait_until(lambda: len(world.seen.refusals) == 34, what="a refusal of each")
    wait_until(lambda: sum(q["attempts"] for q in daemon.queued()) == 13, what="all waiting")
    daemon.stop()
    world.receivers.change("big", replies={})
    daemon.start()
    assert daemon.queue_op("hold", group="big") == 12
    assert {q["state"] for q in daemon.queued(group="big")} == {"held"}
    assert daemon.queue_op("release", group="big") == 12
    world.got(33, 20)
    assert not world.seen.at("other") and daemon.totals()["waiting"] == 1


def test_retry_now_lifts_the_rest_of_a_groups_hosts_at_once(world):
    dead = world.net.address()
    world.dns.a("mx.dead.test", dead)
    for i in range(4):
        world.dns.mx(f"d{i}.test", "10 mx.dead.test")
    daemon = world.daemon(group("g", [f"d{i}.test" for i in range(4)], retry=HOURLY), workers=4)
    submit_many(daemon, spread(12, [f"d{i}.test" for i in range(4)]))
    wait_until(lambda: len(daemon.json("status")["groups"]["g"]["suspended"]) >= 1, what="rest")
    world.receiver("dead", address=dead)
    stays(lambda: not world.seen.deliveries, 1, "it rests")
    daemon.hayauma("queue", "retry", "--group", "g")
    world.got(12, 20)


def test_each_group_has_its_own_schedule(world):
    waits = {"quick": ["1s", "1s", "1s"], "slow": ["3s"], "growing": ["1s", "3s"]}
    begun = collections.defaultdict(list)

    def reply(session, argument):
        begun[argument.partition("@")[2].partition(".")[0]].append(time.time())
        return "450 4.2.0 later"

    world.receiver("r", *[f"{n}.test" for n in waits], replies={"RCPT": reply})
    daemon = world.daemon(*[group(n, [f"{n}.test"], adaptive="off", retry={"schedule": w, "jitter": "0%", "lifetime": "1h"})
                            for n, w in waits.items()])
    for n in waits:
        daemon.send(f"a@{n}.test")
    wait_until(lambda: len(begun["growing"]) == 3 and len(begun["slow"]) >= 2, 20, what="three attempts")
    gaps = {n: [b - a for a, b in zip(t, t[1:])] for n, t in begun.items()}
    assert all(1 <= g <= 2.6 for g in gaps["quick"]), gaps
    assert 3 <= gaps["slow"][0] <= 4.6, gaps
    assert 1 <= gaps["growing"][0] <= 2.6 and 3 <= gaps["growing"][1] <= 4.6, gaps
