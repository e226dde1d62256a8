"""IAM database authentication: tokens that boto3 signs, on servers that judge them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError

from rds_router import ConfigurationError, IamAuth, Place, Router, Tls
from rds_router.credentials import aws
from rds_router.events import CredentialsRenewed
from rds_router.lab import Cluster
from rds_router.login import Login
from tests.aws.certificates import Authority
from tests.aws.iam_front import IamFront
from tests.aws.mysql_front import MysqlFront
from tests.cluster.watching import prompt, run

PLACE = Place("db", "db.abc.eu-west-1.rds.amazonaws.com", 3306, "app")


def at(clock: list[float], draw: float = 0.0, **options: Any) -> IamAuth:
    return IamAuth(clock=lambda: clock[0], random=lambda: draw, **options)


@pytest.mark.usefixtures("aws")
def test_a_token_is_signed_for_the_server_port_and_user_in_its_region() -> None:
    token = urlsplit(f"https://{IamAuth()(PLACE)}")
    told = parse_qs(token.query)
    assert token.netloc == "db.abc.eu-west-1.rds.amazonaws.com:3306"
    assert (told["Action"], told["DBUser"], told["X-Amz-Expires"]) == (["connect"], ["app"], ["900"])
    assert "/eu-west-1/rds-db/aws4_request" in told["X-Amz-Credential"][0]
    elsewhere = Place("db", "db.abc.us-gov-west-1.rds.amazonaws.com", 3306, "app")
    assert "/us-gov-west-1/" in parse_qs(urlsplit(f"https://{IamAuth()(elsewhere)}").query)["X-Amz-Credential"][0]
    alias = Place("db", "db.example.com", 3306, "app")
    signed = IamAuth("eu-central-1", host=lambda place: "real.abc.eu-central-1.rds.amazonaws.com")(alias)
    assert str(signed).startswith("real.abc.eu-central-1.rds.amazonaws.com:3306/?")


class Counting:
    """A client that numbers its tokens."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, service: str, region: str | None) -> Counting:
        assert service == "rds"
        return self

    def generate_db_auth_token(self, **_: Any) -> str:
        self.made += 1
        return f"token {self.made}"


def test_a_token_is_used_for_most_of_its_life_and_not_for_all_by_the_same_part() -> None:
    """900 seconds; 495 to 720 of them, so that many processes do not renew at once."""
    for draw, used in ((0.0, 495), (1.0, 720)):
        clock, client = [0.0], Counting()
        iam = at(clock, draw, client=client)
        assert iam(PLACE) == "token 1"
        clock[0] = used - 0.1
        assert iam(PLACE) == "token 1"
        clock[0] = used + 0.1
        assert iam(PLACE) == "token 2"


def test_each_server_and_user_has_a_token_of_its_own() -> None:
    client = Counting()
    iam = IamAuth("eu-west-1", client=client)
    places = [
        PLACE,
        Place("db", PLACE.host, 3306, "other"),
        Place("db", "x.abc.eu-west-1.rds.amazonaws.com", 3306, "app"),
    ]
    assert len({iam(each) for each in places}) == 3
    assert {iam(each) for each in places} == {"token 1", "token 2", "token 3"}


