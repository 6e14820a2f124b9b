"""
The TLS ledger: what the report says of mail that travelled in many ways must be what the receivers saw, in every form that it
is given in; and destinations that had TLS and have it no more.
"""

import collections
import csv
import html.parser
import io
import re

import pytest

from api_client import get, refused
from harness import HOURLY, MX_PORT, PATIENCE, World, group, wait_until
from secure_world import SecureWorld, require_signed_world
from world import certs as world_certs

TLS = "/api/v1/reports/tls"
CERTIFICATES = "/api/v1/reports/certificates"
REGISTER = "/api/v1/tls/downgrades"

RECEIVERS = {  # name: (how it is, recipients that it gets)
    "good": (dict(), 5),
    "tls12": (dict(tls_max="TLSv1.2"), 3),
    "self-signed": (dict(cert="self_signed"), 2),
    "expired": (dict(cert="expired"), 1),
    "weak": (dict(cert="weak"), 2),
    "no-starttls": (dict(tls="none"), 4),
    "refused": (dict(starttls_reply="454 4.7.0 TLS not available"), 1),
    "broken": (dict(starttls_break="close"), 2),
    "off": (dict(), 3),
    "strict": (dict(tls="none"), 2),  # its rule asks for TLS: nothing goes
}
VERIFY = {"good": "verified-pkix", "tls12": "verified-pkix", "self-signed": "self-signed", "expired": "expired", "weak": "weak"}
CLEAR = {"no-starttls": "lack", "refused": "lack", "broken": "fallback", "off": "choice"}
SENT = {name: n for name, (_, n) in RECEIVERS.items() if name != "strict"}


def domain(name):
    return f"{name}.test"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory, certs):
    w = World(tmp_path_factory.mktemp("ledger"), certs)
    try:
        for name, (how, _) in RECEIVERS.items():
            w.receiver(name, domain(name), **how)
        common = dict(retry=HOURLY, tls={"ca_file": str(certs.ca_file)}, timeouts={"ehlo": f"{int(2 * PATIENCE)}s"},
                      dane="off", mta_sts="off")
        daemon = w.daemon(
            group("never", ["off.test"], starttls="off", **common),
            group("always", ["strict.test"], starttls="require", **common),
            group("default", starttls="on", clear_after_tls_failure="now", **common))
        for name, (_, n) in RECEIVERS.items():
            daemon.send(*[f"user{i}@{domain(name)}" for i in range(n)], headers=[f"X-Campaign: to-{name}"])
        w.got(sum(SENT.values()))
        wait_until(lambda: daemon.totals()["delivered"] == sum(SENT.values()), what="the record of all")
        wait_until(lambda: len(daemon.queued()) == 2 and all(q["attempts"] for q in daemon.queued()), what="the strict one")
        yield w
    finally:
        w.stop()


def by(daemon, key, field="delivered", *words):
    return {row[key]: row[field] for row in daemon.json("report", "tls", "--by", key, *words)["rows"] if row[field]}


def names(mapping, names_):
    return sum(n for name, n in mapping.items() if name in names_)


@pytest.mark.xdist_group("ledger")
def test_the_report_is_what_the_receivers_saw(ledger):
    daemon = ledger.daemons[0]
    versions = collections.Counter()
    for delivery in ledger.seen.deliveries:
        versions[{"TLSv1.3": "TLS1.3", "TLSv1.2": "TLS1.2", "clear": ""}[delivery.tls]] += 1
    assert by(daemon, "version") == dict(versions)
    assert by(daemon, "domain") == {domain(name): n for name, n in SENT.items()}
    verify = collections.Counter()
    for name, n in SENT.items():
        verify[VERIFY.get(name, "none")] += n
    assert by(daemon, "verify") == dict(verify)
    assert by(daemon, "why") == {"rule": sum(SENT.values())}
    assert by(daemon, "wanted") == {"on": sum(SENT.values()) - SENT["off"], "off": SENT["off"]}
    assert by(daemon, "level") == by(daemon, "wanted")
    assert names(by(daemon, "kx"), [""]) == names(SENT, CLEAR)
    failures = by(daemon, "failure")
    assert failures["starttls-not-supported"] == SENT["no-starttls"] + SENT["refused"]
    assert failures["certificate-expired"] == SENT["expired"]
    assert names(failures, [""]) == SENT["good"] + SENT["tls12"] + SENT["off"]
    encrypted, clear = names(SENT, VERIFY), names(SENT, CLEAR)
    assert by(daemon, "session") == {"new": encrypted, "": clear}
    assert by(daemon, "fallback") == {"fallback": SENT["broken"], "none": sum(SENT.values()) - SENT["broken"]}
    assert by(daemon, "expiry") == {"expired": SENT["expired"], "later": encrypted - SENT["expired"], "": clear}
    days = {world_certs.load(ledger.certs.good("mx.good.test")[0])[0].not_valid_after.strftime("%Y-%m-%d")}
    assert days < set(by(daemon, "expires"))


