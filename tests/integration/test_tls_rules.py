"""
What a group may ask of TLS beside its level: names, pins, versions, priority, authorities, client certificates.  Rows on one
daemon; what a wrong value does is said by the policy check.
"""

import dataclasses
import time

import pytest

from harness import HOURLY, PATIENCE, World, group
from test_tls import check_wire
from world import certs as world_certs
from world.receivers import Personality


@dataclasses.dataclass(frozen=True)
class Row:
    """`tls` and `want` may be functions of the receiver's certificate file; `want` is "tls", "clear" or a code."""

    name: str
    want: str
    verify: str
    rule: dict = dataclasses.field(default_factory=dict)
    tls: object = dataclasses.field(default_factory=dict)
    offers: dict = dataclasses.field(default_factory=dict)
    cert: str = "good"
    names: object = None  # function of (MX host, domain): names in the certificate; the MX host by itself
    version: str = ""
    effective: str = "verify"


VERIFY = dict(starttls="verify")
REQUIRE = dict(starttls="require")
ON = dict(starttls="on", clear_after_tls_failure="now")


def domain_alone(host, domain):
    return [domain]


def listed(*names):
    return lambda host, domain: list(names)


def pin(of_key=False, wrong=False, colons=False, upper=False):
    def make(cert_file):
        text = world_certs.fingerprint(world_certs.load(cert_file)[0], of_key)
        text = text.translate(str.maketrans("0123456789abcdef", "123456789abcdef0")) if wrong else text
        text = ":".join(text[i:i + 2] for i in range(0, 64, 2)) if colons else text
        return {"pins": [("spki:" if of_key else "") + (text.upper() if upper else text)]}
    return make


def pin_of_issuer(cert_file):
    return {"pins": ["spki:" + world_certs.fingerprint(world_certs.load(cert_file)[1], True)]}


def two_pins(cert_file):
    return {"pins": ["ab" * 32, *pin(of_key=True)(cert_file)["pins"]]}


