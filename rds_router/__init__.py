"""Read/write splitting for SQLAlchemy: reads to replicas, writes to the primary, nobody reads behind his own writes.

The names below are the public ones. Each is imported when it is first asked for: whoever wants the router only, or
the classifier only, does not wait for the rest.
"""

from typing import TYPE_CHECKING, Any

from rds_router._version import __version__

if TYPE_CHECKING:
    from rds_router.classify import classify
    from rds_router.core.contract import Contract
    from rds_router.core.decision import Decision, Reason
    from rds_router.core.policy import RoutingPolicy
    from rds_router.core.statement import Kind, Statement
    from rds_router.core.token import Token
    from rds_router.core.trail import Trail
    from rds_router.credentials import IamAuth, Place, SecretsManager, Tls
    from rds_router.discovery import Find
    from rds_router.errors import (
        CommitInDoubt,
        ConfigurationError,
        DiscoveryError,
        NoPrimary,
        NoServerAvailable,
        PolicyError,
        PrimaryChanged,
        RouterClosed,
        RouterError,
        StaleRead,
    )
    from rds_router.failover import prepare_transactions, run_transaction
    from rds_router.router import Router
    from rds_router.servers import Replica
    from rds_router.session import RoutingSession, scoped_session

__all__ = [
    "CommitInDoubt",
    "ConfigurationError",
    "Contract",
    "Decision",
    "DiscoveryError",
    "Find",
    "IamAuth",
    "Kind",
    "NoPrimary",
    "NoServerAvailable",
    "Place",
    "PolicyError",
    "PrimaryChanged",
    "Reason",
    "Replica",
    "Router",
    "RouterClosed",
    "RouterError",
    "RoutingPolicy",
    "RoutingSession",
    "SecretsManager",
    "StaleRead",
    "Statement",
    "Tls",
    "Token",
    "Trail",
    "__version__",
    "classify",
    "prepare_transactions",
    "run_transaction",
    "scoped_session",
]

_HOME = {
    "classify": "classify",
    "core.contract": "Contract",
    "core.decision": "Decision Reason",
    "core.policy": "RoutingPolicy",
    "core.statement": "Kind Statement",
    "core.token": "Token",
    "core.trail": "Trail",
    "credentials": "IamAuth Place SecretsManager Tls",
    "discovery": "Find",
    "errors": (
        "CommitInDoubt ConfigurationError DiscoveryError NoPrimary NoServerAvailable PolicyError PrimaryChanged "
        "RouterClosed RouterError StaleRead"
    ),
    "failover": "prepare_transactions run_transaction",
    "router": "Router",
    "servers": "Replica",
    "session": "RoutingSession scoped_session",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _HOME.items():
        if name in names.split():
            value = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
