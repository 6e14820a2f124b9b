"""How messages came in: every one is counted where it belongs, and the sums outlive the daemon."""

import csv
import io
import ssl
import time

import pytest

from harness import SENDER, Raw, compose, no_check, wait_until
from papers import Authority


def hand_in(daemon, port, tls=None, auth=None, count=1, recipients=1):
    with Raw(daemon.address, port) as raw:
        raw.ok("EHLO client.example")
        if tls:
            raw.starttls(tls)
            raw.ok("EHLO client.example")
        if auth:
            raw.ok(auth, 235)
        for _ in range(count):
            raw.ok(f"MAIL FROM:<{SENDER}>")
            for i in range(recipients):
                raw.ok(f"RCPT TO:<r{i}@p.test>")
            raw.ok("DATA", 354)
            raw.send(compose()[1] + b"\r\n.\r\n")
            assert raw.reply()[0] == 250


@pytest.fixture
def daemon(world, tmp_path):
    world.receiver("p", "p.test")
    ca = Authority(tmp_path / "ca")
    d = world.daemon(start=False)
    d.config["listeners"][0].update(client_certificates="request", client_ca=str(ca.file))
    d.start()
    d.ca = ca
    return d


def report(daemon, **parameters):
    return daemon.api("/api/v1/reports/submission-tls", **parameters)


def plain(user, password):
    import base64
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def test_every_message_is_counted_by_how_it_came(daemon):
    user, password = daemon.account("shop")
    paper = daemon.ca.make("bank", client=True)
    daemon.account("bank", certificates=[paper.fingerprint])
    old = no_check(minimum=ssl.TLSVersion.TLSv1_2, maximum=ssl.TLSVersion.TLSv1_2)
    hand_in(daemon, daemon.open_port, count=3, recipients=2)
    hand_in(daemon, daemon.port, no_check(), plain(user, password), count=4)
    hand_in(daemon, daemon.port, old, plain(user, password), count=2)
    hand_in(daemon, daemon.port, paper.show(no_check()), "AUTH EXTERNAL =")
    wait_until(lambda: report(daemon)["totals"]["messages"] == 10, what="ten messages on record")

    whole = report(daemon)
    rows = {r["account"]: r for r in whole["rows"]}
    assert [r["account"] for r in whole["rows"]] == ["shop", "", "bank"] and whole["rows_in_all"] == 3
    assert (rows["shop"]["tls13"], rows["shop"]["tls12"], rows["shop"]["clear"]) == (4, 2, 0)
    assert (rows[""]["clear"], rows[""]["recipients"], rows[""]["proofs"]) == (3, 6, {"none": 3})
    assert rows["bank"]["proofs"] == {"external": 1} and rows["shop"]["proofs"] == {"plain": 6}
    assert {c["version"]: c["messages"] for c in rows["shop"]["ciphers"]} == {"TLS1.3": 4, "TLS1.2": 2}
    assert abs(rows["shop"]["last_unix"] - time.time()) < 60
    totals = whole["totals"]
    assert (totals["messages"], totals["clear"], totals["tls12"], totals["tls13"], totals["older"]) == (10, 3, 2, 5, 0)
    assert sum(c["messages"] for c in totals["ciphers"]) == 7 and totals["bytes"] > 1000

    for by, keys in (("listener", {f"{daemon.address}:{daemon.port}", f"{daemon.address}:{daemon.open_port}"}),
                     ("version", {"", "TLS1.2", "TLS1.3"}), ("auth", {"none", "plain", "external"}),
                     ("source", {"127.0.0.1"}), ("network", {"127.0.0.0/24"})):
        r = report(daemon, by=by)
        assert {x[by] for x in r["rows"]} == keys and sum(x["messages"] for x in r["rows"]) == 10, by
        assert r["totals"] == totals
    hours = report(daemon, by="hour")["rows"]  # two, when the clock strikes meanwhile
    assert len(hours) <= 2 and all(h["hour_unix"] % 3600 == 0 for h in hours) and sum(h["messages"] for h in hours) == 10

    assert [r["account"] for r in report(daemon, sort="clear")["rows"]] == ["", "shop", "bank"]
    assert [r["account"] for r in report(daemon, sort="old")["rows"]] == ["", "shop", "bank"]
    assert [r["account"] for r in report(daemon, sort="key")["rows"]] == ["", "bank", "shop"]
    cut = report(daemon, limit=1)
    assert len(cut["rows"]) == 1 and cut["rows_in_all"] == 3 and cut["totals"] == totals
    for narrow, messages in (({"account": "shop"}, 6), ({"account": ""}, 3), ({"source": "127.0.0.0/8"}, 10),
                             ({"source": "192.0.2.0/24"}, 0), ({"auth": "external"}, 1),
                             ({"listener": f"{daemon.address}:{daemon.port}"}, 7), ({"since": "1h"}, 10),
                             ({"until": "2h"}, 0)):
        assert report(daemon, **narrow)["totals"]["messages"] == messages, narrow


