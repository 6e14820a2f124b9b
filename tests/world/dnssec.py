"""
DNSSEC of the test world: a signed root and zones below it (ldns-signzone), served by NSD, a validating Unbound that
trusts that root alone, and a front before it that can make single answers fail.  So the AD bit is earned.
"""

import pathlib
import shutil
import socket
import struct
import subprocess
import threading
import time

import dns.exception
import dns.flags
import dns.message
import dns.rdatatype

from . import net, servers
from .dns import Nsd, ScriptedDns

KEYS = "ECDSAP256SHA256"


class Zone:
    """Records in the form of zone files, names relative to the zone.  `state` says what a validator finds."""

    def __init__(self, name, state="signed", nsec3=False):
        assert state in ("signed", "unsigned", "bogus", "stale")
        self.name, self.state, self.nsec3 = name, state, nsec3
        self.records = []
        self.flipped = []  # (name, type) of record sets whose signature gets a wrong octet

    def add(self, *records):
        self.records.extend(records)
        return self

    def flip(self, name, kind):
        """The record set becomes bogus: one octet of its signature is wrong."""
        self.flipped.append((name, kind))
        return self


class Zones:
    """Signs all zones below a root of their own.  The folder then holds one file for each, and `anchor`."""

    def __init__(self, folder, zones, address):
        self.folder, self.zones, self.address = pathlib.Path(folder), list(zones), address
        self.folder.mkdir(parents=True)
        self.anchor = self.folder / "root.anchor"

    def write(self):
        root = Zone(".")
        files = {}
        for zone in self.zones:
            root.add(f"{zone.name}. NS ns.{zone.name}.", f"ns.{zone.name}. A {self.address}")
            files[zone.name] = self._write(zone)
            if zone.state != "unsigned":
                root.add(self._ds(zone))
        files["."] = self._write(root)
        self.anchor.write_text(self._ds(root) + "\n")
        return files

    def _write(self, zone):
        origin = zone.name.rstrip(".") + "."
        plain = self.folder / f"{zone.name.rstrip('.') or 'root'}.zone"
        ns = "ns." + origin.lstrip(".")
        plain.write_text(f"$ORIGIN {origin}\n$TTL 300\n@ SOA {ns} hostmaster.{origin.lstrip('.')} 1 3600 600 86400 60\n"
                         f"@ NS {ns}\n{ns} A {self.address}\n" + "\n".join(zone.records) + "\n")
        if zone.state == "unsigned":
            return plain
        zone.key = self._run("ldns-keygen", "-a", KEYS, "-k", origin).strip()
        if zone.state == "bogus":  # the parent speaks of another key
            zone.spoken_of = self._run("ldns-keygen", "-a", KEYS, "-k", origin).strip()
        signed = plain.with_suffix(".signed")
        words = ["-n", "-t", "1", "-s", "ab"] if zone.nsec3 else []
        if zone.state == "stale":
            words += ["-i", "20200101000000", "-e", "20200201000000"]
        self._run("ldns-signzone", "-o", origin, *words, "-f", signed.name, plain.name, zone.key)
        for name, kind in zone.flipped:
            _flip(signed, name if name.endswith(".") else f"{name}.{origin}", kind)
        return signed

    def _ds(self, zone):
        return self._run("ldns-key2ds", "-n", "-2", f"{getattr(zone, 'spoken_of', zone.key)}.key").strip()

    def _run(self, *words):
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def _flip(file, name, kind):
    """Changes the first letter of the signature over (name, kind)."""
    lines = file.read_text().splitlines()
    hits = 0
    for i, line in enumerate(lines):
        fields = line.split()
        if len(fields) > 12 and fields[0].lower() == name.lower() and fields[3:5] == ["RRSIG", kind]:
            fields[12] = ("B" if fields[12][0] == "A" else "A") + fields[12][1:]
            lines[i] = " ".join(fields)
            hits += 1
    if not hits:
        raise ValueError(f"no signature over {kind} of {name} in {file}")
    file.write_text("\n".join(lines) + "\n")


class Unbound:
    """Unbound from the unpacked tree as an ordinary process."""

    def __init__(self, folder, address, authority, anchor):
        self.folder = pathlib.Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.address, self.port = address, net.free_port(address, socket.SOCK_DGRAM)
        self.authority, self.anchor = authority, anchor
        self.process = None

    def start(self):
        conf = ["server:", f"  interface: {self.address}@{self.port}", '  username: ""', '  chroot: ""', f'  directory: "{self.folder}"',
                f'  pidfile: "{self.folder}/unbound.pid"', "  do-daemonize: no", "  use-syslog: no",
                f'  logfile: "{self.folder}/unbound.log"', "  verbosity: 1", "  val-log-level: 2", "  num-threads: 1", "  do-ip6: no",
                "  so-reuseport: no", "  access-control: 127.0.0.0/8 allow", "  do-not-query-localhost: no",
                '  local-zone: "test." nodefault', '  local-zone: "example." nodefault', "  qname-minimisation: no",
                '  module-config: "validator iterator"', f'  trust-anchor-file: "{self.anchor}"', "  trust-anchor-signaling: no",
                "  val-bogus-ttl: 5", "  outbound-msg-retry: 2",
                "remote-control:", "  control-enable: no",
                "stub-zone:", '  name: "."', f"  stub-addr: {self.authority[0]}@{self.authority[1]}", "  stub-prime: no", "  stub-first: no"]
        file = self.folder / "unbound.conf"
        file.write_text("\n".join(conf) + "\n")
        self.process = subprocess.Popen(
            servers.from_tree("usr/sbin/unbound") + ["-d", "-c", str(file)], stdin=subprocess.DEVNULL,
            stdout=open(self.folder / "stdout", "wb"), stderr=subprocess.STDOUT, start_new_session=True)
        end = time.monotonic() + 10
        while time.monotonic() < end and self.process.poll() is None:
            if ask(self.address, self.port, ".", "SOA") == ("NOERROR", True):
                return self
            time.sleep(0.02)
        raise RuntimeError("unbound did not start, or does not validate: " + self.log())

    def log(self):
        return "\n".join(p.read_text(errors="replace")[-3000:] for p in (self.folder / "stdout", self.folder / "unbound.log") if p.exists())

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def may_bind(address, port):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as s:
            try:
                s.bind((address, port))
            except OSError:
                return False
    return True


