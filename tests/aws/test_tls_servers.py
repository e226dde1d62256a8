"""TLS on real servers: who is let in, who is not, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from rds_router import Place, Router, Tls
from rds_router.lab import Cluster
from tests.aws.certificates import Authority, bundle
from tests.aws.conftest import ENGINES
from tests.aws.mysql_front import MysqlFront
from tests.cluster.watching import prompt, run

TlsCluster = Callable[[str], Cluster]
CIPHER = {
    "mariadb": "SHOW SESSION STATUS LIKE 'Ssl_version'",
    "mysql": "SHOW SESSION STATUS LIKE 'Ssl_version'",
    "postgresql": "SELECT '', version FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
}


def refusal(url: str | URL, tls: Tls, **changes: Any) -> str:
    """What a user is told who cannot connect."""
    with Router(make_url(url).set(**changes), tls=tls) as router, pytest.raises(OperationalError) as told:
        router.primary_engine().connect()
    assert told.value.orig is not None
    return str(told.value.orig.args[-1])


@pytest.mark.parametrize("engine", ENGINES)
def test_chain_and_host_name_are_verified_and_the_probes_too(
    tls_cluster: TlsCluster, authority: Authority, engine: str
) -> None:
    cluster = tls_cluster(engine)
    urls = [each.url for each in cluster.replicas]
    with Router(cluster.primary.url, urls, policy=prompt(), tls=Tls(ca=authority.ca)) as router:
        assert router.refresh()
        assert len(router.topology.eligible) == 1, router
        for target in (router.primary, router.reader):
            with target.connect() as connection:
                row = connection.execute(text(CIPHER[engine])).one()
                assert row[1] in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize("engine", ENGINES)
def test_each_failure_is_told_in_plain_words(
    tls_cluster: TlsCluster, authority: Authority, tmp_path: Path, engine: str
) -> None:
    """A wrong host, an expired authority, an unknown authority."""
    server = tls_cluster(engine).primary
    place = f"127.0.0.1:{server.port}"
    assert refusal(server.url, Tls(ca=authority.ca), host="localhost").startswith(
        f"the certificate of localhost:{server.port} is for another host: connect by a name"
    )
    expired = refusal(server.url, Tls(ca=authority.expired_ca))
    assert f"the certificate of {place} is not verified, and of the authorities in " in expired
    assert "these have expired: rds_router tests (" in expired
    assert f"get the current bundle; see what it presents: rds-router tls {place}" in expired
    stranger = Authority(tmp_path, "stranger")
    assert "is signed by none of the authorities in" in refusal(server.url, Tls(ca=stranger.ca))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_without_tls_gets_no_password(
    request: pytest.FixtureRequest, authority: Authority, engine: str
) -> None:
    if engine == "postgresql":
        told = refusal(request.getfixturevalue("postgresql_cluster").primary.url, Tls(ca=authority.ca))
    else:
        server = request.getfixturevalue(f"{engine}_cluster").primary
        with MysqlFront(server, hides_tls=True) as front:
            told = refusal(make_url(server.url).set(port=front.port), Tls(ca=authority.ca))
    assert "does not offer TLS, which tls= demands: turn it on there (nothing was sent to it)" in told


@pytest.mark.parametrize("engine", ENGINES)
def test_the_name_need_not_fit_where_that_is_said(tls_cluster: TlsCluster, authority: Authority, engine: str) -> None:
    """Through a tunnel; the chain is verified all the same."""
    url = make_url(tls_cluster(engine).primary.url).set(host="localhost")
    with Router(url, tls=Tls(ca=authority.ca, check_host=False)) as router:
        assert _one(router) == 1
    stranger_ca = authority.expired_ca
    with Router(url, tls=Tls(ca=stranger_ca, check_host=False)) as router, pytest.raises(OperationalError):
        _one(router)


@pytest.mark.parametrize("engine", ["mariadb", "mysql"])
def test_both_sides_may_have_to_show_a_certificate(tls_cluster: TlsCluster, authority: Authority, engine: str) -> None:
    server = tls_cluster(engine).primary
    client = authority.issue("client")
    run(
        server.admin_url,
        "CREATE USER IF NOT EXISTS 'mutual'@'%' IDENTIFIED BY 'mutual' REQUIRE X509",
        "GRANT ALL ON app.* TO 'mutual'@'%'",
    )
    url = make_url(server.url).set(username="mutual", password="mutual")
    with Router(url, tls=Tls(ca=authority.ca)) as router, pytest.raises(OperationalError):
        _one(router)
    tls = Tls(ca=authority.ca, certificate=client.certificate, key=client.key)
    with Router(url, tls=tls) as router:
        assert _one(router) == 1


@pytest.mark.parametrize("engine", ["mariadb", "mysql"])
def test_mysqlclient_verifies_too(tls_cluster: TlsCluster, authority: Authority, tmp_path: Path, engine: str) -> None:
    pytest.importorskip("MySQLdb", reason="mysqlclient is not installed")
    url = make_url(tls_cluster(engine).primary.url).set(drivername="mysql+mysqldb")
    with Router(url, tls=Tls(ca=authority.ca)) as router:
        assert _one(router) == 1
    assert "of the authorities in" in refusal(url, Tls(ca=authority.expired_ca))
    assert "is signed by none of the authorities" in refusal(url, Tls(ca=Authority(tmp_path, "stranger").ca))
    # "localhost" would mean a socket to it.
    assert "the certificate of 127.1" in refusal(url, Tls(ca=authority.ca), host="127.1")


def test_a_connect_with_a_bundle_as_large_as_amazons_is_cheap(
    tls_cluster: TlsCluster, authority: Authority, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """CPU of this process, reported and not asserted: one context is made, not one a connect."""
    large = bundle(tmp_path / "bundle.pem", authority.ca)
    assert large.stat().st_size > 200_000
    for engine in ENGINES:
        with Router(
            tls_cluster(engine).primary.url, tls=Tls(ca=large), engine_options={"poolclass": NullPool}
        ) as router:
            _one(router)
            began = time.process_time()
            for _ in range(20):
                _one(router)
            record_property(f"{engine} ms", round((time.process_time() - began) * 50, 2))
            print(engine, (time.process_time() - began) * 50)


def test_libpq_is_given_the_one_authority_that_counts_and_trusts_nobody_else(
    tls_cluster: TlsCluster, authority: Authority, tmp_path: Path
) -> None:
    """A small file in place of the bundle; where it does not do any more the bundle does; a new bundle ends it."""
    url = make_url(tls_cluster("postgresql").primary.url)
    other = Authority(tmp_path, "another one").ca.read_text()
    large = bundle(tmp_path / "bundle.pem", authority.ca, size=20_000)
    tls, place = Tls(ca=large), Place("db", str(url.host), int(url.port or 0), "app")
    anchors = tls.anchors("psycopg")
    assert anchors is not None
    used: list[str] = []

    def connect(**parameters: Any) -> None:
        used.append(parameters["sslrootcert"])
        psycopg.connect(**parameters).close()

    def again() -> list[str]:
        used.clear()
        anchors.around(connect, place)(
            host=url.host, port=url.port, user=url.username, password=url.password, dbname="app",
            **tls.parameters("postgresql", "psycopg"),
        )  # fmt: skip
        return used

    assert again() == [str(large)]
    (small,) = again()
    assert Path(small).read_text().strip() == authority.ca.read_text().strip()
    Path(small).write_text(other)  # as if the server had got another authority since
    assert again() == [small, str(large)]
    (newer,) = again()
    assert newer not in (small, str(large))
    Path(newer).unlink()
    assert again() == [newer, str(large)]
    large.write_text(other + large.read_text().replace(authority.ca.read_text(), ""))
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        again()
    assert used == [str(large)]
    assert Tls(ca=authority.ca).anchors("psycopg") is None  # it is small
    assert tls.anchors("pymysql") is None


def _one(router: Router) -> Any:
    with router.primary_engine().connect() as connection:
        return connection.scalar(text("SELECT 1"))
