"""Credentials from Secrets Manager and from functions: a password that changes while the pool is in use."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError

from rds_router import ConfigurationError, Place, Router, SecretsManager
from rds_router.credentials.env import Environment
from rds_router.credentials.iam import IamAuth
from rds_router.events import CredentialsRenewed
from rds_router.lab import Cluster
from rds_router.lab.engines.base import APP
from rds_router.settings import credentials_from
from tests.aws.conftest import ENGINES
from tests.cluster.watching import prompt, run

PLACE = Place("db", "127.0.0.1", 3306, "app")


@pytest.fixture
def secrets(aws: None) -> Any:
    import boto3

    return boto3.session.Session().client("secretsmanager")


def test_a_secret_is_read_by_name_and_by_arn_and_once(secrets: Any) -> None:
    value = json.dumps({"username": "app", "password": "geheim", "host": "db", "port": 3306})
    arn = secrets.create_secret(Name="prod/blog", SecretString=value)["ARN"]
    for name in ("prod/blog", arn):
        source = SecretsManager(name)
        assert source(PLACE) == ("app", "geheim")
        secrets.put_secret_value(SecretId="prod/blog", SecretString=json.dumps({"password": "neu"}))
        assert source(PLACE) == ("app", "geheim")
        assert source.renew(PLACE, ("app", "geheim")) == "neu"
        assert source(PLACE) == "neu"
        secrets.put_secret_value(SecretId="prod/blog", SecretString=value)
    assert SecretsManager(arn).region == "eu-west-1"


def test_a_secret_may_be_the_bare_password(secrets: Any) -> None:
    secrets.create_secret(Name="bare", SecretString="geheim")
    assert SecretsManager("bare")(PLACE) == "geheim"


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ({"SecretString": '{"user": "app"}'}, "the secret odd is JSON without a text named password"),
        ({"SecretBinary": b"geheim"}, "the secret odd is binary, but must be JSON or a bare password"),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_without_its_text(secrets: Any, secret: Any, told: str) -> None:
    secrets.create_secret(Name="odd", **secret)
    with pytest.raises(ConfigurationError) as refusal:
        SecretsManager("odd")(PLACE)
    assert str(refusal.value) == told


def test_during_a_rotation_the_pending_password_is_tried(secrets: Any) -> None:
    """RDS knows the new one before the secret is marked current."""
    secrets.create_secret(Name="prod/blog", SecretString="old")
    source = SecretsManager("prod/blog")
    assert source(PLACE) == "old"
    secrets.put_secret_value(SecretId="prod/blog", SecretString="new", VersionStages=["AWSPENDING"])
    assert source.renew(PLACE, "old") == "new"
    assert source.renew(PLACE, "new") == "old"


def test_without_a_rotation_the_refused_password_stays_the_answer(secrets: Any) -> None:
    secrets.create_secret(Name="prod/blog", SecretString="old")
    source = SecretsManager("prod/blog")
    assert source.renew(PLACE, str(source(PLACE))) == "old"


@pytest.fixture(params=ENGINES)
def rotated(request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, Any]]:
    """A cluster with an account ``rotating``, and what changes its password."""
    cluster: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    account = "rotating" if request.param == "postgresql" else "'rotating'@'%'"
    says = "PASSWORD" if request.param == "postgresql" else "IDENTIFIED BY"
    create, alter = ("CREATE ROLE", "ALTER ROLE") if request.param == "postgresql" else ("CREATE USER", "ALTER USER")
    login = " LOGIN" if request.param == "postgresql" else ""
    grants = [] if request.param == "postgresql" else [f"GRANT ALL ON *.* TO {account}"]
    admin = cluster.primary.admin_url
    run(admin, f"{create} {account}{login} {says} 'first'", *grants)
    cluster.wait_caught_up()
    yield cluster, lambda password: run(admin, f"{alter} {account} {says} '{password}'")
    run(admin, f"DROP {create.split()[1]} {account}")
    cluster.wait_caught_up()


def test_a_rotation_while_the_pool_is_in_use_fails_no_request(secrets: Any, rotated: tuple[Cluster, Any]) -> None:
    """In the order of AWS's own rotation: pending, then the server, then current. Connections come and go meanwhile."""
    cluster, set_password = rotated
    secrets.create_secret(Name="rotating", SecretString="first")
    urls = [make_url(each.url).set(username="rotating", password=None) for each in cluster.servers]
    failures: list[BaseException] = []
    done, stop = [0, 0, 0], threading.Event()
    with Router(
        urls[0],
        urls[1:],
        policy=prompt(probe_interval=5),
        credentials=SecretsManager("rotating"),
        engine_options={"pool_recycle": 0},  # connections are opened anew all the time
    ) as router:

        def work(number: int) -> None:
            target = (router.primary, router.reader)[number % 2]
            try:
                while not stop.is_set():
                    with target.connect() as connection:
                        connection.execute(text("SELECT 1"))
                    done[number] += 1
                    stop.wait(0.005)
            except BaseException as error:
                failures.append(error)

        assert router.refresh(30)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for each in threads:
            each.start()
        _wait_for_more(done, failures)
        for password in ("second", "third"):
            secrets.put_secret_value(SecretId="rotating", SecretString=password, VersionStages=["AWSPENDING"])
            set_password(password)
            cluster.wait_caught_up()
            _wait_for_more(done, failures)
            secrets.put_secret_value(SecretId="rotating", SecretString=password)
            _wait_for_more(done, failures)
        stop.set()
        for each in threads:
            each.join()
        assert failures == []
        assert router.events.counts[CredentialsRenewed.__name__] >= 2
        assert router.refresh(30)
        assert len(router.topology.eligible) == 2, router


