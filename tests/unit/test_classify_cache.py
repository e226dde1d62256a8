"""Verdicts are remembered, exactly as long as they are right, in bounded space."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from constructs_models import Geometry, Order, User, users
from sqlalchemy import bindparam, func, insert, lambda_stmt, select, text
from sqlalchemy.orm import joinedload, with_loader_criteria

from rds_router.classify import cache
from rds_router.classify.cache import LONGEST_SHAPE, MAX_LEARNED, Classifier
from rds_router.classify.constructs import judge_construct
from rds_router.classify.segments import SegmentedCache
from rds_router.classify.text import judge_text
from rds_router.core.statement import Kind, Statement

REFUSED = Statement(Kind.WRITE, "refused by the read-only replica r1")


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was really looked at, in order."""
    seen: list[Any] = []

    def counting(judge: Callable[..., Statement]) -> Callable[..., Statement]:
        def judge_and_count(clause: Any, **options: Any) -> Statement:
            seen.append(clause)
            return judge(clause, **options)

        return judge_and_count

    monkeypatch.setattr(cache, "judge_text", counting(judge_text))
    monkeypatch.setattr(cache, "judge_construct", counting(judge_construct))
    return seen


def test_text_is_judged_once(judged: list[Any]) -> None:
    classifier = Classifier("mysql")
    first = classifier.judge("SELECT 1")
    assert classifier.judge("SELECT 1") is first
    assert classifier.judge(text("SELECT 1")) is first
    assert judged == ["SELECT 1"]


def test_a_statement_object_is_judged_once(judged: list[Any]) -> None:
    classifier = Classifier("mysql")
    statement = select(User).where(User.id == 1)
    first = classifier.judge(statement)
    assert classifier.judge(statement) is first
    assert len(judged) == 1


def test_a_statement_of_the_same_structure_is_judged_once(judged: list[Any]) -> None:
    classifier = Classifier("mysql")
    for number in range(5):
        assert classifier.judge(select(User).where(User.id == number)).is_read
        assert classifier.judge(lambda_stmt(lambda: select(Order))).is_read
    assert len(judged) == 2


