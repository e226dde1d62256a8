"""A short torture of real servers through the router; a failure prints the seed that repeats it.

python -m rds_router.lab torture --engine mysql --minutes 0.2 --seed 7 --faults ...
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rds_router.lab.torture.checker import Promises, Rule
from rds_router.lab.torture.figures import reads, writes
from rds_router.lab.torture.history import Outcome
from rds_router.lab.torture.picture import draw
from rds_router.lab.torture.report import print_report
from rds_router.lab.torture.run import Result, Settings, run
from rds_router.lab.torture.workload import Workload
from tests.conftest import ClusterFactory

# The timeout is in seconds of a quiet machine; clusters start slowly on one that is not.
pytestmark = [pytest.mark.once, pytest.mark.timeout(400)]
FAULTS = ["kill-replica", "freeze-replica", "kill-primary", "demote", "switch", "lag"]
SEEDS = {"mariadb": 41, "mysql": 31, "postgresql": 8}
"""By what they draw in 9 s: a killed primary each; and demote, switch; freeze-replica; kill-replica."""


def told(result: Result) -> str:
    """The report, for a failure."""
    out = io.StringIO()
    print_report(result, Console(file=out, width=160))
    return out.getvalue()


@pytest.mark.parametrize(("engine", "seed"), SEEDS.items())
def test_a_short_torture_finds_nothing(engine: str, seed: int, lab_cluster: ClusterFactory, tmp_path: Path) -> None:
    """Two or three faults in some seconds; every promise was kept, and the report and the picture tell of it."""
    c = lab_cluster(engine, replicas=2)
    settings = Settings(
        engine=engine,
        seed=seed,
        seconds=9.0,
        threads=3,
        faults=FAULTS,
        workload=Workload(clients=12, lists=20),
        promises=Promises(staleness=8.0),
    )
    result = run(settings, on=c)
    report = told(result)
    assert result.verdict.is_clean, report
    assert f"seed {seed}" in report
    assert len(result.done) >= 2, report
    for records in (reads(result.history), writes(result.history)):
        assert sum(each.outcome is Outcome.OK for each in records) > 20, report
    draw(result, tmp_path / "torture.png")
    assert (tmp_path / "torture.png").stat().st_size > 10_000


def test_without_tokens_the_same_checker_finds_something(lab_cluster: ClusterFactory) -> None:
    """So the checker looks: with ``after_write="any"`` and a replica that lags, clients miss their own writes."""
    c = lab_cluster("mariadb", replicas=2)
    settings = Settings(
        engine="mariadb",
        seed=1,
        seconds=30.0,
        operations=1200,
        threads=3,
        faults=["lag"],
        workload=Workload(clients=12, lists=20),
        through={"kind": "router", "policy": {"after_write": "any", "max_lag": 10.0}},
    )
    result = run(settings, on=c)
    found = {violation.rule for violation in result.verdict.violations}
    assert Rule.OWN_WRITES in found, told(result)
    assert found <= {Rule.OWN_WRITES, Rule.MONOTONIC}, told(result)
