"""The HTTP API: every route with good and with bad input."""

import csv
import io
import json
import os
import pathlib
import threading
import time

import pytest

from api_client import GOOD, PASSWORD, V1, ask, get, post, refused
from harness import BUILD, HOURLY, PATIENCE, Raw, group, wait_until
from world import servers

try:
    servers.program(BUILD, "hayaumad")
except FileNotFoundError as error:
    pytest.skip(str(error), allow_module_level=True)


# ---- looking ----

def test_health_and_metrics(mail):
    assert get(mail, "/healthz") == "ok\n"
    metrics = get(mail, "/metrics")
    assert "\nhayauma_queue_waiting 6\n" in metrics
    for line in metrics.splitlines():
        assert line.startswith("#") or len(line.split()) == 2, line


def test_status(mail):
    s = get(mail, f"{V1}/status")
    assert s["host_name"] == "hayauma.example" and s["pid"] == mail.pid and s["policy_version"] == 1
    assert s["queue"] == {"waiting": 6, "held": 0, "dsn_owed": 0, "bouncing": 0, "cancelling": 0, "paused": 0, "messages": 3}
    assert set(s["groups"]) == {"slow", "default"} and s["listeners"][0]["certificate_expires_unix"] > time.time()
    assert [w["stuck"] for w in s["workers"]] == [False, False]


def test_explain(mail):
    e = get(mail, f"{V1}/explain/a0%40p.test")
    assert (e["domain"], e["group"], e["match"], e["address"]) == ("p.test", "slow", "exact", "a0@p.test")
    assert e["hosts"][0]["host"] == "mx.p.test" and e["hosts"][0]["addresses"]
    assert e["queue"]["waiting"] == 3
    assert [(a["address"], a["outcome"]) for a in e["attempts"]] == [("a0@p.test", "deferred")] and e["attempts_of"] == "address"
    e = get(mail, f"{V1}/explain/p.test")
    assert len(e["attempts"]) == 3 and {a["outcome"] for a in e["attempts"]} == {"deferred"} and e["attempts_of"] == "domain"
    refused(mail, "GET", f"{V1}/explain/a%40b%40..", says="neither")
    refused(mail, "GET", f"{V1}/explain/", 404, "not_found")


def test_recipients_by_every_filter(mail):
    def found(**filters):
        rows = get(mail, f"{V1}/queue/recipients", **filters)["recipients"]
        assert get(mail, f"{V1}/queue/count", **filters) == {"recipients": len(rows)}
        return {r["recipient"] for r in rows}
    everybody = {"a0@p.test", "a1@p.test", "c@p.test", "b0@q.test", "b1@q.test", "d@q.test"}
    in_p = {"a0@p.test", "a1@p.test", "c@p.test"}
    assert found() == everybody
    assert found(domain="P.test") == in_p
    assert found(group="slow") == in_p
    assert found(group="default") == everybody - in_p
    assert found(campaign="-two") == {"c@p.test", "d@q.test"}
    assert found(campaign="-two", domain="p.test") == {"c@p.test"}
    assert found(recipient="A0@p.test") == {"a0@p.test"}
    assert found(sender="sender@origin.example") == everybody
    assert found(account="nobody") == set()
    assert found(state="waiting") == everybody
    assert found(state="held") == set()
    row = get(mail, f"{V1}/queue/recipients", recipient="c@p.test")["recipients"][0]
    assert found(message=row["message"]) == {"c@p.test", "d@q.test"}
    assert row["last_outcome"].startswith("450 4.2.1 later") and row["campaign"] == "-two" and row["account"] is None
    assert row["attempts"] == 1 and row["due_unix"] > time.time() + 3000 and row["recipients_total"] == 2


@pytest.mark.parametrize("order", ["id", "due"])
@pytest.mark.parametrize("limit", [1, 2, 4, 6, 100])
@pytest.mark.parametrize("filters", [{}, {"group": "slow"}, {"campaign": "one"}])
def test_pages_hold_every_recipient_once(mail, order, limit, filters):
    seen, after = [], ""
    while True:
        page = get(mail, f"{V1}/queue/recipients", order=order, limit=limit, after=after, **filters)
        assert len(page["recipients"]) <= limit
        seen += [(r["message"], r["rcpt"]) for r in page["recipients"]]
        after = page["next"]
        if not page["more"]:
            break
    assert after == "" and len(seen) == len(set(seen)) == {"": 6, "group": 3, "campaign": 4}["".join(filters)]


