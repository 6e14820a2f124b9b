"""From the queue to receivers that are slow, strict, broken, gone or simply fine."""

import collections
import email
import email.policy
import time

import pytest

from harness import HOURLY, MX_PORT, PATIENCE, SENDER, Raw, compose, group, stays, wait_until
from world import net


@pytest.fixture
def home(world):
    """Where the sender lives and reads bounces."""
    world.receiver("home", "origin.example", keep_bodies=True, unknown_prefix="")
    return world


def dsns(world):
    """The delivery status notifications that reached the sender, parsed."""
    return [email.message_from_bytes(b) for (r, _), b in world.seen.bodies.items() if r == "home"]


def status_of(dsn):
    """{recipient: (action, status)} of a multipart/report."""
    assert dsn.get_content_type() == "multipart/report" and dsn.get_param("report-type") == "delivery-status"
    parts = dsn.get_payload()
    assert [p.get_content_type() for p in parts[:2]] == ["text/plain", "message/delivery-status"]
    assert parts[2].get_content_type() in ("message/rfc822", "text/rfc822-headers")
    fields = parts[1].get_payload()
    assert fields[0]["Reporting-MTA"]
    return {f["Final-Recipient"].partition(";")[2].strip(): (f["Action"].strip(), f["Status"].strip()) for f in fields[1:]}


# ---- outcomes ----

def test_t43_greylisting_is_waited_out_on_schedule_without_a_bounce(home):
    home.receiver("grey", "grey.test", greylist_s=2.5)
    daemon = home.daemon(group("g", ["grey.test"], retry={"schedule": ["1s", "2s", "3s"], "jitter": "0%", "lifetime": "1h"}))
    daemon.send("a@grey.test", "b@grey.test")
    home.got(2, at="grey")
    for who in ("a@grey.test", "b@grey.test"):
        asked = sorted([r.time for r in home.seen.refusals if r.recipient == who] + [d.time for d in home.seen.to(who)])
        assert 3 <= len(asked) <= 4, "no hot loop"
        for wait, before, then in zip((1, 2, 3), asked, asked[1:]):
            assert wait - 1 < then - before < wait + 1.5 * PATIENCE, asked  # due times are whole seconds
    assert {r.code for r in home.seen.refusals} == {450}
    assert not dsns(home) and daemon.totals()["bounced"] == 0


def test_550_becomes_one_dsn_that_reaches_the_sender(home):
    home.receiver("strict", "strict.test")
    daemon = home.daemon()
    message_id = daemon.send("unknown1@strict.test", "fine@strict.test", "unknown2@strict.test")
    wait_until(lambda: dsns(home), what="the DSN")
    time.sleep(0.5)
    found = {}
    for dsn in dsns(home):
        found.update(status_of(dsn))
        assert dsn["From"] and dsn["To"] and SENDER in dsn["To"] and dsn["Message-ID"]
        assert "no such user here" in dsn.as_string()
        assert message_id in dsn.as_string()
    assert found == {"unknown1@strict.test": ("failed", "5.1.1"), "unknown2@strict.test": ("failed", "5.1.1")}
    assert {d.sender for d in home.seen.at("home")} == {""}, "bounces come from the null sender"
    assert [d.recipient for d in home.seen.at("strict")] == ["fine@strict.test"]


def test_t61_a_bounce_of_a_bounce_is_dropped(world):
    world.receiver("strict", "strict.test", "origin.example", unknown_prefix="")
    world.receivers.change("strict", replies={"RCPT": "550 5.1.1 nobody"})
    daemon = world.daemon()
    daemon.send("unknown@strict.test")
    wait_until(lambda: len(world.seen.refusals) == 2, what="the bounce refused as well")
    stays(lambda: len(world.seen.refusals) == 2, 1.5, "nothing more is sent")
    wait_until(lambda: not daemon.queued(), what="an empty queue")
    counters = daemon.json("status")["counters"]
    assert (counters["bounced"], counters["bounces_dropped"]) == (2, 1)


