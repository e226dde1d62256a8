"""The blog on a primary and two replicas of each engine: what a reader sees, and who answered."""

from __future__ import annotations

import re
import secrets
import time

import pytest
from flask import Flask
from sqlalchemy import make_url

from rds_router.lab import Cluster
from tests.blog.conftest import Browser, running
from tests.cluster.asking import eventually


def test_front_page_counts_posts_and_is_answered_by_a_replica(browser: Browser, servers: Cluster) -> None:
    assert browser.count == 12
    # One transaction, one server; another one may be named as slower.
    (name,) = re.findall(r"\d+ quer(?:y|ies) answered by (\S+)", browser.footer)
    assert name in {each.name for each in servers.replicas}
    assert f"4 queries answered by {name}" in browser.footer
    assert re.search(rf"SELECT posts {name} \d+\.\d s a read", browser.footer)
    assert re.search(
        rf"SELECT users SELECT posts SELECT comments {name} \d+\.\d s this transaction reads there", browser.footer
    )


def test_pages_of_the_list(browser: Browser) -> None:
    first = browser.get("/")
    assert first.count('<article class="teaser">') == 6
    assert "Page 1 of 2" in first
    second = browser.get("/?page=2")
    assert second.count('<article class="teaser">') == 6
    assert "Saving seed from the worst tomato" in second
    assert "Saving seed from the worst tomato" not in first
    browser.get("/?page=3", status=404)


def test_a_post_is_written_edited_and_deleted(browser: Browser) -> None:
    browser.sign_in()
    page = browser.post("/posts/new", title="Tar & <oakum>", text="One.\r\n\r\nTwo.")
    assert "Your post is published." in page
    assert "<h1>Tar &amp; &lt;oakum&gt;</h1>" in page
    assert "<p>One.</p>\n<p>Two.</p>" in page
    assert browser.count == 13

    (number,) = re.findall(r'href="/posts/(\d+)">Tar', browser.page)
    assert "Tar &amp; &lt;oakum&gt;" in browser.get(f"/posts/{number}/edit")
    assert "· edited" not in re.sub(r"<[^>]+>", "", page)
    page = browser.post(f"/posts/{number}/edit", title="Tar", text="Three.")
    assert "<p>Three.</p>" in page
    assert "<p>One.</p>" not in page
    assert re.search(r"·\s+edited", re.sub(r"<[^>]+>", "", page))

    browser.post(f"/posts/{number}/comments", comment="It goes with the post.")
    page = browser.post(f"/posts/{number}/delete")
    assert "Your post is gone." in page
    assert browser.count == 12
    browser.get(f"/posts/{number}", status=404)


def test_a_comment_is_written_and_deleted(browser: Browser) -> None:
    browser.sign_in("Wren Okafor")
    page = browser.post("/posts/4/comments", comment="First <b>line</b>\nand a second one")
    assert "<p>First &lt;b&gt;line&lt;/b&gt;<br>and a second one</p>" in page
    (number,) = re.findall(r'action="/comments/(\d+)/delete"', page)
    page = browser.post(f"/comments/{number}/delete")
    assert "Your comment is gone." in page
    assert "First &lt;b&gt;" not in page


def test_footer_shows_the_form_on_the_primary_and_then_the_page(browser: Browser, servers: Cluster) -> None:
    browser.sign_in()
    servers.wait_caught_up()
    browser.post("/posts/4/comments", comment="Who wrote this down?")
    form, page = browser.footer.split("Then, this page")
    primary = servers.primary.name
    assert "First, your form: POST /posts/4/comments" in form
    assert f"SELECT posts {primary} - locking read" in form
    assert f"flush comments {primary} - write (in a transaction that writes)" in form
    # Whoever has it all: his last page was made on the primary.
    assert re.search(r"SELECT users \S+ ", form)
    assert "SELECT comments" in page
    # Told once: the next page is about itself.
    browser.get("/posts/4")
    assert "your form" not in browser.footer