@pytest.mark.xdist_group("ledger")
def test_shares_add_up(ledger):
    totals = ledger.daemons[0].api(TLS)["totals"]
    whole = sum(SENT.values())
    clear = collections.Counter()
    for name, how in CLEAR.items():
        clear[how] += SENT[name]
    assert (totals["delivered"], totals["clear"]) == (whole, sum(clear.values()))
    shares = totals["shares"]
    assert shares["encrypted"] == pytest.approx(1 - sum(clear.values()) / whole, abs=1e-5)
    assert shares["authenticated"] == pytest.approx((SENT["good"] + SENT["tls12"]) / whole, abs=1e-5)
    for how, n in clear.items():
        assert shares[f"clear_by_{how}"] == pytest.approx(n / whole, abs=1e-5)
    assert totals["held_for_tls"] == 2 and totals["weak"] == totals["weak_certificate"] == SENT["weak"]
    text = ledger.daemons[0].hayauma("report", "tls")
    assert re.search(r"Encrypted \d+(\.\d)? % of what was delivered", text) and "hayauma report tls weak" in text


@pytest.mark.xdist_group("ledger")
def test_clear_text_is_listed_by_destination_and_volume(ledger):
    daemon = ledger.daemons[0]
    report = daemon.json("report", "tls", "clear")
    assert [(r["domain"], r["clear"]) for r in report["rows"]] == [
        ("no-starttls.test", 4), ("off.test", 3), ("broken.test", 2), ("refused.test", 1)]
    assert all(r[f"clear_by_{CLEAR[r['domain'].removesuffix('.test')]}"] == r["clear"] for r in report["rows"])
    assert report["totals"]["delivered"] == sum(SENT.values())
    assert "no-starttls.test" in daemon.hayauma("report", "tls", "clear")
    assert [r["group"] for r in daemon.json("report", "tls", "clear", "--by", "group")["rows"]] == ["default", "never"]
    assert daemon.hayauma("report", "tls", "clear", "--domain", "good.test").endswith("nothing was delivered in clear text\n")


@pytest.mark.xdist_group("ledger")
def test_weak_tls_is_listed_by_host(ledger):
    daemon = ledger.daemons[0]
    rows = daemon.json("report", "tls", "weak")["rows"]
    assert [(r["mx"], r["weak"], r["weak_certificate"], r["weak_version"]) for r in rows] == [("mx.weak.test", 2, 2, 0)]
    assert "mx.weak.test" in daemon.hayauma("report", "tls", "weak")


@pytest.mark.xdist_group("ledger")
def test_certificates_that_end_soon_are_listed_by_host(ledger):
    daemon = ledger.daemons[0]
    seen = {name for name in RECEIVERS if name in VERIFY}
    soon = daemon.json("report", "tls", "expiring")["rows"]
    assert [(r["mx"], r["verify"], r["domain"]) for r in soon] == [("mx.expired.test", "expired", "expired.test")]
    assert soon[0]["seconds_left"] < 0 and soon[0]["sessions"] >= 1
    later = daemon.json("report", "tls", "expiring", "--within", "500d")["rows"]
    assert {r["mx"] for r in later} == {f"mx.{name}.test" for name in seen}
    ends = [r["expires_unix"] for r in later]
    assert ends == sorted(ends)
    table = daemon.hayauma("report", "tls", "expiring", "--within", "500d")
    assert all(f"mx.{name}.test" in table for name in seen)
    rows = list(csv.reader(io.StringIO(daemon.hayauma("report", "tls", "expiring", "--csv"))))
    assert rows[0][:2] == ["mx", "expires"] and [r[0] for r in rows[1:]] == ["mx.expired.test"]


