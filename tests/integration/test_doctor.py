"""`hayauma doctor`, and what is known of the resolver's validation."""

import dns.flags
import dns.message
import pytest

from harness import HOURLY, group, wait_until


def signed(query, _transport):
    """An answer as a validating resolver gives it: the name is there, the type is not, and all of it was signed."""
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.RA | dns.flags.AD
    return reply.to_wire()


def checks(found, name):
    return [c for c in found["checks"] if c["check"] == name]


def state(daemon):
    return daemon.json("status")["dnssec"]


def test_a_resolver_that_validates_is_known_and_shown(world):
    world.dns.fail("", "DNSKEY", signed)
    daemon = world.daemon(group("default", dane="try"))
    wait_until(lambda: state(daemon)["state"] == "working", what="the first probe")
    assert state(daemon)["servers"] == [
        {"address": world.dns.server, "state": "working", "trusted": True, "took_ms": state(daemon)["servers"][0]["took_ms"]}]
    assert "hayauma_dnssec_validating 1\n" in daemon.api("/metrics")
    assert f"working: {world.dns.server}\n" in daemon.hayauma("status")
    assert "DANE does not work" not in daemon.hayauma("status")
    assert "dnssec.not_working" not in daemon.log()


def test_a_resolver_that_does_not_validate_is_warned_about_where_dane_is_wanted(world):
    daemon = world.daemon(group("strict", ["strict.test"], dane="only", retry=HOURLY), group("default", dane="off"))
    world.receiver("plain", "plain.test")
    world.receiver("strict", "strict.test")
    wait_until(lambda: state(daemon)["state"] == "not-validating", what="the first probe")
    assert "hayauma_dnssec_validating 0\n" in daemon.api("/metrics")
    line = wait_until(lambda: [l for l in daemon.log().splitlines() if "dnssec.not_working" in l], what="the warning")[0]
    assert " warn " in line and "groups=strict" in line
    assert "DANE does not work, the resolver is not-validating" in daemon.hayauma("status")
    # Nothing is jammed by it: mail goes, and where DANE is a must it waits with the reason.
    daemon.send("a@plain.test")
    world.got(1)
    daemon.send("a@strict.test")
    attempt = wait_until(lambda: [a for a in daemon.attempts("a@strict.test") if a["result"] == "deferred"], 20, "the attempt")[0]
    assert attempt["enhanced"] == "4.7.5"
    assert "the resolver does not validate" in attempt["text"]
    found = daemon.json("doctor", code=1)
    assert [c["level"] for c in checks(found, "resolver")] == ["fail"]


def test_where_nobody_wants_dane_it_is_no_matter(world):
    daemon = world.daemon(group("default", dane="off"))
    wait_until(lambda: state(daemon)["state"] == "not-validating", what="the first probe")
    assert "DANE does not work" not in daemon.hayauma("status")
    assert "warn  dnssec" not in daemon.log()
    assert checks(daemon.json("doctor", code=None), "resolver")[0]["level"] == "ok"


def test_a_reload_asks_again_and_the_name_can_be_another(world):
    world.dns.fail("probe.test", "MX", signed)
    daemon = world.daemon(group("default", dane="try"))
    wait_until(lambda: state(daemon)["state"] == "not-validating", what="the first probe")
    daemon.config["dns"]["validation_probe"] = "probe.test MX"
    daemon.write_config()
    daemon.reload()
    wait_until(lambda: state(daemon)["state"] == "working", what="the probe after the reload")
    assert state(daemon)["probe"] == "probe.test"
    assert "dnssec.works" in daemon.log()


def test_the_doctor_looks_at_everything_and_tells_by_its_status(world):
    world.dns.fail("", "DNSKEY", signed)
    daemon = world.daemon(group("bound", ["bound.test"], dane="try", source={"ipv4": world.net.address()}))
    found = daemon.json("doctor", code=None)
    names = {c["check"] for c in found["checks"]}
    assert {"resolver", "dnssec", "certificate", "listener", "source", "host_name", "space", "store", "descriptors", "clock",
            "policy"} <= names
    assert all(c["level"] in ("ok", "warn", "fail") and c["text"] for c in found["checks"])
    for level in ("ok", "warn", "fail"):
        assert found[level] == sum(c["level"] == level for c in found["checks"])
    for name in ("resolver", "dnssec", "certificate", "listener", "source", "host_name", "store"):
        assert {c["level"] for c in checks(found, name)} == {"ok"}, checks(found, name)
    text = daemon.hayauma("doctor", code=1 if found["fail"] else 0)
    assert f"{world.dns.server} validates" in text and "ok " in text
    assert text.splitlines()[-1].endswith(("warnings", "warning"))


def test_the_doctor_tries_the_way_out(world):
    world.dns.fail("", "DNSKEY", signed)
    there = world.receiver("there", "there.test")
    nobody = world.net.address()
    daemon = world.daemon(group("default"))
    for where, level, text in [
            (f"{there}:2526", "ok", "answers in"), ("mx.there.test:2526", "ok", "mx.there.test"),
            (f"{nobody}:2526", "fail", "refused"), ("missing.test", "fail", "has no address")]:
        found = daemon.json("doctor", "--connect", where, code=None)
        got = checks(found, "outbound")
        assert [c["level"] for c in got] == [level] and text in got[0]["text"], got


@pytest.mark.parametrize("key, value, complaint", [
    ("trusted", ["0.0.0.0/0"], "name the resolvers"), ("trusted", ["nonsense"], "expected an address"),
    ("validation_probe", "a b c", "expected a name"), ("validation_probe", "a..b", "expected a name")])
def test_a_wrong_configuration_is_refused(world, key, value, complaint):
    daemon = world.daemon(start=False)
    daemon.config["dns"][key] = value
    daemon.start(wait=False)
    assert daemon.process.wait(20) != 0
    assert complaint in daemon.log()
