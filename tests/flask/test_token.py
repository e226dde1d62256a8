"""The token's way from one request of a client to his next, through whichever worker answers it."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask import redirect
from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer
from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from rds_router import ConfigurationError, Contract, Router, RoutingPolicy, Token
from rds_router.core.position import parse_position
from rds_router.flask import SQLAlchemy, travel
from tests.flask.conftest import MakeSite, Site
from tests.session.models import User, users
from tests.session.stage import copy_file

COUNT = select(User.id)
TOKEN = travel.TOKEN.cookie("a key of the test's")


def with_views(site: Site) -> Site:
    """A small application: post, redirect, get."""
    db, app = site.db, site.app

    @app.post("/users")
    def create() -> Response:
        db.session.execute(insert(users).values(id=11, name="eva"))
        db.session.commit()
        return redirect("/users")

    @app.get("/users")
    def show() -> str:
        return str(len(db.session.scalars(COUNT).all()))

    @app.post("/rolled-back")
    def roll_back() -> str:
        db.session.add(User(id=12, name="fay"))
        db.session.flush()
        db.session.rollback()
        return "nothing"

    @app.post("/removed")
    def remove() -> str:
        db.session.execute(insert(users).values(id=13, name="gus"))
        db.session.commit()
        db.session.remove()
        return str(len(db.session.scalars(COUNT).all()))

    @app.post("/public")
    def public() -> Response:
        create()
        response = app.make_response("done")
        response.headers["Cache-Control"] = "public, max-age=60, s-maxage=600"
        return response

    @app.post("/forgotten")
    def forget_to_commit() -> str:
        db.session.execute(insert(users).values(id=14, name="hal"))
        return "undone"

    return site


@pytest.fixture
def make_site(make_site: MakeSite) -> MakeSite:
    """Without trails, which tests/flask/test_trail.py is about."""
    return functools.partial(make_site, RDS_ROUTER_REMEMBER_SEEN=False)


@pytest.fixture
def workers(make_site: MakeSite) -> tuple[Site, Site]:
    """Two worker processes of one site, as far as one process can play them: two apps, two routers, one secret."""
    return with_views(make_site()), with_views(make_site())


def hand_over(client: FlaskClient, to: Site) -> FlaskClient:
    """The same browser, answered by another worker from now on."""
    other = to.app.test_client()
    name = travel.TOKEN.cookie(client.application.config["SECRET_KEY"])
    found = client.get_cookie(name)
    if found is not None:
        other.set_cookie(name, found.value)
    return other


def parts(site: Site, call: Callable[[], Any]) -> tuple[Any, list[str]]:
    site.forget()
    result = call()
    return result, site.seen.parts


def test_post_redirect_get_sees_the_write(workers: tuple[Site, Site]) -> None:
    """R5 across requests: written in one worker, read in the other, from the primary until a replica has it."""
    first, second = workers
    browser = first.app.test_client()
    response = browser.post("/users")
    assert response.status_code == 302
    browser = hand_over(browser, second)
    page, seen = parts(second, lambda: browser.get("/users"))
    assert (page.text, seen) == ("4", ["primary"])
    second.catch_up()
    page, seen = parts(second, lambda: browser.get("/users"))
    assert (page.text, seen) == ("4", ["replica"])


def test_another_browser_is_not_concerned(workers: tuple[Site, Site]) -> None:
    first, second = workers
    first.app.test_client().post("/users")
    _, seen = parts(second, lambda: second.app.test_client().get("/users"))
    assert seen == ["replica"]


def test_the_cookie_is_signed_short_lived_and_out_of_reach_of_scripts(workers: tuple[Site, Site]) -> None:
    header = workers[0].app.test_client().post("/users").headers["Set-Cookie"]
    attributes = header.split("; ")
    assert attributes[0].startswith(f"{TOKEN}=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    assert any(each.startswith("Max-Age=") for each in attributes)
    assert "Secure" not in attributes
    header = workers[1].app.test_client().post("/removed", base_url="https://localhost").headers["Set-Cookie"]
    assert "Secure" in header.split("; ")


@pytest.mark.parametrize(
    ("method", "path"), [("get", "/users"), ("post", "/rolled-back"), ("post", "/forgotten"), ("get", "/nowhere")]
)
def test_no_cookie_without_a_commit(site: Site, method: str, path: str) -> None:
    client = with_views(site).app.test_client()
    response = getattr(client, method)(path)
    assert "Set-Cookie" not in response.headers
    assert "Cache-Control" not in response.headers
    assert "Vary" not in response.headers


def test_a_request_that_only_reads_does_not_renew_it(workers: tuple[Site, Site]) -> None:
    """Else a busy reader would stay behind his token for ever."""
    client = workers[0].app.test_client()
    client.post("/users")
    response = client.get("/users")
    assert "Set-Cookie" not in response.headers


def test_a_response_with_a_token_is_private(workers: tuple[Site, Site]) -> None:
    """A shared cache must not hand it to others, whatever the view said."""
    response = workers[0].app.test_client().post("/public")
    assert "Set-Cookie" in response.headers
    assert response.cache_control.private
    assert not response.cache_control.public
    assert response.cache_control.s_maxage is None
    assert response.cache_control.max_age == 60
    assert "Cookie" in response.vary


def test_a_session_that_was_removed_leaves_its_token(site: Site) -> None:
    """To the rest of the request, and to the client."""
    client = with_views(site).app.test_client()
    response, seen = parts(site, lambda: client.post("/removed"))
    assert (response.text, seen[:2]) == ("4", ["primary", "primary"])
    assert "Set-Cookie" in response.headers
    page, seen = parts(site, lambda: client.get("/users"))
    assert (page.text, seen) == ("4", ["primary"])


BAD: dict[str, Callable[[str], str | bytes]] = {
    "forged": lambda good: "InB3bmVkIg." + good.split(".", 1)[1],
    "truncated": lambda good: good[: len(good) // 2],
    "empty": lambda good: "",
    "garbage": lambda good: "\x7f%00';--",
    "signed by another": lambda good: URLSafeTimedSerializer("other", salt=travel.TOKEN.salt).dumps("position"),
    "of another purpose": lambda good: URLSafeTimedSerializer("a key of the test's", salt="other").dumps("position"),
}


@pytest.mark.parametrize("where", ["cookie", "header"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_sends_its_client_to_the_primary_and_is_replaced(
    make_site: MakeSite, name: str, where: str
) -> None:
    """Never an error page: the primary for after_write_window, by a token of ours that says so, then as for anybody."""
    site = with_views(make_site(RDS_ROUTER_AFTER_WRITE_WINDOW=30))
    browser = site.app.test_client()
    good = browser.post("/users").headers[travel.TOKEN.header]
    site.catch_up()
    bad = str(BAD[name](good))
    stranger = site.app.test_client()
    if where == "cookie":
        stranger.set_cookie(TOKEN, bad)
    given = {travel.TOKEN.header: bad} if where == "header" else {}
    page, seen = parts(site, lambda: stranger.get("/users", headers=given))
    assert (page.status_code, page.text) == (200, "4")
    if not bad:
        assert seen == ["replica"]
        return
    assert seen == ["primary"]
    assert page.cache_control.private
    again = {travel.TOKEN.header: page.headers[travel.TOKEN.header]} if where == "header" else {}
    page, seen = parts(site, lambda: stranger.get("/users", headers=again))
    assert (page.status_code, seen) == (200, ["primary"])
    assert travel.TOKEN.header not in page.headers
    assert "Set-Cookie" not in page.headers


def test_a_replaced_token_is_over_with_the_window(make_site: MakeSite) -> None:
    site = with_views(make_site(RDS_ROUTER_AFTER_WRITE_WINDOW=0))
    stranger = site.app.test_client()
    stranger.set_cookie(TOKEN, "nonsense")
    stranger.get("/users")
    page, seen = parts(site, lambda: stranger.get("/users"))
    assert (page.status_code, seen) == (200, ["replica"])


def test_a_token_of_another_cluster_is_the_primary_for_the_window(make_site: MakeSite) -> None:
    """Signed with the same key: the window counts from then."""
    here = with_views(make_site(RDS_ROUTER_AFTER_WRITE_WINDOW=30, RDS_ROUTER_CLUSTER="here"))
    there = with_views(make_site(RDS_ROUTER_AFTER_WRITE_WINDOW=30, RDS_ROUTER_CLUSTER="there"))
    browser = there.app.test_client()
    browser.post("/users")
    here.catch_up()
    page, seen = parts(here, lambda: hand_over(browser, here).get("/users"))
    assert (page.status_code, seen) == (200, ["primary"])
    assert "Set-Cookie" not in page.headers, "else the window would begin anew each time"


def test_a_signed_payload_nobody_understands_is_a_recent_write(workers: tuple[Site, Site]) -> None:
    """Another version's, another cluster's: its author wrote when it was signed, that much is sure."""
    _, second = workers
    stranger = second.app.test_client()
    payload = URLSafeTimedSerializer("a key of the test's", salt=travel.TOKEN.salt).dumps(["from", "elsewhere"])
    stranger.set_cookie(TOKEN, str(payload))
    page, seen = parts(second, lambda: stranger.get("/users"))
    assert (page.status_code, seen) == (200, ["primary"])
    with second.app.test_request_context(headers={"Cookie": f"{TOKEN}={payload!s}"}):
        token = second.db.request_token()
        assert token is not None
        assert token.unplaced is not None


def test_an_api_client_brings_and_gets_a_header(workers: tuple[Site, Site]) -> None:
    """No cookie is needed: RDS-Router-Token in, RDS-Router-Token out; merged with what is new."""
    first, second = workers
    client = first.app.test_client(use_cookies=False)
    token = client.post("/users").headers[travel.TOKEN.header]
    other = second.app.test_client(use_cookies=False)
    page, seen = parts(second, lambda: other.get("/users", headers={travel.TOKEN.header: token}))
    assert (page.text, seen) == ("4", ["primary"])
    assert travel.TOKEN.header not in page.headers
    answer = other.post("/removed", headers={travel.TOKEN.header: token})
    assert answer.headers[travel.TOKEN.header] != token
    assert "Set-Cookie" not in answer.headers
    assert answer.cache_control.private
    assert travel.TOKEN.header in answer.vary
    second.catch_up()
    page, seen = parts(
        second, lambda: other.get("/users", headers={travel.TOKEN.header: answer.headers[travel.TOKEN.header]})
    )
    assert (page.text, seen) == ("5", ["replica"])


def test_the_token_may_live_in_flasks_session(make_site: MakeSite) -> None:
    """No cookie of its own; Flask's keeps what else is in it."""
    first, second = (with_views(make_site(RDS_ROUTER_TOKEN_STORE="session")) for _ in range(2))
    browser = first.app.test_client()
    with browser.session_transaction() as session:
        session["user"] = "eva"
    response = browser.post("/users")
    assert [header.split("=")[0] for header in response.headers.getlist("Set-Cookie")] == ["session"]
    assert response.cache_control.private
    kept = browser.get_cookie("session")
    assert kept is not None
    other = second.app.test_client()
    other.set_cookie("session", kept.value)
    page, seen = parts(second, lambda: other.get("/users"))
    assert (page.text, seen) == ("4", ["primary"])
    assert "Set-Cookie" not in page.headers
    with other.session_transaction() as session:
        assert session["user"] == "eva"
    second.catch_up()
    page, seen = parts(second, lambda: other.get("/users"))
    assert seen == ["replica"]


