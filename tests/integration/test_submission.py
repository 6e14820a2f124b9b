"""Applications hand mail in: what they may say, what they get told, and that it arrives as it was meant."""

import hashlib
import os
import re
import smtplib
import ssl
import subprocess
import time

import pytest

from harness import HOURLY, SANITIZED, SENDER, Raw, compose, group, no_check, scram_sha_256, wait_until


@pytest.fixture
def inbox(world):
    """A receiver for inbox.test that keeps bodies."""
    world.receiver("inbox", "inbox.test", keep_bodies=True)
    return world


def body_of(world, message_id, receiver="inbox"):
    return wait_until(lambda: world.seen.bodies.get((receiver, message_id)), what=f"message {message_id}")


# ---- real clients, real servers ----

@pytest.mark.parametrize("kind", ["postfix", "exim"])
def test_swaks_with_starttls_and_auth_reaches_a_real_server(world, kind, request):
    server = request.getfixturevalue(kind)
    world.dns.mx("corp.test", f"10 {server.host}").a(server.host, server.address)
    daemon = world.daemon(group("corp", ["corp.test"], starttls="require"))
    user, password = daemon.account()
    before = server.count()
    done = subprocess.run(
        ["swaks", "--server", daemon.address, "--port", str(daemon.port), "-tls", "--auth", "PLAIN", "--auth-user", user,
         "--auth-password", password, "--from", SENDER, "--to", "chef@corp.test", "--header", "Subject: by swaks"],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(lambda: server.count() == before + 1, what=f"the message in {kind}'s mailbox")
    head = [h for h in server.heads() if "by swaks" in h][-1]
    assert "TLSv1.3" in head or "TLS1.3" in head, "the hop to the receiver"
    assert re.search(r"by hayauma\.example.*\bESMTPSA\b", head, re.S | re.I), "the hop into hayauma"


@pytest.mark.parametrize("kind", ["postfix", "exim"])
def test_a_real_server_injects_through_us(inbox, kind, certs, tmp_path):
    from world import net, servers
    cls = {"postfix": servers.Postfix, "exim": servers.Exim}[kind]
    reason = servers.jail_works()
    if reason:
        pytest.skip(reason)
    daemon = inbox.daemon()
    n = net.Net()
    server = cls(f"relay-{os.getpid()}", n.address(), 2526, "relay.test", certs.good("relay.test"), relay=daemon.open).start()
    try:
        message_id, text = compose(["a@inbox.test"], body="from a real server\r\n..dots\r\n")
        server.send(SENDER, ["a@inbox.test", "b@inbox.test"], text.decode().replace("\r\n", "\n"))
        inbox.got(2)
        assert b"\r\n..dots\r\n" in body_of(inbox, message_id)
    finally:
        server.stop()
        n.release()


def test_openssl_sees_tls_1_3(world):
    daemon = world.daemon()
    done = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-connect", f"{daemon.address}:{daemon.port}", "-brief"],
                          input="QUIT\n", capture_output=True, text=True, timeout=30)
    assert "Protocol version: TLSv1.3" in done.stdout + done.stderr


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_tls_is_refused(world, version):
    daemon = world.daemon()
    old = getattr(ssl.TLSVersion, version)
    with Raw(*daemon.submission) as raw:
        raw.ok("EHLO client.example")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            raw.starttls(no_check(old, old))


def test_implicit_tls_greets_inside_tls(inbox):
    daemon = inbox.daemon(start=False)
    daemon.config["listeners"].append({"address": f"{daemon.address}:{daemon.tls_port}", "tls": "implicit", "auth": "required"})
    daemon.start()
    user, password = daemon.account()
    message_id, text = compose(["a@inbox.test"])
    with smtplib.SMTP_SSL(daemon.address, daemon.tls_port, context=no_check(), timeout=20) as client:
        client.login(user, password)
        assert "starttls" not in client.esmtp_features
        client.sendmail(SENDER, ["a@inbox.test"], text)
    inbox.got(1)


# ---- who may submit ----

