"""Reads the attributes of a statement's elements that hold more than elements: hints, joins, options, text.

Each ``read_...`` is named in ``elements.READERS`` for one kind of attribute.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy.sql.elements import ClauseElement, quoted_name
from sqlalchemy.sql.operators import custom_op

from rds_router.classify.text import DIALECTS
from rds_router.classify.walk import Walk

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*\Z")

HARMLESS_OPERATORS: Final = {
    "mysql": re.compile(r"[-+*/<>=!%^&|~]+\Z"),
    "mariadb": re.compile(r"[-+*/<>=!%^&|~]+\Z"),
    "postgresql": re.compile(r"[-+*/<>=~!@#%^&|`?]+\Z"),
}
"""Operators made of the engine's operator characters alone, if they begin no comment. In MySQL ``#`` begins one
and ``@`` a variable. What else ``.op()`` is given is judged as text."""


def read_columns(walk: Walk, columns: Any) -> None:
    """Columns that are selected: what their types and, for mapped classes, their mappers add."""
    for element in columns:
        entity = element._annotations.get("parententity") if hasattr(element, "_annotations") else None
        inner = getattr(element, "c", None) if getattr(element, "is_selectable", False) else None
        if inner is not None:
            if entity is not None:
                orm().entity(walk, entity)
            _read_columns_of_table(walk, inner)
        elif getattr(element, "__visit_name__", "") == "clauselist":
            read_columns(walk, element.clauses)
        elif hasattr(element, "type"):
            _check_result_type(walk, element)


def read_nested(walk: Walk, value: Any) -> None:
    """Any nesting of mappings and sequences with elements somewhere in it: VALUES, WHEN, SET."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo.extend(item)
            todo.extend(item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            todo.extend(item)
        elif hasattr(item, "_traverse_internals") or hasattr(item, "__clause_element__"):
            walk.push(item)


def read_operator(walk: Walk, operator: Any) -> None:
    """SQLAlchemy's operators are fixed words; ``.op()`` is text."""
    if isinstance(operator, custom_op):
        words = operator.opstring
        if type(operator) is not custom_op or getattr(operator, "visit_name", None) not in (None, "custom_op"):
            walk.note_unknown(f"{type(operator).__name__}, an operator with its own rendering")
        elif not words.strip():
            walk.note_unknown("an empty operator")
        elif not _is_harmless_operator(words, walk.dialect):
            walk.fragment(f"a {words} (1)", f"op({words!r})")


def read_prefixes(walk: Walk, prefixes: Any) -> None:
    """``prefix_with()`` and ``suffix_with()``."""
    walk.push(*(element for element, dialect_name in prefixes if walk.speaks(dialect_name)))


def read_statement_hints(walk: Walk, hints: Any) -> None:
    """``with_statement_hint()``."""
    for dialect_name, words in hints:
        if walk.speaks(dialect_name):
            _read_hint(walk, words, "with_statement_hint()")


def read_table_hints(walk: Walk, hints: Any) -> None:
    """``with_hint()``: a mapping of (table, dialect) to text."""
    for (_, dialect_name), words in hints.items():
        if walk.speaks(dialect_name):
            _read_hint(walk, words, "with_hint()")


def read_table_value_type(walk: Walk, value: Any) -> None:
    """The columns of a table-valued function: names and types only."""
    if value is not None and type(value).__name__ != "TableValueType":
        walk.note_unknown(f"{type(value).__name__}, not known in a function")


def read_joins(walk: Walk, joins: Any) -> None:
    """``select().join()``: targets and conditions may be relationships."""
    for target, condition, from_, _ in joins:
        for element in (target, condition, from_):
            if isinstance(element, ClauseElement):
                walk.push(element)
            elif element is not None:
                orm().join_element(walk, element)


def read_memoized_entities(walk: Walk, memoized: Any) -> None:
    """What ``with_only_columns()`` put aside: its joins are still rendered."""
    for entities in memoized:
        walk.push(*entities._raw_columns)
        read_joins(walk, entities._setup_joins)
        read_options(walk, entities._with_options)


def read_options(walk: Walk, options: Any) -> None:
    """``options()``: loader options and criteria may add joins, columns and conditions."""
    if options:
        orm().options(walk, options)


def read_compile_state_functions(walk: Walk, functions: Any) -> None:
    """Hooks the ORM's own loaders hang on a statement."""
    if functions:
        orm().compile_state_functions(walk, functions)


def check_name(walk: Walk, name: Any) -> None:
    """A name of the user's choice: ``quoted_name(..., quote=False)`` is rendered as written."""
    if isinstance(name, quoted_name) and name.quote is False and not _IDENTIFIER.match(name):
        walk.fragment(str(name), "unquoted name")


def variants_of(type_: Any) -> tuple[Any, ...]:
    """A type and its variants for other dialects."""
    variants = type_._variant_mapping
    return (type_, *variants.values()) if variants else (type_,)


def orm() -> Any:
    """The ORM's rules, loaded with the first ORM statement: ``import rds_router`` must stay light."""
    from rds_router.classify import orm_rules

    return orm_rules


# ---------------------------------------------------------------------------------------------------------


def _read_hint(walk: Walk, words: str, where: str) -> None:
    if walk.dialect in DIALECTS:
        walk.fragment(words, where)
    else:
        # Each engine has words of its own: WITH (UPDLOCK) locks on SQL Server.
        walk.note_unknown(f"{where}: a hint for an engine whose hints are not known")


def _is_harmless_operator(words: str, dialect: str) -> bool:
    characters = HARMLESS_OPERATORS.get(dialect)
    begins_comment = "--" in words or "/*" in words
    return characters is not None and characters.match(words) is not None and not begins_comment


def _read_columns_of_table(walk: Walk, columns: Any) -> None:
    # They are many and alike: one of each class is walked, and each that is out of the ordinary.
    classes = set()
    for column in columns:
        name = column.name
        if type(column) not in classes or (isinstance(name, quoted_name) and name.quote is False):
            classes.add(type(column))
            walk.push(column)
        _check_result_type(walk, column)


def _check_result_type(walk: Walk, column: Any) -> None:
    for type_ in variants_of(column.type):
        if type_._has_column_expression:
            walk.push(type_.column_expression(column))
