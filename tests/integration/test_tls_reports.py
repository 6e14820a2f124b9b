"""
T54: TLS reports.  A day of sessions gives exactly the expected counts, by mail and by POST; what others report is taken in by
file and by mail.
"""

import base64
import datetime
import gzip
import itertools
import json
import re
import time

import dkim
import pytest
from cryptography.hazmat.primitives import serialization

from harness import HOURLY, MX_PORT, Raw, compose, group, wait_until
from secure_world import SecureWorld, leaf, require_signed_world
from test_dkim import Key, records
from tls_reports import Collector, a_day_passes, check, day, of_mail, sums
from world import sts
from world.certs import tlsa

ORGANIZATION, CONTACT = "Origin Mail Ltd", "tls@origin.example"


@pytest.fixture
def key(world):
    return Key(world.folder, "s1")


@pytest.fixture
def collector(world):
    c = Collector(world.net.address(), world.certs.self_signed("collector.test"))  # §5.4: any certificate will do
    world.dns.a("collector.test", c.server.server_address[0])
    yield c
    c.stop()


def configure(key=None, **tlsrpt):
    """Not enabled until a day has passed: else the first start finds that nothing happened yesterday, and is done with it."""
    return {"dkim": {"keys": [key.config()] if key else []},
            "tlsrpt": {"enabled": False, "organization": ORGANIZATION, "contact": CONTACT, "delay_max": "0", "retry": "1s",
                       "private_addresses": True, **tlsrpt}}


def wants_reports(world, domain, *rua):
    world.dns.remove(f"_smtp._tls.{domain}", "TXT")
    world.dns.add(f"_smtp._tls.{domain}", "TXT", f'"v=TLSRPTv1; rua={",".join(rua)}"')


def sessions(daemon, world, domain, count):
    """So many messages to the domain, one after the other, and what came of them is on record."""
    for i in range(count):
        daemon.send(f"u{i}@{domain}")
        wait_until(lambda: daemon.attempts(f"u{i}@{domain}"), what=f"message {i} to {domain}")
    wait_until(lambda: daemon.hayauma("tls", "report-out", "send", domain, "--day", day(), "--print", code=None),
               what=f"a session with {domain} on record")


def out(daemon, domain=None):
    listed = daemon.json("tls", "report-out", "list", *([domain] if domain else []))
    return {(r["day"], r["domain"]): r["kept"] for r in listed["reports"]}


def wait_for_state(daemon, domain, state, seconds=20):
    return wait_until(lambda: next((k for (_, d), k in out(daemon, domain).items() if k["state"] == state), None), seconds,
                      f"the report of {domain} to be {state}")


@pytest.fixture
def scripted_day(world):
    """Five destinations, each with its fate, and what a report must say of them."""
    one = {"messages_per_connection": 1}
    hosts = sts.PolicyHosts(world.net.address())
    world.receiver("good", "good.test", **one)
    world.receiver("clear", "clear.test", tls="none", **one)
    world.receiver("wrong", "wrong.test", cert="wrong_name", **one)
    world.receiver("expired", "expired.test", cert="expired", **one)
    world.receiver("sts", "sts.test", "other.test", **one)
    site = sts.Site(sts.policy(mx=["mx.sts.test"]), cert=world.certs.good("mta-sts.sts.test"))
    hosts.add("sts.test", site)
    world.dns.add("_mta-sts.sts.test", "TXT", '"v=STSv1; id=1;"')
    world.dns.a("mta-sts.sts.test", hosts.address)
    world.hosts = hosts
    yield {
        "good.test": (3, {("no-policy-found", ""): 3}),
        "clear.test": (2, {("no-policy-found", "starttls-not-supported"): 2}),
        "wrong.test": (2, {("no-policy-found", "certificate-host-mismatch"): 2}),
        "expired.test": (1, {("no-policy-found", "certificate-expired"): 1}),
        "sts.test": (4, {("sts", ""): 4}),
    }
    hosts.stop()


def run_the_day(world, daemon, scripted_day):
    for domain, (count, _) in scripted_day.items():
        sessions(daemon, world, domain, count)


def trusting(world, **rules):
    return group("default", tls={"ca_file": str(world.certs.ca_file)}, **rules)


