"""Fixed rounds: two runs are alike in length, and can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=200, help="rounds of each benchmark (default %(default)s)")


@pytest.fixture
def timed(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """``timed(work, calls=100)``: so many calls a round, one round before those that count."""
    rounds = request.config.getoption("--rounds")

    def run(work: Callable[[], object], *, calls: int = 100) -> Any:
        return benchmark.pedantic(work, rounds=rounds, iterations=calls, warmup_rounds=1)

    return run
