"""
Scripted receivers: SMTP servers on loopback addresses, each with a personality (what it offers, how it
answers, where it breaks), and a recorder that knows exactly who got what, when, and in clear or not.

Raw asyncio protocols with pipelining and an own TLS layer over ssl.MemoryBIO: fast enough for tens of
thousands of recipients in seconds, and every octet that crosses the socket passes one function, so that
what went in clear text can be shown.
"""

import asyncio
import base64
import dataclasses
import json
import re
import ssl
import sys
import threading
import time

from .recorder import Delivery, Recorder

RECORD_LIMIT = 8 << 20
GARBAGE = b"this is no ServerHello at all\r\n" * 4


@dataclasses.dataclass
class Personality:
    """What one receiver is like.  `replies` may override any reply: {"RCPT": "450 4.2.1 later"} or a function."""

    name: str
    address: str
    port: int = 2526
    host: str = ""  # what the banner says; the name if empty
    tls: str = "starttls"  # starttls | none | implicit
    cert: tuple = ()  # (certificate file, key file)
    sni: dict = dataclasses.field(default_factory=dict)  # host name: (certificate file, key file), instead of `cert`
    client_ca: str = ""  # clients are asked for a certificate of this authority, and may do without
    tls_ciphers: str = "DEFAULT"  # in OpenSSL's words, up to TLS 1.2
    tls_curve: str = ""  # the only one for key exchange: "secp521r1" makes TLS 1.3 clients say hello twice
    requiretls: bool = False  # offered inside TLS (RFC 8689)
    tls_min: str = "TLSv1.2"
    tls_max: str = "TLSv1.3"
    starttls_reply: str = ""  # instead of the 220: "454 4.7.0 not now"
    starttls_break: str = ""  # garbage | close | silence | alert | extra (octets behind the 220) | after (the handshake)
    greylist_s: float = 0  # 450 until this long after the first try of a recipient
    unknown_prefix: str = "unknown"  # local parts that begin so get 550
    delay_s: float = 0  # before every reply
    banner_delay_s: float = 0
    max_connections: int = 0  # 421 beyond it
    max_recipients: int = 0  # 452 beyond it, per transaction
    pipelining: bool = True
    chunking: bool = True
    eightbit: bool = True
    smtputf8: bool = True
    dsn: bool = True
    ehlo: bool = True  # False: knows HELO only
    size: int = 64 << 20
    auth: dict = dataclasses.field(default_factory=dict)  # user: password; MAIL needs AUTH then
    replies: dict = dataclasses.field(default_factory=dict)
    close_after: str = ""  # stage after whose request the connection is dropped without an answer
    messages_per_connection: int = 0  # 421 at MAIL beyond it
    record: bool = False  # keep all octets that came in
    keep_bodies: bool = False


MESSAGE_ID = re.compile(rb"^message-id:\s*(\S+)", re.I | re.M)
CAMPAIGN = re.compile(rb"^x-demo-campaign:\s*(\S+)", re.I | re.M)