def start(world, **config):
    return world.daemon(trusting(world, mta_sts="try"), mta_sts={"ca_file": str(world.certs.ca_file), "port": world.hosts.port},
                        **config)


def test_a_scripted_day_gives_exactly_the_expected_counts(world, scripted_day, key, collector):
    rua = world.receiver("rua", "rua.test", keep_bodies=True)
    assert rua
    for domain in scripted_day:
        wants_reports(world, domain, f"mailto:{domain}@rua.test")
    wants_reports(world, "sts.test", f"https://collector.test:{collector.port}/tls")
    daemon = start(world, **configure(key))
    begun = day()
    run_the_day(world, daemon, scripted_day)
    for domain, (_, expected) in scripted_day.items():
        shown = check(daemon.hayauma("tls", "report-out", "send", domain, "--day", begun, "--print"))
        assert sums(shown) == expected, domain
        assert shown["date-range"]["start-datetime"] == f"{begun}T00:00:00Z"
        assert shown["organization-name"] == ORGANIZATION and shown["contact-info"] == CONTACT
    daemon.stop()
    a_day_passes(daemon)
    daemon.start()
    got = {}
    for domain in scripted_day:
        wait_for_state(daemon, domain, "sent")
    wait_until(lambda: len(world.seen.at("rua")) == 4, what="four report mails")
    wait_until(lambda: len([k for k in world.seen.bodies if k[0] == "rua"]) == 4, what="their octets")
    for octets in [b for (at, _), b in world.seen.bodies.items() if at == "rua"]:
        message, report = of_mail(octets)
        got[message["TLS-Report-Domain"]] = report
        assert dkim.verify(octets, dnsfunc=records(key))
        signed = [h.strip().lower() for h in message["DKIM-Signature"].split("h=")[1].split(";")[0].split(":")]
        assert {"from", "tls-report-domain", "tls-report-submitter"} <= set(signed) and "; l=" not in message["DKIM-Signature"]
        assert message["TLS-Report-Submitter"] == "origin.example" and message["From"].addresses[0].addr_spec == CONTACT
        assert message["TLS-Required"] == "No" and message["Auto-Submitted"] == "auto-generated"
        assert message["Subject"] == (f"Report Domain: {message['TLS-Report-Domain']} Submitter: origin.example "
                                      f"Report-ID: <{report['report-id']}>")
        name = list(message.iter_parts())[1].get_filename().split("!")
        first = int(datetime.datetime.fromisoformat(report["date-range"]["start-datetime"][:-1] + "+00:00").timestamp())
        assert name[:4] == ["origin.example", message["TLS-Report-Domain"], str(first), str(first + 86399)]
        assert name[4].endswith(".json.gz")
    [(path, kind, octets, _)] = collector.requests
    assert (path, kind) == ("/tls", "application/tlsrpt+gzip")
    got["sts.test"] = check(gzip.decompress(octets))
    for domain, (_, expected) in scripted_day.items():
        assert sums(got[domain]) == expected, domain
        assert got[domain]["date-range"] == {"start-datetime": f"{day(1)}T00:00:00Z", "end-datetime": f"{day(1)}T23:59:59Z"}
    [policy] = got["sts.test"]["policies"]
    assert policy["policy"]["mx-host"] == ["mx.sts.test"] and policy["policy"]["policy-string"][0] == "version: STSv1"
    [detail] = got["clear.test"]["policies"][0]["failure-details"]
    assert detail["receiving-mx-hostname"] == "mx.clear.test" and detail["receiving-ip"].startswith("127.")
    # Nothing goes out twice: not by another start, not by the report's own sessions.
    daemon.stop()
    daemon.start()
    time.sleep(3)
    assert len(world.seen.at("rua")) == 4 and len(collector.requests) == 1
    assert "rua.test" not in {d for _, d in out(daemon)}
    assert not daemon.api("/api/v1/tls/reports-out/clear.test", day=day(1))["report-id"] == ""


