"""R6: what is asked for, and whose word counts: the statement's before the block's before the policy's.

1. A statement asks by its execution options (:mod:`~rds_router.core.contract` says for what); given with the call,
   they win over its own.
2. A load on behalf of another statement asks for what that one and its call asked for.
3. A block's contract stands in the scope (:meth:`~rds_router.RoutingSession.reading`).
4. A reload of what this session wrote is not the place to give up reading one's own writes (R4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from rds_router.classify.hints import (
    READS_OPTION,
    ROUTE_OPTION,
    STALENESS_OPTION,
    max_staleness_from,
    reads_from,
    route_from,
)
from rds_router.core.contract import ANY, STRONG, Contract
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import Scope

Wish = Mapping[str, Any]
"""Execution options, for the wishes among them."""
NO_WISH: Final[Wish] = {}


def wish_in(options: Mapping[str, Any]) -> Wish:
    """The options themselves if they hold a wish, else nothing: most statements carry options, few a wish."""
    if options and (READS_OPTION in options or ROUTE_OPTION in options or STALENESS_OPTION in options):
        return options
    return NO_WISH


def wish_of_call(options: Mapping[str, Any]) -> Wish:
    """The wish given with a call; for a load on behalf of another statement, that statement's and its call's."""
    above = options.get("sa_top_level_orm_context")
    if above is None:
        return wish_in(options)
    # SQLAlchemy merges them in this order too, but only on its way to the cursor.
    return wish_in({**above.query._execution_options, **above.execution_options, **options})


def wished(scope: Scope, own: Wish, of_call: Wish, policy: RoutingPolicy) -> Scope:
    """The scope as one statement sees it."""
    contract = asked(asked(scope.contract or policy.contract, own), of_call)
    # Promised the same as all others of its block, it is like all others.
    return replace(scope, contract=None if scope.contract is None and contract == policy.contract else contract)


def asked(contract: Contract, wish: Wish) -> Contract:
    """What is promised where ``contract`` is, once this is asked for besides. The shorthands change it."""
    if not wish:
        return contract
    contract = reads_from(wish) or contract
    route = route_from(wish)
    if route is not None:
        contract = STRONG if route == "primary" else ANY.within(contract.max_staleness)
    return contract.within(max_staleness_from(wish))


def is_reload(clause: Any) -> bool:
    """A refresh() or the load of what expired: the object is known to exist, for this session at least."""
    return bool(getattr(clause, "_compile_options", None) and getattr(clause._compile_options, "_for_refresh_state", 0))


def reloading(scope: Scope, policy: RoutingPolicy) -> Scope:
    """R4: whoever gave up reading his own writes still finds the objects he wrote, when he loads them again."""
    contract = scope.contract or policy.contract
    return scope if contract.own_writes else replace(scope, contract=STRONG)
