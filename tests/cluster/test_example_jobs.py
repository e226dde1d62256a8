"""examples/jobs, the worked example of a token that goes through a queue, on each engine's shared cluster."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from rds_router import Token
from rds_router.lab import Cluster
from tests.cluster.watching import ENGINES, run

JOBS = Path(__file__).parents[2] / "examples/jobs/jobs.py"


@pytest.fixture(scope="module")
def jobs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("jobs", JOBS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("engine", ENGINES)
def test_a_job_that_starts_before_the_replica_has_its_row(
    engine: str, jobs: ModuleType, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """In its own process: without the token it misses the row, with it it does not, and later the replica answers."""
    c: Cluster = request.getfixturevalue(f"{engine}_cluster")
    try:
        jobs.show(c)
    finally:
        c.resume_replication(c.replicas[0])
        run(c.primary.url, "DROP TABLE IF EXISTS job_posts")
        c.wait_caught_up()
    queued, without, with_it, once_more = capsys.readouterr().out.splitlines()
    assert Token.parse(queued.split('"token": "')[1].split('"')[0]).position is not None
    assert without == "without the token: None from replica"
    assert with_it == "with the token:    'hello' from primary"
    assert once_more == "and once more:     'hello' from replica"
