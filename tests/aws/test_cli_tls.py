"""``rds-router tls`` shows what a server presents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rds_router.cli import commands
from rds_router.lab import Cluster
from tests.aws.certificates import Authority
from tests.aws.conftest import ENGINES
from tests.aws.mysql_front import MysqlFront


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["tls", *arguments])


@pytest.mark.parametrize("engine", ENGINES)
def test_it_shows_chain_names_validity_and_versions(
    tls_cluster: Callable[[str], Cluster], authority: Authority, tmp_path: Path, engine: str
) -> None:
    place = f"127.0.0.1:{tls_cluster(engine).primary.port}"
    result = run(place)
    assert result.exit_code == 0, result.output
    protocol = "postgresql" if engine == "postgresql" else "mysql"
    assert f"{place} speaks {protocol}, TLSv1.3 with " in result.output
    assert "accepts " in result.output
    assert "TLSv1.2, TLSv1.3" in result.output
    assert "it is for: 127.0.0.1" in result.output
    assert "0: CN=server" in result.output
    assert "   signed by CN=rds_router tests" in result.output
    assert " (29 days left)" in result.output or " (30 days left)" in result.output
    verified = run(place, "--ca", str(authority.ca), "--protocol", protocol)
    assert verified.exit_code == 0
    assert verified.output.endswith(": verified\n")
    stranger = run(place, "--ca", str(Authority(tmp_path, "stranger").ca))
    assert stranger.exit_code == 1
    assert ": NOT verified: " in stranger.output
    elsewhere = run(place.replace("127.0.0.1", "localhost"), "--ca", str(authority.ca))
    assert elsewhere.exit_code == 1
    assert "NOT verified: Hostname mismatch" in elsewhere.output


def test_a_server_without_tls_is_told(mariadb_cluster: Cluster) -> None:
    with MysqlFront(mariadb_cluster.primary, hides_tls=True) as front:
        result = run(f"127.0.0.1:{front.port}")
    assert (result.exit_code, result.output) == (1, f"127.0.0.1:{front.port}: the server does not offer TLS\n")


def test_a_postgresql_server_without_tls_is_told(postgresql_cluster: Cluster) -> None:
    place = f"127.0.0.1:{postgresql_cluster.primary.port}"
    assert run(place).output == f"{place}: the server does not offer TLS\n"


def test_what_is_no_place_is_refused() -> None:
    assert "'db' is not of the form HOST:PORT" in run("db").output
    assert run("127.0.0.1:1").exit_code == 1
