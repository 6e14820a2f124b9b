"""
`hayauma tls probe`: what a destination offers, and what the policy would make of it; and a whole list before it is sent.
No mail is ever sent by it.
"""

import pytest

from harness import World, group, wait_until

RECEIVERS = {
    "good": dict(),
    "self-signed": dict(cert="self_signed"),
    "expired": dict(cert="expired"),
    "no-starttls": dict(tls="none"),
    "refused": dict(starttls_reply="454 4.7.0 TLS not available"),
    "broken": dict(starttls_break="close"),
    "old": dict(tls_min="TLSv1.2", tls_max="TLSv1.2"),
}


@pytest.fixture(scope="module")
def probed(tmp_path_factory, certs):
    world = World(tmp_path_factory.mktemp("probe"), certs)
    try:
        for name, personality in RECEIVERS.items():
            world.receiver(name, f"{name}.test", **personality)
        tls = {"ca_file": str(certs.ca_file)}
        world.daemon1 = world.daemon(
            group("strict", [f"{n}.test" for n in ("good", "self-signed", "no-starttls")], starttls="verify", tls=tls),
            group("default", starttls="on", clear_after_tls_failure="never", tls=tls))
        yield world
    finally:
        world.stop()


def probe(world, *args):
    return world.daemon1.json("tls", "probe", *args)


@pytest.fixture(scope="module")
def results(probed):
    return {p["domain"]: p for p in probe(probed, *[f"{n}.test" for n in RECEIVERS])}


def address(results, name):
    return results[f"{name}.test"]["hosts"][0]["addresses"][0]


def test_each_receiver_shows_what_it_offers(results):
    words = {n: address(results, n)["starttls"] for n in RECEIVERS}
    assert words == {"good": "works", "self-signed": "works", "expired": "works", "no-starttls": "not offered",
                     "refused": "refused", "broken": "handshake failed", "old": "works"}
    assert all(address(results, n)["banner"].startswith("220 ") for n in RECEIVERS)
    assert address(results, "refused")["starttls_reply"].startswith("454")


def test_versions_are_tried_one_by_one(results):
    assert address(results, "old")["versions"] == {"TLS1.0": False, "TLS1.1": False, "TLS1.2": True, "TLS1.3": False}
    assert address(results, "good")["versions"]["TLS1.3"]
    assert "versions" not in address(results, "no-starttls")


def test_the_chain_is_shown(results):
    chain = address(results, "good")["tls"]["chain"]
    assert "mx.good.test" in chain[0]["names"] or any(n.endswith("good.test") for n in chain[0]["names"])
    assert len(chain[0]["sha256"]) == 64 and chain[0]["not_after_unix"] > chain[0]["not_before_unix"]
    assert address(results, "self-signed")["tls"]["verify"] == "self-signed"
    assert address(results, "expired")["tls"]["verify"] == "expired"


VERDICTS = {  # off, on (never in clear after a failure), require, verify
    "good": ("clear", "authenticated", "authenticated", "authenticated"),
    "self-signed": ("clear", "encrypted", "encrypted", "blocked"),
    "expired": ("clear", "encrypted", "encrypted", "blocked"),
    "no-starttls": ("clear", "clear", "blocked", "blocked"),
    "refused": ("clear", "clear", "blocked", "blocked"),
    "broken": ("clear", "blocked", "blocked", "blocked"),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_every_level_is_judged(results, name):
    levels = address(results, name)["levels"]
    assert tuple(levels[level]["verdict"] for level in ("off", "on", "require", "verify")) == VERDICTS[name]
    assert levels["dane-only"]["verdict"] == "blocked"


def test_the_live_policy_says_what_would_become_of_mail(results):
    live = {n: results[f"{n}.test"]["live"]["verdict"] for n in RECEIVERS}
    assert live == {"good": "authenticated", "self-signed": "blocked", "expired": "encrypted", "no-starttls": "blocked",
                    "refused": "clear", "broken": "blocked", "old": "authenticated"}
    assert results["no-starttls.test"]["group"] == "strict"


def test_no_mail_was_sent(probed, results):
    assert not probed.seen.deliveries


def test_people_can_read_it(probed):
    text = probed.daemon1.hayauma("tls", "probe", "--levels", "good.test")
    for words in ("good.test", "greeting", "session", "TLS1.3", "authenticated", "dane-only"):
        assert words in text, text


def test_a_domain_without_mail_host_and_a_word_that_is_no_domain(probed):
    found = {p["domain"]: p for p in probe(probed, "nothing.test", "not a domain")}
    assert found["nothing.test"]["live"]["verdict"] == "unreachable"
    assert found["not a domain"]["error"]


def test_a_list_is_added_up_before_it_is_sent(probed, tmp_path):
    lines = ["# a campaign"] + [f"user{i}@good.test" for i in range(70)] + [f"U{i} <u{i}@SELF-SIGNED.test>" for i in range(20)]
    lines += [f"x{i}@refused.test" for i in range(10)] + ["", "nobody@nothing.test"]
    (tmp_path / "list").write_text("\n".join(lines) + "\n")
    got = probe(probed, "--file", str(tmp_path / "list"))
    assert got["recipients"] == 101
    assert {d["domain"]: (d["recipients"], d["would_go"]) for d in got["domains"]} == {
        "good.test": (70, "authenticated"), "self-signed.test": (20, "blocked"), "refused.test": (10, "clear"),
        "nothing.test": (1, "unreachable")}
    text = probed.daemon1.hayauma("tls", "probe", "--file", str(tmp_path / "list"))
    assert "69.3 %" in text and "self-signed.test" in text


def test_what_waits_of_a_campaign_is_added_up(probed):
    daemon = probed.daemon1
    daemon.send("a@no-starttls.test", "b@no-starttls.test", "c@broken.test", headers=["X-Campaign: spring"])
    daemon.send("d@self-signed.test", headers=["X-Campaign: autumn"])
    wait_until(lambda: len(daemon.queued(campaign="spring")) == 3 and all(r["attempts"] for r in daemon.queued()),
               what="all to wait for TLS")
    got = probe(probed, "--from-queue", "spring")
    assert {d["domain"]: (d["recipients"], d["would_go"]) for d in got["domains"]} == {
        "no-starttls.test": (2, "blocked"), "broken.test": (1, "blocked")}