@pytest.mark.xdist_group("ledger")
def test_csv_has_the_numbers_of_json(ledger):
    daemon = ledger.daemons[0]
    for key in ("domain", "cipher", "failure", "session", "fallback", "expiry", "expires"):
        rows = list(csv.DictReader(io.StringIO(daemon.hayauma("report", "tls", "--by", key, "--csv"))))
        report = daemon.json("report", "tls", "--by", key)
        assert "HOUR" not in daemon.hayauma("report", "tls", "--by", key)
        assert [r[key] for r in rows] == [r[key] for r in report["rows"]]
        for row, shown in zip(rows, report["rows"]):
            assert {k: int(v) for k, v in row.items() if k != key} == {k: shown[k] for k in row if k != key}


class Page(html.parser.HTMLParser):
    """What a browser would make of it: tags, what they load, titles of bars, and text."""

    VOID = {"meta", "rect", "line", "br"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.outside, self.bars, self.text = collections.Counter(), [], [], collections.Counter(), ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        if tag not in self.VOID or tag == "rect":
            self.open.append(tag)
        self.outside += [v for k, v in attrs if k in ("src", "href", "srcset", "action", "data") or k.startswith("on")]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1] if self.open else ''}>"
        self.open.pop()

    def handle_data(self, data):
        self.text += data
        if self.open[-1:] == ["title"] and "rect" in self.open and re.match(r"\d{4}-", data):
            kind, n = data.rsplit(": ", 1)
            self.bars[kind.split(", ", 1)[1]] += int(n.replace(",", ""))


@pytest.mark.xdist_group("ledger")
def test_the_html_report_is_whole_and_loads_nothing(ledger, tmp_path):
    daemon = ledger.daemons[0]
    file = tmp_path / "report.html"
    daemon.hayauma("report", "tls", "--html", str(file), "--within", "500d")
    text = file.read_text()
    page = Page(text)
    assert page.open == [] and page.outside == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags) and "url(" not in text and "@import" not in text
    assert "default-src 'none'" in text
    encrypted = names(SENT, VERIFY)
    clear = collections.Counter()
    for name, how in CLEAR.items():
        clear[how] += SENT[name]
    assert page.bars == {"encrypted and authenticated": SENT["good"] + SENT["tls12"],
                         "encrypted, peer not authenticated": encrypted - SENT["good"] - SENT["tls12"],
                         "clear text by choice": clear["choice"], "clear text by lack of STARTTLS": clear["lack"],
                         "clear text after failed TLS": clear["fallback"]}
    for word in ("no-starttls.test", "mx.weak.test", "mx.expired.test", "TLS1.3", "starttls-not-supported", "hayauma.example"):
        assert word in page.text
    assert daemon.hayauma("report", "tls", "--html", "-", "--domain", "good.test").count("no-starttls.test") == 0


