"""T08: one allocation fails (tests/preload/nomem.c).  Ours end the process with a word, those of libraries fail a session or a
commit; in no case is memory touched that is not there, and nothing that was answered is lost."""

import random
import signal
import struct
import time

import pytest

from harness import BUILD, SANITIZED, group, wait_until
from load import Load
from test_crash import QUICK, delivered, integrity, pairs

CONNECTIONS = 10
LIBRARY = 77  # see nomem.c

pytestmark = pytest.mark.skipif(SANITIZED, reason="preloaded libraries and sanitizers do not go together")


class Memory:
    def __init__(self, world):
        self.file = world.folder / "nomem"
        self.file.write_bytes(struct.pack("=q", 0))
        self.env = {"LD_PRELOAD": str(BUILD / "tests/preload/hayauma-test-nomem.so"), "HAYAUMA_TEST_NOMEM": str(self.file)}

    def fail(self, nth):
        """The nth allocation from now on."""
        with open(self.file, "r+b") as f:
            f.write(struct.pack("=q", nth))

    def left(self):
        return struct.unpack("=q", self.file.read_bytes())[0]


def ended_well(daemon, nth):
    """It goes on, or it ended as it should: by its own word, or in a library that read through NULL."""
    code = daemon.process.poll()
    assert code in (None, -signal.SIGABRT, LIBRARY), f"allocation {nth}: ended with {code}\n{daemon.log()[-3000:]}"
    return code is None


def test_t08_an_allocation_that_fails_under_load_loses_nothing(world, request):
    rounds = 8 if request.config.getoption("--rounds") < 100 else request.config.getoption("--rounds")
    world.receiver("r", "r.test")
    memory = Memory(world)
    daemon = world.daemon(group("default", retry=QUICK, limits={"connections": CONNECTIONS}), env=memory.env, log={"level": "warn"})
    load = Load(daemon.open, ["r.test"], rate=300).start()
    died = 0
    for _ in range(rounds):
        nth = random.choice([random.randrange(1, 100), random.randrange(1, 5000)])
        memory.fail(nth)
        wait_until(lambda: memory.left() <= 0 or daemon.process.poll() is not None, 10, f"the {nth}th allocation")
        time.sleep(0.1)
        if not ended_well(daemon, nth):
            died += 1
            memory.fail(0)
            daemon.start()
        # A disk thread that has failed tries again; who dies meanwhile would have more in doubt than its connections.
        wait_until(lambda: daemon.api("/api/v1/status")["history_backlog"] < CONNECTIONS, 10, "records")
    load.stop()
    owed = pairs(load.acknowledged)
    assert len(owed) > 10 * rounds, "a real load"
    wait_until(lambda: owed <= set(delivered(world)), 30, "everything acknowledged to arrive")
    wait_until(lambda: not daemon.queued(), 30, "an empty queue")
    assert sum(n - 1 for n in delivered(world).values()) <= rounds * CONNECTIONS
    assert died > 0, "no fault of ours was met"
    daemon.stop()
    integrity(daemon.data)