@pytest.mark.parametrize("parameters, says", [
    ({"recipent": "a"}, "did you mean 'recipient'"), ({"state": "hold"}, "held"), ({"order": "dew"}, "due"), ({"limit": 0}, "100000"),
    ({"limit": "1e3"}, "limit"), ({"message": "xyz"}, "13"), ({"domain": "a..b"}, "example.com"), ({"after": "rubbish"}, "next"),
    ({"order": "due", "state": "held"}, "state"), ({"domain": "p.test", "group": "slow"}, "one of the two")])
def test_recipients_with_bad_input(mail, parameters, says):
    refused(mail, "GET", f"{V1}/queue/recipients", says=says, **parameters)


def test_a_group_that_is_not_there(mail):
    refused(mail, "GET", f"{V1}/queue/recipients", 404, "not_found", says="did you mean 'slow'", group="slwo")
    refused(mail, "POST", f"{V1}/queue/ops", 404, "not_found", {"op": "hold", "group": "nope"}, says="nope")


@pytest.mark.parametrize("by, want", [
    ("domain", {"p.test": 3, "q.test": 3}), ("campaign", {"one": 4, "-two": 2}), ("group", {"slow": 3, "default": 3})])
def test_summaries(mail, by, want):
    s = get(mail, f"{V1}/queue/summary", by=by)
    assert {r["key"]: r["waiting"] for r in s["rows"]} == want and s["by"] == by and not s["more"]
    assert s["totals"]["waiting"] == 6 and s["totals"]["messages"] == 3
    assert all(r["held"] == 0 and r["next_due_unix"] > time.time() for r in s["rows"])
    first = get(mail, f"{V1}/queue/summary", by=by, limit=1)
    assert len(first["rows"]) == 1 and first["more"]
    refused(mail, "GET", f"{V1}/queue/summary", says="domain", by="domian")


def test_a_queued_message_shows_header_recipients_and_attempts_but_never_its_body(mail):
    row = get(mail, f"{V1}/queue/recipients", recipient="c@p.test")["recipients"][0]
    status, m, _ = ask(mail, "GET", f"{V1}/queue/messages/{row['message']}")
    assert status == 200 and m["in_queue"] and m["sender"] == "sender@origin.example" and m["campaign"] == "-two"
    assert m["header"].startswith("Received:") and "Subject: test\r\n" in m["header"] and not m["header_cut"]
    assert "this is a test" not in json.dumps(m)
    assert {r["recipient"] for r in m["recipients"]} == {"c@p.test", "d@q.test"}
    assert {a["address"] for a in m["attempts"]} == {"c@p.test", "d@q.test"} and not m["attempts_cut"]


def test_a_delivered_message_is_known_to_history(mail):
    lines = get(mail, f"{V1}/log/follow", limit=1000).splitlines()
    message = next(a["message"] for a in map(json.loads, lines) if a["address"] == "e@r.test")
    m = get(mail, f"{V1}/queue/messages/{message}")
    assert not m["in_queue"] and m["recipients"] == [] and m["header"] is None and m["campaign"] == "one"
    assert {(a["address"], a["outcome"]) for a in m["attempts"]} == {("e@r.test", "delivered"), ("f@r.test", "delivered")}


def test_a_message_nobody_knows(mail):
    refused(mail, "GET", f"{V1}/queue/messages/0000000000001", 404, "not_found")
    for bad in ("x", "0akw21evc000", "0akw21evc00000", "0akw21evc00!0"):
        refused(mail, "GET", f"{V1}/queue/messages/{bad}", says="13")


# ---- reports ----

@pytest.mark.parametrize("by, keys", [("group", {"slow", "default"}), ("domain", {"p.test", "q.test", "r.test"}),
                                      ("mx", {"mx.p.test", "mx.r.test"}), ("campaign", {"one", "-two"}), ("hour", None)])
