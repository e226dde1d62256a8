"""Clusters to play with: real MySQL, MariaDB and PostgreSQL servers, or SQLite files, on this machine.

    from rds_router.lab import cluster

    with cluster("mariadb", replicas=2) as c:
        print(c.primary.url, [replica.url for replica in c.replicas])
        c.pause_replication(c.replicas[0])
        c.kill(c.primary)
        c.promote(c.replicas[1])

``Proxy`` is a wire to one of them that can be slow, cut after the n-th packet, or lead nowhere.
Stands alone: it imports nothing else of rds_router. ``python -m rds_router.lab doctor`` says what it can start here.
"""

from __future__ import annotations

from rds_router.lab.clusters import Cluster, cluster
from rds_router.lab.errors import EngineMissing, LabError, LabTimeout, NotSupported, ServerFailed
from rds_router.lab.proxy import Proxy
from rds_router.lab.server import Server, State

__all__ = [
    "Cluster",
    "EngineMissing",
    "LabError",
    "LabTimeout",
    "NotSupported",
    "Proxy",
    "Server",
    "ServerFailed",
    "State",
    "cluster",
]
