"""Campaigns: paused, resumed and cancelled with exact counts, while others flow; counts by group; the campaign of an account."""

import itertools
import re
import smtplib
import threading
import time

import pytest

from freeze import frozen
from harness import HOURLY, PATIENCE, Raw, compose, group, no_check, wait_until

SPRING, AUTUMN = ["X-Campaign: spring"], ["X-Campaign: autumn"]


def flood(daemon, recipients, headers, sender=""):
    """One message each over one connection; nobody is told of failures."""
    with daemon.client() as client:
        for r in recipients:
            client.sendmail(sender, [r], compose([r], headers=headers)[1])


def show(daemon, campaign):
    return daemon.json("campaign", "show", campaign)


def states(daemon, campaign):
    s = show(daemon, campaign)
    return {k: s[k] for k in ("waiting", "held", "paused", "delivered", "bounced", "cancelled")}


def test_a_pause_holds_what_waits_and_what_comes_and_nothing_else(world):
    world.receiver("p", "p.test", replies={"RCPT": "450 4.2.0 later"})
    world.receiver("q", "q.test")
    daemon = world.daemon(group("p", ["p.test"], retry=HOURLY), group("q", ["q.test"]))
    for i in range(4):
        daemon.send(f"a{i}@p.test", f"b{i}@p.test", headers=SPRING)
    daemon.send("c@p.test", headers=AUTUMN)
    wait_until(lambda: len([r for r in daemon.queued() if r["attempts"] >= 1]) == 9, what="all deferred")
    said = daemon.hayauma("campaign", "pause", "spring", "--why", "the discount is wrong")
    assert said == "8 recipients: paused\n"
    world.receivers.change("p", replies={})
    for i in range(3):
        daemon.send(f"d{i}@q.test", headers=SPRING)
    daemon.send("e@q.test", headers=AUTUMN)
    daemon.hayauma("queue", "retry", "--all")
    world.got(2)  # autumn's two
    assert {d.recipient for d in world.seen.deliveries} == {"c@p.test", "e@q.test"}
    assert states(daemon, "spring") == {"waiting": 0, "held": 0, "paused": 11, "delivered": 0, "bounced": 0, "cancelled": 0}
    assert {r["state"] for r in daemon.queued(campaign="spring")} == {"paused"}
    text = daemon.hayauma("campaign", "show", "spring")
    assert "paused since" in text and "the discount is wrong" in text and "11 paused" in text
    by_group = {g["group"]: g["paused"] for g in show(daemon, "spring")["groups"]}
    assert by_group == {"p": 8, "q": 3}
    assert daemon.hayauma("campaign", "resume", "spring") == "11 recipients: resumed\n"
    world.got(5)  # the three that were never tried; the others wait for their retry as they did
    assert states(daemon, "spring") == {"waiting": 8, "held": 0, "paused": 0, "delivered": 3, "bounced": 0, "cancelled": 0}
    daemon.hayauma("queue", "retry", "--campaign", "spring")
    wait_until(lambda: show(daemon, "spring")["delivered"] == 11, what="all delivered")
    row = next(c for c in daemon.json("campaign", "list")["campaigns"] if c["campaign"] == "spring")
    assert (row["accepted_messages"], row["accepted"], row["delivered"], row["waiting"]) == (7, 11, 11, 0)
    assert not row["is_paused"] and row["rate_per_minute"] == 11


def test_a_pause_outlives_a_restart_and_a_kill(world):
    world.receiver("p", "p.test")
    daemon = world.daemon(group("p", ["p.test"]))
    assert "nothing waits" in daemon.hayauma("campaign", "pause", "spring")
    daemon.send("a@p.test", headers=SPRING)
    daemon.stop()
    daemon.start()
    daemon.send("b@p.test", headers=SPRING)
    daemon.kill()
    daemon.start()
    daemon.send("c@p.test", headers=SPRING)
    daemon.send("other@p.test")
    world.got(1)
    assert states(daemon, "spring")["paused"] == 3 and show(daemon, "spring")["is_paused"]
    assert daemon.hayauma("campaign", "resume", "spring") == "3 recipients: resumed\n"
    world.got(4)
    wait_until(lambda: states(daemon, "spring")["delivered"] == 3, what="the records")


