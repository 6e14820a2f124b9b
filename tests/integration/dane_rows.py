"""
The cases of DANE (RFC 7672, RFC 7671), as rows: what stands in DNS, what the server presents, and what follows from the
two.  test_dane.py delivers to each of them; judges (Postfix, OpenSSL) are asked about the same hosts.
"""

import dataclasses
import hashlib

from world import certs as world_certs
from world.certs import tlsa

PORT = 2526


@dataclasses.dataclass(frozen=True)
class Case:
    """
    `records` makes the TLSA texts from (chain as it is presented, the world's Certs).  `state` is what a sender must find:

        match      a record holds                       mismatch   records, and none holds
        half       a record holds, the MX is unsigned   bogus      the lookup fails: the host must not be used
        unusable   signed records, none usable          none       no DANE for this host
    """

    name: str
    state: str
    records: object = None  # function, or None: no TLSA records
    cert: str = "good"
    verify: str = "wrong-name"  # what PKIX says of the certificate, where DANE does not speak
    zone: str = "sec.test"
    names: object = None  # function of (MX host, domain): names in the certificate; the MX host by itself
    dns: str = ""  # alias-…, insecure-mx, mx-bogus, …: see test_dane.py
    offers: dict = dataclasses.field(default_factory=dict)  # Personality of the receiver


def ee(selector, matching, usage=3, at=0):
    return lambda chain, certs: [tlsa(chain[at], usage, selector, matching)]


def ta(selector, matching, at):
    return ee(selector, matching, 2, at)


def other(usage=3, selector=1, matching=1):
    """A record that speaks of somebody else."""
    digest = {1: hashlib.sha256, 2: hashlib.sha512}[matching](b"somebody else").hexdigest()
    return lambda chain, certs: [f"{usage} {selector} {matching} {digest}"]


def all_of(*makers):
    return lambda chain, certs: [text for m in makers for text in m(chain, certs)]


def text(*texts):
    return lambda chain, certs: list(texts)


def root_of_world(selector, matching):
    return lambda chain, certs: [tlsa(certs.root.cert, 2, selector, matching)]


def fifty(chain, certs):
    return [f"3 1 2 {hashlib.sha512(b'%d' % i).hexdigest()}" for i in range(49)] + [tlsa(chain[0], 3, 1, 2)]


def elsewhere(host, domain):
    return ["elsewhere.test"]


def next_hop(host, domain):
    return [domain]


