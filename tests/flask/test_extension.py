"""Flask-SQLAlchemy's own features keep working, and its session routes."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import flask_sqlalchemy
import pytest
from flask import Flask, g
from flask_sqlalchemy.record_queries import get_recorded_queries
from flask_sqlalchemy.session import Session as BindKeySession
from sqlalchemy import String, insert, select, text
from sqlalchemy import inspect as inspect_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from rds_router import ConfigurationError, RoutingSession
from rds_router.flask import FlaskRoutingSession, SQLAlchemy, primary_only
from tests.flask.conftest import MakeSite, Site
from tests.session.models import Post, User, users

A_READ = select(User.name).where(User.id == 1)


def test_reads_go_to_replicas_and_writes_to_the_primary(site: Site) -> None:
    with site.app.app_context():
        site.db.session.scalar(A_READ)
        site.db.session.add(User(id=11, name="eva"))
        site.db.session.commit()
        site.db.session.scalar(A_READ)
    assert site.seen.parts == ["replica", "primary", "primary"]


def test_the_extensions_own_queries_route_too(site: Site) -> None:
    """get_or_404, first_or_404, one_or_404, paginate."""
    db = site.db
    with site.app.test_request_context("/?page=1"):
        assert db.get_or_404(User, 1).name == "ann"
        assert db.first_or_404(select(User).where(User.id == 1)).id == 1
        assert db.one_or_404(select(User).where(User.id == 2)).id == 2
        assert db.paginate(select(Post).order_by(Post.id), per_page=1).total == 2
        assert set(site.seen.parts) == {"replica"}
        assert len(site.seen.parts) == 5


def test_db_engine_is_the_primary_of_the_moment(site: Site) -> None:
    with site.app.app_context():
        assert site.db.engine is site.db.router.primary_engine()
        assert site.db.engines[None] is site.db.engine
        assert list(site.db.engines) == [None]
        assert site.db.session.get_bind() is site.db.engine


def test_the_session_is_both_kinds(site: Site) -> None:
    with site.app.app_context():
        session = site.db.session()
        assert isinstance(session, (RoutingSession, BindKeySession))
        assert isinstance(site.db, flask_sqlalchemy.SQLAlchemy)


def test_using_primary_and_using_replica_on_db_session(site: Site) -> None:
    with site.app.app_context():
        with site.db.session.using_primary():
            site.db.session.scalar(A_READ)
        with site.db.session.using_replica(max_staleness=60):
            site.db.session.scalar(A_READ)
    assert site.seen.parts == ["primary", "replica"]


# --- bind keys


class Elsewhere(DeclarativeBase):
    pass


def with_bind_key(make_site: MakeSite, tmp_path: Path, **config: Any) -> tuple[Site, Any]:
    db = SQLAlchemy()

    class Note(db.Model):  # type: ignore[name-defined,misc]
        __bind_key__ = "elsewhere"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str] = mapped_column(String(10))

    class Page(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    site = make_site(db=db, SQLALCHEMY_BINDS={"elsewhere": f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"}, **config)
    return site, Note


def test_models_with_a_bind_key_are_not_routed(make_site: MakeSite, tmp_path: Path) -> None:
    """R7: they go where Flask-SQLAlchemy sends them, reads and writes, and do not hold the others."""
    site, note = with_bind_key(make_site, tmp_path)
    with site.app.app_context():
        site.db.create_all()
    site.forget()
    with site.app.app_context():
        site.db.session.add(note(id=1, body="b"))
        site.db.session.commit()
        assert site.db.session.scalar(select(note.body)) == "b"
        site.db.session.execute(insert(note.__table__).values(id=2, body="c"))
        assert site.seen == []
        site.db.session.scalar(A_READ)
    assert site.seen.parts == ["replica"]


def test_an_app_with_bind_keys_only(tmp_path: Path) -> None:
    """No default bind: Flask-SQLAlchemy works so, and so do we."""
    db = SQLAlchemy()

    class Note(db.Model):  # type: ignore[name-defined,misc]
        __bind_key__ = "elsewhere"
        id: Mapped[int] = mapped_column(primary_key=True)

    app = Flask("site")
    app.config["SQLALCHEMY_BINDS"] = {"elsewhere": f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"}
    db.init_app(app)
    with app.test_request_context():
        db.create_all("elsewhere")
        db.session.add(Note(id=1))
        db.session.commit()
        assert db.session.scalars(select(Note.id)).all() == [1]
        with pytest.raises(ConfigurationError, match="SQLALCHEMY_DATABASE_URI is not set"):
            db.router  # noqa: B018
        db.session.remove()
        db.engines["elsewhere"].dispose()


# --- tables


def test_create_all_and_drop_all_visit_the_primary_only(make_site: MakeSite, tmp_path: Path) -> None:
    site, _ = with_bind_key(make_site, tmp_path)
    with site.app.app_context():
        site.db.create_all()
        assert inspect_engine(site.db.engine).has_table("page")
        assert inspect_engine(site.db.engines["elsewhere"]).has_table("note")
        site.db.drop_all()
        assert not inspect_engine(site.db.engine).has_table("page")
        site.db.reflect()
    assert set(site.seen.parts) == {"primary"}


@pytest.mark.filterwarnings("ignore:'get_engine' is deprecated:DeprecationWarning")  # Flask-Migrate's env.py
def test_migrate_visits_the_primary_only(make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """flask db upgrade, with Flask-Migrate's own env.py: no statement of it on a replica."""
    flask_migrate = pytest.importorskip("flask_migrate")
    import logging

    monkeypatch.chdir(tmp_path)
    db = SQLAlchemy()

    class Page(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    site = make_site(db=db)
    flask_migrate.Migrate(site.app, db)
    before = list(logging.getLogger().handlers), logging.getLogger().level
    try:
        with site.app.app_context():
            site.forget()
            flask_migrate.init()
            flask_migrate.migrate()
            flask_migrate.upgrade()
            assert inspect_engine(db.engine).has_table("page")
    finally:
        logging.getLogger().handlers[:], _ = before  # env.py configures the root logger
        logging.getLogger().setLevel(before[1])
        for name in list(logging.root.manager.loggerDict):
            logging.getLogger(name).disabled = False
    assert "CREATE TABLE page ( id INTEGER NOT NULL, PRIMARY KEY (id) )" in [ran.sql for ran in site.seen]
    assert set(site.seen.parts) == {"primary"}


# --- options


def test_a_session_class_of_the_users_own(make_site: MakeSite) -> None:
    """It keeps its methods, and routes."""

    class Mine(BindKeySession):
        def greet(self) -> str:
            return "hello"

    site = make_site(db=SQLAlchemy(model_class=Elsewhere, session_options={"class_": Mine, "autoflush": False}))
    with site.app.app_context():
        session = site.db.session()
        assert session.greet() == "hello"  # type: ignore[attr-defined]
        assert isinstance(session, (Mine, FlaskRoutingSession))
        assert not session.autoflush
        site.db.session.scalar(A_READ)
        site.db.session.execute(A_READ.with_for_update()).all()
    assert site.seen.parts == ["replica", "primary"]


def test_a_routing_session_class_of_the_users_own(make_site: MakeSite) -> None:
    class Mine(FlaskRoutingSession):
        pass

    site = make_site(db=SQLAlchemy(model_class=Elsewhere, session_options={"class_": Mine}))
    with site.app.app_context():
        assert type(site.db.session()).__mro__[1] is Mine  # sessionmaker() makes a class of its own


def test_record_queries_sees_each_query_once(make_site: MakeSite) -> None:
    """On the primary and on every replica."""
    site = make_site(SQLALCHEMY_RECORD_QUERIES=True)
    with site.app.app_context():
        site.db.session.scalar(A_READ)
        site.db.session.execute(A_READ.with_for_update()).all()
        site.db.session.add(User(id=11, name="eva"))
        site.db.session.commit()
        recorded = [each.statement for each in get_recorded_queries()]
        assert len(recorded) == 3
        assert len(g._sqlalchemy_queries) == len(site.seen.statements)


def test_engine_options_apply_to_all_and_replicas_may_differ(make_site: MakeSite) -> None:
    site = make_site(
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": "7", "max_overflow": 3},
        RDS_ROUTER_REPLICA_ENGINE_OPTIONS={"pool_size": 9},
    )
    with site.app.app_context():
        primary: Any = site.db.engine.pool
        site.db.session.scalar(A_READ)
        replica: Any = site.db.session.get_bind(clause=A_READ).pool  # type: ignore[union-attr]
        assert (primary.size(), primary._max_overflow) == (7, 3)
        assert (replica.size(), replica._max_overflow) == (9, 3)


def test_track_modifications_still_tracks(make_site: MakeSite) -> None:
    from flask_sqlalchemy.track_modifications import models_committed

    heard: list[Any] = []
    site = make_site(SQLALCHEMY_TRACK_MODIFICATIONS=True)

    def hear(sender: Any, changes: list[Any]) -> None:
        heard.extend(changes)

    models_committed.connect(hear, site.app)
    with site.app.app_context():
        site.db.session.add(User(id=11, name="eva"))
        site.db.session.commit()
    assert [(type(model).__name__, change) for model, change in heard] == [("User", "insert")]


# --- several applications


def test_several_apps_on_one_extension(make_site: MakeSite, paths: list[Path], tmp_path: Path) -> None:
    """Each has its own router, and its own data."""
    from tests.session.stage import make_files

    other = tmp_path / "other"
    other.mkdir()
    files = [Path(url.removeprefix("sqlite:///")) for url in make_files(other)]
    db = SQLAlchemy(model_class=Elsewhere)
    first, second = make_site(db=db), make_site(db=db, files=files, replicas=1)
    with first.app.app_context():
        router = db.router
        db.session.execute(text("UPDATE rt_user SET name = 'first app' WHERE id = 1"))
        db.session.commit()
        assert db.session.scalar(A_READ) == "first app"
    with second.app.app_context():
        assert db.router is not router
        assert db.session.scalar(A_READ) == "ann"
    assert first.seen.parts == ["primary", "primary"]
    assert second.seen.parts == ["replica"]


def test_an_app_that_is_forgotten_takes_its_router_along(paths: list[Path]) -> None:
    """A test suite makes an app for each test; the extension, a global, must not keep their threads alive."""
    db = SQLAlchemy(model_class=Elsewhere)

    def run_once() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        app = Flask("site")
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{paths[0]}"
        app.config["SQLALCHEMY_REPLICA_URIS"] = f"sqlite:///{paths[1]}"
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"poolclass": NullPool}
        db.init_app(app)
        with app.app_context():
            db.router.refresh()
            db.session.scalar(A_READ)
            return weakref.ref(app), weakref.ref(db.router)

    before = set(threading.enumerate())
    app, router = run_once()
    threads = set(threading.enumerate()) - before
    gc.collect()  # the application, and with it the extension's hold on its router
    gc.collect()  # the router
    assert app() is None
    assert router() is None
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_init_app_twice_is_refused_as_flask_sqlalchemy_does(site: Site) -> None:
    with pytest.raises(RuntimeError, match="already been registered"):
        site.db.init_app(site.app)
    with site.app.app_context():
        assert site.db.session.scalar(A_READ) == "ann"


