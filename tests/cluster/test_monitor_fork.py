"""R13: a forked worker has a monitor and connections of its own, and leaves its parent's alone.

Run in a process of its own: a fork of the test process would take pytest and its threads with it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rds_router.lab import Cluster
from tests.cluster.watching import ENGINES

ROOT = Path(__file__).parents[2]
SCRIPT = """
import gc, os, sys, threading, time, warnings
warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)  # fork(), of Python 3.12
from sqlalchemy import text
from rds_router import Router, RoutingPolicy

WHO = "SELECT pg_backend_pid()" if sys.argv[1].startswith("postgresql") else "SELECT CONNECTION_ID()"
policy = RoutingPolicy(probe_interval=0.1, probe_timeout=20)  # a replica that came back would get a new pool
router = Router(sys.argv[1], sys.argv[2:], policy=policy)
assert router.refresh()
replica = router.topology.replicas[0].server.name

def who():
    with router.primary.connect() as connection, router.replica_engine(replica).connect() as reading:
        return connection.execute(text(WHO)).scalar(), reading.execute(text(WHO)).scalar()

def watchers():
    return [each.name for each in threading.enumerate() if each.name.startswith("rds-router ")]

def eventually(question):
    end = time.monotonic() + 20
    while not question():
        assert time.monotonic() < end
        time.sleep(0.02)

parents = who()
assert len(watchers()) == 3
child = os.fork()
if child == 0:
    try:
        assert watchers() == [], "no thread lives on in the child"
        old = router.topology.at
        mine = who()
        assert len(watchers()) == 3, "the first use starts them anew"
        eventually(lambda: router.topology.at > old)
        assert mine[0] != parents[0], "the connections are its own"
        router.close()
        gc.collect()
        code = 0
    except BaseException as error:
        print(repr(error), flush=True)
        code = 1
    os._exit(code)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, "see what the child has printed"
assert who() == parents, "the parent's connections work, and are the same"
old = router.topology.at
eventually(lambda: router.topology.at > old)
router.close()
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_forked_child_has_a_monitor_and_connections_of_its_own(engine: str, request: pytest.FixtureRequest) -> None:
    c: Cluster = request.getfixturevalue(f"{engine}_cluster")
    urls = [each.url for each in c.servers]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *urls], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