def test_t61_a_bounce_to_a_sender_without_mail_is_dropped(world):
    """Null MX (RFC 7505): nobody is there to hear of it, and nobody is asked twice."""
    world.receiver("strict", "strict.test")
    world.dns.add("null.test", "MX", "0 .")
    daemon = world.daemon(group("default", retry=HOURLY))
    daemon.send("unknown@strict.test", sender="campaign@null.test")
    wait_until(lambda: daemon.json("status")["counters"]["bounces_dropped"] == 1, what="the bounce given up")
    wait_until(lambda: not daemon.queued(), what="an empty queue")
    (line,) = daemon.attempts("campaign@null.test")
    assert (line["result"], line["code"], line["enhanced"]) == ("bounced", "556", "5.1.10")
    assert daemon.json("status")["counters"]["bounced"] == 2 and len(world.seen.refusals) == 1


def test_t61_hostile_reply_text_stays_harmless_in_the_dsn(home):
    """Lines, fields, boundaries, controls and other scripts' tricks in a reply: one DSN, its parts as they should be."""
    home.receiver("evil", "evil.test", unknown_prefix="", replies={"RCPT": "\r\n".join((
        "550-5.1.1 Content-Type: text/html", "550-5.1.1 \x1b[2J\x07--boundary", "550-5.1.1 ", "550-5.1.1 Final-Recipient: rfc822;x@y.test",
        "550-5.1.1 \u202e\u200b\xe9 \ud7ff", "550-5.1.1 .", "550-5.1.1 \rBcc: x@y.test", "550 5.1.1 " + "A" * 400))})
    daemon = home.daemon()
    daemon.send("a@evil.test", "b@evil.test", headers=["X-Mine: --boundary", "Bcc2: no"], body="--boundary\r\n.\r\n".replace("\r\n.", "\r\n .")
                + "Content-Type: text/html\r\n")
    wait_until(lambda: dsns(home), what="the DSN")
    wait_until(lambda: not daemon.queued(), what="an empty queue")
    (dsn,) = dsns(home)
    assert status_of(dsn) == {"a@evil.test": ("failed", "5.1.1"), "b@evil.test": ("failed", "5.1.1")}
    raw = next(b for (r, _), b in home.seen.bodies.items() if r == "home")
    assert not [c for c in raw if c < 32 and c not in b"\r\n\t"] and b"\xe2\x80\xae" not in raw and max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.count(b"\n") == raw.count(b"\r\n") == raw.count(b"\r")
    parsed = email.message_from_bytes(raw, policy=email.policy.default)
    assert not [p.defects for p in parsed.walk() if p.defects] and len(parsed.get_payload()) == 3
    assert set(parsed.keys()) == {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
                                  "Content-Transfer-Encoding"}
    about = parsed.get_payload()[1].get_payload()
    assert [sorted(f.keys()) for f in about[1:]] == [sorted(about[1].keys())] * 2 and about[1].get_all("Final-Recipient") == ["rfc822; a@evil.test"]
    assert len({d.message_id for d in home.seen.at("home")}) == 1


@pytest.mark.parametrize("notify, want", [("NEVER", 0), ("FAILURE", 1), ("SUCCESS", 0), ("DELAY", 0)])
def test_t61_notify_decides_who_hears_of_a_failure(home, notify, want):
    home.receiver("strict", "strict.test")
    daemon = home.daemon()
    daemon.send("unknown@strict.test", rcpt_options=[f"NOTIFY={notify}"])
    wait_until(lambda: not daemon.queued() and home.seen.refusals, what="the failure")
    if want:
        wait_until(lambda: dsns(home), what="the DSN")
    else:
        time.sleep(1)
    assert len(dsns(home)) == want


def test_success_is_reported_when_asked_for_and_the_next_server_cannot(home):
    home.receiver("old", "old.test", dsn=False)
    daemon = home.daemon()
    daemon.send("a@old.test", rcpt_options=["NOTIFY=SUCCESS,FAILURE"])
    wait_until(lambda: dsns(home), what="the DSN")
    assert status_of(dsns(home)[0])["a@old.test"][0] == "relayed"


def test_dsn_parameters_travel_to_a_server_that_knows_them(world):
    said = []
    world.receiver("modern", "modern.test", replies={"RCPT": lambda s, a: said.append((s.mail_line, a)) and None})
    daemon = world.daemon()
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")
        raw.ok(f"MAIL FROM:<{SENDER}> RET=HDRS ENVID=QQ314159")
        raw.ok("RCPT TO:<a@modern.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;other@modern.test")
        raw.ok("DATA", 354)
        raw.send(compose()[1])
        raw.ok(".")
    world.got(1)
    mail, rcpt = said[0]
    assert "RET=HDRS" in mail and "ENVID=QQ314159" in mail
    assert "NOTIFY=SUCCESS,FAILURE" in rcpt and "ORCPT=rfc822;other@modern.test" in rcpt


