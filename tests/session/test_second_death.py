"""A statement that its servers die of is not taken to all of them; one that meets servers which are away is."""

from __future__ import annotations

import sqlite3
from contextlib import nullcontext
from typing import Any

import pytest
from sqlalchemy import event, literal_column, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import selectinload

from rds_router.engines import Part
from rds_router.patience import SILENT
from tests.session.conftest import MakeStage
from tests.session.models import User
from tests.session.stage import Stage

POISON = select(User.id).where(User.id == literal_column("666"))


def failing(stage: Stage, words: str, *, mark: str = "666", parts: tuple[Part, ...] = ("replica",)) -> list[str]:
    """Make servers in this part fail the poison with these words; whom it was sent to."""
    hit: list[str] = []
    for seen in stage.router.topology.servers:
        name = seen.server.name
        part: Part = "primary" if seen.server.is_primary else "replica"

        @event.listens_for(stage.router._engines.get(name, part), "do_execute")
        def do_execute(
            cursor: Any, statement: str, parameters: Any, context: Any, name: str = name, part: str = part
        ) -> None:
            if mark in statement:
                hit.append(name)
                if part in parts:
                    raise sqlite3.OperationalError(words)

    return hit


def test_the_second_server_that_dies_of_a_statement_is_the_last(on_sqlite: MakeStage) -> None:
    """Else one query would end every replica, and then the primary."""
    stage = on_sqlite()
    hit = failing(stage, "unable to open database file")
    with pytest.raises(OperationalError, match="unable to open"):
        stage.session().execute(POISON)
    assert len(set(hit)) == len(hit) == 2
    assert "primary" not in hit


def test_silent_servers_are_no_proof_against_it(on_sqlite: MakeStage) -> None:
    """Both replicas may be cut off at once: the primary answers."""
    stage = on_sqlite()
    hit = failing(stage, f"unable to open database file: it {SILENT} 2 s")
    assert stage.session().execute(POISON).all() == []
    assert hit[-1] == "primary"
    assert len(hit) == 3


def test_with_one_replica_the_primary_answers(on_sqlite: MakeStage) -> None:
    stage = on_sqlite(replicas=1)
    hit = failing(stage, "unable to open database file")
    assert stage.session().execute(POISON).all() == []
    assert hit == ["replica-1", "primary"]


def test_each_statement_is_counted_for_itself(on_sqlite: MakeStage) -> None:
    """One replica failed the first, another the second: both are answered."""
    stage = on_sqlite(replicas=1)
    hit = failing(stage, "unable to open database file")
    for _ in range(2):
        session = stage.session()
        assert session.execute(POISON).all() == []
        stage.refresh()
    assert hit == ["replica-1", "primary"] * 2


@pytest.mark.parametrize("on_primary", [False, True], ids=["replicas", "primary"])
def test_who_dies_of_a_load_within_a_load_dies_of_both(on_sqlite: MakeStage, on_primary: bool) -> None:
    """scalar() fetches before it returns: the inner load is a call of its own, whose outer call would be run anew."""
    stage = on_sqlite()
    hit = failing(stage, "unable to open database file", mark="rt_post", parts=("primary", "replica"))
    session = stage.session()
    wish = session.using_primary() if on_primary else nullcontext()
    with wish, pytest.raises(OperationalError, match="unable to open"):
        session.scalar(select(User).where(User.id == 1).options(selectinload(User.posts)))
    assert len(hit) == 2
    assert hit == ["primary"] * 2 if on_primary else "primary" not in hit
    session.rollback()
    stage.refresh()
    assert session.scalar(select(User.name).where(User.id == 1)) == "ann"
