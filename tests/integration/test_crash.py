"""
The first promise: 250 means on stable storage.  kill -9 under load, power cuts, disks that say no.
"""

import collections
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import time

import pytest

from harness import HOURLY, PATIENCE, SANITIZED, Raw, compose, group, wait_until
from load import Load

CONNECTIONS = 10
NEWSLETTER = (b"n" * 76 + b"\r\n") * 400  # so long that it gets a file of its own after some ten messages

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
QUICK = {"schedule": ["1s", "2s"], "jitter": "0%", "lifetime": "1h"}


def pairs(acknowledged):
    return {(m, r) for m, rs in acknowledged.items() for r in rs}


def delivered(world):
    return collections.Counter((d.message_id, d.recipient) for d in world.seen.deliveries)


def integrity(folder):
    for file in pathlib.Path(folder).rglob("*.db"):
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
            assert db.execute("pragma integrity_check").fetchone() == ("ok",), file


def possible_duplicates(folder):
    """What the audit says of the run that ended last."""
    with sqlite3.connect(f"file:{folder}/queue.db?mode=ro", uri=True) as db:
        (value,) = db.execute("select value from keep where kind = 'unclean-end' order by key desc limit 1").fetchone()
    return int(dict(line.split() for line in value.decode().splitlines())["flying"])


def test_t01_kill_9_under_load_loses_nothing(world, request):
    rounds = request.config.getoption("--rounds")
    world.receiver("fast", "fast.test")
    flaky = {"on": True}
    world.receiver("flaky", "flaky.test",
                   replies={"RCPT": lambda s, a: "450 4.2.0 later" if flaky["on"] and random.random() < 0.5 else None})
    daemon = world.daemon(group("default", retry=QUICK, limits={"connections": CONNECTIONS}), log={"level": "warn"})
    load = Load(daemon.open, ["fast.test", "flaky.test"], rate=500 / PATIENCE, shared=NEWSLETTER).start()
    bounds = []
    for _ in range(rounds):
        time.sleep(random.uniform(0.2, 1.5))
        daemon.kill()
        daemon.start()
        bounds.append(possible_duplicates(daemon.data))
    time.sleep(1)
    load.stop()
    flaky["on"] = False
    owed = pairs(load.acknowledged)
    assert len(owed) > 50 * rounds / PATIENCE, "a real load"
    wait_until(lambda: owed <= set(delivered(world)), 60, "everything acknowledged to arrive")
    wait_until(lambda: not daemon.queued(), 30, "an empty queue")
    counts = delivered(world)
    strangers = {m for m, _ in counts} - load.sent
    assert not strangers
    extra = sum(n - 1 for n in counts.values())
    assert extra <= rounds * CONNECTIONS, f"{extra} copies too many in {rounds} crashes"
    assert extra <= sum(bounds), f"{extra} copies too many, where the audit says {bounds} at most"
    daemon.stop()
    integrity(daemon.data)
    print(f"{rounds} crashes, {len(owed)} acknowledged, 0 lost, {extra} doubled, of {bounds} that might have been")


def test_t04_sigterm_under_load_doubles_nothing(world):
    world.receiver("fast", "fast.test")
    daemon = world.daemon(group("default", retry=QUICK), log={"level": "warn"})
    load = Load(daemon.open, ["fast.test"], rate=400 / PATIENCE).start()
    for _ in range(3):
        time.sleep(random.uniform(0.4, 1.0))
        daemon.stop()
        daemon.start()
    load.stop()
    owed = pairs(load.acknowledged)
    wait_until(lambda: owed <= set(delivered(world)), 30, "everything acknowledged to arrive")
    time.sleep(0.5)
    assert max(delivered(world).values()) == 1


# ---- power cuts ----

class LoopDisk:
    """An ext4 file system in a file, whose image can be copied as a power cut would leave it."""

    def __init__(self, folder, megabytes=512):
        self.image, self.mount_point = pathlib.Path(folder) / "disk.img", pathlib.Path(folder) / "disk"
        self.mount_point.mkdir(parents=True)
        with open(self.image, "wb") as f:
            f.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self.image)], check=True)
        self.mounted = False

    def mount(self, image=None):
        # No journal commit or write-back of its own accord within the test: only what was asked for is on disk.
        done = subprocess.run(["mount", "-o", "loop,commit=600", str(image or self.image), str(self.mount_point)],
                              capture_output=True, text=True)
        if done.returncode:
            pytest.skip("no loop mounts here: " + done.stderr.strip())
        self.mounted = True
        source = subprocess.run(["findmnt", "-no", "SOURCE", str(self.mount_point)], capture_output=True, text=True, check=True)
        self.device = os.path.basename(source.stdout.strip())
        return self

    def writes(self):
        fields = pathlib.Path(f"/sys/block/{self.device}/stat").read_text().split()
        return fields[4], fields[6], fields[8]  # writes, sectors written, in flight

    def cut(self, target, process):
        """Copies the image while the daemon stands still between two system calls; True if nothing was written meanwhile."""
        os.kill(process.pid, signal.SIGSTOP)
        try:
            for _ in range(20):
                before = self.writes()
                subprocess.run(["cp", "--sparse=always", str(self.image), str(target)], check=True)
                if before == self.writes() and before[2] == "0":
                    return True
        finally:
            os.kill(process.pid, signal.SIGCONT)
        return False

    def unmount(self):
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.mount_point)], check=True)
            self.mounted = False


