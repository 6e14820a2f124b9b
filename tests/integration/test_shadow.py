"""
Rules beside the live ones.  Everything is delivered by lax rules; what stricter ones would have held back is told by the
shadow as it happens and by `policy whatif` from the record, and then the stricter rules are applied and must hold back just
that.
"""

import csv
import io
import json
import sqlite3

import pytest

import test_dane
import test_tls
from harness import HOURLY, PATIENCE, World, group, wait_until
from test_dane import dane  # noqa: F401  every level against every kind of receiver, once more
from test_tls import matrix  # noqa: F401
from world import sts

RECEIVERS = {
    "good": dict(),
    "tls12": dict(tls_max="TLSv1.2"),
    "self-signed": dict(cert="self_signed"),
    "expired": dict(cert="expired"),
    "wrong-name": dict(cert="wrong_name"),
    "unknown-ca": dict(cert="unknown_ca"),
    "no-starttls": dict(tls="none"),
    "refused": dict(starttls_reply="454 4.7.0 TLS not available"),
    "broken": dict(starttls_break="close"),
}
# What each stricter rule would hold back of mail that went at `on`, and why.
CERTIFICATES = {"self-signed": "held-certificate-self-signed", "expired": "held-certificate-expired",
                "wrong-name": "held-certificate-wrong-name", "unknown-ca": "held-certificate-unknown-ca"}
CLEAR = {"no-starttls": "held-no-starttls", "refused": "held-refused", "broken": "held-handshake"}
RULES = {
    "on": (dict(starttls="on", clear_after_tls_failure="now"), {}),
    "never": (dict(starttls="on", clear_after_tls_failure="never"), {"broken": "held-handshake"}),
    "require": (dict(starttls="require"), CLEAR),
    "tls13": (dict(starttls="require", tls={"min_version": "1.3"}), {**CLEAR, "tls12": "held-version"}),
    "verify": (dict(starttls="verify"), {**CLEAR, **CERTIFICATES}),
}


def domain(receiver):
    return f"{receiver}.test"


def strict(certs, **rules):
    tls = {"ca_file": str(certs.ca_file), **rules.pop("tls", {})}
    return group("default", retry=HOURLY, tls=tls, timeouts={"ehlo": f"{int(2 * PATIENCE)}s"}, **rules)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory, certs):
    """One message to every receiver, by lax rules, with `require` as the shadow."""
    w = World(tmp_path_factory.mktemp("shadow"), certs)
    try:
        for name, how in RECEIVERS.items():
            w.receiver(name, domain(name), **how)
        daemon = w.daemon(strict(certs, **RULES["on"][0]))
        shadow = daemon.folder / "shadow.yaml"
        shadow.write_text(daemon.policy_text([strict(certs, starttls="require")]))
        daemon.hayauma("policy", "shadow", "apply", str(shadow), "--comment", "before we ask for TLS")
        daemon.send(*[f"user@{domain(r)}" for r in RECEIVERS], headers=["X-Campaign: first"])
        w.got(len(RECEIVERS))
        wait_until(lambda: daemon.totals()["delivered"] == len(RECEIVERS), what="the record of all")
        yield w
    finally:
        w.stop()


def held(report):
    return {row["domain"].removesuffix(".test"): [r["verdict"] for r in row["reasons"]]
            for row in report["rows"] if row["held"]}


