"""Programs that other people wrote, on every side: name server, receivers, clients."""

import ssl
import subprocess
import threading

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from harness import MX_PORT, SENDER, compose, group, no_check, wait_until
from world import dns, servers


class Inbox(Message):
    """What aiosmtpd was handed."""

    def __init__(self):
        super().__init__()
        self.messages, self.tls = [], []

    async def handle_DATA(self, server, session, envelope):
        self.tls.append(session.ssl)
        return await super().handle_DATA(server, session, envelope)

    def handle_message(self, message):
        self.messages.append(message)


@pytest.fixture
def nsd(world):
    """A function that starts NSD with these zones."""
    reason = servers.jail_works()
    if reason:
        pytest.skip(reason)
    started = []

    def start(zones):
        started.append(dns.Nsd(world.folder / "nsd", world.net.address(), 5353, zones).start())
        return f"{started[-1].address}:{started[-1].port}"

    yield start
    for server in started:
        server.stop()


def test_nsd_names_postfix_exim_and_aiosmtpd(world, certs, nsd, postfix, exim):
    """One message to three real receivers that a real name server names, all under `require`."""
    here = world.net.address()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certs.good("mx.aio.test"))
    inbox = Inbox()
    aio = Controller(inbox, hostname=here, port=MX_PORT, tls_context=context, ready_timeout=10)
    aio.start()
    try:
        daemon = world.daemon(group("default", starttls="require", tls={"ca_file": str(certs.ca_file)}), start=False)
        daemon.config["dns"]["servers"] = [nsd({
            "postfix.test": ["@ IN MX 10 mx", f"mx IN A {postfix.address}"],
            "exim.test": ["@ IN MX 10 mx", f"mx IN A {exim.address}"],
            "aio.test": ["@ IN MX 10 mx", f"mx IN A {here}"]})]
        daemon.start()
        before = postfix.count(), exim.count()
        message_id = daemon.send("a@postfix.test", "b@exim.test", "c@aio.test", body="..dots\r\n")
        wait_until(lambda: (postfix.count(), exim.count(), len(inbox.messages)) == (before[0] + 1, before[1] + 1, 1),
                   what="a copy at each of the three")
        (message,) = inbox.messages
        assert message["Message-ID"] == message_id and message["X-RcptTo"] == "c@aio.test"
        assert inbox.tls[0], "aiosmtpd was spoken to in TLS"
        assert message.get_payload().replace("\r\n", "\n").startswith("..dots\n")
        assert {a["verify"] for r in ("a@postfix.test", "b@exim.test", "c@aio.test") for a in daemon.attempts(r)} == {"verified-pkix"}
        wait_until(lambda: not daemon.queued(), what="an empty queue")
    finally:
        aio.stop()


@pytest.mark.parametrize("kind", ["postfix", "exim"])
def test_a_real_server_refuses_and_the_sender_hears_of_it(world, kind, request):
    server = request.getfixturevalue(kind)
    world.receiver("home", "origin.example", keep_bodies=True)
    world.dns.mx("corp.test", f"10 {server.host}").a(server.host, server.address)
    daemon = world.daemon()
    before = server.count()
    daemon.send("unknown-user@corp.test", "known-user@corp.test")
    wait_until(lambda: world.seen.at("home") and server.count() == before + 1, what="one delivery and one bounce")
    (bounce,) = world.seen.bodies.values()
    assert b"unknown-user@corp.test" in bounce and b"known-user@corp.test: delivered" not in bounce


def test_curl_submits_with_starttls_and_auth(world, tmp_path):
    world.receiver("inbox", "inbox.test", keep_bodies=True)
    daemon = world.daemon()
    user, password = daemon.account()
    message_id, text = compose(["a@inbox.test"])
    file = tmp_path / "message.eml"
    file.write_bytes(text)
    done = subprocess.run(
        ["curl", "-sS", "--ssl-reqd", "--insecure", "--url", f"smtp://{daemon.address}:{daemon.port}/client.example",
         "--mail-from", SENDER, "--mail-rcpt", "a@inbox.test", "--mail-rcpt", "b@inbox.test", "--user", f"{user}:{password}",
         "-T", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    world.got(2)
    assert world.seen.bodies[("inbox", message_id)].endswith(text.partition(b"\r\n\r\n")[2])


def test_gnutls_cli_and_openssl_agree_on_the_listener(world):
    """Two TLS stacks, three ways in: TLS 1.3, TLS 1.2, and nothing older."""
    daemon = world.daemon()
    where = f"{daemon.address}:{daemon.port}"
    for option, works in (("-tls1_3", True), ("-tls1_2", True), ("-tls1_1", False)):
        done = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-connect", where, "-brief", option, "-cipher", "ALL:@SECLEVEL=0"],
                              input="QUIT\n", capture_output=True, text=True, timeout=30)
        assert ("CONNECTION ESTABLISHED" in done.stdout + done.stderr) == works, option
    for priority, works in (("NORMAL", True), ("NORMAL:-VERS-ALL:+VERS-TLS1.1", False)):
        done = subprocess.run(["gnutls-cli", "--insecure", "--starttls-proto=smtp", "--priority", priority, "-p", str(daemon.port),
                               daemon.address], input="QUIT\n", capture_output=True, text=True, timeout=30)
        assert ("Handshake was completed" in done.stdout) == works, (priority, done.stdout + done.stderr)


def test_eight_smtplib_clients_at_once(world):
    world.receiver("inbox", "inbox.test")
    daemon = world.daemon()
    user, password = daemon.account()
    errors = []

    def client(number):
        try:
            with daemon.client(daemon.port) as c:
                c.starttls(context=no_check())
                c.login(user, password)
                for i in range(25):
                    recipient = f"c{number}-{i}@inbox.test"
                    c.sendmail(SENDER, [recipient], compose([recipient])[1])
        except Exception as error:  # noqa: BLE001: whatever it is, the test must show it
            errors.append(error)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert not errors
    world.got(200, 30)
    assert len({d.recipient for d in world.seen.deliveries}) == 200


