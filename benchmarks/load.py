"""Load on the blog by clients of their own process: wrk where it is installed, else ``benchmarks/clients.py``.

A closed loop: each client asks for its next page when it has the one before. Clients are signed in, keep their cookie,
and draw what they do: 90 of 100 look at the front page or a post, 10 comment on one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WRITES = 0.1
"""The part of requests that write a comment."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who is signed in."""

    cookie: str
    """``name=value`` of the blog's session."""
    csrf_token: str


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it."""

    requests: int
    seconds: float
    errors: int
    """Answers of status 400 and above, broken connections and timeouts."""
    p50: float
    """Seconds, as p90, p99 and slowest."""
    p90: float
    p99: float
    slowest: float

    @property
    def per_second(self) -> float:
        return (self.requests - self.errors) / self.seconds

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"per_second": self.per_second}


def loader() -> str:
    """Which one loads here, as the report says it."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return "benchmarks/clients.py (no wrk here: apt-get install wrk)"
    said = subprocess.run([wrk, "-v"], capture_output=True, text=True, check=False)
    return " ".join((said.stdout + said.stderr).split()[:2])


def load(port: int, users: Sequence[User], *, seconds: int, posts: int, writes: float = WRITES, seed: int = 1) -> Load:
    """Each user a client, for so long."""
    plan = {"users": [asdict(each) for each in users], "posts": posts, "writes": writes, "seed": seed}
    wrk = shutil.which("wrk")
    with tempfile.TemporaryDirectory(prefix="rds_router_load-") as folder:
        if wrk is None:
            (Path(folder) / "plan.json").write_text(json.dumps(plan | {"port": port, "seconds": seconds}))
            command = [sys.executable, str(Path(__file__).with_name("clients.py")), f"{folder}/plan.json"]
        else:
            script = Path(folder) / "blog.lua"
            script.write_text(_lua(plan))
            # A thread for each client: what a client keeps (its cookie) is its thread's.
            count = str(len(users))
            command = [wrk, "-t", count, "-c", count, "-d", str(seconds), "--timeout", "20", "-s", str(script)]
            command.append(f"http://127.0.0.1:{port}")
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return Load(**json.loads(done.stdout.splitlines()[-1]))


def _lua(plan: dict[str, Any]) -> str:
    users = ", ".join(f'{{cookie="{each["cookie"]}", csrf_token="{each["csrf_token"]}"}}' for each in plan["users"])
    head = f"users = {{{users}}}\nposts, writes, seed = {plan['posts']}, {plan['writes']}, {plan['seed']}\n"
    return head + Path(__file__).with_name("blog.lua").read_text("utf-8")
