"""Loopback addresses and ports that nobody else uses."""

import errno
import fcntl
import os
import random
import socket
import tempfile
import time


class Net:
    """
    A /24 of 127.0.0.0/8, and the fourteen that follow it for worlds that need more; held by a lock file, so that several
    worlds can live side by side.
    """

    def __init__(self):
        order = [(a, b) for a in range(20, 250) for b in range(1, 250, 16)]
        random.shuffle(order)
        for a, b in order:
            path = os.path.join(tempfile.gettempdir(), f"hayauma-world-127.{a}.{b}.lock")
            try:
                fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its last holder may have removed the file between our two steps: then the lock is on nothing.
                held = os.fstat(fd).st_ino == os.stat(path).st_ino
            except OSError:
                continue
            if not held:
                os.close(fd)
                continue
            self._fd, self._path, self.prefix = fd, path, f"127.{a}.{b}"
            self._a, self._b = a, b
            self._next = 1
            return
        raise RuntimeError("no free loopback network")

    def address(self, last=None):
        """The next unused address of the net, or the one that ends in `last`."""
        if last is None:
            self._next += 1
            over, last = divmod(self._next - 1, 254)
            if over > 14:
                raise RuntimeError("all addresses of this world are in use")
            return f"127.{self._a}.{self._b + over}.{last + 1}"
        return f"{self.prefix}.{last}"

    def release(self):
        if self._fd is not None:
            os.unlink(self._path)
            os.close(self._fd)
            self._fd = None


def free_port(address="127.0.0.1", kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def wait_for_port(address, port, seconds=10.0, alive=lambda: True):
    """Waits until something listens; False when time is over or `alive` says that nobody will."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and alive():
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
            s.settimeout(1)
            if s.connect_ex((address, port)) == 0:
                return True
        time.sleep(0.02)
    return False


def wait_for_socket(path, seconds=10.0, alive=lambda: True):
    """The same for a Unix-domain socket: a file alone does not mean that somebody is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and alive():
        with socket.socket(socket.AF_UNIX) as s:
            if s.connect_ex(path) == 0:
                return True
        time.sleep(0.02)
    return False


class BlackHole:
    """A listener that never accepts and whose backlog is full: a connect hangs, as into a dead network."""

    def __init__(self, address, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((address, port))
        self._listener.listen(0)
        self._fill = []
        for _ in range(4):
            s = socket.socket(family)
            s.setblocking(False)
            if s.connect_ex((address, port)) not in (0, errno.EINPROGRESS):
                raise RuntimeError("the black hole answers")
            self._fill.append(s)
        time.sleep(0.05)

    def stop(self):
        for s in self._fill + [self._listener]:
            s.close()
