"""Whose turn it is: campaigns share a slow destination, transactional mail goes before bulk, and nobody starves; in memory,
and after a restart, when everything comes from disk."""

import threading
import time

import pytest

from harness import HOURLY, compose, group, wait_until

RATE = 50  # messages a second, in all


def submit(daemon, recipients, headers):
    """One message each over one connection."""
    with daemon.client() as client:
        for r in recipients:
            client.sendmail("sender@origin.example", [r], compose([r], headers=headers)[1])


def flood(daemon, name, count, headers, sessions=4):
    threads = [threading.Thread(target=submit, args=(daemon, [f"{name}{i}@slow.test" for i in range(k, count, sessions)], headers))
               for k in range(sessions)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def submit_all(daemon, domains, each, headers):
    threads = [threading.Thread(target=submit, args=(daemon, [f"a{i}@{domain}" for i in range(each)], headers)) for domain in domains]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def order(world):
    """The first letters of the recipients, in the order of their deliveries."""
    return "".join(d.recipient[0] for d in world.seen.deliveries)


def slow_world(world, **more):
    world.receiver("slow", "slow.test")
    return world.daemon(group("slow", ["slow.test"], limits={"messages_per_second": RATE, "connections": 4}, retry=HOURLY), **more)


def test_a_small_campaign_and_a_password_mail_pass_a_large_one(world):
    daemon = slow_world(world, delivery={"jobs_per_domain": 400})  # most of it waits on disk
    flood(daemon, "a", 1500, ["X-Campaign: spring"])
    wait_until(lambda: len(world.seen.deliveries) >= 20, what="the first of the large one")
    flood(daemon, "b", 50, ["X-Campaign: autumn"], sessions=1)
    began = len(world.seen.deliveries)
    sent = time.monotonic()
    submit(daemon, ["t@slow.test"], ["X-Hayauma-Priority: high"])
    wait_until(lambda: "t" in order(world), what="the password mail", step=0.01)
    took = time.monotonic() - sent
    assert order(world)[began:].index("t") <= RATE, "some 20 ms a message: within a second"
    assert took < 3
    wait_until(lambda: order(world).count("b") == 50, what="the small campaign")
    done = order(world)[began:]
    last = max(i for i, c in enumerate(done) if c == "b")
    assert done[:last].count("a") <= 75, "every second turn was its own"
    assert done[:last].count("a") >= 25, "nobody starves"


def test_after_a_restart_everybody_has_his_turn_as_well(world):
    daemon = slow_world(world, delivery={"jobs_per_domain": 400})
    for campaign in "spring", "autumn":
        daemon.hayauma("campaign", "pause", campaign)
    flood(daemon, "a", 900, ["X-Campaign: spring"])
    flood(daemon, "b", 30, ["X-Campaign: autumn"], sessions=1)
    for campaign in "spring", "autumn":
        assert "resumed" in daemon.hayauma("campaign", "resume", campaign)
    wait_until(lambda: len(world.seen.deliveries) >= 5, what="the first ones")
    daemon.stop()
    daemon.start()
    submit(daemon, ["t@slow.test"], ["X-Hayauma-Priority: high"])
    wait_until(lambda: order(world).count("b") >= 20 and "t" in order(world), what="the small campaign")
    done = order(world)
    nth = [i for i, c in enumerate(done) if c == "b"][19]
    assert done[:nth].count("a") <= 80, "some of the large one went before the small one was resumed"


def test_bulk_keeps_its_share_while_high_priority_never_ends(world):
    daemon = slow_world(world)
    daemon.account("shop", priority="low")
    assert daemon.api("/api/v1/accounts/shop")["priority"] == "low"
    flood(daemon, "a", 200, ["X-Campaign: spring"])
    flood(daemon, "h", 200, ["X-Hayauma-Priority: high"])
    wait_until(lambda: order(world).count("h") == 200, what="the high ones")
    h = order(world)
    h = h[h.index("h"):h.rindex("h")]
    share = h.count("a") / len(h)
    assert 0.08 <= share <= 0.20, f"one turn of eight, not {share:.2f}"


def test_what_has_an_end_of_its_own_is_not_sent_after_it(world):
    world.receiver("home", "origin.example")
    world.receiver("p", "p.test", replies={"RCPT": "450 4.2.0 later"})
    daemon = world.daemon(group("default", retry=HOURLY))
    end = int(time.time()) + 4
    daemon.send("a@p.test", headers=[f"X-Hayauma-Expires: {end}"])
    daemon.send("b@p.test")
    wait_until(lambda: len([r for r in daemon.queued() if r["attempts"] == 1]) == 2, what="both deferred")
    assert {r["recipient"]: r["due_unix"] == end for r in daemon.queued()} == {"a@p.test": True, "b@p.test": False}
    world.receivers.change("p", replies={})
    wait_until(lambda: daemon.totals()["expired"] == 1, what="the end")
    assert time.time() >= end
    world.got(1, at="home")  # its sender is told
    last = daemon.attempts("a@p.test")[-1]
    assert (last["result"], last["enhanced"], last["remote"]) == ("expired", "4.4.7", "-")
    assert [r["recipient"] for r in daemon.queued()] == ["b@p.test"]


def test_sites_of_a_group_share_its_connections(world):
    """One connection for the whole group, and a site that could keep it busy for ever: the others have their turns, and soon."""
    world.receiver("large", "large.test", delay_s=0.01)
    world.receiver("small", "small.test", delay_s=0.01)
    daemon = world.daemon(group("both", ["large.test", "small.test"], limits={"connections": 1}))
    threads = [threading.Thread(target=submit, args=(daemon, [f"a{i}@large.test" for i in range(k, 240, 4)], ["X-Campaign: spring"]))
               for k in range(4)]
    for t in threads:
        t.start()
    wait_until(lambda: len(world.seen.deliveries) >= 20, what="the first of the large one")
    began = len(world.seen.deliveries)
    submit(daemon, [f"b{i}@small.test" for i in range(5)], ["X-Campaign: autumn"])
    wait_until(lambda: order(world).count("b") == 5, 30, "the small one")
    waited = order(world)[began:].count("a")
    for t in threads:
        t.join()
    wait_until(lambda: len(world.seen.deliveries) == 245, 30, "all of it")
    assert waited < 120, f"{waited} of the large site went first"


SMALL = 10  # sites beside a large one, with
EACH = 3  # messages each


@pytest.mark.parametrize("limits, delay_s, most", [
    ({"messages_per_second": 25}, 0, 60),  # each has its turn: of four messages one or two are of the large one, at any worker
    ({"connections_per_source": 2}, 0.01, 400),  # who stands in the line gets the place of who had it for a second
])
def test_a_site_with_mail_for_ever_leaves_the_others_their_turn_over_all_workers(world, limits, delay_s, most):
    large = [f"large{i}.test" for i in range(4)]
    small = [f"small{i}.test" for i in range(SMALL)]
    world.receiver("large", *large, delay_s=delay_s)
    for domain in small:
        world.receiver(domain.removesuffix(".test"), domain, delay_s=delay_s)
    daemon = world.daemon(group("all", [*large, *small], limits=limits, retry=HOURLY), workers=4)
    submit_all(daemon, large, 200, [])
    wait_until(lambda: len(world.seen.deliveries) >= 10, what="the first of the large one")
    submit(daemon, [f"b{k}@{domain}" for k in range(EACH) for domain in small], [])
    began = len(world.seen.deliveries)
    wait_until(lambda: order(world).count("b") == SMALL * EACH, 60, "the small ones")
    waited = order(world)[began:order(world).rindex("b")].count("a")
    assert waited <= most, f"{waited} of the large site went first"


SMALL_CAMPAIGN = 12


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("limits, delay_s, most", [
    ({"messages_per_second": 12}, 0, 3 * SMALL_CAMPAIGN),  # every second turn is its own, not one of as many as there are sites
    ({"connections": 2}, 0.05, 100),  # a turn is a second of one of them
])
def test_a_campaign_to_many_sites_has_no_more_of_a_group_than_one_to_a_single_site(world, workers, limits, delay_s, most):
    large = [f"large{i}.test" for i in range(16)]
    for domain in [*large, "small.test", "other.test"]:
        world.receiver(domain.removesuffix(".test"), domain, delay_s=delay_s)
    daemon = world.daemon(group("all", [*large, "small.test", "other.test"], limits=limits, retry=HOURLY), workers=workers)
    submit_all(daemon, large, 40, ["X-Campaign: spring"])
    wait_until(lambda: len(world.seen.deliveries) >= 16, what="the first of the large one")
    submit(daemon, [f"b{i}@small.test" for i in range(SMALL_CAMPAIGN)], ["X-Campaign: autumn"])
    began = len(world.seen.deliveries)
    submit(daemon, ["t@other.test"], ["X-Hayauma-Priority: high"])
    wait_until(lambda: "t" in order(world), 30, "the password mail", step=0.01)
    wait_until(lambda: order(world).count("b") == SMALL_CAMPAIGN, 60, "the small campaign")
    done = order(world)[began:]
    assert done.index("t") <= most, "it waited for the turns of the others"
    waited = done[:done.rindex("b")].count("a")
    assert waited <= most, f"{waited} of the large campaign went first"
    assert waited >= 3, "nobody starves"