def test_delivery_report(mail, by, keys):
    report = get(mail, f"{V1}/reports/delivery", by=by)
    assert keys is None or {r[by] for r in report["rows"]} == keys
    t = report["totals"]
    assert (t["delivered"], t["deferred"], t["bounced"], t["accepted"], t["waiting"]) == (2, 6, 0, 8, 6)
    for column in ("attempts", "delivered", "deferred", "bounced", "expired", "cancelled", "bytes"):
        assert sum(r[column] for r in report["rows"]) == t[column]
    assert report["by"] == by and report["rows_in_all"] == len(report["rows"])


def test_report_filters(mail):
    def total(**filters):
        return get(mail, f"{V1}/reports/delivery", **filters)["totals"]
    assert total(campaign="one")["attempts"] == 6 and total(campaign="one")["accepted"] == 6 and total(campaign="one")["waiting"] == 4
    assert total(domain="r.test")["delivered"] == 2 and "accepted" not in total(domain="r.test")
    assert total(group="slow")["deferred"] == 3
    assert total(mx="mx.r.test")["attempts"] == 2
    assert total(since="1h")["attempts"] == 8 and "accepted" not in total(since="1h")
    assert total(until="2020-01-01")["attempts"] == 0
    assert total(since="2100-01-01")["attempts"] == 0
    assert len(get(mail, f"{V1}/reports/delivery", by="domain", limit=1, sort="key")["rows"]) == 1


@pytest.mark.parametrize("parameters, says", [
    ({"since": "yesterday"}, "7d"), ({"by": "domian"}, "did you mean 'domain'"), ({"sort": "colour"}, "volume"), ({"format": "xml"}, "csv"),
    ({"limit": "-1"}, "limit"), ({"since": "1h", "until": "2h"}, "before"), ({"contry": "x"}, "contry"), ({"domain": "a..b"}, "a..b")])
@pytest.mark.parametrize("report", ["delivery", "tls"])
def test_reports_with_bad_input(mail, report, parameters, says):
    refused(mail, "GET", f"{V1}/reports/{report}", says=says, **parameters)


def test_tls_report(mail):
    report = get(mail, f"{V1}/reports/tls", by="domain", sort="clear")
    row = next(r for r in report["rows"] if r["domain"] == "r.test")
    assert row["delivered"] == row["tls13"] == 2 and row["clear"] == 0 and row["ciphers"][0]["delivered"] == 2
    assert row["wanted"]["on"] == {"delivered": 2, "encrypted": 2, "verified": 0, "held": 0} and sum(row["verify"].values()) == 2
    refused(mail, "GET", f"{V1}/reports/delivery", says="sort", sort="clear")


@pytest.mark.parametrize("report", ["delivery", "tls"])
def test_csv_is_rfc_4180_and_holds_no_formula(mail, report):
    status, text, headers = ask(mail, "GET", f"{V1}/reports/{report}", by="campaign", format="csv")
    assert status == 200 and headers["Content-Type"].startswith("text/csv")
    assert text.endswith("\r\n") and text.count("\r\n") == text.count("\n") == 3
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0][:3] == ["campaign", "attempts", "delivered"] and {r[0] for r in rows[1:]} == {"one", "'-two"}
    assert len({len(r) for r in rows}) == 1


def test_reconciliation_is_exact(mail):
    r = get(mail, f"{V1}/reports/reconcile", by="campaign")
    assert r["exact"] and not r["in_motion"]
    assert {row["campaign"]: (row["accepted"], row["delivered"], row["waiting"], row["difference"]) for row in r["rows"]} == {
        "one": (6, 2, 4, 0), "-two": (2, 0, 2, 0)}
    assert r["totals"] == {"accepted_messages": 4, "accepted": 8, "delivered": 2, "bounced": 0, "expired": 0, "cancelled": 0,
                           "waiting": 6, "difference": 0}
    assert get(mail, f"{V1}/reports/reconcile", campaign="-two")["totals"]["accepted"] == 2
    assert get(mail, f"{V1}/reports/reconcile", campaign="")["totals"]["accepted"] == 0
    refused(mail, "GET", f"{V1}/reports/reconcile", says="campaign", by="domain")


