"""Signatures as others see them: python3-dkim and OpenDKIM verify what receivers got."""

import base64
import concurrent.futures
import email
import os
import pathlib
import re
import subprocess

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from harness import BUILD, Raw, group, no_check, wait_until
from world import dns, opendkim, servers

DOMAIN = "origin.example"


class Key:
    """A private key as a file, and the record that belongs to it."""

    def __init__(self, folder, selector, kind="rsa", form="pkcs8", domain=DOMAIN):
        self.selector, self.domain = selector, domain
        self.file = pathlib.Path(folder) / f"{selector}.{domain}.pem"
        private = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ed25519.Ed25519PrivateKey.generate()
        style = serialization.PrivateFormat.TraditionalOpenSSL if form == "pkcs1" else serialization.PrivateFormat.PKCS8
        self.write(private.private_bytes(serialization.Encoding.PEM, style, serialization.NoEncryption()))
        public = private.public_key()
        octets = (public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
                  if kind == "rsa" else
                  public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))
        self.record = f"v=DKIM1; k={kind}; p={base64.b64encode(octets).decode()}"
        self.name = f"{selector}._domainkey.{domain}"

    def write(self, pem, mode=0o600):
        if self.file.exists():
            self.file.unlink()
        with open(os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as f:
            f.write(pem)

    def config(self, **more):
        return {"domain": self.domain, "selector": self.selector, "key": str(self.file), **more}


@pytest.fixture
def home(world):
    world.receiver("there", "there.test", keep_bodies=True, size=64 << 20)
    return world


def records(*keys):
    """What dkim asks instead of DNS."""
    texts = {k.name + ".": k.record.encode() for k in keys}

    def ask(name, timeout=5):
        return texts.get(name.decode() if isinstance(name, bytes) else name)
    return ask


def received(world, recipient="a@there.test", at="there", seconds=15):
    """The octets that arrived for this recipient."""
    def find():
        for d in world.seen.at(at):
            if d.recipient == recipient and (at, d.message_id) in world.seen.bodies:
                return world.seen.bodies[(at, d.message_id)]
    return wait_until(find, seconds, f"mail for {recipient}")


def signatures(octets):
    """The DKIM-Signature fields as dictionaries of their tags."""
    fields = email.message_from_bytes(octets).get_all("DKIM-Signature", [])
    return [dict(t.strip().split("=", 1) for t in re.sub(r"\s+", " ", f).split(";")) for f in fields]


def accepts(octets, i, *keys):
    try:
        return dkim.DKIM(octets).verify(idx=i, dnsfunc=records(*keys))
    except dkim.ValidationError:  # the body's hash differs
        return False


def verdicts(octets, *keys):
    """For each signature, in order: does python3-dkim accept it?"""
    return [accepts(octets, i, *keys) for i in range(len(signatures(octets)))]


def send_raw(daemon, octets, to="a@there.test", sender="bounce@origin.example"):
    """Content exactly as given, dots stuffed."""
    with Raw(daemon.address, daemon.open_port) as raw:
        raw.begin(to, sender=sender)
        raw.ok("DATA", 354)
        raw.send(re.sub(rb"(?m)^\.", b"..", octets) + b".\r\n")
        code, text = raw.reply()
        assert code == 250, (code, text)
    return text


HEAD = b"From: A Person <person@origin.example>\r\nTo: a@there.test\r\nSubject: test\r\n"

ODD = {
    "plain": HEAD + b"\r\nHello\r\n",
    "empty body": HEAD + b"\r\n",
    "header section only": HEAD,
    "blank lines only": HEAD + b"\r\n\r\n \r\n\t\r\n\r\n",
    "blank lines at the end": HEAD + b"\r\ntext\r\n\r\n\r\n\r\n",
    "white space everywhere": HEAD + b"\r\n  a \t b  \r\n\tc\t\r\n \r\n  \t\r\nd\r\n   \r\n",
    "folded fields": HEAD + b"References: <a@b>\r\n <c@d>\r\n\t<e@f>\r\nX-Other: y\r\n\r\nHello\r\n",
    "value on the following line": b"From:\r\n A Person <person@origin.example>\r\nTo:\r\n\ta@there.test\r\nSubject:\r\n test\r\n"
                                   b"List-Unsubscribe:\r\n <https://origin.example/u/1>\r\n\r\nHello\r\n",
    "folds of blanks": b"From: person@origin.example\r\n \r\n\t \r\nSubject: a\r\n  \r\n b \r\nTo: a@there.test\r\n\r\nHello\r\n",
    "empty values": HEAD + b"Cc:\r\nReply-To: \r\nSender:\t\r\n\r\nHello\r\n",
    "blanks before the colon": b"From : person@origin.example\r\nSubject\t: x\r\nTo: a@there.test\r\n\r\nHello\r\n",
    "odd case": b"fRoM: Person@ORIGIN.Example\r\nsUBJECT: x\r\nTO: a@there.test\r\n\r\nHello\r\n",
    "several of one name": HEAD + b"To: second@there.test\r\nTo: third@there.test\r\nCc: x@there.test\r\nCc: y@there.test\r\n\r\nHello\r\n",
    "dots": HEAD + b"\r\n.\r\n..\r\n.text\r\n",
    "8-bit body": HEAD + "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
                         "早馬は速い\r\nZwölf Boxkämpfer\r\n".encode(),
    "latin 1 without a header": HEAD + b"\r\nZw\xf6lf Boxk\xe4mpfer\r\n",
    "long lines": HEAD + b"\r\n" + b"x" * 5000 + b"\r\n" + b"a b " * 2000 + b"\r\n",
    "no header section": b"this is no field\r\nFrom: person@origin.example\r\n",
    "display name with an at sign": b'From: "evil@other.example" <person@origin.example>\r\nTo: a@there.test\r\n\r\nHello\r\n',
    "comments": b"From: (a@b.example) person(x)@(y)origin.example (z)\r\nTo: a@there.test\r\n\r\nHello\r\n",
    "group": b"From: People: a@origin.example, b@other.example;\r\nTo: a@there.test\r\n\r\nHello\r\n",
    "bulk": HEAD + b"List-Unsubscribe: <https://origin.example/u/abc>, <mailto:u@origin.example>\r\n"
                   b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nList-Id: <news.origin.example>\r\n"
                   b"Message-ID: <1@origin.example>\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\n\r\nNews\r\n",
    "many fields": HEAD + b"".join(b"X-Field-%d: %s\r\n" % (i, b"v" * (i % 60)) for i in range(400)) + b"\r\nHello\r\n",
}
UNSIGNED = {"no header section"}
# Allowed by RFC 5322 section 4.5, and not read by these two; our own verifier does, in tests/unit/engine/dkim.
NOT_FOR_PYTHON = {"blanks before the colon"}
NOT_FOR_OPENDKIM = {"blanks before the colon", "several of one name"}  # it wants one To only


@pytest.fixture(scope="module")
def both_keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return Key(folder, "r1", form="pkcs1"), Key(folder, "e1", "ed25519")


def dkim_config(*keys, **more):
    return {"keys": [k.config() for k in keys], **more}


def test_odd_messages_verify_with_both_algorithms(home, both_keys):
    daemon = home.daemon(dkim=dkim_config(*both_keys))
    for i, (name, text) in enumerate(ODD.items()):
        send_raw(daemon, text, f"m{i}@there.test")
    for i, name in enumerate(ODD):
        got = received(home, f"m{i}@there.test")
        if name in UNSIGNED:
            assert signatures(got) == [], name
            continue
        tags = signatures(got)
        assert [t["a"] for t in tags] == ["rsa-sha256", "ed25519-sha256"], name
        assert all(t["c"] == "relaxed/relaxed" and t["d"] == DOMAIN and "l" not in t for t in tags), name
        if name not in NOT_FOR_PYTHON:
            assert verdicts(got, *both_keys) == [True, True], f"{name}: {got[:2000]!r}"
    dkim_status = daemon.json("status")["dkim"]
    assert dkim_status["signed"] == len(ODD) - len(UNSIGNED) and dkim_status["unsigned"] == len(UNSIGNED)
    assert dkim_status["failed"] == 0 and dkim_status["waiting"] == 0


def test_opendkim_accepts_odd_messages_too(home, tmp_path):
    if opendkim.missing():
        pytest.skip(opendkim.missing())
    key = Key(tmp_path, "r1")
    daemon = home.daemon(dkim=dkim_config(key))
    names = [n for n in ODD if n not in UNSIGNED | NOT_FOR_OPENDKIM]
    for i, name in enumerate(names):
        send_raw(daemon, ODD[name], f"m{i}@there.test")
    mail = [received(home, f"m{i}@there.test") for i in range(len(names))]
    said = opendkim.verdicts(mail, {key.name: key.record})
    assert {n: v for n, v in zip(names, said) if v} == {}
    broken = [m.replace(b"To: ", b"To: x", 1) for m in mail[:3]] + [mail[0].replace(b"Hello", b"Hallo")]
    assert all(opendkim.verdicts(broken, {key.name: key.record})), "a changed message is not accepted"


def test_a_changed_message_does_not_verify(home, both_keys):
    daemon = home.daemon(dkim=dkim_config(*both_keys))
    send_raw(daemon, ODD["bulk"])
    got = received(home)
    assert verdicts(got, *both_keys) == [True, True]
    changes = {
        "body": got.replace(b"News", b"Olds"),
        "a field": got.replace(b"Subject: test", b"Subject: toast"),
        "the way out": got.replace(b"/u/abc", b"/u/xyz"),
        "a From on top": b"From: other@evil.example\r\n" + got,
        "a Subject below": got.replace(b"\r\n\r\n", b"\r\nSubject: two\r\n\r\n", 1),
        "a second way out": got.replace(b"\r\n\r\n", b"\r\nList-Unsubscribe: <https://evil.example>\r\n\r\n", 1),
        "a Content-Type added": got.replace(b"\r\n\r\n", b"\r\nContent-Type: text/html\r\n\r\n", 1),
        "more body": got + b"and more\r\n",
    }
    for what, changed in changes.items():
        assert changed != got, what
        assert verdicts(changed, *both_keys) == [False, False], what
    assert verdicts(got + b"\r\n\r\n", *both_keys) == [True, True], "relaxed: blank lines at the end do not count"


def test_what_was_missing_is_added_and_signed(home, both_keys):
    daemon = home.daemon(dkim=dkim_config(both_keys[0]))
    send_raw(daemon, b"From: person@origin.example\r\n\r\nHello\r\n")
    got = received(home)
    message = email.message_from_bytes(got)
    assert message["Date"] and message["Message-ID"]
    assert verdicts(got, both_keys[0]) == [True]
    for field in (b"Date: ", b"Message-ID: <"):
        assert verdicts(got.replace(field, field + b"9", 1), both_keys[0]) == [False], field


def test_a_message_of_5_mb_is_signed_while_it_streams(home, both_keys):
    daemon = home.daemon(dkim=dkim_config(*both_keys))
    body = b"".join(b"line %d  with blanks \t\r\n" % i for i in range(200000))
    assert len(body) > 4.5e6
    send_raw(daemon, HEAD + b"\r\n" + body + b"\r\n\r\n")
    got = received(home)
    assert got.endswith(body + b"\r\n\r\n")
    assert verdicts(got, *both_keys) == [True, True]
    assert not accepts(got.replace(b"line 150000 ", b"line 15000x "), 0, *both_keys)


def test_a_streamed_message_survives_kill_9_with_its_signature(home, both_keys):
    """The checksum on disk is that of the signed octets."""
    address = home.net.address()
    home.dns.a("mx.late.test", address)  # nobody listens there yet
    home.dns.mx("late.test", "10 mx.late.test")
    daemon = home.daemon(group("g", ["late.test"], retry={"schedule": ["1s"], "jitter": "0%", "lifetime": "1h"}),
                         dkim=dkim_config(*both_keys))
    for i, size in enumerate((1000, 3 << 20)):
        send_raw(daemon, HEAD + b"\r\n" + b"0123456789abcde\r\n" * (size // 17), f"k{i}@late.test")
    daemon.kill()
    home.receiver("late", address=address, host="mx.late.test", keep_bodies=True)
    daemon.start()
    for i in range(2):
        assert verdicts(received(home, f"k{i}@late.test", "late", 30), *both_keys) == [True, True]


def in_force(daemon):
    return {(k["domain"], k["selector"]) for k in daemon.api("/api/v1/dkim/keys")["keys"]}


def test_keys_change_while_mail_flows_and_a_bad_one_changes_nothing(home, tmp_path):
    old, new = Key(tmp_path, "old"), Key(tmp_path, "new", "ed25519")
    daemon = home.daemon(dkim=dkim_config(old))
    send_raw(daemon, ODD["plain"], "a1@there.test")
    daemon.config["dkim"] = dkim_config(new)
    daemon.write_config()
    daemon.reload()
    wait_until(lambda: in_force(daemon) == {(DOMAIN, "new")}, what="the new key")
    send_raw(daemon, ODD["plain"], "a2@there.test")
    assert [t["s"] for t in signatures(received(home, "a1@there.test"))] == ["old"]
    assert [t["s"] for t in signatures(received(home, "a2@there.test"))] == ["new"]
    good = new.file.read_bytes()
    for i, (spoil, complaint) in enumerate((
            (lambda: new.write(b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n"), "holds no private key"),
            (lambda: new.write(good, 0o644), "chmod 600"),
            (lambda: new.file.unlink(), "No such file"))):
        spoil()
        daemon.reload()
        wait_until(lambda: daemon.log().count("reload.refused") == i + 1, what="the refusal")
        assert complaint in daemon.log().rpartition("reload.refused")[0].rpartition("reload.error")[2]
        send_raw(daemon, ODD["plain"], f"b{i}@there.test")
        assert verdicts(received(home, f"b{i}@there.test"), new) == [True], "the keys before stay in force"
    new.write(good)
    daemon.reload()
    wait_until(lambda: "reload.done" in daemon.log().rpartition("reload.refused")[2], what="a reload that is accepted")


def test_a_bad_key_keeps_the_daemon_from_starting_and_says_where(home, tmp_path):
    key = Key(tmp_path, "r1")
    key.file.chmod(0o640)
    daemon = home.daemon(start=False, dkim=dkim_config(key))
    daemon.write_config()
    for words in (["--check"], []):
        done = subprocess.run([servers.program(BUILD, "hayaumad"), "-c", str(daemon.config_file), *words],
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert re.search(r"hayaumad\.yaml:\d+:\d+: the DKIM key .*r1\.origin\.example\.pem may be read by others", done.stderr)


def test_subdomains_accounts_and_what_goes_unsigned(home, tmp_path):
    own, below = Key(tmp_path, "s1", "ed25519"), Key(tmp_path, "s2", "ed25519", domain="wide.example")
    daemon = home.daemon(dkim={"keys": [own.config(), below.config(subdomains=True)]})
    daemon.account("app", "correct horse", sender_domains=["wide.example"])
    senders = {"a@origin.example": "origin.example", "a@news.origin.example": None, "a@wide.example": "wide.example",
               "a@very.deep.wide.example": "wide.example", "a@other.example": None}
    for i, sender in enumerate(senders):
        send_raw(daemon, f"From: {sender}\r\n\r\nHello\r\n".encode(), f"m{i}@there.test")
    for i, (sender, domain) in enumerate(senders.items()):
        got = received(home, f"m{i}@there.test")
        assert [t["d"] for t in signatures(got)] == [domain] * bool(domain), sender
        assert all(verdicts(got, own, below))
    with daemon.client(daemon.port) as client:  # it may send as wide.example: that is all it signs for
        client.starttls(context=no_check())
        client.login("app", "correct horse")
        for i, sender in enumerate(("a@wide.example", "a@origin.example")):
            client.sendmail("a@wide.example", [f"n{i}@there.test"], f"From: {sender}\r\n\r\nHello\r\n")
    assert len(signatures(received(home, "n0@there.test"))) == 1
    assert signatures(received(home, "n1@there.test")) == []
    status = daemon.json("status")["dkim"]
    assert (status["signed"], status["unsigned"], status["keys"]) == (4, 3, 2)
    metrics = daemon.api("/metrics")
    for line in ("hayauma_dkim_signed 4", "hayauma_dkim_unsigned 3", "hayauma_dkim_failed 0", "hayauma_dkim_waiting 0"):
        assert f"\n{line}\n" in metrics
    assert "2 keys, 4 messages signed, 3 unsigned" in daemon.hayauma("status")


def test_fifty_sessions_at_once_all_get_signatures(home, both_keys):
    daemon = home.daemon(dkim=dkim_config(*both_keys))

    def session(n):
        with Raw(daemon.address, daemon.open_port) as raw:
            raw.ok("EHLO client.example")
            for i in range(6):
                raw.ok("MAIL FROM:<x@origin.example>")
                raw.ok(f"RCPT TO:<s{n}x{i}@there.test>")
                raw.ok("DATA", 354)
                raw.send(HEAD + b"\r\n" + b"%d %d\r\n" % (n, i) * 200 + b".\r\n")
                assert raw.reply()[0] == 250
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        list(pool.map(session, range(50)))
    home.got(300, 60)
    status = daemon.json("status")["dkim"]
    names = [t.read_text().strip() for t in pathlib.Path(f"/proc/{daemon.pid}/task").glob("*/comm")]
    assert names.count("signing") == status["threads"] >= 1
    assert status["signed"] == 300 and status["signatures"] == 600 and status["waiting"] == 0
    assert 1 <= status["waiting_max"] <= 50, "each session waits for one signature at a time"
    for n in range(0, 50, 7):
        for i in (0, 5):
            assert verdicts(received(home, f"s{n}x{i}@there.test"), *both_keys) == [True, True]


def test_a_full_pool_answers_451_and_loses_nothing(home, tmp_path):
    key = Key(tmp_path, "r1")
    daemon = home.daemon(dkim=dkim_config(key, queue=1, threads=1))
    said = []

    def session(n):
        with Raw(daemon.address, daemon.open_port) as raw:
            raw.begin(f"q{n}@there.test")
            raw.ok("DATA", 354)
            raw.send(HEAD + b"\r\nHello\r\n.\r\n")
            code, text = raw.reply()
            said.append((code, f"q{n}@there.test"))
            assert code == 250 or text == "4.3.2 Too many messages are in work here; try again later"
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        list(pool.map(session, range(40)))
    assert {code for code, _ in said} <= {250, 451}
    taken = [to for code, to in said if code == 250]
    home.got(len(taken), 30)
    assert {d.recipient for d in home.seen.at("there")} == set(taken)
    refused = daemon.json("status")["dkim"]["refused_full"]
    assert refused == 40 - len(taken)
    assert (f", {refused} refused with 451" in daemon.hayauma("status")) == (refused > 0)


def test_notifications_are_signed_for_our_own_name(home, tmp_path):
    key = Key(tmp_path, "mx", domain="hayauma.example")
    home.receiver("home", DOMAIN, keep_bodies=True, unknown_prefix="")
    daemon = home.daemon(dkim=dkim_config(key))
    for i in range(5):
        send_raw(daemon, ODD["plain"], f"unknown{i}@there.test", sender=f"me{i}@{DOMAIN}")
    for i in range(5):
        got = received(home, f"me{i}@{DOMAIN}", "home")
        assert "multipart/report" in email.message_from_bytes(got)["Content-Type"]
        assert [t["d"] for t in signatures(got)] == ["hayauma.example"]
        assert verdicts(got, key) == [True]
    assert daemon.queued() == []


# ---- generate, publish, check ----

def test_generate_publish_check(home, tmp_path):
    daemon = home.daemon()
    made = []
    for selector, kind in (("g1", "rsa2048"), ("g2", "ed25519")):
        made.append(daemon.json("dkim", "generate", "Origin.Example", selector, "--type", kind, "-o", str(tmp_path / selector)))
        assert (tmp_path / selector).stat().st_mode & 0o7777 == 0o600
    daemon.hayauma("dkim", "generate", DOMAIN, "g1", "-o", str(tmp_path / "g1"), code=1)
    assert daemon.hayauma("dkim", "check").startswith("no keys")
    daemon.config["dkim"] = {"keys": [{"domain": DOMAIN, "selector": m["selector"], "key": m["file"]} for m in made]}
    daemon.write_config()
    daemon.reload()
    wait_until(lambda: len(in_force(daemon)) == 2, what="the keys")
    # Another server than the daemon's resolver, whose cache need not be waited for.
    elsewhere = dns.ScriptedDns(home.net.address())
    try:
        def check(*words, code=1):
            found = daemon.json("dkim", "check", *words, "--dns", elsewhere.server, code=code)["keys"]
            return {k["selector"]: k["status"] for k in found}
        assert check() == {"g1": "missing", "g2": "missing"}
        elsewhere.add(made[0]["name"], "TXT", zone_strings(made[0]["zone"]))
        elsewhere.add(made[1]["name"], "TXT", '"v=DKIM1; k=ed25519; p="')
        assert check(DOMAIN) == {"g1": "good", "g2": "revoked"}
        elsewhere.records[(made[1]["name"], "TXT")] = [zone_strings(made[0]["zone"])]
        assert check()["g2"] == "other-type"
        text = daemon.hayauma("dkim", "check", "--dns", elsewhere.server, code=1)
        assert "k= says rsa, and the key is ed25519" in text and made[1]["record"] in text
        elsewhere.records[(made[1]["name"], "TXT")] = [zone_strings(made[1]["zone"])]
        assert check(code=0) == {"g1": "good", "g2": "good"}
        elsewhere.fail(made[0]["name"], "TXT", "SERVFAIL")
        assert check() == {"g1": "unknown", "g2": "good"}
        daemon.hayauma("dkim", "check", "nobody.example", "--dns", elsewhere.server, code=1)
    finally:
        elsewhere.stop()
    for m in made:
        home.dns.add(m["name"], "TXT", zone_strings(m["zone"]))
    assert {k["status"] for k in daemon.json("dkim", "check")["keys"]} == {"good"}
    send_raw(daemon, ODD["bulk"])
    got = received(home)
    texts = {m["name"] + ".": m["record"].encode() for m in made}
    assert all(dkim.DKIM(got).verify(idx=i, dnsfunc=lambda name, timeout=5: texts.get(name.decode())) for i in range(2))


def zone_strings(zone):
    return zone.partition("(")[2].rpartition(")")[0].strip()


# ---- 8-bit content ----

EIGHT = (HEAD + b"MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
         b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
         "Zwölf Boxkämpfer jagen Viktor =\r\n.punkt\r\n".encode() +
         b"--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
         "<p>早馬は速い</p>\r\n".encode() +
         b"--b\r\nContent-Type: text/plain\r\n\r\n7-bit = as it is\r\n--b--\r\n")


def texts(octets):
    return [p.get_payload(decode=True).decode(p.get_content_charset() or "ascii")
            for p in email.message_from_bytes(octets).walk() if not p.is_multipart()]


def test_8_bit_parts_are_converted_before_they_are_signed(home, both_keys):
    home.receiver("old", "old.test", keep_bodies=True, eightbit=False, smtputf8=False)
    daemon = home.daemon(submission={"convert_8bit": True}, dkim=dkim_config(*both_keys))
    send_raw(daemon, EIGHT, "a@old.test")
    send_raw(daemon, ODD["latin 1 without a header"], "b@old.test")
    send_raw(daemon, ODD["dots"], "c@old.test")
    got = received(home, "a@old.test", "old")
    assert got.isascii() and b"7-bit = as it is\r\n" in got
    assert texts(got) == texts(EIGHT)
    assert [p["Content-Transfer-Encoding"] for p in email.message_from_bytes(got).walk()] == [
        None, "quoted-printable", "base64", None]
    assert verdicts(got, *both_keys) == [True, True]
    latin = received(home, "b@old.test", "old")
    assert latin.isascii() and email.message_from_bytes(latin).get_content_charset() == "unknown-8bit"
    assert verdicts(latin, *both_keys) == [True, True]
    plain = received(home, "c@old.test", "old")
    assert plain.endswith(ODD["dots"].partition(b"\r\n\r\n")[2]) and verdicts(plain, *both_keys) == [True, True]


@pytest.mark.parametrize("converts", [False, True])
def test_8_bit_content_never_goes_where_it_is_not_understood(home, both_keys, converts):
    """Without the option, and what is too large for it: 5.6.3 to the sender, and not an octet to the receiver."""
    home.receiver("old", "old.test", keep_bodies=True, eightbit=False, smtputf8=False)
    home.receiver("home", DOMAIN, keep_bodies=True, unknown_prefix="")
    daemon = home.daemon(submission={"convert_8bit": converts}, dkim=dkim_config(both_keys[1]))
    body = EIGHT if not converts else HEAD + b"\r\n" + "Zwölf Boxkämpfer\r\n".encode() * 80000
    send_raw(daemon, body, "a@old.test", sender=f"me@{DOMAIN}")
    send_raw(daemon, body, "a@there.test", sender=f"me@{DOMAIN}")
    bounce = received(home, f"me@{DOMAIN}", "home", 30)
    assert b"Status: 5.6.3" in bounce and b"Action: failed" in bounce
    assert not home.seen.at("old")
    got = received(home, seconds=30)  # where it is understood it goes as it came
    assert got.partition(b"\r\n\r\n")[2] == body.partition(b"\r\n\r\n")[2]
    assert verdicts(got, both_keys[1]) == [True]
