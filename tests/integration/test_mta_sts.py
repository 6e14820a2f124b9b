"""
T53 without delivery: what the daemon finds of MTA-STS policies, keeps of them, and shows.  DNS and web servers do what policy
hosts of strangers do.
"""

import threading
import time

import pytest

from harness import HOURLY, group, wait_until
from world import sts

WEEK = 604800


@pytest.fixture
def hosts(world):
    h = sts.PolicyHosts(world.net.address())
    world.dns.ttl = 0  # records change under the daemon's eyes
    yield h
    h.stop()


@pytest.fixture
def publish(world, hosts):
    def publish(domain, body=None, txt="v=STSv1; id=1;", cert="good", names=None, **how):
        site = sts.Site(sts.policy(mx=[f"mx.{domain}"]) if body is None else body, **how)
        site.cert = getattr(world.certs, cert)(*(names or [f"mta-sts.{domain}"]))
        hosts.add(domain, site)
        set_txt(world, domain, txt)
        world.dns.remove(f"mta-sts.{domain}", "A")
        world.dns.a(f"mta-sts.{domain}", hosts.address)
        return site
    return publish


def set_txt(world, domain, *texts):
    world.dns.remove(f"_mta-sts.{domain}", "TXT")
    if any(texts):
        world.dns.add(f"_mta-sts.{domain}", "TXT", *[f'"{t}"' for t in texts])


def start(world, hosts, **config):
    config.setdefault("mta_sts", {"ca_file": str(world.certs.ca_file), "port": hosts.port})
    return world.daemon(**config)


def look(daemon, domain):
    """(mode or None, id or None, failure) after TXT and HTTPS now."""
    found = daemon.api(f"/api/v1/tls/sts/{domain}/refresh", "POST")
    return found["mode"], found.get("id"), found["failure"]


@pytest.mark.parametrize("how, mode, failure", [
    ({}, "enforce", ""),
    ({"body": sts.policy("testing", ["*.a.test"], end="\n")}, "testing", ""),
    ({"body": sts.policy("none")}, "none", ""),
    ({"body": sts.policy(mx=["mx.a.test"], extra=["future: thing", "mode: none"])}, "enforce", ""),
    ({"content_type": "text/plain; charset=utf-8"}, "enforce", ""),
    ({"status": 404}, None, "sts-policy-fetch-error"),
    ({"status": 500}, None, "sts-policy-fetch-error"),
    ({"status": 204, "body": b""}, None, "sts-policy-fetch-error"),
    ({"status": 301, "headers": {"Location": "https://mta-sts.b.test/.well-known/mta-sts.txt"}}, None, "sts-policy-fetch-error"),
    ({"content_type": "text/html"}, None, "sts-policy-invalid"),
    ({"content_type": "application/octet-stream"}, None, "sts-policy-invalid"),
    ({"body": sts.policy(mx=["mx.a.test"]) + b"x: " + b"y" * 65536}, None, "sts-policy-invalid"),
    ({"endless": True}, None, "sts-policy-invalid"),
    ({"body": sts.policy(mx=[])}, None, "sts-policy-invalid"),
    ({"body": sts.policy("Enforce", ["mx.a.test"])}, None, "sts-policy-invalid"),
    ({"body": sts.policy(mx=["mx.a.test"], max_age=31557601)}, None, "sts-policy-invalid"),
    ({"body": b"<html>not found</html>"}, None, "sts-policy-invalid"),
    ({"body": b""}, None, "sts-policy-invalid"),
    ({"cert": "expired"}, None, "sts-webpki-invalid"),
    ({"cert": "self_signed"}, None, "sts-webpki-invalid"),
    ({"cert": "unknown_ca"}, None, "sts-webpki-invalid"),
    ({"names": ["a.test"]}, None, "sts-webpki-invalid"),
    ({"names": ["mta-sts.b.test"]}, None, "sts-webpki-invalid"),
    ({"names": ["*.a.test"]}, "enforce", ""),
    ({"txt": None}, None, ""),
    ({"txt": "v=STSv1; id=20270101T000000;"}, "enforce", ""),
    ({"txt": "v=STSv1; id=not-a-number;"}, None, ""),
])
def test_what_a_policy_host_says_decides_what_is_in_force(world, hosts, publish, how, mode, failure):
    publish("b.test")
    publish("a.test", **how)
    daemon = start(world, hosts, workers=1)
    got = look(daemon, "a.test")
    assert (got[0], got[2]) == (mode, failure)
    assert hosts.asked("b.test") == 0  # no redirect is followed
    if failure == "sts-webpki-invalid":
        assert hosts.asked("a.test") == 0  # nothing is asked of a host that is not the right one


