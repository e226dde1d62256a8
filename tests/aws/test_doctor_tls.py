"""The doctor on servers with TLS under an authority of the tests' own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rds_router import Router
from rds_router.credentials import Tls
from rds_router.doctor import Finding, Severity, findings_of, gather
from rds_router.lab import Cluster
from tests.aws.certificates import Authority
from tests.aws.conftest import ENGINES


def found(cluster: Cluster, tls: Tls | None) -> list[Finding]:
    with Router(cluster.primary.url, [cluster.replicas[0].url], tls=tls) as router:
        return [each for each in findings_of(gather(router, timeout=30.0)) if each.topic in ("TLS", "reachable")]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_verified_server_is_told_from_one_that_is_only_encrypted(
    engine: str, tls_cluster: Callable[[str], Cluster], authority: Authority
) -> None:
    cluster = tls_cluster(engine)
    verified = found(cluster, Tls(authority.ca))
    assert {each.severity for each in verified} == {Severity.OK}
    assert [each.says for each in verified if each.topic == "TLS"] == [
        "encrypted by TLSv1.3, certificate and name verified"
    ] * 2
    # PyMySQL and libpq encrypt where they can, and verify nothing unless told.
    careless = [each for each in found(cluster, None) if each.topic == "TLS"]
    assert [each.severity for each in careless] == [Severity.NOTE] * 2
    assert all("but the server is not verified" in each.says for each in careless)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_that_is_not_who_it_says_is_not_reached(
    engine: str, tls_cluster: Callable[[str], Cluster], authority: Authority
) -> None:
    errors = [each for each in found(tls_cluster(engine), Tls(authority.expired_ca)) if each.severity is Severity.ERROR]
    assert len(errors) == 2
    assert all("certificate" in each.says for each in errors)