@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
def test_each_mechanism_lets_the_right_password_in_and_no_other(inbox, mechanism):
    daemon = inbox.daemon()
    user, password = daemon.account()

    def login(secret):
        with Raw(*daemon.submission) as raw:
            raw.ok("EHLO client.example")
            raw.starttls()
            assert mechanism in raw.ok("EHLO client.example")
            if mechanism == "SCRAM-SHA-256":
                return scram_sha_256(raw, user, secret)
            import base64
            b64 = lambda s: base64.b64encode(s.encode()).decode()
            if mechanism == "PLAIN":
                return raw.cmd("AUTH PLAIN " + b64(f"\0{user}\0{secret}"))
            raw.ok("AUTH LOGIN", 334)
            raw.ok(b64(user), 334)
            return raw.cmd(b64(secret))

    assert login(password)[0] == 235
    code, text = login("wrong")
    assert code == 535 and "5.7.8" in text


def test_an_unknown_user_hears_what_a_wrong_password_hears(world):
    daemon = world.daemon()
    daemon.account("app", "right horse")
    said = []
    for user, secret in (("app", "wrong"), ("nobody", "wrong")):
        with daemon.client(daemon.port) as client:
            client.starttls(context=no_check())
            with pytest.raises(smtplib.SMTPAuthenticationError) as error:
                client.login(user, secret)
            said.append((error.value.smtp_code, error.value.smtp_error))
    assert said[0] == said[1] and said[0][0] == 535


def test_auth_is_neither_offered_nor_taken_before_tls(world):
    daemon = world.daemon()
    daemon.account()
    with Raw(*daemon.submission) as raw:
        assert "AUTH" not in raw.ok("EHLO client.example")
        code, _ = raw.cmd("AUTH PLAIN AGFwcABjb3JyZWN0IGhvcnNl")
        assert code in (502, 503, 504, 530, 538)
        assert raw.cmd(f"MAIL FROM:<{SENDER}>")[0] == 530


def test_mail_before_auth_is_refused(world):
    daemon = world.daemon()
    with Raw(*daemon.submission) as raw:
        raw.ok("EHLO client.example")
        raw.starttls()
        raw.ok("EHLO client.example")
        code, text = raw.cmd(f"MAIL FROM:<{SENDER}>")
        assert code == 530 and "5.7.0" in text


def test_an_account_sends_only_from_its_domains(inbox):
    daemon = inbox.daemon()
    daemon.account("shop", "top secret", sender_domains=["shop.example"])
    with daemon.client(daemon.port) as client:
        client.starttls(context=no_check())
        client.login("shop", "top secret")
        assert client.mail("news@shop.example")[0] == 250
        client.rset()
        code, text = client.mail("ceo@bank.example")
        if code == 250:
            code, text = client.rcpt("a@inbox.test")
        assert code == 553 or (500 <= code < 560 and b"5.7." in text)


def test_an_account_comes_only_from_its_networks(world):
    daemon = world.daemon()
    daemon.account("far", "top secret", networks=["192.0.2.0/24"])
    with daemon.client(daemon.port) as client:
        client.starttls(context=no_check())
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("far", "top secret")


def test_only_trusted_networks_submit_without_auth(world):
    daemon = world.daemon(start=False)
    daemon.config["listeners"][1].update(auth="required", trusted_networks=["127.0.0.1/32"])
    daemon.start()
    def first_refusal(source):
        with smtplib.SMTP(*daemon.open, source_address=(source, 0), timeout=20) as client:
            client.ehlo("client.example")
            code, _ = client.mail(SENDER)
            return client.rcpt("a@inbox.test")[0] if code == 250 else code
    assert first_refusal("127.0.0.1") == 250
    assert first_refusal("127.0.0.9") in (530, 550, 554)


# ---- limits ----

def test_a_message_over_the_size_limit_is_refused_by_its_word_and_by_its_length(world):
    daemon = world.daemon(submission={"message_size": "64k"})
    with Raw(*daemon.open) as raw:
        assert "SIZE 65536" in raw.ok("EHLO client.example")
        code, text = raw.cmd(f"MAIL FROM:<{SENDER}> SIZE=65537")
        assert code == 552 and "5.3.4" in text
        raw.ok(f"MAIL FROM:<{SENDER}>")
        raw.ok("RCPT TO:<a@inbox.test>")
        raw.ok("DATA", 354)
        raw.send(b"Subject: big\r\n\r\n" + b"x" * 76 + b"\r\n")
        for _ in range(100):
            raw.send((b"x" * 998 + b"\r\n"))
        code, text = raw.cmd(".")
        assert code == 552 and "5.3.4" in text
        raw.ok("NOOP")