def ask(address, port, name, kind, timeout=1.0):
    """(response code, AD bit), or None when nobody answers."""
    query = dns.message.make_query(name, kind, want_dnssec=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(timeout)
        try:
            s.sendto(query.to_wire(), (address, port))
            # An answer to a question that timed out before would be another's: ids tell.
            while True:
                reply = dns.message.from_wire(s.recv(65535))
                if reply.id == query.id:
                    return dns.rcode.to_text(reply.rcode()), bool(reply.flags & dns.flags.AD)
        except (OSError, dns.exception.DNSException):
            return None


class Front(ScriptedDns):
    """
    Stands between the program under test and the validating resolver: faults and records that a test sets come from
    here (unsigned), everything else is the resolver's own answer, to the bit.  It listens on port 53 where this user may,
    because some programs know no other.

        front.fail("_25._tcp.mx.a.test", "TLSA", "SERVFAIL")
        front.without_ad = True        # a resolver that does not validate

    Thousands of questions come at once: what is only passed on costs no thread and no parsing.
    """

    def __init__(self, address, resolver):
        self.resolver = resolver  # (address, port)
        self.without_ad = False
        self._asked = {}  # id towards the resolver: (client, the client's id)
        self._next = 0
        self._upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._upstream.connect(resolver)
        super().__init__(address, 53 if may_bind(address, 53) else 0)
        threading.Thread(target=self._pass_back, daemon=True).start()

    def _is_ours(self, wire):
        """Did a test say something about this name?"""
        name, kind = question_of(wire)
        return (name, kind) in self.faults or (name, "*") in self.faults or any(n == name for n, _ in self.records)

    def pass_on(self, wire, client):
        if len(wire) < 17 or self._is_ours(wire):
            return False
        self._note(wire, "udp")
        self._next = (self._next + 1) & 0xffff
        self._asked[self._next] = (client, wire[:2])
        self._upstream.send(struct.pack("!H", self._next) + wire[2:])
        return True

    def _pass_back(self):
        while True:
            try:
                wire = self._upstream.recv(65535)
            except ConnectionRefusedError:
                continue
            except OSError:
                return
            if not wire:
                return  # stop() said so
            client = self._asked.pop(int.from_bytes(wire[:2], "big"), None)
            if client:
                self.udp.socket.sendto(client[1] + self._marked(wire)[2:], client[0])

    def _marked(self, wire):
        return wire[:3] + bytes([wire[3] & ~0x20]) + wire[4:] if self.without_ad else wire

    def _note(self, wire, transport):
        self.log.append((*question_of(wire), transport, time.monotonic()))

    def answer(self, wire, transport):
        if self._is_ours(wire):
            return super().answer(wire, transport)
        self._note(wire, transport)
        try:
            with socket.create_connection(self.resolver, 10) as s:
                s.sendall(struct.pack("!H", len(wire)) + wire)
                file = s.makefile("rb")
                return self._marked(file.read(struct.unpack("!H", file.read(2))[0]))
        except (OSError, struct.error):
            return None

    def stop(self):
        super().stop()
        self._upstream.shutdown(socket.SHUT_RDWR)
        self._upstream.close()


def question_of(wire):
    """(name, type) of a query, quickly."""
    at, labels = 12, []
    while wire[at]:
        labels.append(wire[at + 1:at + 1 + wire[at]])
        at += 1 + wire[at]
    return b".".join(labels).decode("ascii", "replace").lower(), dns.rdatatype.to_text(int.from_bytes(wire[at + 1:at + 3], "big"))


class SignedDns:
    """All of it: zones, NSD, Unbound and the front.  `zones` may be filled until start()."""

    def __init__(self, folder, loopback):
        self.folder, self.loopback = pathlib.Path(folder), loopback
        self.zones = {}
        self.nsd = self.unbound = self.front = None

    def zone(self, name, state="signed", **more):
        if name not in self.zones:
            self.zones[name] = Zone(name, state, **more)
        return self.zones[name]

    def start(self):
        authority = (self.loopback.address(), 0)
        authority = (authority[0], net.free_port(authority[0], socket.SOCK_DGRAM))
        zones = Zones(self.folder / "signed", self.zones.values(), authority[0])
        files = zones.write()
        try:
            self.nsd = Nsd(self.folder / "nsd", *authority, files).start()
            self.unbound = Unbound(self.folder / "unbound", self.loopback.address(), authority, zones.anchor).start()
            self.front = Front(self.loopback.address(), (self.unbound.address, self.unbound.port))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self):
        for server in (self.front, self.unbound, self.nsd):
            if server:
                server.stop()
        self.front = self.unbound = self.nsd = None


def missing():
    """None, or why there can be no signed world here."""
    if not (servers.ROOT / "usr/sbin/unbound").exists():
        return "the server packages are not there: run scripts/world-fetch"
    for program in ("ldns-keygen", "ldns-signzone", "ldns-key2ds"):
        if not shutil.which(program):
            return f"no {program}: run scripts/setup"
    return None