def test_a_slow_policy_host_delays_nobody_else(world, hosts, publish):
    publish("slow.test", delay_s=3)
    publish("quick.test")
    daemon = start(world, hosts, workers=1)
    begun = time.monotonic()
    slow = threading.Thread(target=look, args=(daemon, "slow.test"))
    slow.start()
    wait_until(lambda: hosts.asked("slow.test"), what="the slow host to be asked")
    assert look(daemon, "quick.test")[0] == "enforce"
    assert time.monotonic() - begun < 2.5
    slow.join()
    assert daemon.api("/api/v1/tls/sts/slow.test")["mode"] == "enforce"


def test_a_cached_policy_outlives_every_outage_and_a_restart(world, hosts, publish):
    site = publish("a.test", sts.policy(mx=["mx.a.test", "*.a.test"], max_age=WEEK))
    daemon = start(world, hosts)
    assert look(daemon, "a.test") == ("enforce", "1", "")
    site.status = 500
    assert look(daemon, "a.test") == ("enforce", "1", "sts-policy-fetch-error")
    world.dns.fail("_mta-sts.a.test", "TXT", "SERVFAIL")
    world.dns.fail("mta-sts.a.test", "A", "SERVFAIL")
    assert look(daemon, "a.test") == ("enforce", "1", "sts-policy-fetch-error")
    before = daemon.api("/api/v1/tls/sts/a.test")
    daemon.kill()
    daemon.start()
    after = daemon.api("/api/v1/tls/sts/a.test")
    for field in ("mode", "id", "mx", "max_age_s", "fetched_unix", "expires_unix", "text"):
        assert after[field] == before[field]
    assert after["mx"] == ["mx.a.test", "*.a.test"]
    assert after["expires_unix"] - after["fetched_unix"] == WEEK
    # Other workers find it too.
    daemon.stop()
    daemon.config["workers"] = 3
    daemon.start()
    assert daemon.api("/api/v1/tls/sts/a.test")["fetched_unix"] == before["fetched_unix"]
    assert daemon.api("/api/v1/status")["mta_sts"]["fetches"] == 0


def test_modes_change_with_the_id(world, hosts, publish):
    site = publish("a.test")
    daemon = start(world, hosts)
    assert look(daemon, "a.test") == ("enforce", "1", "")
    for number, mode in enumerate(["testing", "none", "enforce"], 2):
        site.body = sts.policy(mode, ["mx.a.test"])
        set_txt(world, "a.test", f"v=STSv1; id={number};")
        assert look(daemon, "a.test") == (mode, str(number), "")
    set_txt(world, "a.test", None)  # the record goes: what is cached stays
    assert look(daemon, "a.test") == ("enforce", "4", "")
    set_txt(world, "a.test", "v=STSv1; id=5;", "v=STSv1; id=6;")
    assert look(daemon, "a.test") == ("enforce", "4", "")  # RFC 8461 §3.1: as if there were none
    assert "several TXT records" in daemon.hayauma("tls", "sts", "a.test")


def test_max_age_zero_is_not_kept(world, hosts, publish):
    publish("a.test", sts.policy(mx=["mx.a.test"], max_age=0))
    daemon = start(world, hosts)
    assert look(daemon, "a.test") == ("enforce", "1", "")
    daemon.stop()
    daemon.start()
    daemon.hayauma("tls", "sts", "a.test", code=1)


def test_the_txt_record_may_be_an_alias_and_in_pieces(world, hosts, publish):
    publish("a.test", txt=None)
    world.dns.cname("_mta-sts.a.test", "_mta-sts.provider.test")
    world.dns.add("_mta-sts.provider.test", "TXT", '"v=STSv1" "; id=20" "27;"', '"v=spf1 -all"')
    daemon = start(world, hosts)
    assert look(daemon, "a.test") == ("enforce", "2027", "")