def test_too_many_recipients_get_452_and_the_first_ones_stay(inbox):
    daemon = inbox.daemon(submission={"recipients": 100})
    message_id, text = compose(["a@inbox.test"])
    with Raw(*daemon.open) as raw:
        raw.begin(*[f"r{i}@inbox.test" for i in range(100)])
        code, words = raw.cmd("RCPT TO:<r100@inbox.test>")
        assert code == 452 and "4.5.3" in words
        raw.ok("DATA", 354)
        raw.send(text)
        raw.ok(".")
    inbox.got(100)


def test_a_line_that_never_ends_is_cut_off(world):
    daemon = world.daemon()
    with Raw(*daemon.open) as raw:
        try:
            raw.send(b"NOOP " + b"x" * (4 << 20))
            raw.send(b"\r\n")
            assert raw.reply()[0] in (500, 0)
        except (BrokenPipeError, ConnectionResetError):
            pass
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")


# ---- what is taken is what is sent ----

def test_a_body_arrives_octet_for_octet(inbox):
    daemon = inbox.daemon()
    lines = [b".", b"..", b"...", b".leading", b"", b"ends with dot.", b"\t.", b"x" * 990, b"."]
    body = b"\r\n".join(lines * 50) + b"\r\n"
    message_id, text = compose(["a@inbox.test"], body=body)
    with daemon.client() as client:
        client.sendmail(SENDER, ["a@inbox.test"], text)
    assert body_of(inbox, message_id).partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize("chunking", [True, False])
def test_bdat_in_chunks_of_every_kind_arrives_whole(world, chunking):
    world.receiver("inbox", "inbox.test", keep_bodies=True, chunking=chunking)
    daemon = world.daemon()
    body = b"one\r\n.\r\n..two\r\n" * 3000
    message_id, text = compose(["a@inbox.test"], body=body)
    with Raw(*daemon.open) as raw:
        assert "CHUNKING" in raw.ok("EHLO client.example")
        raw.ok(f"MAIL FROM:<{SENDER}>")
        raw.ok("RCPT TO:<a@inbox.test>")
        at = 0
        for size in (1, 0, 7, 500, 65536):
            part = text[at:at + size]
            raw.send(b"BDAT %d\r\n" % len(part) + part)
            assert raw.reply()[0] == 250
            at += len(part)
        raw.send(b"BDAT %d\r\n" % (len(text) - at) + text[at:])
        assert raw.reply()[0] == 250
        raw.ok("BDAT 0 LAST")
    assert body_of(world, message_id).partition(b"\r\n\r\n")[2] == body


def test_received_says_how_it_came_in(inbox):
    daemon = inbox.daemon()
    user, password = daemon.account()
    message_id, text = compose(["a@inbox.test"])
    with daemon.client(daemon.port) as client:
        client.starttls(context=no_check())
        client.login(user, password)
        client.sendmail(SENDER, ["a@inbox.test"], text)
    head = body_of(inbox, message_id).partition(b"\r\n\r\n")[0].decode().replace("\r\n", "\n")
    received = re.search(r"^Received: .*(?:\n[ \t].*)*", head, re.M).group(0)
    assert "client.example" in received and "by hayauma.example" in received
    assert re.search(r"with ESMTPSA", received) and re.search(r"TLS ?v?1[._]3", received, re.I)
    assert "AES" in received or "CHACHA" in received.upper()


def test_steering_headers_are_understood_and_removed(inbox):
    daemon = inbox.daemon()
    message_id = daemon.send("a@inbox.test", headers=["X-Campaign: autumn", "X-Other: stays"])
    head = body_of(inbox, message_id).partition(b"\r\n\r\n")[0]
    assert b"X-Campaign" not in head and b"X-Other: stays" in head
    wait_until(lambda: daemon.totals("autumn")["delivered"] == 1, what="the campaign in the report")