@pytest.mark.xdist_group("shadow")
def test_the_shadow_tells_what_it_would_have_held_back_and_changes_nothing(delivered):
    daemon = delivered.daemons[0]
    report = daemon.json("report", "shadow", "--by", "domain")
    assert held(report) == {r: [v] for r, v in CLEAR.items()}
    totals = report["totals"]
    assert (totals["delivered"], totals["held"], totals["unknown"]) == (len(RECEIVERS), len(CLEAR), 0)
    assert report["shadow"]["version"] == 1 and report["shadow"]["comment"] == "before we ask for TLS"
    assert report["unjudged"] == 0
    status = daemon.json("status")
    assert status["shadow"]["version"] == 1
    counters = status["counters"]
    assert (counters["shadow_judged"], counters["shadow_held"], counters["shadow_unknown"]) == (9, 3, 0)
    assert "3 deliveries they would have held back" in daemon.hayauma("status")
    metrics = daemon.api("/metrics")
    assert "hayauma_shadow_version 1\n" in metrics and "hayauma_shadow_held 3\n" in metrics
    attempt = daemon.json("explain", "user@no-starttls.test")["attempts"][0]
    assert (attempt["shadow"], attempt["shadow_group"]) == ("held-no-starttls", "default")
    assert "held-refused" in daemon.hayauma("explain", "user@refused.test")
    row = daemon.json("report", "shadow")["rows"]
    assert [(r["group"], r["old_levels"], r["new_levels"]) for r in row] == [("default", ["on"], ["require"])]


@pytest.mark.xdist_group("shadow")
def test_the_report_comes_by_reason_and_recipient_and_as_text_and_csv(delivered):
    daemon = delivered.daemons[0]
    by_reason = {r["reason"]: r["delivered"] for r in daemon.json("report", "shadow", "--by", "reason")["rows"]}
    assert by_reason == {"same": len(RECEIVERS) - len(CLEAR), **{v: 1 for v in CLEAR.values()}}
    people = [r["recipient"] for r in daemon.json("report", "shadow", "--by", "recipient")["rows"]]
    assert sorted(people) == sorted(f"user@{domain(r)}" for r in CLEAR)
    text = daemon.hayauma("report", "shadow", "--by", "domain", "--changed")
    assert "no-starttls.test" in text and "good.test" not in text
    assert "of 9 delivered recipients 3 would have waited (33.3 %)" in text
    assert "the server does not offer STARTTLS" in text
    rows = list(csv.DictReader(io.StringIO(daemon.hayauma("report", "shadow", "--by", "domain", "--csv"))))
    assert {r["domain"]: r["held"] for r in rows} == {domain(r): "1" if r in CLEAR else "0" for r in RECEIVERS}
    assert [r["reasons"] for r in rows if r["domain"] == "refused.test"] == ["held-refused:1"]
    one = daemon.json("report", "shadow", "--domain", "refused.test")
    assert one["totals"]["delivered"] == 1 and one["totals"]["held"] == 1
    assert daemon.json("report", "shadow", "--campaign", "none such")["totals"]["delivered"] == 0


@pytest.mark.xdist_group("shadow")
@pytest.mark.parametrize("rules", RULES)
def test_whatif_tells_it_from_the_record(delivered, certs, rules):
    daemon = delivered.daemons[0]
    document = daemon.folder / f"{rules}.yaml"
    document.write_text(daemon.policy_text([strict(certs, **RULES[rules][0])]))
    report = daemon.json("policy", "whatif", str(document), "--since", "1h", "--by", "domain")
    assert held(report) == {r: [v] for r, v in RULES[rules][1].items()}
    assert report["totals"]["delivered"] == len(RECEIVERS) and report["totals"]["unknown"] == 0
    text = daemon.hayauma("policy", "whatif", str(document), "--since", "1h")
    assert f"of 9 delivered recipients {len(RULES[rules][1])} would have waited" in text


