"""Clients that prove who they are by a certificate."""

import base64
import re
import ssl

import pytest
from cryptography import x509

from harness import SENDER, Raw, compose, no_check, wait_until
from papers import DAY, Authority

EMPTY = "AUTH EXTERNAL ="


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("clients"), "Client CA")


@pytest.fixture
def start(world, ca):
    """A daemon whose first listener asks for certificates."""
    def run(tls=None, **listener):
        daemon = world.daemon(start=False)
        daemon.config["listeners"][0].update({"client_certificates": "request", "client_ca": str(ca.file), **listener})
        if tls:
            daemon.config["tls"] = tls
        return daemon.start()
    return run


def session(daemon, paper=None):
    raw = Raw(daemon.address, daemon.port)
    raw.ok("EHLO client.example")
    raw.starttls(paper.show(no_check()) if paper else no_check())
    return raw


def offers(raw):
    return [w for line in raw.ok("EHLO client.example").splitlines() if line.startswith("AUTH ") for w in line.split()[1:]]


def external(name=""):
    return "AUTH EXTERNAL " + (base64.b64encode(name.encode()).decode() or "=")


def submits(raw):
    raw.ok(f"MAIL FROM:<{SENDER}>")
    raw.ok("RCPT TO:<someone@nowhere.test>")
    raw.ok("DATA", 354)
    return raw.cmd(compose()[1] + b"\r\n.")


def test_external_is_offered_to_whom_the_certificate_belongs(start, ca):
    daemon = start()
    mine, other = ca.make("mine", client=True), ca.make("other", client=True)
    daemon.account("shop", certificates=[f"sha256:{mine.fingerprint}"])
    with session(daemon, mine) as raw:
        assert offers(raw) == ["PLAIN", "LOGIN", "SCRAM-SHA-256", "EXTERNAL"]
        assert raw.cmd(f"MAIL FROM:<{SENDER}>")[0] == 530
        assert raw.cmd(EMPTY)[0] == 235
        assert offers(raw) == []
        assert submits(raw)[0] == 250
    for paper in (other, None):
        with session(daemon, paper) as raw:
            assert "EXTERNAL" not in offers(raw)
            assert raw.cmd(EMPTY)[0] == 504
    wait_until(lambda: "by=external" in daemon.log(), what="the word of how it was proved")


def test_external_acts_as_nobody_else(start, ca):
    daemon = start()
    mine = ca.make("mine2", client=True)
    daemon.account("shop", certificates=[mine.fingerprint])
    daemon.account("bank")
    with session(daemon, mine) as raw:
        offers(raw)
        assert raw.cmd(external("bank"))[0] == 535
        assert raw.cmd(external("nobody"))[0] == 535
        assert raw.cmd("AUTH EXTERNAL " + base64.b64encode(b"shop\0x").decode())[0] == 501
        assert raw.cmd("AUTH EXTERNAL !!")[0] == 501
        assert raw.cmd("AUTH EXTERNAL") == (334, "")
        assert raw.cmd("*")[0] == 501
        assert raw.cmd("AUTH EXTERNAL") == (334, "")
        assert raw.cmd(base64.b64encode(b"shop").decode())[0] == 235


@pytest.mark.parametrize("spec, how", [
    ("dns:app.shop.test", {"sans": ["app.shop.test"]}), ("email:App@shop.test", {"sans": [x509.RFC822Name("App@shop.test")]}),
    ("uri:spiffe://shop/app", {"sans": [x509.UniformResourceIdentifier("spiffe://shop/app")]}),
    ("subject:CN=named,O=Shop", {"organisation": "Shop"})])
def test_an_account_names_a_certificate_that_client_ca_vouches_for(start, ca, tmp_path, spec, how):
    daemon = start()
    daemon.account("shop", certificates=[spec])
    good = ca.make("named", client=True, **how)
    stranger = Authority(tmp_path / "stranger", "Client CA").make("named", client=True, **how)
    late = ca.make("named", client=True, start=-30 * DAY, end=-DAY, into=tmp_path / "late", **how)
    server = ca.make("named", client=False, into=tmp_path / "server", **how)
    other = ca.make("named-other", client=True, sans=["b.shop.test"], into=tmp_path / "other")
    for paper, fits in ((good, True), (stranger, False), (late, False), (server, False), (other, False)):
        with session(daemon, paper) as raw:
            assert ("EXTERNAL" in offers(raw)) == fits, paper.file