CHANGES: dict[str, Callable[[Any], Any]] = {
    "with_for_update": lambda s: s.with_for_update(),
    "with_for_update(read)": lambda s: s.with_for_update(read=True),
    "add_cte": lambda s: s.add_cte(insert(users).cte("i")),
    "where": lambda s: s.where(User.id == func.get_lock("a", 1)),
    "suffix": lambda s: s.suffix_with("FOR UPDATE"),
    "prefix": lambda s: s.prefix_with("SQL_CALC_FOUND_ROWS"),
    "hint": lambda s: s.with_hint(User, "FOR UPDATE"),
    "statement hint": lambda s: s.with_statement_hint("FOR UPDATE"),
    "option": lambda s: s.options(with_loader_criteria(User, text("1 FOR UPDATE"))),
    "columns": lambda s: s.add_columns(func.get_lock("a", 1)),
    "subquery": lambda s: select(s.with_for_update().subquery()),
    "annotated": lambda s: s._annotate({"a": 1}).with_for_update(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_verdict_never_outlives_a_change_of_the_statement(change: Callable[[Any], Any]) -> None:
    classifier = Classifier("mysql")
    statement = select(User).options(joinedload(User.orders))
    assert classifier.judge(statement).is_read
    assert classifier.judge(statement).is_read
    assert not classifier.judge(change(statement)).is_read
    assert classifier.judge(statement).is_read


def test_no_copy_carries_the_mark() -> None:
    classifier = Classifier("mysql")
    statement = select(User)
    classifier.judge(statement)
    assert "_generate_cache_key" in statement.__dict__
    assert "_generate_cache_key" not in copy.copy(statement).__dict__
    assert "_generate_cache_key" not in statement.where(User.id == 1).__dict__
    assert "_generate_cache_key" not in statement.execution_options(a=1).__dict__
    assert "_generate_cache_key" not in statement._annotate({"a": 1}).__dict__


def test_a_judged_statement_can_be_pickled() -> None:
    classifier = Classifier("mysql")
    statement = select(users).where(users.c.id == 1)
    classifier.judge(statement)
    again = pickle.loads(pickle.dumps(statement))
    assert str(again) == str(statement)
    assert classifier.judge(again).is_read


def test_execution_options_are_no_part_of_the_verdict(judged: list[Any]) -> None:
    classifier = Classifier("mysql")
    assert classifier.judge(select(User).execution_options(rds_route="primary")).is_read
    assert classifier.judge(select(User)).is_read
    assert len(judged) == 1


def test_two_classifiers_do_not_believe_each_others_marks() -> None:
    mysql, other = Classifier("mysql"), Classifier("mysql", ["Draw_Number"])
    statement = select(func.draw_number())
    assert mysql.judge(statement).kind is Kind.UNKNOWN
    assert other.judge(statement).is_read
    assert mysql.judge(statement).kind is Kind.UNKNOWN


def test_a_statement_without_a_cache_key_is_judged_each_time(judged: list[Any]) -> None:
    classifier = Classifier("mysql")
    statement = insert(users).values([{"id": 1}, {"id": 2}])
    assert classifier.shape_of(statement) is None
    assert [classifier.judge(statement).kind, classifier.judge(statement).kind] == [Kind.WRITE, Kind.WRITE]
    assert len(judged) == 2
    assert classifier.learn(statement, REFUSED) is False


def test_the_types_of_a_texts_parameters_are_looked_at() -> None:
    classifier = Classifier("mysql")
    assert classifier.judge(text("SELECT :g")).is_read
    assert not classifier.judge(text("SELECT :g").bindparams(bindparam("g", type_=Geometry()))).is_read
    assert classifier.judge(text("SELECT :g")).is_read


def test_an_escaped_colon_is_read_as_it_is_sent() -> None:
    classifier = Classifier("mysql")
    assert not classifier.judge(text(r"SELECT @a \:= 1")).is_read


@pytest.mark.parametrize("thing", [None, 7, object(), b"SELECT 1", [], users, users.c.id])
def test_what_is_no_statement_is_unknown(thing: Any) -> None:
    assert Classifier("mysql").judge(thing).kind is Kind.UNKNOWN


# Learning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda: "SELECT f(1)",
        lambda: text("SELECT f(1)"),
        lambda: select(User).where(User.id == 1),
        lambda: lambda_stmt(lambda: select(User)),
    ],
)
def test_a_refused_shape_is_remembered_over_what_was_cached(build: Callable[[], Any]) -> None:
    classifier = Classifier("mysql", ["f"])
    marked = build()
    for _ in range(3):
        assert classifier.judge(marked).is_read
    assert classifier.learn(marked, REFUSED) is True
    assert classifier.judge(marked) is REFUSED
    assert classifier.judge(build()) is REFUSED
    assert classifier.judge(build()) is REFUSED
    assert list(classifier.learned.values()) == [REFUSED]


def test_learning_one_shape_leaves_the_others_alone() -> None:
    classifier = Classifier("mysql")
    other = select(Order)
    assert classifier.judge(other).is_read
    classifier.learn(select(User), REFUSED)
    assert classifier.judge(other).is_read
    assert classifier.judge(select(User)) is REFUSED


def test_what_is_learned_survives_the_cache_and_is_bounded() -> None:
    classifier = Classifier("mysql", max_entries=16)
    for number in range(MAX_LEARNED + 10):
        classifier.learn(f"SELECT c{number}", REFUSED)
    assert len(classifier.learned) == MAX_LEARNED
    assert classifier.judge("SELECT c9").is_read, "the oldest are forgotten, and would be learned again"
    for number in range(10, MAX_LEARNED + 10):
        assert classifier.judge(f"SELECT c{number}") is REFUSED


def test_a_refusal_learned_while_the_shape_is_being_judged_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier("mysql")
    statement = select(User)

    def judge_slowly(clause: Any, **options: Any) -> Statement:
        verdict = judge_construct(clause, **options)
        classifier.learn(clause, REFUSED)
        return verdict

    monkeypatch.setattr(cache, "judge_construct", judge_slowly)
    assert classifier.judge(statement) is REFUSED
    assert classifier.judge(statement) is REFUSED