@pytest.mark.xdist_group("ledger")
def test_what_makes_no_sense_is_refused_with_what_would(ledger):
    daemon = ledger.daemons[0]
    for words in (["report", "tls", "expired"], ["report", "tls", "--within", "3d"], ["report", "tls", "clear", "--html", "x"],
                  ["report", "tls", "expiring", "--by", "mx"], ["report", "tls", "--html", "x", "--csv"],
                  ["report", "delivery", "--by", "cipher"], ["tls", "downgrades", "drop", "x.test"],
                  ["tls", "downgrades", "approve"], ["tls", "downgrades", "list", "--all"],
                  ["tls", "downgrades", "approve", "x.test", "--all"], ["tls", "downgrades", "list", "--mx", "a.test"],
                  ["tls", "downgrades", "approve", "x.test", "--csv"]):
        daemon.hayauma(*words, code=2)
    refused(daemon, "GET", TLS, by="colour", says="by")
    refused(daemon, "GET", "/api/v1/reports/delivery", by="cipher")
    refused(daemon, "GET", "/api/v1/reports/delivery", only="clear", says="only")
    refused(daemon, "GET", CERTIFICATES, within="soon", says="30d")
    refused(daemon, "GET", REGISTER, state="bad")
    refused(daemon, "POST", REGISTER, op="approve", says="domain")
    refused(daemon, "POST", REGISTER, op="approve", domain="x.test", all="yes", says="all")
    refused(daemon, "POST", REGISTER, domain="x.test", says="op")
    refused(daemon, "POST", REGISTER, status=404, code="not_found", op="approve", all="yes")
    refused(daemon, "POST", REGISTER, status=404, code="not_found", op="forget", mx="mx.nowhere.test")
    refused(daemon, "POST", REGISTER, status=404, code="not_found", op="approve", domain="x.test")
    refused(daemon, "POST", REGISTER, status=404, code="not_found", op="forget", domain="never-seen.test")
    daemon.hayauma("tls", "downgrades", "approve", "x.test", code=1)


# ---- downgrades ----

def register(daemon, *words):
    return [(r["domain"], r["mx"], r["from"], r["to"], r["state"], r["count"])
            for r in daemon.json("tls", "downgrades", "list", *words)["rows"]]


def open_downgrades(daemon):
    return int(re.search(r"^hayauma_tls_downgrades_open (\d+)$", daemon.api("/metrics"), re.M)[1])


def one_by_one(certs, **rules):
    """Each message has a connection of its own."""
    return group("default", limits={"messages_per_connection": 1}, tls={"ca_file": str(certs.ca_file)}, dane="off", mta_sts="off",
                 timeouts={"ehlo": f"{int(2 * PATIENCE)}s"}, **{"clear_after_tls_failure": "now", **rules})


def test_a_downgrade_is_registered_and_over_when_tls_is_back(world, certs):
    world.receiver("r", "r.test")
    daemon = world.daemon(one_by_one(certs))
    daemon.send("a@r.test")
    world.got(1)
    assert register(daemon) == [] and open_downgrades(daemon) == 0
    world.receivers.change("r", tls="none")
    daemon.send("b@r.test")
    world.got(2)
    wait_until(lambda: register(daemon), what="the entry")
    assert register(daemon) == [("r.test", "mx.r.test", "authenticated", "clear", "open", 1)]
    assert open_downgrades(daemon) == 1
    assert re.search(r"warn  tls\.downgrade .*domain=r\.test mx=mx\.r\.test .*from=authenticated to=clear", daemon.log())
    assert "less TLS than before" in daemon.hayauma("status")
    assert "r.test" in daemon.hayauma("tls", "downgrades")
    assert list(csv.DictReader(io.StringIO(daemon.hayauma("tls", "downgrades", "list", "--csv"))))[0]["to"] == "clear"
    assert daemon.json("tls", "downgrades", "list", "--state", "approved") == {"rows": [], "open": 1}
    world.receivers.change("r", tls="starttls")
    daemon.send("c@r.test")
    world.got(3)
    wait_until(lambda: register(daemon)[0][4] == "over", what="the end of it")
    assert open_downgrades(daemon) == 0 and "less TLS" not in daemon.hayauma("status")


def test_what_was_seen_outlives_a_restart_and_approval_does(world, certs):
    world.receiver("r", "r.test")
    daemon = world.daemon(one_by_one(certs))
    daemon.send("a@r.test")
    world.got(1)
    daemon.stop()
    world.receivers.change("r", tls="none")
    daemon.start()
    daemon.send("b@r.test")
    world.got(2)
    wait_until(lambda: open_downgrades(daemon) == 1, what="the entry")
    assert "approved" in daemon.hayauma("tls", "downgrades", "approve", "R.test")
    assert open_downgrades(daemon) == 0
    assert register(daemon) == [("r.test", "mx.r.test", "authenticated", "clear", "approved", 1)]
    daemon.hayauma("tls", "downgrades", "approve", "r.test", code=1)
    daemon.stop()
    daemon.start()
    daemon.send("c@r.test")
    world.got(3)
    assert open_downgrades(daemon) == 0 and register(daemon)[0][4] == "approved"
    daemon.hayauma("tls", "downgrades", "forget", "r.test")
    assert register(daemon) == []


