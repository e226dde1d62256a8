"""Reads the values of the core from scenario files: one way to write them for all files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rds_router.core.contract import SESSION, contract_of
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.position import parse_position
from rds_router.core.scope import NOW, Hold, Scope, Sight
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.topology import Server
from rds_router.wishes import asked

_REPORT = (
    *("role", "lag", "position", "holds", "branched", "is_writable", "follows", "heartbeat", "lag_grows_when_idle"),
    *("identity", "clock", "run", "storage", "storage_age"),
)


def scenarios(folder: Path) -> list[Any]:
    """Each scenario of the folder's files, named after its sentence."""
    return [
        pytest.param(scenario, id=f"{path.stem}: {scenario['says']}")
        for path in sorted(folder.glob("*.json"))
        for scenario in json.loads(path.read_text(encoding="utf-8"))
    ]


def server(name: str, fields: dict[str, Any]) -> Server:
    """A server; ``db`` is the configured primary unless the fields say otherwise."""
    given = {key: fields[key] for key in ("weight", "zone") if key in fields}
    return Server(name, is_primary=fields.get("is_primary", name == "db"), **given)


def observation(name: str, fields: dict[str, Any], *, at: float) -> Observation:
    """One probe. A server called ``db`` is a writable primary, any other a replica, unless the fields say otherwise."""
    if "error" in fields:
        refused = fields.get("is_login_refused", False)
        is_read = fields.get("is_read", False)
        return Observation(name, fields.get("at", at), error=fields["error"], is_login_refused=refused, is_read=is_read)
    role = fields.get("role", "primary" if name == "db" else "replica")
    usual = {"is_writable": role == "primary", "follows": role == "replica"}
    given = {**usual, **{key: fields[key] for key in _REPORT if key in fields}, "role": Role(role)}
    for each in ("position", "holds", "branched", "storage"):
        if given.get(each) is not None:
            given[each] = parse_position(given[each])
    return Observation(name, fields.get("at", at), Report(**given), took=fields.get("took"))


def policy(fields: dict[str, Any]) -> RoutingPolicy:
    """A policy; the times of the scenarios are written for probes each second."""
    return RoutingPolicy(**fields)


def scope(fields: dict[str, Any]) -> Scope:
    """What a transaction has done; ``hold`` is a name of Hold. ``wish`` and ``max_staleness``: the shorthands."""
    given = dict(fields)
    shorthands = {"rds_route": given.pop("wish", None), "rds_max_staleness": given.pop("max_staleness", None)}
    contract = asked(contract_of(given.get("contract", SESSION)), shorthands)
    given["contract"] = None if contract == SESSION else contract
    if "tables" in given:
        given["tables"] = frozenset(given["tables"])
    if "seen" in given:
        given["seen"] = sight(given["seen"])
    if "hold" in given:
        given["hold"] = Hold[given["hold"]]
    if "token" in given:
        given["token"] = token(given["token"])
    return Scope(**given)


def sight(fields: dict[str, Any]) -> Sight:
    """What was seen: on which replica, before when (``now``: on the primary, by the transaction that runs)."""
    if fields.get("at") == "now":
        return Sight("", NOW)
    return Sight(fields.get("server", ""), token(fields), fields.get("run", ""))


def token(fields: dict[str, Any]) -> Token:
    """A token of a moment, a position, or both."""
    position = fields.get("position")
    return Token(fields.get("at"), None if position is None else parse_position(position))


def statement(words: str) -> Statement:
    """``read``, ``write: INSERT``, ``read of posts``: the kind, what decided it, the table."""
    words, _, table = words.partition(" of ")
    kind, _, because = words.partition(": ")
    return Statement(Kind(kind), because, frozenset({table}) if table else None)