ROWS = [
    # ---- whose name the certificate must have ----
    Row("name-mx", "tls", "verified-pkix", VERIFY, {"match": "mx"}),
    Row("name-mx-other", "4.7.5", "wrong-name", VERIFY, {"match": "mx"}, names=domain_alone),
    Row("name-nexthop", "tls", "verified-pkix", VERIFY, {"match": "nexthop"}, names=domain_alone),
    Row("name-nexthop-other", "4.7.5", "wrong-name", VERIFY, {"match": "nexthop"}),
    Row("name-listed", "tls", "verified-pkix", VERIFY, {"match": ["a.partner.test", "mail.partner.test"]}, names=listed("mail.partner.test")),
    Row("name-listed-suffix", "tls", "verified-pkix", VERIFY, {"match": [".partner.test"]}, names=listed("mail.partner.test")),
    Row("name-listed-suffix-two-labels", "4.7.5", "wrong-name", VERIFY, {"match": [".partner.test"]}, names=listed("a.mail.partner.test")),
    Row("name-listed-suffix-no-label", "4.7.5", "wrong-name", VERIFY, {"match": [".partner.test"]}, names=listed("partner.test")),
    Row("name-listed-not-mx", "4.7.5", "wrong-name", VERIFY, {"match": ["mail.partner.test"]}),
    Row("name-listed-wildcard", "tls", "verified-pkix", VERIFY, {"match": ["mail.partner.test"]}, names=listed("*.partner.test")),
    Row("name-recorded-at-require", "tls", "wrong-name", REQUIRE, {"match": "nexthop"}, effective="require"),
    # ---- pins, in place of chain and name ----
    Row("pin-certificate", "tls", "verified-pin", VERIFY, pin()),
    Row("pin-key", "tls", "verified-pin", VERIFY, pin(of_key=True)),
    Row("pin-colons", "tls", "verified-pin", VERIFY, pin(colons=True, upper=True)),
    Row("pin-second", "tls", "verified-pin", VERIFY, two_pins),
    Row("pin-self-signed", "tls", "verified-pin", VERIFY, pin(), cert="self_signed"),
    Row("pin-wrong-name", "tls", "verified-pin", VERIFY, pin(of_key=True), names=domain_alone),
    Row("pin-other", "4.7.5", "pin-mismatch", VERIFY, pin(wrong=True)),
    Row("pin-other-key", "4.7.5", "pin-mismatch", VERIFY, pin(of_key=True, wrong=True)),
    Row("pin-of-the-issuer", "4.7.5", "pin-mismatch", VERIFY, pin_of_issuer, cert="chain"),
    Row("pin-recorded-at-require", "tls", "pin-mismatch", REQUIRE, pin(wrong=True), effective="require"),
    # ---- versions and priority ----
    Row("min-13-has-13", "tls", "verified-pkix", REQUIRE, {"min_version": "1.3"}, version="TLSv1.3", effective="require"),
    Row("min-13-has-12", "4.7.5", "none", REQUIRE, {"min_version": "1.3"}, dict(tls_max="TLSv1.2"), effective="require"),
    Row("min-13-on", "clear", "none", ON, {"min_version": "1.3"}, dict(tls_max="TLSv1.2"), effective="on"),
    Row("min-10-has-10", "tls", "verified-pkix", ON, {"min_version": "1.0"}, dict(tls_min="TLSv1", tls_max="TLSv1"), version="TLSv1", effective="on"),
    Row("min-10-has-13", "tls", "verified-pkix", ON, {"min_version": "1.0"}, version="TLSv1.3", effective="on"),
    Row("min-11-has-10", "clear", "none", ON, {"min_version": "1.1"}, dict(tls_min="TLSv1", tls_max="TLSv1"), effective="on"),
    Row("min-11-has-11", "tls", "verified-pkix", ON, {"min_version": "1.1"}, dict(tls_min="TLSv1.1", tls_max="TLSv1.1"), version="TLSv1.1", effective="on"),
    Row("priority-12-alone", "tls", "verified-pkix", REQUIRE, {"priority": "NORMAL:-VERS-ALL:+VERS-TLS1.2"}, version="TLSv1.2", effective="require"),
    Row("priority-not-had", "4.7.5", "none", REQUIRE, {"priority": "NORMAL:-VERS-ALL:+VERS-TLS1.3"}, dict(tls_max="TLSv1.2"), effective="require"),
    # ---- authorities ----
    Row("ca-of-another", "4.7.5", "unknown-ca", VERIFY, {"ca_file": "stranger"}),
    Row("ca-is-that-other", "tls", "verified-pkix", VERIFY, {"ca_file": "stranger"}, cert="unknown_ca"),
    # ---- our own certificate ----
    Row("client-asked", "tls", "verified-pkix", REQUIRE, {"certificate": "client"}, dict(client_ca=True), effective="require"),
    Row("client-asked-12", "tls", "verified-pkix", REQUIRE, {"certificate": "client"}, dict(client_ca=True, tls_max="TLSv1.2"), effective="require"),
    Row("client-not-asked", "tls", "verified-pkix", REQUIRE, {"certificate": "client"}, effective="require"),
    Row("client-has-none", "tls", "verified-pkix", REQUIRE, {}, dict(client_ca=True), effective="require"),
]
BY_NAME = {r.name: r for r in ROWS}


@pytest.fixture(scope="module")
def rules(tmp_path_factory, certs):
    folder = tmp_path_factory.mktemp("rules")
    world = World(folder, certs)
    stranger = folder / "stranger.pem"
    stranger.write_bytes(certs.stranger.cert.public_bytes(world_certs.PEM))
    client = certs.client("sender.example")
    try:
        groups = []
        for row in ROWS:
            domain = f"{row.name}.test"
            host = f"mx.{domain}"
            names = row.names(host, domain) if row.names else [host]
            pair = getattr(certs, row.cert)(*names)
            how = dict(row.offers)
            if how.get("client_ca"):
                how["client_ca"] = str(certs.ca_file)
            address = world.net.address()
            world.receivers.add(Personality(row.name, address, host=host, cert=pair, record=True, **how))
            world.dns.mx(domain, f"10 {host}").a(host, address)
            tls = dict(row.tls(pair[0]) if callable(row.tls) else row.tls)
            tls["ca_file"] = str(stranger) if tls.get("ca_file") else str(certs.ca_file)
            if tls.get("certificate"):
                tls["certificate"], tls["key"] = client
            groups.append(group(row.name, [domain], retry=HOURLY, tls=tls, **row.rule))
        daemon = world.daemon(*groups, dns={"timeout": "2s", "total_timeout": f"{int(10 * PATIENCE)}s"})
        daemon.send(*[f"user@{r.name}.test" for r in ROWS])

        def settled():
            rows = daemon.queued()
            return len(world.seen.deliveries) + len(rows) == len(ROWS) and all(r["attempts"] for r in rows)

        end = time.monotonic() + 20 * PATIENCE
        while not settled() and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(0.3)  # the history is written behind the answer
        world.attempts = {r.name: daemon.api(f"/api/v1/explain/{r.name}.test")["attempts"] for r in ROWS}
        yield world
    finally:
        world.stop()