def power_cuts(world, tmp_path, cuts, env=None):
    """Runs a load, cuts the power `cuts` times; for each cut (acknowledged before it, found after it)."""
    world.receiver("r", "r.test", replies={"RCPT": "450 4.2.0 later"})
    disk = LoopDisk(tmp_path / "first").mount()
    copies = []
    daemon = world.daemon(group("default", retry=HOURLY), data_dir=str(disk.mount_point / "data"), env=env,
                          log={"level": "warn"}, store={"reserve": "1M"})
    load = Load(daemon.open, ["r.test"], rate=400 / PATIENCE, pad=8000, shared=NEWSLETTER).start()
    try:
        for i in range(cuts):
            time.sleep(random.uniform(0.5, 1.2))
            image = tmp_path / f"cut{i}.img"
            before = set(load.acknowledged)
            if disk.cut(image, daemon.process):
                copies.append((before, image))
    finally:
        load.stop()
        daemon.kill()
        disk.unmount()
    assert len(copies) >= cuts // 2, "too many copies disturbed by writes"
    disk.image.unlink()
    verdicts = []
    for i, (before, image) in enumerate(copies):
        seen = len(world.seen.deliveries)
        world.receivers.change("r", replies={})
        after = LoopDisk.__new__(LoopDisk)
        after.image, after.mount_point, after.mounted = image, tmp_path / f"after{i}", False
        after.mount_point.mkdir()
        after.mount()
        found = set()
        second = world.daemon(group("default", retry=QUICK), data_dir=str(after.mount_point / "data"), start=False,
                              log={"level": "warn"}, store={"reserve": "1M"})
        try:
            try:
                second.start()
                second.queue_op("retry", domain="r.test")
            except AssertionError:
                pass  # it does not even start: everything is lost
            end = time.monotonic() + 20 * PATIENCE
            while time.monotonic() < end:
                found = {d.message_id for d in world.seen.deliveries[seen:]}
                if before <= found or second.process.poll() is not None:
                    break
                time.sleep(0.1)
                if second.process.poll() is None and not second.queued():
                    time.sleep(0.3)
                    found = {d.message_id for d in world.seen.deliveries[seen:]}
                    break
            left = second.queued() if second.process.poll() is None else "it ended"
        finally:
            second.kill()
            after.unmount()
            image.unlink()
        verdicts.append((before, found))
        print(f"cut {i}: {len(before)} acknowledged, {len(found)} found, still queued: {left}")
    return verdicts


@root_only
def test_t12_a_power_cut_loses_nothing_that_was_acknowledged(world, tmp_path, request):
    for before, found in power_cuts(world, tmp_path, request.config.getoption("--cuts")):
        assert len(before) > 20, "a real load"
        assert before <= found, f"{len(before - found)} of {len(before)} acknowledged messages are gone"


@root_only
@pytest.mark.skipif(SANITIZED, reason="eatmydata and sanitizers do not go together")
def test_t12_the_power_cut_test_would_notice(world, tmp_path):
    """Under libeatmydata every fsync is a lie: the same test must find messages missing."""
    library = next(iter(sorted(pathlib.Path("/usr/lib").glob("*/libeatmydata.so"))), None)
    assert library, "libeatmydata1 is in scripts/setup's list"
    verdicts = power_cuts(world, tmp_path, 2, env={"LD_PRELOAD": str(library)})
    assert any(before - found for before, found in verdicts), "a daemon that never syncs passed: the test is blind"


# ---- disks that say no ----

