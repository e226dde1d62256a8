"""R14: nothing that the package writes holds a secret. A canary is the password, and everything written is searched."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, make_url, text
from werkzeug import Response
from werkzeug.test import Client

from rds_router import IamAuth, Place, Router, RouterError, RoutingPolicy, RoutingSession, SecretsManager, Tls
from rds_router.events import CredentialsRenewed, Emitter
from rds_router.lab import Cluster
from rds_router.settings import credentials_from, tls_from
from tests import canary
from tests.aws.certificates import Authority
from tests.aws.conftest import ENGINES
from tests.cluster.watching import prompt, run

CANARY = "canary-7f3a9c"


class Written:
    """All that was said, shown or raised."""

    def __init__(self) -> None:
        self._log = io.StringIO()
        self._handler = logging.StreamHandler(self._log)
        self._handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)r"))
        self.shown: list[str] = []

    def __enter__(self) -> Written:
        self._root = logging.getLogger()
        self._level = self._root.level
        self._root.addHandler(self._handler)
        self._root.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_: object) -> None:
        self._root.removeHandler(self._handler)
        self._root.setLevel(self._level)

    def show(self, *things: object) -> None:
        for each in things:
            self.shown += [repr(each), str(each)]

    def failing(self, work: Callable[[], object]) -> None:
        """What an error says of itself, with the local variables of every frame, as crash reports have them."""
        try:
            work()
        except Exception as error:
            chain: list[BaseException | None] = [
                error,
                error.__cause__,
                error.__context__,
                getattr(error, "orig", None),
            ]
            for each in filter(None, chain):
                self.show(each, each.args, vars(each))
                report = traceback.TracebackException.from_exception(each, capture_locals=True)
                self.shown.append("".join(report.format()))
        else:
            pytest.fail("nothing failed")

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join([*self.shown, self._log.getvalue()])

    def lines_with(self, secret: str) -> list[str]:
        return [each[:400] for each in self.text.splitlines() if secret in each]


@pytest.fixture
def written() -> Iterator[Written]:
    with Written() as record:
        yield record


def use(router: Router, written: Written) -> None:
    """Everything that a router shows of itself and writes, in good and in bad times."""
    router.events.listen(written.show)
    router.refresh(30)
    with RoutingSession(router=router) as session, suppress(Exception):
        session.execute(text("SELECT 1"))
    written.failing(lambda: _fail_at(router.primary_engine()))
    engine = router.primary_engine()
    written.show(router, router.topology, engine, engine.url, engine.pool, router.primary, router.reader)
    written.show(*router.topology.servers, router.events.counts, router.explain("SELECT 1"), router.policy)


def _fail_at(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT nothing FROM nowhere"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("is_right", [True, False], ids=["accepted", "refused"])
def test_no_password_of_a_function_is_written(
    request: pytest.FixtureRequest, written: Written, engine: str, is_right: bool
) -> None:
    cluster: Cluster = request.getfixturevalue(f"{engine}_cluster")
    account = "canary" if engine == "postgresql" else "'canary'@'%'"
    make = "CREATE ROLE {} LOGIN PASSWORD '{}'" if engine == "postgresql" else "CREATE USER {} IDENTIFIED BY '{}'"
    if is_right:
        run(cluster.primary.admin_url, make.format(account, CANARY))
        if engine != "postgresql":
            run(cluster.primary.admin_url, f"GRANT ALL ON *.* TO {account}")
        cluster.wait_caught_up()
    asked: list[Place] = []

    def told(place: Place) -> tuple[str, str]:
        asked.append(place)
        written.show(place)
        return "canary", CANARY if is_right else f"{CANARY}-{len(asked)}"

    urls = [make_url(each.url)._replace(username=None, password=None) for each in cluster.servers]
    try:
        with Router(
            urls[0], urls[1:], policy=prompt(), credentials=told, engine_options={"echo": "debug", "echo_pool": "debug"}
        ) as router:
            use(router, written)
            renewals = router.events.counts[CredentialsRenewed.__name__]
    finally:
        if is_right:
            run(cluster.primary.admin_url, f"DROP {'ROLE' if engine == 'postgresql' else 'USER'} {account}")
    assert asked
    assert bool(renewals) is not is_right
    assert ("SELECT 1" if is_right else "authentication failed" if engine == "postgresql" else "denied") in written.text
    assert written.lines_with(CANARY) == []


def test_no_password_of_a_url_is_written(mariadb_cluster: Cluster, written: Written) -> None:
    """Of the frames of SQLAlchemy and the driver, which hold it as the URL had it, no more than the text is ours."""
    urls = [make_url(each.url).set(password=CANARY) for each in mariadb_cluster.servers]
    with Router(urls[0], urls[1:], policy=prompt()) as router:
        router.events.listen(written.show)
        router.refresh(30)
        try:
            router.primary_engine().connect()
        except Exception as error:
            written.show(error)
            written.shown += traceback.format_exception(error)
        written.show(router, router.topology, router.primary_engine(), *router.topology.servers)
    assert "Access denied" in written.text
    assert written.lines_with(CANARY) == []


@pytest.mark.usefixtures("aws")
def test_no_token_and_no_secret_of_aws_is_written(
    tls_cluster: Callable[[str], Cluster],
    authority: Authority,
    written: Written,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """botocore's own log tells what Secrets Manager answered, at DEBUG: it is silenced, and nothing else is."""
    import boto3

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    logging.disable()  # what the test itself tells AWS
    boto3.session.Session().client("secretsmanager").create_secret(Name="canary", SecretString=CANARY)
    logging.disable(logging.NOTSET)
    cluster = tls_cluster("mariadb")
    for credentials in (IamAuth("eu-west-1"), SecretsManager("canary")):
        with Router(
            cluster.primary.url,
            [cluster.replicas[0].url],
            policy=prompt(),
            credentials=credentials,
            tls=Tls(authority.ca),
        ) as router:
            written.failing(router.primary_engine().connect)
            router.refresh(30)
            written.show(router, router.topology, credentials, vars(credentials), *router.topology.servers)
    assert "Access denied" in written.text
    for secret in (CANARY, "X-Amz-Signature"):
        assert written.lines_with(secret) == []


