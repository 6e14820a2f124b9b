"""Storage that fails at the worst moment: T03, T06, T09, T10, T13, T14, T15.  Kills, power cuts and failing calls are in test_crash.py."""

import collections
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

from freeze import frozen
from harness import HOURLY, PATIENCE, SANITIZED, Raw, compose, group, wait_until
from load import Load
from test_crash import QUICK, integrity, root_only
from test_operations import complaint

LATER = {"RCPT": "450 4.2.0 later"}


def ids(world):
    return {d.message_id for d in world.seen.deliveries}


def tomorrow():
    """Such mail waits on disk, and no worker knows it."""
    return f"X-Hayauma-Schedule: {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 86400))}"


def rss(daemon):
    with open(f"/proc/{daemon.pid}/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS"))


@contextlib.contextmanager
def failing(daemon, call, error, files):
    """These calls of the daemon fail on these files, from now to the end of the block."""
    if SANITIZED:
        pytest.skip("strace and sanitizers do not go together")
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}",
                               *[w for f in files for w in ("-P", str(f))], "-p", str(daemon.pid)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(0.7)
    if tracer.poll() is not None:
        pytest.skip("strace cannot attach here: " + tracer.stderr.read())
    try:
        yield
    finally:
        tracer.terminate()
        tracer.wait()


# ---- between the receiver's 250 and our commit ----

@pytest.mark.parametrize("thread, copies", [("history", 2), ("store", 1)])
def test_t03_killed_between_the_receivers_250_and_our_commit(world, thread, copies):
    """Before the record is safe one more copy goes out, of the same message, and the audit says that it may; after it none does,
    although the queue had not heard of it."""
    world.receiver("r", "r.test", delay_s=0.4, keep_bodies=True)
    daemon = world.daemon(group("default", retry=QUICK), workers=1)
    sent = daemon.send("a@r.test", headers=["X-Campaign: c"])
    time.sleep(0.3)  # it has its rows: what is tried here is not the journal of envelopes
    with frozen(daemon.pid, thread):
        wait_until(lambda: daemon.attempts("a@r.test"), what="the receiver's 250")
        assert daemon.attempts("a@r.test")[0]["result"] == "delivered"
        time.sleep(0.3)  # the other one has done its part
        daemon.kill()
    assert len(world.seen.deliveries) == 1
    daemon.start()
    wait_until(lambda: daemon.totals()["waiting"] == 0, what="an end")
    world.got(copies)
    assert ids(world) == {sent}
    assert len(set(world.seen.bodies.values())) == 1, "the same octets, Received: and all"
    totals = daemon.totals("c")
    assert (totals["accepted"], totals["delivered"]) == (1, 1), "one recipient, one end"
    (end,) = daemon.json("audit")["unclean_ends"]
    assert (end["first_attempts"], end["possible_duplicates"]) == (copies - 1, copies - 1), "who may have got it twice"
    daemon.stop()
    integrity(daemon.data)


@pytest.mark.parametrize("then", ["killed", "goes on"])
def test_t03_one_message_a_connection_is_in_doubt(world, then):
    """While no record is safe each connection delivers one message and keeps the end of the next back, so that is all that a kill
    doubles."""
    world.receiver("r", "r.test")
    daemon = world.daemon(group("default", retry=QUICK, limits={"connections": 3}), workers=1)
    with frozen(daemon.pid, "history"):
        for i in range(30):
            daemon.send(f"r{i}@r.test")
        world.got(3)
        wait_until(lambda: daemon.json("status")["history_backlog"] == 6, what="the records of three deliveries and sessions")
        time.sleep(0.5)
        assert len(world.seen.deliveries) == 3
        if then == "killed":
            daemon.kill()
    if then == "killed":
        daemon.start()
    world.got(30 + (3 if then == "killed" else 0))
    wait_until(lambda: daemon.totals()["waiting"] == 0, what="an end")
    assert len({(d.message_id, d.recipient) for d in world.seen.deliveries}) == 30


# ---- no space at the wrong place ----