def test_reconciliation_stays_exact_over_operations_bounces_and_a_kill(world):
    world.receiver("p", "p.test", replies={"RCPT": "450 4.2.1 later"}, unknown_prefix="")
    world.receiver("q", "q.test", unknown_prefix="no")
    world.receiver("home", "origin.example")
    daemon = world.daemon(group("default", retry=HOURLY))
    for i in range(10):
        daemon.send(f"a{i}@p.test", f"b{i}@q.test", f"no{i}@q.test", headers=[f"X-Campaign: c{i % 2}"])
    wait_until(lambda: get(daemon, f"{V1}/reports/reconcile")["totals"]["delivered"] == 20, what="mail and its DSNs")  # ten DSNs
    post(daemon, f"{V1}/queue/ops", {"op": "cancel", "recipient": "a0@p.test"})
    post(daemon, f"{V1}/queue/ops", {"op": "bounce", "recipient": "a1@p.test"})
    post(daemon, f"{V1}/queue/ops", {"op": "hold", "recipient": "a2@p.test"})
    wait_until(lambda: get(daemon, f"{V1}/reports/reconcile")["totals"]["delivered"] == 21, what="the DSN of a1")

    def sum_of(**which):
        r = get(daemon, f"{V1}/reports/reconcile", **which)
        assert r["exact"], r
        return r["totals"]
    before = sum_of()
    assert (before["accepted"], before["bounced"], before["cancelled"], before["waiting"]) == (41, 11, 1, 8)
    assert sum_of(campaign="c0")["accepted"] == sum_of(campaign="c1")["accepted"] == 15
    daemon.kill()
    daemon.start()
    daemon.wait_for_api()
    after = wait_until(lambda: get(daemon, f"{V1}/reports/reconcile"), what="the sums again")
    assert after["exact"] and after["totals"]["accepted"] == 41


# ---- operations ----

def test_operations_change_what_they_name(world):
    world.receiver("p", "p.test", "q.test", replies={"RCPT": "450 4.2.1 later"}, unknown_prefix="")
    daemon = world.daemon(group("p", ["p.test"], retry=HOURLY), group("default", retry=HOURLY))
    daemon.wait_for_api()
    daemon.send("a@p.test", "b@q.test", headers=["X-Campaign: c"])
    daemon.send("c@p.test")
    wait_until(lambda: len([r for r in daemon.queued() if r["attempts"] == 1]) == 3, what="three deferrals")
    message = daemon.queued(recipient="c@p.test")[0]["message"]

    def op(word, changed, **which):
        assert post(daemon, f"{V1}/queue/ops", {"op": word, **which}) == {"op": word, "changed": changed}
    def tried(recipient):
        return daemon.queued(recipient=recipient)[0]["attempts"]
    op("hold", 2, group="p")
    assert {r["recipient"] for r in daemon.queued(state="held")} == {"a@p.test", "c@p.test"}
    op("release", 1, message=message)
    op("release", 1, campaign="c", domain="P.TEST")
    wait_until(lambda: tried("a@p.test") == tried("c@p.test") == 2, what="an attempt after the release")
    op("hold", 3, domain=["p.test", "q.test"])
    op("release", 3, sender="sender@origin.example")
    wait_until(lambda: tried("a@p.test") == tried("c@p.test") == 3 and tried("b@q.test") == 2, what="an attempt after the release")
    op("hold", 0, account="nobody")
    op("hold", 0, domain="elsewhere.test")
    op("cancel", 1, recipient="b@q.test")
    op("retry", 2, all=True)
    wait_until(lambda: tried("a@p.test") == tried("c@p.test") == 4, what="one more attempt")
    op("cancel", 2, all=True)
    wait_until(lambda: not daemon.queued(), what="an empty queue")
    assert get(daemon, f"{V1}/reports/reconcile")["totals"]["cancelled"] == 3


@pytest.mark.parametrize("body, says", [
    ({}, "op"), ({"op": "retry"}, "all"), ({"op": "retyr", "all": True}, "did you mean 'retry'"), ({"op": 1, "all": True}, "op"),
    ({"op": "retry", "all": False}, "all"), ({"op": "retry", "all": "yes"}, "all"), ({"op": "cancel", "all": True, "domain": "p.test"}, "all"),
    ({"op": "retry", "domian": "p.test"}, "did you mean 'domain'"), ({"op": "retry", "domain": "a..b"}, "domain"),
    ({"op": "retry", "domain": []}, "domain"), ({"op": "retry", "domain": [1]}, "domain"), ({"op": "retry", "message": "x"}, "13"),
    ({"op": "retry", "recipient": ""}, "recipient"), ({"op": "retry", "campaign": None}, "campaign"), ({"op": "retry", "group": 7}, "group"),
    ({"op": "hold", "group": "slow", "domain": "p.test"}, "one of the two"), ([], "object"), ("not json", "object"), ("", "object"),
    ('{"op": "cancel", "op": "hold", "all": true}', "object")])