CASES = [
    # ---- usage 3: the certificate or its key; names, dates and authorities say nothing (RFC 7672 §3.1.1) ----
    Case("ee-311", "match", ee(1, 1)),
    Case("ee-310", "match", ee(1, 0)),
    Case("ee-312", "match", ee(1, 2)),
    Case("ee-300", "match", ee(0, 0)),
    Case("ee-301", "match", ee(0, 1)),
    Case("ee-302", "match", ee(0, 2)),
    Case("ee-nsec3", "match", ee(1, 1), zone="nsec3.test"),
    Case("ee-expired", "match", ee(1, 1), cert="expired"),
    Case("ee-not-yet-valid", "match", ee(1, 1), cert="not_yet_valid"),
    Case("ee-wrong-name", "match", ee(1, 1), names=elsewhere),
    Case("ee-self-signed", "match", ee(0, 1), cert="self_signed"),
    Case("ee-unknown-ca", "match", ee(1, 1), cert="unknown_ca"),
    Case("ee-no-server-purpose", "match", ee(1, 1), cert="not_for_servers"),
    Case("ee-tls12", "match", ee(1, 1), offers=dict(tls_max="TLSv1.2")),
    Case("ee-other", "mismatch", other()),
    Case("ee-other-full", "mismatch", lambda chain, certs: [tlsa(certs.root.cert, 3, 0, 0)]),
    Case("ee-of-the-authority", "mismatch", lambda chain, certs: [tlsa(certs.root.cert, 3, 1, 1)], cert="chain"),
    Case("ee-rollover", "match", all_of(other(), ee(1, 1))),
    Case("ee-fifty", "match", fifty),
    # ---- usage 2: a path to the anchor, with dates, CA flags and a name (§3.1.2, §3.2.2) ----
    Case("ta-201-root", "match", ta(0, 1, 2), cert="chain"),
    Case("ta-211-root", "match", ta(1, 1, 2), cert="chain"),
    Case("ta-212-root", "match", ta(1, 2, 2), cert="chain"),
    Case("ta-211-intermediate", "match", ta(1, 1, 1), cert="chain"),
    Case("ta-202-intermediate", "match", ta(0, 2, 1), cert="chain_without_root"),
    Case("ta-200-root-in-dns-alone", "match", root_of_world(0, 0), cert="chain_without_root"),
    Case("ta-200-signer-in-dns-alone", "match", root_of_world(0, 0)),
    Case("ta-210-bare-key", "match", root_of_world(1, 0), cert="chain_without_root"),
    Case("ta-211-not-presented", "mismatch", root_of_world(1, 1), cert="chain_without_root"),
    Case("ta-shuffled-chain", "match", ta(1, 1, 1), cert="chain_shuffled"),
    Case("ta-next-hop-name", "match", ta(1, 1, 1), cert="chain", names=next_hop),
    Case("ta-wrong-name", "mismatch", ta(1, 1, 1), cert="chain", names=elsewhere),
    Case("ta-expired-leaf", "mismatch", ta(1, 1, 1), cert="chain_expired"),
    Case("ta-unrelated-chain", "mismatch", ta(1, 1, 2), cert="chain_unrelated"),
    Case("ta-signer-is-no-authority", "mismatch", ta(1, 1, 2), cert="chain_ca_false"),
    Case("ta-of-the-leaf", "mismatch", ta(1, 1, 0), cert="good"),
    Case("ta-other", "mismatch", other(2), cert="chain"),
    Case("mixed-ee-holds", "match", all_of(other(2), ee(1, 1)), cert="chain"),
    Case("mixed-ta-holds", "match", all_of(other(3), ta(1, 1, 1)), cert="chain"),
    Case("mixed-none-holds", "mismatch", all_of(other(3), other(2)), cert="chain"),
    # ---- digest agility: only the strongest counts among equals (RFC 7671 §9) ----
    Case("agility-512-wrong", "mismatch", all_of(ee(1, 1), other(3, 1, 2))),
    Case("agility-512-right", "match", all_of(other(3, 1, 1), ee(1, 2))),
    Case("agility-by-usage", "match", all_of(ee(1, 1), other(2, 1, 2)), cert="chain"),
    # ---- records that cannot be used (§3.1.3, RFC 7671 §4) ----
    Case("pkix-ta-0", "unusable", lambda chain, certs: [tlsa(chain[1], 0, 1, 1)], cert="chain", verify="verified-pkix"),
    Case("pkix-ee-1", "unusable", lambda chain, certs: [tlsa(chain[0], 1, 1, 1)], verify="verified-pkix"),
    Case("pkix-ee-1-bad-cert", "unusable", lambda chain, certs: [tlsa(chain[0], 1, 1, 1)], cert="self_signed", verify="self-signed"),
    Case("usage-4", "unusable", text("4 1 1 " + "ab" * 32), verify="verified-pkix"),
    Case("usage-255", "unusable", text("255 1 1 " + "ab" * 32), verify="verified-pkix"),
    Case("selector-2", "unusable", text("3 2 1 " + "ab" * 32), verify="verified-pkix"),
    Case("matching-3", "unusable", text("3 1 3 " + "ab" * 32), verify="verified-pkix"),
    Case("sha256-too-short", "unusable", text("3 1 1 " + "ab" * 31), verify="verified-pkix"),
    Case("sha512-too-long", "unusable", text("3 1 2 " + "ab" * 65), verify="verified-pkix"),
    Case("full-but-no-certificate", "unusable", text("3 0 0 " + "ab" * 300), verify="verified-pkix"),
    Case("unusable-beside-usable", "match", all_of(text("3 1 1 " + "ab" * 31, "1 1 1 " + "ab" * 32), ee(1, 1))),
    Case("unusable-beside-wrong", "mismatch", all_of(text("0 1 1 " + "ab" * 32), other())),
    Case("unusable-no-starttls", "unusable", text("1 1 1 " + "ab" * 32), offers=dict(tls="none"), verify="none"),
    Case("unusable-broken", "unusable", text("1 1 1 " + "ab" * 32), offers=dict(starttls_break="garbage"), verify="none"),
    # ---- servers that do not live up to their records ----
    Case("match-no-starttls", "mismatch", other(), offers=dict(tls="none")),
    Case("match-refused", "mismatch", other(), offers=dict(starttls_reply="454 4.7.0 not now")),
    Case("match-broken", "mismatch", other(), offers=dict(starttls_break="garbage")),
    Case("match-closes", "mismatch", other(), offers=dict(starttls_break="close")),
    Case("match-tls10", "mismatch", other(), offers=dict(tls_min="TLSv1", tls_max="TLSv1")),
    # ---- what DNS says instead ----
    Case("no-records", "none", verify="verified-pkix"),
    Case("no-records-bad-cert", "none", cert="self_signed", verify="self-signed"),
    Case("no-records-no-starttls", "none", offers=dict(tls="none"), verify="none"),
    Case("nsec3-no-records", "none", zone="nsec3.test", verify="verified-pkix"),
    Case("empty-nonterminal", "none", dns="nodata", verify="verified-pkix"),
    Case("unsigned-zone", "none", other(), zone="ins.test", verify="verified-pkix"),
    Case("tlsa-bogus", "bogus", ee(1, 1), dns="flip-tlsa"),
    Case("tlsa-servfail", "bogus", ee(1, 1), dns="fail-SERVFAIL"),
    Case("tlsa-refused", "bogus", ee(1, 1), dns="fail-REFUSED"),
    Case("tlsa-notimp", "bogus", ee(1, 1), dns="fail-NOTIMP"),
    Case("tlsa-timeout", "bogus", ee(1, 1), dns="fail-TIMEOUT"),
    Case("tlsa-missing-but-servfail", "bogus", dns="fail-SERVFAIL"),
    Case("insecure-mx", "half", ee(1, 1), zone="ins.test", dns="host-in-sec.test"),
    Case("insecure-mx-mismatch", "mismatch", other(), zone="ins.test", dns="host-in-sec.test"),
    Case("secure-mx-insecure-host", "none", other(), dns="host-in-ins.test", verify="verified-pkix"),
    Case("host-is-the-domain", "match", ee(1, 1), dns="no-mx"),
    # ---- MX hosts that are aliases: the end of a signed chain first, then the name itself (§2.2.3) ----
    Case("alias", "match", ee(1, 1), dns="alias-tlsa-at-end"),
    Case("alias-first-name", "match", ee(1, 1), dns="alias-tlsa-at-start"),
    Case("alias-both", "match", ee(1, 1), dns="alias-tlsa-at-both"),
    Case("alias-end-wins", "mismatch", other(), dns="alias-tlsa-at-end"),
    Case("alias-into-unsigned", "match", ee(1, 1), dns="alias-unsigned-end"),
    Case("alias-into-unsigned-mismatch", "mismatch", other(), dns="alias-unsigned-end"),
    Case("alias-out-of-unsigned", "none", other(), zone="ins.test", dns="alias-signed-end", verify="verified-pkix"),
    Case("tlsa-is-an-alias", "match", ee(1, 1), dns="tlsa-alias"),
    # ---- one family of addresses is bogus: the other one stands ----
    Case("aaaa-bogus", "match", ee(1, 1), dns="flip-aaaa"),
    Case("aaaa-bogus-mismatch", "mismatch", other(), dns="flip-aaaa"),
]
# Why OpenSSL sees a case otherwise; Postfix never does.
OPENSSL_DIFFERS = dict.fromkeys(
    ("pkix-ta-0", "pkix-ee-1", "pkix-ee-1-bad-cert"),
    "OpenSSL serves all protocols and judges usages 0 and 1 too, which SMTP must not use (RFC 7672 §3.1.3)")
