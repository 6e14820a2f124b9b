"""One thread of the daemon stands still (ptrace), and goes on when it is let go: what no test can ask of a healthy program."""

import contextlib
import ctypes
import os
import pathlib
import select
import subprocess
import sys

SEIZE, INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000


def thread_of(pid, name):
    """The thread's number, by its name."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise AssertionError(f"{pid} has no thread {name}")


@contextlib.contextmanager
def frozen(pid, name):
    """The tracer is a process of its own: its end lets the thread go, and a thread that was killed it buries."""
    tracer = subprocess.Popen([sys.executable, __file__, str(thread_of(pid, name))], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = tracer.stdout.readline()
        if said != "frozen\n":
            import pytest
            pytest.skip("threads cannot be stopped here: " + tracer.stderr.read().strip()[-200:])
        yield
    finally:
        tracer.stdin.close()
        tracer.wait()


def _hold(tid):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    for what in (SEIZE, INTERRUPT):
        if libc.ptrace(what, tid, None, None) != 0:
            sys.exit(os.strerror(ctypes.get_errno()))
    os.waitpid(tid, WALL)
    print("frozen", flush=True)
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(tid, WALL | os.WNOHANG)


if __name__ == "__main__":
    _hold(int(sys.argv[1]))
