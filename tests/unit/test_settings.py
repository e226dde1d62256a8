"""Settings from the environment and from configuration mappings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rds_router import ConfigurationError
from rds_router.settings import policy_settings, uris_from_environment
from tests.aws.certificates import Authority


def uris(**environment: str) -> list[str]:
    """The primary's URI and the replicas', passwords shown."""
    found = uris_from_environment(environment)
    all_uris: list[Any] = [found["SQLALCHEMY_DATABASE_URI"], *found["SQLALCHEMY_REPLICA_URIS"]]
    return [each.render_as_string(hide_password=False) for each in all_uris]


def test_without_a_host_there_is_nothing() -> None:
    assert uris_from_environment({}) == {}
    assert uris_from_environment({"DB_HOST": "  ", "DB_USER": "app"}) == {}


def test_everything_that_is_given_is_in_the_uris() -> None:
    assert uris(
        DB_HOST="db",
        DB_USER="app",
        DB_PASS="p@ss:/word",
        DB_PORT="3307",
        DB_NAME="blog",
        DB_REPLICA_HOSTS="r1, r2:3308 ,",
    ) == [
        "mysql+pymysql://app:p%40ss%3A%2Fword@db:3307/blog",
        "mysql+pymysql://app:p%40ss%3A%2Fword@r1:3307/blog",
        "mysql+pymysql://app:p%40ss%3A%2Fword@r2:3308/blog",
    ]


def test_a_host_is_enough() -> None:
    assert uris(DB_HOST="db", DB_DRIVER="postgresql+psycopg") == ["postgresql+psycopg://db"]


def test_an_ipv6_address_may_have_a_port() -> None:
    assert uris(DB_HOST="::1", DB_REPLICA_HOSTS="::2,[::3],[::4]:3308") == [
        "mysql+pymysql://[::1]",
        "mysql+pymysql://[::2]",
        "mysql+pymysql://[::3]",
        "mysql+pymysql://[::4]:3308",
    ]


@pytest.mark.parametrize("port", ["0", "65536", "-1", "33o6", "²", "٣", "1e3"])
def test_a_wrong_port_is_refused_with_its_key(port: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        uris_from_environment({"DB_HOST": "db", "DB_PORT": port})
    assert str(refusal.value) == f"DB_PORT is {port!r}, but a port must be a number from 1 to 65535"
    with pytest.raises(ConfigurationError, match=r"^DB_REPLICA_HOSTS is "):
        uris_from_environment({"DB_HOST": "db", "DB_REPLICA_HOSTS": f"r1:{port}"})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"DB_REPLICA_HOSTS": "r1 r2"},
            "DB_REPLICA_HOSTS names the host 'r1 r2', but must be hosts separated by commas, each host or host:port",
        ),
        (
            {"DB_REPLICA_HOSTS": "r1,r2;r3"},
            "DB_REPLICA_HOSTS names the host 'r2;r3', but must be hosts separated by commas, each host or host:port",
        ),
        (
            {"DB_REPLICA_HOSTS": "mysql://app:geheim@r1"},
            "DB_REPLICA_HOSTS holds a URL, but must be hosts separated by commas, each host or host:port",
        ),
        ({"DB_HOST": "a, b"}, "DB_HOST names the host 'a, b', but must be one host, host or host:port"),
        ({"DB_HOST": "db:many"}, "DB_HOST is 'many', but a port must be a number from 1 to 65535"),
        (
            {"DB_DRIVER": "nosuch"},
            "DB_DRIVER is 'nosuch', which SQLAlchemy does not know; use mysql+pymysql, mariadb+pymysql or "
            "postgresql+psycopg",
        ),
    ],
)
def test_what_is_no_host_and_no_driver_is_refused_with_its_key(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        uris_from_environment({"DB_HOST": "db", **environment})
    assert str(refusal.value) == message


def test_certificates_are_a_file_and_names_are_verified(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    with pytest.raises(ConfigurationError, match=r"DB_SSL_CA is .*, but must be a file with certificates in PEM form"):
        uris_from_environment({"DB_HOST": "db", "DB_SSL_CA": str(authority)})
    authority.touch()
    with pytest.raises(ConfigurationError, match=r"DB_SSL_CA: Tls cannot use .*ca\.pem: "):
        uris_from_environment({"DB_HOST": "db", "DB_SSL_CA": str(authority)})
    authority = Authority(tmp_path).ca
    (mysql,) = uris(DB_HOST="db", DB_SSL_CA=str(authority))
    assert "ssl_ca=" in mysql
    assert "ssl_check_hostname=true" in mysql
    (postgresql,) = uris(DB_HOST="db", DB_SSL_CA=str(authority), DB_DRIVER="postgresql+psycopg")
    assert "sslmode=verify-full" in postgresql


def test_a_dotenv_file_is_read_and_the_real_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("DB_HOST=from-file\nDB_NAME=blog\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for key in ("DB_HOST", "DB_NAME", "DB_USER", "DB_PASS", "DB_PORT", "DB_REPLICA_HOSTS", "DB_SSL_CA", "DB_DRIVER"):
        monkeypatch.delenv(key, raising=False)
    assert str(uris_from_environment()["SQLALCHEMY_DATABASE_URI"]) == "mysql+pymysql://from-file/blog"
    monkeypatch.setenv("DB_HOST", "real")
    assert str(uris_from_environment()["SQLALCHEMY_DATABASE_URI"]) == "mysql+pymysql://real/blog"


def test_policy_keys_are_picked_out_and_misspelt_ones_refused_with_what_there_is() -> None:
    config = {"RDS_ROUTER_MAX_LAG": 3, "RDS_ROUTER_REPLICA_ENGINE_OPTIONS": {}, "OTHER": 1, 5: 6}
    assert policy_settings(config, "RDS_ROUTER_") == {"RDS_ROUTER_MAX_LAG": 3}  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError) as refusal:
        policy_settings({"RDS_ROUTER_MAXLAG": 3}, "RDS_ROUTER_")
    assert str(refusal.value).startswith("RDS_ROUTER_MAXLAG is no setting of rds_router; accepted are RDS_ROUTER_")
    assert "RDS_ROUTER_MAX_LAG" in str(refusal.value)
