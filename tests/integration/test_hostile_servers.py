"""
What servers may do to us between the greeting and the end of a message, T40 to T46, T59 and T60: every cell is one domain with a
server of its own, all of them beside each other on one daemon, and what becomes of the mail is written down beside it.
"""

import itertools
import time

import pytest

from harness import HOURLY, PATIENCE, SANITIZED, group, wait_until
from test_delivery import submit_many
from world.liar import PIPELINES, Liar, polite


@pytest.fixture
def liars(world):
    """liars(domain, script) is the only mail host of the domain; ends with the test."""
    made = []

    def make(domain, script, **more):
        here = world.net.address()
        made.append(Liar(here, script, **more))
        if domain:
            world.dns.site(domain, here)
        return made[-1]

    make.address = lambda one: one.listener.getsockname()[0]
    yield make
    for one in made:
        one.stop()


def in_sequence(*replies):
    left = list(replies)
    return lambda talk, line: left.pop(0) if left else None


# ---- T45: replies ----

MALFORMED = {
    "99": b"99\r\n", "2500": b"2500 ok\r\n", "no-blank": b"250ok\r\n", "out-of-range": b"650 ok\r\n", "letters": b"hello there\r\n",
    "empty": b"\r\n", "code-changes": b"250-first\r\n550 second\r\n", "nul": b"250 a\0b\r\n", "nul-in-code": b"25\0 a\r\n",
    "line-too-long": b"250 " + b"y" * 5000 + b"\r\n", "many-lines": b"250-and so on\r\n" * 1_000_000}
UNFINISHED = {"no-end": b"250-first\r\n250-second\r\n", "no-crlf": b"250 ok"}
STAGES = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT")


def quick(seconds=2):
    """Every wait for a reply, so short that silence ends within the test."""
    return {w: f"{int(seconds * PATIENCE)}s" for w in ("greeting", "ehlo", "mail", "rcpt", "data", "block", "dot")}


def tried(daemon, domains, seconds=30):
    """{domain: its first attempt}, when every domain has one."""
    def all_of_them():
        found = {d: daemon.api(f"/api/v1/explain/{d}")["attempts"] for d in domains if d not in known}
        known.update({d: attempts[-1] for d, attempts in found.items() if attempts})
        return len(known) == len(domains)

    known = {}
    wait_until(all_of_them, seconds, "an attempt for each", step=0.2)
    return known


def test_t45_a_reply_that_is_none_defers(world, liars):
    cells = {}
    for stage, (name, octets) in itertools.product(STAGES, {**MALFORMED, **UNFINISHED}.items()):
        cells[f"{name}.{stage.lower()}.test"] = stage, name, liars(
            f"{name}.{stage.lower()}.test", lambda t, s=stage, o=octets: (polite(t, {s: o}), t.wait_for_end()))
    daemon = world.daemon(group("default", starttls="off", retry=HOURLY, timeouts=quick()))
    before = daemon.rss()
    daemon.send(*[f"a@{d}" for d in cells])
    seen = tried(daemon, cells)
    for d, (stage, name, server) in cells.items():
        code, enhanced = (421, "4.4.2") if name in UNFINISHED else (451, "4.5.0")
        stage_name = "greeting" if stage == "CONNECT" else stage.lower()
        assert [seen[d][k] for k in ("outcome", "stage", "code", "enhanced", "said_by", "in_doubt")] == [
            "deferred", stage_name, code, enhanced, "us", stage == "DOT"], (d, seen[d])
        # What the kernel holds of it for us counts as sent: some hundred thousand octets, never the fourteen million.
        assert max(t.sent for t in server.talks) < 10_000_000, "a reply without end is not read to its end"
    assert SANITIZED or daemon.rss() - before < 64 << 20  # sanitizers keep what was freed
    assert len(daemon.queued()) == len(cells)


