"""The daemon under test, its command line, SMTP clients, and waiting: what every scenario is made of."""

import base64
import hashlib
import hmac
import http.client
import itertools
import json
import os
import pathlib
import re
import secrets
import signal
import smtplib
import socket
import ssl
import subprocess
import time
import urllib.parse

from world import dns, net, receivers, servers

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HAYAUMA_BUILD") or TOP / "build").resolve()
SANITIZED = any(word in BUILD.name for word in ("asan", "tsan"))
PATIENCE = 4.0 if SANITIZED else 1.0  # every time-out is multiplied by it
MX_PORT = 2526
SENDER = "sender@origin.example"

HOURLY = {"schedule": ["1h"], "jitter": "0%", "lifetime": "1d"}  # one attempt, and then the test is long over

_numbers = itertools.count(1)


def wait_until(condition, seconds=15.0, what="", step=0.02):
    """The condition's first true value; an assertion that names `what` when it stays false."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds * PATIENCE:.0f} s in vain for {what or condition.__name__}"
        time.sleep(step)


def stays(condition, seconds, what):
    """The condition holds the whole time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), f"did not stay so: {what}"
        time.sleep(0.05)


def compose(recipients=("someone",), body="Hello,\r\nthis is a test.\r\n", headers=(), message_id=None, subject="test"):
    """(message id, octets)"""
    message_id = message_id or f"<{next(_numbers)}.{secrets.token_hex(6)}@origin.example>"
    head = [f"From: {SENDER}", f"To: {recipients[0]}", f"Subject: {subject}", "Date: Sat, 21 Nov 2026 09:00:00 +0000",
            f"Message-ID: {message_id}", *headers]
    return message_id, ("\r\n".join(head) + "\r\n\r\n").encode() + (body if isinstance(body, bytes) else body.encode())


def group(name, match=(), **rules):
    """One destination group as the tests like it: their port, quick retries, few secrets."""
    g = {"name": name}
    if match:
        g["match"] = list(match)
    g.update({"starttls": "on", "port": MX_PORT, "retry": {"schedule": ["1s", "1s", "2s"], "jitter": "0%", "lifetime": "1h"}})
    g.update(rules)
    return g


