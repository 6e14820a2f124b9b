"""The world itself: a test that trusts its receivers must know that they tell the truth."""

import smtplib
import ssl
import time

import pytest

from harness import MX_PORT, Raw, compose, no_check
from world import dns, net


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
