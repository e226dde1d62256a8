"""What the elements of a statement's tree mean: the rules that ``elements.KNOWN`` names."""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy.sql.compiler import BIND_PARAMS_ESC
from sqlalchemy.sql.elements import TextClause, quoted_name

from rds_router.classify.element_readers import check_name, read_columns, variants_of
from rds_router.classify.text import DIALECTS
from rds_router.classify.walk import Walk
from rds_router.core.statement import Kind

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*\Z")

SAMPLING_METHODS: Final = frozenset({"bernoulli", "system", "system_rows", "system_time"})
"""PostgreSQL's TABLESAMPLE methods, core and contrib."""

RENDERED_BY_SQLALCHEMY: Final = frozenset(
    {"aggregate_strings", "all_", "any_", "cube", "grouping_sets", "random", "rollup", "some"}
)
"""Generic functions of SQLAlchemy that are not rendered under their own name; all of them compute and no more."""

MAX_TYPES: Final = 1000
"""Types with a bind_expression looked at in one statement; one with more is given up."""


def unescape(text: str) -> str:
    """The text a ``text()`` construct sends: ``\\:`` is a colon that begins no parameter."""
    return BIND_PARAMS_ESC.sub(lambda found: found.group(1), text) if "\\:" in text else text


# Statements ------------------------------------------------------------------------------------------------


def select(walk: Walk, element: Any) -> None:
    """Its parts decide; among them what its columns' types and mapped classes add."""
    plugin(walk, element)
    prefixes = [getattr(prefix, "text", "") for prefix, dialect in element._prefixes if walk.speaks(dialect)]
    if prefixes:
        # The columns may be in parentheses: a prefix must not be the name of a function that takes them.
        walk.fragment(f"{' '.join(prefixes)} (1)", "prefix_with()", before="SELECT")
    read_columns(walk, element._raw_columns)


def plugin(walk: Walk, element: Any) -> None:
    """Its parts decide; unknown if another library registered its own way to compile it."""
    name = element._propagate_attrs.get("compile_state_plugin", "default")
    if name not in ("default", "orm"):
        walk.note_unknown(f"compiled by the plugin {name!r}")


def dml(walk: Walk, element: Any) -> None:
    """INSERT, UPDATE, DELETE at any depth: write."""
    verb = element.__visit_name__.upper()
    walk.note(Kind.WRITE, verb if element is walk.top else f"{verb} within the statement")


def ddl(walk: Walk, element: Any) -> None:
    """CREATE, DROP, ALTER and every custom DDL construct: ddl, on tables that are not looked up."""
    walk.note(Kind.DDL, f"DDL construct {type(element).__name__}")
    walk.tables = None


def savepoint(walk: Walk, element: Any) -> None:
    """SAVEPOINT and its kin: session."""
    walk.note(Kind.SESSION, element.__visit_name__.replace("_", " ").upper())


def textual_select(walk: Walk, element: Any) -> None:
    """``text(...).columns(...)``: judged as a whole statement of text, wherever it stands."""
    whole_text(walk, element.element)


def from_statement(walk: Walk, element: Any) -> None:
    """``select(Entity).from_statement(...)``: the inner statement decides, which alone is sent."""
    plugin(walk, element)
    if isinstance(element.element, TextClause):
        whole_text(walk, element.element)


def whole_text(walk: Walk, element: Any) -> None:
    """A ``text()`` that is a statement by itself."""
    if walk.plan_of(type(element), walk.dialect) is None:
        return  # no plain text(): the walk will say so
    walk.skip(element)
    walk.push(*element._bindparams.values())
    walk.text(unescape(element.text))


# FROM ------------------------------------------------------------------------------------------------------


def table(walk: Walk, element: Any) -> None:
    """A table or view: its name decides, as in text."""
    schema = getattr(element, "schema", None)
    for name in (element.name, schema):
        check_name(walk, name)
    if walk.dialect not in DIALECTS and element.name.startswith("#"):
        walk.note(Kind.SESSION, "a temporary table of SQL Server")
    walk.relation(element.name, schema)


def named(walk: Walk, element: Any) -> None:
    """Its parts decide; a name that is rendered unquoted is judged as text."""
    check_name(walk, element.name)


def cte(walk: Walk, element: Any) -> None:
    """WITH: its parts decide, DML in it being one; its prefixes and suffixes are judged as text."""
    check_name(walk, element.name)


def tablesample(walk: Walk, element: Any) -> None:
    """TABLESAMPLE: its parts decide; the method is written like a function and is none."""
    check_name(walk, element.name)
    method = element.sampling
    if getattr(method, "name", "").lower() in SAMPLING_METHODS and not getattr(method, "packagenames", ()):
        walk.skip(method)
        walk.push(method.clause_expr)


