"""Servers that offer TLS under an authority of the tests' own, and AWS's APIs by moto."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rds_router.lab import Cluster
from tests.aws.certificates import Authority
from tests.conftest import start

ENGINES = ("mariadb", "mysql", "postgresql")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def tls_cluster(authority: Authority) -> Iterator[Callable[[str], Cluster]]:
    """``tls_cluster(engine)``: a primary and a replica, shared by the run, whose certificate is for 127.0.0.1."""
    started: dict[str, Cluster] = {}
    identity = authority.issue("server", "127.0.0.1")
    files = {"ca": authority.ca, "cert": identity.certificate, "key": identity.key}

    def get(engine: str) -> Cluster:
        if engine not in started:
            options: dict[str, Any] = {f"ssl_{name}": str(path) for name, path in files.items()}
            if engine == "postgresql":
                options = {f"ssl_{name}_file": str(path) for name, path in files.items()} | {"ssl": True}
            started[engine] = start(engine, replicas=1, options=options)
        return started[engine]

    yield get
    for each in started.values():
        each.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS's APIs, answered inside this process by moto; no request leaves it."""
    moto = pytest.importorskip("moto")
    for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with moto.mock_aws():
        yield
