"""The blog itself, on one file and without a replica: forms, rights, errors, texts."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit

import pytest
from flask import Flask

from tests.blog.conftest import Browser


def test_without_replicas_the_footer_says_that_there_is_nothing_to_decide(visitor: Browser) -> None:
    assert visitor.count == 12
    assert "No replica is configured" in visitor.footer
    assert "Takes writes" in visitor.get("/servers")


def test_a_second_seed_changes_nothing(plain: Flask) -> None:
    from blog.seed import seed

    with plain.app_context():
        assert seed() is False
    assert Browser(plain).count == 12


def test_init_db_command_says_that_the_tables_are_filled(plain: Flask) -> None:
    done = plain.test_cli_runner().invoke(args=["init-db"])
    assert done.output == "Tables are there and hold posts already.\n"


@pytest.mark.parametrize("token", [None, "", "made up", "\u00e9"])
def test_a_form_without_the_sessions_token_is_refused(visitor: Browser, token: str | None) -> None:
    visitor.sign_in()
    fields = {"title": "A", "text": "B"} | ({} if token is None else {"csrf_token": token})
    assert visitor.client.post("/posts/new", data=fields).status_code == 400
    assert visitor.count == 12


def test_a_form_of_a_reader_without_session_is_refused(plain: Flask) -> None:
    assert plain.test_client().post("/sign-in", data={"csrf_token": "", "user_id": "1"}).status_code == 400


@pytest.mark.parametrize("path", ["/posts/new", "/posts/1/edit"])
def test_who_is_not_signed_in_is_sent_to_choose_and_comes_back(visitor: Browser, path: str) -> None:
    page = visitor.get(path)
    assert "Who are you today?" in page
    assert "Choose who you are first." in page
    assert f'name="next" value="{path}"' in page


@pytest.mark.parametrize(
    "target",
    ["https://example.org/", "//example.org/", "/\\example.org", "\\\\example.org", "javascript:alert(1)", "", "posts"],
)
def test_signing_in_leads_nowhere_but_to_this_site(visitor: Browser, target: str) -> None:
    visitor.get("/sign-in")
    answer = visitor.client.post("/sign-in", data={"csrf_token": visitor.token, "user_id": "1", "next": target})
    assert answer.status_code == 302
    assert answer.location == "/"


def test_signing_in_leads_back(visitor: Browser) -> None:
    visitor.get("/sign-in")
    answer = visitor.client.post("/sign-in", data={"csrf_token": visitor.token, "user_id": "1", "next": "/posts/3"})
    assert answer.location == "/posts/3"


def test_signing_in_as_nobody_who_exists_is_not_found(visitor: Browser) -> None:
    visitor.post("/sign-in", status=404, user_id="999")
    visitor.post("/sign-in", status=404, user_id="x")


def test_signing_out(visitor: Browser) -> None:
    visitor.sign_in()
    assert "Sign out" in visitor.get("/")
    assert "Sign out" not in visitor.post("/sign-out")


def test_nobody_changes_what_is_somebody_elses(visitor: Browser) -> None:
    visitor.sign_in("Wren Okafor")
    title = "The tide table is a promise, not a plan"
    assert title in visitor.get("/posts/12")
    visitor.get("/posts/12/edit", status=403)
    visitor.post("/posts/12/edit", status=403, title="Mine", text="Mine")
    visitor.post("/posts/12/delete", status=403)
    visitor.post("/comments/1/delete", status=403)
    assert title in visitor.get("/posts/12")


@pytest.mark.parametrize(
    ("title", "text", "message"),
    [
        ("", "Text", "The title is missing."),
        (" \x00 ", "Text", "The title is missing."),
        ("Title", "", "The text is missing."),
        ("x" * 121, "Text", "The title has 121 characters; 120 are accepted."),
        ("Title", "x" * 15_001, "The text has 15,001 characters; 15,000 are accepted."),
    ],
)
def test_a_post_that_cannot_be_accepted_comes_back_with_the_reason(
    visitor: Browser, title: str, text: str, message: str
) -> None:
    visitor.sign_in()
    page = visitor.post("/posts/new", status=400, title=title, text=text)
    assert message in page
    assert 'aria-invalid="true"' in page
    assert text in page  # nobody loses what he has written
    assert visitor.count == 12


def test_an_empty_comment_comes_back_with_the_reason(visitor: Browser) -> None:
    visitor.sign_in()
    assert "The comment is missing." in visitor.post("/posts/1/comments", status=400, comment=" ")


def test_what_is_gone_is_not_found(visitor: Browser) -> None:
    assert "Not Found" in visitor.get("/nowhere", status=404)
    assert "This post does not exist" in visitor.get("/posts/999", status=404)
    assert "no such author" in visitor.get("/authors/999", status=404)
    visitor.sign_in()
    visitor.post("/posts/999/comments", status=404, comment="Hello?")


def test_pages_load_nothing_from_elsewhere(visitor: Browser) -> None:
    answer = visitor.client.get("/posts/1")
    assert answer.headers["Content-Security-Policy"] == "default-src 'self'; frame-ancestors 'none'"
    links = [part.split('"')[1] for part in answer.get_data(as_text=True).split("<link ")[1:]]
    assert links
    assert not any(urlsplit(link).netloc for link in links)


def test_session_cookie_is_not_sent_by_other_sites_and_not_seen_by_scripts(visitor: Browser) -> None:
    cookie = visitor.client.get("/sign-in").headers["Set-Cookie"]
    assert "SameSite=Lax" in cookie
    assert "HttpOnly" in cookie


def test_a_database_that_fails_is_a_page_that_says_so(visitor: Browser, plain: Flask) -> None:
    from blog.models import db

    visitor.sign_in()
    with plain.app_context():
        db.drop_all()
    page = visitor.get("/", status=503)
    assert "Service unavailable" in page
    assert "no such table" not in page
    with plain.app_context():
        db.create_all()


def test_text_filters() -> None:
    from blog.text import day, excerpt, moment, paragraphs, plural

    assert paragraphs("a\nb\n \n\n<c>\n") == "<p>a<br>b</p>\n<p>&lt;c&gt;</p>"
    assert paragraphs("") == ""
    assert excerpt("short\nline\n\nsecond") == "short line"
    assert excerpt("one two, three", length=9) == "one two…"
    assert day(datetime(2026, 3, 1, 4, 5)) == "1 March 2026"
    assert moment(datetime(2026, 3, 1, 4, 5)) == "1 March 2026, 04:05 UTC"
    assert [plural(n, "post") for n in (0, 1, 2)] == ["no posts", "1 post", "2 posts"]