def test_t45_odd_replies_mean_what_their_code_says(world, liars):
    rows = {
        "bare": (b"550\r\n", "bounced", 550, ""), "bare-blank": (b"550 \r\n", "bounced", 550, ""),
        "enhanced-alone": (b"550 5.1.1\r\n", "bounced", 550, "5.1.1"), "enhanced-blank": (b"550 5.1.1 \r\n", "bounced", 550, "5.1.1"),
        "half-enhanced": (b"550 5.1\r\n", "bounced", 550, ""), "other-class": (b"450 5.1.1 no\r\n", "deferred", 450, None),
        "600": (b"550 5.1.1 " + b"x" * 588 + b"\r\n", "bounced", 550, "5.1.1"),
        # CVE-2020-8794: a last line without text, behind lines with some.
        "last-bare": (b"553-one\r\n553\r\n", "bounced", 553, ""), "lines-bare": (b"553-\r\n553-\r\n553\r\n", "bounced", 553, ""),
        "enhanced-lines": (b"450-4.2.1\r\n450 4.2.1\r\n", "deferred", 450, "4.2.1"), "lf": (b"550 5.1.1 no\n", "bounced", 550, "5.1.1"),
        "571": (b"571 5.7.1 no\r\n", "bounced", 571, "5.7.1"), "252": (b"252 perhaps\r\n", "delivered", 250, None)}
    for name, row in rows.items():
        liars(f"{name}.test", lambda t, o=row[0]: polite(t, {"RCPT": o}))
    daemon = world.daemon(group("default", starttls="off", retry=HOURLY, timeouts=quick()))
    daemon.send(*[f"a@{name}.test" for name in rows])
    seen = tried(daemon, [f"{name}.test" for name in rows])
    for name, (_, outcome, code, enhanced) in rows.items():
        a = seen[f"{name}.test"]
        assert (a["outcome"], a["code"], a["said_by"]) == (outcome, code, "peer"), (name, a)
        assert enhanced is None or (a["enhanced"] or "") == enhanced, (name, a)


# ---- T40: connections that end ----

def after(verb, act):
    """A script that hears this verb, and ends."""
    def script(talk):
        polite(talk, {verb: lambda t, line: act(t)}, ehlo=PIPELINES)
    return script


def half_of_it(talk):
    polite(talk, {"DATA": lambda t, line: (t.say(b"354 go on\r\n"), t.octets(100_000), t.reset())})


# Where it ends; does the next host get the mail at once; is it in doubt?
DROPS = {
    "connect": (lambda t: t.reset(), True, "greeting", False), "fin": (lambda t: t.hang_up(), True, "greeting", False),
    "half-220": (lambda t: t.say(b"220 li"), True, "greeting", False), "220": (after("EHLO", lambda t: t.reset()), True, "ehlo", False),
    "ehlo": (after("MAIL", lambda t: t.reset()), True, "mail", False), "mail": (after("RCPT", lambda t: t.reset()), False, "rcpt", False),
    "rcpt": (after("RCPT", in_sequence(b"250 ok\r\n", b"250 ok\r\n")), False, "rcpt", False),
    "data": (after("DATA", lambda t: t.reset()), False, "data", False), "half": (half_of_it, False, "data", False),
    "dot": (after("DOT", lambda t: t.reset()), False, "dot", True), "half-250": (after("DOT", lambda t: (t.say(b"25"), t.reset())), False, "dot", True)}
BIG = "y" * 76 + "\r\n"


def test_t40_a_connection_may_end_anywhere(world, liars):
    """Early the next host is asked at once, later the recipient waits with 4.4.2, and after the dot it is in doubt."""
    world.receiver("second")
    for name, (script, *_) in DROPS.items():
        if name == "rcpt":  # the third RCPT
            count = lambda t, line, n=[0]: n.append(n.pop() + 1) or (t.reset() if n[0] == 3 else None)  # noqa: B006, E731
            script = lambda t, c=count: polite(t, {"RCPT": c})  # noqa: E731
        one = liars(None, script)
        world.dns.mx(f"{name}.test", f"10 mx.{name}.test", "20 mx.second.test").a(f"mx.{name}.test", liars.address(one))
    daemon = world.daemon(group("default", starttls="off", retry=HOURLY))
    # Bigger than what the kernel takes in: the dot cannot have left when half of it is heard.
    daemon.send(*[f"{w}@{name}.test" for name in DROPS for w in "abc"], body=BIG * 80_000)
    seen = tried(daemon, [f"{name}.test" for name in DROPS])
    early = [f"{w}@{name}.test" for name, row in DROPS.items() if row[1] for w in "abc"]
    late = [f"{w}@{name}.test" for name, row in DROPS.items() if not row[1] for w in "abc"]
    assert sorted(d.recipient for d in world.got(len(early), at="second")) == sorted(early), "and none of those that were judged"
    wait_until(lambda: len(daemon.queued()) == len(late) and all(r["attempts"] == 1 for r in daemon.queued()), what="the rest waits")
    for name, (_, next_host, stage, in_doubt) in DROPS.items():
        a = seen[f"{name}.test"]
        if next_host:
            assert (a["outcome"], a["mx"], a["attempts"]) == ("delivered", "mx.second.test", 1), (name, a)
        else:
            assert [a[k] for k in ("outcome", "stage", "enhanced", "said_by", "in_doubt")] == [
                "deferred", stage, "4.4.2", "us", in_doubt], (name, a)


