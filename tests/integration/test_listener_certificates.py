"""Listeners' own certificates: chosen by name, renewed while mail flows, complained about before their end."""

import os
import re
import ssl
import time

import pytest

from harness import Raw, no_check, wait_until
from papers import DAY, Authority


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"), "Server CA")


def shown(daemon, name=None, ciphers=None, port=None):
    """The certificate that a client sees who asks for this name."""
    context = no_check()
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    with Raw(daemon.address, port or daemon.port) as raw:
        raw.ok("EHLO client.example")
        raw.ok("STARTTLS", 220)
        raw.file.close()
        raw.sock = context.wrap_socket(raw.sock, server_hostname=name)
        raw.file = raw.sock.makefile("rb")
        raw.ok("EHLO client.example")
        import hashlib
        return hashlib.sha256(raw.sock.getpeercert(True)).hexdigest()


def test_a_certificate_is_chosen_by_the_name_that_the_client_asks_for(world, ca):
    first = ca.make("first", ["mail.one.test"])
    second = ca.make("second", ["mail.two.test", "*.wild.test"])
    renamed = ca.make("renamed", ["elsewhere.test"])
    daemon = world.daemon(tls={**first.pair, "certificates": [second.pair, {**renamed.pair, "names": ["mail.three.test", "*.four.test"]}]})
    for name, paper in [(None, first), ("mail.one.test", first), ("mail.two.test", second), ("MAIL.Two.Test", second),
                        ("a.wild.test", second), ("a.b.wild.test", first), ("wild.test", first), ("mail.three.test", renamed),
                        ("x.four.test", renamed), ("elsewhere.test", first), ("unknown.test", first)]:
        assert shown(daemon, name) == paper.fingerprint, name


def test_a_name_with_two_kinds_of_key_serves_every_client(world, ca):
    ec = ca.make("two-ec", ["mail.two.test"])
    rsa = ca.make("two-rsa", ["mail.two.test", "more.test"], rsa_key=True)
    daemon = world.daemon(tls={**ec.pair, "certificates": [rsa.pair]})
    assert shown(daemon, "mail.two.test", "ECDHE-ECDSA-AES256-GCM-SHA384") == ec.fingerprint
    assert shown(daemon, "mail.two.test", "ECDHE-RSA-AES256-GCM-SHA384") == rsa.fingerprint


def test_a_certificate_may_belong_to_one_listener(world, ca):
    all_, some = ca.make("all", ["all.test"]), ca.make("some", ["some.test"])
    daemon = world.daemon(start=False)
    daemon.config["tls"] = {**all_.pair, "certificates": [{**some.pair, "listeners": [f"{daemon.address}:{daemon.open_port}"]}]}
    daemon.start()
    assert shown(daemon, "some.test") == all_.fingerprint
    assert shown(daemon, "some.test", port=daemon.open_port) == some.fingerprint


def test_each_listener_has_its_own_minimum_version_and_priority(world):
    daemon = world.daemon(start=False)
    daemon.config["listeners"][0]["min_version"] = "1.3"
    daemon.config["listeners"][1]["priority"] = "NORMAL:-VERS-ALL:+VERS-TLS1.2"
    daemon.start()

    def version(port, **limits):
        with Raw(daemon.address, port) as raw:
            raw.ok("EHLO client.example")
            try:
                raw.starttls(no_check(**limits))
            except (ssl.SSLError, ConnectionResetError):
                return None
            return raw.sock.version()

    assert version(daemon.port) == "TLSv1.3" and version(daemon.port, maximum=ssl.TLSVersion.TLSv1_2) is None
    assert version(daemon.open_port) == "TLSv1.2" and version(daemon.open_port, minimum=ssl.TLSVersion.TLSv1_3) is None