def test_without_an_application_context_flask_sqlalchemys_own_error() -> None:
    db = SQLAlchemy()
    with pytest.raises(RuntimeError, match="application context"):
        db.router  # noqa: B018
    app = Flask("site")
    with app.app_context(), pytest.raises(RuntimeError, match="not registered"):
        db.router  # noqa: B018


# --- views


def test_primary_only(site: Site) -> None:
    """All reads of the view, on the primary; somebody else's next request reads from replicas again."""

    @site.app.route("/exact")
    @primary_only
    def exact() -> str:
        site.db.session.scalar(A_READ)
        site.db.session.commit()
        return str(site.db.session.scalar(A_READ))

    @site.app.route("/any")
    def any_server() -> str:
        return str(site.db.session.scalar(A_READ))

    client = site.app.test_client(use_cookies=False)
    assert client.get("/exact").text == "ann"
    assert client.get("/any").text == "ann"
    assert site.seen.parts == ["primary", "primary", "replica"]
    assert exact.__name__ == "exact"


def test_without_replicas_it_is_a_plain_flask_sqlalchemy(make_site: MakeSite) -> None:
    """R8: no cookie, no thread, no other server."""
    site = make_site(replicas=0)

    @site.app.route("/", methods=["POST"])
    def write() -> str:
        site.db.session.execute(insert(users).values(id=11, name="eva"))
        site.db.session.commit()
        return "done"

    response = site.app.test_client().post("/")
    assert "Set-Cookie" not in response.headers
    assert "Cache-Control" not in response.headers
    with site.app.app_context():
        assert site.db.router.refresh()
        assert not site.db.router._monitor.is_running
    assert site.seen.parts == ["primary"]
