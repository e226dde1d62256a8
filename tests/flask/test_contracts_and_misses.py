"""What a view's reads are promised, and that a fresh link never shows 404."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Response, abort, stream_with_context
from flask_sqlalchemy.query import Query
from sqlalchemy import insert, select, update
from werkzeug.exceptions import NotFound

from rds_router.flask import SQLAlchemy, primary_only, reads
from tests.flask.conftest import MakeSite, Site
from tests.session.models import users

LOOKUPS: dict[str, Any] = {
    "db.get_or_404": lambda db, model, number: db.get_or_404(model, number),
    "db.first_or_404": lambda db, model, number: db.first_or_404(select(model).where(model.id == number)),
    "db.one_or_404": lambda db, model, number: db.one_or_404(select(model).where(model.id == number)),
    "query.get_or_404": lambda db, model, number: model.query.get_or_404(number),
    "query.first_or_404": lambda db, model, number: model.query.filter_by(id=number).first_or_404(),
    "query.one_or_404": lambda db, model, number: model.query.filter_by(id=number).one_or_404(),
    "db.session.get": lambda db, model, number: db.session.get(model, number) or abort(404),
}


@pytest.mark.filterwarnings("ignore:The Query.get")
@pytest.mark.parametrize("lookup", LOOKUPS)
def test_a_fresh_link_never_shows_404(make_site: MakeSite, lookup: str) -> None:
    """Written by somebody else, on no replica yet. What is nowhere is 404, asked of both; both are counted."""
    db = SQLAlchemy()

    class Page(db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "rt_user"
        id = db.Column(db.Integer, primary_key=True)
        name = db.Column(db.String(40))

    site = make_site(db)
    site.app.add_url_rule("/<int:number>", "page", lambda number: LOOKUPS[lookup](db, Page, number).name)
    with site.app.app_context():
        db.session.execute(insert(users).values(id=21, name="fresh"))
        db.session.commit()
    client = site.app.test_client(use_cookies=False)  # who was shown what the primary has would stay there
    site.forget()
    assert client.get("/21").text == "fresh"
    assert site.seen.parts == ["replica", "primary"]
    site.forget()
    assert client.get("/99").status_code == 404
    assert site.seen.parts == ["replica", "primary"]
    site.forget()
    assert client.get("/1").text == "ann"
    assert site.seen.parts == ["replica"]
    with site.app.app_context():
        assert db.router.events.counts["MissConfirmed"] == 2


def test_a_query_class_of_the_users_own_keeps_its_methods(make_site: MakeSite) -> None:
    class Mine(Query):
        def mine(self) -> str:
            return "mine"

    db = SQLAlchemy(query_class=Mine)

    class Page(db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "rt_user"
        id = db.Column(db.Integer, primary_key=True)

    site = make_site(db)
    with site.app.app_context():
        assert Page.query.mine() == "mine"
        with pytest.raises(NotFound):
            Page.query.filter_by(id=99).first_or_404()
    assert site.seen.parts == ["replica", "primary"]


def test_reads_promises_a_view_what_it_says(site: Site) -> None:
    """@reads("any") waits for no own write, "strong" reads on the primary; what is no contract is refused at once."""
    db = site.db
    statement = select(users.c.name).where(users.c.id == 1)

    @site.app.get("/any")
    @reads("any")
    def any_view() -> str:
        return str(db.session.scalar(statement))

    @site.app.get("/strong")
    @reads("strong")
    def strong_view() -> str:
        return str(db.session.scalar(statement))

    @site.app.post("/")
    def change() -> str:
        db.session.execute(update(users).where(users.c.id == 1).values(name="anna"))
        db.session.commit()
        return ""

    client = site.app.test_client()
    client.post("/")
    site.forget()
    assert (client.get("/any").text, client.get("/strong").text) == ("ann", "anna")
    assert site.seen.parts == ["replica", "primary"]
    with pytest.raises(ValueError, match="is no contract"):
        reads("stronger")


def _streams(db: SQLAlchemy) -> dict[str, Callable[[], Any]]:
    """Views that read two times in what they return; the decorator comes on top."""

    def items() -> Iterator[str]:
        for _ in range(2):
            yield str(db.session.scalar(select(users.c.name).where(users.c.id == 1)))
            db.session.remove()

    return {
        "bare": lambda: stream_with_context(items()),
        "response": lambda: Response(stream_with_context(items()), mimetype="text/csv"),
        "tuple": lambda: (stream_with_context(items()), 200, {"X-Mine": "1"}),
        "removed": lambda: "".join(items()),
    }


@pytest.mark.parametrize("kind", ["bare", "response", "tuple", "removed"])
def test_a_views_contract_holds_until_its_stream_is_done(site: Site, kind: str) -> None:
    """A generator under stream_with_context reads when the view has returned; remove() makes another session."""
    db = site.db
    view = _streams(db)[kind]
    site.app.add_url_rule("/strong", "strong", primary_only(view))
    site.app.add_url_rule("/plain", "plain", view)
    client = site.app.test_client(use_cookies=False)  # who saw the primary would stay there
    client.get("/strong").get_data()
    assert site.seen.parts == ["primary"] * 2
    site.forget()
    client.get("/plain").get_data()
    assert site.seen.parts == ["replica"] * 2


def test_a_contract_ends_with_its_view_or_stream_and_the_outer_one_goes_on(make_site: MakeSite) -> None:
    """Also if a session was removed inside, if the view raised, and if the client left before the stream's end."""
    site = make_site(RDS_ROUTER_READS="any")
    db = site.db

    def read() -> None:
        db.session.scalar(select(users.c.name).where(users.c.id == 1))
        db.session.rollback()

    @reads("strong")
    def inner(fails: bool = False) -> None:
        db.session.remove()
        read()
        if fails:
            raise LookupError

    @reads("any")
    def outer() -> None:
        inner()
        read()
        with pytest.raises(LookupError):
            inner(fails=True)
        read()

    @reads("strong")
    def stream() -> Iterator[str]:
        return (read() or "item" for _ in range(9))  # type: ignore[func-returns-value]

    with site.app.test_request_context():
        outer()
        read()
        assert site.seen.parts == ["primary", "replica", "primary", "replica", "replica"]
        site.forget()
        left: Any = stream()
        read()
        next(left)
        left.close()
        read()
        assert site.seen.parts == ["replica", "primary", "replica"]
        unread: Any = stream()
        unread.close()
        read()
        assert site.seen.parts[3:] == ["replica"]


def test_a_request_remembers_what_was_seen_whichever_session_it_uses(site: Site) -> None:
    """remove() in the middle of a request does not send its next read to a replica that may be older."""
    with site.app.test_request_context():
        for _ in range(8):
            site.db.session.scalars(select(users.c.id)).all()
            site.db.session.remove()
    assert len(set(site.seen.servers)) == 1
