"""What the tests of the API share: questions to the socket, and a daemon with mail in every state."""

import json
import urllib.parse

import pytest

from harness import HOURLY, UnixConnection, group, wait_until

V1 = "/api/v1"
API_PORT = 8025
PASSWORD = "korrekt-häst-батарейка"
GOOD = "groups:\n  - name: p\n    match: [p.test]\n    starttls: require\n  - name: default\n"


def ask(daemon, method, path, body=None, headers=(), **parameters):
    """(status, value or text, headers)"""
    if parameters:
        path += "?" + urllib.parse.urlencode(parameters)
    connection = UnixConnection(daemon.socket)
    try:
        connection.request(method, path, json.dumps(body) if isinstance(body, (dict, list)) else body, dict(headers))
        answer = connection.getresponse()
        data = answer.read().decode()
        kind = answer.getheader("Content-Type", "")
        return answer.status, json.loads(data) if kind == "application/json" and data else data, answer.headers
    finally:
        connection.close()


def get(daemon, path, status=200, **parameters):
    got, value, _ = ask(daemon, "GET", path, **parameters)
    assert got == status, value
    return value


def post(daemon, path, body=None, status=200, **parameters):
    got, value, _ = ask(daemon, "POST", path, body, **parameters)
    assert got == status, value
    return value


def refused(daemon, method, path, status=400, code="invalid", body=None, says="", **parameters):
    got, value, _ = ask(daemon, method, path, body, **parameters)
    assert got == status, value
    assert value["error"]["code"] == code and isinstance(value["error"]["details"], list)
    assert says in json.dumps(value, ensure_ascii=False), value
    return value["error"]


@pytest.fixture(scope="module")
def mail(shared_world):
    """Two domains that refuse for now, one that takes: six recipients wait, two are delivered."""
    world = shared_world
    world.receiver("p", "p.test", "q.test", replies={"RCPT": "450 4.2.1 later, =HYPERLINK"}, unknown_prefix="")
    world.receiver("r", "r.test")
    daemon = world.daemon(group("slow", ["p.test"], retry=HOURLY), group("default", retry=HOURLY), log={"level": "debug"},
                          api={"listen": f"{world.net.address()}:{API_PORT}"})
    daemon.wait_for_api()
    for i in range(2):
        daemon.send(f"a{i}@p.test", f"b{i}@q.test", headers=["X-Campaign: one"])
    daemon.send("c@p.test", "d@q.test", headers=["X-Campaign: -two"])
    daemon.send("e@r.test", "f@r.test", headers=["X-Campaign: one"])
    wait_until(lambda: len([r for r in daemon.queued() if r["attempts"] == 1]) == 6, what="six deferrals")
    wait_until(lambda: get(daemon, f"{V1}/reports/delivery")["totals"]["delivered"] == 2, what="two deliveries")
    daemon.world = world
    return daemon
