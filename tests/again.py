"""CI has two slow cores for real servers: a test that failed beside the others is run once more, alone.

``RDS_ROUTER_AGAIN=5`` asks for it, and says how many failures are still taken for the machine's. What passes alone is
listed, so that somebody mends it; what fails again fails the run. A test marked ``once`` is never run again: what it
looks for (a lost write, a stale read) is a fault however seldom it happens.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

VARIABLE = "RDS_ROUTER_AGAIN"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "once: a failure is a fault however seldom it happens: never run again")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("once"):
            item.user_properties.append(("once", True))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    most = int(os.environ.get(VARIABLE, "0"))
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not most or reporter is None or hasattr(session.config, "workerinput"):
        return
    reports = [*reporter.stats.get("failed", []), *reporter.stats.get("error", [])]
    failed = sorted({each.nodeid for each in reports})
    is_final = any(("once", True) in getattr(each, "user_properties", []) for each in reports)
    if not failed or len(failed) > most or is_final or session.exitstatus != pytest.ExitCode.TESTS_FAILED:
        return
    reporter.section("These failed beside other tests: again, alone")
    for nodeid in failed:
        reporter.line(nodeid)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *failed]
    again = subprocess.run(
        command,
        cwd=session.config.invocation_params.dir,
        env={**os.environ, VARIABLE: "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    reporter.line(again.stdout)
    if again.returncode == 0:
        reporter.line("All of them passed alone: they need a machine to themselves, and mending.")
        session.exitstatus = pytest.ExitCode.OK