def test_a_deferred_recipient_bounces_when_its_lifetime_ends(home):
    home.receiver("never", "never.test", replies={"RCPT": "451 4.3.0 come back"})
    daemon = home.daemon(group("n", ["never.test"], retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "3s"}))
    daemon.send("a@never.test")
    wait_until(lambda: dsns(home), 20, "the DSN")
    (dsn,) = dsns(home)
    assert status_of(dsn)["a@never.test"] [0] == "failed"
    assert "come back" in dsn.as_string(), "the last reply says why"


def test_t44_each_recipient_has_its_own_outcome(home):
    answers = {"ok": None, "later": "450 4.2.1 later", "gone": "550 5.1.1 gone", "full": "552 5.2.2 full", "moved": "251 moved, will do"}
    home.receiver("mixed", "mixed.test", replies={"RCPT": lambda s, a: answers[a.partition("<")[2].partition("@")[0]]})
    daemon = home.daemon(group("m", ["mixed.test"], retry=HOURLY))
    daemon.send(*[f"{who}@mixed.test" for who in answers])
    wait_until(lambda: len(home.seen.at("mixed")) == 2 and dsns(home), what="two deliveries and the DSN")
    assert {d.recipient for d in home.seen.at("mixed")} == {"ok@mixed.test", "moved@mixed.test"}
    failed = {}
    for dsn in dsns(home):
        failed.update(status_of(dsn))
    assert failed == {"gone@mixed.test": ("failed", "5.1.1")}
    wait_until(lambda: {r["recipient"] for r in daemon.queued()} == {"later@mixed.test", "full@mixed.test"},
               what="552 to RCPT to be what 452 would be (RFC 5321 §4.5.3.1.10), and the DSN's own record")


@pytest.mark.parametrize("code", [452, 552])
def test_t44_452_or_552_for_too_many_recipients_puts_the_rest_into_the_next_transaction(world, code):
    world.receiver("few", "few.test", replies={"RCPT": lambda s, a: f"{code} too many recipients" if len(s.rcpts) >= 10 else None})
    daemon = world.daemon(group("f", ["few.test"], retry=HOURLY))
    daemon.send(*[f"r{i}@few.test" for i in range(35)])
    world.got(35)
    assert max(collections.Counter(d.transaction for d in world.seen.deliveries).values()) <= 10


def test_data_refused_after_the_recipients_defers_them_all(world):
    world.receiver("late", "late.test", replies={"DATA": "451 4.3.0 not now"})
    daemon = world.daemon()
    daemon.send("a@late.test", "b@late.test")
    wait_until(lambda: world.seen.commands["late"]["DATA"] + world.seen.commands["late"]["BDAT"] >= 1, what="an attempt")
    world.receivers.change("late", replies={})
    world.got(2)


def test_the_reply_to_the_dot_decides(home):
    home.receiver("spam", "spam.test", replies={"DOT": "554 5.7.1 looks like spam"})
    daemon = home.daemon()
    daemon.send("a@spam.test")
    wait_until(lambda: dsns(home), what="the DSN")
    assert status_of(dsns(home)[0]) == {"a@spam.test": ("failed", "5.7.1")}


@pytest.mark.parametrize("stage", ["connect", "EHLO", "STARTTLS", "MAIL", "RCPT", "RCPT#2", "DATA", "BDAT", "DOT"])
def test_t40_a_connection_lost_at_any_stage_is_tried_again(world, stage):
    world.receiver("shaky", "shaky.test", close_after=stage, chunking=stage == "BDAT")
    daemon = world.daemon(group("s", ["shaky.test"], retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "1h"}))
    daemon.send("a@shaky.test", "b@shaky.test")
    wait_until(lambda: world.seen.sessions["shaky"] >= 1, what="an attempt")
    time.sleep(0.3)
    assert not world.seen.deliveries
    world.receivers.change("shaky", close_after="")
    world.got(2)


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
def test_t42_421_at_any_stage_waits_and_comes_back(world, stage):
    world.receiver("busy", "busy.test", chunking=False, replies={stage: "421 4.3.2 closing"}, ehlo=True)
    daemon = world.daemon(group("b", ["busy.test"], retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "1h"}))
    daemon.send("a@busy.test")
    wait_until(lambda: world.seen.sessions["busy"] >= 1, what="an attempt")
    time.sleep(0.5)
    assert world.seen.sessions["busy"] <= 3, "no hot loop"
    world.receivers.change("busy", replies={})
    world.got(1, 30)


