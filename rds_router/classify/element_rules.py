"""What the elements of a statement's tree mean: the rules and readers that ``elements.KNOWN`` names."""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy.sql.compiler import BIND_PARAMS_ESC
from sqlalchemy.sql.elements import ClauseElement, TextClause, quoted_name
from sqlalchemy.sql.operators import custom_op

from rds_router.classify.walk import Walk
from rds_router.core.statement import Kind

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*\Z")
_LAST_WORD: Final = re.compile(r"([A-Za-z_][\w.$]*)\s*\Z")

_MYSQL_SELECT_WORDS: Final = frozenset(
    {
        "all", "distinct", "distinctrow", "high_priority", "straight_join", "sql_small_result", "sql_big_result",
        "sql_buffer_result", "sql_no_cache", "sql_cache", "sql_calc_found_rows",
    }
)  # fmt: skip
SELECT_WORDS: Final = {"mysql": _MYSQL_SELECT_WORDS, "mariadb": _MYSQL_SELECT_WORDS}
ANY_SELECT_WORDS: Final = frozenset({"all", "distinct"})
"""Words that may stand between SELECT and its columns, by engine and in any. Another word there could be a
function's name, its arguments being the columns in parentheses."""

SAMPLING_METHODS: Final = frozenset({"bernoulli", "system", "system_rows", "system_time"})
"""PostgreSQL's TABLESAMPLE methods, core and contrib."""

RENDERED_BY_SQLALCHEMY: Final = frozenset(
    {"aggregate_strings", "all_", "any_", "cube", "grouping_sets", "random", "rollup", "some"}
)
"""Generic functions of SQLAlchemy that are not rendered under their own name; all of them compute and no more."""

HARMLESS_OPERATORS: Final = {
    "mysql": re.compile(r"[-+*/<>=!%^&|~]+\Z"),
    "mariadb": re.compile(r"[-+*/<>=!%^&|~]+\Z"),
    "postgresql": re.compile(r"[-+*/<>=~!@#%^&|`?]+\Z"),
}
"""Operators made of the engine's operator characters alone, if they begin no comment. In MySQL ``#`` begins one
and ``@`` a variable. What else ``.op()`` is given is judged as text."""


MAX_TYPES: Final = 1000
"""Types with a bind_expression looked at in one statement; one with more is given up."""


def unescape(text: str) -> str:
    """The text a ``text()`` construct sends: ``\\:`` is a colon that begins no parameter."""
    return BIND_PARAMS_ESC.sub(lambda found: found.group(1), text) if "\\:" in text else text


# Statements ------------------------------------------------------------------------------------------------


def select(walk: Walk, element: Any) -> None:
    """Its parts decide; among them what its columns' types and mapped classes add."""
    plugin(walk, element)
    for prefix, dialect_name in element._prefixes:
        if walk.speaks(dialect_name):
            _check_prefix_word(walk, prefix)
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
        _check_name(walk, name)
    walk.relation(element.name, schema)


def named(walk: Walk, element: Any) -> None:
    """Its parts decide; a name that is rendered unquoted is judged as text."""
    _check_name(walk, element.name)


def cte(walk: Walk, element: Any) -> None:
    """WITH: its parts decide, DML in it being one; its prefixes and suffixes are judged as text."""
    _check_name(walk, element.name)


def tablesample(walk: Walk, element: Any) -> None:
    """TABLESAMPLE: its parts decide; the method is written like a function and is none."""
    _check_name(walk, element.name)
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
    _check_name(walk, element.name)
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
        _check_name(walk, element.name)
        if walk.sequence_columns and element.table is not None and str(element.name).lower() in walk.sequence_columns:
            walk.note(Kind.WRITE, f"{element.name} of a sequence")


def bind(walk: Walk, element: Any) -> None:
    """A value: read, with the expression its type may wrap it into."""
    for type_ in variants_of(element.type):
        if type_._has_bind_expression and _is_first(walk, type_):
            walk.push(type_.bind_expression(element))


def collation(walk: Walk, element: Any) -> None:
    """COLLATE: read; a name that is rendered unquoted is judged as text."""
    _check_name(walk, element.collation)


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


# Readers ---------------------------------------------------------------------------------------------------


def read_columns(walk: Walk, columns: Any) -> None:
    """Columns that are selected: what their types and, for mapped classes, their mappers add."""
    for element in columns:
        entity = element._annotations.get("parententity") if hasattr(element, "_annotations") else None
        inner = getattr(element, "c", None) if getattr(element, "is_selectable", False) else None
        if inner is not None:
            if entity is not None:
                _orm().entity(walk, entity)
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
            walk.fragment(words, "with_statement_hint()")


def read_table_hints(walk: Walk, hints: Any) -> None:
    """``with_hint()``: a mapping of (table, dialect) to text."""
    for (_, dialect_name), words in hints.items():
        if walk.speaks(dialect_name):
            walk.fragment(words, "with_hint()")


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
                _orm().join_element(walk, element)


def read_memoized_entities(walk: Walk, memoized: Any) -> None:
    """What ``with_only_columns()`` put aside: its joins are still rendered."""
    for entities in memoized:
        walk.push(*entities._raw_columns)
        read_joins(walk, entities._setup_joins)
        read_options(walk, entities._with_options)


def read_options(walk: Walk, options: Any) -> None:
    """``options()``: loader options and criteria may add joins, columns and conditions."""
    if options:
        _orm().options(walk, options)


def read_compile_state_functions(walk: Walk, functions: Any) -> None:
    """Hooks the ORM's own loaders hang on a statement."""
    if functions:
        _orm().compile_state_functions(walk, functions)


def variants_of(type_: Any) -> tuple[Any, ...]:
    """A type and its variants for other dialects."""
    variants = type_._variant_mapping
    return (type_, *variants.values()) if variants else (type_,)


# ---------------------------------------------------------------------------------------------------------


def _is_harmless_operator(words: str, dialect: str) -> bool:
    characters = HARMLESS_OPERATORS.get(dialect)
    begins_comment = "--" in words or "/*" in words
    return characters is not None and characters.match(words) is not None and not begins_comment


def _check_prefix_word(walk: Walk, prefix: Any) -> None:
    last = _LAST_WORD.search(getattr(prefix, "text", ""))
    if last is not None and last.group(1).lower() not in SELECT_WORDS.get(walk.dialect, ANY_SELECT_WORDS):
        walk.function(last.group(1))


def _check_name(walk: Walk, name: Any) -> None:
    # quoted_name(..., quote=False) is rendered as written.
    if isinstance(name, quoted_name) and name.quote is False and not _IDENTIFIER.match(name):
        walk.fragment(str(name), "unquoted name")


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


def _is_first(walk: Walk, type_: Any) -> bool:
    # An expression may hold values of its own type, which SQLAlchemy renders plainly; asked for each, it has no end.
    if id(type_) in walk.expanded:
        return False
    if len(walk.expanded) > MAX_TYPES:
        walk.note_unknown(f"more than {MAX_TYPES} types that wrap their values")
        return False
    walk.expanded[id(type_)] = type_
    return True


def _orm() -> Any:
    """The ORM's rules, loaded with the first ORM statement: ``import rds_router`` must stay light."""
    from rds_router.classify import orm_rules

    return orm_rules