def test_the_command_line_shows_policies_and_failures(world, hosts, publish):
    site = publish("a.test", sts.policy(mx=["mx1.a.test", "mx2.a.test"], max_age=WEEK))
    publish("b.test", sts.policy("testing", ["mx.b.test"]))
    publish("c.test", cert="expired")
    daemon = start(world, hosts)
    assert "no MTA-STS policy" in daemon.hayauma("tls", "sts", "--list")
    daemon.hayauma("tls", "sts", "a.test", code=1)
    for domain in ("a.test", "b.test", "c.test", "none.test"):
        daemon.hayauma("tls", "sts", domain, "--refresh")
    shown = daemon.hayauma("tls", "sts", "a.test")
    for words in ("enforce", "mx1.a.test", "mx2.a.test", "max_age", "7 d"):
        assert words in shown
    site.status = 503
    assert "503" in daemon.hayauma("tls", "sts", "a.test", "--refresh")
    listed = daemon.hayauma("tls", "sts", "--list")
    assert [line.split()[0] for line in listed.splitlines()[1:]] == ["a.test", "b.test", "c.test"]
    assert "expired" in listed and "503" in listed
    page = daemon.api("/api/v1/tls/sts", limit=1)
    assert page["after"] == "a.test" and [p["domain"] for p in page["policies"]] == ["a.test"]
    page = daemon.api("/api/v1/tls/sts", after="a.test", limit=2)
    assert page["after"] is None and [p["domain"] for p in page["policies"]] == ["b.test", "c.test"]
    assert "no MTA-STS policy in force" in daemon.hayauma("tls", "sts", "none.test", "--refresh")
    daemon.hayauma("tls", "sts", "a..test", code=1)
    daemon.hayauma("tls", "sts", "--refresh", code=2)


def test_status_and_metrics_count_policies(world, hosts, publish):
    publish("a.test")
    publish("b.test", sts.policy("testing", ["mx.b.test"]))
    publish("c.test", cert="expired")
    daemon = start(world, hosts)
    for domain in ("a.test", "b.test", "c.test"):
        look(daemon, domain)
    assert daemon.api("/api/v1/status")["mta_sts"] == {"policies": 2, "enforced": 1, "refresh_failing": 0, "fetches": 3, "fetch_failures": 1, "refreshes": 0,
                         "refresh_failures": 0}
    metrics = daemon.api("/metrics")
    assert "\nhayauma_mta_sts_policies 2\n" in metrics and "\nhayauma_mta_sts_fetch_failures 1\n" in metrics
    assert "2 policies, 1 enforced" in daemon.hayauma("status")


def test_an_end_in_the_middle_of_a_look_is_quick_and_clean(world, hosts, publish):
    publish("slow.test", delay_s=20)
    daemon = start(world, hosts)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(daemon.hayauma("tls", "sts", "slow.test", "--refresh", code=None)))
    asking.start()
    wait_until(lambda: hosts.asked("slow.test"), what="the slow host to be asked")
    begun = time.monotonic()
    daemon.stop()
    assert time.monotonic() - begun < 8
    asking.join()
    assert answers and "enforce" not in answers[0]


def test_an_unreadable_trust_file_is_said_at_start(world, hosts):
    daemon = world.daemon(start=False, mta_sts={"ca_file": "/nonexistent.pem"})
    daemon.start(wait=False)
    assert daemon.process.wait(20) == 1
    assert "mta_sts.ca_file" in daemon.log() or "/nonexistent.pem" in daemon.log()


def test_a_repaired_policy_lets_mail_go_without_another_failed_attempt(world, hosts, publish):
    publish("b.test", sts.policy(mx=["other.b.test"]))
    world.receiver("b", "b.test", host="mx.b.test")
    daemon = world.daemon(group("default", mta_sts="try", tls={"ca_file": str(world.certs.ca_file)}, retry=HOURLY),
                          mta_sts={"ca_file": str(world.certs.ca_file), "port": hosts.port})
    daemon.send("x@b.test")
    wait_until(lambda: daemon.queued() and daemon.queued()[0]["attempts"] == 1, what="the first attempt to fail")
    publish("b.test", txt="v=STSv1; id=2;")
    assert daemon.queue_op("retry", all=True) == 1
    wait_until(lambda: len(daemon.attempts("x@b.test")) >= 2, 5, "the second attempt")
    assert daemon.attempts("x@b.test")[1]["result"] == "delivered"
