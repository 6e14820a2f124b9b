"""
The decision table against receivers that other people wrote: every level × every kind of receiver, with Postfix and with Exim.
What happened is asked on both sides: our history, and the Received field that the receiver wrote.
"""

import dataclasses
import itertools
import os
import re

import pytest

from harness import HOURLY, MX_PORT, PATIENCE, group, wait_until
from secure_world import SecureWorld, leaf, require_signed_world
from world import servers, sts
from world.certs import tlsa

KINDS = {"postfix": servers.Postfix, "exim": servers.Exim}
LEVELS = {
    "off": dict(starttls="off", dane="off", mta_sts="off"),
    "on": dict(starttls="on", dane="off", mta_sts="off"),
    "require": dict(starttls="require", dane="off", mta_sts="off"),
    "verify": dict(starttls="verify", dane="off", mta_sts="off"),
    "dane-try": dict(starttls="on", dane="try", mta_sts="off"),
    "dane-only": dict(starttls="on", dane="only", mta_sts="off"),
    "mta-sts": dict(starttls="on", dane="off", mta_sts="try"),
}


@dataclasses.dataclass(frozen=True)
class Case:
    face: str  # which of the server's addresses: good, wrong-name, self-signed, no-starttls
    tlsa: bool = False  # the host has a record that fits the self-signed certificate
    mode: str = ""  # of the domain's MTA-STS policy


CASES = {
    "good": Case("good"), "wrong-name": Case("wrong-name"), "self-signed": Case("self-signed"), "no-starttls": Case("no-starttls"),
    "tlsa-match": Case("self-signed", tlsa=True), "tlsa-mismatch": Case("good", tlsa=True),
    "tlsa-no-starttls": Case("no-starttls", tlsa=True), "sts-enforce": Case("good", mode="enforce"),
    "sts-enforce-wrong": Case("wrong-name", mode="enforce"), "sts-enforce-clear": Case("no-starttls", mode="enforce"),
    "sts-none": Case("wrong-name", mode="none")}
CELLS = list(itertools.product(KINDS, LEVELS, CASES))
VERDICT = {"good": "verified-pkix", "wrong-name": "wrong-name", "self-signed": "self-signed"}


def host_of(kind, case):
    return f"{case}.{kind}.sec.test"


def domain(kind, level, case):
    return f"{case}.{level}.{kind}.sec.test"


def expected(level, case):
    """("tls", verdict), ("clear", "none") or (code that the mail waits with, None)"""
    c = CASES[case]
    if level == "off":
        return "clear", "none"
    if level == "dane-only" and not c.tlsa or level.startswith("dane") and c.tlsa and c.face == "good":
        return "4.7.5", None
    strict = level in ("require", "verify") or level.startswith("dane") and c.tlsa or level == "mta-sts" and c.mode == "enforce"
    if c.face == "no-starttls":
        return ("4.7.4", None) if strict else ("clear", "none")
    if level.startswith("dane") and c.tlsa:
        return "tls", "verified-dane"
    if c.face != "good" and (level == "verify" or level == "mta-sts" and c.mode == "enforce"):
        return "4.7.5", None
    return "tls", VERDICT[c.face]


class RealWorld(SecureWorld):
    """The signed world with one Postfix and one Exim in place of scripted receivers."""

    def __init__(self, folder, certs):
        super().__init__(folder, certs)
        self.servers = {}

    def serve(self, kind):
        hosts = [host_of(kind, c) for c in CASES]
        pairs = {"wrong-name": self.certs.good(f"elsewhere.{kind}.test"), "self-signed": self.certs.self_signed(*hosts),
                 "no-starttls": None}
        faces = {face: self.net.address() for face in pairs}
        good, pairs["good"] = self.net.address(), self.certs.good(*hosts)
        self.servers[kind] = KINDS[kind](f"matrix-{os.getpid()}", good, MX_PORT, f"mx.{kind}.sec.test", pairs["good"],
                                         faces=[(faces[face], pairs[face]) for face in faces]).start()
        faces["good"] = good
        return faces, pairs

    def stop(self, check=True):
        try:
            super().stop(check)
        finally:
            for server in self.servers.values():
                server.stop()

    def arrived(self):
        """By recipient, the Received field that the server wrote."""
        found = {}
        for server in self.servers.values():
            for message in server.messages():
                to = message["Delivered-To"] or message["Envelope-To"]
                assert to not in found, f"{to} got two copies"
                found[to] = message.get_all("Received")[0]
        return found