@pytest.mark.xdist_group("shadow")
def test_whatif_says_what_cannot_be_told(delivered, certs):
    daemon = delivered.daemons[0]
    document = daemon.folder / "unknown.yaml"
    document.write_text(daemon.policy_text([
        strict(certs, starttls="on", dane="try"),
        group("names", [domain("good")], starttls="verify", tls={"ca_file": str(certs.ca_file), "match": ["mail.elsewhere.test"]}),
        group("other", [domain("tls12")], starttls="on", route={"smarthost": ["relay.test:25"]}),
    ]))
    report = daemon.json("policy", "whatif", str(document), "--since", "1h", "--by", "new-group")
    reasons = {row["new-group"]: {r["verdict"] for r in row["reasons"]} for row in report["rows"]}
    assert reasons["names"] == {"unknown-certificate"}
    assert reasons["other"] == {"unknown-route"}
    assert reasons["default"] == {"unknown-dane"}
    assert report["totals"]["unknown"] == len(RECEIVERS) and report["totals"]["held"] == 0
    text = daemon.hayauma("policy", "whatif", str(document), "--since", "1h")
    assert "of 9 it cannot be told from what was recorded" in text


def test_what_was_recorded_under_other_checks_is_not_read_as_if_it_were_under_those_of_now(world, certs):
    world.receiver("good", "good.test")
    world.receiver("plain", "plain.test", tls="none")
    first = strict(certs, starttls="on", tls={"match": ["mail.elsewhere.test"]})
    daemon = world.daemon(first)
    daemon.send("user@good.test", "user@plain.test")
    world.got(2)
    wait_until(lambda: daemon.totals()["delivered"] == 2, what="the record")
    verify = daemon.policy_text([strict(certs, starttls="verify")])
    reasons = lambda: {r["domain"]: [v["verdict"] for v in r["reasons"]] for r in json.loads(
        daemon.hayauma("policy", "whatif", "-", "--by", "domain", "--json", stdin=verify))["rows"]}
    want = {"good.test": ["unknown-certificate"], "plain.test": ["held-no-starttls"]}
    assert reasons() == want  # it was compared with another name
    daemon.apply([strict(certs, starttls="on")])
    assert reasons() == want  # and is not, now that the name is the same
    for _ in range(25):
        daemon.apply([strict(certs, starttls="on")])
    assert reasons() == want


@pytest.mark.xdist_group("shadow")
def test_a_bad_document_is_refused_with_its_errors(delivered):
    daemon = delivered.daemons[0]
    for words in (["policy", "whatif", "-"], ["policy", "shadow", "apply", "-"]):
        daemon.hayauma(*words, stdin="groups:\n- name: default\n  starttls: requier\n", code=1)
    daemon.hayauma("policy", "shadow", "apply", code=2)
    daemon.hayauma("policy", "shadow", "forget", code=2)
    daemon.hayauma("policy", "shadow", "show", "file", code=2)
    assert daemon.json("policy", "shadow", "show")["version"] == 1


@pytest.mark.xdist_group("shadow")
@pytest.mark.parametrize("rules", [r for r in RULES if r not in ("on", "never")])
def test_the_stricter_rules_then_hold_back_just_that(world, certs, rules):
    for name, how in RECEIVERS.items():
        world.receiver(name, domain(name), **how)
    daemon = world.daemon(strict(certs, **RULES[rules][0]))
    daemon.send(*[f"user@{domain(r)}" for r in RECEIVERS])
    want = set(RULES[rules][1])
    wait_until(lambda: all(r["attempts"] for r in daemon.queued()) and len(daemon.queued()) == len(want) and
               len(world.seen.deliveries) == len(RECEIVERS) - len(want), 20, "one attempt each")
    assert {r["domain"].removesuffix(".test") for r in daemon.queued()} == want
    # And back: of those that wait, lax rules would have let every one go.
    document = daemon.folder / "lax.yaml"
    document.write_text(daemon.policy_text([strict(certs, **RULES["on"][0])]))
    totals = daemon.json("policy", "whatif", str(document), "--since", "1h")["totals"]
    assert totals["waited"] == len(want) and totals["pass"] + totals["pass_clear"] == len(want)
    assert totals["delivered"] == totals["same"] == len(RECEIVERS) - len(want)