def test_a_setting_that_is_refused_is_not_shown(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody puts the password where a setting belongs."""
    wrong: list[Callable[[], Any]] = [
        lambda: credentials_from(CANARY),
        lambda: Router("mysql+pymysql://app@db/blog", credentials=CANARY),  # type: ignore[arg-type]
        lambda: Router("mysql+pymysql://app@db/blog", tls=CANARY),  # type: ignore[arg-type]
        lambda: tls_from([CANARY]),
    ]
    for each in wrong:
        with pytest.raises(RouterError) as told:
            each()
        written.show(told.value)
    assert os.environ.get("DB_PASS") != CANARY
    assert written.lines_with(CANARY) == []


def test_the_whole_suite_is_searched_for_the_labs_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """So that it can fail: each way to leak it is seen (``tests/canary.py``)."""
    before, canary.found[:] = canary.found[:], []
    secret = canary.CANARY
    # By hand: pytest shows what is logged, and what it shows is searched too.
    (handler,) = (each for each in logging.getLogger().handlers if isinstance(each, canary.Listening))
    handler.handle(logging.makeLogRecord({"name": "rds_router.test", "msg": "to %s", "args": (secret,)}))
    Emitter().emit(CredentialsRenewed(secret))
    RouterError(f"no way to {secret}")
    with Router(f"sqlite:///{tmp_path}/a.db", policy=RoutingPolicy(zone=secret)):
        pass
    subprocess.run([sys.executable, "-c", f"print('{secret}')"], check=True, capture_output=True)
    Client(lambda environ, start: (start("200 OK", []), [secret.encode()])[1], Response).get("/").get_data()
    seen, canary.found[:] = {each.partition(":")[0] for each in canary.found}, before
    assert {"the log of rds_router.test", "an event", "an error", "a router", "a program", "a page"} <= seen