def test_what_is_learned_of_a_text_holds_for_other_literals_also_those_cached_before() -> None:
    classifier = Classifier("mysql")
    marked = text("SELECT * FROM v WHERE a = 2")
    for _ in range(2):
        assert classifier.judge(marked).is_read
        assert classifier.judge("SELECT * FROM v WHERE a = 3").is_read
        assert classifier.judge("SELECT * FROM w WHERE a = 1").is_read
    classifier.learn("SELECT * FROM v WHERE a = 1", REFUSED)
    assert classifier.judge(marked) is REFUSED
    assert classifier.judge("SELECT * FROM v WHERE a = 3") is REFUSED
    assert classifier.judge(text("select *  from v /* again */ where a = :a")) is REFUSED
    assert classifier.judge("SELECT * FROM w WHERE a = 1").is_read


def test_a_refusal_learned_while_other_literals_are_being_judged_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier("mysql")

    def judge_slowly(sql: str, **options: Any) -> Statement:
        verdict = judge_text(sql, **options)
        if not classifier.learned:
            classifier.learn("SELECT f FROM v WHERE a = 1", REFUSED)
        return verdict

    monkeypatch.setattr(cache, "judge_text", judge_slowly)
    assert classifier.judge("SELECT f FROM v WHERE a = 2") is REFUSED
    assert classifier.judge("SELECT f FROM v WHERE a = 2") is REFUSED


def test_text_that_cannot_be_read_is_learned_too() -> None:
    classifier = Classifier("mysql")
    classifier.learn("SELECT 'secret", REFUSED)
    assert classifier.judge("SELECT 'secret") is REFUSED
    assert classifier.judge("SELECT 'other") is not REFUSED
    (shape,) = classifier.learned
    assert str(shape).startswith("sha256:")


def test_no_shape_is_asked_for_before_something_was_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "normal_form", None)
    assert Classifier("mysql").judge("SELECT 1").is_read


def test_of_long_shapes_a_digest_is_kept() -> None:
    classifier = Classifier("mysql")
    columns = ", ".join(f"column_{number}" for number in range(1_000))
    classifier.learn(f"SELECT {columns} FROM t WHERE a = 1", REFUSED)
    (shape,) = classifier.learned
    assert len(str(shape)) <= LONGEST_SHAPE
    assert classifier.judge(f"SELECT {columns} FROM t WHERE a = 2") is REFUSED
    assert classifier.judge(f"SELECT {columns} FROM u WHERE a = 2").is_read


@pytest.mark.parametrize(
    ("clause", "shown"),
    [
        ("SELECT a FROM t WHERE b = 'secret'", "select a from t where b = ?"),
        (text("SELECT a FROM t WHERE b = 'secret' AND c = :c"), "select a from t where b = ? and c = ?"),
        (text("SELECT :g").bindparams(bindparam("g", type_=Geometry())), "select ?"),
        (text("SELECT id FROM t WHERE b = 'secret'").columns(users.c.id), "select id from t where b = ?"),
        (select(users.c.id).where(text("b = 'secret'")), "select u.id from u where b = ?"),
        (None, "none"),
    ],
)
def test_what_is_shown_of_a_statement_has_no_literals(clause: Any, shown: str) -> None:
    assert Classifier("mysql").shown(clause) == shown


def test_what_is_shown_is_short_and_never_raises() -> None:
    class Unwritable:
        def __str__(self) -> str:
            raise ValueError

    unwritable: Any = Unwritable()
    assert Classifier("mysql").shown(unwritable) == "Unwritable"
    assert len(Classifier("mysql").shown("SELECT " + "a, " * 500)) == 200


# Bounds --------------------------------------------------------------------------------------------------