def test_t40_an_answer_lost_after_the_dot_makes_one_more_copy_at_most_and_is_marked(world):
    world.receiver("doubt", "doubt.test", close_after="taken")
    daemon = world.daemon(group("d", ["doubt.test"], retry={"schedule": ["2s"], "jitter": "0%", "lifetime": "1h"}))
    daemon.send("a@doubt.test")
    world.got(1)
    world.receivers.change("doubt", close_after="")
    world.got(2)
    assert len({d.message_id for d in world.seen.deliveries}) == 1


# ---- where to ----

def test_t56_a_second_mx_takes_over_when_the_first_is_dead(world):
    world.receiver("second")
    world.dns.mx("two.test", "10 mx.dead.test", "20 mx.second.test").a("mx.dead.test", world.net.address())
    daemon = world.daemon()
    daemon.send("a@two.test")
    world.got(1, at="second")


@pytest.mark.parametrize("greeting", ["554 5.3.2 no mail here", "421 4.3.2 busy", "521 5.3.2 never"])
def test_a_first_mx_that_greets_badly_is_left_for_the_second(world, greeting):
    world.receiver("first", replies={"CONNECT": greeting})
    world.receiver("second")
    world.dns.mx("two.test", "10 mx.first.test", "20 mx.second.test")
    daemon = world.daemon()
    daemon.send("a@two.test")
    world.got(1, at="second")


@pytest.mark.serial
def test_t56_a_dead_ipv6_address_costs_no_long_stall(world):
    """::1 with a full backlog never answers, as an IPv6 network that leads nowhere."""
    here = world.receiver("v4")
    hole = net.BlackHole("::1", MX_PORT)
    try:
        world.dns.mx("dual.test", "10 mx.dual.test").a("mx.dual.test", here).aaaa("mx.dual.test", "::1")
        daemon = world.daemon(group("d", ["dual.test"], retry=HOURLY, timeouts={"connect": "20s"}))
        start = time.time()
        daemon.send("a@dual.test")
        world.got(1, 10)
        assert time.time() - start < 8 * PATIENCE
    finally:
        hole.stop()


def test_an_address_literal_is_delivered_to_that_address(world):
    here = world.receiver("literal")
    daemon = world.daemon()
    daemon.send(f"a@[{here}]")
    world.got(1)


def test_a_smart_host_gets_everything_with_auth_inside_tls(world, tmp_path):
    here = world.receiver("hub", auth={"campaigns": "top secret"})
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text("top secret\n")
    daemon = world.daemon(group("default", starttls="require", route={
        "smarthost": [f"{here}:{MX_PORT}"], "auth": {"user": "campaigns", "password_file": str(secret)}}))
    daemon.send("a@anywhere.test", "b@elsewhere.test")
    assert all(d.tls != "clear" for d in world.got(2, at="hub"))
    assert world.seen.commands["hub"]["AUTH ok"] >= 1
    assert "top secret" not in daemon.log()


def test_credentials_never_go_in_clear(world, tmp_path):
    here = world.receiver("hub", tls="none", auth={"campaigns": "top secret"}, record=True)
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text("top secret\n")
    daemon = world.daemon(group("default", starttls="on", retry=HOURLY, clear_after_tls_failure="now", route={
        "smarthost": [f"{here}:{MX_PORT}"], "auth": {"user": "campaigns", "password_file": str(secret)}}))
    daemon.send("a@anywhere.test")
    wait_until(lambda: world.seen.sessions["hub"] >= 1 and daemon.queued()[0]["attempts"] >= 1, what="an attempt")
    assert world.seen.commands["hub"]["AUTH"] == 0 and world.seen.commands["hub"]["MAIL"] == 0