BY_NAME = {c.name: c for c in CASES}
assert len(BY_NAME) == len(CASES)


def describe(case, world, level="x"):
    """Puts the case into the world: receiver and records.  The names: domain, MX host, base of the TLSA records."""
    domain = f"{case.name}.{level}.{case.zone}"
    zone = world.zone(case.zone)
    host = f"mx.{domain}"
    host_zone = zone
    how = case.dns
    if how.startswith("host-in-"):
        host_zone = world.zone(how[8:])
        host = f"mx.{case.name}.{level}.{how[8:]}"
    elif how == "no-mx":
        host = domain
    names = case.names(host, domain) if case.names else [host]
    base = host
    end = end_zone = None
    if how.startswith("alias-"):
        end_zone = world.zone({"alias-unsigned-end": "ins.test", "alias-signed-end": "sec.test"}.get(how, case.zone))
        end = f"real.{case.name}.{level}.{end_zone.name}"
        base = end if how in ("alias-tlsa-at-end", "alias-tlsa-at-both") else host
        names = names + [end]
    receiver = f"{case.name}@{level}"
    pair = world.mail_host(receiver, host, cert=case.cert, names=names, record=True, **case.offers)
    chain = world_certs.load(pair[0]) if pair else []
    address = world.address_of(receiver)
    if how != "no-mx":
        zone.add(f"{domain}. MX 10 {host}.")
    if end:
        host_zone.add(f"{host}. CNAME {end}.")
        end_zone.add(f"{end}. A {address}")
    else:
        host_zone.add(f"{host}. A {address}")
    if how == "flip-aaaa":
        host_zone.add(f"{host}. AAAA ::1").flip(f"{host}.", "AAAA")
    _put_tlsa(case, world, host_zone, end_zone, chain, base, host, end, level)
    return domain, host, base


def _put_tlsa(case, world, host_zone, end_zone, chain, base, host, end, level):
    how = case.dns
    zone = end_zone if end and base == end else host_zone
    owner = f"_{PORT}._tcp.{base}."
    if how == "nodata":
        zone.add(f'{owner} TXT "nothing of TLS here"')
    if case.records is None:
        return
    texts = case.records(chain, world.certs)
    if how == "tlsa-alias":
        zone.add(f"{owner} CNAME shared.{case.name}.{level}.{zone.name}.")
        owner = f"shared.{case.name}.{level}.{zone.name}."
    zone.add(*[f"{owner} TLSA {t}" for t in texts])
    if how == "flip-tlsa":
        zone.flip(owner, "TLSA")
    if how == "alias-tlsa-at-both":  # those of the first name are wrong, and must not be asked for
        host_zone.add(f"_{PORT}._tcp.{host}. TLSA 3 1 1 {'cd' * 32}")
    if how == "alias-signed-end":
        end_zone.add(*[f"_{PORT}._tcp.{end}. TLSA {t}" for t in texts])