def test_a_renewed_pair_is_loaded_without_a_word_and_a_broken_one_is_not(world, ca, tmp_path):
    live = ca.make("live-1", ["live.test"], into=tmp_path / "live")
    old = live.fingerprint
    daemon = world.daemon(tls=live.pair)
    assert shown(daemon) == old
    with open(live.key, "w") as f:  # a renewal that stopped half-way
        f.write(open(ca.make("other", ["other.test"]).key).read())
    wait_until(lambda: "certificate.not_renewed" in daemon.log(), 25, "the complaint")
    assert "is not the key of the certificate" in daemon.log() and shown(daemon) == old
    new = ca.make("live-2", ["live.test"], into=tmp_path / "live")
    wait_until(lambda: shown(daemon) == new.fingerprint, 25, "the renewed certificate", step=0.5)
    assert daemon.log().count("certificate.not_renewed") == 1


@pytest.mark.parametrize("how, what, level", [
    ({"end": 28.5 * DAY}, "expires in 28 days", "warn"), ({"end": 19.5 * DAY / 24}, "expires in 19 hours", "warn"),
    ({"start": -400 * DAY, "end": -3.5 * DAY}, "expired 3 days ago", "error"), ({"start": 3 * DAY}, "not valid yet", "error"),
    ({"revoke": True}, "is revoked", "error"), ({"end": 31 * DAY}, None, None)])
def test_what_is_wrong_with_a_certificate_is_said(world, tmp_path, how, what, level):
    ca = Authority(tmp_path / "ca")
    how = dict(how)
    revoke = how.pop("revoke", False)
    paper = ca.make("aging", ["aging.test"], **how)
    tls = {**paper.pair, **({"crl": ca.revoke(paper)} if revoke else {})}
    daemon = world.daemon(tls=tls)
    status = daemon.json("status")
    certificates = status["listeners"][0]["certificates"]
    assert [c["file"] for c in certificates] == [paper.file] and certificates[0]["name"] == "aging.test"
    assert certificates[0]["revoked"] == revoke
    seconds = re.search(r'hayauma_certificate_expires_seconds\{listener="[^"]*:2587",name="aging.test",file="[^"]*"\} (-?\d+)',
                        daemon.api("/metrics"))
    assert abs(int(seconds[1]) - (certificates[0]["expires_unix"] - time.time())) < 60
    if not what:
        assert certificates[0]["problem"] is None and "certificate." not in daemon.log()
        assert "!" not in daemon.hayauma("status").splitlines()[0]
        return
    assert what in certificates[0]["problem"] and what in daemon.hayauma("status")
    word = {"warn": "certificate.warning", "error": "certificate.bad"}[level]
    wait_until(lambda: word in daemon.log(), what="the word in the log")
    assert any(word in line and what in line and "aging.test" in line for line in daemon.log().splitlines())


def test_a_certificate_that_does_not_fit_its_key_keeps_the_daemon_from_starting(world, ca):
    one, two = ca.make("fit-one", ["one.test"]), ca.make("fit-two", ["two.test"])
    daemon = world.daemon(start=False, tls={"certificate": one.file, "key": two.key})
    daemon.start(wait=False)
    assert daemon.process.wait(20) != 0
    assert f"{two.key} is not the key of the certificate {one.file}" in daemon.log()


def test_errors_in_the_configuration_are_named(world, ca):
    paper = ca.make("named", ["named.test"])
    daemon = world.daemon(start=False)
    daemon.config["tls"] = {**paper.pair, "certificates": [{**paper.pair, "listeners": ["192.0.2.1:25"]}, {**paper.pair, "names": ["not a name"]}]}
    daemon.config["listeners"][0].update(client_ca=str(ca.file), auth="certificate", priority="NONSENSE")
    daemon.start(wait=False)
    assert daemon.process.wait(20) != 0
    log = daemon.log()
    for text in ("no listener has the address '192.0.2.1:25'", "expected a host name, or one that begins with *.",
                 "client_ca has no meaning with client_certificates: off", "auth: certificate needs client_certificates",
                 "GnuTLS does not understand this"):
        assert text in log, log
    assert os.path.exists(paper.file)