def test_the_sessions_of_reports_are_not_counted(world, key):
    world.receiver("a", "a.test", messages_per_connection=1)
    world.receiver("rua", "rua.test")
    wants_reports(world, "a.test", "mailto:x@rua.test")
    daemon = world.daemon(trusting(world), **configure(key))
    sessions(daemon, world, "a.test", 1)
    assert daemon.json("tls", "report-out", "send", "a.test", "--day", day())["state"] == "sent"
    world.got(1, at="rua")
    daemon.send("later@a.test")
    world.got(2, at="a")
    daemon.hayauma("tls", "report-out", "send", "rua.test", "--day", day(), "--print", code=1)
    assert sums(check(daemon.hayauma("tls", "report-out", "send", "a.test", "--day", day(), "--print"))) == {
        ("no-policy-found", ""): 2}


def test_a_post_that_fails_is_repeated_over_a_restart_until_it_is_taken(world, collector):
    world.receiver("a", "a.test")
    wants_reports(world, "a.test", f"https://collector.test:{collector.port}/")
    collector.answers = [500] * 4
    daemon = world.daemon(**configure())
    sessions(daemon, world, "a.test", 1)
    daemon.stop()
    a_day_passes(daemon)
    daemon.start()
    wait_until(lambda: len(collector.requests) >= 2, 20, "two tries")
    daemon.kill()
    time.sleep(0.5)
    assert 2 <= len(collector.requests) <= 3
    daemon.start()
    kept = wait_for_state(daemon, "a.test", "sent", 30)
    assert len(collector.requests) == 5 and kept["tries"] in (3, 4)  # the end may have come before a 500 was on record
    assert len({r[2] for r in collector.requests}) == 1  # the same octets each time
    times = [r[3] for r in collector.requests]
    assert times[2] - times[1] > 1.5  # it backs off: 1 s, 2 s, 4 s, …
    daemon.stop()
    daemon.start()
    time.sleep(2)
    assert len(collector.requests) == 5


def test_one_uri_that_takes_it_is_enough_and_a_report_finds_its_way_past_broken_tls(world, key, collector):
    world.receiver("a", "a.test")
    world.receiver("broken", "rua.test", starttls_break="garbage", keep_bodies=True)
    wants_reports(world, "a.test", f"https://collector.test:{collector.port}/", "mailto:x%2By@rua.test", "ftp://rua.test/")
    collector.answers = [503] * 9
    daemon = world.daemon(group("rua", ["rua.test"], starttls="verify"), group("default"), **configure(key))
    sessions(daemon, world, "a.test", 1)
    kept = daemon.json("tls", "report-out", "send", "a.test", "--day", day())
    assert kept["state"] == "sent" and kept["sent_to"] == ["mailto:x+y@rua.test"]
    assert [f["rua"] for f in kept["failures"]] == [f"https://collector.test:{collector.port}/"]
    [d] = world.got(1, at="broken")
    assert d.tls == "clear" and d.recipient == "x+y@rua.test"
    time.sleep(2)
    assert len(collector.requests) == 1


def test_report_mail_is_tried_for_a_day_at_most(world, key):
    world.receiver("a", "a.test")
    world.dns.mx("rua.test", "10 mx.rua.test").a("mx.rua.test", world.net.address())  # nobody listens there
    wants_reports(world, "a.test", "mailto:x@rua.test")
    daemon = world.daemon(group("rua", ["rua.test"], retry={"schedule": ["30h"], "jitter": "0%", "lifetime": "5d"}), group("default"),
                          **configure(key))
    sessions(daemon, world, "a.test", 1)
    assert daemon.json("tls", "report-out", "send", "a.test", "--day", day())["state"] == "sent"  # into our queue
    (row,) = wait_until(lambda: [q for q in daemon.queued() if q["attempts"]], what="the first try")
    assert abs(row["due_unix"] - row["accepted_unix"] - 86400) < 5, row


