"""Policy documents that include others, and the groups of large receivers that come with the program."""

import json
import pathlib

import pytest

from harness import MX_PORT, TOP, group, wait_until

DEFAULTS = {"port": MX_PORT, "retry": {"schedule": ["1s"], "jitter": "0%", "lifetime": "1h"}}


def document(include, *groups, **more):
    return json.dumps({"include": include, "defaults": DEFAULTS, **more,
                       "groups": [*groups, {"name": "default"}]}, indent=1) + "\n"


@pytest.fixture
def shelf(tmp_path):
    """A folder of included files with one in it."""
    folder = tmp_path / "include"
    folder.mkdir()
    (folder / "mine.yaml").write_text("date: 2026-01-02\ngroups:\n- name: big\n  match: [big.test]\n"
                                      "  limits: {connections: 3}\n")
    return folder


def test_the_groups_that_come_with_the_program_take_their_mail(world):
    """By name, by MX, under the document's own keys, with their reply rules."""
    for name, domains in (("docomo", ["docomo.ne.jp"]), ("google", ["gmail.com", "hosted.test"])):
        world.receiver(name, *domains, host={"docomo": "mfsmax.docomo.ne.jp", "google": "aspmx.l.google.com"}[name])
    world.receiver("other", "other.test")
    daemon = world.daemon(start=False, policy_include_dir=str(TOP / "policy"))
    daemon.policy_file.write_text(document(["receivers"], {"name": "docomo", "limits": {"connections": 2}}))
    daemon.start()
    for to in ("a@docomo.ne.jp", "a@gmail.com", "a@hosted.test", "a@other.test"):
        daemon.send(to)
    world.got(4)
    assert {to: daemon.attempts(to)[0]["group"] for to in ("a@docomo.ne.jp", "a@gmail.com", "a@hosted.test", "a@other.test")} == {
        "a@docomo.ne.jp": "docomo", "a@gmail.com": "gmail", "a@hosted.test": "gmail", "a@other.test": "default"}
    status = daemon.json("status")["groups"]
    assert status["docomo"]["connections_limit"] == 2 and status["au"]["connections_limit"] == 5

    about = daemon.json("explain", "hosted.test")
    assert about["match"] == "mx" and about["pattern"] == ".google.com"
    assert about["group_file"] == str(TOP / "policy/receivers.yaml") and "group_over" not in about
    about = daemon.json("explain", "docomo.ne.jp")
    assert "group_file" not in about and about["group_over"]["file"] == str(TOP / "policy/receivers.yaml")
    assert f"over line {about['group_over']['line']} of {TOP / 'policy/receivers.yaml'}" in daemon.hayauma("explain", "docomo.ne.jp")

    world.receivers.change("google", replies={"MAIL": "421 4.7.28 an unusual rate of unsolicited mail"})
    daemon.send("b@gmail.com")
    by_rule = lambda: [e for e in daemon.json("status")["groups"]["gmail"].get("shaping", []) if e["by"] == "rule"]
    wait_until(by_rule, what="the rule of the file")
    (event,) = by_rule()
    assert event["what"] == "connections" and event["code"] == 421 and event["file"] == str(TOP / "policy/receivers.yaml")
    assert "4.7.28" in (TOP / "policy/receivers.yaml").read_text().splitlines()[event["line"] - 1]


def test_a_version_holds_what_it_included_whatever_becomes_of_the_file(world, shelf):
    mine = shelf / "mine.yaml"
    daemon = world.daemon(policy_include_dir=str(shelf))
    limit = lambda: daemon.json("status")["groups"]["big"]["connections_limit"]
    applied = daemon.folder / "new.yaml"
    applied.write_text(document(["mine"]))
    assert "+--- # included: mine" in daemon.hayauma("policy", "diff", str(applied))
    daemon.hayauma("policy", "apply", str(applied))
    assert limit() == 3
    first = daemon.hayauma("policy", "export")
    assert first == applied.read_text() + f"--- # included: mine {mine}\n" + mine.read_text()
    shown = daemon.hayauma("policy", "show")
    assert f"# included: mine, of 2026-01-02, 1 group, from {mine}" in shown and "big.test" not in shown
    assert "big.test" in daemon.hayauma("policy", "show", "--all")

    # An edited file means nothing until it is asked for.
    mine.write_text(mine.read_text().replace("connections: 3", "connections: 8").replace("2026-01-02", "2026-03-04"))
    daemon.stop()
    daemon.start()
    assert limit() == 3
    remark = [c for c in daemon.json("doctor", code=None)["checks"] if c["check"] == "policy" and c["level"] == "warn"]
    assert [c["text"] for c in remark] == [f"{mine} is of 2026-03-04, and that of 2026-01-02 is in force"]
    assert "version 3" in daemon.hayauma("policy", "refresh")
    assert limit() == 8
    assert daemon.json("policy", "show")["includes"] == [
        {"name": "mine", "file": str(mine), "date": "2026-03-04", "groups": 1}]
    assert "connections: 8" in daemon.hayauma("policy", "diff")
    assert "version 4" in daemon.hayauma("policy", "rollback", "2")
    assert limit() == 3 and daemon.hayauma("policy", "export") == first

    # What was exported means the same where the file is not.
    mine.unlink()
    assert "version 5" in daemon.hayauma("policy", "apply", "-", stdin=first)
    daemon.stop()
    daemon.start()
    assert limit() == 3 and daemon.hayauma("policy", "export") == first
    wrong = daemon.hayauma("policy", "check", str(applied), code=1)
    assert f"new.yaml:3:3: include: cannot read {mine}: No such file or directory" in wrong, wrong
    assert daemon.api("/api/v1/policy")["version"] == 5


