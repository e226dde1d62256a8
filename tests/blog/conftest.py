"""The blog on every engine, and a browser without a screen: Flask's test client with the manners of a form."""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from rds_router import Replica
from rds_router.lab import Cluster

EXAMPLE = Path(__file__).parents[2] / "examples" / "flask_blog"
sys.path.insert(0, str(EXAMPLE))


class Browser:
    """One reader: keeps his cookies, follows redirects, sends the form token of his session."""

    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()
        self.page = ""
        """The last page."""

    def get(self, path: str, *, status: int = 200) -> str:
        """Open a page."""
        return self._keep(self.client.get(path, follow_redirects=True), status)

    def post(self, path: str, *, status: int = 200, **fields: str) -> str:
        """Send a form and go where its answer leads."""
        if not self.token:
            self.get("/sign-in")  # the first page with a form
        answer = self.client.post(path, data={"csrf_token": self.token, **fields}, follow_redirects=True)
        return self._keep(answer, status)

    def sign_in(self, name: str = "Ida Marsden") -> None:
        """Be one of the seed's people."""
        found = re.search(rf'name="user_id" value="(\d+)"(?:(?!<button).)*{name}', self.get("/sign-in"), re.DOTALL)
        assert found, f"{name} is not offered"
        self.post("/sign-in", user_id=found[1])

    @property
    def token(self) -> str:
        with self.client.session_transaction() as session:
            return str(session.get("csrf_token", ""))

    @property
    def count(self) -> int:
        """The number of the front page's line "Posts: N"."""
        found = re.search(r"Posts: (\d+)", self.get("/"))
        assert found
        return int(found[1])

    @property
    def footer(self) -> str:
        """How the last page was made, without tags; a dash is a hyphen."""
        found = re.search(r'<details class="made">.*?</details>', self.page, re.DOTALL)
        assert found, "a page without its footer"
        return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", found[0]))).replace("\u2013", "-")

    def _keep(self, answer: TestResponse, status: int) -> str:
        self.page = answer.get_data(as_text=True)
        assert answer.status_code == status, self.page
        return self.page


@contextmanager
def running(config: Mapping[str, Any], after_fill: Callable[[], None] = lambda: None) -> Iterator[Flask]:
    """The application with its tables filled; afterwards they are gone, and so is every connection."""
    from blog import create_app
    from blog.models import db
    from blog.seed import seed

    app = create_app({"TESTING": True, "SECRET_KEY": "for tests", **config})
    with app.app_context():
        try:
            db.create_all()
            assert seed()
            after_fill()
            assert db.router.refresh()
        except BaseException:
            db.router.close()
            raise
    try:
        yield app
    finally:
        with app.app_context():
            db.session.remove()
            db.drop_all()
            db.router.close()


@contextmanager
def running_on(cluster: Cluster, **config: Any) -> Iterator[Flask]:
    """The application on a cluster of the lab, its servers called by their names there."""
    given = {
        "SQLALCHEMY_DATABASE_URI": cluster.primary.url,
        "SQLALCHEMY_REPLICA_URIS": [Replica(each.url, name=each.name) for each in cluster.replicas],
        "RDS_ROUTER_PRIMARY_NAME": cluster.primary.name,
        "RDS_ROUTER_LATENCY_WINDOW": 60.0,  # how fast a probe is answered tells of this machine's other work only
        **config,
    }
    with running(given, cluster.wait_caught_up) as app:
        yield app


@pytest.fixture(params=["sqlite", "mariadb", "mysql", "postgresql"])
def servers(request: pytest.FixtureRequest) -> Cluster:
    """The shared cluster of each engine; a test that pauses something resumes it."""
    cluster: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    return cluster


@pytest.fixture
def app(servers: Cluster) -> Iterator[Flask]:
    """The blog on a primary and two replicas."""
    with running_on(servers) as made:
        yield made


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Flask]:
    """The blog on one SQLite file, without a replica."""
    with running({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'blog.db'}"}) as made:
        yield made


@pytest.fixture
def browser(app: Flask) -> Browser:
    """A reader of the blog on replicas."""
    return Browser(app)


@pytest.fixture
def visitor(plain: Flask) -> Browser:
    """A reader of the blog without replicas."""
    return Browser(plain)
