"""
A daemon that lives long: T62, changes of configuration, certificates and rules under load; T63, hours of load, short here and
as long as one likes with --soak SECONDS; T64, what must not lie about when it has come to its end.
"""

import base64
import collections
import os
import pathlib
import shutil
import signal
import ssl
import time

import pytest

from harness import HOURLY, PATIENCE, SANITIZED, SENDER, Raw, compose, group, no_check, scram_sha_256, wait_until
from load import Load


def subject(daemon, context):
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")
        raw.starttls(context)
        return raw.sock.getpeercert()["subject"][0][0][1]


# ---- T62 ----

def test_t62_reloads_under_load_lose_nothing_and_break_no_session(world, certs, tmp_path):
    """
    Thirty reloads while four clients submit over TLS: new certificates, half-written ones, bad configurations, new rules.  Every
    message is taken at the first try and delivered once, and no connection is cut.
    """
    world.receiver("p", "p.test", "q.test")
    pair = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(name):
        for made, file in zip(certs.good(name), pair):
            shutil.copy(made, file.with_suffix(".new"))
            file.with_suffix(".new").rename(file)

    put("one.test")
    context = ssl.create_default_context(cafile=str(certs.ca_file))
    context.check_hostname = False
    daemon = world.daemon(group("p", ["p.test"], starttls="on"), tls={"certificate": str(pair[0]), "key": str(pair[1])}, log={"level": "info"})
    load = Load(daemon.open, ["p.test", "q.test"], rate=200 / PATIENCE, pad=500, context=context, per_connection=20).start()
    good = daemon.config_file.read_text()
    refused = collections.Counter()
    for i in range(30):
        what = ("certificate", "bad key", "bad file", "rules", "nothing")[i % 5]
        name = ("one.test", "two.test")[i // 5 % 2]
        if what == "certificate":
            put(name)
        elif what == "bad key":
            shutil.copy(certs.good("elsewhere.test")[1], pair[1])
        elif what == "bad file":
            shutil.copy(certs.good(name)[1], pair[1])
            daemon.config_file.write_text("workers: many\n")
        elif what == "rules":
            daemon.config_file.write_text(good)
            daemon.apply([group("p", ["p.test"], starttls=("off", "require")[i // 5 % 2])])
        before = daemon.log().count("reload.done") + daemon.log().count("reload.refused")
        daemon.reload()
        wait_until(lambda: daemon.log().count("reload.done") + daemon.log().count("reload.refused") > before, what="the reload")
        refused[what] = daemon.log().count("reload.refused") - sum(n for w, n in refused.items() if w != what)
        assert subject(daemon, context) == name, "the last good pair is what clients see"
    load.stop()
    assert load.refused == load.broken == 0, (load.refused, load.broken)
    assert set(load.acknowledged) == load.sent and len(load.sent) > 100 / PATIENCE
    world.got(len(load.sent), 30)
    assert collections.Counter(d.message_id for d in world.seen.deliveries) == dict.fromkeys(load.sent, 1)
    assert refused["bad file"] == 6 and refused["certificate"] == refused["rules"] == refused["nothing"] == 0, refused
    assert "did you mean" not in daemon.log() and f"{daemon.config_file}:1:" in daemon.log(), "the error names its place"


# ---- T63 ----

@pytest.mark.slow
@pytest.mark.serial
def test_t63_memory_and_descriptors_do_not_grow_with_the_messages(world, request):
    """Good mail, bounces and retries; what a time of it leaves behind is compared with what the next one leaves."""
    seconds = request.config.getoption("--soak")
    world.receiver("home", "origin.example")
    world.receiver("p", "p.test", delay_s=0.001)
    world.receiver("g", "g.test", greylist_s=0.2)
    world.receiver("u", "u.test", replies={"RCPT": "550 5.1.1 unknown"})
    daemon = world.daemon(group("default", timeouts={"idle": "2s"}), log={"level": "warn"})
    load = Load(daemon.open, ["p.test", "p.test", "g.test", "u.test"], rate=1000, pad=4000, per_connection=50).start()
    descriptors = lambda: len(os.listdir(f"/proc/{daemon.pid}/fd"))  # noqa: E731
    marks = []
    for _ in range(4):
        time.sleep(seconds / 4)
        marks.append((len(load.acknowledged), daemon.rss(), descriptors()))
    load.stop()
    (n0, m0, d0), (n3, m3, d3) = marks[0], marks[-1]
    print("messages, octets, descriptors:", marks)
    assert n3 - n0 > 30 * seconds, "a real load"
    # SQLite's page caches fill for as long as they may; a run of minutes sees the end of that.
    if seconds >= 100:
        assert m3 - marks[2][1] < 4 << 20, marks
    assert m3 - m0 < 24 << 20, marks
    assert d3 < d0 + 60, marks
    assert load.refused == 0
    wait_until(lambda: not daemon.queued(), 30, "an empty queue")
    t = daemon.totals()
    assert t["waiting"] == 0 and t["accepted"] == t["delivered"] + t["bounced"]
    wait_until(lambda: daemon.json("status")["counters"]["jobs_in_memory"] == 0, what="nothing in memory")
    wait_until(lambda: descriptors() < 60, what="connections that rested to end")


# ---- T64 ----

@pytest.mark.skipif(SANITIZED, reason="sanitizers meet crashes themselves")
@pytest.mark.parametrize("wanted", [False, True])
def test_t64_a_crash_leaves_no_core_dump_unless_one_is_wanted(world, wanted):
    """With all the limits open, and a folder that may be written: only the daemon itself says no."""
    if pathlib.Path("/proc/sys/kernel/core_pattern").read_text()[0] in "|/":
        pytest.skip("core dumps of this machine go elsewhere")
    daemon = world.daemon(start=False, core_dumps=wanted, wrapper=["sh", "-c", f'ulimit -c unlimited; cd {world.folder}; exec "$0" "$@"'])
    daemon.start()
    daemon.process.send_signal(signal.SIGSEGV)
    _, status = os.waitpid(daemon.pid, 0)
    daemon.process.returncode = -os.WTERMSIG(status)
    assert os.WTERMSIG(status) == signal.SIGSEGV and os.WCOREDUMP(status) == wanted
    assert bool(list(world.folder.glob("core*"))) == wanted


def forms(password, user):
    """As itself, and as AUTH says it: LOGIN, PLAIN, and wherever it begins within other base64."""
    texts = [password.encode(), base64.b64encode(password.encode()), base64.b64encode(f"\0{user}\0{password}".encode())]
    return texts + [base64.b64encode(b"x" * i + password.encode())[4:-4] for i in range(3)]


def test_t64_passwords_and_bodies_are_nowhere_but_where_they_belong(world, tmp_path):
    """At the chattiest log level, after every way to log in and out, with mail delivered, refused and waiting."""
    secrets = {"app": "Zebra-crossing-9", "hub": "Quagga-standing-7", "wrong": "Okapi-sleeping-5"}
    body = "the-body-is-private"
    world.receiver("home", "origin.example")
    hub = world.receiver("hub", auth={"hub": secrets["hub"]}, replies={"RCPT": lambda s, a: "451 4.3.0 later" if "<later" in a else None})
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text(secrets["hub"] + "\n")
    daemon = world.daemon(group("default", starttls="require", retry=HOURLY, route={
        "smarthost": [f"{hub}:2526"], "auth": {"user": "hub", "password_file": str(secret)}}))
    daemon.account("app", secrets["app"])
    for how in ("auth_plain", "auth_login"):
        with daemon.client(daemon.port) as client:
            client.starttls(context=no_check())
            client.ehlo()
            client.user, client.password = "app", secrets["app"]
            client.auth(how.partition("_")[2].upper(), getattr(client, how), initial_response_ok=how == "auth_plain")
            client.sendmail(SENDER, ["a@p.test", "unknown1@p.test", f"later-{how}@p.test"], compose(["a@p.test"], body=body + "\r\n")[1])
    with Raw(*daemon.submission) as raw:
        raw.ok("EHLO client.example")
        raw.starttls()
        raw.ok("EHLO client.example")
        assert scram_sha_256(raw, "app", secrets["app"])[0] == 235
    with Raw(*daemon.submission) as raw:
        raw.ok("EHLO client.example")
        raw.starttls()
        raw.ok("EHLO client.example")
        raw.ok("AUTH PLAIN " + base64.b64encode(f"\0app\0{secrets['wrong']}".encode()).decode(), 535)
    wait_until(lambda: world.seen.commands["hub"]["AUTH ok"] and len(daemon.queued()) == 2 and all(r["attempts"] for r in daemon.queued()), what="all tried")
    said = [daemon.hayauma(*words.split()).encode() for words in (
        "status --json", "account list --json", "policy show", "policy export", "policy history --json", "report delivery --json", "report tls --json",
        "queue list --json", "explain p.test --json", "doctor --json", "audit --json")]
    spooled = sum(body.encode() in f.read_bytes() for f in daemon.data.rglob("*") if f.is_file())
    daemon.stop()
    said.append(daemon.log().encode())
    files = [f for f in daemon.data.rglob("*") if f.is_file()]
    assert len(files) > 4 and spooled, "there is something to be found"
    for f in files:
        assert f.stat().st_mode & 0o077 == 0, f"{f} is {oct(f.stat().st_mode)}"
        if body.encode() in f.read_bytes():
            assert f.parent.name == "spool", f
        said.append(f.read_bytes())
    for user, password in secrets.items():
        for form in forms(password, "app" if user == "wrong" else user):
            assert not [text[max(text.find(form) - 80, 0):][:200] for text in said if form in text], (user, form)
    assert not [text for text in said[:12] if body.encode() in text]
