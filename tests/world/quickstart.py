"""What scripts/quickstart does after building: world, daemon, account, policy, campaign, reports, reconciliation."""

import argparse
import collections
import fcntl
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import sys
import time

from . import demo, inject, servers

USER = "demo"
SETTLE_SECONDS = 100


class Quickstart:
    def __init__(self, arguments):
        self.top = servers.TOP
        self.build = pathlib.Path(arguments.build)
        self.folder = pathlib.Path(arguments.folder).resolve()
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
        done = subprocess.run([servers.program(self.build, "hayauma"), *words], input=stdin, capture_output=True, text=True,
                              env={**os.environ, "HAYAUMA_SOCKET": self.state["socket"]})
        if check and done.returncode:
            raise RuntimeError(f"hayauma {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def json(self, *words):
        return json.loads(self.hayauma(*words, "--json"))

    # ---- the steps ----
    def start(self):
        self._lock = open(f"{self.folder}.lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another quickstart is at work in {self.folder}") from None
        stop_old(self.folder)
        self.say("Starting the world: NSD, Postfix, Exim, nine scripted receivers, and hayaumad")
        log = open(f"{self.folder}.log", "w")
        command = [sys.executable, "-m", "world.demo", str(self.folder), servers.program(self.build, "hayaumad")]
        self.keeper = subprocess.Popen(
            command + (["--detached"] if self.keep else []), cwd=self.top / "tests", start_new_session=True,
            stdin=subprocess.DEVNULL if self.keep else subprocess.PIPE, stdout=log, stderr=log)
        file = self.folder / "state.json"
        end = time.monotonic() + 60
        while not file.exists():
            if self.keeper.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the world did not start: " + pathlib.Path(f"{self.folder}.log").read_text().strip())
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
            if quiet > 20 or (totals["waiting"] <= expect and quiet > 1 and self.json("report", "reconcile")["totals"]["waiting"] <= expect):
                break  # the second question counts the notifications too
            time.sleep(0.5)
        print()

    def totals(self):
        """The daemon's own count of the campaign's recipients."""
        return self.json("report", "reconcile", "--campaign", demo.CAMPAIGN)["totals"]

    def report(self):
        self.say("Delivery report, by domain")
        print(self.hayauma("report", "delivery", "--by", "domain").rstrip())
        notes = self.json("report", "reconcile")["totals"]["accepted"] - self.totals()["accepted"]
        print(f"(with {notes:,} delivery status notifications, which tell the sender what bounced)")
        self.say("TLS report, by domain")
        print(self.hayauma("report", "tls", "--by", "domain").rstrip())
        self.say("Who waits, and why: `require` forbids clear text")
        print(self.hayauma("queue", "summary", "--by", "domain").rstrip())
        for row in self.json("queue", "summary", "--by", "domain")["rows"]:
            (first,) = self.json("queue", "list", "--domain", row["key"], "--limit", "1")["recipients"]
            print(f"  {row['key']:18} {first['last_outcome']}")
        self.say("What bounced: each sender got a delivery status notification")
        for (status, said), count in collections.Counter(self.bounces().values()).most_common():
            print(f"  {count:5}  {status:7} {said}")

    # ---- who says what, compared ----
    def mailboxes(self):
        """(message id, recipient, tls) of what lies in the mailboxes of Postfix and Exim."""
        found = []
        for kind, header in (("postfix", "delivered-to"), ("exim", "envelope-to")):
            server = servers.MailServer.__new__(servers.MailServer)
            server.folder = pathlib.Path(self.state[kind])
            for head in server.heads():
                fields = re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)", head.replace("\r", ""), re.M)
                value = {name.lower(): text for name, text in reversed(fields)}
                received = value.get("received", "")
                tls = "TLS" if re.search(r"\bTLSv?1\.[23]", received) else "clear"
                found.append((value["message-id"], value[header], tls))
        return found

    def reconcile(self):
        self.say("Reconciliation: what was accepted, what the daemon says, and what the receivers counted")
        rows = [(r["message_id"], r["recipient"], "clear" if r["tls"] == "clear" else "TLS") for r in self.seen()]
        for _ in range(30):  # Postfix and Exim say 250 first and fill the mailbox then
            boxes = [b for b in self.mailboxes() if b[1] in self.fates]
            if len(rows) + len(boxes) >= self.totals()["delivered"]:
                break
            time.sleep(0.5)
        arrived = collections.Counter((m, r) for m, r, _ in rows + boxes)
        how = {(m, r): tls for m, r, tls in rows + boxes}
        t = self.totals()
        bounces = set(self.bounces())
        wanted = collections.Counter(self.fates[r] for _, r in self.accepted)

        def check(name, *values):
            same = len(set(values)) == 1
            if not same:
                self.problems.append(f"{name}: {values}")
            return "=" if same else "≠"

        print(f"  accepted by SMTP 250     {len(self.accepted):6,}  {check('accepted', len(self.accepted), t['accepted'])}  "
              f"{t['accepted']:6,} in the daemon's report")
        print(f"  delivered, say receivers {sum(arrived.values()):6,}  {check('delivered', sum(arrived.values()), t['delivered'])}  "
              f"{t['delivered']:6,} in the daemon's report  (scripted {len(rows):,}, Postfix and Exim {len(boxes):,})")
        print(f"  bounced, say the DSNs    {len(bounces):6,}  {check('bounced', len(bounces), t['bounced'])}  "
              f"{t['bounced']:6,} in the daemon's report")
        print(f"  waiting                  {wanted['waits']:6,}  {check('waiting', wanted['waits'], t['waiting'])}  "
              f"{t['waiting']:6,} in the daemon's report")
        total = t["delivered"] + t["bounced"] + t["waiting"] + t.get("cancelled", 0) + t.get("expired", 0)
        print(f"  accepted {t['accepted']:,} = delivered {t['delivered']:,} + bounced {t['bounced']:,} + waiting {t['waiting']:,}"
              f"   {'exact' if check('sum', t['accepted'], total) == '=' else 'NOT EXACT'}")
        if len(self.accepted) != len(self.fates):
            self.problems.append(f"only {len(self.accepted)} of {len(self.fates)} recipients were accepted")
        double = sum(n - 1 for n in arrived.values())
        if double:
            self.problems.append(f"{double} copies too many")
        for fate, tls in (("tls", "TLS"), ("clear", "clear")):
            wrong = [k for k in self.accepted if self.fates[k[1]] == fate and how.get(k) != tls]
            if wrong:
                self.problems.append(f"{len(wrong)} recipients should have been reached over {tls}, for example {wrong[0]}: "
                                     f"{how.get(wrong[0], 'not delivered')}")
        for fate in ("waits", "bounces"):
            wrong = [k for k in arrived if self.fates.get(k[1], fate) == fate]
            if wrong:
                self.problems.append(f"{len(wrong)} recipients should not have got it, for example {wrong[0]}")
        lost = {r for _, r in self.accepted if self.fates[r] == "bounces"} ^ bounces
        if lost:
            self.problems.append(f"{len(lost)} recipients differ between bounces expected and DSNs received, for example {min(lost)}")
        clear = sum(1 for k in self.accepted if how.get(k) == "clear")
        print(f"  each recipient compared one by one: {len(arrived):,} copies, {len(arrived) - clear:,} over TLS, {clear:,} in clear, "
              f"{double} twice")

    def bounces(self):
        """{recipient: (status, what was said)} of the delivery status notifications that reached the sender."""
        try:
            text = (self.folder / "bounces.mbox").read_text(errors="replace").replace("\r\n", "\n")
        except OSError:
            return {}
        found = {}
        for block in re.findall(r"^Final-Recipient:.*\n(?:.+\n)*", text, re.M | re.I):
            fields = {k.lower(): v for k, v in re.findall(r"^([\w-]+): *(.*(?:\n[ \t].*)*)", block, re.M)}
            if fields["action"].strip().lower() == "failed":
                said = " ".join(fields.get("diagnostic-code", "").partition(";")[2].split())
                recipient = fields["final-recipient"].partition(";")[2].strip()
                # The text may name the recipient: without it equal refusals are one row.
                found[recipient] = (fields["status"].strip(), said.replace(recipient, "…").replace(recipient.partition("@")[2], "…"))
        return found

    # ---- end ----
    def hints(self):
        here = servers.program(self.build, "hayauma")
        hayauma = "hayauma"
        self.say("It keeps running. Try")
        print(f"""  first               export HAYAUMA_SOCKET={self.state['socket']}; alias hayauma={here}
  send a message      swaks --server {self.state['submission'].replace(':', ' --port ')} -tls --auth PLAIN --auth-user {USER} \\
                        --auth-password "$(cat {self.folder / 'password'})" --from {demo.SENDER} --to you@gmail.test
  look at it          {hayauma} status
                      {hayauma} log follow
                      {hayauma} queue list --domain clinic.example
                      {hayauma} explain someone@clinic.example
                      {hayauma} report tls --by mx
  large receivers     {hayauma} policy receivers (for "include: [receivers]" in the policy)
  change a rule       edit {self.folder / 'policy.yaml'}, then
                      {hayauma} policy diff {self.folder / 'policy.yaml'}
                      {hayauma} policy apply {self.folder / 'policy.yaml'}
  stop                scripts/quickstart --stop""")

    def stop(self):
        if self.keeper and self.keeper.poll() is None:
            self.keeper.terminate()
            try:
                self.keeper.wait(40)
            except subprocess.TimeoutExpired:
                self.keeper.kill()

    def run(self):
        began = time.monotonic()
        try:
            self.start()
            self.prepare()
            self.inject()
            self.settle()
            self.report()
            self.reconcile()
        except (RuntimeError, OSError) as error:
            self.problems.append(str(error))
        except BaseException:
            self.stop()
            raise
        seconds = time.monotonic() - began
        if self.problems:
            self.say(f"NOT as it should be ({seconds:.0f} s)")
            for problem in self.problems:
                print("  " + problem)
            if getattr(self, "state", None):
                print(f"  the daemon's log: {self.state['log']}")
        else:
            self.say(f"Everything adds up ({seconds:.0f} s)")
        if self.keep and getattr(self, "state", None):
            self.hints()
        else:
            self.stop()
        return 1 if self.problems else 0


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


def main():
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("--build", default=str(servers.TOP / "build"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", default=str(servers.WORLD / "demo"), help="where it keeps its files (build-world/demo)")
    parser.add_argument("--keep", action="store_true", help="leave everything running afterwards")
    parser.add_argument("--stop", action="store_true", help="stop what --keep left running")
    arguments = parser.parse_args()
    if arguments.stop:
        print("stopped" if stop_old(pathlib.Path(arguments.folder).resolve()) else "nothing was running")
        return 0
    return Quickstart(arguments).run()


if __name__ == "__main__":
    sys.exit(main())
