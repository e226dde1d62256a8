"""The command line: up and doctor."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from rds_router.lab import cli, cluster
from rds_router.lab.doctor import container_trouble, examine


def test_doctor_names_every_way_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each engine has a finding; one that is missing says where it was looked for and how to get it."""
    monkeypatch.setenv("RDS_ROUTER_LAB_MYSQL_BIN", "/nowhere")
    findings = {(finding.engine, finding.runtime): finding for finding in examine()}
    assert findings["sqlite", "local"].is_ready
    mysql = findings["mysql", "local"]
    assert not mysql.is_ready
    assert mysql.detail == (
        "no mysql server here: none of mysqld in RDS_ROUTER_LAB_MYSQL_BIN=/nowhere; to get it: "
        "run .ci/servers/install.sh mysql, or install it from mysql.com"
    )


def test_doctor_prints_a_table_and_json() -> None:
    """The table is for people, --json for programs; both name sqlite."""
    table = CliRunner().invoke(cli.command_group(), ["doctor"])
    assert table.exit_code == 0
    assert "sqlite" in table.output
    data = CliRunner().invoke(cli.command_group(), ["doctor", "--json"])
    assert {row["engine"] for row in json.loads(data.output)} >= {"mariadb", "mysql", "postgresql", "sqlite"}


def test_a_socket_that_nobody_listens_on_is_no_container_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An engine that ended and left its socket behind is told as such, and nothing stays open (warnings are errors)."""
    pytest.importorskip("testcontainers")
    left_behind = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(left_behind))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{left_behind}")
    assert container_trouble() == "the container engine does not answer: [Errno 111] Connection refused"


def test_addresses_as_settings_of_an_application() -> None:
    """The environment form is what an application on rds_router reads."""
    with cluster("sqlite", replicas=2) as c:
        first, second = c.replicas
        assert cli.as_environment(c) == {
            "SQLALCHEMY_DATABASE_URI": c.primary.url,
            "SQLALCHEMY_REPLICA_URIS": f"{first.url},{second.url}",
        }
        assert [replica["name"] for replica in cli.as_json(c)["replicas"]] == ["sqlite-2", "sqlite-3"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["up", "oracle"], "Invalid value for"),
        (["up", "sqlite", "--replicas", "-1"], "Invalid value for '--replicas'"),
        (["up", "mariadb", "--option", "wait_timeout"], "'wait_timeout' is not NAME=VALUE"),
        (["up", "sqlite", "--docker"], "sqlite is files of this machine"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], complaint: str) -> None:
    """A wrong argument ends in one sentence, not in a traceback."""
    result = CliRunner().invoke(cli.command_group(), arguments)
    assert result.exit_code != 0
    assert complaint in result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"engine": "oracle"}, "unknown engine 'oracle'; accepted: mariadb, mysql, postgresql, sqlite"),
        ({"engine": "mariadb", "runtime": "podman"}, "unknown runtime 'podman'; accepted: local, docker"),
        ({"engine": "sqlite", "replicas": -1}, "replicas is -1: 0 or more are accepted"),
    ],
)
def test_wrong_arguments_of_cluster(arguments: dict[str, object], complaint: str) -> None:
    """cluster() says what is accepted."""
    with pytest.raises(ValueError, match=complaint):
        cluster(**arguments)  # type: ignore[arg-type]