def test_mail_in_the_workers_hands_stops_too(world):
    """A slow receiver and one connection: what was handed to the worker goes back, what is in work ends."""
    world.receiver("p", "p.test", delay_s=0.05)
    daemon = world.daemon(group("p", ["p.test"], limits={"connections": 1}))
    for i in range(40):
        daemon.send(f"a{i}@p.test", headers=SPRING)
    wait_until(lambda: len(world.seen.deliveries) >= 3, what="the first deliveries")
    daemon.hayauma("campaign", "pause", "spring")
    time.sleep(0.6)
    here = len(world.seen.deliveries)
    time.sleep(1.0)
    assert len(world.seen.deliveries) == here < 40
    wait_until(lambda: states(daemon, "spring")["paused"] == 40 - here, what="the rest paused")
    daemon.hayauma("campaign", "resume", "spring")
    world.got(40, 40)
    wait_until(lambda: not daemon.queued(), what="an empty queue")
    assert daemon.totals("spring")["delivered"] == 40


@pytest.mark.parametrize("op", ["pause", "cancel"])
def test_nothing_is_begun_while_the_store_has_not_marked_it_yet(world, op):
    """A large campaign takes seconds to mark; here the store stands still, and mail in the workers' hands would go on."""
    world.receiver("p", "p.test", delay_s=0.05)
    daemon = world.daemon(group("p", ["p.test"], limits={"connections": 2}))
    flood(daemon, [f"a{i}@p.test" for i in range(200)], SPRING)
    wait_until(lambda: len(world.seen.deliveries) >= 4, what="the first deliveries")
    with frozen(daemon.pid, "store"):
        command = threading.Thread(target=daemon.hayauma, args=("campaign", op, "spring", *(["--yes"] if op == "cancel" else [])))
        command.start()
        time.sleep(0.7 * PATIENCE)
        here = len(world.seen.deliveries)
        time.sleep(1.2)
        assert len(world.seen.deliveries) == here < 150
    command.join()
    ended = {"pause": "paused", "cancel": "cancelled"}[op]
    wait_until(lambda: states(daemon, "spring")[ended] == 200 - here, what="the rest")
    assert len(world.seen.deliveries) == here == daemon.totals("spring")["delivered"]


def test_cancel_gives_up_what_is_paused_as_well(world):
    world.receiver("p", "p.test", replies={"RCPT": "450 4.2.0 later"})
    daemon = world.daemon(group("p", ["p.test"], retry=HOURLY))
    daemon.send("a@p.test", headers=SPRING)
    daemon.send("b@p.test", headers=AUTUMN)
    wait_until(lambda: len([r for r in daemon.queued() if r["attempts"] >= 1]) == 2, what="both deferred")
    daemon.hayauma("campaign", "pause", "spring")
    daemon.send("c@p.test", headers=SPRING)
    assert daemon.hayauma("campaign", "cancel", "spring") == "2 recipients: cancelled\n"
    wait_until(lambda: daemon.totals("spring")["cancelled"] == 2, what="the records")
    assert daemon.totals("autumn")["waiting"] == 1 and daemon.totals("autumn")["cancelled"] == 0
    assert daemon.hayauma("campaign", "cancel", "spring") == "nothing waits of it: nothing has changed\n"


def test_mail_without_the_header_has_the_campaign_of_its_account(world):
    world.receiver("p", "p.test")
    daemon = world.daemon(group("p", ["p.test"]))
    user, password = daemon.account("shop", campaign="shop-mail")
    assert daemon.api("/api/v1/accounts/shop")["campaign"] == "shop-mail"

    def send(recipient, headers=()):
        with daemon.client(daemon.port) as client:
            client.starttls(context=no_check())
            client.login(user, password)
            client.sendmail("sender@origin.example", [recipient], compose([recipient], headers=headers)[1])
    send("a@p.test")
    send("b@p.test", SPRING)
    daemon.hayauma("account", "set", "shop", "--no-campaign")
    send("c@p.test")
    daemon.hayauma("account", "set", "shop", "--campaign", "new-one")
    send("d@p.test")
    daemon.hayauma("account", "set", "shop", "--campaign", "no blanks", code=1)
    world.got(4)
    wait_until(lambda: daemon.totals()["delivered"] == 4, what="the records")
    rows = {c["campaign"]: c["delivered"] for c in daemon.json("campaign", "list")["campaigns"]}
    assert rows == {"shop-mail": 1, "spring": 1, "": 1, "new-one": 1}


