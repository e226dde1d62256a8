"""The same work for several servers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from rds_router.lab.server import Server


def each(servers: Iterable[Server], work: Callable[[Server], None]) -> None:
    """Do it for all at once; raises the first error after all have ended."""
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(work, server) for server in servers]:
            done.result()
