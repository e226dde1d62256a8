"""Every element a statement's tree may consist of, and what it means: the explicit tables.

1. ``KNOWN``: the classes of SQLAlchemy 2.0 and 2.1 that may be in a statement, each with its rule or, where
   its parts decide, with None. A class that is not here makes the statement UNKNOWN.
2. ``READERS``: the kinds of attribute such a class may have, each with what reads it. An attribute of a kind
   that is not here makes its class unknown: a new release cannot add a place for text that nobody looks at.
3. ``plan_of()``: a class -> its plan, made once.

Classes are named by path and not imported: neither the ORM nor a dialect is loaded for being known.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.sql.annotation import Annotated

from rds_router.classify import element_readers as readers
from rds_router.classify import element_rules as rules
from rds_router.classify.walk import Plan, Reader, Rule

KNOWN: Final[dict[str, dict[str, Rule | None]]] = {
    "sql.selectable": {
        "Select": rules.select,
        "CompoundSelect": rules.plugin,
        "SelectStatementGrouping": None,
        "Subquery": rules.named,
        "Alias": rules.named,
        "CTE": rules.cte,
        "Lateral": rules.named,
        "TableSample": rules.tablesample,
        "TableValuedAlias": rules.named,
        "TableClause": rules.table,
        "Join": None,
        "FromGrouping": None,
        "NamedFromGrouping": None,
        "ScalarSelect": None,
        "Exists": None,
        "Values": rules.named,
        "ScalarValues": None,
        "ForUpdateArg": rules.for_update,
        "TextualSelect": rules.textual_select,
        "_OffsetLimitParam": rules.bind,
    },
    "sql.schema": {"Table": rules.table, "Column": rules.column, "Sequence": rules.sequence},
    "sql.elements": {
        "AggregateOrderBy": None,
        "AsBoolean": None,
        "BinaryExpression": None,
        "BindParameter": rules.bind,
        "BooleanClauseList": None,
        "Case": None,
        "Cast": None,
        "ClauseList": rules.clause_list,
        "CollationClause": rules.collation,
        "CollectionAggregate": None,
        "ColumnClause": rules.column,
        "ElementList": None,
        "ExpressionClauseList": None,
        "Extract": rules.extract,
        "False_": None,
        "FrameClause": None,
        "FunctionFilter": None,
        "Grouping": None,
        "IndexExpression": None,
        "Label": rules.named,
        "Null": None,
        "OrderByList": None,
        "Over": rules.over,
        "ReleaseSavepointClause": rules.savepoint,
        "RollbackToSavepointClause": rules.savepoint,
        "SavepointClause": rules.savepoint,
        "Slice": None,
        "TableValuedColumn": rules.named,
        "TextClause": rules.text,
        "True_": None,
        "TryCast": None,
        "Tuple": None,
        "TypeClause": None,
        "TypeCoerce": None,
        "UnaryExpression": None,
        "WithinGroup": None,
        "_OverrideBinds": None,
        "_label_reference": None,
        "_textual_label_reference": None,
    },
    "sql.functions": {
        "Function": rules.function,
        "FunctionElement": rules.custom_function,
        "FunctionAsBinary": None,
        "ScalarFunctionColumn": rules.named,
        "next_value": rules.next_value,
    },
    "sql.lambdas": {"LambdaElement": None, "NullLambdaStatement": None},
    "sql.dml": {"Insert": rules.dml, "Update": rules.dml, "Delete": rules.dml},
    "sql.ddl": {"BaseDDLElement": rules.ddl},
    "dialects.mysql.dml": {"DMLLimitClause": None, "OnDuplicateClause": None},
    "dialects.mysql.expression": {"match": None},
    "dialects.postgresql.array": {"array": None},
    "dialects.postgresql.dml": {"OnConflictDoNothing": None, "OnConflictDoUpdate": None},
    "dialects.postgresql.ext": {"DistinctOnClause": None, "aggregate_order_by": None},
    "dialects.sqlite.dml": {"OnConflictDoNothing": None, "OnConflictDoUpdate": None},
    "orm.attributes": {"QueryableAttribute": rules.flatten},
    "orm.context": {"FromStatement": rules.from_statement},
    "orm.query": {"Query": rules.flatten},
    "orm.util": {"Bundle": rules.flatten, "_ORMJoin": None},
}
"""Module below ``sqlalchemy`` -> class -> rule. A subclass rendered as its base is is known by it."""

RENDERED_ELSEWHERE: Final = frozenset({"FunctionElement", "BaseDDLElement"})
"""Bases whose subclasses bring their own rendering by design: their rules allow for it."""

INERT: Final = frozenset(
    {
        "ANON_NAME", "ANNOTATIONS_KEY", "BOOLEAN", "DIALECT_OPTIONS", "FROMCLAUSE_CANONICAL_COLUMN_COLLECTION",
        "NAMED_DDL_ELEMENT", "PARAMS", "PLAIN_DICT", "PLAIN_OBJ", "PROPAGATE_ATTRS", "STRING", "STRING_LIST",
        "TYPE",
    }
)  # fmt: skip
"""Kinds of attribute that render as a name, a keyword or a value, or that a rule above reads by name."""

SINGLE: Final = frozenset({"CLAUSEELEMENT"})
MANY: Final = frozenset({"CLAUSEELEMENT_LIST", "CLAUSEELEMENT_TUPLE", "FROMCLAUSE_ORDERED_SET"})

READERS: Final[dict[str, Reader]] = {
    "CLAUSEELEMENT_TUPLES": readers.read_nested,
    "COMPILE_STATE_FUNCS": readers.read_compile_state_functions,
    "DML_MULTI_VALUES": readers.read_nested,
    "DML_ORDERED_VALUES": readers.read_nested,
    "DML_VALUES": readers.read_nested,
    "EXECUTABLE_OPTIONS": readers.read_options,
    "HAS_CACHE_KEY": readers.read_table_value_type,
    "MEMOIZED_SELECT_ENTITIES": readers.read_memoized_entities,
    "MULTI_LIST": readers.read_nested,
    "OPERATOR": readers.read_operator,
    "PREFIX_SEQUENCE": readers.read_prefixes,
    "SETUP_JOIN_TUPLE": readers.read_joins,
    "STATEMENT_HINT_LIST": readers.read_statement_hints,
    "STRING_CLAUSEELEMENT_DICT": readers.read_nested,
    "TABLE_HINT_LIST": readers.read_table_hints,
    "WITH_CONTEXT_OPTIONS": readers.read_compile_state_functions,
}

_OWN_RENDERING: Final = ("__visit_name__", "_compiler_dispatch", "_traverse_internals", "get_children")

_SEQUENCE: Final = Plan(rule=rules.sequence_of_elements)
_CUSTOM_FUNCTION: Final = Plan(rule=rules.custom_function, single=("clause_expr",))

_plans: dict[type, Plan | None] = {list: _SEQUENCE, tuple: _SEQUENCE}


def plan_of(cls: type, dialect: str) -> Plan | None:
    """How to look at elements of this class; None if the class is not known."""
    try:
        plan = _plans[cls]
    except KeyError:
        plan = _plans[cls] = _make_plan(cls)
    # Asked every time and not remembered in the plan: @compiles may be called late.
    dispatcher = getattr(cls, "_compiler_dispatcher", None)
    if plan is not None and dispatcher is not None and _is_rendered_by_user(dispatcher, dialect):
        return _plan_under_compiles(cls, plan)
    return plan


def _make_plan(cls: type) -> Plan | None:
    found = _known_base(cls)
    if found is None:
        return None
    base, rule = found
    if rule is rules.ddl:
        return Plan(rule=rule)
    single: list[str] = []
    many: list[str] = []
    others: list[tuple[str, Reader]] = []
    for name, traversal in getattr(base, "_traverse_internals", ()):
        kind = _kind_of(traversal)
        if kind in SINGLE:
            single.append(name)
        elif kind in MANY:
            many.append(name)
        elif kind in READERS:
            others.append((name, READERS[kind]))
        elif kind not in INERT:
            return None
    return Plan(rule=rule, single=tuple(single), many=tuple(many), others=tuple(others))


def _known_base(cls: type) -> tuple[type, Rule | None] | None:
    """The class of the table this one is rendered as, and its rule."""
    renders_itself = False
    for base in cls.__mro__:
        if issubclass(base, Annotated):
            continue
        package, _, module = base.__module__.partition(".")
        names = KNOWN.get(module, {}) if package == "sqlalchemy" else {}
        if base.__name__ in names:
            if renders_itself and base.__name__ not in RENDERED_ELSEWHERE:
                return None
            return base, names[base.__name__]
        renders_itself = renders_itself or _has_own_rendering(base)
    return None


def _has_own_rendering(cls: type) -> bool:
    own = [name for name in _OWN_RENDERING if name in cls.__dict__]
    # @compiles sets it too; whether that matters for our dialect is asked each time.
    return bool(own) and (own != ["_compiler_dispatch"] or "_compiler_dispatcher" not in cls.__dict__)


def _is_rendered_by_user(dispatcher: Any, dialect: str) -> bool:
    """True if @compiles replaced this class's rendering for our dialect."""
    specs = dict(dispatcher.specs)
    default = specs.pop("default", None)
    if default is not None and default.__name__ != "_wrap_existing_dispatch":
        return True
    family = {"mysql", "mariadb"} if dialect in ("mysql", "mariadb") else {dialect}
    return not family.isdisjoint(specs)


def _plan_under_compiles(cls: type, plan: Plan) -> Plan | None:
    if plan.rule is rules.ddl:
        return plan
    return _CUSTOM_FUNCTION if plan.rule in (rules.function, rules.custom_function) else None


def _kind_of(traversal: Any) -> str:
    """The name of a traversal kind: an enum's member in 2.1, in 2.0 one whose name begins with ``dp_``."""
    name: str = traversal.name
    return name.removeprefix("dp_").upper()
