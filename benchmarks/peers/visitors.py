"""Visitors of ``app.py``, in a process of their own: standard library only, a thread and a connection each.

    python benchmarks/peers/visitors.py PORT SECONDS VISITORS POSTS SEED

A closed loop: 90 of 100 requests look at the front page or a post; 10 write: a new post, an edit through the ORM, one
in SQL. After each write its author looks at once whether he sees it. Prints one line of JSON.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import sys
import threading
import time
from collections import Counter
from urllib.parse import urlencode

TIMEOUT = 10.0
BREATH = 0.02  # after an error: who is refused does not ask in a busy loop


class Visitor(threading.Thread):
    def __init__(self, number: int, port: int, until: float, posts: int, seed: int) -> None:
        super().__init__()
        self._dice = random.Random(1000 * seed + number)
        self._name = f"{seed}-{number}"
        self._port, self._until, self._posts = port, until, posts
        self._connection: http.client.HTTPConnection | None = None
        self._cookies: dict[str, str] = {}
        self._own = number + 1
        """The post that he and nobody else of this visit changes."""
        self._count = 0
        self.done: list[tuple[float, float, bool, bool]] = []
        """(end, seconds, is a write, succeeded)"""
        self.checks = self.stale = 0
        self.errors: list[str] = []

    def run(self) -> None:
        while time.monotonic() < self._until:
            drawn = self._dice.random()
            if drawn < 0.45:
                self._ask("GET", "/posts")
            elif drawn < 0.9:
                self._ask("GET", f"/posts/{self._dice.randint(1, self._posts)}")
            else:
                self._write()
        if self._connection is not None:
            self._connection.close()

    def _write(self) -> None:
        self._count += 1
        title = f"{self._name}-{self._count}"
        drawn = self._dice.random()
        path = "/posts"
        if drawn >= 0.2:
            path = f"/posts/{self._own}" if drawn < 0.7 else f"/posts/{self._own}/title"
        status, found = self._ask("POST", path, urlencode({"title": title}))
        if status != 200:
            return
        self._own = found["id"]
        status, seen = self._ask("GET", f"/posts/{self._own}", is_missing_fine=True)
        if status in (200, 404):
            self.checks += 1
            self.stale += seen.get("title") != title

    def _ask(self, method: str, path: str, body: str = "", *, is_missing_fine: bool = False) -> tuple[int, dict]:
        start = time.monotonic()
        status, found = 0, b""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
            kept = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
            headers = {"Cookie": kept} if kept else {}
            if method == "POST":
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            self._connection.request(method, path, body or None, headers)
            answer = self._connection.getresponse()
            status, found = answer.status, answer.read()
            for cookie in answer.headers.get_all("Set-Cookie", []):
                name, _, value = cookie.partition(";")[0].partition("=")
                self._cookies[name] = value
        except (OSError, http.client.HTTPException) as error:
            self.errors.append(f"{method}: {type(error).__name__} on the way to the blog")
            if self._connection is not None:
                self._connection.close()
            self._connection = None
        if status >= 500:
            self.errors.append(f"{method}: {found[:80].decode(errors='replace')}")
        end = time.monotonic()
        is_ok = status == 200 or (is_missing_fine and status == 404)
        self.done.append((end, end - start, method == "POST", is_ok))
        if not is_ok:
            time.sleep(BREATH)
            return status, {}
        return status, json.loads(found) if status == 200 and found.startswith(b"{") else {}


def longest(ends: list[float], start: float, end: float) -> float:
    """The longest time in which nothing succeeded."""
    moments = [start, *sorted(ends), end]
    return max(b - a for a, b in itertools.pairwise(moments))


def main() -> None:
    port, seconds, visitors, posts, seed = (float(each) for each in sys.argv[1:])
    start = time.monotonic()
    threads = [Visitor(n, int(port), start + seconds, int(posts), int(seed)) for n in range(int(visitors))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    end = time.monotonic()
    done = [one for each in threads for one in each.done]
    took = sorted(one[1] for one in done if one[3]) or [0.0]
    errors = [one for each in threads for one in each.errors]
    print(
        json.dumps(
            {
                "seconds": end - start,
                "requests": len(done),
                "succeeded": sum(one[3] for one in done),
                "p50": took[len(took) // 2],
                "p99": took[min(len(took) - 1, len(took) * 99 // 100)],
                "read_errors": sum(not one[2] and not one[3] for one in done),
                "write_errors": sum(one[2] and not one[3] for one in done),
                "reads_blocked": longest([one[0] for one in done if one[3] and not one[2]], start, end),
                "writes_blocked": longest([one[0] for one in done if one[3] and one[2]], start, end),
                "checks": sum(each.checks for each in threads),
                "stale": sum(each.stale for each in threads),
                "errors": dict(Counter(errors).most_common(5)),
            }
        )
    )


if __name__ == "__main__":
    main()