def test_operations_with_bad_input_change_nothing(mail, body, says):
    before = get(mail, f"{V1}/queue/summary")["totals"]
    refused(mail, "POST", f"{V1}/queue/ops", body=body, says=says)
    assert get(mail, f"{V1}/queue/summary")["totals"] == before


def test_a_group_of_very_many_domains_is_listed_counted_summed_and_held(world):
    daemon = world.daemon(group("few", [f"d{i}.many.test" for i in range(5)]), group("default"))
    daemon.wait_for_api()
    for part in range(2):
        daemon.send(*(f"a@d{i}.many.test" for i in range(350 * part, 350 * part + 350)), headers=[f"X-Hayauma-Schedule: {int(time.time()) + 3600}"])
    assert get(daemon, f"{V1}/queue/count", group="default") == {"recipients": 695}
    assert get(daemon, f"{V1}/queue/count", group="few") == {"recipients": 5}
    for order in ("id", "due"):
        seen, after = [], ""
        for _ in range(20):
            page = get(daemon, f"{V1}/queue/recipients", group="default", order=order, limit=60, after=after)
            seen += [r["domain"] for r in page["recipients"]]
            after = page["next"]
            if not page["more"]:
                break
        assert len(seen) == len(set(seen)) == 695 and not set(seen) & {f"d{i}.many.test" for i in range(5)}
    assert {r["key"]: r["waiting"] for r in get(daemon, f"{V1}/queue/summary", by="group")["rows"]} == {"default": 695, "few": 5}
    assert post(daemon, f"{V1}/queue/ops", {"op": "hold", "group": "default"})["changed"] == 695
    assert get(daemon, f"{V1}/queue/summary", by="group")["rows"][0]["held"] == 695
    assert get(daemon, f"{V1}/queue/count", state="held") == {"recipients": 695}


# ---- accounts ----