def test_a_wildcard_names_no_machine(start, ca):
    daemon = start()
    daemon.account("shop", certificates=["dns:app.shop.test"])
    with session(daemon, ca.make("wild", client=True, sans=["*.shop.test"])) as raw:
        assert "EXTERNAL" not in offers(raw)


def test_a_fingerprint_needs_no_authority_but_time_and_no_revocation(start, ca, tmp_path):
    mine = ca.make("self", client=True, self_signed=True)
    late = ca.make("self-late", client=True, self_signed=True, start=-30 * DAY, end=-DAY)
    gone = ca.make("gone", client=True)
    daemon = start(tls={"crl": ca.revoke(gone)})
    for i, paper in enumerate((mine, late, gone)):
        daemon.account(f"a{i}", certificates=[paper.fingerprint])
    for paper, fits in ((mine, True), (late, False), (gone, False)):
        with session(daemon, paper) as raw:
            assert ("EXTERNAL" in offers(raw)) == fits


def test_a_certificate_alone_is_enough_where_the_listener_says_so(start, ca):
    daemon = start(auth="certificate")
    mine, other = ca.make("alone", client=True), ca.make("alone-other", client=True)
    daemon.account("shop", certificates=[mine.fingerprint], sender_domains=["origin.example"])
    user, password = daemon.account("bank")
    with session(daemon, mine) as raw:
        assert "PLAIN" in offers(raw)
        assert raw.cmd("MAIL FROM:<x@elsewhere.example>")[0] == 550
        assert submits(raw)[0] == 250
    with session(daemon, other) as raw:
        offers(raw)
        assert raw.cmd(f"MAIL FROM:<{SENDER}>")[0] == 530
        plain = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        assert raw.cmd("AUTH PLAIN " + plain)[0] == 235
        assert submits(raw)[0] == 250
    with session(daemon, mine) as raw:  # who shows a certificate may still say who he is
        offers(raw)
        assert raw.cmd("AUTH PLAIN " + plain)[0] == 235
        assert raw.cmd("AUTH PLAIN " + plain)[0] == 503
        raw.ok("MAIL FROM:<x@elsewhere.example>")
    with Raw(daemon.address, daemon.port) as raw:
        raw.ok("EHLO client.example")
        assert raw.cmd(f"MAIL FROM:<{SENDER}>")[0] == 530
    proofs = lambda: re.findall(r"auth.ok .*account=(\w+) by=([\w-]+)", daemon.log())
    wait_until(lambda: len(proofs()) >= 4, what="the word of four proofs")  # a line may follow the reply it speaks of
    assert proofs() == [("shop", "certificate"), ("bank", "plain"), ("shop", "certificate"), ("bank", "plain")]


def test_a_certificate_of_a_disabled_account_or_from_a_wrong_network_is_nobodys(start, ca):
    daemon = start(auth="certificate")
    one, two = ca.make("disabled", client=True), ca.make("network", client=True)
    daemon.account("one", certificates=[one.fingerprint], disabled=True)
    daemon.account("two", certificates=[two.fingerprint], networks=["192.0.2.0/24"])
    for paper in (one, two):
        with session(daemon, paper) as raw:
            assert "EXTERNAL" not in offers(raw)
            assert raw.cmd(f"MAIL FROM:<{SENDER}>")[0] == 530