def test_many_that_are_refused_at_once_make_one_new_token() -> None:
    client = Counting()
    iam = IamAuth("eu-west-1", client=client)
    refused = iam(PLACE)
    threads = [threading.Thread(target=iam.renew, args=(PLACE, refused)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert client.made == 2
    assert iam(PLACE) == "token 2"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_not_locked_out() -> None:
    """R13: a thread that was making a token does not live in the child, and holds its lock for ever."""
    iam = IamAuth("eu-west-1", client=Counting())
    with iam._tokens._askers.setdefault(PLACE, threading.Lock()):
        child = os.fork()
        if child == 0:
            os._exit(0 if iam(PLACE) == "token 1" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_tls_it_is_refused() -> None:
    with pytest.raises(ConfigurationError) as told:
        Router("mysql+pymysql://app@db/blog", credentials=IamAuth("eu-west-1"))
    assert str(told.value) == (
        "IamAuth(region='eu-west-1') sends its token as it is, so it needs verified TLS: give tls=Tls(ca=...), for "
        "Amazon RDS with https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
    )


class Signer:
    """boto3's own tokens, each another one than the last, and what a server thinks of them."""

    def __init__(self, accept: Callable[[str], object]) -> None:
        self.made: list[str] = []
        self._accept = accept

    def __call__(self, service: str, region: str | None) -> Signer:
        self._client = aws.client(service, region)
        return self

    def generate_db_auth_token(self, **what: Any) -> str:
        token = str(self._client.generate_db_auth_token(**what))
        while token in self.made:  # signed within the same second
            time.sleep(0.1)
            token = str(self._client.generate_db_auth_token(**what))
        self.made.append(token)
        self._accept(token)
        return token


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(("engine", "driver"), [("mariadb", "pymysql"), ("mysql", "pymysql"), ("mysql", "mysqldb")])
def test_mysql_is_sent_the_token_in_clear_text_inside_tls_and_renewed_once_when_refused(
    request: pytest.FixtureRequest, authority: Authority, engine: str, driver: str
) -> None:
    """By the pool and by the probes, on a primary and a replica."""
    if driver == "mysqldb":
        pytest.importorskip("MySQLdb", reason="mysqlclient is not installed")
    cluster: Cluster = request.getfixturevalue(f"{engine}_cluster")
    identity = authority.issue("front", "127.0.0.1")
    good: set[str] = set()
    signer = Signer(good.add)
    with (
        IamFront(cluster.primary, identity, lambda user, token: user == "iam" and token in good) as front,
        IamFront(cluster.replicas[0], identity, lambda user, token: user == "iam" and token in good) as other,
        Router(
            f"mysql+{driver}://iam@127.0.0.1:{front.port}/app",
            [f"mysql+{driver}://iam@127.0.0.1:{other.port}/app"],
            policy=prompt(probe_interval=3600, probe_timeout=10),
            credentials=IamAuth("eu-west-1", client=signer),
            tls=Tls(ca=authority.ca),
        ) as router,
    ):
        assert router.refresh(30)
        assert len(router.topology.eligible) == 1, router
        for target in (router.primary, router.reader):
            with target.connect() as connection:
                assert connection.scalar(text("SELECT 1")) == 1
        assert len(signer.made) == 2  # one for each server, shared by probes and pools
        assert {token for _, token in front.logins}.isdisjoint(token for _, token in other.logins)
        good.clear()
        router.primary_engine().dispose()
        with router.primary.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        assert len(signer.made) == 3
        assert router.events.counts[CredentialsRenewed.__name__] == 1


@pytest.mark.usefixtures("aws")
def test_postgresql_is_sent_the_token_as_a_password_and_renewed_once_when_refused(
    tls_cluster: Callable[[str], Cluster], authority: Authority
) -> None:
    server = tls_cluster("postgresql").primary
    run(server.admin_url, "DROP ROLE IF EXISTS iam", "CREATE ROLE iam LOGIN")

    def set_password(token: str) -> None:
        run(server.admin_url, f"ALTER ROLE iam PASSWORD '{token}'".replace(":", "\\:"))

    signer = Signer(set_password)
    url = make_url(server.url).set(username="iam", password=None)
    tls = Tls(ca=authority.ca)
    with Router(url, credentials=IamAuth("eu-west-1", client=signer), tls=tls) as router:
        assert _one(router) == 1
        set_password("another")
        router.primary_engine().dispose()
        assert _one(router) == 1
        assert (len(signer.made), router.events.counts[CredentialsRenewed.__name__]) == (2, 1)
    run(server.admin_url, "DROP ROLE iam")


@pytest.mark.usefixtures("aws")
def test_a_token_that_is_refused_again_is_not_tried_a_third_time(
    mariadb_cluster: Cluster, authority: Authority
) -> None:
    signer = Signer(lambda token: None)
    with (
        IamFront(mariadb_cluster.primary, authority.issue("strict", "127.0.0.1"), lambda user, token: False) as front,
        Router(
            f"mysql+pymysql://iam@127.0.0.1:{front.port}/app",
            credentials=IamAuth("eu-west-1", client=signer),
            tls=Tls(ca=authority.ca),
        ) as router,
    ):
        with pytest.raises(OperationalError, match="Access denied"):
            _one(router)
        assert len(front.logins) == 2


def test_a_plugin_that_two_threads_load_at_once_is_no_refused_login() -> None:
    """MariaDB's C library says 1045 then: the same token is sent again, and none is made anew."""
    sent: list[str] = []

    def connect(**parameters: Any) -> str:
        sent.append(parameters["passwd"])
        if len(sent) == 1:
            raise OSError("Plugin mysql_clear_password could not be loaded: it is already loaded")
        return "connected"

    def token(place: Place) -> str:
        return f"token {len(sent)}"

    login = Login(token, None, renewed=lambda name: pytest.fail("nothing was refused"))
    opening = login.opening(make_url("mysql+mysqldb://iam@db/blog"), "db")
    assert opening(connect, (), {}) == "connected"
    assert sent == ["token 0", "token 0"]


def test_clear_text_is_never_sent_outside_of_tls(mariadb_cluster: Cluster) -> None:
    """Nor to a server that only pretends to be one of RDS."""
    with MysqlFront(mariadb_cluster.primary, hides_tls=True, asks_for_clear_text=True) as front:
        url = f"mysql+pymysql://app:geheim@127.0.0.1:{front.port}/app"
        with Router(url) as router, pytest.raises(OperationalError, match="outside of TLS: not sent"):
            _one(router)


def _one(router: Router) -> Any:
    with router.primary_engine().connect() as connection:
        return connection.scalar(text("SELECT 1"))