def test_own_writes_are_seen_at_once_while_nothing_replicates(app: Flask, servers: Cluster) -> None:
    writer, stranger = Browser(app), Browser(app)
    writer.sign_in()
    for replica in servers.replicas:
        servers.pause_replication(replica)
    try:
        page = writer.post("/posts/new", title="Only on the primary", text="So far.")
        assert "<h1>Only on the primary</h1>" in page
        page_was_made = writer.footer.split("Then, this page")[1]
        assert f"SELECT posts {servers.primary.name} -" in page_was_made
        assert re.search("behind the token|lag unknown|lagging", page_was_made)
        assert not any(re.search(rf"{each.name} \d", page_was_made) for each in servers.replicas)
        assert writer.count == 13
        assert stranger.count in (12, 13)  # nothing was promised to him
    finally:
        for replica in servers.replicas:
            servers.resume_replication(replica)
    servers.wait_caught_up()
    with app.app_context():
        from blog.models import db

        assert db.router.refresh()
    assert stranger.count == 13
    # He may have looked at the primary: until a replica has shown that it has all that he saw there, he stays.
    answered = [f"4 queries answered by {each.name}" for each in servers.replicas]
    assert eventually(lambda: stranger.count == 13 and any(each in stranger.footer for each in answered), seconds=30)
    # His writes have arrived, and so has what he saw on the primary: the writer is back on the replicas too.
    end = time.monotonic() + 30.0  # a SQLite replica is a copy, complete to a moment that has passed
    while True:
        assert writer.count == 13
        if any(f"queries answered by {each.name}" in writer.footer for each in servers.replicas):
            break
        assert time.monotonic() < end
        time.sleep(0.05)


def test_servers_page_names_every_server_and_what_it_does(browser: Browser, servers: Cluster) -> None:
    browser.get("/")
    page = browser.get("/servers")
    for each in servers.servers:
        assert f'data-live="{each.name}-state"' in page
    assert page.count("Answers reads") == 2
    assert page.count("Takes writes") == 1
    assert 'class="try"' not in page  # no buttons outside of the demo
    for each in servers.servers:
        assert "lab-canary" not in page
        assert each.url not in page


def test_live_part_of_the_servers_page_asks_no_database_and_sets_no_cookie(browser: Browser) -> None:
    browser.sign_in()
    browser.get("/servers")
    from blog.models import db

    with browser.client.application.app_context(), db.router.capture() as records:
        answer = browser.client.get("/servers/live")
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert not records
    assert "<html" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("path", ["/posts/4", "/authors", "/authors/1", "/sign-in"])
def test_every_page_says_which_replica_made_it(browser: Browser, servers: Cluster, path: str) -> None:
    browser.get(path)
    assert re.search(r"quer(y|ies) answered by (\S+)", browser.footer)
    assert not re.search(rf"answered by {servers.primary.name}\b", browser.footer)


def test_what_a_form_did_fits_into_the_session_cookie(
    browser: Browser, servers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.sign_in()
    monkeypatch.setattr("blog.trace._why", lambda decision: secrets.token_hex(400))
    # Werkzeug warns of a cookie that browsers refuse, and a warning is an error here.
    browser.post("/posts/4/comments", comment="Long reasons")
    assert "your form: POST /posts/4/comments" in browser.footer


def test_servers_named_by_the_environment(mariadb_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_url(mariadb_cluster.primary.url)
    replicas = ",".join(f"{each.host}:{each.port}" for each in mariadb_cluster.replicas)
    given = {"HOST": url.host, "PORT": url.port, "USER": url.username, "PASS": url.password, "NAME": url.database}
    for key, value in {**given, "REPLICA_HOSTS": replicas}.items():
        monkeypatch.setenv(f"DB_{key}", str(value))
    monkeypatch.setenv("FLASK_POSTS_PER_PAGE", "4")
    with running({}, mariadb_cluster.wait_caught_up) as app:
        browser = Browser(app)
        assert browser.count == 12
        assert "Page 1 of 3" in browser.page
        assert re.search(rf"answered by ({replicas.replace(',', '|')})", browser.footer)