class Daemon:
    """hayaumad with a configuration of its own.  `policy` is a list of groups; "default" is added if missing."""

    def __init__(self, folder, dns_server, address, groups=(), env=None, wrapper=(), **config):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.address = address
        self.port, self.open_port, self.tls_port = 2587, 2525, 2465
        self.submission, self.open = (address, self.port), (address, self.open_port)
        self.config_file, self.policy_file = self.folder / "hayaumad.yaml", self.folder / "policy.yaml"
        self.data = pathlib.Path(config.pop("data_dir", self.folder / "data"))
        # A Unix socket's path may not exceed 107 octets, and test folders are deep.
        self.socket = f"/tmp/hayauma-{os.getpid()}-{next(_numbers)}.sock"
        self.log_file = self.folder / "hayaumad.log"
        self.env, self.wrapper = dict(env or {}), list(wrapper)
        self.process = None
        self.config = {
            "host_name": "hayauma.example", "data_dir": str(self.data), "workers": 2,
            "listeners": [
                {"address": f"{address}:{self.port}", "tls": "starttls", "auth": "required"},
                {"address": f"{address}:{self.open_port}", "tls": "starttls", "auth": "none", "require_tls": False,
                 "trusted_networks": ["127.0.0.0/8"]}],
            "dns": {"servers": [dns_server], "timeout": "500ms", "total_timeout": "3s"},
            "api": {"socket": self.socket}, "log": {"level": "debug"}, "policy_file": str(self.policy_file),
            "drain_timeout": "10s"}
        for key, value in config.items():
            if isinstance(value, dict) and isinstance(self.config.get(key), dict):
                self.config[key].update(value)
            else:
                self.config[key] = value
        self.groups = list(groups)

    # ---- files ----
    def write_config(self):
        # JSON is YAML.
        self.config_file.write_text(json.dumps(self.config, indent=1) + "\n")

    def policy_text(self, groups=None):
        groups = list(self.groups if groups is None else groups)
        if not any(g["name"] == "default" for g in groups):
            groups.append(group("default"))
        return json.dumps({"groups": groups}, indent=1) + "\n"

    # ---- life ----
    def start(self, wait=True):
        self.write_config()
        if not self.policy_file.exists():
            self.policy_file.write_text(self.policy_text())
        self._log = open(self.log_file, "ab")
        env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
               "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
               "TSAN_OPTIONS": f"exitcode=99:suppressions={TOP / 'tests/tsan.supp'}", **self.env}
        self.process = subprocess.Popen(
            [*self.wrapper, servers.program(BUILD, "hayaumad"), "-c", str(self.config_file)],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=env, start_new_session=True)
        if wait:
            up = net.wait_for_port(self.address, self.open_port, 20 * PATIENCE, lambda: self.process.poll() is None)
            assert up, "hayaumad did not start:\n" + self.log()[-3000:]
            self.wait_for_api()
            assert self.process.poll() is None, "hayaumad ended, and somebody else has its port:\n" + self.log()[-3000:]
        return self

    @property
    def pid(self):
        return self.process.pid

    def rss(self):
        """Octets of memory that it has now."""
        return int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, expect=0, seconds=20):
        """SIGTERM, and the exit status that a clean end has."""
        if self.process is None or self.process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("hayaumad did not end after SIGTERM:\n" + self.log()[-3000:])
        assert code == expect, f"hayaumad ended with {code}:\n" + self.log()[-6000:]

    def _signal(self, number):
        if self.wrapper:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def kill(self):
        """kill -9: nothing is said, nothing is flushed."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def reload(self):
        self._signal(signal.SIGHUP)

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    # ---- the API, and the command line ----
    def api(self, path, method="GET", body=None, **parameters):
        """The answer as a value (or text); an assertion that shows the error otherwise."""
        self.wait_for_api()
        connection = UnixConnection(self.socket)
        if parameters:
            path += "?" + urllib.parse.urlencode(parameters)
        try:
            connection.request(method, path, body if isinstance(body, (str, bytes, type(None))) else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, f"{method} {path} → {answer.status} {data[:2000]!r}"
        return json.loads(data) if answer.getheader("Content-Type", "") == "application/json" else data.decode()

    def wait_for_api(self):
        """A daemon that was killed leaves its socket behind: only a connection shows that somebody is there."""
        def answers():
            with socket.socket(socket.AF_UNIX) as s:
                return s.connect_ex(self.socket) == 0 or self.process.poll() is not None
        wait_until(answers, 5, "the API socket")

    def attempts(self, recipient):
        """The log's lines on this recipient's attempts, as dictionaries."""
        found = []
        for line in self.log().splitlines():
            if (f" to={recipient} " in line or f' to="{recipient}" ' in line) and " attempt " in line:
                found.append({k: v.strip('"') for k, v in re.findall(r'(\w+)=("[^"]*"|\S+)', line)})
        return found

    def hayauma(self, *words, stdin="", code=0):
        return self._run(words, stdin, code).stdout

    def complaint(self, *words, stdin="", code):
        """What it says where errors are said."""
        return self._run(words, stdin, code).stderr

    def _run(self, words, stdin, code):
        self.wait_for_api()
        done = subprocess.run([servers.program(BUILD, "hayauma"), *words], input=stdin, capture_output=True, text=True,
                              timeout=60 * PATIENCE, env={**os.environ, "HAYAUMA_SOCKET": self.socket})
        if code is not None:
            assert done.returncode == code, f"hayauma {' '.join(words)} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words, **more):
        return json.loads(self.hayauma(*words, "--json", **more))

    def account(self, name="app", password="correct horse", **fields):
        self.api(f"/api/v1/accounts/{name}", "PUT", {"password": password, **fields})
        return name, password

    def apply(self, groups):
        return self.api("/api/v1/policy", "POST", self.policy_text(groups), comment="a test")["version"]

    def queued(self, **filters):
        """Recipients in the queue."""
        return self.api("/api/v1/queue/recipients", limit=100000, **filters)["recipients"]

    def queue_op(self, op, **which):
        return self.api("/api/v1/queue/ops", "POST", {"op": op, **which})["changed"]

    def totals(self, campaign=None):
        """The sum over all recipients, or those of a campaign: accepted, delivered, bounced, expired, cancelled, waiting."""
        return self.api("/api/v1/reports/reconcile", **({"campaign": campaign} if campaign else {}))["totals"]

    # ---- submitting ----
    def client(self, port=None, **more):
        return smtplib.SMTP(self.address, port or self.open_port, local_hostname="client.example", timeout=30 * PATIENCE, **more)

    def send(self, *recipients, sender=SENDER, options=(), rcpt_options=(), **more):
        """One message through the trusted listener; its Message-ID."""
        message_id, text = compose(recipients, **more)
        with self.client() as client:
            refused = client.sendmail(sender, list(recipients), text, options, rcpt_options)
        assert not refused
        return message_id


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60 * PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Raw:
    """A client that says exactly what it is told to."""

    def __init__(self, address, port, greet=True, timeout=20):
        self.sock = socket.create_connection((address, port), timeout * PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")
        if greet:
            code, _ = self.reply()
            assert code == 220

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def reply(self):
        """(code, text of all lines); code 0 when the connection has ended."""
        lines = []
        while True:
            try:
                line = self.file.readline()
            except (ConnectionResetError, ssl.SSLError):
                line = b""
            if not line:
                return 0, "\n".join(lines)
            lines.append(line.decode("utf-8", "replace").rstrip("\r\n")[4:])
            if line[3:4] != b"-":
                return int(line[:3]), "\n".join(lines)

    def cmd(self, line):
        self.send(line + "\r\n" if isinstance(line, str) else line + b"\r\n")
        return self.reply()

    def ok(self, line, code=250):
        got = self.cmd(line)
        assert got[0] == code, f"{line!r} → {got}"
        return got[1]

    def starttls(self, context=None):
        self.ok("STARTTLS", 220)
        self.wrap(context)

    def wrap(self, context=None):
        self.file.close()
        self.sock = (context or no_check()).wrap_socket(self.sock)
        self.file = self.sock.makefile("rb")

    def begin(self, *recipients, sender=SENDER):
        self.ok("EHLO client.example")
        self.ok(f"MAIL FROM:<{sender}>")
        for r in recipients:
            self.ok(f"RCPT TO:<{r}>")


def no_check(minimum=None, maximum=None):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if minimum or maximum:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if minimum:
        context.minimum_version = minimum
    if maximum:
        context.maximum_version = maximum
    return context


def scram_sha_256(raw, user, password):
    """RFC 5802 and 7677 as the client; the server's last word is checked as well."""
    nonce = secrets.token_urlsafe(18)
    bare = f"n={user},r={nonce}"
    code, text = raw.cmd("AUTH SCRAM-SHA-256 " + base64.b64encode(b"n,," + bare.encode()).decode())
    if code != 334:
        return code, text
    first = base64.b64decode(text).decode()
    values = dict(v.split("=", 1) for v in first.split(","))
    assert values["r"].startswith(nonce)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(values["s"]), int(values["i"]))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    final = f"c=biws,r={values['r']}"
    said = f"{bare},{first},{final}".encode()
    signature = hmac.digest(hashlib.sha256(client_key).digest(), said, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
    code, text = raw.cmd(base64.b64encode(f"{final},p={proof}".encode()).decode())
    if code == 334:
        verdict = base64.b64decode(text).decode()
        expect = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), said, "sha256")
        assert verdict == "v=" + base64.b64encode(expect).decode()
        code, text = raw.cmd("")
    return code, text


