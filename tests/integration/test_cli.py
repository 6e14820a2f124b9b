"""The command line: as programs use it, and as people do on a terminal."""

import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest
from harness import BUILD, HOURLY, PATIENCE, group, wait_until
from world import servers

HAYAUMA = servers.program(BUILD, "hayauma")
CLEAN = {k: v for k, v in os.environ.items() if k not in ("HAYAUMA_SOCKET", "NO_COLOR")}


def run(*words, stdin="", env=None, **more):
    return subprocess.run([HAYAUMA, *words], input=stdin, capture_output=True, text=True, timeout=30 * PATIENCE,
                          env={**CLEAN, **(env or {})}, **more)


class Terminal:
    """The program on a terminal of its own: what it shows, and a keyboard."""

    def __init__(self, *words, width=80, env=None):
        self.shown = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
            os.execve(HAYAUMA, [HAYAUMA, *words], {**CLEAN, "TERM": "xterm", **(env or {})})

    def read(self, seconds):
        """What comes within that time; None at the end."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return b""
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return None
        self.shown += data
        return data or None

    def until(self, text):
        end = time.monotonic() + 20 * PATIENCE
        while text.encode() not in self.shown:
            assert time.monotonic() < end and self.read(0.2) is not None, self.shown
        return self

    def type(self, text):
        os.write(self.fd, text.encode())
        return self

    def end(self):
        """(exit status, all that was shown)"""
        end = time.monotonic() + 20 * PATIENCE
        while self.read(0.2) is not None:
            assert time.monotonic() < end, self.shown
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), self.shown.decode()


@pytest.fixture(scope="module")
def busy(shared_world):
    """A daemon with deliveries, bounces, and eight recipients that wait."""
    world = shared_world
    world.receiver("p", "p.test")
    # A reply that would colour, clear and reverse the operator's terminal.
    world.receiver("later", "later.test", unknown_prefix="",
                   replies={"RCPT": "450 4.2.0 \x1b[2J\x07 evil \u009b31m \u202e あとで " + "and more of it " * 12})
    daemon = world.daemon(group("p", ["p.test"], starttls="require"), group("default", retry=HOURLY))
    for i in range(4):
        daemon.send(f"a{i}@p.test", f"unknown{i}@p.test", f"c{i}@later.test", f"d{i}@later.test",
                    headers=["X-Campaign: autumn"])
    wait_until(lambda: len([r for r in daemon.queued() if r["domain"] == "later.test" and r["attempts"]]) == 8,
               20, "eight deferred recipients")
    return daemon


# ---- exit statuses and where the daemon is ----

@pytest.mark.parametrize("words, says", [
    ([], "usage: hayauma COMMAND"),
    (["queue"], "queue retry"),
    (["qeue", "list"], "did you mean 'queue'?"),
    (["queue", "list", "--domian", "x"], "did you mean '--domain'?"),
    (["queue", "list", "--limit", "many"], "wants a number"),
    (["queue", "hold", "--socket", "/nowhere"], "--all"),
    (["account", "add", "x", "--password", "secret"], "unknown option"),
])
def test_wrong_usage_ends_with_2_and_says_what_is_right(words, says):
    done = run(*words)
    assert done.returncode == 2 and says in done.stderr and done.stdout == ""


def test_help_needs_no_daemon_and_goes_to_stdout():
    for words in (["help"], ["--help"], ["queue", "--help"], ["help", "queue", "list"], ["queue", "show", "-h"]):
        done = run(*words, env={"HAYAUMA_SOCKET": "/nowhere"})
        assert done.returncode == 0 and "usage: hayauma" in done.stdout and not done.stderr


def test_without_a_daemon_it_ends_with_3_and_names_the_socket(tmp_path):
    gone = str(tmp_path / "gone.sock")
    done = run("status", "--socket", gone)
    assert done.returncode == 3 and gone in done.stderr and "is hayaumad running?" in done.stderr and not done.stdout
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(gone)
    stale.close()
    done = run("queue", "list", "--socket", gone)
    assert done.returncode == 3 and gone in done.stderr and "not running" in done.stderr
    assert run("status", "--socket", "/" + "x" * 200).returncode == 3


def test_the_socket_is_found_by_option_environment_and_configuration(busy, tmp_path):
    assert run("status", "--socket", busy.socket).returncode == 0
    assert run("status", env={"HAYAUMA_SOCKET": busy.socket}).returncode == 0
    assert run("status", "-c", str(busy.config_file)).returncode == 0
    # What is said on the line is stronger than the environment.
    assert run("-c", str(busy.config_file), "status", env={"HAYAUMA_SOCKET": "/nowhere"}).returncode == 0
    assert run("status", "--socket", "/nowhere", env={"HAYAUMA_SOCKET": busy.socket}).returncode == 3
    missing = run("status", "-c", str(tmp_path / "none.yaml"))
    assert missing.returncode == 1 and "none.yaml" in missing.stderr


def test_a_refusal_ends_with_1_and_is_json_for_programs(busy):
    done = run("account", "remove", "nobody", "--socket", busy.socket)
    assert done.returncode == 1 and "nobody" in done.stderr and not done.stdout
    done = run("account", "remove", "nobody", "--socket", busy.socket, "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["error"]["code"] == "not_found" and "nobody" in done.stderr
    done = run("policy", "diff", "--to", "1", "--socket", busy.socket, "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["error"]["code"] == "not_found" and "version 1" in done.stderr


def test_every_command_that_shows_something_speaks_json(busy):
    message = busy.queued()[0]["message"]
    for words in (["status"], ["account", "list"], ["queue", "list"], ["queue", "summary"], ["queue", "summary", "--by", "group"],
                  ["queue", "show", message], ["policy", "show"], ["policy", "history"], ["policy", "export"],
                  ["policy", "check", str(busy.policy_file)], ["policy", "diff", str(busy.policy_file)],
                  ["report", "delivery"], ["report", "tls"], ["report", "reconcile"], ["explain", "a@p.test"], ["version"]):
        assert isinstance(busy.json(*words), dict), words


# ---- what people see ----

def test_nothing_that_a_receiver_says_moves_the_terminal(busy):
    message = busy.queued(domain="later.test")[0]["message"]
    for words in (["queue", "list"], ["queue", "show", message], ["explain", "c0@later.test"], ["queue", "list", "--json"],
                  ["queue", "show", message, "--json"]):
        status, shown = Terminal(*words, "--socket", busy.socket, width=400, env={"NO_COLOR": "1"}).end()
        assert status == 0 and "evil" in shown, words
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", shown), words


def columns(text):
    return sum(2 if c >= "\u2e80" else 1 for c in text)


@pytest.mark.parametrize("width", [80, 110, 140, 200])
def test_a_list_fits_the_terminal(busy, width):
    status, shown = Terminal("queue", "list", "--socket", busy.socket, width=width, env={"NO_COLOR": "1"}).end()
    lines = shown.splitlines()
    assert status == 0 and len(lines) >= 9 and any(line.endswith("…") for line in lines)
    assert max(map(columns, lines)) <= width
    # In a pipe nothing is cut.
    assert "and more of it and more of it" in busy.hayauma("queue", "list").splitlines()[-1]


def test_colours_are_for_terminals_that_want_them(busy):
    words = ("report", "delivery", "--socket", busy.socket)
    assert "\x1b[" in Terminal(*words).end()[1]
    assert "\x1b[" not in Terminal(*words, env={"NO_COLOR": "1"}).end()[1]
    assert "\x1b[" not in Terminal(*words, env={"TERM": "dumb"}).end()[1]
    assert "\x1b[" not in run(*words).stdout


def test_the_texts_tell_what_the_json_tells(busy):
    delivery = busy.hayauma("report", "delivery", "--campaign", "autumn")
    assert "16 accepted = 4 delivered + 4 bounced + 8 waiting" in delivery
    tls = busy.hayauma("report", "tls", "--by", "domain", "--campaign", "autumn")
    row = [line.split() for line in tls.splitlines() if line.startswith("p.test")][0]
    assert row[1:4] == ["4", "4", "0"], tls
    assert re.search(r"require +4 +100 %", tls) and "TLS_AES" in tls
    assert "exact" in busy.hayauma("report", "reconcile", "--campaign", "autumn")
    status = busy.hayauma("status")
    assert "8 waiting" in status and "127.0.0.1" in status or busy.address in status


def test_csv_is_csv(busy):
    for what in ("delivery", "tls"):
        rows = list(csv.DictReader(io.StringIO(busy.hayauma("report", what, "--by", "domain", "--csv"))))
        assert {"p.test": "4", "later.test": "0"}.items() <= {r["domain"]: r["delivered"] for r in rows}.items()


def test_pages_make_the_whole(busy):
    whole = [(r["message"], r["rcpt"]) for r in busy.queued(domain="later.test")]
    seen, after = [], []
    while True:
        page = busy.json("queue", "list", "--domain", "later.test", "--limit", "3", *after)
        seen += [(r["message"], r["rcpt"]) for r in page["recipients"]]
        if not page["more"]:
            break
        assert len(page["recipients"]) == 3
        after = ["--after", page["next"]]
    assert seen == whole and len(whole) == 8
    every = busy.json("queue", "list", "--domain", "later.test", "--all-pages")
    assert [(r["message"], r["rcpt"]) for r in every["recipients"]] == whole and not every["more"]


# ---- passwords ----

def test_a_password_is_asked_for_twice_and_never_shown(busy):
    t = Terminal("account", "add", "typed", "--socket", busy.socket)
    t.until("Password: ").type("Pale-horse-7\n").until("Once more: ").type("Pale-horse-7\n")
    status, shown = t.end()
    assert status == 0 and "typed" in shown and "horse" not in shown
    assert "typed" in busy.hayauma("account", "list")
    t = Terminal("account", "add", "mistyped", "--socket", busy.socket)
    t.until("Password: ").type("Pale-horse-7\n").until("Once more: ").type("Pale-horse-8\n")
    status, shown = t.end()
    assert status == 1 and "differ" in shown
    assert "mistyped" not in busy.hayauma("account", "list")


def test_ctrl_c_at_the_password_gives_the_terminal_its_echo_back(busy):
    t = Terminal("account", "passwd", "typed", "--socket", busy.socket)
    t.until("Password: ")
    assert not termios.tcgetattr(t.fd)[3] & termios.ECHO
    t.type("half\x03")
    wait_until(lambda: termios.tcgetattr(t.fd)[3] & termios.ECHO, 5, "the echo")
    status, _ = t.end()
    assert status == -signal.SIGINT


def test_an_account_shows_what_was_set(busy):
    busy.hayauma("account", "add", "shop", "--sender-domain", "a.example", "--sender-domain", "b.example", "--network",
                 "192.0.2.0/24", "--max-connections", "5", "--messages-per-minute", "12000", stdin="a long enough one\n")
    line = [x for x in busy.hayauma("account", "list").splitlines() if x.startswith("shop")][0]
    assert "a.example, b.example" in line and "192.0.2.0/24" in line and "12,000" in line
    busy.hayauma("account", "set", "shop", "--any-network", "--disable")
    (shop,) = [a for a in busy.json("account", "list")["accounts"] if a["name"] == "shop"]
    assert (shop["networks"], shop["sender_domains"], shop["disabled"]) == ([], ["a.example", "b.example"], True)
    busy.hayauma("account", "add", "shop", stdin="another one\n", code=1)
    busy.hayauma("account", "passwd", "nobody", stdin="another one\n", code=1)
    busy.hayauma("account", "add", "empty", code=1)


# ---- operations ----

def test_giving_up_asks_first_on_a_terminal(busy):
    words = ("queue", "bounce", "--recipient", "d0@later.test", "--socket", busy.socket)
    t = Terminal(*words)
    status, shown = t.until("Give up 1 recipient, and tell the senders?").type("n\n").end()
    assert status == 1 and "nothing was changed" in shown
    assert busy.queued(recipient="d0@later.test")
    status, shown = Terminal(*words, "--yes").end()
    assert status == 0 and "Give up" not in shown and "1 recipient: bounced" in shown
    wait_until(lambda: not busy.queued(recipient="d0@later.test"), what="the recipient gone")
    t = Terminal("queue", "cancel", "--recipient", "d1@later.test", "--socket", busy.socket)
    assert t.until("tell nobody?").type("y\n").end()[0] == 0
    wait_until(lambda: not busy.queued(recipient="d1@later.test"), what="the recipient gone")


def test_several_domains_in_one_operation(busy):
    busy.hayauma("queue", "hold", "--domain", "later.test", "--domain", "p.test")
    held = busy.queued(state="held")
    assert {r["domain"] for r in held} == {"later.test"} and held == busy.queued(domain="later.test")
    assert "held" in busy.hayauma("queue", "summary")
    assert "released" in busy.hayauma("queue", "release", "--all")
    assert not busy.queued(state="held")


# ---- policy ----

def test_errors_are_shown_with_their_line(busy, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("groups:\n  - name: p\n    port: 99999\n")
    for verb in ("check", "apply"):
        done = run("policy", verb, str(bad), "--socket", busy.socket)
        text = done.stdout + done.stderr
        assert done.returncode == 1 and f"{bad}:3:11: " in text
        assert "        port: 99999\n              ^\n" in text
    done = run("policy", "check", "-", "--socket", busy.socket, stdin=bad.read_text())
    assert done.returncode == 1 and "stdin:3:11" in done.stdout


def test_a_policy_comes_back_to_the_octet(busy, tmp_path):
    text = "# 方針: the comment stays\n" + busy.policy_text() + "\n\n"
    new, out = tmp_path / "new.yaml", tmp_path / "out.yaml"
    new.write_text(text)
    before = busy.json("policy", "show")["version"]
    assert "+# 方針" in busy.hayauma("policy", "diff", str(new))
    busy.hayauma("policy", "apply", str(new), "--comment", "理由", "--expected", str(before))
    busy.hayauma("policy", "apply", str(new), "--expected", str(before), code=1)
    busy.hayauma("policy", "export", "-o", str(out))
    assert out.read_text() == text == busy.hayauma("policy", "export")
    assert "理由" in busy.hayauma("policy", "history")
    assert "+# 方針" in busy.hayauma("policy", "diff") and "-# 方針" in busy.hayauma(
        "policy", "diff", "--from", str(before + 1), "--to", str(before))
    busy.hayauma("policy", "rollback", str(before), "--comment", "back")
    assert "方針" not in busy.hayauma("policy", "show")
    assert busy.json("policy", "show")["version"] == before + 2


# ---- log ----

def follow(daemon, *words):
    return subprocess.Popen([HAYAUMA, "log", "follow", "--socket", daemon.socket, *words], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=CLEAN)


def test_the_log_shows_what_was_asked_for_and_ends_with_ctrl_c(busy):
    log = follow(busy, "--last", "0", "--result", "bounced", "--domain", "p.test")
    try:
        time.sleep(0.5)
        busy.send("good@p.test", "unknown-late@p.test")
        line = log.stdout.readline()
        assert "unknown-late@p.test" in line and "bounced" in line and "550" in line
        log.send_signal(signal.SIGINT)
        assert log.wait(5 * PATIENCE) == 0 and log.stdout.read() == ""
    finally:
        log.kill()
        log.wait()


def test_the_log_begins_with_the_newest(busy):
    log = follow(busy, "--last", "3", "--json")
    try:
        rows = [json.loads(log.stdout.readline()) for _ in range(3)]
        assert [int(r["id"]) for r in rows] == sorted(int(r["id"]) for r in rows)
    finally:
        log.kill()
        log.wait()


def test_the_log_begins_with_the_newest_of_what_was_asked_for(busy):
    """However many others came after it."""
    busy.send("unknown-first@p.test", "unknown-second@p.test")
    attempts = busy.attempts
    wait_until(lambda: attempts("unknown-first@p.test") and attempts("unknown-second@p.test"), what="both bounces")
    busy.send(*(f"quiet{i}@p.test" for i in range(5)))
    wait_until(lambda: all(attempts(f"quiet{i}@p.test") for i in range(5)), what="five deliveries")
    log = follow(busy, "--last", "1", "--recipient", "unknown-second@p.test", "--json")
    other = follow(busy, "--last", "1", "--result", "bounced", "--domain", "p.test", "--json")
    try:
        assert json.loads(log.stdout.readline())["address"] == "unknown-second@p.test"
        assert json.loads(other.stdout.readline())["address"].startswith("unknown-")
        for one in (log, other):
            one.send_signal(signal.SIGINT)
            assert one.wait(5 * PATIENCE) == 0 and one.stdout.read() == ""
    finally:
        for one in (log, other):
            one.kill()
            one.wait()


def test_without_a_daemon_a_program_gets_the_error_in_the_usual_form(tmp_path):
    done = run("status", "--json", "--socket", str(tmp_path / "none"))
    assert done.returncode == 3 and json.loads(done.stdout)["error"]["code"] == "unreachable"
    assert f"there is no socket {tmp_path / 'none'}" in json.loads(done.stdout)["error"]["message"]
    done = run("--version", "--socket", str(tmp_path / "none"))
    assert done.returncode == 2
    assert run("--version", env={"HAYAUMA_SOCKET": str(tmp_path / "none")}).stdout.startswith("hayauma ")


def test_the_log_goes_on_after_a_restart(world):
    world.receiver("p", "p.test")
    daemon = world.daemon()
    log = follow(daemon, "--last", "0")
    try:
        time.sleep(0.5)
        daemon.stop()
        assert "gone" in log.stderr.readline()
        daemon.start()
        daemon.send("after@p.test")
        assert "after@p.test" in log.stdout.readline()
    finally:
        log.kill()
        log.wait()


# ---- shells ----

def test_bash_completes_commands_options_and_words(tmp_path):
    script = tmp_path / "completion"
    script.write_text(run("completion", "bash").stdout)

    def complete(line):
        words = line.split(" ")
        quoted = " ".join(f"'{w}'" for w in words)
        program = (f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _hayauma; "
                   'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True, cwd=tmp_path)
        assert not done.stderr, done.stderr
        return set(done.stdout.split())

    assert {"status", "queue", "policy", "help"} <= complete("hayauma ")
    assert complete("hayauma que") == {"queue"}
    assert complete("hayauma queue re") == {"retry", "release"}
    assert complete("hayauma queue list --st") == {"--state"}
    assert complete("hayauma queue list --state ") == {"waiting", "held", "paused", "dsn-owed", "bouncing", "cancelling"}
    assert complete("hayauma --socket /x report del") == {"delivery"}
    assert complete("hayauma report tls --by m") == {"mx"}