@pytest.mark.slow
def test_only_who_asks_for_reports_gets_them(world, collector):
    good = f"https://collector.test:{collector.port}/"
    for name in ("none", "two", "version", "later", "good"):
        world.receiver(name, f"{name}.test")
    world.dns.add("_smtp._tls.two.test", "TXT", f'"v=TLSRPTv1; rua={good}"', f'"v=TLSRPTv1; rua={good}2"')
    world.dns.add("_smtp._tls.version.test", "TXT", f'"v=TLSRPTv2; rua={good}"')
    world.dns.add("_smtp._tls.good.test", "TXT", '"v=spf1 -all"', f'"v=TLSRPTv1; x=y;" " rua={good}good;"')
    wants_reports(world, "later.test", good + "later")
    world.dns.fail("_smtp._tls.later.test", "TXT", "SERVFAIL")
    world.dns.ttl = 1
    daemon = world.daemon(**configure())
    for domain in ("none", "two", "version", "later", "good"):
        sessions(daemon, world, f"{domain}.test", 1)
    daemon.stop()
    a_day_passes(daemon)
    daemon.start()
    wait_for_state(daemon, "good.test", "sent")
    wait_for_state(daemon, "later.test", "lookup")
    assert [r[0] for r in collector.requests] == ["/good"]
    world.dns.faults.clear()
    wait_for_state(daemon, "later.test", "sent", 90)
    assert [r[0] for r in collector.requests] == ["/good", "/later"]
    assert {d for _, d in out(daemon)} == {"good.test", "later.test"}
    days = {d["day"]: d["kept"] for d in daemon.json("tls", "report-out")["days"]}
    assert days[day(1)]["domains"] == 5 and days[day(1)]["wanted"] == 1 and days[day(1)]["later"] == 1


def test_nothing_is_sent_until_it_is_wanted_and_strangers_cannot_point_inwards(world, collector):
    world.receiver("a", "a.test")
    wants_reports(world, "a.test", f"https://collector.test:{collector.port}/")
    daemon = world.daemon(**configure(private_addresses=False))
    sessions(daemon, world, "a.test", 1)
    daemon.stop()
    a_day_passes(daemon, enabled=False)
    daemon.start()
    time.sleep(3)
    assert not out(daemon) and "tlsrpt.enabled is false" in daemon.hayauma("tls", "report-out")
    kept = json.loads(daemon.hayauma("tls", "report-out", "send", "a.test", "--json"))
    assert kept["state"] == "trying" and "forbidden" in kept["failures"][0]["why"]
    assert not collector.requests


def test_days_at_which_the_daemon_was_down_are_made_up_for(world, collector):
    world.receiver("a", "a.test")
    wants_reports(world, "a.test", f"https://collector.test:{collector.port}/")
    daemon = world.daemon(**{**configure(), "tlsrpt": {**configure()["tlsrpt"], "enabled": True}})
    sessions(daemon, world, "a.test", 1)
    states = lambda: {d["day"]: d["kept"]["state"] for d in daemon.json("tls", "report-out")["days"]}
    wait_until(lambda: states() == {day(1): "done"}, what="yesterday, on which nothing was")
    daemon.stop()
    a_day_passes(daemon, days=3)
    daemon.start()
    wait_until(lambda: set(states().values()) == {"done"} and len(states()) == 4, what="three days to be made up for")
    assert sorted(states()) == [day(n) for n in (4, 3, 2, 1)]
    wait_for_state(daemon, "a.test", "sent")
    (request,) = collector.requests
    made = check(gzip.decompress(request[2]))
    assert made["date-range"]["start-datetime"] == f"{day(3)}T00:00:00Z" and sums(made) == {("no-policy-found", "certificate-not-trusted"): 1}
    daemon.stop()
    a_day_passes(daemon, enabled=False, days=3)  # off meanwhile: those days are nobody's
    daemon.start()
    wait_until(lambda: states().get(day(2)) == "off", what="the days to be passed over")
    assert list(out(daemon)) == [(day(6), "a.test")] and len(collector.requests) == 1


def test_a_report_is_sent_once_and_again_only_on_request(world, collector):
    world.receiver("a", "a.test")
    wants_reports(world, "a.test", f"https://collector.test:{collector.port}/")
    daemon = world.daemon(**configure(delay_max="12h"))
    sessions(daemon, world, "a.test", 1)
    daemon.stop()
    a_day_passes(daemon)
    daemon.start()
    assert "sent" in daemon.hayauma("tls", "report-out", "send", "a.test")
    daemon.hayauma("tls", "report-out", "send", "a.test", code=1)
    assert len(collector.requests) == 1
    daemon.hayauma("tls", "report-out", "send", "a.test", "--again")
    first, second = [json.loads(gzip.decompress(r[2])) for r in collector.requests]
    assert first == second
    daemon.hayauma("tls", "report-out", "send", "never.test", code=1)
    daemon.hayauma("tls", "report-out", "send", "a.test", "--day", "2999-01-01", code=1)
    days = wait_until(lambda: daemon.json("tls", "report-out")["days"], what="the plan of the day")
    assert days[-1]["kept"]["state"] in ("waiting", "done")


