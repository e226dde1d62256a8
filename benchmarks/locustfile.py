"""The same load as ``blog.lua``, for who wants a page to watch it on. Start a blog (``make demo``), then::

    pip install locust
    locust -f benchmarks/locustfile.py --host http://127.0.0.1:5000

Locust asks for users and shows its page on http://localhost:8089. Each user signs in as somebody, as a browser does.
"""

from __future__ import annotations

import random
import re

from locust import HttpUser, between, task


class Reader(HttpUser):
    """Looks at posts, and comments on one of ten."""

    wait_time = between(0.5, 2)

    def on_start(self) -> None:
        page = self.client.get("/sign-in").text
        users = re.findall(r'name="user_id" value="(\d+)"', page)
        self.client.post("/sign-in", {"csrf_token": _token(page), "user_id": random.choice(users)})
        self._posts = re.findall(r'href="(/posts/\d+)"', self.client.get("/").text)

    @task(3)
    def look_at_the_front(self) -> None:
        self.client.get("/")

    @task(6)
    def read_a_post(self) -> None:
        self.client.get(random.choice(self._posts), name="/posts/N")

    @task(1)
    def comment(self) -> None:
        post = random.choice(self._posts)
        page = self.client.get(post, name="/posts/N").text
        said = {"csrf_token": _token(page), "comment": "As I said."}
        self.client.post(f"{post}/comments", said, name="/posts/N/comments")


def _token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found is not None, "a page without a form"
    return found[1]
