"""Signatures as others see them: python3-dkim and OpenDKIM verify what receivers got."""

import base64
import concurrent.futures
import email
import os
import pathlib
import re
import socket
import subprocess
import time

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from harness import MX_PORT, PATIENCE, Raw, group, wait_until
from world import opendkim

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