def test_literal_heavy_sql_cannot_evict_what_is_used(judged: list[Any]) -> None:
    classifier = Classifier("mysql", max_entries=64)
    often = [f"SELECT {name} FROM t" for name in "abcdefgh"]
    for sql in often * 2:
        classifier.judge(sql)
    judged.clear()
    for number in range(5_000):
        classifier.judge(f"SELECT * FROM t WHERE id = {number}")
    judged.clear()
    for sql in often:
        classifier.judge(sql)
    assert judged == []
    assert len(classifier._by_text) <= 64


def test_text_is_bounded_by_its_length_too() -> None:
    classifier = Classifier("mysql", max_entries=1_000, max_text=10_000)
    for number in range(200):
        for _ in range(3):
            classifier.judge(f"SELECT {number} -- {'x' * 500}")
    kept = [key for part in (classifier._by_text._kept, classifier._by_text._probation)
            for keys in (part.young, part.old) for key in keys]  # fmt: skip
    assert sum(len(str(key)) for key in kept) <= 10_000
    classifier.judge("SELECT '" + "x" * 1_000 + "'")
    assert not any(len(str(key)) > 10_000 // 16 for key in kept)


def test_repr_counts() -> None:
    classifier = Classifier("mysql")
    classifier.judge("SELECT 1")
    classifier.judge(select(User))
    classifier.learn("SELECT 2", REFUSED)
    assert repr(classifier) == "<Classifier mysql: 1 constructs, 0 texts, 1 learned>"


def test_a_key_seen_twice_is_kept_and_an_unused_one_is_forgotten_after_two_generations() -> None:
    kept: SegmentedCache[str] = SegmentedCache(max_entries=16)
    kept.put("a", "A")
    assert repr(kept) == "<SegmentedCache 0 kept, 1 on probation>"
    assert kept.get("a") == "A"
    assert repr(kept) == "<SegmentedCache 1 kept, 0 on probation>"
    for number in range(100):
        kept.put(number, "n")
    assert kept.get("a") == "A"
    for number in range(100, 112):
        kept.put(number, "n")
        kept.get(number)
    assert kept.get("a") is None
    assert len(kept) <= 16


def test_a_key_asked_for_in_its_old_generation_lives_on() -> None:
    kept: SegmentedCache[str] = SegmentedCache(max_entries=16)
    kept.put("a", "A")
    kept.get("a")
    for number in range(200):
        kept.put(number, "n")
        kept.get(number)
        if number % 3 == 0:
            assert kept.get("a") == "A"
    kept.discard("a")
    assert kept.get("a") is None


def test_threads_may_judge_and_learn_at_once() -> None:
    classifier = Classifier("mysql", max_entries=32)
    statement = select(User)
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for number in range(300):
                kind = classifier.judge(f"SELECT c{(number * seed) % 70}").kind
                assert kind in (Kind.READ, Kind.WRITE)
                assert classifier.judge(statement).is_read
                assert classifier.judge(select(User.id).where(User.x == number)).is_read
                if number % 50 == 0:
                    classifier.learn(f"SELECT c{number}", REFUSED)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 5, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert classifier.judge("SELECT c50") is REFUSED


# The hot path: counted, not timed --------------------------------------------------------------------------


def python_calls(work: Callable[[], Any]) -> list[str]:
    """The Python functions entered while ``work`` runs, except itself."""
    entered: list[str] = []

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            entered.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return entered[1:]


def test_a_memoised_statement_is_one_call() -> None:
    classifier = Classifier("mysql")
    statement = select(User).where(User.id == 1)
    classifier.judge(statement)
    assert python_calls(lambda: classifier.judge(statement)) == ["judge"]


def test_a_cached_text_is_three_calls() -> None:
    classifier = Classifier("mysql")
    for _ in range(2):
        classifier.judge("SELECT 1")
    assert python_calls(lambda: classifier.judge("SELECT 1")) == ["judge", "_judge_text", "get"]


def test_a_new_text_construct_with_cached_text_walks_no_tree() -> None:
    classifier = Classifier("mysql")
    for _ in range(2):
        classifier.judge(text("SELECT 1"))
    fresh = text("SELECT 1")
    calls = ["judge", "_judge_unmarked", "_is_plain_text", "unescape", "_judge_text", "get"]
    assert python_calls(lambda: classifier.judge(fresh)) == calls