def test_what_is_no_campaign_is_refused_in_words(world):
    daemon = world.daemon()
    assert daemon.hayauma("campaign", "show", "nobody", code=1) == ""
    daemon.hayauma("campaign", "pause", "no blanks", code=1)
    for op in ("show", "pause", "resume", "cancel"):
        daemon.hayauma("campaign", op, "", code=2)
    for end, words in ((("--at", "tomorrow"), "'tomorrow' is no time: like 2026-"), (("--in", "5 parsecs"), "'5 parsecs' is no span"),
                       (("--in", "-5h"), "'-5h' is no span"), (("--in", "11y"), "'11y' is no span")):
        assert words in daemon.complaint("campaign", "expire", "spring", *end, code=1)
    assert "no mail of a campaign 'sprang'" in daemon.complaint("audit", "--campaign", "sprang", code=1)
    assert not daemon.json("audit", "--campaign", "sprang", code=1)["rows"]
    assert "no campaigns" in daemon.hayauma("campaign", "list")
    daemon.hayauma("campaign", "pause", "spring")
    assert daemon.json("campaign", "list", "--active")["campaigns"][0]["is_paused"]


def test_a_campaign_that_is_over_expires_and_no_other(world):
    """What waits, what is paused or held, what is in the workers' hands, and what comes late: each once, its sender told."""
    world.receiver("home", "origin.example")
    world.receiver("p", "p.test", replies={"RCPT": "450 4.2.0 later"})
    world.receiver("q", "q.test", delay_s=0.5)
    daemon = world.daemon(group("p", ["p.test"], retry=HOURLY), group("q", ["q.test"], limits={"connections": 1}), group("default"))
    daemon.send(*[f"a{i}@p.test" for i in range(5)], headers=SPRING)
    daemon.send("b@p.test", headers=AUTUMN)
    wait_until(lambda: len([r for r in daemon.queued() if r["attempts"] == 1]) == 6, what="all deferred")
    daemon.hayauma("queue", "hold", "--recipient", "a0@p.test")
    assert "expires at" in daemon.hayauma("campaign", "expire", "spring", "--in", "1h")
    assert re.search("spring +ends in (1 h|59 m)", daemon.hayauma("campaign", "list"))
    for i in range(20):
        daemon.send(f"c{i}@q.test", headers=SPRING)
    when = int(time.time()) + 2
    daemon.hayauma("campaign", "expire", "spring", "--at", str(when))
    assert show(daemon, "spring")["expires_unix"] == when and show(daemon, "spring")["expired"] == 0
    wait_until(lambda: show(daemon, "spring")["waiting"] == 0 and show(daemon, "spring")["held"] == 0, what="the end")
    assert time.time() >= when
    wait_until(lambda: daemon.totals("spring")["waiting"] == 0 and daemon.json("audit")["exact"], what="the records")
    sums = daemon.totals("spring")
    assert sums["accepted"] == 25 == sums["delivered"] + sums["expired"] and 1 <= sums["delivered"] < 10
    assert len(world.seen.at("q")) == sums["delivered"]
    assert "over since" in daemon.hayauma("campaign", "show", "spring")
    assert re.search("spring +over ", daemon.hayauma("campaign", "list"))
    daemon.send("late@q.test", headers=SPRING)
    wait_until(lambda: daemon.totals("spring")["expired"] == sums["expired"] + 1, what="what came late")
    assert daemon.totals("autumn")["waiting"] == 1
    told = wait_until(lambda: [d for d in world.seen.at("home") if d.recipient == "sender@origin.example"], what="the senders' notices")
    assert told and daemon.attempts("late@q.test")[-1]["enhanced"] == "4.4.7"
    assert daemon.hayauma("campaign", "expire", "spring", "--never") == "it has no end now\n"
    daemon.send("again@q.test", headers=SPRING)
    wait_until(lambda: daemon.totals("spring")["delivered"] == sums["delivered"] + 1, what="the campaign going on")
    daemon.hayauma("campaign", "expire", "spring", code=2)


def test_an_end_that_comes_while_nobody_runs_holds(world):
    world.receiver("p", "p.test", replies={"RCPT": "450 4.2.0 later"})
    daemon = world.daemon(group("p", ["p.test"], retry=HOURLY))
    daemon.send("a@p.test", "b@p.test", headers=SPRING, sender="")
    wait_until(lambda: len([r for r in daemon.queued() if r["attempts"] == 1]) == 2, what="all deferred")
    daemon.hayauma("campaign", "expire", "spring", "--at", str(int(time.time()) + 1))
    daemon.kill()
    world.receivers.change("p", replies={})
    time.sleep(1.5)
    daemon.start()
    daemon.hayauma("queue", "retry", "--all")
    wait_until(lambda: daemon.totals("spring")["expired"] == 2, what="the end")
    assert not world.seen.deliveries and not daemon.queued()


