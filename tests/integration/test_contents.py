"""One content in many injections: it lies on the disk once, and everybody gets the octets that were sent."""

import os
import smtplib

from harness import HOURLY, compose, group, wait_until

RECIPIENTS = 200
ROUNDS = 12


def content(name, size):
    lines = b"".join(b"%s line %d of what everybody gets\r\n" % (name, n) for n in range(size // 30))
    return lines[: size - 2] + b"\r\n"


LONG, SHORT = content(b"long", 1200000), content(b"short", 90000)  # in a file of its own, and in memory


def disk_bytes(daemon):
    return sum(e.stat().st_blocks * 512 for e in os.scandir(daemon.data / "spool"))


def injection(n, octets):
    return [f"r{n}-{len(octets)}-{i}@r.test" for i in range(RECIPIENTS)], compose(body=octets, subject=f"number {n}")


def test_injections_of_one_content_store_it_once_across_a_crash(world):
    world.receiver("r", "r.test", keep_bodies=True, replies={"MAIL": "450 4.2.0 later"})
    daemon = world.daemon(group("default", retry=HOURLY, limits={"recipients_per_transaction": 1000}))
    sent = {}  # message id: (recipients, content)
    for n in range(ROUNDS):
        with daemon.client() as client:
            for octets in (LONG, SHORT):
                recipients, (message_id, text) = injection(n, octets)
                client.sendmail("news@origin.example", recipients, text)
                sent[message_id] = recipients, octets
        if n == ROUNDS // 3:
            daemon.kill()
            daemon.start()
        if n == ROUNDS // 2:  # killed while it takes the octets: not answered, and no harm to the others
            with smtplib.SMTP(daemon.address, daemon.open_port) as client:
                client.ehlo()
                client.mail("news@origin.example")
                client.rcpt("nobody@r.test")
                client.docmd("DATA")
                client.send(LONG[:700000])
                daemon.kill()
                client.close()
            daemon.start()
    wait_until(lambda: daemon.json("status")["store"]["waiting"] == 2 * ROUNDS * RECIPIENTS, 20, "all of it to wait")
    shared = daemon.json("status")["store"]["shared_bytes"]
    assert shared >= 4 * len(LONG), "since the last start"
    # Each start begins with what it does not know: the first of LONG, and two or three of SHORT.
    assert disk_bytes(daemon) < 3 * len(LONG) + 3 * 4 * len(SHORT) + 2 * ROUNDS * 64000, "headers and envelopes beside it"
    world.receivers.change("r", replies={})
    daemon.queue_op("retry", domain="r.test")
    world.got(2 * ROUNDS * RECIPIENTS, 60)
    taken = {(d.message_id, d.recipient) for d in world.seen.deliveries}
    assert taken == {(m, r) for m, (recipients, _) in sent.items() for r in recipients}
    for message_id, (_, octets) in sent.items():
        got = world.seen.bodies[("r", message_id)]
        assert got[got.index(b"\r\n\r\n") + 4:] == octets
    wait_until(lambda: not daemon.queued(), 20, "an empty queue")
    daemon.stop()
    daemon.start()
    wait_until(lambda: disk_bytes(daemon) < 100000, 20, "the spool to be given back")
