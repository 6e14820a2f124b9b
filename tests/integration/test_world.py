"""The world itself: a test that trusts its receivers must know that they tell the truth."""

import http.client
import smtplib
import ssl
import time

import pytest

from harness import MX_PORT, Raw, compose, no_check
from secure_world import SecureWorld, require_signed_world
from world import certs as world_certs
from world import dns, dnssec, net, sts


def client(address):
    return smtplib.SMTP(address, MX_PORT, local_hostname="c.example", timeout=10)


def test_a_receiver_keeps_what_it_got_octet_for_octet(world):
    here = world.receiver("r", keep_bodies=True)
    message_id, text = compose(body=".\r\n..\r\n...x\r\n" * 1000)
    with client(here) as c:
        c.starttls(context=no_check())
        assert c.sendmail("a@b.test", ["x@r.test", "y@r.test"], text) == {}
    assert world.seen.bodies[("r", message_id)] == text
    assert [(d.recipient, d.tls, d.message_id) for d in world.seen.deliveries] == [
        ("x@r.test", "TLSv1.3", message_id), ("y@r.test", "TLSv1.3", message_id)]


def test_clear_text_is_seen_as_clear_text(world):
    here = world.receiver("r", record=True)
    message_id, text = compose()
    with client(here) as c:
        c.sendmail("a@b.test", ["x@r.test"], text)
    assert [d.tls for d in world.seen.deliveries] == ["clear"]
    assert message_id.encode() in world.seen.transcripts["r"][0].raw


def test_inside_tls_nothing_is_readable(world):
    here = world.receiver("r", record=True)
    message_id, text = compose()
    with client(here) as c:
        c.starttls(context=no_check())
        c.sendmail("a@b.test", ["x@r.test"], text)
    raw = bytes(world.seen.transcripts["r"][0].raw)
    assert b"STARTTLS" in raw and b"MAIL" not in raw and message_id.encode() not in raw


def test_refusals_greylisting_and_chunks(world):
    here = world.receiver("r", greylist_s=0.3, keep_bodies=True)
    with Raw(here, MX_PORT) as raw:
        raw.ok("EHLO c.example")
        raw.ok("MAIL FROM:<a@b.test>")
        assert raw.cmd("RCPT TO:<unknown1@r.test>")[0] == 550
        assert raw.cmd("RCPT TO:<x@r.test>")[0] == 450
        time.sleep(0.4)
        raw.ok("RCPT TO:<x@r.test>")
        raw.send(b"BDAT 5\r\nA: b\rBDAT 8 LAST\r\n\n\r\n.\r\n\r\n")
        assert raw.reply()[0] == 250 and raw.reply()[0] == 250
    assert [r.code for r in world.seen.refusals] == [550, 450]
    assert [b for b in world.seen.bodies.values()] == [b"A: b\r\n\r\n.\r\n\r\n"]


@pytest.mark.parametrize("cert, error", [("expired", "expired"), ("self_signed", "self"), ("unknown_ca", "self-signed certificate in certificate chain"),
                                         ("wrong_name", "Hostname"), ("good", None)])
def test_certificates_are_bad_in_the_way_they_say(world, certs, cert, error):
    here = world.receiver("r", cert=cert)
    context = ssl.create_default_context(cafile=str(certs.ca_file))
    with Raw(here, MX_PORT) as raw:
        raw.ok("EHLO c.example")
        raw.ok("STARTTLS", 220)
        if error:
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                context.wrap_socket(raw.sock, server_hostname="mx.r.test")
            assert error in str(caught.value)
        else:
            context.wrap_socket(raw.sock, server_hostname="mx.r.test").close()


@pytest.mark.parametrize("how", ["garbage", "close", "alert"])
def test_a_broken_handshake_is_broken(world, how):
    here = world.receiver("r", starttls_break=how)
    with Raw(here, MX_PORT) as raw:
        raw.ok("EHLO c.example")
        raw.send(b"STARTTLS\r\n")
        raw.file.readline()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            no_check().wrap_socket(raw.sock)