# ---- the audit ----

def test_the_audit_accounts_for_every_recipient_by_campaign(world):
    world.receiver("home", "origin.example")
    world.receiver("p", "p.test")
    world.receiver("later", "later.test", replies={"RCPT": "450 4.2.0 later"})
    daemon = world.daemon(group("default", retry=HOURLY))
    for i in range(5):
        daemon.send(f"a{i}@p.test", f"unknown{i}@p.test", f"c{i}@later.test", headers=SPRING)
    daemon.send("d@p.test", "e@later.test", headers=AUTUMN)
    wait_until(lambda: daemon.totals("spring")["delivered"] == 5 and daemon.totals("spring")["bounced"] == 5
               and daemon.totals("autumn")["delivered"] == 1, what="everything settled")
    daemon.hayauma("campaign", "pause", "autumn")
    wait_until(lambda: daemon.json("audit")["exact"], what="a still moment")
    audit = daemon.json("audit")
    rows = {r["campaign"]: r for r in audit["rows"]}
    keys = ("accepted", "delivered", "bounced", "waiting", "difference")
    assert [rows["spring"][k] for k in keys] == [15, 5, 5, 5, 0]
    assert [rows["autumn"][k] for k in keys] == [2, 1, 0, 1, 0]
    assert audit["attempts"] == [] and audit["unclean_ends"] == []
    text = daemon.hayauma("audit", "--campaign", "spring")
    assert "15 accepted = 5 delivered + 5 bounced + 5 waiting" in text and "exact" in text and "autumn" not in text


def test_the_audit_names_attempts_in_doubt(world):
    world.receiver("doubt", "doubt.test", close_after="taken")
    world.receiver("p", "p.test")
    daemon = world.daemon(group("default", retry=HOURLY))
    daemon.send("a@doubt.test", headers=SPRING)
    daemon.send("b@p.test", headers=AUTUMN)
    wait_until(lambda: daemon.json("audit")["attempts"], what="the attempt's record")
    (attempt,) = daemon.json("audit")["attempts"]
    assert attempt["address"] == "a@doubt.test" and attempt["in_doubt"] and attempt["then"] == "retry"
    assert len(daemon.json("audit", "--campaign", "spring")["attempts"]) == 1
    assert daemon.json("audit", "--campaign", "autumn")["attempts"] == []
    text = daemon.hayauma("audit")
    assert "1 attempt was left in doubt" in text and "a@doubt.test" in text


def test_the_audit_tells_of_a_run_that_was_cut_short_and_of_no_other(world):
    world.receiver("slow", "slow.test", delay_s=3)
    daemon = world.daemon(group("default", retry=HOURLY))
    daemon.stop()
    daemon.start()
    assert daemon.json("audit")["unclean_ends"] == []
    for i in range(3):
        daemon.send(f"a{i}@slow.test", headers=SPRING)
    world.receivers.change("slow", delay_s=0)
    daemon.kill()
    daemon.start()
    (end,) = daemon.json("audit")["unclean_ends"]
    assert (end["first_attempts"], end["waiting"], end["possible_duplicates"]) == (3, 0, 0)
    text = daemon.hayauma("audit")  # the receiver had not even greeted
    assert "3 recipients with the workers" in text and "none of them was in a transaction" in text
    wait_until(lambda: not daemon.queued(), what="an empty queue")
    audit = daemon.json("audit")
    assert audit["exact"] and audit["totals"]["delivered"] == 3
    daemon.stop()
    daemon.start()
    assert len(daemon.json("audit")["unclean_ends"]) == 1


def test_of_thousands_that_wait_few_may_have_got_it_twice(world):
    world.receiver("slow", "slow.test", delay_s=0.2)
    daemon = world.daemon(group("default", retry=HOURLY, limits={"connections": 3, "recipients_per_transaction": 2}))
    daemon.send(*[f"a{i}@slow.test" for i in range(900)], headers=SPRING)
    wait_until(lambda: len(world.seen.deliveries) >= 4, what="some of it")
    daemon.kill()
    daemon.start()
    (end,) = daemon.json("audit")["unclean_ends"]
    assert end["first_attempts"] + end["waiting"] > 800
    assert 1 <= end["possible_duplicates"] <= 3 * 3 * 2, "on each connection one whose results are on their way, one, and the next"
    assert f"{end['possible_duplicates']} of them at most" in daemon.hayauma("audit")
    daemon.kill()
    (daemon.data / "flight").unlink()
    daemon.start()
    assert daemon.json("audit")["unclean_ends"][-1]["possible_duplicates"] is None
    assert "is not known" in daemon.hayauma("audit")


