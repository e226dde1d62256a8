"""``rds-router compare`` on MySQL and MariaDB with a replica each, as an account that owns no more than its schema."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from asking import Asked, asked, eventually
from sqlalchemy.engine import make_url

from rds_router.comparison.blog import PREFIX
from rds_router.lab import Cluster, Server

PASSWORD = "hunter22-of-compare"


def as_(user: str, password: str, server: Server) -> str:
    return make_url(server.url).set(username=user, password=password, database="").render_as_string(hide_password=False)


@contextlib.contextmanager
def administrator(cluster: Cluster) -> Iterator[Asked]:
    with asked(cluster.primary.admin_url) as admin:
        yield admin


@pytest.fixture
def pair(mysql_cluster: Cluster, mariadb_cluster: Cluster) -> Iterator[Sequence[Cluster]]:
    """Both clusters, with an account that may do anything in ``rds_router_compare`` and nothing else."""
    found = (mysql_cluster, mariadb_cluster)
    for each in found:
        with administrator(each) as admin:
            admin.execute(f"CREATE USER compares@'%%' IDENTIFIED BY '{PASSWORD}'")
            admin.execute(f"GRANT ALL ON `{PREFIX.replace('_', chr(92) + '_')}`.* TO compares@'%%'")
        each.wait_caught_up()
    yield found
    for each in found:
        with administrator(each) as admin:
            admin.execute("DROP USER compares@'%%'")
            admin.execute(f"DROP DATABASE IF EXISTS {PREFIX}")
        each.wait_caught_up()


def command(pair: Sequence[Cluster], *more: str) -> list[str]:
    a, b = pair
    url = {each: as_("compares", PASSWORD, each) for c in pair for each in (c.primary, c.replicas[0])}
    replicas = ["--replicas-a", url[a.replicas[0]], "--replicas-b", url[b.replicas[0]]]
    return [sys.executable, "-m", "rds_router", "compare", url[a.primary], url[b.primary], *replicas, *more]


def has_schema(cluster: Cluster) -> bool:
    with administrator(cluster) as admin:
        return bool(admin.execute(f"SHOW DATABASES LIKE '{PREFIX.replace('_', chr(92) + '_')}'"))


def backward_reads(server: Server) -> int:
    """Rows read in descending order of an index, as only the blog's list of newest posts does."""
    with asked(server.url) as connection:
        status = connection.execute("SHOW GLOBAL STATUS LIKE 'Handler_read_prev'")
        ((_, count),) = (tuple(row.values()) for row in status)
        return int(count)


@pytest.mark.timeout(400)  # on a machine at rest ten seconds; three programs are started, one after the other
def test_two_engines_are_compared_interrupted_and_refused(pair: Sequence[Cluster], tmp_path: Path) -> None:
    """One after the other, as starting the command costs more than it does; each time nothing is left, or touched."""
    before = [backward_reads(each.replicas[0]) for each in pair]
    out = tmp_path / "out.json"
    done = subprocess.run(
        command(pair, "--seconds", "3", "--rounds", "4", "--clients", "2", "--json", str(out)),
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr + out.read_text()
    found = json.loads(out.read_text())
    assert found["a"]["version"].startswith("MySQL ")
    assert found["b"]["version"].startswith("MariaDB ")
    assert found["a"]["errors"] == found["b"]["errors"] == 0
    whole = {each["measure"]: each for each in found["figures"] if each["operation"] == "whole"}
    assert {"median", "rate"} <= set(whole)
    assert all(0 < each["ratio"]["low"] <= each["ratio"]["high"] for each in whole.values())
    for each, count in zip(pair, before, strict=True):
        assert backward_reads(each.replicas[0]) > count, "its replica has served the blog"
    assert [has_schema(each) for each in pair] == [False, False]

    running = subprocess.Popen(
        command(pair, "--seconds", "600"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with running:
        try:
            assert eventually(lambda: all(has_schema(each) for each in pair), seconds=60)
            running.send_signal(signal.SIGINT)
            said, _ = running.communicate(timeout=90)
        finally:
            running.kill()
    assert running.returncode == 130
    assert "interrupted: nothing is reported" in said
    assert [has_schema(each) for each in pair] == [False, False]

    with administrator(pair[1]) as admin:
        admin.execute(f"CREATE DATABASE {PREFIX}")
        admin.execute(f"CREATE TABLE {PREFIX}.mine (id INT)")
        refused = subprocess.run(command(pair), capture_output=True, text=True, timeout=110, check=False)
        assert refused.returncode == 2
        assert f"has a database {PREFIX} already: nothing was touched" in refused.stderr
        assert admin.execute(f"SHOW TABLES FROM {PREFIX}") != []
    assert not has_schema(pair[0])