@pytest.mark.serial
def test_a_thousand_pipelined_messages_take_a_moment(world):
    here = world.receiver("r")
    _, text = compose()
    one = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<x@r.test>\r\nDATA\r\n"
    start = time.monotonic()
    with Raw(here, MX_PORT) as raw:
        raw.ok("EHLO c.example")
        for _ in range(1000):
            raw.send(one)
            assert [raw.reply()[0] for _ in range(3)] == [250, 250, 354]
            raw.send(text + b".\r\n")
            assert raw.reply()[0] == 250
    assert len(world.seen.deliveries) == 1000
    assert time.monotonic() - start < 3


def test_the_scripted_name_server_answers_and_fails_as_told(world):
    d = world.dns
    d.mx("a.test", "10 mx.a.test").fail("b.test", "MX", "SERVFAIL")
    assert dns.ask(d.address, d.port, "a.test", "MX") == ["10 mx.a.test."]
    assert dns.ask(d.address, d.port, "b.test", "MX") == []
    assert d.asked("a.test", "MX")


def test_a_black_hole_lets_connects_hang():
    import socket
    n = net.Net()
    hole = net.BlackHole(n.address(), 2526)
    try:
        with socket.socket() as s:
            s.settimeout(1)
            with pytest.raises((TimeoutError, BlockingIOError)):
                s.connect((n.address(2), 2526))
    finally:
        hole.stop()
        n.release()


# ---- signed names ----

@pytest.fixture(scope="module")
def signed(tmp_path_factory, certs):
    require_signed_world()
    w = SecureWorld(tmp_path_factory.mktemp("signed"), certs)
    try:
        records = ("a MX 10 mx.a", "mx.a A 127.0.0.1", "_25._tcp.mx.a TLSA 3 1 1 " + "ab" * 32)
        w.zone("sec.test").add(*records, "b A 127.0.0.1", "c CNAME mx.a.ins.test.").flip("b", "A")
        w.zone("nsec3.test", nsec3=True).add(*records)
        w.zone("ins.test", "unsigned").add(*records)
        w.zone("bogus.test", "bogus").add(*records)
        w.zone("stale.test", "stale").add(*records)
        yield w.start()
    finally:
        w.stop()


@pytest.mark.xdist_group("signed")
@pytest.mark.parametrize("name, kind, code, ad", [
    ("a.sec.test", "MX", "NOERROR", True), ("_25._tcp.mx.a.sec.test", "TLSA", "NOERROR", True), ("mx.a.sec.test", "AAAA", "NOERROR", True),
    ("nothing.sec.test", "TLSA", "NXDOMAIN", True), ("nothing.nsec3.test", "TLSA", "NXDOMAIN", True), ("a.nsec3.test", "MX", "NOERROR", True),
    ("b.sec.test", "A", "SERVFAIL", False), ("c.sec.test", "CNAME", "NOERROR", True), ("c.sec.test", "A", "NOERROR", False),
    ("a.ins.test", "MX", "NOERROR", False), ("_25._tcp.mx.a.ins.test", "TLSA", "NOERROR", False), ("nothing.ins.test", "A", "NXDOMAIN", False),
    ("a.bogus.test", "MX", "SERVFAIL", False), ("a.stale.test", "MX", "SERVFAIL", False), ("nothing.test", "MX", "NXDOMAIN", True),
    (".", "DNSKEY", "NOERROR", True)])
def test_what_is_signed_is_found_to_be_signed(signed, name, kind, code, ad):
    assert dnssec.ask(signed.dns.address, signed.dns.port, name, kind, 5) == (code, ad)


@pytest.mark.xdist_group("signed")
def test_the_front_lies_about_one_answer_and_passes_on_the_rest(signed):
    here = signed.dns.address, signed.dns.port
    signed.dns.fail("_25._tcp.mx.a.sec.test", "TLSA", "SERVFAIL")
    try:
        assert dnssec.ask(*here, "_25._tcp.mx.a.sec.test", "TLSA", 5) == ("SERVFAIL", False)
        assert dnssec.ask(*here, "mx.a.sec.test", "A", 5) == ("NOERROR", True)
        signed.dns.without_ad = True
        assert dnssec.ask(*here, "mx.a.sec.test", "A", 5) == ("NOERROR", False)
    finally:
        signed.dns.faults.clear()
        signed.dns.without_ad = False
    assert signed.dns.asked("_25._tcp.mx.a.sec.test", "TLSA")


# ---- certificates, and who shows them ----