def test_t06_no_space_at_a_checkpoint_costs_nothing(world):
    """Only queue.db itself cannot be written: that is the checkpoint.  What comes stays in the log, which is within bounds."""
    world.receiver("r", "r.test", replies=LATER)
    daemon = world.daemon(group("default", retry=HOURLY), log={"level": "warn"}, store={"wal": "4M"})
    first = daemon.send("first@r.test")
    sent = 0
    with failing(daemon, "pwrite64", "ENOSPC", [daemon.data / "queue.db"]):
        while sent < 400 and "at=checkpoint" not in daemon.log():
            daemon.send(*[f"r{i}@r.test" for i in range(500)], headers=[tomorrow()])
            sent += 1
        assert "at=checkpoint" in daemon.log(), "the fault was met"
        daemon.send("after@r.test", headers=[tomorrow()])
        assert daemon.json("status")["store"]["wal_bytes"] < 4 * (4 << 20)
        assert daemon.totals()["waiting"] == 500 * sent + 2
    wait_until(lambda: daemon.send("more@r.test", headers=[tomorrow()]) and daemon.json("status")["store"]["wal_bytes"] < 1 << 20, 20,
               "a checkpoint that succeeds", step=0.2)
    accepted = daemon.totals()["accepted"]
    world.receivers.change("r", replies={})
    daemon.queue_op("retry", recipient="first@r.test")
    world.got(1)
    assert ids(world) == {first}
    daemon.kill()
    integrity(daemon.data)
    daemon.start()
    assert daemon.totals()["waiting"] == accepted - 1


def test_t06_no_space_for_records_makes_mail_wait_and_loses_none(world):
    """What cannot be recorded is not risked: one message a connection, as after a kill at any other time."""
    world.receiver("r", "r.test")
    daemon = world.daemon(group("default", retry=QUICK, limits={"connections": 4}))
    daemon.send("before@r.test")
    world.got(1)
    wait_until(lambda: daemon.totals()["delivered"] == 1, what="its record")
    with failing(daemon, "pwrite64", "ENOSPC", [*(daemon.data / "history").iterdir(), *daemon.data.glob("intake.db*")]):
        for i in range(20):
            daemon.send(f"r{i}@r.test")
        world.got(5)
        wait_until(lambda: "history.write_failed" in daemon.log(), 5, "the fault")
        time.sleep(0.5)
        assert len(world.seen.deliveries) == 5
    wait_until(lambda: daemon.totals()["delivered"] == 21, 10, "all records")
    assert daemon.totals()["waiting"] == 0
    world.got(21)
    rows = daemon.json("report", "delivery", "--by", "group")["rows"]
    assert sum(r["delivered"] for r in rows) == 21
    wait_until(lambda: sum(r["messages"] for r in daemon.json("report", "submission-tls")["rows"]) == 21, 10, "and how they came in")


def test_t06_no_space_for_the_log_costs_lines_only(world):
    world.receiver("r", "r.test")
    daemon = world.daemon(group("default", retry=QUICK), wrapper=["sh", "-c", 'exec "$0" "$@" 2>/dev/full'])
    for i in range(20):
        daemon.send(f"r{i}@r.test")
    world.got(20)
    assert daemon.log() == ""
    wait_until(lambda: daemon.totals()["delivered"] == 20, what="all records")


# ---- copies ----

