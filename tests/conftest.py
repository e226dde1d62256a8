"""Clusters for tests, and an account of what was skipped.

``mariadb_cluster``, ``mysql_cluster``, ``postgresql_cluster`` and ``sqlite_cluster`` are shared by the whole run:
a primary and two replicas, to be left as they were found. ``lab_cluster(engine, replicas=2)`` makes one that the
test may break. Where a server is missing the test is skipped, saying what is missing.
``RDS_ROUTER_REQUIRE=mariadb,docker`` turns such a skip into a failure: what a CI stage is for must run there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from rds_router.lab import Cluster, EngineMissing, cluster
from tests import canary

# How fast examples are made says something of the machine's other work, and nothing of the code.
settings.register_profile("rds_router", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rds_router")

pytest_plugins = ["tests.again"]

ClusterFactory = Callable[..., Cluster]
"""``(engine, replicas=2, **options)`` -> a cluster of the test's own, stopped after it."""


def required() -> frozenset[str]:
    """What may not be skipped in this run."""
    return _words("RDS_ROUTER_REQUIRE")


def left_out() -> frozenset[str]:
    """What this run does without, though it may be here: ``make quick`` and the matrix start no server."""
    return _words("RDS_ROUTER_SKIP")


def _words(variable: str) -> frozenset[str]:
    return frozenset(word.strip() for word in os.environ.get(variable, "").split(",") if word.strip())


def missing(what: str, reason: str) -> None:
    """Skip the test, or fail it if ``what`` is required."""
    if what in required():
        pytest.fail(f"{what} is required (RDS_ROUTER_REQUIRE) and missing: {reason}", pytrace=False)
    pytest.skip(reason)


def start(engine: str, **options: Any) -> Cluster:
    """A cluster, or the skip that says what is missing for it."""
    if engine in left_out():
        pytest.skip(f"{engine} is left out of this run (RDS_ROUTER_SKIP)")
    try:
        return cluster(engine, **options)
    except EngineMissing as error:
        missing("docker" if options.get("runtime") == "docker" else engine, str(error))
        raise


@pytest.fixture(scope="session", autouse=True)
def everything_written_is_watched() -> Iterator[None]:
    """See :mod:`tests.canary`."""
    with canary.watched():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that leaked the lab's password has failed, whatever else it has shown."""
    report = yield
    if "tests/lab/" in item.nodeid or report.when == "setup":
        canary.found.clear()
        return report
    if report.when == "call":
        canary.leaks_in("what was printed", *(text for _, text in report.sections))
    if canary.found and report.passed:
        report.outcome = "failed"
        report.longrepr = "R14: a password is written\n" + "\n".join(canary.found)
    canary.found.clear()
    return report


def lasting(shared: Cluster) -> Cluster:
    """No test ends its servers: others have connections to them in their pools, and read 2013 on them later."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("this cluster is shared by the whole run: have lab_cluster() make one of the test's own")

    for name in ("kill", "restart", "promote", "demote", "rejoin"):
        setattr(shared, name, refuse)
    return shared


@pytest.fixture(scope="session")
def mariadb_cluster() -> Iterator[Cluster]:
    """A MariaDB primary and two replicas, shared by the whole run."""
    with start("mariadb") as shared:
        yield lasting(shared)


@pytest.fixture(scope="session")
def mysql_cluster() -> Iterator[Cluster]:
    """A MySQL primary and two replicas, shared by the whole run."""
    with start("mysql") as shared:
        yield lasting(shared)


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[Cluster]:
    """A PostgreSQL primary and two replicas, shared by the whole run."""
    with start("postgresql") as shared:
        yield lasting(shared)


@pytest.fixture(scope="session")
def sqlite_cluster() -> Iterator[Cluster]:
    """A SQLite file and two that follow it, shared by the whole run."""
    with start("sqlite") as shared:
        yield shared


@pytest.fixture
def lab_cluster() -> Iterator[ClusterFactory]:
    """Makes clusters that the test may break; all are stopped after it."""
    with contextlib.ExitStack() as opened:

        def make(engine: str, replicas: int = 2, **options: Any) -> Cluster:
            return opened.enter_context(start(engine, replicas=replicas, **options))

        yield make


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "docker: starts containers; runs when RDS_ROUTER_REQUIRE or RDS_ROUTER_DOCKER asks"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    by_reason: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple):
            by_reason.setdefault(report.longrepr[2].removeprefix("Skipped: "), []).append(report.nodeid)
    terminalreporter.section("What was skipped and why")
    if not by_reason:
        terminalreporter.line("nothing")
    for reason, tests in sorted(by_reason.items()):
        terminalreporter.line(f"{len(tests)} x {reason}")
        for test in tests[:3]:
            terminalreporter.line(f"      {test}")
        if len(tests) > 3:
            terminalreporter.line(f"      ... and {len(tests) - 3} more")