def test_t40_an_end_after_the_250_changes_nothing(world, liars):
    taken = []
    liars("a.test", lambda t: polite(t, {"DOT": lambda t, d: (t.say(b"250 taken\r\n"), taken.append(d), t.reset())}, ehlo=PIPELINES))
    daemon = world.daemon(group("default", starttls="off", retry=HOURLY))
    for i in range(5):
        daemon.send(f"r{i}@a.test")
    wait_until(lambda: daemon.totals()["delivered"] == 5 and not daemon.queued(), what="all delivered")
    assert len(taken) == 5 and daemon.json("status")["counters"]["attempts"] == 5


# ---- T44 ----

def test_t44_a_354_after_all_recipients_failed_gets_a_lone_dot(world, liars):
    """RFC 2920 §3.1; what comes next on the connection is its own message."""
    ends = []
    taken = []
    script = lambda t: polite(t, {  # noqa: E731
        "RCPT": lambda t, line: b"550 5.1.1 unknown\r\n" if b"<no" in line else None, "DATA": b"354 go on\r\n",
        "DOT": lambda t, d: ends.append(d)}, ehlo=PIPELINES, taken=taken)
    one = liars("a.test", script)
    daemon = world.daemon(group("default", starttls="off", retry=HOURLY, limits={"connections": 1}))
    daemon.send("no1@a.test", "no2@a.test", body="nobody may see this\r\n", rcpt_options=["NOTIFY=NEVER"])
    daemon.send("yes@a.test", body="for yes alone\r\n")
    wait_until(lambda: not daemon.queued() and taken, what="both settled")
    assert ends[0] == b"" and [r for r, _ in taken] == [["yes@a.test"]] and b"for yes alone" in taken[0][1]
    assert len(one.talks) == 1 and b"nobody may see this" not in one.talks[0].heard
    assert [daemon.totals()[k] for k in ("delivered", "bounced")] == [1, 2]


# ---- T46: EHLO ----

def spoken(server, verb):
    return [line for t in server.talks for line in bytes(t.heard).split(b"\r\n") if line.upper().startswith(verb)]