@pytest.mark.skipif(SANITIZED, reason="strace and sanitizers do not go together")
@pytest.mark.parametrize("call, error", [("fdatasync,fsync", "EIO"), ("fdatasync,fsync", "ENOSPC"), ("pwrite64,write,writev,pwritev", "ENOSPC")])
@pytest.mark.parametrize("when", [1, 2, 3, 5, 8])
def test_t07_a_failing_disk_gives_4xx_and_keeps_what_was_promised(world, call, error, when):
    """From the n-th call of each thread on, syncs (or writes below the data folder) fail."""
    world.receiver("r", "r.test", replies={"RCPT": "450 4.2.0 later"})
    daemon = world.daemon(group("default", retry=HOURLY), log={"level": "warn"})
    acknowledged, codes = [], []
    for _ in range(3):
        acknowledged.append(daemon.send("before@r.test"))
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}+",
         *(["-P", str(daemon.data / "queue.db-wal"), "-P", str(daemon.data / "queue.db"),
            *[w for f in (daemon.data / "spool").rglob("*") if f.is_file() for w in ("-P", str(f))]] if "write" in call else []),
         "-p", str(daemon.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(0.7)
    if tracer.poll() is not None:
        pytest.skip("strace cannot attach here: " + tracer.stderr.read())
    try:
        for i in range(12):
            try:
                with Raw(*daemon.open, timeout=20) as raw:
                    raw.begin(f"during{i}@r.test")
                    raw.ok("DATA", 354)
                    message_id, text = compose()
                    raw.send(text)
                    code, _ = raw.cmd(".")
            except (AssertionError, OSError):
                code = 0
            codes.append(code)
            if code == 250:
                acknowledged.append(message_id)
    finally:
        tracer.terminate()
        tracer.wait()
    assert all(c in (250, 0) or 400 <= c < 500 for c in codes), codes
    assert any(c != 250 for c in codes), "the fault was never met"
    daemon.kill()
    integrity(daemon.data)
    world.receivers.change("r", replies={})
    daemon.start()
    daemon.queue_op("retry", domain="r.test")
    wait_until(lambda: set(acknowledged) <= {d.message_id for d in world.seen.deliveries}, 20, "what was promised")
    daemon.send("after@r.test")
    wait_until(lambda: world.seen.to("after@r.test"), what="new mail after the restart")


@root_only
def test_t05_a_full_disk_gives_452_and_recovers(world, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48M", "tmpfs", str(mount)], capture_output=True)
    if done.returncode:
        pytest.skip("no mounts here")
    try:
        world.receiver("r", "r.test", replies={"RCPT": "450 4.2.0 later"})
        daemon = world.daemon(group("default", retry=HOURLY), data_dir=str(mount / "data"), log={"level": "warn"},
                              store={"reserve": "4M", "segment": "1M"})
        ids, code = [], 250
        for _ in range(400):
            message_id, text = compose(["a@r.test"], body=b"%d is its own" % len(ids) + (b"f" * 76 + b"\r\n") * 6000)
            with Raw(*daemon.open) as raw:
                raw.begin("a@r.test")
                code, words = raw.cmd("DATA")
                if code == 354:
                    raw.send(text)
                    code, words = raw.cmd(".")
            if code != 250:
                break
            ids.append(message_id)
        assert code == 452 and "4.3.1" in words, (code, words)
        assert len(ids) > 20
        wait_until(lambda: daemon.api("/api/v1/status")["store"]["leased"] == 0, 30, "the answers to all of them")
        world.receivers.change("r", replies={})
        daemon.queue_op("retry", domain="r.test")
        wait_until(lambda: set(ids) <= {d.message_id for d in world.seen.deliveries}, 30, "delivery goes on")
        wait_until(lambda: _accepts(daemon), 20, "new mail once there is room")
        daemon.stop()
    finally:
        for d in world.daemons:
            d.kill()
        subprocess.run(["umount", "-l", str(mount)])


def _accepts(daemon):
    try:
        daemon.send("b@r.test")
        return True
    except Exception:
        time.sleep(0.2)
        return False


@pytest.mark.skipif(SANITIZED, reason="limits of address space and files disturb sanitizers")
def test_t22_running_out_of_descriptors_is_survived(world):
    world.receiver("r", "r.test")
    daemon = world.daemon(start=False, wrapper=["sh", "-c", 'ulimit -n 64; exec "$0" "$@"'])
    daemon.start()
    held = []
    for _ in range(120):
        held.append(Raw(*daemon.open, greet=False, timeout=2))
    wait_until(lambda: daemon.api("/api/v1/status")["counters"]["connections_refused"] > 80, what="the refusals")
    spent = cpu(daemon.pid)
    time.sleep(1)
    assert cpu(daemon.pid) - spent < 0.5, "no busy loop in accept"
    codes = [raw.reply()[0] for raw in held]
    assert codes.count(220) + codes.count(421) == 120 and codes.count(220) > 5
    for raw in held:
        raw.close()
    wait_until(lambda: daemon.api("/api/v1/status")["counters"]["connections_in_open"] == 0, what="their end")
    daemon.send("a@r.test")
    world.got(1)


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