def test_credentials_are_for_the_server_that_they_belong_to(world, certs, tmp_path):
    """A group that says nothing of TLS verifies where it has a password: whoever stands between gets neither it nor the mail."""
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text("top secret\n")
    world.receiver("false", auth={"campaigns": "top secret"}, cert="self_signed")
    world.receiver("true", auth={"campaigns": "top secret"})
    groups = []
    for name in ("false", "true"):
        groups.append(group(name, [f"{name}-hub.test"], retry=HOURLY, tls={"ca_file": str(certs.ca_file)}, route={
            "smarthost": [f"mx.{name}.test:{MX_PORT}"], "auth": {"user": "campaigns", "password_file": str(secret)}}))
        del groups[-1]["starttls"], groups[-1]["port"]
    daemon = world.daemon(*groups)
    daemon.send("a@false-hub.test", "a@true-hub.test")
    assert [d.receiver for d in world.got(1)] == ["true"] and world.seen.commands["true"]["AUTH ok"] == 1
    wait_until(lambda: daemon.attempts("a@false-hub.test"), what="an attempt")
    assert daemon.attempts("a@false-hub.test")[0]["enhanced"] == "4.7.5"
    assert world.seen.commands["false"]["STARTTLS"] == 1 and world.seen.commands["false"]["AUTH"] == 0


def test_implicit_tls_to_a_smart_host(world):
    here = world.receiver("hub", tls="implicit")
    daemon = world.daemon(group("default", starttls="require", route={"smarthost": [f"{here}:{MX_PORT}"], "implicit_tls": True}))
    daemon.send("a@anywhere.test")
    assert world.got(1)[0].tls != "clear"


@pytest.mark.parametrize("host", ["hayauma.example", "alias.example"])
def test_t37_mail_for_a_host_that_is_ourselves_does_not_loop(world, host):
    """T55 as well.  By our name it is seen before a connection is made; by an address alone when a hundred have been."""
    daemon = world.daemon(group("default", port=2525, retry=HOURLY), start=False)
    world.dns.mx("loop.test", f"10 {host}").a(host, daemon.address)
    daemon.start()
    daemon.send("a@loop.test", sender="")
    wait_until(lambda: daemon.totals()["bounced"] == 1, 30, what="the bounce")
    counters = daemon.api("/api/v1/status")["counters"]
    assert counters["messages_in"] == (1 if host == "hayauma.example" else 100)
    assert daemon.attempts("a@loop.test")[-1]["enhanced"] == "5.4.6"
    assert daemon.queued() == []


# ---- how much at once ----

def test_one_connection_carries_many_messages_up_to_its_limit(world):
    world.receiver("one", "one.test")
    daemon = world.daemon(group("o", ["one.test"], limits={"connections": 1, "messages_per_connection": 10}))
    for i in range(40):
        daemon.send(f"r{i}@one.test")
    world.got(40)
    per_session = collections.Counter(d.session for d in world.seen.deliveries)
    assert max(per_session.values()) <= 10
    assert 4 <= len(per_session) <= 12


def test_five_connections_never_are_six(world):
    world.receiver("five", "five-a.test", "five-b.test", "five-c.test", "five-d.test", delay_s=0.02)
    daemon = world.daemon(group("f", [".test", "five-a.test", "five-b.test", "five-c.test", "five-d.test"],
                                limits={"connections": 5, "connections_per_host": 100}))
    submit_many(daemon, [f"r{i}@five-{'abcd'[i % 4]}.test" for i in range(200)])
    world.got(200, 60)
    assert world.seen.peak["five"] <= 5
    assert world.seen.peak["five"] >= 4, "and the five are used"


def test_connections_per_host_hold_over_all_domains_and_workers(world):
    world.receiver("host", *[f"d{i}.test" for i in range(12)], delay_s=0.02)
    daemon = world.daemon(group("default", limits={"connections": 100, "connections_per_host": 3}), workers=4)
    submit_many(daemon, [f"r{i}@d{i % 12}.test" for i in range(150)])
    world.got(150, 60)
    assert world.seen.peak["host"] <= 3


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.parametrize("rate", [20])
def test_a_rate_is_kept_within_five_percent(world, rate):
    world.receiver("rate", "rate.test", "rate2.test")
    daemon = world.daemon(group("r", ["rate.test", "rate2.test"], limits={"messages_per_second": rate}))
    submit_many(daemon, [f"r{i}@rate{'2' * (i % 2)}.test" for i in range(rate * 9)])
    world.got(rate * 9, 40)
    times = sorted(d.time for d in world.seen.deliveries)
    # The first second may start with what the bucket holds; afterwards the rate rules.
    rest = [t for t in times if t > times[0] + 1.5]
    measured = (len(rest) - 1) / (rest[-1] - rest[0])
    assert abs(measured - rate) <= 0.05 * rate, measured