# ---- reports of others ----

def report(organization="Big Sender", good=10, failures=(("certificate-expired", 3),), domain="us.test", number=1, days_ago=1):
    return {
        "organization-name": organization, "contact-info": "smtp-tls@big.test", "report-id": f"{days_ago}-{number}",
        "date-range": {"start-datetime": f"{day(days_ago)}T00:00:00Z", "end-datetime": f"{day(days_ago)}T23:59:59Z"},
        "policies": [{
            "policy": {"policy-type": "sts", "policy-string": ["version: STSv1", "mode: testing"], "policy-domain": domain,
                       "mx-host": ["mx.us.test"]},
            "summary": {"total-successful-session-count": good, "total-failure-session-count": sum(n for _, n in failures)},
            "failure-details": [{"result-type": what, "sending-mta-ip": "192.0.2.1", "receiving-mx-hostname": "mx.us.test",
                                 "receiving-ip": "198.51.100.1", "failed-session-count": n} for what, n in failures]}]}


def as_mail(*reports, to="tls@us.test", kind="application/tlsrpt+gzip", pack=True):
    import email.message
    m = email.message.EmailMessage()
    m["From"], m["To"], m["Subject"] = "tls@big.test", to, "Report Domain: us.test"
    m.set_content("A report for you.")
    for r in reports:
        octets = json.dumps(r).encode()
        main, sub = kind.split("/")
        m.add_attachment(gzip.compress(octets) if pack else octets, main, sub, filename="big.test!us.test!1!2.json.gz")
    m.replace_header("Content-Type", 'multipart/report; report-type="tlsrpt"; boundary="%s"' % (m.get_boundary() or "x1"))
    m.set_boundary("x1")
    return m.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def test_reports_of_others_are_taken_in_from_files_and_summed_up(world, tmp_path):
    daemon = world.daemon()
    assert "no reports" in daemon.hayauma("tls", "reports")
    files = {"a.json": json.dumps(report()).encode(),
             "b.json.gz": gzip.compress(json.dumps(report(number=2, good=5, failures=())).encode()),
             "c.eml": as_mail(report("Small Sender", 1, [("validation-failure", 2), ("starttls-not-supported", 1)], "eu.test")),
             "bad.json": b"{}", "bomb.json.gz": gzip.compress(b"{" + b" " * (11 << 20))}
    for name, octets in files.items():
        (tmp_path / name).write_bytes(octets)
    told = daemon.hayauma("tls", "reports", "import", *[str(tmp_path / n) for n in list(files)[:3]])
    assert told.count("taken in") == 3
    assert daemon.hayauma("tls", "reports", "import", str(tmp_path / "a.json")).count("was known") == 1
    for name in ("bad.json", "bomb.json.gz"):
        daemon.hayauma("tls", "reports", "import", str(tmp_path / name), code=1)

    def rows(*options):
        answer = daemon.json("tls", "reports", *options)
        return {r[answer["by"]]: (r["reports"], r["successful"], r["failed"]) for r in answer["rows"]}
    assert rows() == {"us.test": (2, 15, 3), "eu.test": (1, 1, 3)}
    assert rows("--by", "sender") == {"Big Sender": (2, 15, 3), "Small Sender": (1, 1, 3)}
    assert rows("--by", "result") == {"": (3, 16, 0), "certificate-expired": (1, 0, 3), "validation-failure": (1, 0, 2),
                                      "starttls-not-supported": (1, 0, 1)}
    assert rows("--by", "mx", "--domain", "us.test") == {"": (2, 15, 0), "mx.us.test": (1, 0, 3)}
    assert rows("--by", "day") == {day(1): (3, 16, 6)}
    assert rows("--since", day(0)) == {} and rows("--until", day(1)) == {} and len(rows("--since", day(1))) == 2
    assert rows("--sender", "small sender") == {"eu.test": (1, 1, 3)}
    text = daemon.hayauma("tls", "reports")
    assert "us.test" in text and "total" in text
    csv = daemon.hayauma("tls", "reports", "--csv", "--by", "report").splitlines()
    assert csv[0] == "report,sender,report_id,domain,dkim,signer,reports,successful,failed,first,last" and len(csv) == 4
    key = next(k for k in rows("--by", "report", "--domain", "eu.test"))
    shown = json.loads(daemon.hayauma("tls", "reports", "show", key))
    assert check(shown)["organization-name"] == "Small Sender"
    daemon.kill()
    daemon.start()
    assert rows() == {"us.test": (2, 15, 3), "eu.test": (1, 1, 3)}