@pytest.mark.parametrize("torn", [False, True])
def test_t09_a_start_on_a_copy_has_all_that_was_answered(world, tmp_path, torn, request):
    """The files as they are at a random instant; torn: the last frames of the write-ahead log are cut off, in the middle of
    one, or overwritten: what they said is found in the segments."""
    world.receiver("r", "r.test", replies=LATER)
    daemon = world.daemon(group("default", retry=HOURLY), log={"level": "warn"})
    load = Load(daemon.open, ["r.test"], rate=300 / PATIENCE, pad=4000).start()
    copies = []
    for i in range(max(2, request.config.getoption("--cuts") // 3)):
        time.sleep(random.uniform(0.3, 0.8))
        before = set(load.acknowledged)
        daemon._signal(signal.SIGSTOP)
        try:
            shutil.copytree(daemon.data, tmp_path / f"copy{i}", ignore=shutil.ignore_patterns("*.sock", "*-shm"))
        finally:
            daemon._signal(signal.SIGCONT)
        copies.append((before, tmp_path / f"copy{i}"))
    load.stop()
    daemon.kill()
    world.receivers.change("r", replies={})
    for before, folder in copies:
        assert len(before) > 20, "a real load"
        if torn:
            wal = folder / "queue.db-wal"
            keep = max(32, wal.stat().st_size - random.randrange(1, 10 * (4096 + 24)))
            with open(wal, "r+b") as f:
                f.truncate(keep)
                f.seek(max(32, keep - random.randrange(1, 200)))
                f.write(os.urandom(50))
        seen = len(world.seen.deliveries)
        second = world.daemon(group("default", retry=QUICK), data_dir=str(folder), log={"level": "warn"})
        second.queue_op("retry", all=True)
        wait_until(lambda: before <= {d.message_id for d in world.seen.deliveries[seen:]}, 30, "what was answered before the copy")
        second.stop()
        integrity(folder)


# ---- a database that is not the one it should be ----

@root_only
def test_t10_a_data_directory_on_a_read_only_file_system_is_refused(world, tmp_path):
    mount = tmp_path / "ro"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200M", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("no mounts here")
    try:
        daemon = world.daemon(data_dir=str(mount / "data"))
        daemon.stop()
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        text = complaint(daemon)
        assert str(mount) in text and "mounted for writing" in text, text[-600:]
    finally:
        for d in world.daemons:
            d.kill()
        subprocess.run(["umount", "-l", str(mount)])


@pytest.mark.parametrize("file", ["queue.db", "queue.db-wal"])
def test_t10_a_database_deleted_while_open_stops_new_mail_and_says_so(world, file):
    """What was accepted goes on; the start after it refuses rather than begin with an empty queue; the file put back heals."""
    world.receiver("r", "r.test", replies=LATER)
    daemon = world.daemon(group("default", retry=HOURLY))
    owed = daemon.send("a@r.test")
    wait_until(lambda: daemon.attempts("a@r.test"), what="an attempt")
    aside = daemon.data / "aside"
    (daemon.data / file).rename(aside)
    wait_until(lambda: "store.file_gone" in daemon.log(), 5, "the complaint")
    with Raw(*daemon.open) as raw:
        raw.begin("b@r.test")
        raw.ok("DATA", 354)
        raw.send("Subject: x\r\n\r\nx\r\n")
        assert raw.cmd(".")[0] == 451
    assert "removed or replaced" in daemon.hayauma("doctor", code=None)
    if file == "queue.db":
        daemon.kill()
        assert "is missing" in complaint(daemon)
        assert not (daemon.data / file).exists(), "nothing was put in its place"
        aside.rename(daemon.data / file)
        daemon.start()
    else:
        aside.rename(daemon.data / file)
        wait_until(lambda: "store.file_back" in daemon.log(), 5, "that it is back")
    world.receivers.change("r", replies={})
    daemon.send("c@r.test")
    daemon.queue_op("retry", domain="r.test")
    world.got(2)
    assert owed in ids(world)


# ---- a long queue, a long log, a long stress ----

def test_t13_a_long_queue_is_no_matter_at_a_start(world, request):
    """Scheduled mail waits on disk: a start does not read it, and memory does not know it.  --rounds 200: a million."""
    rounds = 1000 if request.config.getoption("--rounds") >= 100 else 100 if not SANITIZED else 20
    world.receiver("r", "r.test")
    daemon = world.daemon(group("default", retry=HOURLY), log={"level": "warn"})
    empty = rss(daemon)
    rcpts = [f"r{i}@d{i % 100}.test" for i in range(1000)]
    _, text = compose(rcpts, headers=[tomorrow()])
    with daemon.client() as client:
        for _ in range(rounds):
            client.ehlo_or_helo_if_needed()
            client.send(("MAIL FROM:<sender@origin.example>\r\n" + "".join(f"RCPT TO:<{r}>\r\n" for r in rcpts) + "DATA\r\n").encode())
            assert [client.getreply()[0] for _ in range(1002)][-1] == 354
            client.send(text + b".\r\n")
            assert client.getreply()[0] == 250
    assert daemon.json("status")["queue"]["waiting"] == rounds * 1000
    daemon.kill()
    began = time.monotonic()
    daemon.start()
    daemon.send("now@r.test")
    wait_until(lambda: world.seen.to("now@r.test"), 5, "new mail", step=0.005)
    took = time.monotonic() - began
    assert took < 5 * PATIENCE, f"{took:.1f} s from the start to the first delivery"
    assert daemon.json("status")["queue"]["waiting"] in (rounds * 1000, rounds * 1000 + 1)
    assert SANITIZED or rss(daemon) < empty + (24 << 20), f"{empty >> 20} MB empty, {rss(daemon) >> 20} MB with {rounds * 1000}"


@pytest.mark.slow
def test_t14_a_reader_that_stays_cannot_make_the_log_grow_for_ever(world):
    world.receiver("r", "r.test", replies=LATER)
    daemon = world.daemon(group("default", retry=HOURLY), log={"level": "warn"}, store={"wal": "4M"})
    daemon.send("first@r.test")
    reader = sqlite3.connect(f"file:{daemon.data}/queue.db?mode=ro", uri=True, isolation_level=None)
    reader.execute("begin")
    reader.execute("select count(*) from message").fetchone()
    accepted, code = 1, 250
    rcpts = [f"r{i}@r.test" for i in range(1000)]
    while code == 250 and accepted < 2000:
        with Raw(*daemon.open) as raw:
            raw.ok("EHLO client.example")
            raw.send("MAIL FROM:<sender@origin.example>\r\n" + "".join(f"RCPT TO:<{r}>\r\n" for r in rcpts))
            assert {raw.reply()[0] for _ in range(1001)} == {250}
            code, words = raw.cmd("DATA")
            if code == 354:
                raw.send(tomorrow() + "\r\nSubject: x\r\n\r\nx\r\n")
                code, words = raw.cmd(".")
        accepted += code == 250
    assert code == 452 and "4.3.1" in words, (code, words)
    status = daemon.json("status")["store"]
    assert 16 << 20 < status["wal_bytes"] < 24 << 20 and (daemon.data / "queue.db-wal").stat().st_size < 24 << 20
    assert "a reader of queue.db keeps it from shrinking" in status["last_error"] and "store.wal" in daemon.log()
    assert "hayauma_store_full 1\n" in daemon.api("/metrics")
    world.receivers.change("r", replies={})
    daemon.queue_op("retry", recipient="first@r.test")
    world.got(1)  # what was accepted goes on
    reader.close()
    wait_until(lambda: "hayauma_store_full 0\n" in daemon.api("/metrics"), 10, "room")
    daemon.send("last@r.test")
    world.got(2)


@pytest.mark.slow
def test_t15_checkpoints_and_writes_under_readers_keep_the_database_whole(world, request):
    """The shape in which SQLite before 3.51.3 can lose pages: the log is reset again and again while others commit and read."""
    seconds = 600 if request.config.getoption("--rounds") >= 100 else 4
    world.receiver("r", "r.test")
    world.receiver("later", "later.test", replies=LATER)
    daemon = world.daemon(group("default", retry=QUICK), workers=4, log={"level": "warn"}, store={"wal": "4M"})
    load = Load(daemon.open, ["r.test", "later.test"], sessions=6, rate=600 / PATIENCE, recipients=40, pad=500).start()
    over, wrong = threading.Event(), []

    def read():
        with sqlite3.connect(f"file:{daemon.data}/queue.db?mode=ro", uri=True, isolation_level=None) as db:
            while not over.is_set():
                db.execute("begin")
                sums = db.execute("select fresh + ready + held + dsn + bounce + cancel + paused + expire from counter").fetchone()[0]
                rows = db.execute("select count(*) from rcpt").fetchone()[0]
                if sums != rows:
                    wrong.append((sums, rows))
                db.execute("commit")

    reader = threading.Thread(target=read)
    reader.start()
    resets, began = set(), time.monotonic()
    while time.monotonic() < began + seconds or (len(resets) < 4 and time.monotonic() < began + seconds + 40):
        with open(daemon.data / "queue.db-wal", "rb") as f:
            resets.add(f.read(24)[16:20])  # the salt: another one after each reset
        time.sleep(0.05)
    over.set()
    reader.join()
    load.stop()
    assert len(resets) > 3, f"the log was reset {len(resets)} times only: no stress"
    assert not wrong, wrong[:5]
    world.receivers.change("later", replies={})
    daemon.queue_op("retry", domain="later.test")
    owed = {(m, r) for m, rs in load.acknowledged.items() for r in rs}
    wait_until(lambda: daemon.totals()["waiting"] == 0, 60, "an empty queue")
    counts = collections.Counter((d.message_id, d.recipient) for d in world.seen.deliveries)
    assert owed <= set(counts) and max(counts.values()) == 1
    totals = daemon.totals()
    assert totals["accepted"] == totals["delivered"] == len(counts)
    daemon.stop()
    integrity(daemon.data)
