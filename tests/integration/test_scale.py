"""What is bounded however much there is: memory, and the descriptors that connections take."""

import pytest

from harness import SANITIZED, group, wait_until
from test_delivery import submit_many


@pytest.mark.skipif(SANITIZED, reason="sanitizers need descriptors of their own")
def test_fewer_descriptors_than_connections_make_mail_wait_and_nothing_else(world):
    world.receiver("r", *[f"d{i}.test" for i in range(20)], delay_s=0.05)
    daemon = world.daemon(group("default", limits={"connections": 500, "connections_per_host": 500}), start=False,
                          wrapper=["sh", "-c", 'ulimit -n 130; exec "$0" "$@"'], workers=2)
    daemon.start()
    wait_until(lambda: "descriptors.few" in daemon.log(), 5, "the warning at start")
    line = next(line for line in daemon.log().splitlines() if "descriptors.few" in line)
    assert "allowed=130" in line and "LimitNOFILE" in line
    submit_many(daemon, [f"r{i}@d{i % 20}.test" for i in range(600)])
    world.got(600, 60)
    assert world.seen.peak["r"] == 30, "a hundred are kept for the rest"
    assert "descriptors.out" not in daemon.log()
    for i in (0, 299, 599):
        assert len(daemon.attempts(f"r{i}@d{i % 20}.test")) == 1, "nothing was tried in vain"


def test_many_destinations_share_the_memory_for_waiting_recipients(world):
    domains = [f"d{i}.test" for i in range(100)]
    world.receiver("r", *domains, delay_s=0.01)
    daemon = world.daemon(group("default", limits={"connections": 1, "messages_per_second": 1}), workers=1,
                          delivery={"jobs_in_memory": 1000, "jobs_per_domain": 2000})
    for i in range(30):
        daemon.send(*[f"r{i}@{domain}" for domain in domains])
    status = daemon.json("status")
    assert status["store"]["waiting"] > 2500, "most of it still waits"
    assert 500 < status["counters"]["jobs_in_memory"] <= 1400, "a thousand, and four for each that came when it was full"
    daemon.apply([group("default", limits={"connections": 20})])
    world.got(3000, 60)
    assert len({d.recipient for d in world.seen.deliveries}) == 3000