def test_reports_of_others_are_taken_in_by_mail_and_go_no_further(world):
    world.receiver("there", "there.test")
    daemon = world.daemon(tlsrpt={"receive": "tls@us.test", "receive_unsigned": "mark"})

    def submit(octets, *recipients):
        with Raw(*daemon.open) as c:
            c.begin(*recipients, sender="reporter@big.test")
            c.ok("DATA", 354)
            c.send(octets + b".\r\n")
            return c.reply()

    def known():
        return {r["sender"]: (r["successful"], r["failed"]) for r in daemon.json("tls", "reports", "--by", "sender")["rows"]}
    code, text = submit(as_mail(report()), "TLS@us.test")
    assert code == 250, text
    assert known() == {"Big Sender": (10, 3)}
    # Plain JSON, a name that is not the standard's, several in one mail, and another recipient who gets it as well.
    assert submit(as_mail(report("Plain", 1, ()), kind="application/tlsrpt+json", pack=False), "tls@us.test")[0] == 250
    assert submit(as_mail(report("X", 2, ()), report("Y", 3, ()), kind="application/x-gzip"), "tls@us.test", "a@there.test")[0] == 250
    world.got(1)
    assert known() == {"Big Sender": (10, 3), "Plain": (1, 0), "X": (2, 0), "Y": (3, 0)}
    code, text = submit(compose()[1], "tls@us.test")
    assert code == 554 and text.startswith("5.6.0")
    assert submit(compose()[1], "a@there.test")[0] == 250
    world.got(2)
    assert daemon.totals()["accepted"] == 2 and not daemon.queued() and len(known()) == 4


def hand_in(daemon, octets):
    with Raw(*daemon.open) as c:
        c.begin("tls@us.test")
        c.ok("DATA", 354)
        c.send(re.sub(rb"(?m)^\.", b"..", octets) + b".\r\n")
        return c.reply()


def signed(octets, key, *, kind="rsa", canon="relaxed/relaxed", domain=None):
    """With a signature that somebody else's program makes."""
    ways = tuple(w.encode() for w in canon.split("/"))
    return dkim.sign(octets, key.selector.encode(), (domain or key.domain).encode(), key.file.read_bytes() if kind == "rsa" else key.seed,
                     canonicalize=ways, signature_algorithm=b"rsa-sha256" if kind == "rsa" else b"ed25519-sha256") + octets