def test_recipients_of_one_message_at_one_site_share_a_transaction(world):
    world.receiver("site", "a.test", "b.test")
    daemon = world.daemon(group("default", limits={"recipients_per_transaction": 50}))
    daemon.send(*[f"r{i}@a.test" for i in range(50)])
    world.got(50)
    assert len({d.transaction for d in world.seen.deliveries}) == 1


def test_t59_an_idle_connection_that_the_peer_closed_costs_no_attempt(world):
    world.receiver("idle", "idle.test")
    daemon = world.daemon(group("i", ["idle.test"], retry=HOURLY, timeouts={"idle": "60s"}))
    daemon.send("a@idle.test")
    world.got(1)
    for session in list(world.receivers.by_name["idle"].sessions):
        world.receivers.loop.call_soon_threadsafe(session.transport.close)
    time.sleep(0.2)
    daemon.send("b@idle.test")
    world.got(2)


def test_t59_a_server_that_ends_the_session_at_mail_is_met_again_at_once(world):
    world.receiver("short", "short.test", messages_per_connection=2)
    daemon = world.daemon(group("s", ["short.test"], retry=HOURLY, limits={"connections": 1}))
    for i in range(10):
        daemon.send(f"r{i}@short.test")
    world.got(10, 20)


# ---- what peers lie about ----

@pytest.mark.parametrize("reply", [
    "25", "2500 what", "xyz hello", "250", "999 no", "250-first\r\n550 second", "220 \0\x01\x02", "250 " + "y" * 5000])
def test_t45_a_nonsense_reply_to_ehlo_is_survived(world, reply):
    world.receiver("liar", "liar.test", replies={"EHLO": reply, "HELO": reply})
    world.receiver("good", "good.test")
    daemon = world.daemon(group("default", retry=HOURLY, timeouts={"ehlo": "2s"}))
    daemon.send("a@liar.test")
    daemon.send("a@good.test")
    world.got(1, at="good")
    wait_until(lambda: world.seen.sessions["liar"] >= 1, what="the liar met")
    time.sleep(0.2)
    assert daemon.process.poll() is None


@pytest.mark.parametrize("how", [dict(pipelining=False), dict(chunking=False), dict(ehlo=False, tls="none"), dict(size=0),
                                 dict(dsn=False, smtputf8=False, eightbit=False), dict(pipelining=False, chunking=False)])
def test_t46_mail_arrives_whatever_the_server_offers(world, how):
    world.receiver("plain", "plain.test", keep_bodies=True, **how)
    daemon = world.daemon()
    body = b".dots\r\n..\r\n" * 2000
    ids = [daemon.send(f"r{i}@plain.test", body=body) for i in range(5)]
    world.got(5)
    for message_id in ids:
        assert world.seen.bodies[("plain", message_id)].partition(b"\r\n\r\n")[2] == body


def test_a_message_larger_than_the_announced_size_bounces_unsent(home):
    home.receiver("small", "small.test", size=10000)
    daemon = home.daemon()
    daemon.send("a@small.test", body="x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 1000)
    wait_until(lambda: dsns(home), what="the DSN")
    assert status_of(dsns(home)[0])["a@small.test"] == ("failed", "5.3.4")
    assert home.seen.commands["small"]["DATA"] + home.seen.commands["small"]["BDAT"] == 0


def submit_many(daemon, recipients):
    """One message each, pipelined over one connection."""
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")
        for start in range(0, len(recipients), 50):
            part = recipients[start:start + 50]
            for r in part:
                raw.ok(f"MAIL FROM:<{SENDER}>")
                raw.send(f"RCPT TO:<{r}>\r\nDATA\r\n")
                assert (raw.reply()[0], raw.reply()[0]) == (250, 354)
                raw.send(compose([r])[1])
                raw.ok(".")


def test_later_goes_in_clear_once_the_message_is_old_enough(world):
    world.receiver("broken", "broken.test", starttls_break="garbage")
    daemon = world.daemon(group("b", ["broken.test"], starttls="on", clear_after_tls_failure="later",
                                retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "1d"}),
                          delivery={"clear_fallback_after": "2500ms"})
    sent = time.time()
    daemon.send("a@broken.test")
    got = world.got(1, 20)
    assert [d.tls for d in got] == ["clear"] and got[0].time - sent >= 2.4
    wait_until(lambda: sum(r["clear_by_fallback"] for r in daemon.json("report", "tls")["rows"]) == 1, what="the fallback in the report")
