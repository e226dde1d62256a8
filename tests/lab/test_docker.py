"""The same promises with containers. Image by RDS_ROUTER_LAB_<ENGINE>_IMAGE, else the official one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from rds_router.lab import Cluster, EngineMissing, State, cluster
from rds_router.lab.doctor import container_trouble
from tests.conftest import ClusterFactory, missing, required
from tests.lab.conftest import Run

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

COUNT = "SELECT count(*) FROM notes"


@pytest.fixture(autouse=True)
def containers() -> None:
    """Containers take their time: they are started when asked for."""
    if "docker" not in required() and not os.environ.get("RDS_ROUTER_DOCKER"):
        pytest.skip("containers are started only when asked for: RDS_ROUTER_DOCKER=1 or RDS_ROUTER_REQUIRE=docker")
    trouble = container_trouble()
    if trouble:
        missing("docker", trouble)


def test_an_image_that_cannot_be_had_is_something_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which, and hides neither that nor itself behind what was never started."""
    from docker.errors import DockerException
    from testcontainers.core.container import DockerContainer

    def start(self: DockerContainer) -> None:
        raise DockerException("no registry here")

    monkeypatch.setattr(DockerContainer, "start", start)
    with pytest.raises(EngineMissing, match="no image local/nothing:0 here, and it cannot be fetched: no registry"):
        cluster("mysql", runtime="docker", image="local/nothing:0", replicas=1)


def start(engine: str, lab_cluster: ClusterFactory, run: Run, **options: object) -> Cluster:
    """A cluster of containers with one row everywhere."""
    c = lab_cluster(engine, runtime="docker", **options)
    run(c.primary, "CREATE TABLE notes (id integer primary key)")
    run(c.primary, "INSERT INTO notes VALUES (1)")
    c.wait_caught_up()
    return c


def check_roles(c: Cluster, run: Run) -> None:
    """The primary takes a write, and every running server has it."""
    run(c.primary, "INSERT INTO notes SELECT max(id) + 1 FROM notes")
    c.wait_caught_up(timeout=20)
    assert len({run(server, COUNT) for server in c.servers if server.is_running}) == 1


def test_a_life(server_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """Replicate, refuse writes, pause, delay, freeze, kill, restart, promote alive and dead: as with processes."""
    c = start(server_engine, lab_cluster, run)
    first, second = c.replicas
    with pytest.raises(DBAPIError):
        run(first, "INSERT INTO notes VALUES (99)")

    c.pause_replication(first)
    run(c.primary, "INSERT INTO notes VALUES (2)")
    c.wait_caught_up()
    assert (run(first, COUNT), run(second, COUNT)) == (1, 2)
    c.resume_replication(first)
    c.wait_caught_up()

    c.set_delay(first, 60)
    run(c.primary, "INSERT INTO notes VALUES (3)")
    assert run(first, COUNT) == 2
    c.set_delay(first, 0)
    c.wait_caught_up()

    c.freeze(second)
    with pytest.raises(DBAPIError):
        run(second, COUNT)
    c.thaw(second)
    check_roles(c, run)

    urls = [server.url for server in c.servers]
    c.kill(second)
    assert second.state is State.DEAD
    with pytest.raises(DBAPIError):
        run(second, COUNT)
    c.restart(second)
    check_roles(c, run)

    old = c.primary
    c.promote(first)
    check_roles(c, run)
    with pytest.raises(DBAPIError):
        run(old, "INSERT INTO notes VALUES (99)")

    c.kill(first)
    c.promote(second)
    check_roles(c, run)
    c.restart(first)
    check_roles(c, run)
    assert [server.url for server in c.servers] == urls


def test_promote_with_the_old_primary_frozen(server_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """A paused container is replaced; awake again it still takes writes, until it is made to rejoin."""
    c = start(server_engine, lab_cluster, run, replicas=1)
    old = c.primary
    c.freeze(old)
    c.promote(c.replicas[0])
    c.thaw(old)
    run(old, "INSERT INTO notes VALUES (1000)")
    c.rejoin(old)
    check_roles(c, run)
    assert run(old, "SELECT max(id) FROM notes") < 1000


def test_nothing_is_left(lab_cluster: ClusterFactory, run: Run) -> None:
    """After stop() the engine has neither containers nor networks of the cluster."""
    import docker  # type: ignore[import-untyped,unused-ignore]

    client = docker.from_env()
    networks = {network.id for network in client.networks.list()}
    c = start("mariadb", lab_cluster, run, replicas=1)
    label = f"rds_router.lab={c._guard.directory}"  # type: ignore[attr-defined]
    assert len(client.containers.list(filters={"label": label})) == 2
    c.stop()
    assert client.containers.list(all=True, filters={"label": label}) == []
    assert {network.id for network in client.networks.list()} <= networks
    client.close()


def test_sigkill_leaves_no_container(lab_cluster: ClusterFactory) -> None:
    """The lab's process is killed: the watchdog removes its containers and its network."""
    import docker

    client = docker.from_env()
    before = {item.id for item in (*client.containers.list(all=True), *client.networks.list())}
    command = [sys.executable, "-m", "rds_router.lab", "up", "mariadb", "--replicas", "1", "--docker", "--json"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            assert json.loads(program.stdout.readline())["engine"] == "mariadb"
            made = {item.id for item in (*client.containers.list(), *client.networks.list())} - before
            assert len(made) == 3
        finally:
            program.kill()
    deadline = time.monotonic() + 60
    while made & {item.id for item in (*client.containers.list(all=True), *client.networks.list())}:
        assert time.monotonic() < deadline, "containers are still there a minute after their owner"
        time.sleep(0.2)
    client.close()