def test_a_schedule_holds_a_message_back_until_its_time(inbox):
    daemon = inbox.daemon()
    due = time.time() + 4
    when = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(due))
    message_id = daemon.send("a@inbox.test", headers=[f"X-Hayauma-Schedule: {when}"])
    now_id = daemon.send("b@inbox.test")
    body_of(inbox, now_id)
    inbox.got(2, 15)
    (held,) = inbox.seen.to("a@inbox.test")
    assert held.time >= int(due) - 0.5
    assert b"X-Hayauma-Schedule" not in body_of(inbox, message_id)


def test_a_message_to_a_thousand_recipients_is_stored_once(world):
    world.receiver("later", "later.test", replies={"RCPT": "450 4.2.0 later"})
    daemon = world.daemon(group("default", retry=HOURLY))
    body = b"".join(hashlib.sha512(b"%d" % i).hexdigest().encode()[:76] + b"\r\n" for i in range(6000))
    recipients = [f"r{i}@later.test" for i in range(1000)]
    message_id, text = compose(recipients, body=body)
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")
        raw.send(f"MAIL FROM:<{SENDER}>\r\n" + "".join(f"RCPT TO:<{r}>\r\n" for r in recipients))
        assert {raw.reply()[0] for _ in range(1001)} == {250}
        raw.ok("DATA", 354)
        raw.send(text)
        raw.ok(".")
    used = sum(os.stat(os.path.join(d, f)).st_blocks * 512 for d, _, fs in os.walk(daemon.data / "spool") for f in fs)
    assert used < 3 * len(body), f"{used} octets in the spool for a body of {len(body)}"
    wait_until(lambda: len(world.seen.refusals) >= 1000, what="every recipient tried")
    daemon.kill()
    world.receivers.change("later", replies={})
    daemon.start()
    daemon.queue_op("retry", domain="later.test")
    world.got(1000, 30)


def test_large_messages_do_not_live_in_memory(inbox):
    daemon = inbox.daemon()
    body = (b"y" * 76 + b"\r\n") * (40 * 1024 * 1024 // 78)
    before = rss(daemon.pid)
    message_id, text = compose(["a@inbox.test"], body=body)
    with daemon.client() as client:
        client.sendmail(SENDER, ["a@inbox.test"], text)
    inbox.got(1, 60)
    assert hashlib.sha256(body_of(inbox, message_id).partition(b"\r\n\r\n")[2]).digest() == hashlib.sha256(body).digest()
    peak = int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{daemon.pid}/status").read()).group(1)) * 1024
    if "asan" not in str(daemon.process.args) and "tsan" not in str(daemon.process.args):
        assert peak - before < 24 << 20


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1)) * 1024


@pytest.mark.parametrize("options, body", [(["BODY=8BITMIME"], "Grüße aus Köln\r\n")])
def test_eight_bit_bodies_pass_to_a_server_that_takes_them(inbox, options, body):
    daemon = inbox.daemon()
    message_id = daemon.send("a@inbox.test", options=options, body=body)
    assert body.encode() in body_of(inbox, message_id)


def test_smtputf8_addresses_pass_to_a_server_that_knows_them(inbox):
    daemon = inbox.daemon()
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")
        raw.ok(f"MAIL FROM:<{SENDER}> SMTPUTF8 BODY=8BITMIME")
        raw.ok("RCPT TO:<jürgen@inbox.test>")
        raw.ok("DATA", 354)
        raw.send(compose(["jürgen@inbox.test"])[1])
        raw.ok(".")
    wait_until(lambda: inbox.seen.to("jürgen@inbox.test"), what="the delivery")


def test_a_domain_in_letters_is_reached_without_smtputf8(world):
    """Its name has another form, and what we write into the message uses that one."""
    world.receiver("old", "xn--bcher-kva.test", keep_bodies=True, smtputf8=False)
    daemon = world.daemon()
    message_id, text = compose(["x@bücher.test"])
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")
        raw.ok(f"MAIL FROM:<{SENDER}> SMTPUTF8")
        raw.ok("RCPT TO:<x@bücher.test>")
        raw.ok("DATA", 354)
        raw.send(text.replace("bücher".encode(), b"books"))
        raw.ok(".")
    assert b"\tfor <x@xn--bcher-kva.test>;" in body_of(world, message_id, "old")
    assert [d.recipient for d in world.got(1)] == ["x@xn--bcher-kva.test"]


# ---- what is no good (test_hostile_clients.py and test_hostile_floods.py have the rest) ----

