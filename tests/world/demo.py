"""
The demonstration: sixteen domains on loopback addresses and a daemon that delivers to them.

    python3 -m world.demo FOLDER DAEMON    starts everything, says so in FOLDER/state.json, and keeps it running
                                           until SIGTERM, or until standard input ends (not with --detached)
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading

from . import certs, dns, net, receivers, servers

MX_PORT = 2526
SENDER = "news@sender.example"
CAMPAIGN = "autumn-sale"
MESSAGES = 5000
RECIPIENTS = 20000
UNKNOWN_EVERY = 100  # of the recipients, one in so many does not exist at its receiver


@dataclasses.dataclass(frozen=True)
class Domain:
    name: str
    group: str
    receiver: str
    recipients: int
    fate: str  # tls | clear | waits | bounces
    story: str


# The receivers by name: a personality, or one of the real servers.
DOMAINS = [
    Domain("docomo.example", "off", "modern", 3000, "clear", "offers STARTTLS, but the rule is off"),
    Domain("ezweb.example", "on", "plain", 1200, "clear", "knows no STARTTLS"),
    Domain("gmail.test", "on", "modern", 5000, "tls", "TLS 1.3, good certificate"),
    Domain("yahoo.test", "on", "selfsigned", 2400, "tls", "self-signed certificate"),
    Domain("outlook.test", "on", "expired", 1500, "tls", "expired certificate"),
    Domain("icloud.test", "on", "broken", 800, "clear", "handshake breaks; the rule lets clear text follow at once"),
    Domain("corp.example", "on", "postfix", 700, "tls", "first MX dead, second is Postfix"),
    Domain("bank.example", "require", "postfix", 1200, "tls", "Postfix"),
    Domain("insurance.example", "require", "exim", 800, "tls", "Exim"),
    Domain("clinic.example", "require", "plain", 400, "waits", "knows no STARTTLS, and the rule wants it"),
    Domain("lawyer.example", "require", "broken", 300, "waits", "handshake breaks, and the rule wants TLS"),
    Domain("university.example", "default", "greylist", 1000, "tls", "greylisting: 450 first, 250 some seconds later"),
    Domain("island.test", "default", "slow", 600, "tls", "every reply takes 50 ms"),
    Domain("museum.example", "default", "old", 900, "tls", "TLS 1.2 at most"),
    Domain("nomail.example", "default", "", 100, "bounces", "null MX: takes no mail"),
    Domain("typo.example", "default", "", 100, "bounces", "does not exist"),
]
BY_NAME = {d.name: d for d in DOMAINS}

PERSONALITIES = {
    "modern": dict(cert="good"),
    "plain": dict(tls="none"),
    "selfsigned": dict(cert="self_signed"),
    "expired": dict(cert="expired"),
    "broken": dict(cert="good", starttls_break="garbage"),
    "greylist": dict(cert="good", greylist_s=2.0),
    "slow": dict(cert="good", delay_s=0.05),
    "old": dict(cert="good", tls_max="TLSv1.2"),
    "home": dict(cert="good", keep_bodies=True, unknown_prefix=""),  # takes the bounces
}


def recipients():
    """(address, fate) of the whole campaign: always the same, and known beforehand."""
    found = []
    for d in DOMAINS:
        for i in range(d.recipients):
            bad = d.fate in ("tls", "clear") and i % UNKNOWN_EVERY == UNKNOWN_EVERY - 1
            found.append((f"{'unknown' if bad else 'user'}{i:05d}@{d.name}", "bounces" if bad else d.fate))
    return found


def envelopes():
    """The campaign: 4,000 messages to one recipient and 1,000 to sixteen, half of those all at one domain."""
    everybody = recipients()
    random.Random(2026).shuffle(everybody)
    singles = MESSAGES - (RECIPIENTS - MESSAGES) // 15
    messages = [[r] for r in everybody[:singles]]
    rest = everybody[singles:]
    half = len(rest) // 2
    rest[half:] = sorted(rest[half:], key=lambda r: r[0].partition("@")[2])
    messages += [rest[i:i + 16] for i in range(0, len(rest), 16)]
    random.Random(7).shuffle(messages)
    return messages


def policy_text(ca_file):
    groups = {g: [d.name for d in DOMAINS if d.group == g] for g in ("off", "on", "require")}
    return f"""# The demonstration's rules: three groups, and the default for everybody else.
defaults:
  port: {MX_PORT}
  tls: {{ca_file: {ca_file}}}
  limits: {{connections: 40, connections_per_host: 10}}
  retry: {{schedule: [3s, 5s, 10s, 30s], jitter: 10%, lifetime: 1d}}

groups:
  - name: "off"
    match: [{', '.join(groups['off'])}]
    starttls: off

  - name: "on"
    match: [{', '.join(groups['on'])}]
    starttls: on
    clear_after_tls_failure: now

  - name: require
    match: [{', '.join(groups['require'])}]
    starttls: require

  - name: default
    starttls: on
"""


def config_text(folder, submission, dns_server):
    return f"""host_name: hayauma.example
data_dir: {folder}/data
listeners:
  - address: {submission}
    tls: starttls
    auth: required
dns:
  servers: ["{dns_server}"]
