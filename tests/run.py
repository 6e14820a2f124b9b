#!/usr/bin/python3
"""Builds and runs the suites of scripts/test, one after the other, and adds up what they say."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree

TOP = pathlib.Path(__file__).resolve().parents[1]
WHERE = pathlib.Path(os.environ.get("HAYAUMA_BUILDS") or TOP).resolve()  # the folder of the build folders
CORES = os.cpu_count() or 2
# Tests mostly wait: more of them at once than there are cores.
WORKERS = max(2, min(2 * CORES, 8))
BUILDS = {
    "build": ["-Dbuildtype=release", "-Dwerror=true"],
    # With the other back end for DKIM: so both sign in the integration tests.
    "build-asan": ["-Dbuildtype=debug", "-Doptimization=1", "-Db_sanitize=address,undefined", "-Dbench=false", "-Ddkim_backend=gnutls"],
    "build-tsan": ["-Dbuildtype=debug", "-Doptimization=1", "-Db_sanitize=thread", "-Dbench=false"],
}
UNIT_UNDER_TSAN = "unit"
UNSTEADY_MAX = 3  # scenarios of one suite that may be tried again alone
# The parts where threads meet, driven from outside.
TSAN_SCENARIOS = ["test_delivery.py::test_five_connections_never_are_six",
                  "test_delivery.py::test_connections_per_host_hold_over_all_domains_and_workers",
                  "test_operations.py::test_a_new_policy_applies_to_running_workers_at_once",
                  "test_operations.py::test_sigterm_drains",
                  "test_operations.py::test_the_report_adds_up_to_the_last_recipient",
                  "test_operations.py::test_queue_operations_by_every_selector",
                  "test_crash.py::test_t04_sigterm_under_load_doubles_nothing"]


class Run:
    def __init__(self, long, pytest_words):
        self.long, self.pytest_words = long, pytest_words
        self.built = {}  # build folder: did it compile
        self.rows = []  # (suite, passed, failed, skipped, seconds, notes)

    def add(self, suite, passed, failed, skipped=0, seconds=0.0, notes=()):
        self.rows.append((suite, passed, failed, skipped, seconds, list(notes)))
        print(f"-- {suite}: {passed} passed, {failed} failed, {skipped} skipped, {seconds:.0f} s", flush=True)

    def command(self, words, **more):
        print("+ " + " ".join(map(str, words)), flush=True)
        return subprocess.run(list(map(str, words)), cwd=TOP, **more).returncode

    # ---- building ----
    def build(self, name):
        folder = WHERE / name
        started = time.monotonic()
        code = 0
        if not (folder / "build.ninja").exists():
            code = self.command(["meson", "setup", folder, TOP, *BUILDS[name]])
        elif name == "build" and not option(folder, "werror"):
            code = self.command(["meson", "configure", folder, "-Dwerror=true"])
        code = code or self.command(["ninja", "-C", folder])
        self.built[name] = code == 0
        self.add(f"compile {name}", int(code == 0), int(code != 0), 0, time.monotonic() - started)
        return code == 0

    # ---- suites ----
    def unit(self, name="build", suite="unit"):
        if not self.build(name):
            return
        started = time.monotonic()
        env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
               "TSAN_OPTIONS": f"suppressions={TOP}/tests/tsan.supp"}
        multiplier = "1" if name == "build" else "5"
        self.command(["meson", "test", "-C", WHERE / name, "--no-rebuild", "--suite", suite, "--print-errorlogs", "-t", multiplier], env=env)
        passed = failed = skipped = 0
        notes = []
        log = WHERE / name / "meson-logs/testlog.json"
        for line in log.read_text().splitlines() if log.exists() else []:
            test = json.loads(line)
            # cmocka counts its tests itself; a program without such a count is one test.
            text = (test.get("stdout") or "") + (test.get("stderr") or "")
            ran = re.search(r"\[  PASSED  \] (\d+) test", text)
            broke = re.search(r"\[  FAILED  \] (\d+) test", text)
            if test["result"] == "OK":
                passed += int(ran.group(1)) if ran else 1
            elif test["result"] == "SKIP":
                skipped += 1
            else:
                passed += int(ran.group(1)) if ran else 0
                failed += max(int(broke.group(1)) if broke else 1, 1)
                notes.append(test["name"])
        if not passed + failed:
            failed = 1
            notes.append("no unit test ran")
        self.add(f"unit ({name})" if name != "build" else "unit", passed, failed, skipped, time.monotonic() - started, notes)

    def run_pytest(self, report, name, words, workers):
        env = {**os.environ, "HAYAUMA_BUILD": str(WHERE / name), "PYTHONDONTWRITEBYTECODE": "1"}
        report.unlink(missing_ok=True)
        return self.command(["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", f"--junitxml={report}",
                             *(["-n", workers, "--dist", "loadgroup"] if workers > 1 else []), *words,
                             *self.pytest_words], env=env)

    def alone(self, report, name, failed, words):
        """Few that failed on a machine full of others are tried by themselves; what passes then is named as unsteady."""
        if not 0 < len(failed) <= UNSTEADY_MAX or any(not f.is_file() for f, _ in failed):
            return []
        options = [w for w in words if isinstance(w, (str, int)) and str(w) not in ("-m",) and not str(w).startswith(("not ", "serial", "--ignore"))]
        self.run_pytest(report, name, [f"{f}::{test}" for f, test in failed] + options, workers=1)
        if not report.exists():
            return []
        return [case.get("name") for case in xml.etree.ElementTree.parse(report).iter("testcase")
                if not {child.tag for child in case} & {"failure", "error", "skipped"}]

    def pytest(self, suite, name, words, workers=WORKERS):
        started = time.monotonic()
        report = WHERE / name / f"pytest-{suite.split()[0]}-{len(self.rows)}.xml"
        code = self.run_pytest(report, name, words, workers)
        passed = skipped = 0
        failed, notes = [], []
        if report.exists():
            for case in xml.etree.ElementTree.parse(report).iter("testcase"):
                kinds = {child.tag for child in case}
                if kinds & {"failure", "error"}:
                    file = TOP / "tests/integration" / (case.get("classname").split(".")[-1] + ".py")
                    failed.append((file, re.sub(r"@\w+$", "", case.get("name"))))
                elif "skipped" in kinds:
                    skipped += 1
                    notes.append(f"skipped: {case.get('name')}: {case.find('skipped').get('message')}")
                else:
                    passed += 1
        ended_well = code in (0, 1) and report.exists()
        steady = self.alone(report.with_suffix(".alone.xml"), name, failed, words) if workers > 1 and ended_well else []
        for file, test in failed:
            notes.append(f"{'unsteady, passed alone: ' if test in steady else ''}{file.name}::{test}")
        passed += len(steady)
        broken = len(failed) - len(steady)
        if not ended_well:
            broken += 1
            notes.append(f"pytest ended with {code}")
        self.add(suite, passed, broken, skipped, time.monotonic() - started, notes)

    def integration(self, name="build", suite="integration", marks=""):
        tests = TOP / "tests/integration"
        ignore = f"--ignore={tests / 'test_crash.py'}"
        self.pytest(suite, name, [tests, ignore, "-m", "not serial" + marks])
        self.pytest(suite + " (one by one)", name, [tests, ignore, "-m", "serial" + marks], workers=1)

    def crash(self, name="build"):
        rounds, cuts = (200, 50) if self.long else (8, 6)
        files = [TOP / "tests/integration/test_crash.py"]
        if self.long:  # in short they are scenarios like others
            files.append(TOP / "tests/integration/test_storage.py")
        self.pytest("crash", name, [*files, "--rounds", rounds, "--cuts", cuts], workers=2)

    def fuzz(self):
        started = time.monotonic()
        seconds = 300 if self.long else 5
        done = subprocess.run(["sh", "tests/fuzz/run", str(WHERE / "build-fuzz"), str(seconds)], cwd=TOP, stdout=subprocess.PIPE, text=True)
        print(done.stdout, flush=True)
        ok = len(re.findall(r"^(?:ok|PASS)\b", done.stdout, re.M))
        bad = len(re.findall(r"^(?:FAIL|CRASH|not ok)\b", done.stdout, re.M))
        if done.returncode and not bad:
            bad = 1
        if not ok + bad:
            ok, bad = int(done.returncode == 0), int(done.returncode != 0)
        self.add("fuzz", ok, bad, 0, time.monotonic() - started)

    def asan(self):
        self.unit("build-asan")
        if self.rows[-1][0].startswith("unit"):
            self.integration("build-asan", "integration under ASan and UBSan", " and not slow")

    def tsan(self):
        self.unit("build-tsan", UNIT_UNDER_TSAN)
        if self.rows[-1][0].startswith("unit"):
            tests = [TOP / "tests/integration" / t for t in TSAN_SCENARIOS]
            self.pytest("threads under TSan", "build-tsan", tests, workers=2)

    # ---- end ----
    def summary(self):
        print("\nsuite                                         passed  failed skipped  seconds")
        for suite, passed, failed, skipped, seconds, notes in self.rows:
            print(f"{suite:45} {passed:6} {failed:7} {skipped:7} {seconds:8.0f}")
            for note in notes:
                print(f"    {note}")
        passed, failed = (sum(r[i] for r in self.rows) for i in (1, 2))
        print(f"{passed} passed, {failed} failed", flush=True)
        return 1 if failed or not passed else 0


def option(folder, name):
    done = subprocess.run(["meson", "introspect", str(folder), "--buildoptions"], capture_output=True, text=True)
    return any(o["name"] == name and o["value"] is True for o in json.loads(done.stdout or "[]"))


def main():
    words = sys.argv[1:]
    pytest_words = words[words.index("--") + 1:] if "--" in words else []
    words = words[:words.index("--")] if "--" in words else words
    long = "--long" in words
    suites = [w for w in words if w != "--long"] or ["unit", "integration", "crash", "fuzz", "asan", "tsan"]
    unknown = set(suites) - {"unit", "integration", "crash", "fuzz", "asan", "tsan"}
    if unknown:
        sys.exit(f"no such suite: {', '.join(sorted(unknown))}")
    run = Run(long, pytest_words)
    for suite in suites:
        print(f"\n== {suite}", flush=True)
        if suite in ("integration", "crash") and not run.built.get("build", False):
            # What does not compile is a failure already; the programs of yesterday prove nothing.
            if "build" in run.built or not run.build("build"):
                continue
        getattr(run, suite)()
    sys.exit(run.summary())


if __name__ == "__main__":
    main()
