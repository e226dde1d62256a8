"""What wrk does by ``blog.lua``, for machines without wrk: ``python clients.py plan.json``. A thread for each client.

It takes several times the CPU that wrk takes, of the same cores: figures of the two do not compare.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any


class Client(threading.Thread):
    """One user, until the end."""

    def __init__(self, number: int, user: dict[str, str], plan: dict[str, Any], end: float) -> None:
        super().__init__(daemon=True)
        self.took: list[float] = []
        self.errors = 0
        self._cookie, self._token = user["cookie"], user["csrf_token"]
        self._plan, self._end = plan, end
        self._dice = random.Random(plan["seed"] * 1000 + number)

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._plan["port"], timeout=20)
        while time.monotonic() < self._end:
            start = time.perf_counter()
            try:
                self.errors += self._ask(connection) >= 400
            except (OSError, http.client.HTTPException):
                self.errors += 1
                connection.close()
            self.took.append(time.perf_counter() - start)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> int:
        headers, body, method = {"Cookie": self._cookie}, None, "GET"
        path = f"/posts/{self._dice.randint(1, self._plan['posts'])}"
        if self._dice.random() < self._plan["writes"]:
            method, path, body = "POST", f"{path}/comments", f"csrf_token={self._token}&comment=As+I+said."
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif self._dice.random() < 0.3:
            path = "/"
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        self._cookie = (response.headers.get("Set-Cookie") or self._cookie).partition(";")[0]
        return response.status


def main(path: str) -> None:
    plan = json.loads(Path(path).read_text("utf-8"))
    start = time.monotonic()
    clients = [
        Client(number, user, plan, start + plan["seconds"]) for number, user in enumerate(plan["users"], start=1)
    ]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    took = sorted(seconds for each in clients for seconds in each.took)
    parts = {name: took[int(part * (len(took) - 1))] for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
    errors = sum(each.errors for each in clients)
    said = {"requests": len(took), "seconds": time.monotonic() - start, "errors": errors, "slowest": took[-1]}
    print(json.dumps(said | parts))


if __name__ == "__main__":
    main(sys.argv[1])