class Session(asyncio.Protocol):
    """One connection, for life."""

    def __init__(self, receiver):
        self.r = receiver
        self.p = receiver.p
        self.rec = receiver.recorder
        self.loop = receiver.loop
        self.buf = bytearray()
        self.out = []
        self.tls = None
        self.tls_done = False
        self.mode = "command"  # command | data | bdat | auth | dead
        self.raw = bytearray()
        self.sent = bytearray()
        self.clear_octets = bytearray()  # what came before TLS, decoded commands and data
        self.wait = None  # a delayed reply is under way
        self.mails = 0
        self.transactions = 0
        self.authed = not self.p.auth
        self.version, self.cipher, self.resumed = "clear", "", False
        self.sni = self.client = self.mail_line = ""
        self.esmtp = False
        self.closed = False
        self.reset()

    def reset(self):
        self.sender = None
        self.rcpts = []
        self.body = bytearray()
        self.scanned = 0
        self.bdat_left = 0
        self.bdat_last = False

    # ---- the wire ----
    def connection_made(self, transport):
        self.transport = transport
        self.id = self.rec.number()
        self.peer = "%s:%s" % transport.get_extra_info("peername")[:2]
        self.rec.connected(self.p.name)
        self.r.sessions.add(self)
        if self.p.record:
            self.rec.transcripts[self.p.name].append(self)
        if self.p.tls == "implicit":
            self.start_tls()
        limit = self.p.max_connections
        if limit and self.rec.open[self.p.name] > limit:
            self.reply("421 4.7.0 too many connections", 0)
            self.flush()
            transport.close()
            return
        if self.p.close_after == "connect":
            transport.abort()
            return
        self.greet()

    def greet(self):
        text = self.override("CONNECT", b"") or f"220 {self.p.host or self.p.name} ESMTP"
        self.reply(text, self.p.banner_delay_s)
        self.flush()

    def connection_lost(self, exc):
        if not self.closed:
            self.closed = True
            self.rec.open[self.p.name] -= 1
            self.r.sessions.discard(self)
        if self.wait:
            self.wait.cancel()
        self.mode = "dead"

    def data_received(self, data):
        if self.p.record and len(self.raw) < RECORD_LIMIT:
            self.raw += data
        if self.mode == "dead":
            return
        if self.tls is None:
            self.buf += data
        else:
            self.tls_in.write(data)
            if not self.read_tls():
                return
        self.work()
        self.flush()

    def eof_received(self):
        return False

    def flush(self):
        """Everything answered so far leaves in one write."""
        if self.tls is not None and not self.tls_done:
            data = self.tls_out.read()
        else:
            data = b"".join(self.out)
            self.out.clear()
            if self.tls is not None:
                if data:
                    self.tls.write(data)
                data = self.tls_out.read()
        if data and not self.transport.is_closing():
            if self.p.record and len(self.sent) < RECORD_LIMIT:
                self.sent += data
            self.transport.write(data)

    def start_tls(self):
        self.tls_in, self.tls_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.r.context.wrap_bio(self.tls_in, self.tls_out, server_side=True)
        self.tls.conversation = self
        self.tls_done = False

    def read_tls(self):
        try:
            if not self.tls_done:
                self.tls.do_handshake()
                self.tls_done = True
                self.version, self.cipher = self.tls.version(), self.tls.cipher()[0]
                self.resumed = self.tls.session_reused
                self.client = common_name(self.tls.getpeercert())
                if self.p.starttls_break == "after":
                    self.flush()
                    self.close()
                    return False
            while True:
                plain = self.tls.read(65536)
                if not plain:
                    self.close()
                    return False
                self.buf += plain
        except ssl.SSLWantReadError:
            self.flush()
            return True
        except ssl.SSLError:
            alert = self.tls_out.read()
            if alert and not self.transport.is_closing():
                self.transport.write(alert)
            self.close()
            return False

    def close(self):
        self.mode = "dead"
        self.transport.close()

    # ---- replies ----
    def override(self, stage, argument):
        reply = self.p.replies.get(stage)
        if callable(reply):
            reply = reply(self, argument.decode("utf-8", "replace"))
        return reply

    def reply(self, text, delay=None):
        """Queues a reply; with a delay nothing more is read until it has left."""
        delay = self.p.delay_s if delay is None else delay
        line = text.encode() + b"\r\n"
        if not delay:
            self.out.append(line)
            return
        self.flush()

        def later():
            self.wait = None
            if self.mode == "dead":
                return
            self.out.append(line)
            self.flush()
            self.work()
            self.flush()

        self.wait = self.loop.call_later(delay, later)

    # ---- the conversation ----
    def work(self):
        while self.mode != "dead" and self.wait is None:
            if self.mode == "data":
                if not self.take_data():
                    return
            elif self.mode == "bdat":
                if not self.take_chunk():
                    return
            else:
                end = self.buf.find(b"\n")
                if end < 0:
                    if len(self.buf) > 65536:
                        self.close()
                    return
                line = bytes(self.buf[:end + 1])
                del self.buf[:end + 1]
                if self.tls is None:
                    self.clear_octets += line
                self.command(line)

    def command(self, line):
        if not line.endswith(b"\r\n"):
            self.rec.commands[self.p.name]["bare LF"] += 1
        line = line.rstrip(b"\r\n")
        if self.mode == "auth":
            self.auth_line(line)
            return
        verb, _, rest = line.partition(b" ")
        verb = verb.upper().decode("ascii", "replace")
        self.rec.commands[self.p.name][verb] += 1
        if self.p.close_after == verb:
            self.mode = "dead"
            self.transport.abort()
            return
        if verb == "RCPT" and self.p.close_after.startswith("RCPT#"):
            if len(self.rcpts) + 1 >= int(self.p.close_after[5:]):
                self.mode = "dead"
                self.transport.abort()
                return
        handler = getattr(self, "on_" + verb.lower(), None)
        reply = self.override(verb, rest)
        if reply is not None and reply.startswith("2") and handler is not None:
            handler(rest)  # as usual, in other words
            if self.out and self.out[-1].startswith(b"2"):
                self.out[-1] = reply.encode() + b"\r\n"
            return
        if reply is not None:
            if reply == "silence":
                self.mode = "dead"
                return
            if verb == "RCPT":
                self.refuse(path_of(rest), int(reply[:3]))
            self.reply(reply)
            if reply.startswith("421"):
                self.flush()
                if self.wait is None:
                    self.close()
            return
        if handler is None:
            self.reply("500 5.5.2 not known here")
        else:
            handler(rest)

    def on_ehlo(self, rest):
        if not self.p.ehlo:
            self.reply("502 5.5.1 EHLO is not known here")
            return
        self.rec.helo[self.p.name].append(rest.decode("ascii", "replace"))
        self.reset()
        self.esmtp = True
        words = [self.p.host or self.p.name]
        p = self.p
        words += ["PIPELINING"] * p.pipelining + [f"SIZE {p.size}"] + ["8BITMIME"] * p.eightbit
        words += ["REQUIRETLS"] * (p.requiretls and self.tls is not None)
        words += ["SMTPUTF8"] * p.smtputf8 + ["CHUNKING"] * p.chunking + ["DSN"] * p.dsn + ["ENHANCEDSTATUSCODES"]
        if p.tls == "starttls" and self.tls is None:
            words.append("STARTTLS")
        if p.auth and (self.tls is not None or p.tls == "none"):
            words.append("AUTH PLAIN LOGIN")
        self.reply("\r\n".join(f"250{'-' if i + 1 < len(words) else ' '}{w}" for i, w in enumerate(words)))

    def on_helo(self, rest):
        self.rec.helo[self.p.name].append(rest.decode("ascii", "replace"))
        self.reset()
        self.reply(f"250 {self.p.host or self.p.name}")

    def on_starttls(self, rest):
        how = self.p.starttls_break
        if self.p.tls != "starttls" or self.tls is not None:
            self.reply("503 5.5.1 not now")
            return
        if self.p.starttls_reply:
            self.reply(self.p.starttls_reply)
            if self.p.starttls_reply.startswith("421"):
                self.flush()
                self.close()
            return
        self.buf.clear()  # RFC 3207 §4.2: nothing said before counts
        if how == "extra":
            self.out.append(b"220 go\r\n250-this was sent in clear\r\n250 AUTH PLAIN\r\n")
            self.flush()
        else:
            self.out.append(b"220 2.0.0 go\r\n")
            self.flush()
        if how == "close":
            self.close()
        elif how == "silence":
            self.mode = "dead"
        elif how == "garbage":
            self.transport.write(GARBAGE)
            self.mode = "dead"
            self.loop.call_later(0.3, self.transport.close)
        elif how == "alert":
            self.transport.write(b"\x15\x03\x03\x00\x02\x02\x28")  # fatal, handshake_failure
            self.close()
        else:
            self.start_tls()
            self.esmtp = False
            self.authed = not self.p.auth

    def on_auth(self, rest):
        mechanism, _, initial = rest.partition(b" ")
        self.auth = [mechanism.upper()]
        if mechanism.upper() == b"PLAIN":
            if initial:
                self.auth_line(initial)
            else:
                self.mode = "auth"
                self.reply("334 ")
        elif mechanism.upper() == b"LOGIN":
            self.mode = "auth"
            if initial:
                self.auth.append(base64.b64decode(initial))
                self.reply("334 UGFzc3dvcmQ6")
            else:
                self.reply("334 VXNlcm5hbWU6")
        else:
            self.reply("504 5.5.4 mechanism not known")

    def auth_line(self, line):
        self.mode = "command"
        value = base64.b64decode(line)
        if self.auth[0] == b"PLAIN":
            _, user, password = value.split(b"\0")
        else:
            self.auth.append(value)
            if len(self.auth) == 2:
                self.mode = "auth"
                self.reply("334 UGFzc3dvcmQ6")
                return
            user, password = self.auth[1:3]
        self.authed = self.p.auth.get(user.decode()) == password.decode()
        self.rec.commands[self.p.name]["AUTH ok" if self.authed else "AUTH failed"] += 1
        self.reply("235 2.7.0 welcome" if self.authed else "535 5.7.8 no")

    def on_mail(self, rest):
        if not self.authed:
            self.reply("530 5.7.0 authentication required")
            return
        if self.p.messages_per_connection and self.mails >= self.p.messages_per_connection:
            self.reply("421 4.7.0 that is enough for one connection")
            self.flush()
            self.close()
            return
        self.reset()
        self.mails += 1
        self.mail_line = rest.decode("utf-8", "replace")
        self.sender = path_of(rest)
        self.reply("250 2.1.0 ok")

    def on_rcpt(self, rest):
        if self.sender is None:
            self.reply("503 5.5.1 MAIL first")
            return
        rcpt = path_of(rest)
        if self.p.max_recipients and len(self.rcpts) >= self.p.max_recipients:
            self.reply("452 4.5.3 too many recipients")
            return
        if self.p.unknown_prefix and rcpt.startswith(self.p.unknown_prefix):
            self.refuse(rcpt, 550)
            self.reply("550 5.1.1 no such user here")
            return
        if self.p.greylist_s:
            first = self.r.greylist.setdefault(rcpt, time.monotonic())
            if time.monotonic() - first < self.p.greylist_s:
                self.refuse(rcpt, 450)
                self.reply("450 4.7.1 greylisted, try again later")
                return
        self.rcpts.append(rcpt)
        self.reply("250 2.1.5 ok")

    def refuse(self, rcpt, code):
        self.rec.recipient(self.delivery(rcpt, code))

    def delivery(self, rcpt, code):
        return Delivery(self.p.name, self.id, time.time(), self.version, self.cipher, self.resumed,
                        self.sender or "", rcpt, code, peer=self.peer, sni=self.sni, client=self.client,
                        parameters=self.mail_line.partition(">")[2].strip())

    def on_data(self, rest):
        if not self.rcpts:
            self.reply("503 5.5.1 no valid recipients")
            return
        self.mode = "data"
        self.reply("354 go on")

    def take_data(self):
        if self.buf.startswith(b".\r\n"):
            end, skip = 0, 3
        else:
            end, skip = self.buf.find(b"\r\n.\r\n", self.scanned) + 2, 3
            if end < 2:
                self.scanned = max(len(self.buf) - 4, 0)
                return False
        data = bytes(self.buf[:end])
        del self.buf[:end + skip]
        if self.tls is None:
            self.clear_octets += data
        if data.startswith(b"."):
            data = data[1:]
        self.body += data.replace(b"\r\n..", b"\r\n.")
        self.mode = "command"
        self.finish()
        return True

    def on_bdat(self, rest):
        words = rest.split()
        self.bdat_left = int(words[0])
        self.bdat_last = len(words) > 1 and words[1].upper() == b"LAST"
        self.mode = "bdat"

    def take_chunk(self):
        take = min(self.bdat_left, len(self.buf))
        if self.tls is None:
            self.clear_octets += self.buf[:take]
        self.body += self.buf[:take]
        del self.buf[:take]
        self.bdat_left -= take
        if self.bdat_left:
            return False
        self.mode = "command"
        if not self.rcpts:
            self.reply("503 5.5.1 no valid recipients")
            self.reset()
        elif self.bdat_last:
            self.finish()
        else:
            self.reply("250 2.0.0 chunk taken")
        return True

    def finish(self):
        self.transactions += 1
        if self.p.close_after == "DOT":
            self.mode = "dead"
            self.transport.abort()
            return
        reply = self.override("DOT", b"") or "250 2.0.0 taken"
        code = int(reply[:3])
        head = bytes(self.body.partition(b"\r\n\r\n")[0])
        found, campaign = MESSAGE_ID.search(head), CAMPAIGN.search(head)
        message_id = found.group(1).decode("utf-8", "replace") if found else ""
        number = self.rec.number()
        for rcpt in self.rcpts:
            d = self.delivery(rcpt, code)
            d.message_id, d.size, d.transaction = message_id, len(self.body), number
            d.campaign = campaign.group(1).decode("utf-8", "replace") if campaign else ""
            self.rec.recipient(d)
        if self.p.keep_bodies:
            self.rec.bodies[(self.p.name, message_id)] = bytes(self.body)
        self.reset()
        if self.p.close_after == "taken":  # accepted, and the answer is lost on the way
            self.mode = "dead"
            self.transport.abort()
            return
        self.reply(reply)
        if code == 421:
            self.flush()
            self.close()

    def on_rset(self, rest):
        self.reset()
        self.reply("250 2.0.0 ok")

    def on_noop(self, rest):
        self.reply("250 2.0.0 ok")

    def on_quit(self, rest):
        self.reply("221 2.0.0 bye", 0)
        self.flush()
        self.close()


