"""Ports below 1024 without root: by capability, by handed-over sockets, or as root that becomes a user."""

import grp
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest
from harness import BUILD, PATIENCE, SANITIZED, wait_until
from world import net, servers

pytestmark = [pytest.mark.xdist_group("port 587"),
              pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else"),
              pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv"),
              pytest.mark.skipif(SANITIZED, reason="about rights, not memory; leak checks need ptrace")]
NOBODY = pwd.getpwnam("nobody")
AS_NOBODY = ["setpriv", "--reuid=nobody", f"--regid={NOBODY.pw_gid}", "--clear-groups"]
ADDRESS = "127.77.0.9"


@pytest.fixture
def home():
    """A folder and a program that nobody can reach: test folders are for root alone."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hayauma-rights-"))
    folder.chmod(0o755)
    shutil.copy(servers.program(BUILD, "hayaumad"), folder / "hayaumad")
    (folder / "data").mkdir(mode=0o700)
    os.chown(folder / "data", NOBODY.pw_uid, NOBODY.pw_gid)
    yield folder
    shutil.rmtree(folder)


def config(home, port, **more):
    file = home / "hayaumad.yaml"
    file.write_text(json.dumps({"host_name": "h.example", "data_dir": str(home / "data"), "workers": 2,
                                "listeners": [{"address": f"{ADDRESS}:{port}"}], **more}))
    file.chmod(0o644)
    return file


def run(home, file, *before, **more):
    return subprocess.Popen([*before, str(home / "hayaumad"), "-c", str(file)], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)


def greets(process, port):
    assert net.wait_for_port(ADDRESS, port, 10 * PATIENCE, lambda: process.poll() is None), process.stdout.read()
    with socket.create_connection((ADDRESS, port), 5) as s:
        return s.recv(100).startswith(b"220 h.example")


def rights(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {k: v.split() for k, v in (line.split(":", 1) for line in status)}


def end(process):
    process.send_signal(signal.SIGTERM)
    assert process.wait(10 * PATIENCE) == 0


def test_a_capability_opens_the_port_and_is_given_up(home):
    process = run(home, config(home, 587), *AS_NOBODY, "--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service")
    assert greets(process, 587)
    have = rights(process)
    assert have["Uid"][1] == str(NOBODY.pw_uid) and int(have["CapEff"][0], 16) == 0 and int(have["CapPrm"][0], 16) == 0
    assert have["NoNewPrivs"] == ["1"]
    end(process)


def test_without_the_right_it_says_what_to_do(home):
    process = run(home, config(home, 587), *AS_NOBODY)
    assert process.wait(10 * PATIENCE) == 1
    assert "CAP_NET_BIND_SERVICE" in process.stdout.read()


def test_root_becomes_the_user_after_binding(home):
    process = run(home, config(home, 587, user="nobody"))
    assert greets(process, 587)
    have = rights(process)
    assert have["Uid"] == [str(NOBODY.pw_uid)] * 4 and int(have["CapEff"][0], 16) == 0
    assert have["Gid"] == [str(NOBODY.pw_gid)] * 4 and have["Groups"] == [str(NOBODY.pw_gid)]
    wait_until(lambda: (home / "data/queue.db").exists(), what="the queue")
    assert (home / "data/queue.db").stat().st_uid == NOBODY.pw_uid
    end(process)


def test_another_group_than_the_users_own_is_taken(home):
    other = grp.getgrnam("mail").gr_gid
    os.chown(home / "data", NOBODY.pw_uid, other)
    process = run(home, config(home, 587, user="nobody", group="mail"))
    assert greets(process, 587)
    have = rights(process)
    assert have["Gid"] == [str(other)] * 4 and str(other) in have["Groups"] and "0" not in have["Groups"]
    end(process)


def test_check_asks_as_the_user_that_will_read(home):
    """Root reads everything, and the daemon would find out only after it has become somebody else."""
    for name in ("cert.pem", "key.pem"):
        (home / name).write_text("x")
        (home / name).chmod(0o600)
    file = config(home, 587, user="nobody", tls={"certificate": str(home / "cert.pem"), "key": str(home / "key.pem")})
    done = subprocess.run([str(home / "hayaumad"), "-c", str(file), "--check"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("cannot be read by user nobody: Permission denied") == 2, done.stderr


def test_sockets_are_taken_over_from_who_opened_them(home):
    with socket.create_server((ADDRESS, 587)) as listening:
        def hand_over():
            os.dup2(listening.fileno(), 3) if listening.fileno() != 3 else None
            os.set_inheritable(3, True)
        # The number of the process is only known after the fork: a shell that becomes the daemon sets it.
        process = run(home, config(home, 587), *AS_NOBODY, "sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"',
                      preexec_fn=hand_over, pass_fds=(3,) if listening.fileno() == 3 else (3, listening.fileno()))
        for _ in range(4):  # both workers listen on it
            assert greets(process, 587)
    end(process)