def test_shadow_rules_survive_the_daemon_and_count_their_versions(world):
    world.receiver("plain", "plain.test", tls="none")
    daemon = world.daemon(group("default"))
    big = daemon.policy_text([group("default", starttls="require"),
                              *[group(f"g{i}", [f"d{i}.example"], starttls="verify") for i in range(3000)]])
    assert len(big) > 500_000, "more than one piece"
    daemon.api("/api/v1/policy/shadow", "POST", big)
    shown = daemon.json("policy", "shadow", "show")
    assert shown["version"] == 1 and shown["text"] == big
    daemon.kill()
    daemon.start()
    assert daemon.json("policy", "shadow", "show") == shown
    daemon.send("user@plain.test")
    world.got(1)
    wait_until(lambda: daemon.json("report", "shadow")["totals"]["held"] == 1, what="the verdict")
    daemon.api("/api/v1/policy/shadow", "POST", daemon.policy_text([group("small", ["plain.test"]), group("default")]))
    daemon.stop()
    daemon.start()
    shown = daemon.json("policy", "shadow", "show")
    assert shown["version"] == 2 and json.loads(shown["text"])["groups"][0]["name"] == "small"
    daemon.hayauma("policy", "shadow", "clear")
    daemon.hayauma("policy", "shadow", "clear", code=1)
    daemon.hayauma("policy", "shadow", "show", code=1)
    daemon.send("user@plain.test")
    world.got(2)
    daemon.stop()
    kept = sqlite3.connect(daemon.data / "queue.db")  # as a crash in the middle of applying or clearing leaves it
    kept.executemany("INSERT INTO keep(kind, key, at, value) VALUES('shadow', ?, 0, 'x')", [("2-000",), ("3-000",), ("3-001",)])
    kept.commit()
    kept.close()
    daemon.start()
    daemon.hayauma("policy", "shadow", "show", code=1)
    keys = lambda: [k for k, in sqlite3.connect(f"file:{daemon.data}/queue.db?mode=ro", uri=True).execute(
        "SELECT key FROM keep WHERE kind = 'shadow'")]
    wait_until(lambda: keys() == ["now"], what="the end of what the crash left")
    wait_until(lambda: daemon.totals()["delivered"] == 2, what="both")
    report = daemon.json("report", "shadow", "--since", "1h")
    assert report["shadow"] is None and report["unjudged"] == 1 and report["totals"]["held"] == 1
    assert daemon.api("/api/v1/policy/shadow", "POST", daemon.policy_text())["version"] == 3


def test_a_group_by_mx_is_found_by_the_hosts_that_were_used(world):
    world.receiver("hosted", "one.test", "two.test", tls="none", host="mx7.hosting.test")
    world.receiver("own", "three.test", tls="none")
    daemon = world.daemon(group("default"))
    rules = daemon.policy_text([{**group("hosting", starttls="require"), "mx": [".hosting.test"]}, group("default")])
    daemon.api("/api/v1/policy/shadow", "POST", rules)
    daemon.send("a@one.test", "b@two.test", "c@three.test")
    daemon.send("d@one.test")
    world.got(4)
    wait_until(lambda: daemon.totals()["delivered"] == 4, what="the record")
    want = {"hosting": (3, 3), "default": (1, 0)}
    live = daemon.json("report", "shadow", "--by", "new-group")
    assert {r["new-group"]: (r["delivered"], r["held"]) for r in live["rows"]} == want
    again = json.loads(daemon.hayauma("policy", "whatif", "-", "--by", "new-group", "--json", stdin=rules))
    assert {r["new-group"]: (r["delivered"], r["held"]) for r in again["rows"]} == want


def fate(want):
    return want if want in ("tls", "clear") else "held"


def agrees(verdict, was, would, may_be_unknown=()):
    """Is that the difference between what happened and what happens by the other rules?"""
    if verdict.startswith("held-"):
        return was != "held" and would == "held"
    if verdict.startswith("unknown-"):
        return verdict in may_be_unknown
    if verdict == "pass-clear":
        return was == "held" and would != "held"
    return {"same": was == would, "clear": (was, would) == ("tls", "clear"), "tls": (was, would) == ("clear", "tls"),
            "pass": (was, would) == ("held", "tls")}.get(verdict, False)


