"""Which kind of statement is this: read, locking read, write, DDL, session or unknown. Runs nothing."""

from rds_router.classify.cache import Classifier
from rds_router.classify.constructs import classify
from rds_router.classify.hints import max_staleness_of, route_of

__all__ = ["Classifier", "classify", "max_staleness_of", "route_of"]
