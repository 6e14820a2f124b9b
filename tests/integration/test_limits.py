"""How much, how fast, from where: the limits of a group, with exact counts at the receivers."""

import collections
import contextlib
import socket
import ssl
import threading
import time

import pytest

from harness import HOURLY, MX_PORT, PATIENCE, group, wait_until
from test_delivery import submit_many


def times(world, at=None):
    return sorted(d.time for d in (world.seen.deliveries if at is None else world.seen.at(at)))


def most_within(stamps, span):
    """The largest number of stamps in any span of that many seconds."""
    most = first = 0
    for last, stamp in enumerate(stamps):
        while stamp - stamps[first] > span:
            first += 1
        most = max(most, last - first + 1)
    return most


def openings(world):
    """The times, from now on, at which receivers accept connections."""
    times, connected = [], world.seen.connected

    def stamp(name):
        connected(name)
        times.append(time.monotonic())

    world.seen.connected = stamp
    return times


@pytest.mark.parametrize("workers", [1, 4])
def test_five_connections_are_never_six_at_any_number_of_workers(world, workers):
    world.receiver("five", *[f"d{i}.test" for i in range(8)], delay_s=0.02)
    daemon = world.daemon(group("default", limits={"connections": 5, "connections_per_host": 100}), workers=workers)
    submit_many(daemon, [f"r{i}@d{i % 8}.test" for i in range(150)])
    world.got(150, 60)
    assert world.seen.peak["five"] == 5


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("limit", [1, 3])
def test_connections_per_source_span_all_hosts_and_workers(world, workers, limit):
    for i in range(4):
        world.receiver(f"s{i}", f"d{i}.test", delay_s=0.02)
    together, connected = [], world.seen.connected

    def count(name):
        connected(name)
        together.append(sum(world.seen.open.values()))

    world.seen.connected = count
    daemon = world.daemon(group("default", limits={"connections": 50, "connections_per_source": limit}), workers=workers)
    submit_many(daemon, [f"r{i}@d{i % 4}.test" for i in range(60)])
    world.got(60, 60)
    assert max(together) <= limit, "over all hosts together"
    assert len(together) >= 4, "and every host had its turn"


@pytest.mark.serial
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("limit", ["connections_per_host", "connections_per_source"])
def test_where_there_is_room_again_the_next_connection_comes_at_once(world, workers, limit):
    """One at a time, a message each: without a call each would come when it happens to ask again, 50 or 200 ms later."""
    world.receiver("one", "one.test")
    opened = openings(world)
    daemon = world.daemon(group("default", limits={limit: 1, "messages_per_connection": 1}), workers=workers)
    submit_many(daemon, [f"r{i}@one.test" for i in range(24)])
    world.got(24, 30)
    assert world.seen.peak["one"] == 1 and world.seen.sessions["one"] == 24
    assert opened[-1] - opened[0] < 0.9 * PATIENCE


@pytest.mark.serial
@pytest.mark.parametrize("workers", [1, 4])
def test_a_hundred_a_second_over_all_workers(world, workers):
    world.receiver("rate", *[f"d{i}.test" for i in range(8)])
    daemon = world.daemon(group("default", limits={"messages_per_second": 100}), workers=workers)
    submit_many(daemon, [f"r{i}@d{i % 8}.test" for i in range(1150)])
    world.got(1150, 60)
    t = times(world)
    ten_seconds = [x for x in t if t[0] + 0.5 <= x < t[0] + 10.5]
    assert 950 <= len(ten_seconds) <= 1050


