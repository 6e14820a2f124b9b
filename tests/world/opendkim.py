#!/usr/bin/python3
"""
OpenDKIM's verdict on messages.  opendkim-testmsg asks the resolver of the system, so it runs in a network of its own, where
a name server at 127.0.0.1:53 knows the records of the test and nothing else.

    verdicts([octets, …], {"s._domainkey.example.com": "v=DKIM1; …"})   one text each: "" is good, else what it said
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

TOOL = "/usr/sbin/opendkim-testmsg"


def _apart(*command):
    """The command in its own network and with its own mounts; as root of a user namespace when we are not root."""
    words = ["unshare", "--net", "--mount"]
    if os.geteuid() != 0:
        words += ["--user", "--map-root-user"]
    return words + list(command)


def missing():
    """None, or why OpenDKIM cannot be asked here."""
    if not shutil.which(TOOL):
        return "opendkim-tools is not installed"
    done = subprocess.run(_apart("sh", "-c", "ip link set lo up && mount --bind /dev/null /etc/resolv.conf"),
                          capture_output=True, text=True)
    return None if done.returncode == 0 else "no network of its own here: " + done.stderr.strip()


def verdicts(messages, records):
    with tempfile.TemporaryDirectory() as folder:
        order = pathlib.Path(folder) / "order"
        for i, octets in enumerate(messages):
            (pathlib.Path(folder) / f"{i}.eml").write_bytes(octets)
        order.write_text(json.dumps({"records": records, "count": len(messages), "folder": folder}))
        done = subprocess.run(_apart("/usr/bin/python3", os.path.abspath(__file__), str(order)), capture_output=True,
                              text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def _strings(text):
    return " ".join(f'"{text[i:i + 255]}"' for i in range(0, len(text), 255))


def _judge(order):
    """Inside: name server, resolv.conf, and one run for each message."""
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # not this folder, whose dns.py would hide dnspython
    from world.dns import ScriptedDns
    folder = pathlib.Path(order["folder"])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
    subprocess.run(["mount", "--bind", str(folder / "resolv.conf"), "/etc/resolv.conf"], check=True)
    server = ScriptedDns("127.0.0.1", 53)
    for name, text in order["records"].items():
        server.add(name, "TXT", _strings(text))
    said = []
    for i in range(order["count"]):
        with open(folder / f"{i}.eml", "rb") as message:
            done = subprocess.run([TOOL, "-C", "-t", str(folder)], stdin=message, capture_output=True, text=True, timeout=30)
        said.append("" if done.returncode == 0 else (done.stdout + done.stderr).strip() or f"exit status {done.returncode}")
    server.stop()
    return said


if __name__ == "__main__":
    print(json.dumps(_judge(json.loads(pathlib.Path(sys.argv[1]).read_text()))))