@pytest.fixture(scope="module")
def matrix(tmp_path_factory, certs):
    require_signed_world()
    reason = servers.jail_works()
    if reason:
        pytest.skip(reason)
    world = RealWorld(tmp_path_factory.mktemp("real"), certs)
    try:
        zone = world.zone("sec.test")
        for kind in KINDS:
            faces, pairs = world.serve(kind)
            for name, case in CASES.items():
                host = host_of(kind, name)
                zone.add(f"{host}. A {faces[case.face]}")
                if case.tlsa:
                    zone.add(f"_{MX_PORT}._tcp.{host}. TLSA {tlsa(leaf(pairs['self-signed']), 3, 1, 1)}")
                for level in LEVELS:
                    d = domain(kind, level, name)
                    zone.add(f"{d}. MX 10 {host}.")
                    if case.mode and level == "mta-sts":
                        world.policy(d, sts.policy(case.mode, [host]), zone=zone)
        world.start()
        daemon = world.daemon(
            *[group(level, [f".{level}.{kind}.sec.test" for kind in KINDS], retry=HOURLY, tls={"ca_file": str(certs.ca_file)},
                    **rules) for level, rules in LEVELS.items()],
            dns={"timeout": "2s", "total_timeout": f"{int(6 * PATIENCE)}s"})
        domains = [domain(*cell) for cell in CELLS]
        daemon.send(*[f"user@{d}" for d in domains])
        sent = sum(expected(*cell[1:])[0] in ("tls", "clear") for cell in CELLS)
        wait_until(lambda: daemon.totals()["delivered"] >= sent and all(r["attempts"] for r in daemon.queued()), 40, "every outcome")
        wait_until(lambda: sum(s.count() for s in world.servers.values()) >= sent, 20, "every copy in its mailbox")
        world.got_fields = world.arrived()
        world.attempts = {d: daemon.api(f"/api/v1/explain/{d}")["attempts"] for d in domains}
        yield world
    finally:
        world.stop()


@pytest.mark.xdist_group("real-matrix")
@pytest.mark.parametrize("kind, level, case", CELLS)
def test_cell(matrix, kind, level, case):
    what, verdict = expected(level, case)
    d = domain(kind, level, case)
    field, attempts = matrix.got_fields.get(f"user@{d}"), matrix.attempts[d]
    assert attempts, "no attempt was recorded"
    seen = {k: attempts[0].get(k) for k in ("outcome", "enhanced", "text", "tls_version", "tls_effective", "tls_verify", "dane", "sts")}
    if what not in ("tls", "clear"):
        assert not field and seen["enhanced"] == what, seen
        return
    assert field, seen
    at_theirs = re.search(r"using TLSv(1\.\d) with cipher|esmtps +\(TLS(1\.\d)\)", field)
    version = f"TLS{at_theirs[1] or at_theirs[2]}" if at_theirs else None
    assert (version is not None) == (what == "tls"), (field, seen)
    assert version == seen["tls_version"] and seen["tls_verify"] == verdict, (field, seen)


@pytest.mark.xdist_group("real-matrix")
def test_the_ledger_has_the_sums_of_the_matrix(matrix):
    """Counted by the receivers, and by `report tls`."""
    rows = {r["group"]: r for r in matrix.daemons[0].json("report", "tls", "--by", "group")["rows"]}
    for level in LEVELS:
        fields = [f for to, f in matrix.got_fields.items() if f".{level}." in to]
        encrypted = [f for f in fields if re.search(r"using TLS|esmtps", f)]
        row = rows[level]
        assert (row["delivered"], row["tls13"] + row["tls12"]) == (len(fields), len(encrypted)), level
        assert row["held_for_tls"] == 2 * len(CASES) - len(fields), level