def test_a_rate_by_the_minute_with_a_burst_binds_and_is_told(world):
    world.receiver("min", "a.test", "b.test")
    daemon = world.daemon(group("m", ["a.test", "b.test"],
                                limits={"messages_per_second": 1000, "messages_per_minute": 60, "burst": 20}), workers=4)
    submit_many(daemon, [f"r{i}@{'ab'[i % 2]}.test" for i in range(60)])
    wait_until(lambda: len(world.seen.deliveries) >= 20, what="the burst")
    begun = times(world)[0]
    wait_until(lambda: "messages_per_minute" in daemon.api("/api/v1/status")["groups"]["m"].get("limited_by", {}),
               what="status names the limit")
    wait_until(lambda: any(daemon.api(f"/api/v1/explain/{d}.test").get("limited_by", {}).get("limit") == "messages_per_minute"
                           for d in "ab"), what="explain names the limit")
    assert "messages_per_minute" in daemon.hayauma("status")
    time.sleep(max(0, begun + 5 - time.time()))
    t = times(world)
    assert 20 <= len([x for x in t if x < begun + 1]) <= 22
    assert 23 <= len([x for x in t if x < begun + 5]) <= 25


@pytest.mark.serial
def test_an_hourly_rate_gives_way_at_once_to_a_new_policy_and_another_takes_hold(world):
    world.receiver("hour", "hour.test")
    rules = lambda **limits: [group("h", ["hour.test"], limits=limits)]
    daemon = world.daemon(*rules(messages_per_hour=4), workers=4)
    submit_many(daemon, [f"r{i}@hour.test" for i in range(20)])
    wait_until(lambda: len(world.seen.deliveries) == 1, what="the first")
    time.sleep(1)
    assert len(world.seen.deliveries) == 1
    daemon.apply(rules(messages_per_second=20))
    world.got(20, 5)
    daemon.apply(rules(messages_per_hour=1))
    before = len(world.seen.deliveries)
    submit_many(daemon, [f"s{i}@hour.test" for i in range(5)])
    time.sleep(1.5)
    assert len(world.seen.deliveries) <= before + 1


@pytest.mark.parametrize("rate", ["messages_per_second", "messages_per_second_per_source"])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_rate_that_many_sites_share_opens_no_connection_in_vain(world, workers, rate):
    """Forty sites, each with mail for ten connections, and fifty in all: each would take from the others what idles there."""
    address = world.receiver("many", delay_s=0.01)
    for i in range(40):
        world.dns.a(f"mx{i}.many.test", address).mx(f"d{i}.test", f"10 mx{i}.many.test")
    daemon = world.daemon(group("default", starttls="off",
                                limits={rate: 100, "connections": 50, "connections_per_host": 50}), workers=workers)
    submit_many(daemon, [f"r{i}@d{i % 40}.test" for i in range(1600)])
    wait_until(lambda: len(world.seen.deliveries) >= 300, 60, "some of it")
    sessions = world.seen.sessions["many"]
    assert sessions <= (100 if rate == "messages_per_second" else 300), f"{sessions}: one for each message, and more"


@pytest.mark.serial
@pytest.mark.parametrize("workers", [1, 4])
def test_connections_are_opened_at_their_rate(world, workers):
    world.receiver("conn", *[f"d{i}.test" for i in range(4)])
    t = openings(world)  # deliveries would also tell how long the first handshake took
    daemon = world.daemon(group("default", limits={"connection_rate": "5/s", "messages_per_connection": 1}), workers=workers)
    submit_many(daemon, [f"r{i}@d{i % 4}.test" for i in range(25)])
    world.got(25, 30)
    assert world.seen.sessions["conn"] == 25
    assert most_within(t, 0.9) <= 6
    assert 24 / 5 * 0.95 <= t[-1] - t[0] <= 24 / 5 * 1.25 + 0.5