def logs_in(daemon, user, password):
    with Raw(daemon.address, daemon.port) as raw:
        raw.ok("EHLO client.example")
        raw.starttls()
        raw.ok("EHLO client.example")
        import base64
        code, _ = raw.cmd("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode())
        return code == 235


def test_an_account_from_beginning_to_end(mail):
    path = f"{V1}/accounts/shop.1%40example"
    status, made, _ = ask(mail, "PUT", path, {"password": PASSWORD, "sender_domains": ["Origin.Example", ".bücher.example"],
                                              "networks": ["127.0.0.0/8", "2001:db8::1"], "max_connections": 5}, expect="new")
    assert status == 200 and made["created"]
    account = made["account"]
    assert account["name"] == "shop.1@example" and account["sender_domains"] == ["origin.example", ".xn--bcher-kva.example"]
    assert account["max_connections"] == 5 and account["messages_per_minute"] == 0 and not account["disabled"]
    assert get(mail, path) == account and get(mail, f"{V1}/accounts")["accounts"] == [account]
    assert logs_in(mail, "shop.1@example", PASSWORD) and not logs_in(mail, "shop.1@example", PASSWORD + "x")

    status, changed, _ = ask(mail, "PUT", path, {"messages_per_minute": 9, "sender_domains": []}, expect="existing")
    assert status == 200 and not changed["created"]
    assert changed["account"] == {**account, "messages_per_minute": 9, "sender_domains": []}
    assert logs_in(mail, "shop.1@example", PASSWORD)
    ask(mail, "PUT", path, {"password": "another password"})
    assert logs_in(mail, "shop.1@example", "another password") and not logs_in(mail, "shop.1@example", PASSWORD)
    ask(mail, "PUT", path, {"disabled": True})
    assert not logs_in(mail, "shop.1@example", "another password")

    refused(mail, "PUT", path, 409, "conflict", {"password": PASSWORD}, expect="new")
    assert ask(mail, "DELETE", path)[:2] == (200, {})
    refused(mail, "DELETE", path, 404, "not_found")
    refused(mail, "GET", path, 404, "not_found")
    refused(mail, "PUT", path, 404, "not_found", {"password": PASSWORD}, expect="existing")
    assert get(mail, f"{V1}/accounts") == {"accounts": []}


@pytest.mark.parametrize("body, field", [
    ({}, "password"), ({"max_connections": 1}, "password"), ({"password": "1234567"}, "password"), ({"password": "äöüßäöü"}, "password"),
    ({"password": 12345678}, "password"), ({"password": None}, "password"), ({"password": "12345678\n"}, "password"),
    ({"password": "1234\x005678"}, "password"), ({"password": "x" * 1025}, "password"),
    ({"password": PASSWORD, "sender_domains": "example.com"}, "sender_domains"), ({"password": PASSWORD, "sender_domains": ["a..b"]}, "sender_domains"),
    ({"password": PASSWORD, "sender_domains": ["..a"]}, "sender_domains"), ({"password": PASSWORD, "sender_domains": [1]}, "sender_domains"),
    ({"password": PASSWORD, "sender_domains": ["."]}, "sender_domains"), ({"password": PASSWORD, "networks": ["10.0.0.0/33"]}, "networks"),
    ({"password": PASSWORD, "networks": ["localhost"]}, "networks"), ({"password": PASSWORD, "networks": {}}, "networks"),
    ({"password": PASSWORD, "max_connections": -1}, "max_connections"), ({"password": PASSWORD, "max_connections": 1.5}, "max_connections"),
    ({"password": PASSWORD, "messages_per_minute": "9"}, "messages_per_minute"), ({"password": PASSWORD, "disabled": 1}, "disabled"),
    ({"password": PASSWORD, "passwort": "x"}, "passwort"), ({"password": PASSWORD, "name": "other"}, "name")])
def test_accounts_with_bad_fields(mail, body, field):
    error = refused(mail, "PUT", f"{V1}/accounts/bad", body=body)
    assert [d["field"] for d in error["details"]] == [field]
    assert PASSWORD not in json.dumps(error, ensure_ascii=False)
    refused(mail, "GET", f"{V1}/accounts/bad", 404, "not_found")


@pytest.mark.parametrize("name", ["a" * 65, "a%20b", "a%2Fb", "%C3%A4", "a:b", "a%22"])
def test_account_names_are_plain(mail, name):
    refused(mail, "PUT", f"{V1}/accounts/{name}", body={"password": PASSWORD}, says="1 to 64")


@pytest.mark.parametrize("body", ['{"password": "' + PASSWORD, '{"password": "' + PASSWORD + '", "password": "x"}', "[]", '"x"', "", "\0"])
def test_a_body_that_is_no_object_is_refused_without_being_quoted(mail, body):
    error = refused(mail, "PUT", f"{V1}/accounts/bad", body=body.encode())
    assert PASSWORD not in json.dumps(error, ensure_ascii=False) and "korrekt" not in json.dumps(error)


def test_no_password_is_in_the_log_or_in_any_file(mail):
    for password in (PASSWORD, "1234567"):
        assert ask(mail, "PUT", f"{V1}/accounts/leak", {"password": password, "wrong": 1})[0] == 400
    ask(mail, "PUT", f"{V1}/accounts/leak", {"password": PASSWORD})
    assert "api.request" in mail.log() and "/api/v1/accounts/leak" in mail.log()
    for file in pathlib.Path(mail.folder).rglob("*"):
        if file.is_file():
            assert b"korrekt-h" not in file.read_bytes(), file
    ask(mail, "DELETE", f"{V1}/accounts/leak")


# ---- policy ----

BAD = "groups:\n  - name: p\n    match: [p.test]\n    startls: require\n    port: 99999\n  - name: default\n"


def test_policy_versions_are_made_shown_compared_and_brought_back(world):
    daemon = world.daemon(group("p", ["p.test"], starttls="off"))
    daemon.wait_for_api()
    first = get(daemon, f"{V1}/policy")
    assert first["version"] == 1 and '"off"' in first["text"] and first["at_unix"] <= time.time()
    assert post(daemon, f"{V1}/policy", GOOD, comment="TLS für p+q", expected=1) == {"version": 2, "notices": []}
    now = get(daemon, f"{V1}/policy")
    import getpass
    assert (now["version"], now["comment"], now["text"], now["author"]) == (2, "TLS für p+q", GOOD, getpass.getuser())
    assert get(daemon, f"{V1}/explain/p.test")["starttls"] == "require"
    assert get(daemon, f"{V1}/policy/versions/1")["text"] == first["text"]
    refused(daemon, "POST", f"{V1}/policy", 409, "conflict", GOOD, expected=1)

    assert "+    starttls: require" in post(daemon, f"{V1}/policy/diff", "", **{"from": 1})
    assert post(daemon, f"{V1}/policy/diff", GOOD) == ""
    assert "-    starttls: require\n+    starttls: verify" in post(daemon, f"{V1}/policy/diff", GOOD.replace("require", "verify"))
    assert "version 2" in post(daemon, f"{V1}/policy/diff", "", **{"from": 2, "to": 1})
    refused(daemon, "POST", f"{V1}/policy/diff", body=GOOD, says="to", to=1)
    refused(daemon, "POST", f"{V1}/policy/diff", 404, "not_found", **{"from": 99})

    assert post(daemon, f"{V1}/policy/rollback", to=1, expected=2)["version"] == 3
    assert get(daemon, f"{V1}/policy")["text"] == first["text"] and "version 1" in get(daemon, f"{V1}/policy")["comment"]
    refused(daemon, "POST", f"{V1}/policy/rollback", 404, "not_found", to=77)
    refused(daemon, "POST", f"{V1}/policy/rollback", says="to")
    refused(daemon, "POST", f"{V1}/policy/rollback", 409, "conflict", to=1, expected=2)

    versions = get(daemon, f"{V1}/policy/versions")
    assert [v["version"] for v in versions["versions"]] == [3, 2, 1] and not versions["more"]
    page = get(daemon, f"{V1}/policy/versions", limit=1, before=3)
    assert [v["version"] for v in page["versions"]] == [2] and page["more"]
    for bad in ("0", "x", "-1", "99999999999999999999"):
        refused(daemon, "GET", f"{V1}/policy/versions/{bad}")
    refused(daemon, "GET", f"{V1}/policy/versions/9", 404, "not_found")


def test_a_bad_policy_is_refused_with_every_error_and_its_place(mail):
    check = post(mail, f"{V1}/policy/check", BAD)
    assert not check["ok"]
    assert {(e["line"], e["text"].split("'")[1]) for e in check["errors"]} >= {(4, "startls")}
    assert len(check["errors"]) == 2 and {e["line"] for e in check["errors"]} == {4, 5} and all(e["column"] for e in check["errors"])
    error = refused(mail, "POST", f"{V1}/policy", 400, "invalid_policy", BAD)
    assert error["details"] == check["errors"]
    assert get(mail, f"{V1}/policy")["version"] == 1
    assert post(mail, f"{V1}/policy/check", GOOD) == {"ok": True, "errors": [], "notices": []}
    for path in ("", "/check"):
        refused(mail, "POST", f"{V1}/policy{path}", body="", says="empty")
        refused(mail, "POST", f"{V1}/policy{path}", body=b"groups: []\0", says="NUL")
    refused(mail, "POST", f"{V1}/policy", says="1000", body=GOOD, comment="x" * 1001)
    refused(mail, "POST", f"{V1}/policy", says="expected", body=GOOD, expected="new")
    assert get(mail, f"{V1}/policy")["version"] == 1


def test_what_a_policy_names_must_be_there(world):
    secret = world.folder / "relay.password"
    text = ("groups:\n  - name: relay\n    match: [p.test]\n    starttls: require\n    route:\n      smarthost: [relay.test:587]\n"
            f"      auth: {{user: u, password_file: {secret}}}\n  - name: strict\n    match: [q.test]\n"
            "    tls: {priority: \"NORMAL:+NONSENSE\", ca_file: /nonexistent/ca.pem}\n  - name: default\n")
    daemon = world.daemon()
    daemon.wait_for_api()
    errors = post(daemon, f"{V1}/policy/check", text)["errors"]
    words = " ".join(e["text"] for e in errors)
    assert len(errors) == 3 and str(secret) in words and "/nonexistent/ca.pem" in words and "NONSENSE" in words
    assert {e["line"] for e in errors} == {2, 8}
    refused(daemon, "POST", f"{V1}/policy", 400, "invalid_policy", text, says="relay.password")
    secret.write_text("hidden\n")
    good = text.replace("NORMAL:+NONSENSE", "NORMAL").replace("/nonexistent/ca.pem", str(secret))
    assert post(daemon, f"{V1}/policy", good)["version"] == 2
    # The same by SIGHUP.
    daemon.policy_file.write_text(text)
    daemon.reload()
    wait_until(lambda: "NONSENSE" in daemon.log(), what="the complaint in the log")
    assert get(daemon, f"{V1}/policy")["version"] == 2
    # A file that has gone since keeps no daemon from starting.
    secret.unlink()
    daemon.stop()
    daemon.policy_file.unlink()
    daemon.policy_file.write_text(good)
    daemon.start()
    daemon.wait_for_api()
    assert get(daemon, f"{V1}/policy")["version"] == 2 and "policy.file" in daemon.log()


def test_a_client_certificate_and_its_key_must_belong_together(world, certs):
    cert, key = certs.client("sender.test")
    _, other = certs.good("other.test")
    daemon = world.daemon()
    daemon.wait_for_api()

    def check(certificate, key_file):
        text = json.dumps({"groups": [{"name": "default", "tls": {"certificate": str(certificate), "key": str(key_file)}}]})
        found = post(daemon, f"{V1}/policy/check", text)
        return " ".join(e["text"] for e in found["errors"]), " ".join(n["text"] for n in found["notices"])

    assert check(cert, key) == ("", "")
    assert "is not the key of" in check(cert, other)[0]
    assert "cannot read /nonexistent.pem" in check("/nonexistent.pem", key)[0]
    assert "cannot read /nonexistent.key" in check(cert, "/nonexistent.key")[0]
    nonsense = world.folder / "nonsense.pem"
    nonsense.write_text("nothing of the kind\n")
    assert str(nonsense) in check(nonsense, key)[0]
    open_key = world.folder / "open.key"
    open_key.write_bytes(pathlib.Path(key).read_bytes())
    open_key.chmod(0o644)
    assert "everybody on this host can read" in check(cert, open_key)[1]


# ---- the live log ----

def follow(daemon, **parameters):
    status, text, headers = ask(daemon, "GET", f"{V1}/log/follow", **parameters)
    assert status == 200 and headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in text.splitlines()], headers["X-Next"]


