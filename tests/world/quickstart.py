"""What scripts/quickstart does after building: world, daemon, account, policy, campaign, reports, reconciliation."""

import argparse
import collections
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import time

from . import demo, inject, servers

USER = "demo"
SETTLE_SECONDS = 100
# Exim takes connections one process each and delivers a message by another: it ends last.


class Quickstart:
    def __init__(self, arguments):
        self.top = servers.TOP
        self.build = pathlib.Path(arguments.build)
        self.folder = servers.WORLD / "demo"
        self.keep = arguments.keep
        self.keeper = None
        self.tty = sys.stdout.isatty()
        self.problems = []

    # ---- small things ----
    def say(self, text):
        print(f"\n== {text}", flush=True)

    def line(self, text):
        """Progress: one line that is written over on a terminal."""
        if self.tty:
            print(f"\r\x1b[K{text}", end="", flush=True)
        elif time.monotonic() - getattr(self, "_said", 0) > 5:
            self._said = time.monotonic()
            print(text, flush=True)

    def hayauma(self, *words, stdin="", check=True):
        done = subprocess.run([str(self.build / "webui-api/hayauma"), "--socket", self.state["socket"], *words],
                              input=stdin, capture_output=True, text=True)
        if check and done.returncode:
            raise RuntimeError(f"hayauma {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def json(self, *words):
        return json.loads(self.hayauma(*words, "--json"))

    # ---- the steps ----
    def start(self):
        stop_old(self.folder)
        self.say("Starting the world: NSD, Postfix, Exim, nine scripted receivers, and hayaumad")
        self.folder.mkdir(parents=True, exist_ok=True)
        log = open(servers.WORLD / "demo.log", "w")
        command = [sys.executable, "-m", "world.demo", str(self.folder), str(self.build / "engine/hayaumad")]
        self.keeper = subprocess.Popen(
            command + (["--detached"] if self.keep else []), cwd=self.top / "tests", start_new_session=True,
            stdin=subprocess.DEVNULL if self.keep else subprocess.PIPE, stdout=log, stderr=log)
        file = self.folder / "state.json"
        end = time.monotonic() + 60
        while not file.exists():
            if self.keeper.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the world did not start: " + (servers.WORLD / "demo.log").read_text().strip())
            time.sleep(0.05)
        self.state = json.loads(file.read_text())
        print(f"hayaumad (pid {self.state['daemon']}) takes mail on {self.state['submission']}, STARTTLS, self-signed certificate")
        for d in demo.DOMAINS:
            print(f"  {d.name:20} group {d.group:8} {d.recipients:5} recipients   {d.story}")

    def prepare(self):
        self.say("An account and the rules")
        self.password = secrets.token_urlsafe(12)
        self.hayauma("account", "add", USER, stdin=self.password + "\n")
        (self.folder / "password").touch(mode=0o600)
        (self.folder / "password").write_text(self.password + "\n")
        print(f"account {USER}: password in {self.folder / 'password'}")
        print(self.hayauma("policy", "apply", str(self.folder / "policy.yaml"), "--comment", "the demonstration").strip())

    def inject(self):
        envelopes = demo.envelopes()
        self.fates = {a: fate for e in envelopes for a, fate in e}
        self.say(f"A campaign: {len(envelopes):,} messages to {len(self.fates):,} recipients, over STARTTLS and AUTH")
        host, _, port = self.state["submission"].rpartition(":")
        job = inject.Job(host, int(port), USER, self.password, demo.SENDER, demo.CAMPAIGN)
        started = time.monotonic()

        def progress(count):
            seen = len(self.seen())
            self.line(f"  {count:,} of {len(envelopes):,} messages accepted, {seen:,} recipients at the scripted receivers, "
                      f"{time.monotonic() - started:.0f} s")

        self.taken, errors = inject.run(job, [[a for a, _ in e] for e in envelopes], progress=progress)
        seconds = time.monotonic() - started
        self.accepted = {(m, r) for m, rs in self.taken.items() for r in rs}
        print(f"\r{'' if not self.tty else chr(27) + '[K'}  {len(self.taken):,} messages to {len(self.accepted):,} recipients "
              f"accepted in {seconds:.1f} s")
        self.problems += [f"injecting: {e}" for e in errors]

    def seen(self):
        """Deliveries and refusals that the scripted receivers wrote down so far."""
        if not hasattr(self, "_log"):
            self._log = open(self.folder / "receivers.jsonl")
            self._rows, self._rest = [], ""
        text = self._rest + self._log.read()
        *lines, self._rest = text.split("\n")
        self._rows += [r for r in map(json.loads, lines) if r["code"] == 250 and r["receiver"] != "home"]
        return self._rows

    def settle(self):
        self.say("Waiting until everything is delivered, bounced, or waits for a reason that time does not change")
        expect = sum(1 for f in self.fates.values() if f == "waits")
        started, before, since = time.monotonic(), None, time.monotonic()
        while time.monotonic() - started < SETTLE_SECONDS:
            totals = self.totals()
            now = (totals["waiting"], totals["delivered"], len(self.seen()))
            if now != before:
                before, since = now, time.monotonic()
            self.line(f"  delivered {totals['delivered']:,}, bounced {totals['bounced']:,}, waiting {totals['waiting']:,}, "
                      f"{time.monotonic() - started:.0f} s")
            quiet = time.monotonic() - since
            if (totals["waiting"] <= expect and quiet > 2) or quiet > 20:
                break
            time.sleep(0.5)
        print()

    def totals(self):
        """The daemon's own count of the campaign's recipients."""
        report = self.json("report", "delivery", "--campaign", demo.CAMPAIGN)
        t = report["totals"]
        return t

    def report(self):
        self.say("Delivery report, by domain")
        print(self.hayauma("report", "delivery", "--by", "domain").rstrip())
        self.say("TLS report, by domain")
        print(self.hayauma("report", "tls", "--by", "domain").rstrip())

    # ---- end ----
    def stop(self):
        if self.keeper and self.keeper.poll() is None:
            self.keeper.terminate()
            try:
                self.keeper.wait(40)
            except subprocess.TimeoutExpired:
                self.keeper.kill()


def stop_old(folder):
    """Ends a world that an earlier run with --keep left; True if there was one."""
    file = pathlib.Path(folder) / "state.json"
    try:
        pid = json.loads(file.read_text())["pid"]
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError):
        return False
    if b"world.demo" not in command or str(folder).encode() not in command:
        return False
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 40
    while pathlib.Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
        time.sleep(0.1)
    return True
