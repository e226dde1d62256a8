"""What a client has seen, from one of his requests to the next: docs/contracts.md, sentence by sentence.

Two applications with a router each play two worker processes. Replicas stand still: what none is known to have, the
primary answers. ``tests/cluster/test_trail_servers.py`` has replicas that move.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Response
from flask.testing import FlaskClient
from sqlalchemy import insert, select
from werkzeug.test import TestResponse

from rds_router import causality
from rds_router.core.observation import Observation
from rds_router.core.trail import Trail
from rds_router.flask import primary_only, reads, travel
from tests.flask.conftest import MakeSite, Site
from tests.session.models import User, users

PAGE = Path(__file__).resolve().parents[2] / "docs" / "contracts.md"
COUNT = select(User.id)
TOKEN, TRAIL = (each.cookie("a key of the test's") for each in (travel.TOKEN, travel.TRAIL))
NAMES = {TOKEN, TRAIL}


def with_views(site: Site) -> Site:
    db, app = site.db, site.app

    def count() -> str:
        return str(len(db.session.scalars(COUNT).all()))

    app.add_url_rule("/", "show", count)
    app.add_url_rule("/any", "careless", reads("any")(count))
    app.add_url_rule("/exact", "exact", primary_only(count))
    app.add_url_rule("/nothing", "nothing", lambda: "nothing")

    @app.get("/cached/<path:control>")
    def cached(control: str) -> Response:
        response = app.make_response(count())
        response.headers["Cache-Control"] = control
        return response

    @app.post("/")
    def create() -> str:
        db.session.execute(insert(users).values(name="eva"))
        db.session.commit()
        return "done"

    return site


@pytest.fixture
def workers(make_site: MakeSite) -> tuple[Site, Site]:
    # Who has to ask has time to: nobody does.
    return with_views(make_site()), with_views(make_site())


def ask(site: Site, client: FlaskClient, path: str = "/", **options: Any) -> tuple[TestResponse, list[str]]:
    """The response, and the database files that were read."""
    site.forget()
    response = client.open(path, **options)
    with site.app.app_context():
        return response, [str(site.db.router._engines.url(name).database) for name in site.seen.servers]


def cookies(response: TestResponse) -> set[str]:
    return {header.partition("=")[0] for header in response.headers.getlist("Set-Cookie")}


def hand_over(client: FlaskClient, to: Site) -> FlaskClient:
    """The same browser, answered by another worker from now on."""
    other = to.app.test_client()
    for name in NAMES:
        if (found := client.get_cookie(name)) is not None:
            other.set_cookie(name, found.value)
    return other


def is_primary(site: Site, files: list[str]) -> bool:
    return files == [str(site.paths[0])]


def trail_in(site: Site, client: FlaskClient) -> Trail:
    found = client.get_cookie(TRAIL)
    assert found is not None
    return Trail.parse(travel._unsigned(site.app, found.value, travel.TRAIL)[0])


def test_each_sentence_of_the_page_has_a_test() -> None:
    stated = re.findall(r"^\*\*(F\d+)\*\*", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    tested = re.findall(r"^def test_(f\d+)_", Path(__file__).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert stated == [f"F{number}" for number in range(1, len(stated) + 1)]
    assert [each.upper() for each in dict.fromkeys(tested)] == stated


def test_f1_the_next_request_reads_where_the_last_one_did(make_site: MakeSite) -> None:
    """In another process too, and nobody is asked anything, though there would be time for it."""
    first, second = (with_views(make_site(RDS_ROUTER_CAUSAL_WAIT=10.0)) for _ in range(2))
    for _ in range(6):
        browser = first.app.test_client()
        _, files = ask(first, browser)
        assert not is_primary(first, files)
        browser = hand_over(browser, second)
        for _ in range(4):
            assert ask(second, browser)[1] == files
    with second.app.app_context():
        assert not {"CaughtUp", "StillBehind"} & second.db.router.events.counts.keys()


def test_f2_a_replica_is_known_by_its_run_not_by_its_name(make_site: MakeSite, paths: list[Path]) -> None:
    """Another process lists the same replicas in another order: what one calls replica-1 is the other's replica-2."""
    first, second = with_views(make_site()), with_views(make_site(files=[paths[0], paths[2], paths[1]]))
    for _ in range(6):
        browser = first.app.test_client()
        _, files = ask(first, browser)
        assert ask(second, hand_over(browser, second))[1] == files