def test_the_log_is_followed_without_a_gap(world):
    world.receiver("p", "p.test")
    daemon = world.daemon()
    daemon.wait_for_api()
    for i in range(3):
        daemon.send(f"a{i}@p.test")
    world.got(3)
    wait_until(lambda: len(follow(daemon)[0]) == 3, what="three attempts")
    lines, following = follow(daemon, limit=2)
    assert [a["address"] for a in lines] == ["a1@p.test", "a2@p.test"]
    assert follow(daemon, after="now") == ([], following)
    begin = time.monotonic()
    assert follow(daemon, after=following, wait_ms=700)[0] == []
    assert 0.6 < time.monotonic() - begin < 5 * PATIENCE

    got = []
    waiter = threading.Thread(target=lambda: got.append(follow(daemon, after=following, wait_ms=30000)))
    waiter.start()
    time.sleep(0.3)
    daemon.send("late@p.test")
    waiter.join(20)
    assert [a["address"] for a in got[0][0]] == ["late@p.test"] and got[0][0][0]["outcome"] == "delivered"
    for bad in ({"after": "x"}, {"after": "-1"}, {"wait_ms": 30001}, {"limit": 0}, {"limit": 10001}):
        refused(daemon, "GET", f"{V1}/log/follow", says=next(iter(bad)), **bad)


def test_a_waiting_follower_does_not_hold_up_the_end(world):
    daemon = world.daemon()
    daemon.wait_for_api()
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(ask(daemon, "GET", f"{V1}/log/follow", after="1", wait_ms=30000)))
    waiter.start()
    time.sleep(0.5)
    begin = time.monotonic()
    daemon.stop()
    assert time.monotonic() - begin < 8 * PATIENCE
    waiter.join(10)
    assert answers and answers[0][0] == 200
    assert not os.path.exists(daemon.socket)
