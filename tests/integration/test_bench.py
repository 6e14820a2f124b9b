"""The profiles of hayauma-bench: each runs, in small, and its figures are there and exact."""

import json
import subprocess

import pytest

from harness import BUILD, PATIENCE

SECTIONS = {"machine", "settings", "throughput", "latency", "cost", "counts"}

SMALL = [  # profile, options, deliveries that the sink counts, figures of its own
    ("relay", "--messages 300 --workers 4", 300, {"delivered_per_s"}),
    ("tls", "--messages 200", 200, {"tls_handshakes_new"}),
    ("distant", "--messages 200 --delay-ms 20", 200, {"end_to_end_s"}),
    ("backlog", "--messages 500", 500, {"first_delivery_ms", "drained_s"}),
    ("domains", "--messages 300 --domains 300", 300, {"dns_queries"}),
    ("crash", "--messages 1500 --kills 1", None, {"kills", "restart_ms_max"}),
    ("slow", "--messages 200 --domains 50 --connections 20 --delay-ms 200", 200, {"connections_max"}),
    ("slow-tls", "--messages 200 --domains 50 --connections 20 --delay-ms 20", 200, {"tls_handshakes_new"}),
    ("big", "--messages 8 --bytes 3000000", 8, {"delivered_per_s"}),
    ("big-tls", "--messages 8 --bytes 3000000", 8, {"tls_handshakes_new"}),
    ("fanout", "--messages 5 --rcpts 200", 1000, {"delivered_per_s"}),
    ("deep", "--fill 4000 --domains 20", 4000, {"first_delivery_ms", "queue_list_ms", "left_in_queue"}),
    ("tarpit", "--messages 200 --fill 500", 400, {"slower_percent", "trap_connections_max"}),
    ("dead", "--messages 200 --fill 500", 400, {"slower_percent"}),
    ("dkim", "--messages 100", 200, {"delivered_per_s_signed", "openssl_signatures_per_s"}),
]


@pytest.mark.parametrize("profile, options, deliveries, figures", SMALL, ids=[row[0] for row in SMALL])
def test_a_profile_runs_and_is_exact(tmp_path, profile, options, deliveries, figures):
    program = BUILD / "tests/bench/hayauma-bench"
    if not program.exists():
        pytest.skip("built without -Dbench=true")
    done = subprocess.run([program, "run", "--profile", profile, "--json", *options.split()], capture_output=True, text=True,
                          timeout=60 * PATIENCE, env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["profile"] == profile and said["exact"] == "yes"
    assert set(said) >= (SECTIONS - {"latency"} if profile == "deep" else SECTIONS), "every section that says something"
    assert figures <= set(said["throughput"])
    counts = said["counts"]
    assert counts["daemon_ended"] == "well" and counts["lost"] == 0
    if profile == "deep":
        assert counts["delivered"] + said["throughput"]["left_in_queue"] == deliveries
    elif deliveries:
        assert counts["delivered"] == deliveries and counts["duplicates"] == 0
    if profile in ("tarpit", "dead", "dkim"):
        assert counts["accepted"] == counts["accepted_recipients"] == deliveries, "both rounds"
    if profile in ("tarpit", "dead"):
        alone, beside = (said["throughput"][f"cpu_us_per_delivery_{which}"] for which in ("alone", "beside"))
        assert said["cost"]["cpu_us_per_message"] >= (alone + beside) / 2 - 0.1, "both rounds"
        assert said["throughput"]["left_in_queue"] == 500, "nothing of the trap's mail went, and nothing of it is lost"
    if profile == "tarpit":
        assert said["throughput"]["trap_connections_max"] > 0, "it was tried"
    if profile == "relay":
        assert said["settings"]["workers"] == 4 and "--workers 4" in said["settings"]["command"]
    if profile == "slow":
        assert said["throughput"]["connections_max"] == 20
    assert list(tmp_path.iterdir()) == [], "an exact run leaves nothing behind"


def test_a_profile_that_is_none_is_answered_with_those_there_are():
    program = BUILD / "tests/bench/hayauma-bench"
    if not program.exists():
        pytest.skip("built without -Dbench=true")
    done = subprocess.run([program, "run", "--profile", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert all(profile in done.stderr for profile, *_ in SMALL)
