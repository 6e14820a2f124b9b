"""What `meson install` lays down, used as an operator would; and what a service manager hears of the daemon."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess

import pytest

from harness import BUILD, PATIENCE, group

FILES = """
    bin/hayauma
    lib/systemd/system/hayauma.service
    lib/sysusers.d/hayauma.conf
    sbin/hayaumad
    share/bash-completion/completions/hayauma
    share/doc/hayauma/LICENSE
    share/doc/hayauma/README.md
    share/doc/hayauma/configuration.md
    share/doc/hayauma/examples/hayauma.yaml
    share/doc/hayauma/policy.md
    share/hayauma/receivers.yaml
    share/man/man1/hayauma.1
    share/man/man5/hayauma.yaml.5
    share/man/man8/hayaumad.8
    share/zsh/site-functions/_hayauma
""".split()


def run(*words, code=0, **more):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=60 * PATIENCE, **more)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    top = tmp_path_factory.mktemp("installed")
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", top)
    return top, top / "usr/local"


def test_an_installation_has_programs_a_unit_manuals_and_an_example_that_is_good(installed):
    top, prefix = installed
    found = {str(f.relative_to(prefix)) for f in prefix.rglob("*") if f.is_file()}
    assert found - {"bin/hayauma-bench"} == set(FILES)
    example = (prefix / "share/doc/hayauma/examples/hayauma.yaml").read_text()
    (top / "hayauma.yaml").write_text(example.replace("user: hayauma", "user: nobody"))  # whom every host has
    assert "is good" in run(prefix / "sbin/hayaumad", "--check", "-c", top / "hayauma.yaml")
    assert "## `delivery.jobs_in_memory`" in (prefix / "share/doc/hayauma/configuration.md").read_text()
    for page in ("man1/hayauma.1", "man5/hayauma.yaml.5", "man8/hayaumad.8"):
        text = (prefix / "share/man" / page).read_text()
        assert text.startswith(".TH ") and "@" not in text.split("SYNOPSIS")[0].split("KEYS")[0]
        if shutil.which("man"):
            assert run("man", "-l", "--warnings", prefix / "share/man" / page, env={**os.environ, "LC_ALL": "C.UTF-8"}).count("warning") == 0
    keys = (prefix / "share/man/man5/hayauma.yaml.5").read_text().count("\n.TP\n")
    assert keys == (prefix / "share/doc/hayauma/configuration.md").read_text().count("### ") > 60
    for place in ("lib/systemd/system/hayauma.service", "share/man/man8/hayaumad.8"):
        assert "@docdir@" not in (prefix / place).read_text()
    run("bash", "-n", prefix / "share/bash-completion/completions/hayauma")
    assert (prefix / "share/zsh/site-functions/_hayauma").read_text().startswith("#compdef hayauma\n")


def test_the_unit_starts_the_installed_program_with_as_few_rights_as_it_needs(installed):
    top, prefix = installed
    unit = (prefix / "lib/systemd/system/hayauma.service").read_text()
    words = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith(("#", "SystemCall")))
    assert words["Type"] == "notify" and words["User"] == "hayauma" and words["StateDirectory"] == "hayauma"
    program = words["ExecStart"].split()[0]
    assert (top / program.lstrip("/")).is_file() and os.access(top / program.lstrip("/"), os.X_OK)
    assert words["AmbientCapabilities"] == words["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert (prefix / "lib/sysusers.d/hayauma.conf").read_text().splitlines()[-1].startswith("u hayauma ")
    if shutil.which("systemd-analyze"):
        copy = top / "hayauma.service"
        copy.write_text(unit.replace("/usr/local/sbin", str(prefix / "sbin")))
        assert "hayauma.service:" not in run("systemd-analyze", "verify", "--man=no", copy), "a line that systemd does not know"
        rating = run("systemd-analyze", "security", "--offline=true", "--threshold=20", copy)
        assert "OK" in rating.splitlines()[-1], rating


def test_a_service_manager_hears_of_readiness_a_reload_and_the_end(world):
    path = str(world.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(20 * PATIENCE)
        daemon = world.daemon(group("default"), env={"NOTIFY_SOCKET": path})
        assert manager.recv(256) == b"READY=1"
        os.kill(daemon.pid, signal.SIGHUP)
        heard = manager.recv(256).decode().splitlines()
        assert heard[0] == "RELOADING=1" and heard[1].startswith("MONOTONIC_USEC=") and int(heard[1].split("=")[1]) > 0
        assert manager.recv(256) == b"READY=1"
        assert "reload.done" in daemon.log()
        daemon.stop()
        assert manager.recv(256) == b"STOPPING=1"
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(256)