def test_f2_a_replica_that_was_started_anew_is_another_one(workers: tuple[Site, Site]) -> None:
    first, second = workers
    browser = first.app.test_client()
    ask(first, browser)
    with second.app.app_context():
        router = second.db.router
        for seen in router.topology.replicas:
            assert seen.report is not None
            restarted = replace(seen.report, run=f"{seen.report.run}, again")
            router._observe(Observation(seen.server.name, router.clock(), restarted))
    _, files = ask(second, hand_over(browser, second))
    assert is_primary(second, files), "neither is known to have all that is committed by now"


def test_f3_another_replica_has_to_have_all_that_is_committed(workers: tuple[Site, Site]) -> None:
    first, second = workers
    browser = first.app.test_client()
    _, files = ask(first, browser)
    with second.app.app_context():
        router = second.db.router
        (name,) = (
            seen.server.name
            for seen in router.topology.replicas
            if router._engines.url(seen.server.name).database == files[0]
        )
        router.drain(name)
    _, files = ask(second, hand_over(browser, second))
    assert is_primary(second, files), "the other is not known to, and there is no time to ask"


def test_f4_after_a_look_at_the_primary_a_replica_has_to_have_what_it_had_then(
    workers: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = workers
    browser = first.app.test_client()
    ask(first, browser, "/exact")
    assert trail_in(first, browser).time is not None
    browser = hand_over(browser, second)
    assert is_primary(second, ask(second, browser)[1])
    monkeypatch.setattr(causality, "MARGIN", 0.0)
    until = time.monotonic() + 30.0  # the primary's clock is known to a probe's time
    while is_primary(second, ask(second, hand_over(browser, second))[1]) and time.monotonic() < until:
        second.catch_up()
    assert not is_primary(second, ask(second, browser)[1])
    assert trail_in(second, browser).run, "and there he stays from now on"


def test_f5_a_cookie_is_sent_when_it_changes(site: Site) -> None:
    browser = with_views(site).app.test_client()
    first, _ = ask(site, browser)
    (header,) = first.headers.getlist("Set-Cookie")
    assert header.startswith(f"{TRAIL}=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(header.split("; "))
    assert len(header) < 250
    assert first.cache_control.private
    assert {"Cookie", travel.TRAIL.header} <= set(first.vary)
    for path in ("/", "/nothing", "/"):
        response, _ = ask(site, browser, path)
        assert not cookies(response)
        assert not response.cache_control.private
        assert "Cookie" not in response.vary


def test_f5_and_renewed_at_half_of_its_life(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, unsigned = with_views(site).app.test_client(), travel._unsigned
    _, files = ask(site, browser)
    with site.app.app_context():
        life = travel.lifetime(site.db.router)
    for age, expected in ((0.4, set()), (0.6, {TRAIL})):
        monkeypatch.setattr(travel, "_unsigned", lambda *given, age=age: (unsigned(*given)[0], age * life))
        assert cookies(ask(site, browser, "/nothing")[0]) == set(), "only who reads needs it any longer"
        response, again = ask(site, browser)
        assert (cookies(response), again) == (expected, files)


@pytest.mark.parametrize("control", ["public", "max-age=60", "s-maxage=5", "public, max-age=60"])
def test_f6_what_others_may_be_shown_is_nobodys(site: Site, control: str) -> None:
    """A shared cache keeps no cookie, and the application's word on caching stands."""
    response, _ = ask(site, with_views(site).app.test_client(), f"/cached/{control}")
    assert not cookies(response)
    assert response.headers["Cache-Control"] == control


@pytest.mark.parametrize("control", ["private, max-age=60", "no-store", "no-cache"])
def test_f6_what_is_the_clients_own_is_remembered(site: Site, control: str) -> None:
    response, _ = ask(site, with_views(site).app.test_client(), f"/cached/{control}")
    assert cookies(response) == {TRAIL}


def test_f7_what_a_view_under_a_weaker_contract_reads_is_not_remembered(site: Site) -> None:
    assert not cookies(ask(site, with_views(site).app.test_client(), "/any")[0])


def test_f7_what_was_read_before_that_view_is(site: Site) -> None:
    """As by a function that looks who the user is."""
    site.app.before_request(lambda: None if site.db.session.scalar(COUNT) else "nobody")
    assert cookies(ask(site, with_views(site).app.test_client(), "/any")[0]) == {TRAIL}


def test_f8_a_write_without_a_look_leaves_a_token_and_no_trail(workers: tuple[Site, Site]) -> None:
    """And a response that only reads never brings back an older token."""
    first, _ = workers
    browser = first.app.test_client()
    response, _ = ask(first, browser, "/", method="POST")
    assert cookies(response) == {TOKEN}
    response, files = ask(first, browser)
    assert is_primary(first, files), "no replica has his write"
    assert cookies(response) == {TRAIL}


def test_f9_clients_without_cookies_bring_a_header(workers: tuple[Site, Site]) -> None:
    first, second = workers
    response, files = ask(first, first.app.test_client(use_cookies=False))
    kept = {travel.TRAIL.header: response.headers[travel.TRAIL.header]}
    for _ in range(6):
        response, again = ask(second, second.app.test_client(use_cookies=False), headers=kept)
        assert again == files
        assert travel.TRAIL.header not in response.headers
    response, _ = ask(second, second.app.test_client(use_cookies=False), "/exact", headers=kept)
    assert travel.TRAIL.header in response.headers
    assert not cookies(response), "who brings a header needs no cookie"


def test_f9_or_flasks_session(make_site: MakeSite) -> None:
    site = with_views(make_site(RDS_ROUTER_TOKEN_STORE="session"))
    browser = site.app.test_client()
    response, files = ask(site, browser)
    assert cookies(response) == {"session"}
    for _ in range(6):
        response, again = ask(site, browser)
        assert (again, cookies(response)) == (files, set())


@pytest.mark.parametrize("text", ["", "forged", "run:0123456789ab.x.y", "x" * 3000])
def test_f10_what_cannot_be_read_is_never_an_error(site: Site, text: str) -> None:
    """It demands all that is committed by now, and is replaced."""
    browser = with_views(site).app.test_client()
    browser.set_cookie(TRAIL, text)
    response, files = ask(site, browser)
    assert response.status_code == 200
    assert is_primary(site, files) is bool(text)
    assert cookies(response) == {TRAIL}
    with site.app.app_context():
        assert site.db.router.events.counts["TokenIgnored"] == (1 if text else 0)


def test_f10_what_is_too_old_is_dropped(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, unsigned = with_views(site).app.test_client(), travel._unsigned
    ask(site, browser, "/exact")
    monkeypatch.setattr(travel, "_unsigned", lambda *given: (unsigned(*given)[0], 1e9))
    assert not is_primary(site, ask(site, browser)[1])


def test_f10_a_signature_from_a_clock_that_is_ahead_of_ours_is_none_too_old(
    workers: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two web servers' clocks differ; itsdangerous takes what is signed in the future for expired."""
    first, second = workers
    browser = first.app.test_client()
    with monkeypatch.context() as ahead:
        ahead.setattr("itsdangerous.TimestampSigner.get_timestamp", lambda self: int(time.time()) + 30)
        ask(first, browser, "/", method="POST")
        _, files = ask(first, browser)
    assert is_primary(first, files)
    assert is_primary(second, ask(second, hand_over(browser, second))[1]), "his write is not forgotten"


@pytest.mark.parametrize(
    "config",
    [
        {"RDS_ROUTER_REMEMBER_SEEN": False},
        {"RDS_ROUTER_READS": "any"},
        {"RDS_ROUTER_READS": "bounded(30)"},
        {"RDS_ROUTER_READS": "strong"},
        {"RDS_ROUTER_AFTER_WRITE": "any"},
        {"replicas": 0},
    ],
)
def test_f11_it_is_kept_where_reads_promise_it(make_site: MakeSite, config: dict[str, Any]) -> None:
    """Turned off nothing is sent, nor is what is brought looked at."""
    site = with_views(make_site(**config))
    browser = site.app.test_client()
    browser.set_cookie(TRAIL, "forged")
    for path in ("/", "/exact"):
        assert not cookies(ask(site, browser, path)[0])
    with site.app.app_context():
        assert not site.db.router.events.counts["TokenIgnored"]