def test_sighup_picks_up_an_edited_included_file_and_undoes_nothing_else(world, shelf):
    mine = shelf / "mine.yaml"
    daemon = world.daemon(policy_include_dir=str(shelf))
    applied = daemon.folder / "new.yaml"
    applied.write_text(document(["mine"]))
    daemon.hayauma("policy", "apply", str(applied))
    version = lambda: daemon.api("/api/v1/policy")["version"]
    limit = lambda: daemon.json("status")["groups"]["big"]["connections_limit"]
    reloads = []

    def reload(ends="reload.done"):
        reloads.append(ends)
        daemon.reload()
        wait_until(lambda: daemon.log().count(f" {ends} ") == reloads.count(ends), what="the end of the reload")

    reload()
    assert (version(), limit()) == (2, 3), "nothing was edited"
    good = mine.read_text()
    mine.write_text(good.replace("connections: 3", "connections: 8"))
    reload()
    assert (version(), limit()) == (3, 8)
    assert daemon.api("/api/v1/policy")["author"] == "SIGHUP"
    daemon.hayauma("policy", "rollback", "2")
    reload()
    assert (version(), limit()) == (4, 3), "what was rolled back stays so"
    mine.write_text(good.replace("connections: 3", "connections: many"))
    reload("reload.refused")
    assert f"{mine}:5:25: expected a whole number" in daemon.log() and (version(), limit()) == (4, 3)
    mine.unlink()
    reload("reload.refused")
    assert f"cannot read {mine}" in daemon.log() and (version(), limit()) == (4, 3)
    mine.write_text(good.replace("connections: 3", "connections: 9"))
    reload()
    assert (version(), limit()) == (5, 9)


def test_what_is_wrong_in_an_included_file_is_told_with_its_line(world, shelf):
    path = shelf / "own.yaml"
    path.write_text("groups:\n- name: a\n  match: [a.test]\n  limits: {conections: 1}\n- name: p\n  match: [p.test]\n"
                    "  tls: {ca_file: /nonexistent/ca.pem}\n")
    daemon = world.daemon(policy_include_dir=str(shelf))
    text = document([str(path)], group("x", ["x.test"], limits={"connections": 0}))
    found = daemon.hayauma("policy", "check", "-", stdin=text, code=1)
    assert f"{path}:4:12: unknown key 'limits.conections' (did you mean 'connections'?)" in found, found
    assert "stdin:" in found and "2 errors" in found
    path.write_text(path.read_text().replace("conections", "connections"))
    (error,) = daemon.api("/api/v1/policy/check", "POST", document([str(path)]))["errors"]
    assert error == {"file": str(path), "line": 5, "column": 1, "text": error["text"]}
    assert "group 'p': tls.ca_file: cannot read /nonexistent/ca.pem" in error["text"]
    # Shadow rules and what-if read them too.
    daemon.hayauma("policy", "shadow", "apply", "-", stdin=document([str(path)]), code=1)
    path.write_text(path.read_text().replace("  tls: {ca_file: /nonexistent/ca.pem}\n", ""))
    daemon.hayauma("policy", "shadow", "apply", "-", stdin=document([str(path)]))
    for include, says in (("mine/../mine", "expected a name"), ("absent", "absent.yaml: No such file"), ("/dev/zero", "not a regular file")):
        (error,) = daemon.api("/api/v1/policy/check", "POST", document([include]))["errors"]
        assert says in error["text"] and error["line"] == 3, error


def test_the_file_that_comes_with_the_program_can_be_read_and_dated(world):
    daemon = world.daemon(policy_include_dir=str(TOP / "policy"))
    text = (TOP / "policy/receivers.yaml").read_text()
    assert daemon.hayauma("policy", "receivers") == text
    date = next(line.split()[1] for line in text.splitlines() if line.startswith("date: "))
    assert daemon.hayauma("policy", "receivers", "--date").startswith(
        f"{date}, {TOP / 'policy/receivers.yaml'}; the policy in force does not include it")
    assert daemon.hayauma("policy", "whatif", "-", stdin=document(["receivers"])) is not None
    daemon.hayauma("policy", "apply", "-", stdin=document(["receivers"]))
    assert "in force with this date" in daemon.hayauma("policy", "receivers", "--date")