def _wait_for_more(done: list[int], failures: list[BaseException]) -> None:
    before, end = list(done), time.monotonic() + 30
    while any(now < then + 3 for now, then in zip(done, before, strict=True)) and not failures:
        assert time.monotonic() < end, (done, before)
        time.sleep(0.01)


def test_a_function_is_asked_again_once_when_it_is_refused(mariadb_cluster: Cluster) -> None:
    url = make_url(mariadb_cluster.primary.url)._replace(password=None, username=None)
    answers = [("app", "old"), ("app", APP[1]), ("app", "old"), ("app", "old")]
    asked: list[Place] = []

    def answer(place: Place) -> tuple[str, str]:
        asked.append(place)
        return answers[len(asked) - 1]

    with Router(url, credentials=answer) as router:
        with router.primary_engine().connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        assert len(asked) == 2
        router.primary_engine().dispose()
        with pytest.raises(OperationalError, match="Access denied"):
            router.primary_engine().connect()
        assert len(asked) == 4
    assert {(each.host, each.port, each.database) for each in asked} == {("127.0.0.1", url.port, "app")}


def test_what_is_no_answer_is_told_without_being_shown(mariadb_cluster: Cluster) -> None:
    url = make_url(mariadb_cluster.primary.url)

    def password_of(place: Place) -> Any:
        return ["geheim"]

    with Router(url, credentials=password_of) as router, pytest.raises(ConfigurationError) as told:
        router.primary_engine().connect()
    assert "password_of answered with neither a password nor (user, password), both str" in str(told.value)
    assert "geheim" not in str(told.value)


def test_the_environment_is_read_for_each_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("DB_PASS", "one")
    assert Environment()(PLACE) == "one"
    monkeypatch.setenv("DB_PASS", "two")
    assert Environment()(PLACE) == "two"
    (tmp_path / "secret").write_text("three\n")
    monkeypatch.setenv("DB_PASS_FILE", str(tmp_path / "secret"))
    assert Environment("DB_PASS_FILE", file=True)(PLACE) == "three"
    monkeypatch.delenv("DB_PASS")
    with pytest.raises(ConfigurationError, match="the environment has no DB_PASS"):
        Environment()(PLACE)


def test_the_setting_names_a_source() -> None:
    assert credentials_from(None) is None
    assert isinstance(credentials_from("iam"), IamAuth)
    assert repr(credentials_from("secretsmanager:prod/blog")) == "SecretsManager('prod/blog')"
    for wrong in ("geheim", "iam:x", "secretsmanager:", 5):
        with pytest.raises(ConfigurationError, match="RDS_ROUTER_CREDENTIALS must be iam") as told:
            credentials_from(wrong)
        assert "geheim" not in str(told.value)