def path_of(rest):
    """The address of `FROM:<a@b> …` or `TO:<a@b> …`."""
    return rest[rest.find(b"<") + 1:rest.rfind(b">") if b">" in rest else None].split(b">")[0].decode("utf-8", "replace")


def common_name(cert):
    """Of a certificate as the ssl module gives it; "" without one."""
    return "".join(v for part in (cert or {}).get("subject", ()) for k, v in part if k == "commonName")


class Receiver:
    """A listening personality."""

    def __init__(self, personality, recorder, loop):
        self.p, self.recorder, self.loop = personality, recorder, loop
        self.sessions = set()
        self.greylist = {}
        self.context = self.make_context() if personality.cert else None
        self.by_sni = {name: self.make_context(cert) for name, cert in personality.sni.items()}
        self.server = None

    def make_context(self, cert=None):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        c.minimum_version = getattr(ssl.TLSVersion, self.p.tls_min.replace(".", "_"))
        c.maximum_version = getattr(ssl.TLSVersion, self.p.tls_max.replace(".", "_"))
        c.set_ciphers(self.p.tls_ciphers + ":@SECLEVEL=0")
        if self.p.tls_curve:
            c.set_ecdh_curve(self.p.tls_curve)
        if self.p.client_ca:
            c.verify_mode = ssl.CERT_OPTIONAL
            c.load_verify_locations(self.p.client_ca)
        c.load_cert_chain(*(cert or self.p.cert))
        c.sni_callback = self.on_sni
        return c

    def on_sni(self, tls, name, _):
        tls.conversation.sni = name or ""
        if name in self.by_sni:
            tls.context = self.by_sni[name]

    async def listen(self):
        self.server = await self.loop.create_server(
            lambda: Session(self), self.p.address, self.p.port, backlog=512, reuse_address=True)

    async def stop(self):
        if self.server:
            self.server.close()
            self.server = None
        for session in list(self.sessions):
            session.transport.abort()


