"""Read/write splitting for SQLAlchemy: reads to replicas, writes to the primary, nobody reads behind his own writes."""

from rds_router._version import __version__
from rds_router.classify import classify
from rds_router.core.decision import Decision, Reason
from rds_router.core.policy import RoutingPolicy
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.errors import (
    ConfigurationError,
    NoServerAvailable,
    PolicyError,
    RouterClosed,
    RouterError,
)
from rds_router.router import Router
from rds_router.servers import Replica
from rds_router.session import RoutingSession, scoped_session

__all__ = [
    "ConfigurationError",
    "Decision",
    "Kind",
    "NoServerAvailable",
    "PolicyError",
    "Reason",
    "Replica",
    "Router",
    "RouterClosed",
    "RouterError",
    "RoutingPolicy",
    "RoutingSession",
    "Statement",
    "Token",
    "__version__",
    "classify",
    "scoped_session",
]