def test_two_accounts_share_no_certificate(start, ca):
    daemon = start(auth="certificate")
    both = ca.make("both", client=True, sans=["both.test"])
    daemon.account("one", certificates=[both.fingerprint])
    out = daemon.hayauma("account", "set", "two", "--certificate", both.file, code=1)
    daemon.account("two")
    daemon.hayauma("account", "set", "two", "--certificate", both.file, code=1)
    assert not out and daemon.json("account", "list")["accounts"][1]["certificates"] == []
    daemon.hayauma("account", "set", "two", "--certificate", "dns:both.test")  # another way to the same: nobody's
    with session(daemon, both) as raw:
        assert "EXTERNAL" in offers(raw)
        assert raw.cmd(f"MAIL FROM:<{SENDER}>")[0] == 530
        assert raw.cmd(EMPTY)[0] == 535
        assert raw.cmd(external("two"))[0] == 235
    wait_until(lambda: "certificate.ambiguous" in daemon.log(), what="the word of two accounts")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_listener_may_require_a_certificate(start, ca, tmp_path, version):
    daemon = start(client_certificates="require")
    known = ca.make("known", client=True, self_signed=True)
    vouched = ca.make("vouched", client=True)
    daemon.account("shop", certificates=[known.fingerprint])
    stranger = Authority(tmp_path / "s").make("stranger", client=True)

    def talks(paper):
        context = no_check(minimum=version, maximum=version)
        with Raw(daemon.address, daemon.port) as raw:
            raw.ok("EHLO client.example")
            try:
                raw.starttls(paper.show(context) if paper else context)
            except (ssl.SSLError, ConnectionResetError):
                return False
            try:
                return raw.cmd("EHLO client.example")[0] == 250
            except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
                return False

    assert talks(known) and talks(vouched)
    assert not talks(stranger) and not talks(None)
    wait_until(lambda: "client-certificate-refused" in daemon.log(), what="the refusal in the log")


def test_the_command_line_takes_files_and_fingerprints(start, ca):
    daemon = start()
    one, two = ca.make("file", client=True), ca.make("hex", client=True)
    openssl_form = ":".join(two.fingerprint[i:i + 2] for i in range(0, 64, 2)).upper()
    daemon.hayauma("account", "add", "shop", "--no-password", "--certificate", one.file, "--certificate", openssl_form)
    (shop,) = daemon.json("account", "list")["accounts"]
    assert shop["certificates"] == [f"sha256:{one.fingerprint}", f"sha256:{two.fingerprint}"] and not shop["has_password"]
    assert "2 certificates" in daemon.hayauma("account", "list")
    for paper in (one, two):
        with session(daemon, paper) as raw:
            assert "EXTERNAL" in offers(raw)
            empty = base64.b64encode(b"\0shop\0").decode()
            assert raw.cmd("AUTH PLAIN " + empty)[0] == 535
            assert raw.cmd("AUTH PLAIN " + base64.b64encode(b"\0shop\0x").decode())[0] == 535
    daemon.stop()
    daemon.start()
    assert daemon.json("account", "list")["accounts"] == [shop]
    daemon.hayauma("account", "passwd", "shop", stdin="correct horse\n")
    daemon.hayauma("account", "set", "shop", "--no-certificate")
    (shop,) = daemon.json("account", "list")["accounts"]
    assert shop["certificates"] == [] and shop["has_password"]
    daemon.hayauma("account", "set", "shop", "--no-password", code=1)
    daemon.hayauma("account", "set", "shop", "--certificate", "dns:", code=1)
    daemon.hayauma("account", "set", "shop", "--certificate", "sha256:abc", code=1)
    daemon.hayauma("account", "add", "empty", "--no-password", code=2)


def test_sessions_with_certificates_are_not_resumed_into_anonymity(start, ca):
    daemon = start()
    mine = ca.make("resumed", client=True)
    daemon.account("shop", certificates=[mine.fingerprint])
    context = mine.show(no_check())
    before = None
    for _ in range(2):
        with Raw(daemon.address, daemon.port) as raw:
            raw.ok("EHLO client.example")
            raw.ok("STARTTLS", 220)
            raw.file.close()
            raw.sock = context.wrap_socket(raw.sock, session=before)
            raw.file = raw.sock.makefile("rb")
            assert "EXTERNAL" in offers(raw)
            before = raw.sock.session