def test_the_sums_outlive_an_orderly_end_exactly(daemon):
    for round_ in range(3):
        hand_in(daemon, daemon.open_port, count=2)
        daemon.stop()  # at once: what was counted a moment ago is written by the end
        daemon.start()
        assert report(daemon)["totals"]["messages"] == 2 * (round_ + 1)


def test_a_refused_message_is_not_counted(daemon):
    with Raw(daemon.address, daemon.open_port) as raw:
        raw.begin("r@p.test")
        raw.ok("DATA", 354)
        raw.send(b"Subject: x\n\r\nbare\r\n.\r\n")
        assert raw.reply()[0] == 550
    hand_in(daemon, daemon.open_port)
    wait_until(lambda: report(daemon)["totals"]["messages"] == 1, what="one message")
    time.sleep(1.2)
    assert report(daemon)["totals"]["messages"] == 1


def test_the_command_line_shows_it(daemon):
    user, password = daemon.account("=shop".strip("="))
    hand_in(daemon, daemon.open_port, count=2)
    hand_in(daemon, daemon.port, no_check(), plain(user, password))
    wait_until(lambda: report(daemon)["totals"]["messages"] == 3, what="three messages on record")
    text = daemon.hayauma("report", "submission-tls")
    lines = text.splitlines()
    assert "CLEAR" in lines[0] and "TLS 1.3" in lines[0] and "OLDER TLS" not in lines[0]
    assert any(x.startswith("(none)") and " none " in x for x in lines) and any(x.startswith("shop") for x in lines)
    assert "TLS_AES_256_GCM_SHA384" in text
    rows = list(csv.DictReader(io.StringIO(daemon.hayauma("report", "submission-tls", "--csv", "--by", "version"))))
    assert {r["version"]: r["messages"] for r in rows} == {"": "2", "TLS1.3": "1"}
    assert "(in clear)" in daemon.hayauma("report", "submission-tls", "--by", "version")
    assert daemon.json("report", "submission-tls", "--since", "1d", "--sort", "clear")["totals"]["messages"] == 3
    daemon.hayauma("report", "submission-tls", "--csv", "--json", code=2)
    daemon.hayauma("report", "submission-tls", "--by", "moon", code=2)
    daemon.hayauma("report", "submission-tls", "--source", "not-a-network", code=1)


def test_a_damaged_file_is_put_aside_and_said(daemon):
    hand_in(daemon, daemon.open_port)
    daemon.stop()
    file = daemon.data / "intake.db"
    file.write_bytes(b"this is no database" * 100)
    for tail in ("-wal", "-shm"):
        (daemon.data / f"intake.db{tail}").unlink(missing_ok=True)
    daemon.start()
    assert "intake.damaged" in daemon.log() and (daemon.data / "intake.db.damaged").exists()
    hand_in(daemon, daemon.open_port)
    wait_until(lambda: report(daemon)["totals"]["messages"] == 1, what="a new beginning")
    assert oct(file.stat().st_mode & 0o777) == "0o600"
