"""The classifier: a statement that was judged before, and one that is seen for the first time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import joinedload

from benchmarks.blog_tables import LONG, SHORT, THREE_TABLES, Post, point, three_tables
from rds_router.classify.cache import Classifier
from rds_router.classify.constructs import classify

pytestmark = pytest.mark.benchmark(group="classify")
KNOWN: dict[str, Callable[[], Any]] = {"text": lambda: SHORT, "text()": lambda: text(SHORT), "ORM select": point}
NEW: dict[str, Any] = {
    "ORM point select": point(),
    "ORM three tables": three_tables(),
    "ORM joinedload": select(Post).options(joinedload(Post.comments)),
    "short text": SHORT,
    "three-table text": THREE_TABLES,
    f"long text ({len(LONG)} characters)": LONG,
}


@pytest.mark.parametrize("name", KNOWN)
def test_known(timed: Callable[..., Any], name: str) -> None:
    classifier, statement = Classifier("mysql"), KNOWN[name]()
    classifier.judge(statement)
    timed(lambda: classifier.judge(statement))


@pytest.mark.parametrize("name", NEW)
def test_first_sight(timed: Callable[..., Any], name: str) -> None:
    statement = NEW[name]
    timed(lambda: classify(statement), calls=10)