def for_update(walk: Walk, element: Any) -> None:
    """FOR UPDATE and its weaker forms: locking read."""
    if element.read:
        words = "FOR KEY SHARE" if element.key_share else "FOR SHARE"
    else:
        words = "FOR NO KEY UPDATE" if element.key_share else "FOR UPDATE"
    walk.note(Kind.LOCKING_READ, words)


# Expressions -----------------------------------------------------------------------------------------------


def function(walk: Walk, element: Any) -> None:
    """A function: its name decides, as in text, however SQLAlchemy's class for it is called."""
    check_name(walk, element.name)
    if isinstance(element.name, quoted_name) and element.name.quote:
        # Quoted, the name of a built-in construct is somebody's own function.
        walk.note_unknown(f"function {element.name!r}, quoted")
        return
    cls = type(element)
    if cls.__name__ in RENDERED_BY_SQLALCHEMY and cls.__module__ == "sqlalchemy.sql.functions":
        return
    walk.function(".".join((*element.packagenames, element.name)))
    if element is walk.top:
        read_columns(walk, (element,))


def custom_function(walk: Walk, element: Any) -> None:
    """A function with its own rendering: unknown, unless `pure_functions` names it."""
    name = getattr(element, "name", None)
    name = name.lower() if isinstance(name, str) else type(element).__name__.lower()
    if name in walk.pure_functions:
        walk.tables = None
    else:
        walk.note_unknown(f"{type(element).__name__}, a function with its own rendering (name it in pure_functions)")


def next_value(walk: Walk, element: Any) -> None:
    """``sequence.next_value()``: write."""
    walk.note(Kind.WRITE, f"next value of sequence {element.sequence.name}")


def sequence(walk: Walk, element: Any) -> None:
    """A Sequence executed by itself, which is its next value: write."""
    walk.note(Kind.WRITE, f"next value of sequence {element.name}")


def text(walk: Walk, element: Any) -> None:
    """``text()`` within a construct: judged as text in its place."""
    walk.fragment(unescape(element.text), "text()")


def column(walk: Walk, element: Any) -> None:
    """A column: read. ``literal_column()``: judged as text."""
    if element.is_literal:
        walk.fragment(str(element.name), "literal_column()")
    else:
        check_name(walk, element.name)
        if walk.sequence_columns and element.table is not None and str(element.name).lower() in walk.sequence_columns:
            walk.note(Kind.WRITE, f"{element.name} of a sequence")


def bind(walk: Walk, element: Any) -> None:
    """A value: read, with the expression its type may wrap it into."""
    for type_ in variants_of(element.type):
        if type_._has_bind_expression and _is_first(walk, type_):
            walk.push(type_.bind_expression(element))


def clause_list(walk: Walk, element: Any) -> None:
    """Its parts decide; unknown if nothing stands between them, where two could make a function's call."""
    if element.operator is None and len(element.clauses) > 1:
        walk.note_unknown("a list of elements with nothing between them")


def collation(walk: Walk, element: Any) -> None:
    """COLLATE: read; a name that is rendered unquoted is judged as text."""
    check_name(walk, element.collation)


def extract(walk: Walk, element: Any) -> None:
    """EXTRACT: its parts decide; a field that is no plain word is judged as text."""
    if not _IDENTIFIER.match(element.field):
        walk.fragment(element.field, "extract()")


def over(walk: Walk, element: Any) -> None:
    """A window: its parts decide."""
    # In 2.0 a frame is a tuple of two numbers, in 2.1 an element.
    for frame in (element.range_, element.rows, element.groups):
        if hasattr(frame, "_traverse_internals"):
            walk.push(frame)


def flatten(walk: Walk, element: Any) -> None:
    """An ORM attribute, bundle or query: what it stands for decides."""
    walk.push(element.__clause_element__())


def sequence_of_elements(walk: Walk, element: Any) -> None:
    """A plain list where one element is expected: what a lambda may return."""
    walk.push(*element)


# ---------------------------------------------------------------------------------------------------------


def _is_first(walk: Walk, type_: Any) -> bool:
    # An expression may hold values of its own type, which SQLAlchemy renders plainly; asked for each, it has no end.
    if id(type_) in walk.expanded:
        return False
    if len(walk.expanded) > MAX_TYPES:
        walk.note_unknown(f"more than {MAX_TYPES} types that wrap their values")
        return False
    walk.expanded[id(type_)] = type_
    return True
