"""The classifier the router keeps: verdicts remembered, refusals learned.

A verdict is remembered three times over, the cheapest first:

1. on the statement object: SQLAlchemy memoises a statement's cache key as a function in the statement's
   ``__dict__`` and drops that function whenever a changed copy is made; the verdict is an attribute of this
   function, so it lives exactly as long as the cache key is valid for the object, and no longer;
2. by the cache key's value, for a statement built anew with the same structure;
3. by text, for ``text()`` and strings.

A construct SQLAlchemy gives no cache key to is judged each time.

What a replica refused is learned by its shape: a construct's cache key, or the normal form of text, which is the
same for other literals (``shape.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from typing import Any, Final, cast

from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import TextClause

from rds_router.classify.constructs import NO_STATEMENT, judge_construct
from rds_router.classify.element_rules import unescape
from rds_router.classify.segments import SegmentedCache
from rds_router.classify.shape import digest, normal_form
from rds_router.classify.text import judge_text
from rds_router.core.statement import Statement

MAX_LEARNED: Final = 1024
"""How many refused shapes are remembered; the oldest is forgotten first, and would be learned again."""

LONGEST_SHAPE: Final = 1_000
"""Characters. Of a text with a longer shape only the digest is remembered."""

_SHOWN: Final = 200
_MEMO: Final = "_generate_cache_key"


class Classifier:
    """Judges statements of one dialect and remembers the verdicts. Safe to share between threads."""

    __slots__ = ("_by_key", "_by_text", "_epoch", "_learned", "_lock", "dialect", "pure_functions")

    def __init__(
        self,
        dialect: str = "mysql",
        pure_functions: Iterable[str] = (),
        *,
        max_entries: int = 4096,
        max_text: int = 4_000_000,
    ) -> None:
        """Args:
        dialect: ``mysql``, ``mariadb`` or ``postgresql``.
        pure_functions: names of functions that write and lock nothing, to be believed.
        max_entries: how many verdicts are kept, for constructs and for text each.
        max_text: how many characters of SQL text are kept in all.
        """
        self.dialect = dialect
        self.pure_functions = frozenset(name.lower() for name in pure_functions)
        self._by_text: SegmentedCache[Statement] = SegmentedCache(max_entries=max_entries, max_weight=max_text)
        self._by_key: SegmentedCache[Statement] = SegmentedCache(max_entries=max_entries, max_weight=max_entries * 16)
        self._learned: dict[Hashable, Statement] = {}
        self._lock = threading.Lock()
        # Part of each mark on a statement: no other classifier's marks count, nor those from before learn().
        self._epoch = object()

    def judge(self, clause: Executable | str | None) -> Statement:
        """The verdict on one statement. Never raises for any string."""
        if type(clause) is str:
            return self._judge_text(clause)
        if clause is None:
            return NO_STATEMENT
        try:
            memo = clause.__dict__.get(_MEMO)
            if memo is not None:
                mark: tuple[object, Statement] = memo.rds_verdict
                if mark[0] is self._epoch:
                    return mark[1]
        except AttributeError:
            pass  # no mark yet, or nothing SQLAlchemy made
        return self._judge_unmarked(clause)

    def shape_of(self, clause: Executable | str | None) -> Hashable | None:
        """What statements that are judged alike have in common: normal form of text, or cache key. None without."""
        sql = _text_of(clause)
        if sql is not None:
            return self._shape_of_text(sql)
        key = None if isinstance(clause, TextClause) else _cache_key_of(clause)
        return None if key is None else cast("Hashable", key.key)

    def shown(self, clause: Executable | str | None) -> str:
        """The shape for people and logs: no literals in it, at most 200 characters. Never raises."""
        if isinstance(clause, TextClause):
            clause = unescape(clause.text)
        if isinstance(clause, str):
            return normal_form(clause, dialect=self.dialect)[:_SHOWN]
        try:
            # Written without a connection, a construct has standard quotes. Text in it may have literals.
            return normal_form(str(clause), dialect="postgresql")[:_SHOWN]
        except Exception:
            return type(clause).__name__

    def learn(self, clause: Executable | str | None, statement: Statement) -> bool:
        """From now on statements of this one's shape get this verdict: a read-only replica refused it.

        False if the statement has no shape to remember it by.
        """
        shape = self.shape_of(clause)
        if shape is None:
            return False
        with self._lock:
            self._learned.pop(shape, None)
            self._learned[shape] = statement
            if len(self._learned) > MAX_LEARNED:
                del self._learned[next(iter(self._learned))]
            if isinstance(shape, str):
                # Any text may be of this shape, with other literals.
                self._by_text.clear()
            else:
                self._by_key.discard(shape)
            self._epoch = object()
        return True

    def forked(self) -> None:
        """In a forked child: a lock that another thread held is nobody's, and would be waited for for ever."""
        self._lock = threading.Lock()
        self._by_text.forked()
        self._by_key.forked()

    @property
    def learned(self) -> dict[Hashable, Statement]:
        """The refused shapes and their verdicts, oldest first (a copy)."""
        with self._lock:
            return dict(self._learned)

    def __repr__(self) -> str:
        return (
            f"<Classifier {self.dialect}: {len(self._by_key)} constructs, {len(self._by_text)} texts, "
            f"{len(self._learned)} learned>"
        )

    def _judge_text(self, sql: str) -> Statement:
        verdict = self._by_text.get(sql, len(sql))
        return self._judge_new_text(sql) if verdict is None else verdict

    def _judge_new_text(self, sql: str) -> Statement:
        verdict = judge_text(sql, dialect=self.dialect, pure_functions=self.pure_functions)
        # Nearly always nothing was learned, and the shape, which costs a second reading, is not asked for.
        shape = self._shape_of_text(sql) if self._learned else None
        with self._lock:
            if shape is not None or not self._learned:
                return self._remember(self._by_text, sql, verdict, len(sql), shape)
        # The first refusal was learned in between.
        shape = self._shape_of_text(sql)
        with self._lock:
            return self._remember(self._by_text, sql, verdict, len(sql), shape)

    def _shape_of_text(self, sql: str) -> str:
        form = normal_form(sql, dialect=self.dialect)
        return form if len(form) <= LONGEST_SHAPE else digest(form)

    def _judge_unmarked(self, clause: Any) -> Statement:
        epoch = self._epoch
        if type(clause) is TextClause and _is_plain_text(clause):
            verdict = self._judge_text(unescape(clause.text))
        elif isinstance(clause, str):
            return self._judge_text(clause)
        else:
            key = _cache_key_of(clause)
            if key is None:
                return judge_construct(clause, dialect=self.dialect, pure_functions=self.pure_functions)
            cached = self._by_key.get(key.key)
            if cached is None:
                cached = judge_construct(clause, dialect=self.dialect, pure_functions=self.pure_functions)
                with self._lock:
                    cached = self._remember(self._by_key, key.key, cached, 1, key.key)
            verdict = cached
        memo = clause.__dict__.get(_MEMO)
        if memo is not None:
            memo.rds_verdict = (epoch, verdict)
        return verdict

    def _remember(
        self, cache: SegmentedCache[Statement], key: Hashable, verdict: Statement, weight: int, shape: Hashable
    ) -> Statement:
        """Under the lock: what was learned wins over what was just judged."""
        verdict = self._learned.get(shape, verdict)
        cache.put(key, verdict, weight)
        return verdict


def _cache_key_of(clause: Any) -> Any:
    try:
        return clause._generate_cache_key()
    except Exception:
        # Not a SQLAlchemy construct, or one whose own key breaks: judged afresh, and UNKNOWN if it must be.
        return None


def _text_of(clause: Executable | str | None) -> str | None:
    """The text that alone decides, or None."""
    if isinstance(clause, TextClause):
        return unescape(clause.text) if _is_plain_text(clause) else None
    return clause if isinstance(clause, str) else None


def _is_plain_text(clause: TextClause) -> bool:
    """True if the text alone decides: no parameter's type brings an expression."""
    for bind in clause._bindparams.values():
        type_ = bind.type
        if type_._has_bind_expression or type_._variant_mapping:
            return False
    return not clause._with_options
