"""The clients of the load questions: they keep their cookies, write when they should, and count what fails."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from benchmarks.blog import signed_in
from benchmarks.load import load
from benchmarks.meters import cpu


class Server(ThreadingHTTPServer):
    """Says yes to readers with a new cookie each time, and no to whoever writes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, str]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(400)

    def _answer(self, status: int) -> None:
        self.server.seen.append((self.command, self.path, self.headers["Cookie"]))
        self.send_response(status)
        self.send_header("Set-Cookie", f"session={len(self.server.seen)}; HttpOnly; Path=/")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["wrk", "ours"])
def test_clients_read_write_and_keep_their_cookie(name: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "ours":
        monkeypatch.setattr(shutil, "which", lambda program: None)
    elif shutil.which("wrk") is None:
        pytest.skip("no wrk here")
    users = signed_in(2)
    made = load(server.server_port, users, seconds=1, posts=3, writes=0.3)
    seen = list(server.seen)
    cookies = [cookie for _, _, cookie in seen]
    assert {each.cookie for each in users} <= set(cookies), "each begins as himself"
    assert len(set(cookies)) == len(cookies), "and brings what the answer before gave him"
    writes = [path for method, path, _ in seen if method == "POST"]
    assert set(writes) <= {f"/posts/{number}/comments" for number in (1, 2, 3)}
    assert abs(made.requests - len(seen)) <= 2, "one of each client may be on its way at the end"
    assert abs(made.errors - len(writes)) <= 2, "what is refused is counted"
    assert 0 < made.p50 <= made.p90 <= made.p99 <= made.slowest


def test_the_cpu_of_a_process_is_read() -> None:
    before = cpu([os.getpid()])
    assert before > 0
    sum(each * each for each in range(3_000_000))
    assert cpu([os.getpid()]) > before