@pytest.mark.serial
@pytest.mark.parametrize("workers", [1, 4])
def test_a_new_policy_goes_on_with_what_connection_rate_let_go(world, workers):
    world.receiver("conn", *[f"d{i}.test" for i in range(16)])
    opened = openings(world)
    rules = lambda rate, more: [group("default", limits={"connection_rate": rate, "connections": 50 + more,
                                                         "messages_per_connection": 1})]
    daemon = world.daemon(*rules("20/s", 0), workers=workers)
    submit_many(daemon, [f"r{i}@d{i % 16}.test" for i in range(160)])
    wait_until(lambda: len(opened) > 8, what="some")
    for more in range(1, 5):
        daemon.apply(rules("20/s", more))
        time.sleep(0.1)
    time.sleep(1)
    same = len(opened)
    daemon.apply(rules("80/s", 0))
    faster = time.monotonic()
    world.got(160, 20)
    # What half a second gives, one, one that a late timer makes up for; and one that came late itself.
    assert most_within(opened[:same], 0.5) <= 10 + 1 + 1 + 1
    assert (160 - same) / 80 * 0.85 <= opened[-1] - faster <= (160 - same) / 80 * 1.1 + 0.4 * PATIENCE


def test_a_connection_that_waits_for_its_minute_is_freed_by_a_new_policy(world):
    world.receiver("slow", "slow.test")
    rules = lambda rate: [group("s", ["slow.test"], limits={"connection_rate": rate, "messages_per_connection": 1})]
    daemon = world.daemon(*rules("1/h"))
    submit_many(daemon, [f"r{i}@slow.test" for i in range(6)])
    wait_until(lambda: len(world.seen.deliveries) == 1, what="the first")
    wait_until(lambda: "connection_rate" in daemon.api("/api/v1/status")["groups"]["s"].get("limited_by", {}),
               what="status names the limit")
    assert world.seen.sessions["slow"] == 1
    daemon.apply(rules("100/s"))
    world.got(6, 5)


@pytest.mark.serial
def test_octets_a_second_hold_over_messages_of_all_sizes(world):
    world.receiver("bytes", "bytes.test")
    daemon = world.daemon(group("b", ["bytes.test"], limits={"bytes_per_second": 100_000}), workers=2)
    for i in range(40):
        daemon.send(f"r{i}@bytes.test", body=("x" * 70 + "\r\n") * (70 if i % 2 else 210))
    world.got(40, 30)
    sizes = {d.time: d.size for d in world.seen.deliveries}
    stamps = sorted(sizes)
    assert len(stamps) == 40
    sent = sum(sizes[t] for t in stamps[:-1])  # the last is paid for later
    span = stamps[-1] - stamps[0]
    assert sent / 100_000 - 0.1 <= span <= sent / 100_000 * 1.1 + 0.5


# ---- pipelining ----

class Wire:
    """A host that answers each write a little later, all at once, and keeps the verbs that stood in each."""

    def __init__(self, world, domain, offers):
        address = world.net.address()
        world.dns.a(f"mx.{domain}", address).mx(domain, f"10 mx.{domain}")
        self.offers, self.writes, self.messages, self.may_begin = offers, [], 0, threading.Event()
        self.server = socket.create_server((address, MX_PORT))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with self.server, self.server.accept()[0] as link:
            self.may_begin.wait(60 * PATIENCE)
            link.sendall(b"220 wire.test\r\n")
            self.rest = b""
            while data := link.recv(65536):
                time.sleep(0.05)
                self.rest += data
                self.writes.append([])
                link.sendall(b"".join(self.answers()))

    def answers(self):
        while b"\r\n" in self.rest:
            line, _, rest = self.rest.partition(b"\r\n")
            verb = line.split()[0].decode() if line else ""
            self.writes[-1].append(verb)
            if verb == "BDAT":
                rest = rest[int(line.split()[1]):]  # it came with its octets, or this fails
            self.rest = rest
            if verb == "DATA":
                yield b"354 go\r\n"
                if not rest:
                    return
            elif verb == "EHLO":
                yield b"".join(b"250-%s\r\n" % o for o in [b"wire.test", *self.offers]) + b"250 8BITMIME\r\n"
            elif verb in ("MAIL", "RCPT", "BDAT", "RSET", "QUIT"):
                self.messages += verb == "BDAT"
                yield b"250 ok\r\n"
            elif b"\r\n.\r\n" not in line + b"\r\n" + rest:  # the end of the message is still to come
                self.writes[-1].pop()
                self.rest = line + b"\r\n" + rest
                return
            else:  # a message by DATA
                _, _, self.rest = (line + b"\r\n" + rest).partition(b"\r\n.\r\n")
                self.writes[-1][-1] = "."
                self.messages += 1
                yield b"250 ok\r\n"


