"""Objects that were read on a replica and then changed: what the policy's ``stale_writes`` makes of them.

1. ``"allow"``, the default: nothing here does anything, per row, per statement or per flush.
2. ``"check"``: at each flush the values that such objects were loaded with are compared with the primary's, read
   under a lock: one ``SELECT ... FOR UPDATE`` for each class and 500 rows. Where they differ, the change rests on what
   is no longer true: StaleRead.
3. ``"refuse"``: to change such an object is StaleRead at once.

Each call of a session that looks carries an :class:`Origin` among its execution options, and what it loads is marked
with the replica that answered it. A row read on the primary, a refresh there, an expiry take the mark away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from sqlalchemy import event, inspect, select, tuple_
from sqlalchemy.engine import Connection
from sqlalchemy.orm import ColumnProperty, InstanceState, Mapper, PassiveFlag, Session
from sqlalchemy.orm.base import NO_VALUE
from sqlalchemy.schema import Column

from rds_router.errors import StaleRead

OPTION: Final = "rds_origin"
_MARK: Final = "rds_origin"
_BATCH: Final = 500
_IN_PLACE: Final = (dict, list, set, bytearray)
"""Types of values that can be changed in place: what was loaded is then not known any more."""


class Origin:
    """Which replica answered one call; its rows may be fetched much later."""

    __slots__ = ("is_settled", "server")

    def __init__(self) -> None:
        self.server: str | None = None
        self.is_settled = False

    def settle(self, server: str | None) -> None:
        """The first word counts: later ones are of the loads within the call."""
        if not self.is_settled:
            self.server, self.is_settled = server, True


def with_origin(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """A call's execution options, with an Origin of its own."""
    return {**(options or {}), OPTION: Origin()}


def examine(
    session: Session,
    instances: Collection[object] | None,
    *,
    primary: Callable[[Mapper[Any]], Connection],
    refuse: bool,
) -> None:
    """Before a flush of ``instances``, or of all: see the module's docstring. ``primary`` gives its connection."""
    changed = [state for state in _changed(session) if state.__dict__.get(_MARK)]
    if instances:
        chosen = {id(inspect(each)) for each in instances}
        changed = [state for state in changed if id(state) in chosen]
    if not changed:
        return
    if refuse:
        raise StaleRead(
            f"{_named(changed)} changed after being read on a replica, which stale_writes='refuse' forbids: {_REMEDY}",
            [_identity(state) for state in changed],
        )
    differing: dict[str, InstanceState[Any]] = {}
    by_mapper: defaultdict[Mapper[Any], list[InstanceState[Any]]] = defaultdict(list)
    for state in changed:
        by_mapper[state.mapper].append(state)
    for mapper in sorted(by_mapper, key=lambda each: each.class_.__name__):  # locks are taken in one order
        connection = primary(mapper)
        states = sorted(by_mapper[mapper], key=lambda state: repr(state.identity))
        for begin in range(0, len(states), _BATCH):
            differing.update(_differing(connection, mapper, states[begin : begin + _BATCH]))
    if differing:
        shown = list(differing)
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        raise StaleRead(
            f"{', '.join(shown[:3])}{more}: read on a replica, and another value on the primary by now, so the change "
            f"rests on what is no longer true: {_REMEDY}",
            list(dict.fromkeys(_identity(state) for state in differing.values())),
        )


_REMEDY: Final = (
    "read it on the primary (with_for_update=True, or inside using_primary()) and change it again, or let "
    "run_transaction() do so"
)


def _changed(session: Session) -> Iterator[InstanceState[Any]]:
    """What this flush is going to change: also the members that a collection has gained or lost."""
    found: dict[int, InstanceState[Any]] = {}
    for each in session.deleted:
        found[id(each)] = inspect(each)
    for each in session.dirty:
        if not session.is_modified(each):
            continue
        state = found[id(each)] = inspect(each)
        for relationship in state.mapper.relationships:
            if relationship.key in state.committed_state:
                history = state.get_history(relationship.key, PassiveFlag.PASSIVE_NO_INITIALIZE)
                for member in (*(history.added or ()), *(history.deleted or ())):
                    if member is not None and (of_member := inspect(member)).persistent:
                        found.setdefault(id(member), of_member)
    yield from found.values()


def _differing(
    connection: Connection, mapper: Mapper[Any], states: Iterable[InstanceState[Any]]
) -> Iterator[tuple[str, InstanceState[Any]]]:
    by_key = {tuple(state.identity): state for state in states if state.identity is not None}
    columns = {
        attribute.key: attribute.columns[0]
        for attribute in mapper.column_attrs
        if isinstance(attribute, ColumnProperty) and isinstance(attribute.columns[0], Column)
    }
    key = mapper.primary_key
    statement = select(*key, *columns.values()).select_from(mapper.persist_selectable).with_for_update()
    if len(key) == 1:
        statement = statement.where(key[0].in_([identity[0] for identity in by_key]))
    else:
        statement = statement.where(tuple_(*key).in_(list(by_key)))
    rows = {tuple(row[: len(key)]): row[len(key) :] for row in connection.execute(statement.order_by(*key))}
    for identity, state in by_key.items():
        name = _identity(state)
        row = rows.get(identity)
        if row is None:
            yield name, state
            continue
        for (attribute, column), current in zip(columns.items(), row, strict=True):
            if not _is_as_loaded(state, attribute, column, current):
                yield f"{name}.{attribute}", state


def _is_as_loaded(state: InstanceState[Any], attribute: str, column: Any, current: Any) -> bool:
    loaded = state.committed_state.get(attribute, state.dict.get(attribute, NO_VALUE))
    if loaded is NO_VALUE:
        # Never loaded, then nothing was computed from it; or changed in place, then nobody knows what was loaded.
        return not (attribute in state.committed_state and isinstance(state.dict.get(attribute), _IN_PLACE))
    return bool(column.type.compare_values(loaded, current))


def _identity(state: InstanceState[Any]) -> str:
    return f"{state.mapper.class_.__name__}({', '.join(repr(each) for each in state.identity or ())})"


def _named(states: Collection[InstanceState[Any]]) -> str:
    names = [_identity(state) for state in states]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def listen() -> None:
    """Mark what is loaded from now on, by whichever session. To call it again changes nothing."""
    for name, function in LISTENERS:
        if not event.contains(Mapper, name, function):
            event.listen(Mapper, name, function, raw=True)


def _loaded(state: InstanceState[Any], context: Any) -> None:
    _refreshed(state, context, None)


def _refreshed(state: InstanceState[Any], context: Any, attributes: Collection[str] | None) -> None:
    # merge() of what is new, ORM updates and composites tell of themselves without a context, or with another thing.
    origin = getattr(context, "execution_options", {}).get(OPTION)
    if origin is None:
        return
    if not origin.is_settled:
        origin.settle(context.session._replica_answering())
    if origin.server is not None:
        state.__dict__[_MARK] = origin.server
    elif attributes is None:
        state.__dict__.pop(_MARK, None)


def _expired(state: InstanceState[Any], attributes: Collection[str] | None) -> None:
    if attributes is None:
        state.__dict__.pop(_MARK, None)


LISTENERS: Final = (("load", _loaded), ("refresh", _refreshed), ("expire", _expired))
"""What is listened to on every mapper of the process, once a router wants changes to be examined."""
