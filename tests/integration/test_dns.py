"""T55: what the name system can do to a delivery: each answer has its defined result (RFC 5321 §5.1, RFC 7505)."""


import pytest

from harness import HOURLY, SENDER, group, wait_until
from test_delivery import dsns, status_of


@pytest.fixture
def home(world):
    world.receiver("home", "origin.example", keep_bodies=True, unknown_prefix="")
    return world


def bounced(world, daemon, recipient):
    wait_until(lambda: any(recipient in status_of(d) for d in dsns(world)), what=f"the DSN for {recipient}")
    return next(status_of(d)[recipient] for d in dsns(world) if recipient in status_of(d))


def deferred(daemon, recipient):
    """The enhanced code of the first attempt that was put off."""
    lines = wait_until(lambda: [a for a in daemon.attempts(recipient) if a["result"] == "deferred"], 20, f"an attempt for {recipient}")
    assert [r["recipient"] for r in daemon.queued()].count(recipient) == 1
    return lines[0]["enhanced"]


@pytest.mark.parametrize("case, status", [
    ("null", "5.1.10"), ("missing", "5.1.2"), ("nothing", "5.4.4")])
def test_what_can_never_work_bounces_at_once(home, case, status):
    d = home.dns
    d.add("null.test", "MX", "0 .")
    d.add("nothing.test", "TXT", '"no mail here"')
    daemon = home.daemon()
    daemon.send(f"a@{case}.test")
    action, got = bounced(home, daemon, f"a@{case}.test")
    assert action == "failed" and got == status


@pytest.mark.parametrize("where", ["domain", "host"])
def test_names_that_lead_in_a_circle_bounce_when_they_still_do_at_the_second_attempt(home, where):
    home.dns.cname("loop.test" if where == "domain" else "mx.loop.test", "a.ring.test").cname("a.ring.test", "b.ring.test")
    home.dns.cname("b.ring.test", "a.ring.test")
    if where == "host":
        home.dns.mx("loop.test", "10 mx.loop.test")
    daemon = home.daemon()
    daemon.send("a@loop.test")
    assert bounced(home, daemon, "a@loop.test") == ("failed", "5.4.4")
    assert [a["enhanced"] for a in daemon.json("explain", "loop.test")["attempts"]] == ["4.4.3", "5.4.4"]


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "TIMEOUT"])
def test_a_name_server_in_trouble_defers(home, fault):
    home.dns.fail("trouble.test", "MX", fault)
    daemon = home.daemon(group("default", retry=HOURLY))
    daemon.send("a@trouble.test")
    assert "4.4.3" in deferred(daemon, "a@trouble.test")


def test_an_mx_host_whose_addresses_cannot_be_had_defers_too(home):
    home.dns.mx("half.test", "10 mx.half.test")
    home.dns.fail("mx.half.test", "A", "SERVFAIL")
    home.dns.fail("mx.half.test", "AAAA", "SERVFAIL")
    daemon = home.daemon(group("default", retry=HOURLY))
    daemon.send("a@half.test")
    assert "4.4.3" in deferred(daemon, "a@half.test")


def test_no_mx_means_the_domain_itself(world):
    here = world.receiver("self")
    world.dns.a("bare.test", here)
    daemon = world.daemon()
    daemon.send("a@bare.test")
    world.got(1)


def test_an_unusable_mx_never_falls_back_to_the_address(home):
    here = home.receiver("web")
    home.dns.mx("web.test", "10 nowhere.web.test").a("web.test", here)
    daemon = home.daemon(group("default", retry=HOURLY))
    daemon.send("a@web.test")
    wait_until(lambda: dsns(home), 15, "the DSN: RFC 5321 §5.1 makes it an error")
    assert home.seen.sessions["web"] == 0


def test_a_null_mx_beside_others_is_only_skipped(world):
    world.receiver("real")
    world.dns.add("mixed.test", "MX", "0 .", "10 mx.real.test.")
    daemon = world.daemon()
    daemon.send("a@mixed.test")
    world.got(1)


def test_a_cname_is_followed(world):
    world.receiver("real", "target.test")
    world.dns.cname("alias.test", "target.test")
    daemon = world.daemon()
    daemon.send("a@alias.test")
    world.got(1)


def test_an_mx_that_is_a_cname_still_works(world):
    world.receiver("real")
    world.dns.mx("c.test", "10 alias.c.test").cname("alias.c.test", "mx.real.test")
    daemon = world.daemon()
    daemon.send("a@c.test")
    world.got(1)