def test_t46_what_ehlo_says_may_be_wrong(world, liars):
    """Odd words are passed over, offers that do not hold are done without, and the mail arrives whole."""
    def ehlo(*words):
        return b"".join(b"250-" + w + b"\r\n" for w in (b"liar.test",) + words[:-1]) + b"250 " + words[-1] + b"\r\n"

    def late(talk):
        """Says PIPELINING and answers when it likes, all at once."""
        talk.say(b"220 late\r\n")
        talk.line()
        talk.say(ehlo(b"PIPELINING"))
        for _ in range(3):
            talk.line()
        time.sleep(0.5)
        talk.say(b"250 ok\r\n250 ok\r\n354 go on\r\n")
        data = talk.data()
        time.sleep(0.5)
        talk.say(b"250 taken\r\n")
        taken["late"].append(([], data))
        talk.wait_for_end()

    taken = {}
    rows = {
        "size-0": dict(ehlo=ehlo(b"SIZE 0")), "size-bare": dict(ehlo=ehlo(b"SIZE")), "size-huge": dict(ehlo=ehlo(b"SIZE 99999999999999999999")),
        "size-over": dict(ehlo=ehlo(b"SIZE 18446744073709551617")), "size-negative": dict(ehlo=ehlo(b"SIZE -1")),
        "size-words": dict(ehlo=ehlo(b"SIZE=100", b"SIZE what")), "bdat-500": dict(ehlo=ehlo(b"CHUNKING"), replies={"BDAT": b"500 what?\r\n"}),
        "bdat-502": dict(ehlo=ehlo(b"CHUNKING", b"PIPELINING"), replies={"BDAT": b"502 no\r\n"}),
        "bdat-503": dict(ehlo=ehlo(b"CHUNKING", b"PIPELINING"), replies={"BDAT": b"503 no\r\n"}),
        "noise": dict(ehlo=ehlo(b"X" * 400, b"", b"=;", b"PIPELINING=NO", b"8BITMIME\tCHUNKING")),
        "many": dict(ehlo=ehlo(*[b"X-WORD-%d" % i for i in range(90)])),
        "lower": dict(ehlo=ehlo(b"pipelining", b"Size 1000000", b"8bitmime")), "one-line": dict(ehlo=b"250 liar.test\r\n"),
        "bare": dict(ehlo=b"250\r\n"),
        "ehlo-500": dict(replies={"EHLO": b"500 what?\r\n"}), "ehlo-502": dict(replies={"EHLO": b"502 no\r\n"}),
        "ehlo-550": dict(replies={"EHLO": b"550 5.7.1 no\r\n"}), "ehlo-hangs-up": None, "late": None}
    servers = {}
    for name, how in rows.items():
        taken[name] = []
        script = lambda t, h=how, n=name: polite(t, taken=taken[n], **h)  # noqa: E731
        if name == "late":
            script = late
        elif name == "ehlo-hangs-up":
            script = lambda t: polite(t, {"EHLO": (lambda t, line: t.hang_up()) if t.number == 0 else b"500 what?\r\n"}, taken=taken["ehlo-hangs-up"])  # noqa: E731
        servers[name] = liars(f"{name}.test", script)
    daemon = world.daemon(group("default", starttls="off", timeouts=quick(5)))
    body = b".dots\r\n..\r\n" * 200
    daemon.send(*[f"a@{name}.test" for name in rows], body=body)
    wait_until(lambda: not daemon.queued(), 30, "all settled")
    for name in rows:
        assert len(taken[name]) == 1, (name, taken[name], daemon.attempts(f"a@{name}.test"))
        data = taken[name][0][1]
        assert data.replace(b"\r\n..", b"\r\n.").partition(b"\r\n\r\n")[2] == body, name  # by DATA, always
        mail = spoken(servers[name], b"MAIL")[-1]
        assert (b"SIZE=" in mail) == (name.startswith("size") or name == "lower"), name
    assert daemon.totals()["delivered"] == len(rows)