def test_a_smart_host_that_loses_tls_is_a_downgrade_of_what_it_carries(world, certs):
    world.receiver("r", "direct.test")
    world.dns.a("relay.test", world.receivers.by_name["r"].p.address)
    through = one_by_one(certs, on_downgrade="hold", retry=HOURLY, route={"smarthost": f"relay.test:{MX_PORT}"})
    daemon = world.daemon({**through, "name": "through", "match": ["p.test", "q.test", "r.test"]}, one_by_one(certs), workers=1)
    daemon.send("a@p.test")
    world.got(1)
    world.receivers.change("r", tls="none")
    daemon.send("b@p.test")
    (held,) = wait_until(lambda: [q for q in daemon.queued() if q["attempts"]], what="the mail to be held")
    assert re.search(r"4\.7\.5.*relay\.test had TLS before and now has no TLS", held["last_outcome"] + " 4.7.5"), held
    assert register(daemon) == [("p.test", "relay.test", "encrypted", "clear", "open", 1)]
    daemon.send("a@q.test")  # it never went there, but the relay is known by others
    wait_until(lambda: len([q for q in daemon.queued() if q["attempts"]]) == 2, what="the other mail to be held")
    assert len(register(daemon)) == 2 and len(world.seen.deliveries) == 1
    daemon.hayauma("tls", "downgrades", "approve", "--mx", "relay.test")
    world.got(3)
    daemon.send("a@r.test")  # approved is approved
    world.got(4)
    assert open_downgrades(daemon) == 0 and daemon.queued() == []


def test_mail_is_held_on_a_downgrade_until_it_is_approved(world, certs):
    world.receiver("r", "r.test")
    world.receiver("s", "s.test")
    daemon = world.daemon(one_by_one(certs, on_downgrade="hold", retry=HOURLY))
    daemon.send("a@r.test")
    daemon.send("a@s.test")
    world.got(2)
    world.receivers.change("r", tls="none")
    world.receivers.change("s", tls="none")
    daemon.send("b@r.test")
    daemon.send("b@s.test")
    waiting = wait_until(lambda: len(daemon.queued()) == 2 and all(q["attempts"] for q in daemon.queued()) and daemon.queued(),
                         what="both held")
    assert all(re.search(r"4\.7\.5.*hayauma tls downgrades approve", q["last_outcome"]) for q in waiting)
    assert len(world.seen.deliveries) == 2 and open_downgrades(daemon) == 2
    daemon.hayauma("tls", "downgrades", "approve", "r.test", "--mx", "mx.r.test")
    world.got(3)  # at once, not after the hour
    assert [q["domain"] for q in daemon.queued()] == ["s.test"] and open_downgrades(daemon) == 1
    world.receivers.change("s", tls="starttls")
    daemon.queue_op("retry", domain="s.test")
    world.got(4)
    wait_until(lambda: open_downgrades(daemon) == 0, what="the end of the other")
    assert get(daemon, REGISTER)["open"] == 0


def test_a_host_of_many_domains_is_approved_once(world, certs):
    domains = [f"d{i}.test" for i in range(40)]
    world.receiver("shared", *domains)
    world.receiver("other", "other.test")
    daemon = world.daemon(one_by_one(certs, on_downgrade="hold", retry=HOURLY))
    for d in [*domains, "other.test"]:
        daemon.send(f"a@{d}")
    world.got(41)
    world.receivers.change("shared", tls="none")
    world.receivers.change("other", tls="none")
    for d in [*domains, "other.test"]:
        daemon.send(f"b@{d}")
    wait_until(lambda: open_downgrades(daemon) == 41, what="an entry of each")
    said = daemon.json("tls", "downgrades", "approve", "--mx", "mx.shared.test")
    assert (said["domains"], said["changed"]) == (40, 40)
    world.got(81)
    assert open_downgrades(daemon) == 1 and [r[0] for r in register(daemon, "--state", "open")] == ["other.test"]
    assert "1 entry of 1 domain approved" in daemon.hayauma("tls", "downgrades", "approve", "--all")
    world.got(82)
    daemon.hayauma("tls", "downgrades", "forget", "--all")
    assert register(daemon) == []


