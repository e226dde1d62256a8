"""The demo: its buttons, and the program that starts and ends it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.request import urlopen

import pytest

from rds_router.lab import Cluster
from tests.blog.conftest import EXAMPLE, Browser, running_on
from tests.cluster.asking import eventually


@pytest.fixture
def demo(lab_cluster: Callable[..., Cluster]) -> Iterator[tuple[Browser, Cluster]]:
    """A reader of the demo on files of its own."""
    with _demo_on(lab_cluster("sqlite")) as found:
        yield found


def test_buttons_pause_and_resume_replication(demo: tuple[Browser, Cluster]) -> None:
    browser, cluster = demo
    name = cluster.replicas[0].name
    page = browser.get("/servers")
    assert f'action="/servers/{name}/pause"' in page
    assert f'action="/servers/{cluster.primary.name}/pause"' not in page
    page = browser.post(f"/servers/{name}/pause")
    assert f"{name}: nothing new reaches it." in page
    assert cluster.replicas[0].pauses
    assert f'action="/servers/{name}/resume"' in page
    browser.post(f"/servers/{name}/resume")
    assert not cluster.replicas[0].pauses


def test_buttons_delay_and_hurry_a_replica(demo: tuple[Browser, Cluster]) -> None:
    browser, cluster = demo
    name = cluster.replicas[1].name
    assert f'action="/servers/{name}/hurry"' in browser.post(f"/servers/{name}/delay")
    assert cluster.replicas[1].delay == 20
    browser.post(f"/servers/{name}/hurry")
    assert cluster.replicas[1].delay == 0


def test_a_killed_or_frozen_replica_gets_no_reads_and_comes_back(lab_cluster: Callable[..., Cluster]) -> None:
    from blog.models import db

    with _demo_on(lab_cluster("mariadb")) as (browser, cluster):
        victim, other = (each.name for each in cluster.replicas)

        def servers_page() -> str:
            with browser.client.application.app_context():
                assert db.router.refresh(timeout=20)
            return browser.get("/servers")

        both = re.compile(rf"40 reads: \d+ by {victim}, \d+ by {other}")
        for trouble, remedy in (("freeze", "thaw"), ("kill", "restart")):
            browser.post("/servers/reads")  # connections to both lie in the pools
            assert f'action="/servers/{victim}/{remedy}"' in browser.post(f"/servers/{victim}/{trouble}")
            assert "Unreachable" in servers_page()
            assert f"40 reads: 40 by {other}" in browser.post("/servers/reads")
            browser.post(f"/servers/{victim}/{remedy}")
            assert eventually(lambda: servers_page().count("Answers reads") == 2)
            assert eventually(lambda: both.search(browser.post("/servers/reads")) is not None)


def test_a_drain_and_a_slow_start_are_shown(demo: tuple[Browser, Cluster]) -> None:
    from blog.models import db

    browser, cluster = demo
    with browser.client.application.app_context():
        assert db.router.refresh(timeout=20)
        db.router.drain(cluster.replicas[0].name)
        assert "taken out of use by hand" in browser.get("/servers")
        db.router.undrain(cluster.replicas[0].name)
        assert re.search(r"slow start: \d+% of its share", browser.get("/servers"))


def test_the_author_sees_his_post_at_once_and_others_later(
    mariadb_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch holds every replica back; the foot of the author's page says why he does not read there.

    Held back for longer than this test can take, and with a bound on lag that keeps the replicas in use.
    """
    from blog import servers
    from blog.models import db

    assert servers.DELAY_OF_ALL == 3
    monkeypatch.setattr(servers, "DELAY_OF_ALL", 600)
    config = {"DEMO_CLUSTER": mariadb_cluster, "RDS_ROUTER_MAX_LAG": 3000.0}
    with running_on(mariadb_cluster, **config) as app:
        author, other = Browser(app), Browser(app)
        author.sign_in()
        assert "Delay all replicas by 600 s" in author.get("/servers")
        page = author.post("/servers/delay")
        try:
            assert "Every replica does what the primary did" in page
            assert "End the delay of 600 s" in page
            page = author.post("/posts/new", title="Seen at once", text="By its author.")
            link = re.search(r'href="(/posts/\d+)/edit"', page)
            assert "<h1>Seen at once</h1>" in page
            assert "Seen at once" in author.get("/")
            assert author.count == 13
            assert "behind the token" in author.footer
            assert f"answered by {mariadb_cluster.primary.name}" in author.footer
            assert other.count == 12, "others read on the replicas"
            assert any(f"answered by {each.name}" in other.footer for each in mariadb_cluster.replicas)
            assert link is not None
            assert "<h1>Seen at once</h1>" in other.get(link[1]), "a fresh link is found all the same"
        finally:
            page = author.post("/servers/delay")
        assert "No replica is held back any more." in page
        mariadb_cluster.wait_caught_up(timeout=60)
        with app.app_context():
            assert db.router.refresh()
        assert Browser(app).count == 13


def test_what_an_engine_cannot_do_is_said(demo: tuple[Browser, Cluster]) -> None:
    browser, cluster = demo
    page = browser.post(f"/servers/{cluster.replicas[0].name}/freeze")
    assert "That did not work: a SQLite file has no process to freeze" in page


def test_buttons_that_do_not_exist(demo: tuple[Browser, Cluster]) -> None:
    browser, cluster = demo
    browser.post(f"/servers/{cluster.primary.name}/kill", status=404)
    browser.post("/servers/nobody/kill", status=404)
    browser.post(f"/servers/{cluster.replicas[0].name}/explode", status=404)


def test_without_a_demo_nothing_can_be_done_to_servers(visitor: Browser) -> None:
    visitor.post("/servers/sqlite-2/kill", status=404)
    visitor.post("/servers/reads", status=404)
    visitor.post("/servers/delay", status=404)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_demo_program_serves_the_blog_and_ends_cleanly(ending: signal.Signals) -> None:
    with _demo("--engine", "sqlite", "--port", "0") as program:
        assert program.stdout is not None
        try:
            lines = iter(program.stdout.readline, "")
            url = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
            with urlopen(url, timeout=20) as answer:
                page = answer.read().decode()
            assert "Posts: 12" in page
            assert re.search(r"answered by sqlite-[123]", page)
            with urlopen(url + "servers", timeout=20) as answer:
                folder_page = answer.read().decode()
            assert "Send 40 reads" in folder_page
        finally:
            program.send_signal(ending)
        rest, _ = program.communicate(timeout=30)
        assert "Ended; nothing is left behind." in rest
        assert "Traceback" not in rest
        assert program.returncode == 0
        with pytest.raises(OSError, match=r"refused"):
            urlopen(url, timeout=5)


def test_demo_program_says_that_the_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _demo("--engine", "sqlite", "--port", str(port)) as program:
            output, _ = program.communicate(timeout=30)
    assert output == f"Port {port} is taken by another program. Choose another: --port {port + 1}\n"
    assert program.returncode == 1


@contextmanager
def _demo_on(cluster: Cluster) -> Iterator[tuple[Browser, Cluster]]:
    """The application as demo.py configures it."""
    from blog.models import db
    from demo import demo_app, fill

    app = demo_app(cluster)
    try:
        fill(app, cluster)
        yield Browser(app), cluster
    finally:
        with app.app_context():
            db.session.remove()
            db.router.close()


def _demo(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLE / "demo.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