class Receivers:
    """All receivers of one world on one event loop in a thread of its own."""

    def __init__(self, file=None):
        self.recorder = Recorder(file)
        self.loop = asyncio.new_event_loop()
        self.by_name = {}
        self._thread = threading.Thread(target=self._run, name="receivers", daemon=True)
        self._thread.start()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def add(self, personality):
        receiver = Receiver(personality, self.recorder, self.loop)
        self.call(receiver.listen())
        self.by_name[personality.name] = receiver
        return receiver

    def remove(self, name):
        self.call(self.by_name.pop(name).stop())

    def change(self, name, **values):
        """Changes a personality while it runs; existing sessions see it from their next command on."""
        for key, value in values.items():
            setattr(self.by_name[name].p, key, value)

    def stop(self):
        for name in list(self.by_name):
            self.remove(name)
        self.recorder.flush()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)


def main():
    """`receivers.py CONFIG.json LOG.jsonl`: runs until standard input ends, so that it never outlives its parent."""
    config, log = sys.argv[1:3]
    receivers = Receivers(log)
    with open(config) as f:
        for item in json.load(f):
            item["cert"] = tuple(item.get("cert") or ())
            receivers.add(Personality(**item))
    print("ready", flush=True)
    try:
        for line in sys.stdin:
            if line.strip() == "count":
                receivers.recorder.flush()
                print(len(receivers.recorder.deliveries), len(receivers.recorder.refusals), flush=True)
    except KeyboardInterrupt:
        pass
    receivers.stop()


if __name__ == "__main__":
    main()