class World:
    """One test's world: addresses, name server, receivers and daemons; all of it ends with the test."""

    def __init__(self, folder, certs):
        self.folder, self.certs = pathlib.Path(folder), certs
        self.net = net.Net()
        self.dns = dns.ScriptedDns(self.net.address(53))
        self.receivers = receivers.Receivers()
        self.daemons = []

    @property
    def seen(self):
        return self.receivers.recorder

    def receiver(self, name, *domains, cert="good", address=None, host=None, **how):
        """A scripted receiver that is the only MX of these domains."""
        host = host or f"mx.{name}.test"
        address = address or self.net.address()
        if how.get("tls") != "none" and cert:
            how["cert"] = self.certs.good("elsewhere.test") if cert == "wrong_name" else getattr(self.certs, cert)(host)
        how.setdefault("port", MX_PORT)
        self.receivers.add(receivers.Personality(name=name, host=host, address=address, **how))
        self.dns.a(host, address)
        for domain in domains:
            self.dns.mx(domain, f"10 {host}")
        return address

    def daemon(self, *groups, start=True, **config):
        number = len(self.daemons) + 1
        config.setdefault("folder", self.folder / f"daemon{number}")
        daemon = Daemon(dns_server=self.dns.server, address=self.net.address(), groups=groups, **config)
        self.daemons.append(daemon)
        return daemon.start() if start else daemon

    def got(self, count, seconds=15, at=None):
        """Waits for exactly this many deliveries, and that no further one follows at once."""
        deliveries = lambda: self.seen.deliveries if at is None else self.seen.at(at)
        wait_until(lambda: len(deliveries()) >= count, seconds, f"{count} deliveries{' at ' + at if at else ''}")
        time.sleep(0.05)
        assert len(deliveries()) == count
        return deliveries()

    def stop(self, check=True):
        try:
            for daemon in self.daemons:
                daemon.stop() if check else daemon.kill()
        finally:
            for daemon in self.daemons:
                daemon.kill()
                if os.path.exists(daemon.socket):
                    os.unlink(daemon.socket)
            self.receivers.stop()
            self.dns.stop()
            self.net.release()
