import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from api_client import mail  # noqa: E402
from harness import BUILD, World, group  # noqa: E402
from world import certs as world_certs  # noqa: E402
from world import net, servers  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--rounds", type=int, default=8, help="kill -9 rounds of the crash test")
    parser.addoption("--soak", type=float, default=6, help="seconds of the soak")
    parser.addoption("--cuts", type=int, default=6, help="power cuts of the power-cut test")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long; left out of sanitizer runs")
    config.addinivalue_line("markers", "serial: measures time; nothing else runs beside it")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    setattr(item, "report_" + report.when, report)
    if report.when == "call" and report.failed:
        for world in _worlds(item):
            for daemon in world.daemons:
                report.sections.append(("hayaumad's log, last lines", daemon.log()[-4000:]))


def _worlds(item):
    return [v for v in item.funcargs.values() if isinstance(v, World)]


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    return world_certs.Certs(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def world(tmp_path, certs, request):
    w = World(tmp_path, certs)
    yield w
    # A daemon that ends badly fails the test; a test that failed already keeps its own reason.
    failed = getattr(request.node, "report_call", None) is None or request.node.report_call.failed
    w.stop(check=not failed)


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory, certs):
    w = World(tmp_path_factory.mktemp("world"), certs)
    yield w
    w.stop()


def _real(kind, certs):
    reason = servers.jail_works()
    if reason:
        pytest.skip(reason)
    n = net.Net()
    host = f"mx.{kind.kind}.test"
    server = kind(f"test-{os.getpid()}", n.address(), 2526, host, certs.good(host))
    try:
        yield server.start()
    finally:
        server.stop()
        n.release()


@pytest.fixture(scope="session")
def postfix(certs):
    yield from _real(servers.Postfix, certs)


@pytest.fixture(scope="session")
def exim(certs):
    yield from _real(servers.Exim, certs)


def pytest_report_header(config):
    return f"programs under test: {BUILD}"


__all__ = ["group", "mail"]