api:
  socket: {folder}/api.sock
policy_include_dir: {pathlib.Path(__file__).resolve().parents[2] / 'policy'}
log:
  level: info
drain_timeout: 10s
"""


class Demo:
    def __init__(self, folder, daemon):
        self.folder = pathlib.Path(folder).resolve()
        self.daemon_path = daemon
        self.net = net.Net()
        self.parts = []  # what to stop, in the order it was started

    def start(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.certs = certs.Certs(self.folder / "certs")
        self.receivers = receivers.Receivers(self.folder / "receivers.jsonl")
        self.parts.append(self.receivers)
        address = {}
        for name, how in PERSONALITIES.items():
            how = dict(how)
            host = f"mx.{name}.example"
            if "cert" in how:
                how["cert"] = getattr(self.certs, how["cert"])(host)
            address[name] = self.net.address()
            self.receivers.add(receivers.Personality(name=name, host=host, address=address[name], port=MX_PORT, **how))
        reason = servers.jail_works()
        if reason:
            raise RuntimeError(reason)
        for kind in (servers.Postfix, servers.Exim):
            address[kind.kind] = self.net.address()
            host = f"mx.{kind.kind}.example"
            names = [host] + (["mx2.corp.example"] if kind is servers.Postfix else [])
            server = kind(f"demo-{os.getpid()}", address[kind.kind], MX_PORT, host, self.certs.good(*names))
            self.parts.append(server)
            setattr(self, kind.kind, server.start())
        self.dns = dns.Nsd(self.folder / "nsd", self.net.address(), 5353, self.zones(address)).start()
        self.parts.append(self.dns)
        self.start_daemon()
        self.receivers.loop.call_soon_threadsafe(self.flush)
        state = dict(
            pid=os.getpid(), daemon=self.daemon.pid, submission=self.submission, socket=str(self.folder / "api.sock"),
            ca=str(self.certs.ca_file), postfix=str(self.postfix.folder), exim=str(self.exim.folder),
            dns=f"{self.dns.address}:{self.dns.port}", log=str(self.folder / "hayaumad.log"))
        temporary = self.folder / "state.tmp"
        temporary.write_text(json.dumps(state))
        temporary.rename(self.folder / "state.json")
        return self

    def zones(self, address):
        dead = self.net.address(250)
        zones = {"example": [], "test": []}
        for d in DOMAINS:
            parent = d.name.rpartition(".")[2]
            if d.name == "typo.example":
                continue
            if d.name == "nomail.example":
                zones[d.name] = ["@ IN MX 0 ."]
            elif d.name == "corp.example":
                zones[d.name] = ["@ IN MX 10 mx1", "@ IN MX 20 mx2", f"mx1 IN A {dead}", "mx1 IN AAAA ::1",
                                 f"mx2 IN A {address[d.receiver]}"]
            else:
                zones[d.name] = [f"@ IN MX 10 mx.{d.receiver}.example."]
            zones[parent].append(f"{d.name}. IN NS ns.{d.name}.")
        zones["sender.example"] = ["@ IN MX 10 mx.home.example."]
        for name, where in address.items():
            zones[f"{name}.example"] = [f"mx IN A {where}"]
            zones["example"].append(f"{name}.example. IN NS ns.{name}.example.")
        zones["example"].append("sender.example. IN NS ns.sender.example.")
        return zones

    def start_daemon(self):
        here = self.net.address(1)
        self.submission = f"{here}:2587"
        (self.folder / "policy.yaml").write_text(policy_text(self.certs.ca_file))
        config = self.folder / "hayaumad.yaml"
        config.write_text(config_text(self.folder, self.submission, f"{self.dns.address}:{self.dns.port}"))
        log = open(self.folder / "hayaumad.log", "wb")
        self.daemon = subprocess.Popen([self.daemon_path, "-c", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        alive = lambda: self.daemon.poll() is None  # noqa: E731
        if not (net.wait_for_port(here, 2587, 20, alive) and net.wait_for_socket(f"{self.folder}/api.sock", 20, alive)):
            raise RuntimeError("hayaumad did not start:\n" + (self.folder / "hayaumad.log").read_text()[-3000:])

    def flush(self):
        self.receivers.recorder.flush()
        for (name, message_id), body in list(self.receivers.recorder.bodies.items()):
            with open(self.folder / "bounces.mbox", "ab") as f:
                f.write(b"From MAILER-DAEMON\r\n" + body)
            del self.receivers.recorder.bodies[(name, message_id)]
        self.receivers.loop.call_later(0.2, self.flush)

    def stop(self):
        daemon = getattr(self, "daemon", None)
        if daemon and daemon.poll() is None:
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for part in reversed(self.parts):
            part.stop()
        self.net.release()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("daemon")
    parser.add_argument("--detached", action="store_true")
    arguments = parser.parse_args()
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    demo = Demo(arguments.folder, arguments.daemon)
    try:
        demo.start()
        if not arguments.detached:
            threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
        while not done.wait(0.5):
            if demo.daemon.poll() is not None:
                print(f"hayaumad ended with {demo.daemon.returncode}", file=sys.stderr)
                break
    except Exception as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        demo.stop()
        (pathlib.Path(arguments.folder) / "state.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