@pytest.mark.xdist_group("rules")
@pytest.mark.parametrize("name", BY_NAME)
def test_row(rules, name):
    row = BY_NAME[name]
    got = rules.seen.to(f"user@{name}.test")
    assert rules.attempts[name], "no attempt was recorded"
    attempt = rules.attempts[name][0]
    seen = {k: attempt[k] for k in ("enhanced", "text", "tls_version", "tls_verify", "tls_effective", "tls_failure")}
    if row.want == "tls":
        assert [d.tls.startswith("TLSv1") for d in got] == [True], seen
    elif row.want == "clear":
        assert [d.tls for d in got] == ["clear"], seen
    else:
        assert not got and attempt["enhanced"] == row.want, seen
    assert (attempt["tls_verify"], attempt["tls_effective"]) == (row.verify, row.effective), seen
    if row.version:
        assert [d.tls for d in got] == [row.version]
    if row.want != "clear":
        for session in rules.seen.transcripts[name]:
            check_wire(bytes(session.raw))


@pytest.mark.xdist_group("rules")
@pytest.mark.parametrize("name", [r.name for r in ROWS if r.name.startswith("client-")])
def test_our_certificate_is_shown_to_those_who_ask(rules, name):
    (got,) = rules.seen.to(f"user@{name}.test")
    assert got.client == ("sender.example" if name.startswith("client-asked") else "")


@pytest.mark.slow
def test_files_that_change_end_what_was_resumed_with_them(world, certs, tmp_path):
    """
    Files are looked at again every minute, without a reload.  What a session was once worth ends with the trust that it rests
    on, and who we were in it with our certificate: resumption must not carry either on.
    """
    world.receiver("asks", "asks.test", client_ca=str(certs.ca_file))
    world.receiver("real", "real.test")
    trust, cert, key = (tmp_path / name for name in ("ca.pem", "client.pem", "client.key"))

    def install(target, content):
        new = tmp_path / "new"
        new.write_bytes(content)
        new.chmod(0o600)
        new.rename(target)

    def install_client(name):
        for target, source in zip((cert, key), certs.client(name)):
            install(target, open(source, "rb").read())

    install(trust, certs.ca_file.read_bytes())
    install_client("first.example")
    one_each = {"messages_per_connection": 1}
    daemon = world.daemon(
        group("a", ["asks.test"], starttls="require", limits=one_each, tls={"certificate": str(cert), "key": str(key)}),
        group("r", ["real.test"], starttls="verify", retry=HOURLY, limits=one_each, tls={"ca_file": str(trust)}))
    for i in range(3):
        daemon.send(f"r{i}@asks.test", f"r{i}@real.test")
        world.got(2 * i + 2)
    assert any(d.resumed for d in world.seen.at("real")) and any(d.resumed for d in world.seen.at("asks"))
    install(trust, certs.stranger.cert.public_bytes(world_certs.PEM))
    install_client("second.example")
    end = time.monotonic() + 75
    while time.monotonic() < end and not (daemon.queued() and world.seen.at("asks")[-1].client == "second.example"):
        daemon.send("later@asks.test", "later@real.test")
        time.sleep(2)
    assert world.seen.at("asks")[-1].client == "second.example"
    assert daemon.attempts("later@real.test")[-1]["enhanced"] == "4.7.5"


@pytest.mark.parametrize("rule, complaint", [
    (dict(starttls="require", tls={"min_version": "1.0"}), "min_version"),
    (dict(starttls="verify", tls={"pins": ["abc"]}), "fingerprint"),
    (dict(starttls="verify", tls={"pins": ["spki:" + "zz" * 32]}), "fingerprint"),
    (dict(starttls="on", tls={"priority": "NORMAL:+NONSENSE"}), "priority"),
    (dict(starttls="on", tls={"certificate": "/etc/ssl/client.pem"}), "key"),
    (dict(starttls="off", dane="only"), "dane"),
])
def test_rules_that_cannot_hold_are_refused(world, rule, complaint):
    daemon = world.daemon()
    text = daemon.policy_text([group("g", ["a.test"], **rule)])
    (world.folder / "new.yaml").write_text(text)
    assert complaint in daemon.hayauma("policy", "check", str(world.folder / "new.yaml"), code=None)
    daemon.hayauma("policy", "apply", str(world.folder / "new.yaml"), code=None)
    assert daemon.api("/api/v1/policy")["version"] == 1