def shown(address, name="mx.r.test", context=None):
    """The TLS session that a client gets there."""
    raw = Raw(address, MX_PORT)
    raw.ok("EHLO c.example")
    raw.ok("STARTTLS", 220)
    return (context or no_check()).wrap_socket(raw.sock, server_hostname=name)


@pytest.mark.parametrize("cert, error", [
    ("chain", None), ("chain_without_root", None), ("rsa", None), ("wildcard", None), ("not_yet_valid", "not yet valid"),
    ("wildcard_two", "Hostname"), ("wildcard_part", "Hostname"), ("cn_only", "Hostname"), ("sha1", "digest"), ("weak", "too small|key"),
    ("ca_false", "invalid CA"), ("path_too_long", "path length"), ("not_for_servers", "purpose"), ("chain_expired", "expired"),
    ("chain_unrelated", "self-signed"), ("chain_ca_false", "invalid CA")])
def test_more_certificates_are_bad_in_the_way_they_say(world, certs, cert, error):
    here = world.receiver("r", cert=cert)
    context = ssl.create_default_context(cafile=str(certs.ca_file))
    context.set_ciphers("DEFAULT:@SECLEVEL=2")
    context.hostname_checks_common_name = False
    if error:
        with pytest.raises(ssl.SSLError, match=f"(?i){error}"):
            shown(here, context=context)
    else:
        shown(here, context=context).close()


def test_a_long_chain_and_a_large_certificate_are_what_they_say(certs):
    assert len(world_certs.load(certs.hundred("mx.r.test")[0])) == 100
    assert len(world_certs.load(certs.huge("mx.r.test")[0])[0].public_bytes(world_certs.DER)) > 1 << 20


def test_the_certificate_is_chosen_by_the_name_asked_for(world, certs):
    pair = certs.good("other.test")
    here = world.receiver("r", sni={"other.test": pair})
    for name, file in (("mx.r.test", certs.good("mx.r.test")[0]), ("other.test", pair[0])):
        with shown(here, name) as tls:
            assert tls.getpeercert(True) == world_certs.load(file)[0].public_bytes(world_certs.DER)


@pytest.mark.parametrize("show", [True, False])
def test_a_client_that_is_asked_may_show_a_certificate(world, certs, show):
    here = world.receiver("r", client_ca=str(certs.ca_file))
    context = no_check()
    if show:
        context.load_cert_chain(*certs.client("sender.example"))
    with client(here) as c:
        c.starttls(context=context)
        c.sendmail("a@b.test", ["x@r.test"], compose()[1])
    assert world.seen.deliveries[0].client == ("sender.example" if show else "")


def test_requiretls_is_offered_in_tls_and_seen_on_mail(world):
    here = world.receiver("r", requiretls=True)
    with client(here) as c:
        c.ehlo()
        assert not c.has_extn("requiretls")
        c.starttls(context=no_check())
        c.ehlo()
        assert c.has_extn("requiretls")
        c.sendmail("a@b.test", ["x@r.test"], compose()[1], ["REQUIRETLS"])
    assert "REQUIRETLS" in world.seen.deliveries[0].parameters


def test_policy_hosts_have_manners_of_their_own(certs):
    n = net.Net()
    hosts = sts.PolicyHosts(n.address())
    try:
        hosts.add("a.test", sts.Site(sts.policy(mx=["mx.a.test"]), cert=certs.good("mta-sts.a.test")))
        hosts.add("b.test", sts.Site(status=404, cert=certs.expired("mta-sts.b.test")))
        assert fetch(certs, hosts, "a.test") == (200, b"version: STSv1\r\nmode: enforce\r\nmx: mx.a.test\r\nmax_age: 86400\r\n")
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            fetch(certs, hosts, "b.test")
        with pytest.raises(ssl.SSLError):
            fetch(certs, hosts, "c.test")
        assert (hosts.asked("a.test"), hosts.asked("b.test")) == (1, 0)
    finally:
        hosts.stop()
        n.release()


def fetch(certs, hosts, domain):
    context = ssl.create_default_context(cafile=str(certs.ca_file))
    connection = http.client.HTTPConnection(hosts.address, hosts.port, timeout=10)
    connection.connect()
    connection.sock = context.wrap_socket(connection.sock, server_hostname=f"mta-sts.{domain}")
    connection.request("GET", sts.PATH, headers={"Host": f"mta-sts.{domain}"})
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        connection.close()