def test_a_wrong_store_is_refused_at_start(make_site: MakeSite) -> None:
    with pytest.raises(
        ConfigurationError, match="RDS_ROUTER_TOKEN_STORE is 'pocket', but must be 'cookie' or 'session'"
    ):
        make_site(RDS_ROUTER_TOKEN_STORE="pocket")


@pytest.mark.parametrize("servers", [1, 10, 300])
def test_a_token_is_small_however_long_the_clusters_past(site: Site, servers: int) -> None:
    """GTIDs of many servers: all that was committed until now is shorter to say, and asks for no less."""
    with site.app.app_context():
        router = site.db.router
        gtids = ",".join(f"{uuid.UUID(int=number * 2**99 + 7)}:1-{number * 977}" for number in range(1, servers + 1))
        token = Token(position=parse_position(f"mysql:{gtids}"), cluster=router.cluster)
        text_of_it = travel.signed(site.app, router, token)
        assert text_of_it is not None
        assert len(text_of_it) <= travel.LONGEST
        with site.app.test_request_context(headers={travel.TOKEN.header: text_of_it}):
            found = site.db.request_token()
        assert found is not None
        if servers < 300:
            assert found == Token(position=token.position)
        else:
            assert found.at is not None
            assert found.at >= router.clock() - 1.0