def test_a_truncated_answer_is_asked_for_again_over_tcp(world):
    world.receiver("real", "big.test")
    world.dns.fail("big.test", "MX", "TRUNCATE")
    daemon = world.daemon()
    daemon.send("a@big.test")
    world.got(1)
    assert any(q[2] == "tcp" for q in world.dns.asked("big.test", "MX"))


def test_five_hundred_mx_hosts_are_survived(world):
    world.receiver("real")
    world.dns.mx("many.test", "1 mx.real.test", *[f"{10 + i} mx{i}.many.test" for i in range(500)])
    daemon = world.daemon(dns={"timeout": "2s", "total_timeout": "20s"})  # so many names take the scripted server a while
    daemon.send("a@many.test")
    world.got(1, 30)


def test_a_second_name_server_is_asked_when_the_first_is_silent(world):
    world.receiver("real", "ok.test")
    silent = world.net.address()
    daemon = world.daemon(start=False)
    daemon.config["dns"]["servers"] = [f"{silent}:5399", world.dns.server]
    daemon.start()
    daemon.send("a@ok.test")
    world.got(1)


def test_answers_are_cached_for_their_ttl(world):
    world.receiver("real", "c.test")
    daemon = world.daemon(workers=1)
    for i in range(20):
        daemon.send(f"r{i}@c.test")
    world.got(20)
    assert len(world.dns.asked("c.test", "MX")) == 1


@pytest.mark.parametrize("kind", ["wrong id", "wrong question", "garbage", "compression loop"])
def test_a_false_answer_is_not_believed(world, kind):
    import dns.message
    world.receiver("evil")
    world.receiver("real", "target.test")
    first = []

    def fault(query, transport):
        if first:
            return None
        first.append(1)
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text("target.test.", 60, "IN", "MX", "10 mx.evil.test."))
        wire = bytearray(reply.to_wire())
        if kind == "garbage":
            return bytes(12) + b"\xff" * 40
        if kind == "compression loop":
            return bytes(wire[:12]) + b"\xc0\x0c" + bytes(wire[-20:])
        if kind == "wrong question":
            other = dns.message.make_response(dns.message.make_query("other.test", "MX"))
            other.answer.append(dns.rrset.from_text("other.test.", 60, "IN", "MX", "10 mx.evil.test."))
            return other.to_wire()
        return "wrong id"

    if kind == "wrong id":
        original = world.dns.answer

        def answer(wire, transport):
            reply = original(wire, transport)
            if transport == "udp" and b"target" in wire and not first:
                first.append(1)
                return bytes([wire[0] ^ 0xff, wire[1]]) + reply[2:].replace(b"real", b"evil")
            return reply

        world.dns.answer = answer
    else:
        world.dns.fail("target.test", "MX", fault)
    daemon = world.daemon()
    daemon.send("a@target.test")
    world.got(1, 20, at="real")
    assert world.seen.sessions["evil"] == 0


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1"])
def test_addresses_that_no_mail_may_go_to_are_not_used(home, address):
    home.dns.mx("odd.test", "10 mx.odd.test").a("mx.odd.test", address)
    daemon = home.daemon(group("default", retry=HOURLY))
    daemon.send("a@odd.test")
    assert bounced(home, daemon, "a@odd.test") == ("failed", "5.4.4")
    assert daemon.json("status")["counters"]["connections_out"] == 1, "that of the bounce"


def test_an_mx_that_is_an_address_is_none(home):
    """RFC 5321 §5.1: a name, and not the text of an address; beside others it is passed over."""
    here = home.receiver("real")
    home.dns.add("only.test", "MX", f"10 {here}.").add("beside.test", "MX", f"5 {here}.", "10 mx.real.test.")
    home.dns.a(here, here)
    daemon = home.daemon(group("default", retry=HOURLY))
    daemon.send("a@only.test", "a@beside.test")
    assert bounced(home, daemon, "a@only.test") == ("failed", "5.4.4")
    assert [d.recipient for d in home.seen.at("real")] == ["a@beside.test"]


def test_a_domain_name_in_another_script_is_asked_for_in_ascii(world):
    world.receiver("real", "xn--bcher-kva.test")
    daemon = world.daemon()
    from harness import Raw, compose
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")
        raw.ok(f"MAIL FROM:<{SENDER}> SMTPUTF8")
        raw.ok("RCPT TO:<a@bücher.test>")
        raw.ok("DATA", 354)
        raw.send(compose()[1])
        raw.ok(".")
    wait_until(lambda: world.seen.deliveries, what="the delivery")