class SecureWire(Wire):
    """The same behind STARTTLS, and how many records of application data came in."""

    def __init__(self, world, domain, offers):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2  # shows which records are of the handshake
        self.context.load_cert_chain(*map(str, world.certs.good(f"mx.{domain}")))
        self.raw = b""
        super().__init__(world, domain, offers)

    def records(self):
        at, types = 0, []
        while at + 5 <= len(self.raw):
            types.append(self.raw[at])
            at += 5 + int.from_bytes(self.raw[at + 3:at + 5], "big")
        return types.count(23)

    def serve(self):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
        with self.server, self.server.accept()[0] as link, contextlib.suppress(ConnectionError):  # after QUIT
            self.may_begin.wait(60 * PATIENCE)
            for words in b"220 wire.test", b"250-wire.test\r\n250 STARTTLS", b"220 go":
                link.sendall(words + b"\r\n")
                data = link.recv(65536)
            done, self.rest = False, b""
            while data:
                self.raw += data
                incoming.write(data)
                try:
                    if not done:
                        tls.do_handshake()
                        done = True
                    while text := tls.read(65536):
                        time.sleep(0.05)
                        self.rest += text
                        self.writes.append([])
                        tls.write(b"".join(self.answers()))
                except ssl.SSLWantReadError:
                    pass
                link.sendall(outgoing.read())
                data = link.recv(65536)


GROUP = ["MAIL", "RCPT", "DATA"]
ONE_BY_ONE = [["MAIL"], ["RCPT"], ["DATA"], ["."]]


@pytest.mark.parametrize("how, chunking, writes", [
    ("off", False, 3 * ONE_BY_ONE),
    ("off", True, 3 * [["MAIL"], ["RCPT"], ["BDAT"]]),
    ("commands", False, 3 * [GROUP, ["."]]),
    ("full", False, [GROUP, [".", *GROUP], [".", *GROUP], ["."]]),
    ("full", True, [["MAIL", "RCPT", "BDAT"], GROUP, [".", *GROUP], ["."]]),
])
def test_as_much_is_said_in_one_write_as_the_degree_of_pipelining_allows(world, how, chunking, writes):
    wire = Wire(world, "pipe.test", [b"PIPELINING"] + [b"CHUNKING"] * chunking)
    daemon = world.daemon(group("p", ["pipe.test"], starttls="off", pipelining=how, limits={"connections": 1}), workers=1)
    submit_many(daemon, [f"r{i}@pipe.test" for i in range(3)])
    wire.may_begin.set()
    wait_until(lambda: wire.messages == 3, what="three messages")
    assert wire.writes[0] == ["EHLO"] and wire.writes[1:1 + len(writes)] == writes
    assert f"pipelining: {how}" in daemon.api("/api/v1/explain/pipe.test")["settings"]


def test_in_tls_a_message_and_the_commands_behind_it_are_one_record(world):
    wire = SecureWire(world, "pipe.test", [b"PIPELINING"])
    daemon = world.daemon(group("p", ["pipe.test"], starttls="require", limits={"connections": 1}), workers=1)
    for i in range(5):
        daemon.send(f"r{i}@pipe.test", body=("y" * 98 + "\r\n") * 100)
    wire.may_begin.set()
    wait_until(lambda: wire.messages == 5, what="five messages")
    assert wire.writes[:7] == [["EHLO"], GROUP, *4 * [[".", *GROUP]], ["."]] and wire.records() == 7


@pytest.mark.parametrize("how, why", [("refuses", "does not take commands behind the end"), ("falls silent", "timed out"),
                                      ("closes", "closed")])