def test_t46_only_the_ehlo_inside_tls_counts(world):
    said = {}

    def hello(clear, inside):
        return lambda s, a: "\r\n".join(f"250-{w}" for w in ["x"] + (clear if s.tls is None else inside)[:-1]) + "\r\n250 " + (
            clear if s.tls is None else inside)[-1]

    def note(name):
        return lambda s, a: said.setdefault(name, s.mail_line) and None

    everything = ["PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "SIZE 5000000"]
    world.receiver("more", "more.test", replies={"EHLO": hello(["STARTTLS"], everything), "RCPT": note("more")})
    world.receiver("less", "less.test", replies={"EHLO": hello(everything + ["STARTTLS"], ["nothing"]), "RCPT": note("less")})
    world.receiver("small", "small.test", replies={"EHLO": hello(["SIZE 10", "STARTTLS"], ["SIZE 5000000"]), "RCPT": note("small")})
    world.receiver("again", "again.test", replies={"EHLO": hello(["STARTTLS"], ["STARTTLS", "PIPELINING"]), "RCPT": note("again")})
    daemon = world.daemon(group("default", starttls="require", retry=HOURLY))
    for name in ("more", "less", "small", "again"):
        daemon.send(f"a@{name}.test", body="x" * 70 + "\r\n", options=["BODY=8BITMIME", "RET=HDRS"])
    assert all(d.tls != "clear" for d in world.got(4))
    assert "SIZE=" in said["more"] and "RET=HDRS" in said["more"] and world.seen.commands["more"]["BDAT"] == 1
    assert said["less"].partition(">")[2] == "" and world.seen.commands["less"]["BDAT"] == 0
    assert "SIZE=" in said["small"]
    assert world.seen.commands["again"]["STARTTLS"] == 1, "once is enough"


# ---- T59, T60 ----

def test_t59_a_reused_connection_that_dies_at_mail_costs_no_attempt(world, liars):
    """Closed while it rests, 421 for MAIL, and silence: each message is tried once, and delivered."""
    ways = {"closes": lambda t: t.reset(), "says-421": lambda t: t.say(b"421 4.4.2 idle\r\n") or t.hang_up(), "silent": lambda t: t.wait_for_end()}
    taken = {name: [] for name in ways}
    for name, act in ways.items():
        def script(talk, name=name, act=act):
            mails = []
            polite(talk, {"MAIL": lambda t, line: mails.append(1) or (act(t) if len(mails) == 2 else None)}, ehlo=PIPELINES, taken=taken[name])
        liars(f"{name}.test", script)
    daemon = world.daemon(group("default", starttls="off", retry=HOURLY, pipelining="commands", timeouts={**quick(), "idle": "60s"}))
    for i in range(3):
        for name in ways:
            daemon.send(f"r{i}@{name}.test")
        wait_until(lambda: all(len(t) == i + 1 for t in taken.values()), what=f"message {i + 1}")
    for i, name in itertools.product(range(3), ways):
        assert [(a["result"], a["attempts"]) for a in daemon.attempts(f"r{i}@{name}.test")] == [("delivered", "1")], name


@pytest.mark.parametrize("pipelining", ["commands", "full"])
def test_t60_a_reply_too_many_or_too_early_mixes_no_messages(world, liars, pipelining):
    """Every message is taken exactly once, or waits; none of them is marked delivered by a reply that belonged to another."""
    taken = {"twice": [], "early": [], "late": []}

    def early(talk):
        polite(talk, {"DATA": lambda t, line: t.say(b"354 go on\r\n250 taken already\r\n") or t.wait_for_end()}, ehlo=PIPELINES)

    def late(talk):
        polite(talk, {"DOT": lambda t, d: (t.say(b"250 taken\r\n"), time.sleep(0.2), t.say(b"250 once more\r\n"), taken["late"].append(([], d))) and b""},
               ehlo=PIPELINES)

    liars("twice.test", lambda t: polite(t, {"DOT": b"250 taken\r\n250 and again\r\n"}, ehlo=PIPELINES, taken=taken["twice"]))
    liars("early.test", early)
    liars("late.test", late)
    daemon = world.daemon(group("default", starttls="off", retry=HOURLY, pipelining=pipelining, limits={"connections": 1}, timeouts=quick(4)))
    for i in range(6):
        for name in taken:
            daemon.send(f"r{i}@{name}.test", subject=f"number {i}")
    wait_until(lambda: all(r["attempts"] for r in daemon.queued()) and daemon.totals()["delivered"] + len(daemon.queued()) == 18, 30, "all settled")
    for name in taken:
        delivered = [i for i in range(6) if daemon.attempts(f"r{i}@{name}.test")[-1]["result"] == "delivered"]
        subjects = [int(d.partition(b"Subject: number ")[2].partition(b"\r\n")[0]) for _, d in taken[name]]
        assert len(set(subjects)) == len(subjects), f"{name}: twice {subjects}"
        assert set(delivered) <= set(subjects), f"{name}: delivered {delivered}, but taken {subjects}"
    assert not [i for i in range(6) if daemon.attempts(f"r{i}@early.test")[-1]["result"] == "delivered"], "250 came before the message had"


# ---- T41, T42: one that is slow, one that refuses ----

@pytest.mark.serial
def test_t41_tarpits_cost_the_others_less_than_five_percent(world, liars):
    """Banners, replies and windows that never come: each kind fills its own connections, and who has a rate keeps it."""
    def no_window(talk):
        polite(talk, {"DATA": lambda t, line: t.say(b"354 go on\r\n") or time.sleep(60)})

    liars("banner.test", lambda t: time.sleep(60))
    liars("replies.test", lambda t: polite(t, dict.fromkeys(("EHLO", "MAIL", "RCPT"), lambda t, line: time.sleep(60))))
    liars("window.test", no_window, receive_buffer=4096)
    world.receiver("fast", "fast.test")
    daemon = world.daemon(group("tar", ["banner.test", "replies.test", "window.test"], starttls="off", limits={"connections": 30}),
                          group("fast", ["fast.test"], limits={"messages_per_second": 50}))
    for i in range(20):
        daemon.send(*[f"r{i}@{name}.test" for name in ("banner", "replies")])
        daemon.send(f"r{i}@window.test", body=BIG * 3000)
    groups = lambda: daemon.json("status")["groups"]  # noqa: E731
    wait_until(lambda: groups()["tar"]["connections"] == 30, what="tarpits that have all they may have")
    submit_many(daemon, [f"r{i}@fast.test" for i in range(250)])
    world.got(250, 20, at="fast")
    times = sorted(d.time for d in world.seen.at("fast"))
    rest = [t for t in times if t > times[0] + 1.5]  # the first second may begin with what the bucket holds
    rate = (len(rest) - 1) / (rest[-1] - rest[0])
    assert 47.5 <= rate <= 52.5, rate
    assert groups()["tar"]["connections"] == 30
    daemon.kill()  # sixty seconds of politeness are not part of this test


def test_t42_a_storm_of_421_from_every_host_is_met_with_patience(world):
    """While nobody answers, one connection asks for all: a round is one connection to each host, however much waits.  A greeting is
    no answer: some hosts turn away at MAIL only."""
    storms = {"CONNECT": "abc", "MAIL": "def"}
    for stage, hosts in storms.items():
        for name in hosts:
            world.receiver(name, replies={stage: "421 4.3.2 come back later"})
        world.dns.mx(f"{stage.lower()}.test", *[f"10 mx.{name}.test" for name in hosts])
    daemon = world.daemon(group("default", retry={"schedule": ["2s"], "jitter": "50%", "lifetime": "1h"}))
    submit_many(daemon, [f"r{i}@{stage.lower()}.test" for i in range(150) for stage in storms])
    wait_until(lambda: all(r["attempts"] for r in daemon.queued()), 30, "all tried")
    sessions = lambda stage: sum(world.seen.sessions[name] for name in storms[stage])  # noqa: E731
    began, before = time.monotonic(), {stage: sessions(stage) for stage in storms}
    time.sleep(5)  # a wait lasts up to 4 seconds
    now = {stage: sessions(stage) for stage in storms}
    rounds = int(time.monotonic() - began) + 1  # and one second at least
    for stage in storms:
        assert 0 < now[stage] - before[stage] <= 3 * rounds, f"{stage}: {now[stage] - before[stage]} in {rounds} s"
    waiting = daemon.queued()
    assert len({r["due_unix"] for r in waiting}) >= 2, "jitter spreads what comes next"
    assert max(r["attempts"] for r in waiting) <= 2 + rounds
    for name in "abcdef":
        world.receivers.change(name, replies={})
    daemon.hayauma("queue", "retry", "--group", "default")
    world.got(300, 30)


# ---- T56 ----

@pytest.mark.serial
def test_t56_equal_hosts_get_equal_shares(world):
    """A thousand connections to four hosts of one preference, and a dead one before them: chi squared, 3 degrees of freedom."""
    for name in "abcd":
        world.receiver(name, tls="none", cert=None)
    world.dns.mx("equal.test", "5 mx.dead.test", *[f"10 mx.{name}.test" for name in "abcd"]).a("mx.dead.test", world.net.address())
    daemon = world.daemon(group("e", ["equal.test"], limits={"messages_per_connection": 1, "connections": 20, "connections_per_host": 20}))
    submit_many(daemon, [f"r{i}@equal.test" for i in range(1000)])
    world.got(1000, 60)
    counts = [len(world.seen.at(name)) for name in "abcd"]
    assert sum((n - 250) ** 2 / 250 for n in counts) < 21.1, counts  # p = 0.0001