@pytest.mark.parametrize("newline", [b"\n", b"\r"])
def test_a_bare_newline_is_refused(inbox, newline):
    daemon = inbox.daemon()
    with Raw(*daemon.open) as raw:
        raw.begin("a@inbox.test")
        raw.ok("DATA", 354)
        raw.send(b"Subject: x\r\n\r\nfirst" + newline + b"second\r\n.\r\n")
        code, text = raw.reply()
        assert code == 550 and "5.5.2" in text
        raw.ok("NOOP")


@pytest.mark.skipif(SANITIZED, reason="strace and sanitizers do not go together")
def test_a_client_that_is_quicker_than_our_handshake_is_served(inbox):
    """strace holds each of our sends for a while: the client's Finished and EHLO are there before we look."""
    daemon, context = inbox.daemon(), no_check()
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto,sendmsg,write,writev",
         "-e", "inject=sendto,sendmsg,write,writev:delay_exit=40000", "-p", str(daemon.pid)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(0.7)
    if tracer.poll() is not None:
        pytest.skip("strace cannot attach here: " + tracer.stderr.read())
    try:
        for i in range(4):
            with Raw(*daemon.open, timeout=60) as raw:
                raw.ok("EHLO client.example")
                raw.starttls(context)
                raw.begin(f"quick{i}@inbox.test")
                raw.ok("DATA", 354)
                raw.send(compose()[1] + b".\r\n")
                assert raw.reply()[0] == 250
        inbox.got(4, 60)
    finally:
        tracer.terminate()
        tracer.wait()


@pytest.mark.parametrize("line", [
    "MAIL FROM:<a@b.example>\0", "MAIL FROM:<a b@c.example>", "MAIL FROM: no brackets", "RCPT TO:<a@b.example>",
    "MAIL FROM:<a@b.example> FOO=BAR", "EHLO", "HELO", "RCPT", "BDAT", "VRFY", "AUTH", "X" * 600])
def test_a_bad_command_gets_a_5xx_and_the_session_goes_on(world, line):
    daemon = world.daemon()
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")
        code, _ = raw.cmd(line)
        assert 500 <= code < 560 or (line == "VRFY" and code == 252)
        if line == "BDAT":
            return  # nobody can know how much would follow: the connection may end
        raw.ok("NOOP")


def test_pipelined_commands_are_answered_in_order(inbox):
    daemon = inbox.daemon()
    message_id, text = compose(["a@inbox.test"])
    with Raw(*daemon.open) as raw:
        raw.ok("EHLO client.example")
        raw.send(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<a@inbox.test>\r\nRCPT TO:<bad address>\r\nRCPT TO:<b@inbox.test>\r\nDATA\r\n")
        codes = [raw.reply()[0] for _ in range(5)]
        assert codes[:2] == [250, 250] and 500 <= codes[2] < 560 and codes[3:] == [250, 354]
        raw.send(text + b".\r\n" + f"MAIL FROM:<{SENDER}>\r\nRSET\r\nQUIT\r\n".encode())
        assert [raw.reply()[0] for _ in range(4)] == [250, 250, 250, 221]
    inbox.got(2)


def test_a_client_that_vanishes_before_the_dot_leaves_nothing(inbox):
    daemon = inbox.daemon()
    for cut in (b"", b"Subject: half\r\n\r\nhalf a", b"Subject: whole\r\n\r\nbody\r\n", b"Subject: x\r\n\r\nbody\r\n."):
        raw = Raw(*daemon.open)
        raw.begin("a@inbox.test")
        raw.ok("DATA", 354)
        raw.send(cut)
        raw.close()
    daemon.send("b@inbox.test")
    inbox.got(1)
    assert inbox.seen.to("b@inbox.test")


def test_connections_over_the_limit_of_one_address_get_421(world):
    daemon = world.daemon(submission={"connections_per_address": 5})
    held = [Raw(*daemon.submission) for _ in range(5)]
    with Raw(*daemon.submission, greet=False) as raw:
        assert raw.reply()[0] in (421, 0)
    held.pop().close()
    time.sleep(0.2)
    wait_until(lambda: can_greet(daemon), what="a free place")
    for raw in held:
        raw.close()


def can_greet(daemon):
    with Raw(*daemon.submission, greet=False) as raw:
        return raw.reply()[0] == 220
