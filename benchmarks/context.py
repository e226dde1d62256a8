"""What a benchmark is given: servers, how long it may take, the seed, and somebody to tell how far it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, TypeVar

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from rds_router.lab import Cluster, cluster

T = TypeVar("T")
Runtime = Literal["local", "docker"]


@dataclass
class Context:
    """Of one run. Clusters are started when first asked for, shared by all benchmarks, and end with the run."""

    is_quick: bool = False
    seed: int = 1
    runtime: Runtime = "local"
    progress: Callable[[float, str], None] = lambda done, text: None
    """``progress(done, text)``: how much of this benchmark is done, 0 to 1, and what is being done."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the servers that were started, as they say it themselves."""
    _opened: ExitStack = field(default_factory=ExitStack)
    _clusters: dict[tuple[str, int], Cluster] = field(default_factory=dict)

    def pick(self, quick: T, full: T) -> T:
        """One of two sizes: rounds, seconds, rows."""
        return quick if self.is_quick else full

    def part(self, number: int, of: int) -> Context:
        """The same, for the n-th of so many parts: what it tells of its progress is a part of the whole."""
        whole = self.progress
        return replace(self, progress=lambda done, text: whole((number + done) / of, text))

    @property
    def dice(self) -> random.Random:
        """New ones, thrown alike in each run of this seed."""
        return random.Random(self.seed)

    def cluster(self, engine: str, *, replicas: int = 2) -> Cluster:
        """A primary and at least that many replicas, shared: leave them as they were found.

        Raises EngineMissing where there is none.
        """
        fitting = sorted(size for name, size in self._clusters if name == engine and size >= replicas)
        if fitting:
            return self._clusters[engine, fitting[0]]
        made = self._clusters[engine, replicas] = self._opened.enter_context(
            self.own_cluster(engine, replicas=replicas)
        )
        return made

    def own_cluster(self, engine: str, *, replicas: int = 2, **options: Any) -> Cluster:
        """One to be broken: a context manager, which ends it."""
        self.progress(0.0, f"starting {engine}, {replicas} replicas")
        made = cluster(engine, replicas=replicas, runtime=self.runtime, **options)
        self.versions.setdefault(engine, _version(made))
        return made

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def _version(c: Cluster) -> str:
    options = {"ssl_disabled": True} if c.engine in ("mysql", "mariadb") else {}
    engine = create_engine(c.primary.admin_url, poolclass=NullPool, connect_args=options)
    with engine.connect() as connection:
        said = connection.execute(text("SHOW server_version" if c.engine == "postgresql" else "SELECT VERSION()"))
        return str(said.scalar_one())