def test_a_key_that_is_being_replaced_is_still_read(make_site: MakeSite) -> None:
    """SECRET_KEY_FALLBACKS, as Flask has it."""
    old, new = (
        with_views(make_site()),
        with_views(make_site(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["a key of the test's"])),
    )
    browser = old.app.test_client()
    browser.post("/users")
    page, seen = parts(new, lambda: hand_over(browser, new).get("/users"))
    assert (page.text, seen) == ("4", ["primary"])
    assert "Set-Cookie" not in page.headers


def test_an_expired_cookie_is_ignored(workers: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = workers
    browser = first.app.test_client()
    browser.post("/users")
    browser = hand_over(browser, second)
    monkeypatch.setattr(travel, "lifetime", lambda router: -1)
    _, seen = parts(second, lambda: browser.get("/users"))
    assert seen == ["replica"]


def test_without_a_secret_key_it_is_said_once(make_site: MakeSite, caplog: pytest.LogCaptureFixture) -> None:
    site = with_views(make_site(SECRET_KEY=None))
    client = site.app.test_client()
    for path in ("/users", "/removed"):
        assert "Set-Cookie" not in client.post(path).headers
    assert [record.message for record in caplog.records if "SECRET_KEY" in record.message] == [
        "SECRET_KEY is not set: tokens cannot be signed, so a client's next request may miss his write, or what "
        "he has seen"
    ]


def test_any_means_no_cookie(make_site: MakeSite) -> None:
    """Who promised his readers nothing sets none and heeds none."""
    site = with_views(make_site(RDS_ROUTER_AFTER_WRITE="any"))
    client = site.app.test_client()
    assert "Set-Cookie" not in client.post("/users").headers
    client.set_cookie(TOKEN, str(URLSafeTimedSerializer("a key of the test's", salt=travel.TOKEN.salt).dumps("")))
    _, seen = parts(site, lambda: client.get("/users"))
    assert seen == ["replica"]


def test_primary_counts_from_the_signature(make_site: MakeSite) -> None:
    """after_write="primary" in another worker: the window begins when the cookie was signed."""
    options: dict[str, Any] = {"RDS_ROUTER_AFTER_WRITE": "primary", "RDS_ROUTER_AFTER_WRITE_WINDOW": 30}
    first, second = with_views(make_site(**options)), with_views(make_site(**options))
    browser = first.app.test_client()
    browser.post("/users")
    second.catch_up()
    _, seen = parts(second, lambda: hand_over(browser, second).get("/users"))
    assert seen == ["primary"]


def test_a_token_that_cannot_be_located_travels_as_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The primary died between the commit and the question for its position: the client still reads his write."""
    from sqlalchemy.exc import OperationalError

    from rds_router import causality

    def fail(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    client = with_views(site).app.test_client()
    monkeypatch.setattr(causality, "located", fail)
    assert "Set-Cookie" in client.post("/users").headers
    page, seen = parts(site, lambda: client.get("/users"))
    assert (page.text, seen) == ("4", ["primary"])


def test_a_write_in_a_command_needs_no_request(site: Site) -> None:
    with site.app.app_context():
        site.db.session.execute(text("UPDATE rt_user SET name = 'x' WHERE id = 1"))
        site.db.session.commit()
        site.db.session.remove()
        site.forget()
        site.db.session.scalars(COUNT).all()
        assert site.seen.parts == ["primary"]
    assert isinstance(site.db, SQLAlchemy)
    for path in site.paths[1:]:
        copy_file(site.paths[0], path)


@pytest.mark.parametrize(
    ("policy", "oldest"),
    [
        (RoutingPolicy(reads=Contract(own_writes=True, monotonic=True, max_staleness=600)), 600),
        (RoutingPolicy(no_replica="stalest", hard_max_lag=900), 900),
        (RoutingPolicy(no_replica="stalest"), 60),
        (RoutingPolicy(max_lag=5), 5),
    ],
)
def test_a_token_outlives_every_replica_that_may_be_read_without_it(policy: RoutingPolicy, oldest: float) -> None:
    """The oldest replica that gets reads was that old when it was last heard of; dropped before, a write is missed."""
    router = Router("sqlite:///a.db", "sqlite:///b.db", policy=policy)
    assert travel.lifetime(router) >= oldest + policy.max_age
    assert travel.lifetime(router) >= 60


@pytest.mark.parametrize("way", ["begin", "connect", "session"])
def test_what_db_engine_wrote_is_read_by_this_request_and_the_next(workers: tuple[Site, Site], way: str) -> None:
    """Ordinary Flask code: there is no session in it, and the README's promise holds all the same."""
    for site in workers:

        @site.app.post("/engine")
        def write(db: SQLAlchemy = site.db) -> str:
            before = len(db.session.scalars(COUNT).all())
            statement = insert(users).values(id=31, name="kim")
            if way == "begin":
                with db.engine.begin() as connection:
                    connection.execute(statement)
            elif way == "connect":
                with db.engine.connect() as connection:
                    connection.execute(statement)
                    connection.commit()
            else:
                with Session(db.router.primary) as session:
                    session.execute(statement)
                    session.commit()
            return str(len(db.session.scalars(COUNT).all()) - before)

        @site.app.get("/engine")
        def read(db: SQLAlchemy = site.db) -> str:
            with db.engine.begin() as connection:
                return str(len(connection.execute(select(users.c.id)).all()))

    first, second = workers
    browser = first.app.test_client()
    page, seen = parts(first, lambda: browser.post("/engine"))
    assert (page.text, seen[0], seen[-1]) == ("1", "replica", "primary")
    page, seen = parts(second, lambda: hand_over(browser, second).get("/users"))
    assert (page.text, seen) == ("4", ["primary"])
    # The same thread goes on with another client, and a look is no write.
    page, seen = parts(first, lambda: first.app.test_client().get("/users"))
    assert seen == ["replica"]
    stranger = first.app.test_client()
    assert travel.TOKEN.header not in stranger.get("/engine").headers


def test_another_application_on_the_host_keeps_out_of_the_way(make_site: MakeSite) -> None:
    """Ports do not separate cookies: each took the other's for a forgery, and replaced it, for ever."""
    one, other = with_views(make_site()), with_views(make_site(SECRET_KEY="another"))
    browser = one.app.test_client()
    browser.post("/users")
    page, seen = parts(other, lambda: hand_over(browser, other).get("/users"))
    assert seen == ["replica"]
    assert travel.TOKEN.header not in page.headers
    assert one.cookie(travel.TOKEN) != other.cookie(travel.TOKEN)
    assert one.cookie(travel.TOKEN) == TOKEN
    with other.app.app_context():
        assert not other.db.router.events.counts["TokenIgnored"]
