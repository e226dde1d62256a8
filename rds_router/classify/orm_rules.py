"""What mapped classes, relationships and loader options add to a statement.

The tree of an ORM statement is not yet what is sent: the mapper's own columns (``column_property``), its
eager joins, the options' criteria and joins come in when it is compiled. They are looked at here, where they
are declared.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import inspect
from sqlalchemy.orm import (
    ColumnProperty,
    LoaderCriteriaOption,
    Mapper,
    QueryableAttribute,
    RelationshipProperty,
    UserDefinedOption,
)
from sqlalchemy.orm.strategy_options import Load, _LoadElement, _WildcardLoad
from sqlalchemy.orm.util import AliasedInsp
from sqlalchemy.sql.schema import Column

from rds_router.classify.walk import Walk

JOINING: Final = ("joined", False)
"""Values of ``lazy`` that load a relationship within the statement itself; the others send a statement of
their own, which is judged when it comes."""

OWN_HOOKS: Final = "sqlalchemy.orm."
"""Where the functions come from that the ORM's loaders hang on their statements. They add the ordering of a
relationship or loader options."""


def entity(walk: Walk, inspected: Any) -> None:
    """A mapped class among the selected columns: its column properties, discriminator and eager joins decide too."""
    mappers = [inspected.mapper, *inspected.with_polymorphic_mappers]
    for mapper in mappers:
        if id(mapper) in walk.seen:
            continue
        walk.skip(mapper)
        walk.mappers.add(mapper)
        if mapper.polymorphic_on is not None:
            _push_unless_plain(walk, mapper.polymorphic_on)
        for attribute in mapper.attrs:
            if isinstance(attribute, ColumnProperty):
                for column in attribute.columns:
                    _push_unless_plain(walk, column)
            elif isinstance(attribute, RelationshipProperty) and attribute.lazy in JOINING:
                relationship(walk, attribute)
                entity(walk, attribute.entity)


def relationship(walk: Walk, attribute: RelationshipProperty[Any]) -> None:
    """A join along a relationship: its conditions, secondary table, target and order decide."""
    if id(attribute) in walk.seen:
        return
    walk.skip(attribute)
    walk.mappers.add(attribute.mapper)
    walk.push(attribute.primaryjoin, attribute.secondaryjoin, attribute.secondary, attribute.entity.selectable)
    if attribute.order_by:
        walk.push(*attribute.order_by)


def join_element(walk: Walk, element: Any) -> None:
    """A target or condition of ``join()``: the relationship, class or alias it names decides."""
    if isinstance(element, QueryableAttribute) and isinstance(element.property, RelationshipProperty):
        relationship(walk, element.property)
        walk.push(*element._extra_criteria)
        if element._of_type is not None:
            _select_from(walk, element._of_type)
    elif isinstance(element, QueryableAttribute):
        walk.push(element)
    else:
        inspected = inspect(element, raiseerr=False)
        if isinstance(inspected, (Mapper, AliasedInsp)):
            _select_from(walk, inspected)
        else:
            walk.note_unknown(f"a join to {type(element).__name__}")


def options(walk: Walk, given: Any) -> None:
    """``options()``: eager joins, criteria and expressions decide too; an option of an unknown sort is unknown."""
    for option in given:
        if isinstance(option, LoaderCriteriaOption):
            _criteria(walk, option)
        elif isinstance(option, Load):
            for element in option.context:
                _load_element(walk, element)
        elif isinstance(option, _WildcardLoad):
            _wildcard(walk, option.strategy)
        elif type(option).__module__ == "sqlalchemy.ext.horizontal_shard" or isinstance(option, UserDefinedOption):
            continue
        else:
            walk.note_unknown(f"option {type(option).__name__}")


def compile_state_functions(walk: Walk, functions: Any) -> None:
    """Functions that change the statement while it is compiled: unknown, unless they are the ORM's own."""
    for function, argument in functions:
        if not str(getattr(function, "__module__", "")).startswith(OWN_HOOKS):
            walk.note_unknown(f"changed at compile time by {getattr(function, '__qualname__', function)!s}")
        elif isinstance(argument, RelationshipProperty) and argument.order_by:
            walk.push(*argument.order_by)


# ---------------------------------------------------------------------------------------------------------


def _select_from(walk: Walk, inspected: Any) -> None:
    walk.push(inspected.selectable)
    walk.mappers.update((inspected.mapper, *inspected.with_polymorphic_mappers))


def _push_unless_plain(walk: Walk, column: Any) -> None:
    # Columns of the mapped table itself come with the table; spared here because they are the many.
    if not isinstance(column, Column):
        walk.push(column)


def _load_element(walk: Walk, element: _LoadElement) -> None:
    if element.is_token_strategy:
        _wildcard(walk, element.strategy)
        return
    strategy = dict(element.strategy or ())
    if strategy.get("lazy", "select") in JOINING:
        for step in element.path.path:
            if isinstance(step, RelationshipProperty):
                relationship(walk, step)
            elif isinstance(step, (Mapper, AliasedInsp)):
                entity(walk, step)
                _select_from(walk, step)
        walk.push(*element._extra_criteria)
    elif "query_expression" in strategy:
        walk.push(*element._extra_criteria)


def _wildcard(walk: Walk, strategy: Any) -> None:
    if dict(strategy or ()).get("lazy", "select") in JOINING:
        walk.note_unknown("joinedload('*'), which joins whatever is related")


def _criteria(walk: Walk, option: LoaderCriteriaOption) -> None:
    """``with_loader_criteria()``: where one of its classes is in the statement; a lambda is called for each such."""
    done: set[Any] = set()

    def apply(walk: Walk) -> None:
        for mapper in _mappers_in(walk) - done:
            done.add(mapper)
            if _is_meant(option, mapper):
                deferred = option.deferred_where_criteria
                walk.push(option._resolve_where_criteria(mapper) if deferred else option.where_criteria)

    walk.finish_with(apply)


def _is_meant(option: LoaderCriteriaOption, mapper: Mapper[Any]) -> bool:
    # What the option's _all_mappers() lists, asked the other way round: there may be hundreds.
    if option.entity is not None:
        return mapper.isa(option.entity.mapper)
    return option.root_entity is not None and issubclass(mapper.class_, option.root_entity)


def _mappers_in(walk: Walk) -> set[Any]:
    """All mapped classes a walked statement selects from, with what they inherit from and load along."""
    direct = set(walk.mappers)
    for element in walk.seen.values():
        annotations = getattr(element, "_annotations", None)
        if annotations:
            for key in ("parententity", "parentmapper"):
                inspected = annotations.get(key)
                if inspected is not None:
                    direct.update((inspected.mapper, *inspected.with_polymorphic_mappers))
    return {relative for mapper in direct for relative in mapper.iterate_to_root()}