def test_a_report_must_be_signed_by_the_domain_that_it_is_from(world):
    rsa, strange = Key(world.folder, "r1", domain="big.test"), Key(world.folder, "r2", domain="elsewhere.test")
    edwards = Key(world.folder, "e1", "ed25519", domain="big.test")
    edwards.seed = base64.b64encode(serialization.load_pem_private_key(edwards.file.read_bytes(), None).private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()))
    for key in (rsa, edwards, strange):
        world.dns.add(key.name, "TXT", " ".join(f'"{key.record[i:i + 200]}"' for i in range(0, len(key.record), 200)))
    daemon = world.daemon(tlsrpt={"receive": "tls@us.test"})
    numbers = itertools.count(1)
    mail = lambda: as_mail(report(number=next(numbers)))
    for canon in ("relaxed/relaxed", "simple/simple", "relaxed/simple", "simple/relaxed"):
        assert hand_in(daemon, signed(mail(), rsa, canon=canon))[0] == 250, canon
    assert hand_in(daemon, signed(mail(), edwards, kind="ed25519"))[0] == 250
    both = signed(signed(mail(), strange), rsa)  # passed on by somebody who signs too
    assert hand_in(daemon, both)[0] == 250
    for octets, why in ((mail(), "it is not signed"), (signed(mail(), strange), "of other domains than From"),
                        (signed(mail(), rsa).replace(b"A report for you", b"A report for me"), "the body was changed"),
                        (signed(mail(), rsa).replace(b"Report Domain: us", b"Report Domain: eu"), "header fields were changed"),
                        (signed(mail(), rsa, domain="sub.big.test"), "there is no key")):
        code, text = hand_in(daemon, octets)
        assert code == 550 and text.startswith("5.7.20"), (why, text)
        wait_until(lambda: why in daemon.log(), what=f"the word of it: {why}")
    world.dns.remove(rsa.name, "TXT")
    world.dns.fail(rsa.name, "TXT", "SERVFAIL")
    daemon.stop()
    daemon.start()
    assert hand_in(daemon, signed(mail(), rsa))[0] == 451  # it may come again
    rows = daemon.json("tls", "reports", "--by", "report")["rows"]
    assert {(r["dkim"], r["signer"]) for r in rows} == {("good", "big.test")} and len(rows) == 6
    daemon.stop()
    daemon.config["tlsrpt"]["receive_unsigned"] = "mark"
    daemon.start()
    for octets in (mail(), signed(mail(), edwards, kind="ed25519").replace(b"for you", b"for me"), signed(mail(), rsa)):
        assert hand_in(daemon, octets)[0] == 250
    rows = daemon.json("tls", "reports", "--by", "report")["rows"]
    assert sorted(r["dkim"] for r in rows) == ["bad"] + ["good"] * 6 + ["none", "unknown"]
    assert "unknown" in daemon.hayauma("tls", "reports", "--by", "report")


def test_a_large_report_by_mail_is_read_from_disk(world):
    daemon = world.daemon(tlsrpt={"receive": "tls@us.test", "receive_unsigned": "mark"})
    many = report("Large", 0, [("validation-failure", i + 1) for i in range(20000)])
    for i, d in enumerate(many["policies"][0]["failure-details"]):
        d["failure-reason-code"] = f"reason {i * 7919 % 104729}"
    octets = as_mail(many, kind="application/tlsrpt+json", pack=False)
    assert len(octets) > 2 << 20
    with Raw(*daemon.open) as c:
        c.begin("tls@us.test")
        c.ok("DATA", 354)
        c.send(octets + b".\r\n")
        assert c.reply()[0] == 250
    [row] = daemon.json("tls", "reports")["rows"]
    assert row["failed"] == sum(range(20001))


# ---- DANE, on names that are really signed ----

@pytest.fixture
def signed_world(tmp_path, certs):
    require_signed_world()
    w = SecureWorld(tmp_path, certs)
    yield w
    w.stop(check=False)


def test_sessions_under_dane_are_counted_as_tlsa(signed_world):
    world = signed_world
    zone = world.zone("sec.test")
    right, wrong = [world.mail_host(name, f"mx.{name}.sec.test", messages_per_connection=1) for name in ("right", "wrong")]
    texts = {}
    for name, certificate in (("right", right), ("wrong", right)):
        texts[name] = tlsa(leaf(certificate), 3, 1, 1)
        zone.add(f"{name}.sec.test. MX 10 mx.{name}.sec.test.", f"mx.{name}.sec.test. A {world.address_of(name)}",
                 f"_{MX_PORT}._tcp.mx.{name}.sec.test. TLSA {texts[name]}")
    assert wrong != right
    world.start()
    daemon = world.daemon(group("default", dane="try", retry=HOURLY), **configure())
    sessions(daemon, world, "right.sec.test", 2)
    sessions(daemon, world, "wrong.sec.test", 1)
    shown = {n: check(daemon.hayauma("tls", "report-out", "send", f"{n}.sec.test", "--day", day(), "--print")) for n in texts}
    assert sums(shown["right"]) == {("tlsa", ""): 2} and sums(shown["wrong"]) == {("tlsa", "tlsa-invalid"): 1}
    for name, text in texts.items():
        [policy] = shown[name]["policies"]
        assert [p.lower() for p in policy["policy"]["policy-string"]] == [text.lower()]
