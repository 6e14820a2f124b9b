"""What operators do: rules that change while mail flows, reloads, restarts, drains, and starts that must be refused."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

from harness import BUILD, HOURLY, MX_PORT, PATIENCE, SENDER, Raw, compose, group, no_check, wait_until
from world import servers

try:
    HAYAUMAD, HAYAUMA = servers.program(BUILD, "hayaumad"), servers.program(BUILD, "hayauma")
except FileNotFoundError as error:
    pytest.skip(str(error), allow_module_level=True)


def complaint(daemon, seconds=20):
    """Starts a daemon that must not come up; what it says."""
    daemon.start(wait=False)
    code = daemon.process.wait(seconds * PATIENCE)
    assert code not in (0, 99) and code > 0, f"ended with {code}: {daemon.log()[-2000:]}"
    return daemon.log()


# ---- rules ----

def test_a_new_policy_applies_to_running_workers_at_once(world):
    world.receiver("p", "p.test", record=True)
    daemon = world.daemon(group("p", ["p.test"], starttls="off"))
    daemon.send("a@p.test")
    world.got(1)
    daemon.apply([group("p", ["p.test"], starttls="require")])
    daemon.send("b@p.test")
    world.got(2)
    assert [d.tls == "clear" for d in world.seen.deliveries] == [True, False]


def test_rules_change_while_mail_flows_and_each_attempt_names_those_it_followed(world):
    world.receiver("p", "p.test")
    daemon = world.daemon(group("p", ["p.test"], starttls="off"))
    done, sent = threading.Event(), []

    def submit():
        with daemon.client() as client:
            while not done.is_set():
                to = f"r{len(sent)}@p.test"
                client.sendmail(SENDER, [to], compose([to])[1])
                sent.append(to)

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        for change in (lambda: None, lambda: daemon.apply([group("p", ["p.test"], starttls="require")]),
                       lambda: daemon.hayauma("policy", "rollback", "1")):
            change()
            enough = len(sent) + 20
            wait_until(lambda: len(world.seen.deliveries) >= enough, 20, "mail by these rules")
    finally:
        done.set()
        thread.join()
    world.got(len(sent))
    attempts = wait_until(lambda: (rows := [json.loads(row) for row in daemon.api(
        "/api/v1/log/follow", limit=10000).splitlines()]) and len(rows) == len(sent) and rows, 10, "a record of each")
    followed = {(a["policy"], a["tls_wanted"], a["tls_version"] is None, a["outcome"]) for a in attempts}
    assert followed == {(1, "off", True, "delivered"), (2, "require", False, "delivered"), (3, "off", True, "delivered")}
    assert sum(a["tls_version"] is None for a in attempts) == sum(d.tls == "clear" for d in world.seen.deliveries)


def test_a_policy_with_errors_is_refused_with_all_of_them_and_changes_nothing(world):
    world.receiver("p", "p.test")
    daemon = world.daemon(group("p", ["p.test"], starttls="off"))
    bad = world.folder / "bad.yaml"
    bad.write_text("groups:\n  - name: p\n    match: [p.test]\n    startls: require\n    port: 99999\n")
    said = subprocess.run([HAYAUMA, "policy", "apply", str(bad), "--socket", daemon.socket],
                          capture_output=True, text=True)
    text = said.stdout + said.stderr
    assert said.returncode != 0 and "starttls" in text and "99999" in text and ":4:" in text and ":5:" in text
    daemon.send("a@p.test")
    assert world.got(1)[0].tls == "clear"


def test_policy_history_diff_and_rollback(world):
    daemon = world.daemon(group("p", ["p.test"], starttls="off"))
    daemon.apply([group("p", ["p.test"], starttls="require")])
    assert "require" in daemon.hayauma("policy", "show")
    history = daemon.json("policy", "history")
    versions = [v["version"] for v in (history["versions"] if isinstance(history, dict) else history)]
    assert sorted(versions)[-2:] == [1, 2]
    daemon.policy_file.write_text(daemon.policy_text([group("p", ["p.test"], starttls="verify")]))
    diff = daemon.hayauma("policy", "diff", str(daemon.policy_file), code=None)
    assert "verify" in diff and "require" in diff
    daemon.hayauma("policy", "rollback", "1")
    assert '"off"' in daemon.hayauma("policy", "show")


def test_explain_tells_group_rule_and_hosts(world):
    here = world.receiver("p", "p.test")
    daemon = world.daemon(group("careful", ["p.test"], starttls="require"))
    text = daemon.hayauma("explain", "someone@p.test")
    for word in ("careful", "require", "mx.p.test", here):
        assert word in text, text
    daemon.send("other@p.test")
    world.got(1)
    wait_until(lambda: "No attempt for this address is on record" in daemon.hayauma("explain", "someone@p.test"), 5, "the other's attempt")
    daemon.send("someone@p.test", "third@p.test")
    world.got(3)
    wait_until(lambda: [a["address"] for a in daemon.json("explain", "someone@p.test")["attempts"]] == ["someone@p.test"], 5, "its own")
    text = daemon.hayauma("queue", "show", daemon.json("explain", "someone@p.test")["attempts"][0]["message"])
    assert "has left the queue" in text and "recipient" not in text.partition("Attempts:")[0], "how many it had is not known any more"


def test_explain_says_what_the_answers_of_dns_mean_for_mail(world):
    here = world.receiver("p")
    world.dns.mx("null.test", "0 .").a("bare.test", here).mx("dots.test", "0 .", "10 .")
    world.dns.cname("ring.test", "ring2.test").cname("ring2.test", "ring.test").fail("ill.test", "MX", "SERVFAIL")
    daemon = world.daemon(group("hub", ["hub.test"], route={"smarthost": [f"{here}:{MX_PORT}"]}))
    for domain, says in (("hub.test", "not asked for: the route names the hosts"), ("null.test", "bounces (5.1.10)"),
                         ("none.test", "bounces (5.1.2)"), ("ring.test", "bounces at the second attempt (5.4.4)"),
                         ("ill.test", "waits (4.4.3)"), ("bare.test", "the addresses of the domain itself"), ("dots.test", "bounces (5.4.4)")):
        (line,) = [line for line in daemon.hayauma("explain", domain).splitlines() if line.startswith("MX ")]
        assert says in line and "DNSSEC" not in line, line


@pytest.mark.parametrize("how, selector", [("--recipient", "a@p.test"), ("--domain", "p.test"), ("--campaign", "c1"), ("--group", "p")])
def test_queue_operations_by_every_selector(world, how, selector):
    world.receiver("p", "p.test", "q.test", replies={"RCPT": "450 4.2.0 later"}, unknown_prefix="")
    daemon = world.daemon(group("p", ["p.test"], retry=HOURLY), group("default", retry=HOURLY))
    daemon.send("a@p.test", headers=["X-Campaign: c1"])
    daemon.send("b@q.test", headers=["X-Campaign: c2"])
    wait_until(lambda: len([r for r in daemon.queued() if r["attempts"] >= 1]) == 2, what="both deferred")
    daemon.hayauma("queue", "hold", how, selector)
    world.receivers.change("p", replies={})
    daemon.hayauma("queue", "retry", "--domain", "q.test")
    world.got(1)
    daemon.hayauma("queue", "release", how, selector)
    daemon.hayauma("queue", "retry", how, selector)
    world.got(2)
    wait_until(lambda: not daemon.queued(), what="an empty queue")


def test_cancel_removes_without_and_bounce_with_a_dsn(world):
    world.receiver("home", "origin.example", keep_bodies=True)
    world.receiver("p", "p.test", replies={"RCPT": "450 4.2.0 later"})
    daemon = world.daemon(group("p", ["p.test"], retry=HOURLY))
    daemon.send("a@p.test")
    daemon.send("b@p.test")
    wait_until(lambda: len([r for r in daemon.queued() if r["attempts"] >= 1]) == 2, what="both deferred")
    daemon.hayauma("queue", "cancel", "--recipient", "a@p.test")
    daemon.hayauma("queue", "bounce", "--recipient", "b@p.test")
    wait_until(lambda: world.seen.at("home"), what="the DSN")
    time.sleep(0.5)
    (body,) = world.seen.bodies.values()
    assert b"b@p.test" in body and b"a@p.test" not in body
    totals = daemon.totals()
    assert totals["cancelled"] == 1


def test_the_report_adds_up_to_the_last_recipient(world):
    world.receiver("home", "origin.example")
    world.receiver("p", "p.test")
    world.receiver("later", "later.test", replies={"RCPT": "450 4.2.0 later"})
    daemon = world.daemon(group("default", retry=HOURLY))
    for i in range(20):
        daemon.send(f"a{i}@p.test", f"unknown{i}@p.test", f"c{i}@later.test", f"d{i}@nowhere.test", headers=["X-Campaign: sum"])
    wait_until(lambda: daemon.totals("sum")["waiting"] == 20, 30, "everything settled")
    t = daemon.totals("sum")
    assert (t["accepted"], t["delivered"], t["bounced"], t["waiting"]) == (80, 20, 40, 20)
    for how in ("group", "domain", "mx", "campaign", "hour"):
        rows = daemon.json("report", "delivery", "--by", how)["rows"]
        assert rows, how
    assert daemon.hayauma("report", "delivery", "--csv").count("\n") >= 2


def test_log_follow_shows_attempts_as_they_happen(world):
    world.receiver("p", "p.test")
    daemon = world.daemon()
    follow = subprocess.Popen([HAYAUMA, "log", "follow", "--json", "--socket", daemon.socket],
                              stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        daemon.send("a@p.test")
        line = follow.stdout.readline()
        assert "a@p.test" in line and "delivered" in line
    finally:
        follow.kill()
        follow.wait()


def test_log_follow_shows_what_is_changed_automatically_when_it_is_asked_for(world):
    world.receiver("p", "p.test", replies={"RCPT": "450 4.7.0 slow down"})
    daemon = world.daemon(group("p", ["p.test"], retry=HOURLY, replies=[{"text": "slow down", "suspend": "1h"}]), log={"level": "error"})
    follow = subprocess.Popen([HAYAUMA, "log", "follow", "--events", "--json", "--last", "0", "--socket", daemon.socket],
                              stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        daemon.send("a@p.test")
        lines = [json.loads(follow.stdout.readline()) for _ in range(2)]
        (event,) = [line for line in lines if "event" in line]
        (attempt,) = [line for line in lines if "outcome" in line]
        assert attempt["address"] == "a@p.test"
        assert (event["event"], event["what"], event["group"], event["why"]) == ("shaping.begin", "suspended", "p", "slow down")
        daemon.hayauma("shaping", "clear", "--all")
        over = json.loads(follow.stdout.readline())
        assert (over["event"], over["id"], over["event_id"]) == ("shaping.end", event["id"], event["event_id"] + 1)
    finally:
        follow.kill()
        follow.wait()


def test_account_life(world):
    daemon = world.daemon()
    daemon.account("app", "first horse")
    assert "app" in daemon.hayauma("account", "list")

    def works(password):
        with daemon.client(daemon.port) as client:
            client.starttls(context=no_check())
            try:
                client.login("app", password)
                return True
            except Exception:
                return False

    assert works("first horse")
    daemon.hayauma("account", "passwd", "app", stdin="second horse\n")
    assert not works("first horse") and works("second horse")
    daemon.hayauma("account", "remove", "app")
    assert not works("second horse")


# ---- reload, drain, restart ----

def test_sighup_with_a_bad_file_keeps_the_old_and_says_why(world):
    world.receiver("p", "p.test")
    daemon = world.daemon()
    daemon.config_file.write_text("lissteners: []\nworkers: many\n")
    daemon.reload()
    wait_until(lambda: "stays in force" in daemon.log(), what="the complaint")
    for word in ("did you mean 'listeners'", f"{daemon.config_file}:1:", f"{daemon.config_file}:2:"):
        assert word in daemon.log()
    daemon.send("a@p.test")
    world.got(1)
    # A policy file with errors takes the rest of the reload with it: nothing is half in force.
    daemon.config["submission"] = {"message_size": "5k"}
    daemon.write_config()
    good = daemon.policy_file.read_text()
    daemon.policy_file.write_text("groups: [{name: default, starttls: offf}]\n")
    daemon.reload()
    wait_until(lambda: "did you mean 'off'" in daemon.log(), what="the complaint about the policy")
    with Raw(*daemon.open) as raw:
        assert "SIZE 52428800" in raw.ok("EHLO client.example")
    daemon.policy_file.write_text(good)
    daemon.write_config()
    daemon.reload()
    wait_until(lambda: "reload.done" in daemon.log(), what="the good files")
    daemon.send("b@p.test")
    world.got(2)


def test_a_policy_file_that_was_edited_is_taken_by_the_next_start(world):
    world.receiver("p", "p.test")
    daemon = world.daemon()

    def versions():
        return daemon.json("policy", "history")["versions"]

    def restart():
        daemon.stop()
        daemon.start()
    restart()
    assert len(versions()) == 1, "it is what was taken: nothing new"
    daemon.apply([group("default", starttls="off")])
    restart()
    assert len(versions()) == 2, "what was applied since stays in force"
    daemon.policy_file.write_text(daemon.policy_text([group("default", limits={"connections": 7})]))
    restart()
    assert (versions()[0]["version"], versions()[0]["author"]) == (3, "start")
    assert daemon.json("policy", "show")["version"] == 3
    assert "policy.file_edited" in daemon.log()
    daemon.reload()
    wait_until(lambda: "reload.done" in daemon.log(), what="the reload")
    restart()
    assert len(versions()) == 3
    daemon.policy_file.write_text("groups: [{name: default, starttls: offf}]\n")
    restart()
    assert "policy.file_refused" in daemon.log() and "did you mean 'off'" in daemon.log()
    assert daemon.json("policy", "show")["version"] == 3, "a bad file stops no mail"
    daemon.send("a@p.test")
    world.got(1)


def test_sighup_picks_up_a_renewed_certificate(world, certs, tmp_path):
    import ssl
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(certs.good("one.test")[0], cert), shutil.copy(certs.good("one.test")[1], key)
    daemon = world.daemon(tls={"certificate": str(cert), "key": str(key)})

    def name():
        context = ssl.create_default_context(cafile=str(certs.ca_file))
        context.check_hostname = False
        with Raw(*daemon.submission) as raw:
            raw.ok("EHLO client.example")
            raw.starttls(context)
            return raw.sock.getpeercert()["subject"][0][0][1]

    assert name() == "one.test"
    shutil.copy(certs.good("two.test")[0], cert), shutil.copy(certs.good("two.test")[1], key)
    daemon.reload()
    wait_until(lambda: name() == "two.test", what="the new certificate")


def test_the_self_signed_certificate_stays_the_same_over_restarts(world):
    daemon = world.daemon()

    def fingerprint():
        with Raw(*daemon.submission) as raw:
            raw.ok("EHLO client.example")
            raw.starttls()
            return raw.sock.getpeercert(True)

    before = fingerprint()
    daemon.stop()
    daemon.start()
    assert fingerprint() == before


def test_sigterm_drains(world):
    """421 to clients, transactions in work end, nothing is sent twice, the queue stays."""
    world.receiver("slow", "slow.test", delay_s=0.05, chunking=False)
    daemon = world.daemon()
    ids = [daemon.send(f"r{i}@slow.test") for i in range(60)]
    idle = Raw(*daemon.open)
    idle.ok("EHLO client.example")
    wait_until(lambda: len(world.seen.deliveries) > 5, what="some deliveries")
    start = time.time()
    daemon._signal(signal.SIGTERM)
    assert idle.reply()[0] in (421, 0)
    assert daemon.process.wait(15 * PATIENCE) == 0
    assert time.time() - start < 11 * PATIENCE
    daemon.start()
    world.got(60, 30)
    assert sorted({d.message_id for d in world.seen.deliveries}) == sorted(ids), "each exactly once"


def test_a_restart_delivers_what_was_waiting(world):
    world.receiver("p", "p.test", replies={"RCPT": "450 4.2.0 later"})
    daemon = world.daemon(group("p", ["p.test"], retry={"schedule": ["2s"], "jitter": "0%", "lifetime": "1h"}))
    for i in range(30):
        daemon.send(f"r{i}@p.test")
    wait_until(lambda: len(world.seen.refusals) >= 30, what="all tried")
    daemon.stop()
    world.receivers.change("p", replies={})
    daemon.start()
    world.got(30)


# ---- starts that must be refused ----

def test_t11_a_second_daemon_on_the_same_data_is_refused(world):
    first = world.daemon()
    second = world.daemon(start=False, data_dir=str(first.data))
    text = complaint(second)
    assert f"another hayaumad (pid {first.pid}) uses the data directory {first.data}" in text
    second.config["listeners"] = first.config["listeners"]  # the usual case: the same configuration once more
    assert f"another hayaumad (pid {first.pid}) uses the data directory {first.data}" in complaint(second)
    assert first.process.poll() is None


@pytest.mark.parametrize("case", ["foreign", "damaged", "zeroed head", "newer", "truncated"])
def test_t10_a_database_that_is_not_ours_is_refused_and_left_alone(world, case):
    world.receiver("p", "p.test")
    daemon = world.daemon()
    daemon.send("a@p.test")
    world.got(1)
    daemon.stop()
    file = daemon.data / "queue.db"
    assert file.exists()
    for extra in daemon.data.glob("queue.db-*"):
        extra.unlink()
    if case == "foreign":
        file.unlink()
        db = sqlite3.connect(file)
        db.execute("create table somebody_elses (x)")
        db.close()
    elif case == "damaged":
        file.write_bytes(os.urandom(file.stat().st_size))
    elif case == "zeroed head":
        file.write_bytes(bytes(100) + file.read_bytes()[100:])
    elif case == "newer":
        db = sqlite3.connect(file)
        db.execute("pragma user_version = 9999")
        db.close()
    else:
        file.write_bytes(file.read_bytes()[:5000])
    before = file.read_bytes()
    text = complaint(daemon)
    assert "queue.db" in text
    assert file.read_bytes() == before, "it is evidence"


def test_a_port_in_use_is_named(world):
    first = world.daemon()
    second = world.daemon(start=False)
    second.config["listeners"] = first.config["listeners"]
    assert f"{first.address}:" in complaint(second)


def test_an_unreadable_key_is_named(world, certs):
    cert, _ = certs.good("one.test")
    daemon = world.daemon(start=False, tls={"certificate": cert, "key": "/nonexistent/key.pem"})
    assert "/nonexistent/key.pem" in complaint(daemon)


def test_a_folder_that_cannot_be_written_is_named(world):
    file = world.folder / "file"
    file.write_text("")
    daemon = world.daemon(start=False, data_dir=str(file / "data"))
    assert str(file) in complaint(daemon)
    daemon.config["data_dir"] = str(file)
    assert f"the data directory {file} is no directory" in complaint(daemon)


def test_check_names_all_errors_with_places(world):
    file = world.folder / "bad.yaml"
    file.write_text("host_nam: a\nworkers: -3\nlisteners:\n  - address: nonsense\n    tls: maybe\nlog: {level: loud}\n")
    done = subprocess.run([HAYAUMAD, "-c", str(file), "--check"], capture_output=True, text=True)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    for place in (":1:", ":2:", ":4:", ":5:", ":6:"):
        assert f"{file}{place}" in text, text
    assert "host_name" in text


def test_check_reads_what_the_configuration_names(world, certs):
    """A key that stands twice hides nothing, the policy file is checked with it, and so is what certificates hold."""
    folder = world.folder
    (folder / "policy.yaml").write_text("groups:\n  - name: a\n    starttls: offf\n    mtach: [x.test]\n  - name: default\n")
    (folder / "junk.pem").write_text("nothing\n")
    file = folder / "named.yaml"
    file.write_text("host_name: a.test\nhost_name: b.test\ndata_dir: d\npolicy_file: policy.yaml\nworkers: some\n"
                    f"tls:\n  certificate: {certs.good('one.test')[0]}\n  key: {certs.good('two.test')[1]}\n"
                    f"  certificates:\n    - {{certificate: junk.pem, key: {certs.good('two.test')[1]}}}\n"
                    f"    - {{certificate: {certs.good('one.test')[0]}, key: junk.pem}}\n")
    done = subprocess.run([HAYAUMAD, "-c", str(file), "--check"], capture_output=True, text=True)
    said = done.stderr.splitlines()
    assert done.returncode == 1 and [line.removeprefix(f"{folder}/").split(": ")[0] for line in said] == [
        "named.yaml:2:1", "named.yaml:5:10", "named.yaml:7:16", "named.yaml:10:21", "named.yaml:11:21",
        "policy.yaml:2:5", "policy.yaml:3:15", "policy.yaml:4:5", "named.yaml"], done.stderr
    assert "is not the key of" in said[2] and "junk.pem holds no certificate" in said[3]
    assert "junk.pem holds no private key" in said[4] and "did you mean 'match'" in said[7] and said[8].endswith(": 8 errors")


def test_a_reload_says_what_waits_for_a_restart_until_it_is_taken_back(world):
    daemon = world.daemon()

    def reloaded(name):
        before = daemon.log().count("reload.done")
        daemon.config["host_name"] = name
        daemon.write_config()
        daemon.reload()
        wait_until(lambda: daemon.log().count("reload.done") > before, what="the reload")
        return "only after a restart: host_name" in daemon.log().rpartition("reload.done")[2]

    as_started = daemon.config["host_name"]
    assert reloaded("other.example") and reloaded("other.example") and not reloaded(as_started)


def test_the_defaults_pass_their_own_check(world):
    text = subprocess.run([HAYAUMAD, "--defaults"], capture_output=True, text=True, check=True).stdout
    file = world.folder / "defaults.yaml"
    file.write_text(text)
    done = subprocess.run([HAYAUMAD, "-c", str(file), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_version_names_the_libraries():
    text = subprocess.run([HAYAUMAD, "--version"], capture_output=True, text=True, check=True).stdout
    for word in ("hayaumad", "GnuTLS", "libuv", "ldns", "SQLite"):
        assert word.lower() in text.lower()