def whatif_by_domain(daemon, name, rules):
    """The one verdict on each domain."""
    document = daemon.folder / f"whatif-{name}.yaml"
    document.write_text(daemon.policy_text([rules]))
    report = daemon.json("policy", "whatif", str(document), "--since", "1h", "--by", "domain")
    assert all(row["delivered"] + row["waited"] == 1 for row in report["rows"])
    return {row["domain"]: row["reasons"][0]["verdict"] if row["reasons"] else "same" for row in report["rows"]}


@pytest.mark.slow
@pytest.mark.xdist_group("shadow-matrix")
@pytest.mark.parametrize("target", test_tls.LEVELS)
def test_whatif_agrees_with_what_every_level_really_did(matrix, certs, target):  # noqa: F811
    verdicts = whatif_by_domain(matrix.daemons[0], target, strict(certs, **test_tls.LEVELS[target]))
    wrong, unknown = [], 0
    for level, receiver in test_tls.CELLS:
        verdict = verdicts[test_tls.domain(level, receiver)]
        was, would = fate(test_tls.expected(level, receiver)), fate(test_tls.expected(target, receiver))
        if (level, target, was) == ("on-now", "on-later", "clear"):
            would = "clear"  # it went in clear then; `later` only makes it some minutes later
        # Never tried; or broken without static RSA, which only `on` offers.
        untried = (level == "off" and receiver not in test_tls.NOT_OFFERED) or (target.startswith("on") and was == "held")
        unknown += verdict.startswith("unknown")
        if not agrees(verdict, was, would, ["unknown-session"] if untried else []):
            wrong.append((level, receiver, verdict))
    assert not wrong
    assert unknown < len(test_tls.CELLS) / 3


@pytest.mark.slow
@pytest.mark.xdist_group("shadow-dane")
@pytest.mark.parametrize("target", test_dane.LEVELS)
def test_whatif_agrees_with_what_dane_really_did(dane, certs, target):  # noqa: F811
    verdicts = whatif_by_domain(dane.daemons[0], target, strict(certs, **test_dane.LEVELS[target]))
    wrong, unknown = [], 0
    for level, name in test_dane.CELLS:
        domain = dane.names[(level, name)][0]
        case = test_dane.BY_NAME[name]
        before, after = test_dane.expected(level, case), test_dane.expected(target, case)
        verdict = verdicts.get(domain)
        if verdict is None:  # the MX itself could not be looked up: nothing that TLS decided
            assert dane.attempts[domain][0]["enhanced"] == "4.4.3"
            continue
        may_be = []
        if level == "on-off" and target != "on-off":
            may_be.append("unknown-dane")  # nobody looked
        if fate(before[0]) == "held" and before[1] in (None, "bogus"):
            may_be.append("unknown-session")  # the host was not connected to
        if fate(before[0]) == "held" and target.startswith("on"):
            may_be.append("unknown-session")  # only `on` offers static RSA
        unknown += verdict.startswith("unknown")
        if not agrees(verdict, fate(before[0]), fate(after[0]), may_be):
            wrong.append((level, name, verdict, before, after))
    assert not wrong
    assert unknown < len(test_dane.CELLS) / 3


STS_RULES = {
    "on-off": dict(starttls="on"),
    "on-try": dict(starttls="on", mta_sts="try"),
    "require-try": dict(starttls="require", mta_sts="try"),
    "verify-try": dict(starttls="verify", mta_sts="try"),
    "verify-off": dict(starttls="verify"),
}
STS_KINDS = {  # mode of the policy, whether it names the MX, and what the MX offers
    "nothing": (None, True, dict()),
    "nothing-clear": (None, True, dict(tls="none")),
    "enforce": ("enforce", True, dict()),
    "enforce-mx": ("enforce", False, dict()),
    "enforce-name": ("enforce", True, dict(cert="wrong_name")),
    "enforce-expired": ("enforce", True, dict(cert="expired")),
    "enforce-clear": ("enforce", True, dict(tls="none")),
    "testing": ("testing", True, dict()),
    "testing-mx": ("testing", False, dict()),
    "testing-name": ("testing", True, dict(cert="wrong_name")),
    "testing-clear": ("testing", True, dict(tls="none")),
    "none-name": ("none", True, dict(cert="wrong_name")),
}