def test_a_certificate_that_no_longer_holds_is_a_downgrade(world, certs):
    address = world.receiver("r", "r.test")
    daemon = world.daemon(one_by_one(certs))
    daemon.send("a@r.test")
    world.got(1)
    world.receivers.remove("r")
    world.receiver("r", address=address, host="mx.r.test", cert="self_signed")
    daemon.send("b@r.test")
    world.got(2)
    wait_until(lambda: register(daemon), what="the entry")
    assert register(daemon) == [("r.test", "mx.r.test", "authenticated", "encrypted", "open", 1)]
    assert "self" in daemon.json("tls", "downgrades")["rows"][0]["evidence"]
    # What the rule refuses for it is an entry too, or goes on with the one that is there.
    daemon.apply([one_by_one(certs, starttls="verify", retry=HOURLY)])
    daemon.send("c@r.test")
    wait_until(lambda: daemon.queued() and daemon.queued()[0]["attempts"], what="the refusal")
    daemon.stop()  # counts are written now and then, and at the end
    daemon.start()
    assert register(daemon) == [("r.test", "mx.r.test", "authenticated", "encrypted", "open", 2)]


# ---- DANE and MTA-STS ----

def test_what_was_discovered_is_a_key_of_its_own(tmp_path, certs):
    require_signed_world()
    world = SecureWorld(tmp_path, certs)
    try:
        zone = world.zone("sec.test")
        for name, cert in (("dane", "self_signed"), ("sts", "good"), ("none", "good")):
            host = f"mx.{name}.sec.test"
            pair = world.mail_host(name, host, cert=cert)
            zone.add(f"{name}.sec.test. MX 10 {host}.", f"{host}. A {world.address_of(name)}")
            if name == "dane":
                zone.add(f"_2526._tcp.{host}. TLSA {world_certs.tlsa(world_certs.load(pair[0])[0], 3, 1, 1)}")
            if name == "sts":
                world.policy("sts.sec.test", zone=zone)
        world.start()
        daemon = world.daemon(group("both", [".sec.test"], starttls="on", dane="try", mta_sts="try", retry=HOURLY,
                                    tls={"ca_file": str(certs.ca_file)}))
        daemon.send(*[f"user{i}@dane.sec.test" for i in range(3)])
        daemon.send(*[f"user{i}@sts.sec.test" for i in range(2)])
        daemon.send("user@none.sec.test")
        world.got(6)
        wait_until(lambda: daemon.totals()["delivered"] == 6, what="the record of all")
        assert by(daemon, "level") == {"dane": 3, "sts-enforce": 2, "on": 1}
        assert by(daemon, "why") == {"dane": 3, "sts": 2, "rule": 1}
        assert by(daemon, "wanted") == {"on": 6}
        assert by(daemon, "verify") == {"verified-dane": 3, "verified-pkix": 3}
        assert by(daemon, "dane") == {"match": 3, "none": 3}
        assert by(daemon, "sts")["ok"] == 2
        totals = daemon.api(TLS)["totals"]
        assert totals["shares"]["authenticated"] == 1 and totals["dane"] == {"match": 3, "none": 3}
        assert {r["mx"]: r["verify"] for r in daemon.json("report", "tls", "expiring", "--within", "500d")["rows"]} == {
            "mx.dane.sec.test": "verified-dane", "mx.sts.sec.test": "verified-pkix", "mx.none.sec.test": "verified-pkix"}
        assert "(dane)" in daemon.hayauma("explain", "dane.sec.test")
    finally:
        world.stop()
