"""Settings from the environment and from configuration mappings."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Final, cast

from sqlalchemy.engine import URL
from sqlalchemy.exc import NoSuchModuleError

from rds_router.core.policy import RoutingPolicy
from rds_router.credentials import Credentials, IamAuth, SecretsManager, Tls
from rds_router.errors import ConfigurationError

OTHER_KEYS: Final = frozenset({"CREDENTIALS", "PRIMARY_NAME", "REPLICA_ENGINE_OPTIONS", "TLS", "TOKEN_STORE"})
"""Configuration keys that are no policy fields."""


def policy_settings(config: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The keys of ``config`` that set a policy field. Raises ConfigurationError for one that is no field."""
    fields = {item.name.upper() for item in dataclasses.fields(RoutingPolicy)}
    found: dict[str, Any] = {}
    for key, value in config.items():
        if not (isinstance(key, str) and key.startswith(prefix)):
            continue
        name = key[len(prefix) :]
        if name in fields:
            found[key] = value
        elif name not in OTHER_KEYS:
            accepted = ", ".join(prefix + each for each in sorted(fields | OTHER_KEYS))
            raise ConfigurationError(f"{key} is no setting of rds_router; accepted are {accepted}")
    return found


def credentials_from(value: Any) -> Credentials | None:
    """``RDS_ROUTER_CREDENTIALS``: ``iam``, ``secretsmanager:`` and the name or ARN of a secret, or any callable.

    Raises ConfigurationError for anything else; None and nothing at all are no credentials.
    """
    if value is None or value == "":
        return None
    if callable(value):
        return cast("Credentials", value)
    kind, _, name = value.strip().partition(":") if isinstance(value, str) else ("", "", "")
    if kind == "iam" and not name:
        return IamAuth()
    if kind == "secretsmanager" and name:
        return SecretsManager(name)
    # Not shown: somebody may have put the password itself there.
    raise ConfigurationError(
        "RDS_ROUTER_CREDENTIALS must be iam, secretsmanager:NAME-OR-ARN, or in Python any callable that takes a Place"
    )


def tls_from(value: Any) -> Tls | None:
    """``RDS_ROUTER_TLS``: a Tls, or the file of authorities to trust. Raises ConfigurationError for anything else."""
    if value is None or value == "":
        return None
    if isinstance(value, Tls):
        return value
    if isinstance(value, (str, os.PathLike)):
        return Tls(value)
    raise ConfigurationError(f"RDS_ROUTER_TLS is a {type(value).__name__}, but must be a Tls or the path of a PEM file")


def uris_from_environment(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """``SQLALCHEMY_DATABASE_URI`` and ``SQLALCHEMY_REPLICA_URIS`` made of ``DB_HOST`` and its kin.

    ``DB_HOST`` (needed; without it the result is empty), ``DB_USER``, ``DB_PASS``, ``DB_PORT``, ``DB_NAME``,
    ``DB_REPLICA_HOSTS`` (comma-separated, each ``host`` or ``host:port``,
    an IPv6 address with its port as ``[::1]:3306``), ``DB_SSL_CA`` (a file with the
    certificates to trust; the server's name is verified), ``DB_DRIVER`` (``mysql+pymysql``),
    ``RDS_ROUTER_CREDENTIALS`` (``iam``). The authorities and the credentials come out under Flask's keys for them. A
    ``.env`` file in the working directory or above is read if python-dotenv is installed; real environment variables
    win. Raises ConfigurationError naming the key and what is accepted.
    """
    if environment is None:
        environment = {**_dotenv(), **os.environ}
    host = environment.get("DB_HOST", "").strip()
    if not host:
        return {}
    driver = environment.get("DB_DRIVER", "").strip() or "mysql+pymysql"
    try:
        URL.create(driver).get_dialect()
    except NoSuchModuleError:
        raise ConfigurationError(
            f"DB_DRIVER is {driver!r}, which SQLAlchemy does not know; use mysql+pymysql, mariadb+pymysql or "
            "postgresql+psycopg"
        ) from None
    port = _port("DB_PORT", environment.get("DB_PORT", ""))
    authority = environment.get("DB_SSL_CA", "").strip()
    if authority and not os.path.isfile(authority):
        raise ConfigurationError(f"DB_SSL_CA is {authority!r}, but must be a file with certificates in PEM form")

    def url(key: str, place: str) -> URL:
        name, own_port = _split(key, place)
        return URL.create(
            driver,
            username=environment.get("DB_USER") or None,
            password=environment.get("DB_PASS") or None,
            host=name,
            port=own_port or port,
            database=environment.get("DB_NAME") or None,
            query=_tls_query(driver, authority),
        )

    hosts = [each.strip() for each in environment.get("DB_REPLICA_HOSTS", "").split(",") if each.strip()]
    found: dict[str, Any] = {
        "SQLALCHEMY_DATABASE_URI": url("DB_HOST", host),
        "SQLALCHEMY_REPLICA_URIS": [url("DB_REPLICA_HOSTS", each) for each in hosts],
    }
    if authority:
        found["RDS_ROUTER_TLS"] = _authorities(authority)
    if environment.get("RDS_ROUTER_CREDENTIALS", "").strip():
        found["RDS_ROUTER_CREDENTIALS"] = environment["RDS_ROUTER_CREDENTIALS"]
    return found


def _authorities(path: str) -> Tls:
    try:
        return Tls(path)
    except ConfigurationError as error:
        raise ConfigurationError(f"DB_SSL_CA: {error}") from None


def _tls_query(driver: str, authority: str) -> dict[str, str]:
    if not authority:
        return {}
    if driver.startswith("postgresql"):
        return {"sslmode": "verify-full", "sslrootcert": authority}
    if driver.endswith("mysqlconnector"):
        return {"ssl_ca": authority, "ssl_verify_cert": "true", "ssl_verify_identity": "true"}
    if driver.endswith("mysqldb"):
        return {"ssl_ca": authority, "ssl_mode": "VERIFY_IDENTITY"}
    # SQLAlchemy makes one ssl= argument of these. Given ssl_verify_cert= besides, PyMySQL forgets it, the file with it.
    return {"ssl_ca": authority, "ssl_check_hostname": "true"}


def _split(key: str, place: str) -> tuple[str, int | None]:
    accepted = "one host, " if key == "DB_HOST" else "hosts separated by commas, each "
    if "@" in place or "://" in place:  # not shown: it may hold a password
        raise ConfigurationError(f"{key} holds a URL, but must be {accepted}host or host:port")
    if any(each.isspace() or each in ",;" for each in place):
        raise ConfigurationError(f"{key} names the host {place!r}, but must be {accepted}host or host:port")
    if place.startswith("["):  # an IPv6 address, as URLs write it
        host, _, port = place[1:].partition("]")
        return host, _port(key, port.removeprefix(":"))
    if place.count(":") != 1:
        return place, None  # a plain name, or an IPv6 address alone
    host, _, port = place.partition(":")
    return host, _port(key, port)


def _port(key: str, text: str) -> int | None:
    if not text.strip():
        return None
    if not (text.isascii() and text.strip().isdigit() and 0 < int(text) < 65536):
        raise ConfigurationError(f"{key} is {text!r}, but a port must be a number from 1 to 65535")
    return int(text)


def _dotenv() -> dict[str, str]:
    try:
        from dotenv import dotenv_values, find_dotenv
    except ImportError:
        return {}
    return {key: value for key, value in dotenv_values(find_dotenv(usecwd=True)).items() if value is not None}
