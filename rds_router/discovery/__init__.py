"""Where the list of servers comes from, when it is not written down: from one of them, or from the API of RDS."""

from __future__ import annotations

from rds_router.discovery.base import Discovery, Reach
from rds_router.discovery.find import Find, found_by
from rds_router.discovery.finder import Finder
from rds_router.discovery.rds_api import RdsApi
from rds_router.discovery.sql import SqlDiscovery
from rds_router.errors import DiscoveryError

__all__ = ["Discovery", "DiscoveryError", "Find", "Finder", "RdsApi", "Reach", "SqlDiscovery", "found_by"]
