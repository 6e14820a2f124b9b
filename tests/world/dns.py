"""
Name servers of the demonstration world: NSD (real, authoritative) with zone files made here, and a scripted
server that tests use to lie, to fail and to change its mind.
"""

import os
import pathlib
import signal
import socket
import socketserver
import struct
import subprocess
import threading
import time

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from . import servers

ZONE_HEAD = """$ORIGIN {zone}.
$TTL 300
@ IN SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 60
@ IN NS ns.{zone}.
ns IN A 127.0.0.1
"""


class Nsd:
    """NSD from the unpacked tree as an ordinary process on a high port.  `zones` maps a zone to its records, or to its file."""

    def __init__(self, folder, address, port, zones):
        self.folder = pathlib.Path(folder).resolve()
        self.address, self.port, self.zones = address, port, zones
        self.process = None

    def start(self):
        zone_dir = self.folder / "zones"
        zone_dir.mkdir(parents=True, exist_ok=True)
        conf = [
            "server:", f'  ip-address: {self.address}@{self.port}', "  server-count: 1", '  username: ""',
            f'  zonesdir: "{zone_dir}"', f'  logfile: "{self.folder}/nsd.log"', f'  pidfile: "{self.folder}/nsd.pid"',
            '  database: ""', f'  xfrdfile: "{self.folder}/xfrd.state"', f'  xfrdir: "{self.folder}"',
            f'  zonelistfile: "{self.folder}/zone.list"', "  do-ip6: no", "  reuseport: no", "  rrl-ratelimit: 0",
            "remote-control:", "  control-enable: no"]
        for zone, records in self.zones.items():
            if isinstance(records, pathlib.Path):
                conf += ["zone:", f'  name: "{zone}"', f'  zonefile: "{records.resolve()}"']
                continue
            (zone_dir / f"{zone}.zone").write_text(ZONE_HEAD.format(zone=zone) + "\n".join(records) + "\n")
            conf += ["zone:", f'  name: "{zone}"', f'  zonefile: "{zone}.zone"']
        file = self.folder / "nsd.conf"
        file.write_text("\n".join(conf) + "\n")
        self.process = subprocess.Popen(
            servers.from_tree("usr/sbin/nsd") + ["-d", "-c", str(file)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        zone = next(iter(self.zones))
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if self.process.poll() is None and ask(self.address, self.port, zone, "SOA"):
                return self
            time.sleep(0.05)
        log = self.folder / "nsd.log"
        raise RuntimeError("nsd did not start: " + (log.read_text()[-2000:] if log.exists() else "no log"))

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
            try:
                os.killpg(self.process.pid, signal.SIGKILL)  # it works in several processes
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process = None


def ask(address, port, name, kind, timeout=0.3):
    """The answer's record texts, or [] when there are none or nobody answers."""
    query = dns.message.make_query(name, kind)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(timeout)
        try:
            s.sendto(query.to_wire(), (address, port))
            reply = dns.message.from_wire(s.recv(65535))
        except (OSError, dns.exception.DNSException):
            return []
    return [r.to_text() for rrset in reply.answer for r in rrset]


class ScriptedDns:
    """
    Answers from a table that a test fills while it runs.

        dns.mx("a.example", "10 mx.a.example"); dns.a("mx.a.example", "127.0.0.5")
        dns.fail("b.example", "MX", "SERVFAIL")        # or "TIMEOUT", "REFUSED", "TRUNCATE", "NXDOMAIN", bytes, function
    """

    def __init__(self, address="127.0.0.1", port=0):
        self.records = {}  # (name, type): [text]
        self.faults = {}  # (name, type): what goes wrong
        self.log = []  # (name, type, "udp" or "tcp", time)
        self.ttl = 60
        outer = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                reply = outer.answer(self.request[0], "udp")
                if reply is not None:
                    self.request[1].sendto(reply, self.client_address)

        class Tcp(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.settimeout(5)
                try:
                    while True:
                        head = self._exactly(2)
                        if not head:
                            return
                        reply = outer.answer(self._exactly(struct.unpack("!H", head)[0]), "tcp")
                        if reply is None:
                            time.sleep(5)
                            return
                        self.request.sendall(struct.pack("!H", len(reply)) + reply)
                except OSError:
                    return

            def _exactly(self, count):
                data = b""
                while len(data) < count:
                    more = self.request.recv(count - len(data))
                    if not more:
                        return b""
                    data += more
                return data

        class UdpServer(socketserver.ThreadingUDPServer):
            daemon_threads = True

            def process_request(self, request, client_address):
                if not outer.pass_on(request[0], client_address):
                    super().process_request(request, client_address)

        class TcpServer(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.udp = UdpServer((address, port), Udp)
        self.address, self.port = self.udp.server_address
        self.tcp = TcpServer((address, self.port), Tcp)
        for server in (self.udp, self.tcp):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def server(self):
        return f"{self.address}:{self.port}"

    def pass_on(self, wire, client):
        """For those who ask somebody else: true when the answer will come by itself."""
        return False

    def add(self, name, kind, *texts):
        self.records.setdefault((name.lower().rstrip("."), kind), []).extend(texts)
        return self

    def mx(self, name, *texts):
        return self.add(name, "MX", *[t if t.endswith(".") else t + "." for t in texts])

    def a(self, name, *addresses):
        return self.add(name, "A", *addresses)

    def aaaa(self, name, *addresses):
        return self.add(name, "AAAA", *addresses)

    def cname(self, name, target):
        return self.add(name, "CNAME", target.rstrip(".") + ".")

    def site(self, domain, *addresses):
        """A domain with one MX host that has these addresses."""
        self.mx(domain, f"10 mx.{domain}")
        return self.a(f"mx.{domain}", *addresses)

    def remove(self, name, kind):
        self.records.pop((name, kind), None)
        self.faults.pop((name, kind), None)

    def fail(self, name, kind, what):
        self.faults[(name.lower(), kind)] = what

    def asked(self, name, kind):
        return [q for q in self.log if q[0] == name and q[1] == kind]

    def answer(self, wire, transport):
        try:
            query = dns.message.from_wire(wire)
            question = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return None
        name = question.name.to_text().rstrip(".").lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.log.append((name, kind, transport, time.monotonic()))
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA | dns.flags.RA
        fault = self.faults.get((name, kind), self.faults.get((name, "*")))
        if callable(fault):
            fault = fault(query, transport)
        if isinstance(fault, bytes):
            return wire[:2] + fault[2:]
        if fault == "TIMEOUT":
            return None
        if fault == "TRUNCATE":
            if transport == "udp":
                reply.flags |= dns.flags.TC
                return reply.to_wire()
        elif fault:
            reply.set_rcode(dns.rcode.from_text(fault))
            return reply.to_wire()
        self._fill(reply, name, kind)
        wire = reply.to_wire(max_size=65535)
        limit = max(query.payload, 512) if query.edns >= 0 else 512
        if transport == "udp" and len(wire) > limit:
            short = dns.message.make_response(query)
            short.flags |= dns.flags.TC | dns.flags.AA
            return short.to_wire()
        return wire

    def _fill(self, reply, name, kind):
        for _ in range(30):
            texts = self.records.get((name, kind))
            if texts is not None:
                reply.answer.append(dns.rrset.from_text(name + ".", self.ttl, "IN", kind, *texts))
                return
            alias = self.records.get((name, "CNAME"))
            if alias is None or kind == "CNAME":
                break
            rrset = dns.rrset.from_text(name + ".", self.ttl, "IN", "CNAME", *alias)
            if rrset in reply.answer:
                return  # a loop: the records tell
            reply.answer.append(rrset)
            name = alias[0].rstrip(".").lower()
        exists = any(n == name or n.endswith("." + name) for n, _ in self.records)
        if not exists:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        zone = name.split(".")[-1] + "."
        of_zone = "" if zone == "." else "." + zone
        reply.authority.append(dns.rrset.from_text(
            zone, self.ttl, "IN", "SOA", f"ns{of_zone or '.'} hostmaster{of_zone or '.'} 1 3600 600 86400 5"))

    def stop(self):
        for server in (self.udp, self.tcp):
            server.shutdown()
            server.server_close()