def test_a_host_that_falls_out_of_step_is_served_with_commands_from_then_on(world, how, why):
    """It offers PIPELINING, and cannot take what stands behind the end of a message.  That costs no attempt."""
    early = collections.Counter()

    def on_dot(session, _):
        session.early = len(session.buf) > 0
        return None

    def on_mail(session, _):
        if not getattr(session, "early", False):
            return None
        early["seen"] += 1
        if how == "closes":
            session.flush()
            session.close()
        return "503 5.5.1 one at a time" if how == "refuses" else "silence"

    world.receiver("step", "step.test", banner_delay_s=0.5, replies={"DOT": on_dot, "MAIL": on_mail})
    daemon = world.daemon(group("s", ["step.test"], pipelining="full", retry=HOURLY, limits={"connections": 1},
                                timeouts={"mail": "1s"}), workers=1)
    submit_many(daemon, [f"r{i}@step.test" for i in range(30)])
    world.got(30, 20)
    assert early["seen"] == 1, "it was seen once, and remembered"
    assert daemon.log().count(" shaping.begin ") == 1
    assert daemon.totals()["delivered"] == 30
    (event,) = daemon.json("shaping", "list")["events"]
    assert why in event["text"]


# ---- hosts that failed ----

def test_a_host_that_failed_is_tried_last_from_then_on(world):
    dead = world.net.address()
    alive = world.receiver("alive")
    world.dns.a("mx.dead.test", dead).mx("two.test", "10 mx.dead.test", "20 mx.alive.test")
    daemon = world.daemon(group("t", ["two.test"], retry=HOURLY, limits={"connections": 1, "messages_per_connection": 1}),
                          workers=1)
    submit_many(daemon, [f"r{i}@two.test" for i in range(10)])
    world.got(10)
    assert alive and daemon.log().count("host.failed") == 1
    hosts = {h["host"]: h for h in daemon.api("/api/v1/explain/two.test")["hosts"]}
    assert 200 < hosts["mx.dead.test"]["tried_last_seconds"] <= 300
    assert "tried_last_seconds" not in hosts["mx.alive.test"]
    assert "tried last mx.dead.test: it failed; for another " in daemon.hayauma("explain", "two.test")


def test_what_one_worker_finds_out_about_a_host_all_of_them_know(world):
    down = {"first"}
    for name in ("first", "second"):
        world.receiver(name, replies={"CONNECT": lambda session, _: "421 4.3.2 not now" if session.p.name in down else None})
    domains = [f"d{i}.test" for i in range(24)]  # of all workers
    for domain in domains:
        world.dns.mx(domain, "10 mx.first.test", "20 mx.second.test")
    daemon = world.daemon(group("t", domains, retry=HOURLY, adaptive="off", limits={"messages_per_connection": 1}), workers=4)

    def send_all(name, count):
        """To one domain, and when that has told what there is to know, to all; where it goes, and who else was asked."""
        before = dict(world.seen.sessions)
        daemon.send(f"a@{domains[0]}")
        world.got(count + 1, at=name)
        asked = {n: world.seen.sessions[n] - before.get(n, 0) for n in ("first", "second")}
        submit_many(daemon, [f"a@{domain}" for domain in domains])
        world.got(count + 25, at=name)
        return asked, {n: world.seen.sessions[n] - before.get(n, 0) for n in ("first", "second")}

    assert send_all("second", 0) == ({"first": 1, "second": 1}, {"first": 1, "second": 25})
    explained = [daemon.api(f"/api/v1/explain/{domain}") for domain in domains]
    assert len({e["worker"] for e in explained}) == 4
    assert all(200 < e["hosts"][0]["tried_last_seconds"] <= 300 for e in explained)
    down.clear()
    down.add("second")
    # Tried last, and there again: that is known to all as well.
    assert send_all("first", 0) == ({"first": 1, "second": 1}, {"first": 25, "second": 1})
    assert daemon.log().count("host.failed") == 2 and daemon.totals()["delivered"] == 50
