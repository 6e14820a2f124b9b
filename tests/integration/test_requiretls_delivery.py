"""
REQUIRETLS and TLS-Required: No (RFC 8689) on the way out: a sender who wants transport security whatever the rules say, and one
who wants his mail delivered whatever they say.  T57, and the part of T58 that is about messages.
"""

import dataclasses
import email
import itertools
import time

import pytest

from harness import HOURLY, PATIENCE, SENDER, compose, group, no_check, wait_until
from secure_world import SecureWorld, require_signed_world
from test_tls import check_wire
from world import certs as world_certs
from world import sts

PORT = 2526
GROUPS = {
    "off": dict(starttls="off"),
    "on": dict(starttls="on", clear_after_tls_failure="now"),
    "try": dict(starttls="on", dane="try", mta_sts="try", clear_after_tls_failure="now"),
    "require": dict(starttls="require", dane="try", mta_sts="try"),
    "verify": dict(starttls="verify", dane="try", mta_sts="try"),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """
    One destination and what becomes of a message with REQUIRETLS there.  `required` and `optional`: "tls", "clear", or the
    enhanced code of the wait or bounce; `optional` is with TLS-Required: No, at every group but `off`.
    """

    name: str
    required: str
    optional: str = "tls"
    zone: str = "sec.test"
    records: object = None  # function of the presented chain
    policy: str = ""  # mode of an MTA-STS policy that names the host
    hosts: tuple = (dict(requiretls=True),)  # Personality of each host; None: nothing listens there
    host_zone: str = ""
    flip: str = ""  # record type that is bogus
    receiver: int = 0  # which of the hosts gets it


def ee(chain):
    return [world_certs.tlsa(chain[0], 3, 1, 1)]


def wrong(chain):
    return ["3 1 1 " + "ab" * 32]


def unusable(chain):
    return ["1 1 1 " + "ab" * 32]


YES = dict(requiretls=True)
CASES = [
    # ---- a receiver that proves who it is, and offers it ----
    Case("dane", "tls", records=ee),
    Case("dane-self-signed", "tls", records=ee, hosts=({**YES, "cert": "self_signed"},)),
    Case("sts", "tls", zone="ins.test", policy="enforce"),
    Case("pkix-signed-mx", "tls"),
    Case("unusable-pkix", "tls", records=unusable),
    # ---- one that does not prove it ----
    Case("dane-unsigned-host", "5.7.30", records=ee, zone="ins.test"),
    Case("pkix-unsigned-mx", "5.7.30", zone="ins.test"),
    Case("half-dane", "5.7.30", zone="ins.test", host_zone="sec.test", records=ee),
    Case("sts-testing", "5.7.30", zone="ins.test", policy="testing"),
    Case("sts-none", "5.7.30", zone="ins.test", policy="none"),
    Case("sts-bad-certificate", "5.7.30", zone="ins.test", policy="enforce", hosts=({**YES, "cert": "expired"},)),
    Case("self-signed", "5.7.30", hosts=({**YES, "cert": "self_signed"},)),
    Case("dane-mismatch", "5.7.30", records=wrong),
    # ---- one that cannot do it ----
    Case("not-offered", "5.7.30", records=ee, hosts=({},)),
    Case("no-starttls", "5.7.30", "clear", hosts=(dict(tls="none"),)),
    Case("dane-no-starttls", "5.7.30", "clear", records=wrong, hosts=(dict(tls="none"),)),
    Case("sts-no-starttls", "5.7.30", "clear", zone="ins.test", policy="enforce", hosts=(dict(tls="none"),)),
    Case("refused", "5.7.30", "clear", hosts=({**YES, "starttls_reply": "454 4.7.0 not now"},)),
    Case("broken", "5.7.30", "clear", records=ee, hosts=({**YES, "starttls_break": "garbage"},)),
    Case("silent", "5.7.30", "clear", hosts=({**YES, "starttls_break": "silence"},)),
    # ---- one that cannot be asked: later, not never ----
    Case("unreachable", "4.4.1", records=wrong, hosts=(None,)),
    Case("tlsa-bogus", "4.7.5", records=ee, flip="TLSA"),
    Case("mx-bogus", "4.4.3", records=ee, flip="MX"),
    Case("out-and-unreachable", "4.", "clear", hosts=(dict(tls="none"), None)),
    # ---- several hosts ----
    Case("second-offers", "tls", records=ee, hosts=({}, YES), receiver=1),
    Case("second-proves", "tls", hosts=({**YES, "cert": "self_signed"}, YES), receiver=1),
    Case("none-of-two", "5.7.30", hosts=({}, {**YES, "cert": "expired"})),
]
BY_NAME = {c.name: c for c in CASES}
CELLS = list(itertools.product(GROUPS, BY_NAME))


def domain(group_name, name):
    return f"{name}.{group_name}.{BY_NAME[name].zone}"


def receiver(group_name, name, number):
    return f"{number}:{name}@{group_name}"


def describe(world, group_name, case):
    d = domain(group_name, case.name)
    zone = world.zone(case.zone)
    host_zone = world.zone(case.host_zone or case.zone)
    for i, how in enumerate(case.hosts):
        host = f"mx{i}.{d}" if not case.host_zone else f"mx{i}.{case.name}.{group_name}.{case.host_zone}"
        address = world.net.address()
        zone.add(f"{d}. MX {10 * i + 10} {host}.")
        host_zone.add(f"{host}. A {address}")
        chain = [world.certs.root.cert]
        if how is not None:
            pair = world.mail_host(receiver(group_name, case.name, i), host, address=address, record=True, **how)
            chain = world_certs.load(pair[0]) if pair else chain
        if case.records:
            owner = f"_{PORT}._tcp.{host}."
            host_zone.add(*[f"{owner} TLSA {t}" for t in case.records(chain)])
            if case.flip == "TLSA":
                host_zone.flip(owner, "TLSA")
    if case.flip == "MX":
        zone.flip(f"{d}.", "MX")
    if case.policy:
        world.policy(d, sts.policy(case.policy, [f"*.{d}"]), zone=zone)


def submit(daemon, recipients, options=(), headers=(), sender=SENDER, notify=(), **more):
    """Over TLS: REQUIRETLS is taken nowhere else."""
    message_id, text = compose(recipients, headers=headers, **more)
    with daemon.client() as client:
        client.starttls(context=no_check())
        assert client.sendmail(sender, recipients, text, options, notify) == {}
    return message_id


def wait_for_outcomes(daemon, addresses):
    """Every recipient is gone from the queue, or has an attempt behind it."""
    end = time.monotonic() + 40 * PATIENCE
    while time.monotonic() < end:
        waiting = {r["recipient"]: r["attempts"] for r in daemon.queued()}
        if all(waiting.get(a, 1) for a in addresses):
            break
        time.sleep(0.2)
    time.sleep(0.3)  # the history is written behind the answer


@pytest.fixture(scope="module")
def matrix(tmp_path_factory, certs):
    require_signed_world()
    world = SecureWorld(tmp_path_factory.mktemp("requiretls"), certs)
    try:
        world.zone("ins.test", "unsigned")
        for group_name, name in CELLS:
            describe(world, group_name, BY_NAME[name])
        world.start()
        daemon = world.daemon(
            *[group(name, [f".{name}.{zone}" for zone in ("sec.test", "ins.test")], retry=HOURLY, tls={"ca_file": str(certs.ca_file)},
                    timeouts={"ehlo": f"{int(3 * PATIENCE)}s", "connect": "5s"}, **rules) for name, rules in GROUPS.items()],
            dns={"timeout": "2s", "total_timeout": f"{int(10 * PATIENCE)}s"})
        # What a message says of TLS is in its recipients' first word.
        addresses = {}
        for who, how in (("required", dict(options=["REQUIRETLS"])), ("optional", dict(headers=["TLS-Required: No"])), ("plain", {}),
                         ("both", dict(options=["REQUIRETLS"], headers=["TLS-Required: No"]))):
            cells = [c for c in CELLS if who in KINDS[c]]
            addresses[who] = [f"{who}@{domain(*c)}" for c in cells]
            submit(daemon, addresses[who], notify=["NOTIFY=NEVER"], **how)
        wait_for_outcomes(daemon, [a for some in addresses.values() for a in some])
        world.attempts = {}
        for cell in CELLS:
            for attempt in daemon.api(f"/api/v1/explain/{domain(*cell)}")["attempts"]:
                world.attempts.setdefault(attempt["address"], attempt)
        yield world
    finally:
        world.stop()


# A destination that cannot be reached, or found, is left alone for a while by all mail: one message then tells enough.  What only
# REQUIRETLS suffers from must hold up no other mail.
NOBODY_GETS_THROUGH = ("unreachable", "mx-bogus")
KINDS = {(g, n): ("required",) if n in NOBODY_GETS_THROUGH else
         ("required", "optional") + ("both",) * (BY_NAME[n].required[0] != "4") + ("plain",) * (g in ("off", "on")) for g, n in CELLS}


def check(world, group_name, name, who, want):
    """What became of the recipient is what was wanted; its attempt."""
    address = f"{who}@{domain(group_name, name)}"
    got = world.seen.to(address)
    assert address in world.attempts, "no attempt was recorded"
    attempt = world.attempts[address]
    seen = {k: attempt[k] for k in ("outcome", "enhanced", "text", "tls_effective", "tls_why", "tls_verify", "dane", "sts")}
    if want == "tls":
        assert [d.tls.startswith("TLSv1") for d in got] == [True], seen
    elif want == "clear":
        assert [d.tls for d in got] == ["clear"], seen
    else:
        assert not got, seen
        assert attempt["enhanced"].startswith(want), seen
        assert attempt["outcome"] == ("bounced" if want[0] == "5" else "deferred"), seen
    return attempt


@pytest.mark.xdist_group("requiretls")
@pytest.mark.parametrize("who, group_name, name", [(w, *c) for c in CELLS for w in KINDS[c] if w in ("required", "both")])
def test_requiretls(matrix, who, group_name, name):
    """The same at every group; beside REQUIRETLS the header has no meaning (§3)."""
    case = BY_NAME[name]
    attempt = check(matrix, group_name, name, who, case.required)
    assert attempt["tls_why"] == "requiretls" or name == "mx-bogus"
    for d in matrix.seen.to(f"{who}@{domain(group_name, name)}"):
        assert d.receiver == receiver(group_name, name, case.receiver)
        assert "REQUIRETLS" in d.parameters.split(), "the next server must know it too"


def without_requirement(group_name, case):
    return "clear" if group_name == "off" and case.optional == "tls" else case.optional


@pytest.mark.xdist_group("requiretls")
@pytest.mark.parametrize("group_name, name", [c for c in CELLS if "optional" in KINDS[c]])
def test_tls_required_no(matrix, group_name, name):
    attempt = check(matrix, group_name, name, "optional", without_requirement(group_name, BY_NAME[name]))
    assert (attempt["tls_why"], attempt["dane"]) == ("tls-required-no", "off")
    assert attempt["sts"] in ("off", "none", "mode-none"), "no policy is held against it"
    assert not [d for d in matrix.seen.to(f"optional@{domain(group_name, name)}") if "REQUIRETLS" in d.parameters]


@pytest.mark.xdist_group("requiretls")
@pytest.mark.parametrize("group_name, name", [c for c in CELLS if "plain" in KINDS[c]])
def test_mail_without_wishes_goes_by_its_group(matrix, group_name, name):
    """What was discovered on behalf of REQUIRETLS is no rule for the others."""
    attempt = check(matrix, group_name, name, "plain", without_requirement(group_name, BY_NAME[name]))
    assert (attempt["tls_effective"], attempt["tls_why"]) == (group_name, "rule")


@pytest.mark.xdist_group("requiretls")
@pytest.mark.parametrize("group_name, name", CELLS)
def test_no_session_carries_two_kinds_of_mail(matrix, group_name, name):
    """T58: what one message was promised is another's by accident only."""
    kinds = {}
    for i in range(len(BY_NAME[name].hosts)):
        for d in matrix.seen.at(receiver(group_name, name, i)):
            kinds.setdefault(d.session, set()).add(d.recipient.partition("@")[0].replace("both", "required"))
    assert all(len(k) == 1 for k in kinds.values()), kinds


@pytest.mark.xdist_group("requiretls")
@pytest.mark.parametrize("group_name, name", [c for c in CELLS if c[0] in ("require", "verify")])
def test_no_octet_of_other_mail_in_clear(matrix, group_name, name):
    """TLS-Required: No went in clear here and there; nothing else did."""
    for i in range(len(BY_NAME[name].hosts)):
        for session in matrix.seen.transcripts[receiver(group_name, name, i)]:
            if session.tls is None and b"MAIL FROM" in session.raw.upper():
                recipients = {line for line in bytes(session.raw).split(b"\r\n") if line.upper().startswith(b"RCPT TO:")}
                assert all(line.startswith(b"RCPT TO:<optional@") for line in recipients)
            else:
                check_wire(bytes(session.raw))


# ---- one by one ----

@pytest.fixture
def there_and_home(tmp_path, certs, request):
    """A signed destination that offers TLS and no REQUIRETLS, and a home for what comes back."""
    require_signed_world()
    world = SecureWorld(tmp_path, certs)
    zone = world.zone("sec.test")
    for name, how in (("there", {}), ("home", dict(keep_bodies=True))):
        world.mail_host(name, f"mx.{name}.sec.test", **how)
        zone.add(f"{name} MX 10 mx.{name}", f"mx.{name} A {world.address_of(name)}")
    world.start()
    yield world, world.daemon(group("g", [".sec.test"]))
    failed = getattr(request.node, "report_call", None) is None or request.node.report_call.failed
    world.stop(check=not failed)


def test_the_bounce_tells_no_more_than_it_must(there_and_home):
    """§5: no body on the way back, which may be less safe than the way out, and is open to all the same."""
    world, daemon = there_and_home
    submit(daemon, ["a@there.sec.test"], options=["REQUIRETLS", "RET=FULL"], sender="me@home.sec.test",
           body="the secret of the house\r\n", subject="of no interest")
    (dsn,) = wait_until(lambda: world.seen.at("home"), 20, "the DSN")
    assert dsn.sender == "" and "REQUIRETLS" not in dsn.parameters
    text = next(iter(world.seen.bodies.values())).decode()
    assert "5.7.30" in text and "of no interest" in text
    assert "the secret of the house" not in text
    parts = [p.get_content_type() for p in email.message_from_string(text).walk()]
    assert "text/rfc822-headers" in parts and "message/rfc822" not in parts


def test_the_bounce_of_tls_required_no_is_an_ordinary_one(there_and_home):
    world, daemon = there_and_home
    submit(daemon, ["unknown@there.sec.test"], options=["RET=FULL"], headers=["TLS-Required: No"], sender="me@home.sec.test",
           body="no secret at all\r\n")
    wait_until(lambda: world.seen.at("home"), 20, "the DSN")
    assert "no secret at all" in next(iter(world.seen.bodies.values())).decode()


def test_credentials_never_go_in_clear_whatever_the_message_says(world, tmp_path):
    here = world.receiver("relay", tls="none", auth={"me": "secret word"})
    password = tmp_path / "password"
    password.write_text("secret word\n")
    password.chmod(0o600)
    daemon = world.daemon(group("g", ["r.test"], starttls="require", retry=HOURLY, route={
        "smarthost": f"{here}:{PORT}", "auth": {"user": "me", "password_file": str(password)}}))
    daemon.send("a@r.test", headers=["TLS-Required: No"])
    wait_until(lambda: daemon.attempts("a@r.test"), 15, "an attempt")
    assert not world.seen.deliveries and world.seen.commands["relay"]["AUTH"] == 0