def test_the_audit_is_exact_by_campaign_after_a_kill_in_the_middle(world):
    """Delivered, bounced, deferred, paused and expired mail of three campaigns; kill -9 while it is sent and while it comes."""
    world.receiver("p", "p.test", replies={"RCPT": lambda s, a: "550 5.1.1 no" if "bad" in a else None}, delay_s=0.01)
    world.receiver("later", "later.test", replies={"RCPT": "450 4.2.0 later"})
    daemon = world.daemon(group("default", retry=HOURLY, limits={"connections": 5}))
    acknowledged, stop = {}, threading.Event()

    def keep_sending(campaign, recipients):
        acknowledged[campaign] = 0
        try:
            with daemon.client() as client:
                for i in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
                    to = [r.format(i) for r in recipients]
                    client.sendmail("", to, compose(to, headers=[f"X-Campaign: {campaign}"])[1])
                    acknowledged[campaign] += len(to)
        except (OSError, smtplib.SMTPException):
            pass
    kinds = {"spring": ["a{}@p.test", "bad{}@p.test"], "autumn": ["b{}@later.test", "c{}@p.test"], "winter": ["d{}@p.test"]}
    daemon.hayauma("campaign", "pause", "winter")
    threads = [threading.Thread(target=keep_sending, args=k) for k in kinds.items()]
    for t in threads:
        t.start()
    wait_until(lambda: len(world.seen.deliveries) >= 60, what="a real load")
    daemon.kill()
    stop.set()
    for t in threads:
        t.join()
    daemon.start()
    daemon.hayauma("campaign", "expire", "winter", "--in", "0s")
    wait_until(lambda: daemon.totals("spring")["waiting"] == 0, 30, "the rest of spring")
    wait_until(lambda: all(r["attempts"] for r in daemon.queued(campaign="autumn")), 30, "the rest of autumn")
    wait_until(lambda: daemon.json("audit")["exact"], what="a still moment")
    audit = daemon.json("audit")
    rows = {r["campaign"]: r for r in audit["rows"]}
    assert all(r["difference"] == 0 for r in rows.values()) and audit["totals"]["difference"] == 0
    for campaign, recipients in kinds.items():  # the last message's 250 may not have been read
        assert rows[campaign]["accepted"] - acknowledged[campaign] in (0, len(recipients))
    half = lambda c: rows[c]["accepted"] // 2
    assert (rows["spring"]["delivered"], rows["spring"]["bounced"]) == (half("spring"), half("spring"))
    assert (rows["autumn"]["delivered"], rows["autumn"]["waiting"]) == (half("autumn"), half("autumn"))
    assert rows["winter"]["expired"] == rows["winter"]["accepted"]
    copies = len(world.seen.deliveries) - rows["spring"]["delivered"] - rows["autumn"]["delivered"]
    (end,) = audit["unclean_ends"]
    assert 0 <= copies <= min(5, end["possible_duplicates"]), "what was on five connections"
    # Of each: two recipients of a transaction whose results are on their way to disk, of one at its end, and of the next.
    assert end["possible_duplicates"] <= 5 * 3 * 2


# ---- the guard ----

