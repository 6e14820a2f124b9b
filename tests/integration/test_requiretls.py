"""REQUIRETLS and TLS-Required: No as applications hand them in (RFC 8689): taken, shown, and kept over a restart."""

import ssl
import smtplib
import time

import pytest

from harness import SENDER, Raw, compose, no_check, wait_until


@pytest.fixture
def daemon(world):
    return world.daemon()


def hand_in(daemon, to, options=(), headers=(), tls=True):
    with daemon.client(daemon.open_port) as client:
        if tls:
            client.starttls(context=no_check())
        client.ehlo()
        later = f"X-Hayauma-Schedule: {int(time.time()) + 86400}"  # it stays where it can be looked at
        client.sendmail(SENDER, [to], compose([to], headers=[later, *headers])[1], options)


def flags(daemon, to):
    (recipient,) = wait_until(lambda: daemon.queued(recipient=to), what=f"{to} in the queue")
    return set(daemon.api(f"/api/v1/queue/messages/{recipient['message']}")["flags"]), recipient["message"]


def test_what_a_message_asks_of_tls_is_kept_and_shown(daemon):
    hand_in(daemon, "plain@p.test")
    hand_in(daemon, "must@p.test", ["REQUIRETLS"], ["TLS-Required: No"])
    hand_in(daemon, "need-not@p.test", headers=["TLS-Required: no"])
    hand_in(daemon, "twice@p.test", headers=["TLS-Required: No", "TLS-Required: No"])
    want = {"plain@p.test": set(), "must@p.test": {"requiretls"}, "need-not@p.test": {"tls-required-no"}, "twice@p.test": set()}
    for _ in range(2):
        for to, expected in want.items():
            got, message = flags(daemon, to)
            assert got & {"requiretls", "tls-required-no"} == expected, to
            for word in expected:
                assert word in daemon.hayauma("queue", "show", message)
        daemon.kill()
        daemon.start()


def test_the_parameter_is_refused_in_clear(daemon):
    with Raw(daemon.address, daemon.open_port) as raw:
        assert "REQUIRETLS" not in raw.ok("EHLO client.example")
        code, text = raw.cmd(f"MAIL FROM:<{SENDER}> REQUIRETLS")
        assert code == 530 and text.startswith("5.7.10")
        raw.starttls()
        assert "REQUIRETLS" in raw.ok("EHLO client.example").split()
    with pytest.raises(smtplib.SMTPSenderRefused):
        hand_in(daemon, "a@p.test", ["REQUIRETLS"], tls=False)
    assert daemon.queued() == [] and ssl.HAS_TLSv1_3