def sts_fate(rule, kind):
    mode, names_mx, offers = STS_KINDS[kind]
    clear, bad = "tls" in offers, "cert" in offers
    if rule.endswith("try") and mode == "enforce" and (not names_mx or clear or bad):
        return "held"
    if clear:
        return "clear" if rule.startswith("on") else "held"
    return "held" if bad and rule.startswith("verify") else "tls"


@pytest.fixture(scope="module")
def policies(tmp_path_factory, certs):
    w = World(tmp_path_factory.mktemp("sts"), certs)
    hosts = sts.PolicyHosts(w.net.address())
    try:
        for rule in STS_RULES:
            for kind, (mode, names_mx, offers) in STS_KINDS.items():
                d = f"{kind}.{rule}.test"
                w.receiver(d, d, host=f"mx.{d}", **offers)
                if mode:
                    body = sts.policy(mode, [f"mx.{d}" if names_mx else "mx.elsewhere.test"])
                    hosts.add(d, sts.Site(body, cert=certs.good(f"mta-sts.{d}")))
                    w.dns.add(f"_mta-sts.{d}", "TXT", '"v=STSv1; id=1;"')
                    w.dns.a(f"mta-sts.{d}", hosts.address)
        rules = [strict(certs, **how) | {"name": rule, "match": [f".{rule}.test"]} for rule, how in STS_RULES.items()]
        daemon = w.daemon(*rules, mta_sts={"ca_file": str(certs.ca_file), "port": hosts.port})
        daemon.send(*[f"user@{kind}.{rule}.test" for rule in STS_RULES for kind in STS_KINDS])
        count = len(STS_RULES) * len(STS_KINDS)
        wait_until(lambda: len(w.seen.deliveries) + sum(r["attempts"] > 0 for r in daemon.queued()) == count, 40, "all attempts")
        wait_until(lambda: daemon.totals()["waiting"] == len(daemon.queued()), what="the record")
        yield w
    finally:
        w.stop()
        hosts.stop()


@pytest.mark.xdist_group("shadow-sts")
@pytest.mark.parametrize("rule", STS_RULES)
def test_mta_sts_decides_as_it_should(policies, rule):
    seen = {d.recipient.partition("@")[2]: "clear" if d.tls == "clear" else "tls" for d in policies.seen.deliveries}
    got = {kind: seen.get(f"{kind}.{rule}.test", "held") for kind in STS_KINDS}
    assert got == {kind: sts_fate(rule, kind) for kind in STS_KINDS}


@pytest.mark.xdist_group("shadow-sts")
@pytest.mark.parametrize("target", STS_RULES)
def test_whatif_agrees_with_what_mta_sts_really_did(policies, certs, target):
    verdicts = whatif_by_domain(policies.daemons[0], target, strict(certs, **STS_RULES[target]))
    wrong = []
    for rule in STS_RULES:
        for kind in STS_KINDS:
            was, would = sts_fate(rule, kind), sts_fate(target, kind)
            may_be = []
            if rule.endswith("off") and target.endswith("try"):
                may_be.append("unknown-sts")  # nobody looked
            if kind == "enforce-mx" and was == "held":
                may_be.append("unknown-session")  # the host was not connected to
            if not agrees(verdicts[f"{kind}.{rule}.test"], was, would, may_be):
                wrong.append((rule, kind, verdicts[f"{kind}.{rule}.test"], was, would))
    assert not wrong