def test_the_guard_pauses_a_campaign_with_too_many_unknown_users_and_no_other(world):
    world.receiver("home", "origin.example")
    world.receiver("p", "p.test")
    daemon = world.daemon(group("default", retry=HOURLY), campaigns={"guard_after": 20, "guard_unknown": 25})
    for i in range(15):
        daemon.send(f"a{i}@p.test", headers=AUTUMN)
    for i in range(5):  # one in four is enough: 5 of 20
        daemon.send(f"unknown{i}@p.test", headers=SPRING)
    for i in range(14):
        daemon.send(f"b{i}@p.test", headers=SPRING)
    wait_until(lambda: (lambda t: t["delivered"] + t["bounced"] == 19)(daemon.totals("spring")), what="19 attempts")
    time.sleep(1.5)
    assert not show(daemon, "spring")["is_paused"]  # not before the 20th
    daemon.send("c@p.test", headers=SPRING)
    wait_until(lambda: show(daemon, "spring")["is_paused"], what="the pause")
    assert show(daemon, "spring")["paused_by"] == "the guard"
    assert "of its last 20 attempts 5 met an unknown user" in daemon.hayauma("campaign", "show", "spring")
    daemon.send("late@p.test", headers=SPRING)
    daemon.send("late@p.test", headers=AUTUMN)
    wait_until(lambda: daemon.totals("autumn")["delivered"] == 16, what="the other campaign")
    assert states(daemon, "spring")["paused"] == 1 and not show(daemon, "autumn")["is_paused"]
    daemon.kill()
    daemon.start()
    (event,) = daemon.json("shaping", "list")["events"]
    assert (event["what"], event["scope"], event["campaign"], event["by"]) == ("campaign_paused", "campaign", "spring", "guard")
    assert (event["code"], event["enhanced"]) == (550, "5.1.1") and "5 met an unknown user" in event["detail"]
    assert "until_unix" not in event
    daemon.hayauma("shaping", "clear", str(event["id"]))  # as good as `campaign resume spring`
    wait_until(lambda: states(daemon, "spring")["delivered"] == 16, what="the rest")
    assert not show(daemon, "spring")["is_paused"] and not daemon.json("shaping", "list")["events"]


def test_what_has_tripped_is_not_begun_any_more_on_any_worker(world):
    """Many domains on four workers: beyond the N attempts only what was in the air is sent; and everybody can see it."""
    domains = [f"d{i}.test" for i in range(16)]
    world.receiver("p", *domains, replies={"RCPT": "550 5.1.1 no such user"}, delay_s=0.02)
    world.receiver("q", "q.test")
    daemon = world.daemon(group("default", retry=HOURLY, limits={"connections": 4}), workers=4,
                          campaigns={"guard_after": 20, "guard_unknown": 50})
    daemon.hayauma("campaign", "pause", "spring")
    flood(daemon, [f"a{i}@{domains[i % 16]}" for i in range(320)], SPRING)
    daemon.hayauma("campaign", "resume", "spring")
    wait_until(lambda: daemon.json("status")["campaigns"]["guarded"], what="the guard")
    flood(daemon, [f"b{i}@q.test" for i in range(5)], AUTUMN)
    wait_until(lambda: daemon.totals("autumn")["delivered"] == 5, what="the other campaign")
    wait_until(lambda: states(daemon, "spring")["waiting"] == 0, what="all of it paused")
    ended = states(daemon, "spring")["bounced"]
    assert 20 <= ended <= 20 + 4 * 3, "four connections, each with one in work and one said ahead, and the finaliser's"
    assert states(daemon, "spring")["paused"] == 320 - ended
    (guarded,) = daemon.json("status")["campaigns"]["guarded"]
    assert guarded["campaign"] == "spring" and "unknown user" in guarded["why"]
    assert re.search("the guard paused the campaign spring: .*: hayauma campaign resume spring\n", daemon.hayauma("status"))
    assert re.search("paused by the guard +campaign spring ", daemon.hayauma("shaping", "list"))
    assert "hayauma_campaign_guard_trips 1" in daemon.api("/metrics")
    assert 'campaign.guard campaign=spring' in daemon.log()
    assert "campaign spring: paused by the guard, until it is resumed: of its last" in daemon.hayauma("status")
    daemon.hayauma("campaign", "pause", "spring")  # somebody's now: the event is over, the pause is not
    assert not daemon.json("shaping", "list")["events"] and show(daemon, "spring")["is_paused"]


def test_the_guard_counts_blocks_and_leaves_a_good_list_alone(world):
    world.receiver("p", "p.test")
    world.receiver("b", "blocking.test", replies={"RCPT": "554 5.7.1 blocked by a block list"})
    daemon = world.daemon(group("default", retry=HOURLY), campaigns={"guard_after": 10, "guard_blocked": 50, "guard_unknown": 0})
    for i in range(30):
        daemon.send(f"a{i}@p.test", headers=AUTUMN)
    for i in range(10):
        daemon.send(f"a{i}@blocking.test", headers=SPRING, sender="")
    wait_until(lambda: show(daemon, "spring")["is_paused"], what="the pause")
    assert "a block" in show(daemon, "spring")["paused_why"]
    wait_until(lambda: daemon.totals("autumn")["delivered"] == 30, what="the other campaign")
    time.sleep(1.2)
    assert not show(daemon, "autumn")["is_paused"]
