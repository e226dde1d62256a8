"""What TLS costs a connection, and the trap in it: PyMySQL builds a TLS context for every connect, asked or not."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from benchmarks.context import Context
from benchmarks.paired import interleaved, ratio
from benchmarks.report import Column, Plot, Section, said
from rds_router import Router

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Took = tuple[float, float]
"""Seconds of wall time, seconds of CPU of this process."""
PLAIN, AGAIN = "no TLS", "no TLS, again"
DEFAULT, ONE, ROUTED = "PyMySQL's default", "one shared context", "rds_router, nothing said"


def measure(context: Context) -> Iterator[Section]:
    c = context.cluster("mysql")
    shared = ssl.create_default_context()
    shared.check_hostname, shared.verify_mode = False, ssl.CERT_NONE
    with Router(c.primary.url, engine_options={"poolclass": NullPool}) as router:
        engines = {
            PLAIN: _engine(c.primary.url, {"ssl_disabled": True}),
            AGAIN: _engine(c.primary.url, {"ssl_disabled": True}),
            ONE: _engine(c.primary.url, {"ssl": shared}),
            ROUTED: router.primary_engine(start=False),
            DEFAULT: _engine(c.primary.url, {}),
        }
        encrypted = {name: _is_encrypted(each) for name, each in engines.items()}
        ways = {name: _connector(each) for name, each in engines.items()}
        found = interleaved(ways, rounds=context.pick(8, 60), seed=context.seed, progress=context.progress)
    wall = {name: [each[0] for each in took] for name, took in found.items()}
    cpu = {name: [each[1] for each in took] for name, took in found.items()}
    noise, cpu_noise = ratio(wall[PLAIN], wall[AGAIN]), ratio(cpu[PLAIN], cpu[AGAIN])
    yield Section(
        name="tls",
        title="TLS, and the trap of measuring it",
        question="What does TLS cost a connect, and whose cost is it?",
        answer=f"Connects against those without TLS: {said(ratio(wall[PLAIN], wall[ONE]), noise)} with one context, "
        f"{said(ratio(wall[PLAIN], wall[DEFAULT]), noise)} by PyMySQL's default, which builds a context for each.",
        columns=(
            Column("way"),
            Column("encrypted"),
            Column("connect, ask, close", "ms"),
            Column("against no TLS", noise=noise),
            Column("CPU of the client", "ms"),
            Column("against no TLS", noise=cpu_noise),
        ),
        rows=[
            (
                name,
                "yes" if encrypted[name] else "no",
                _median(wall[name]) * 1000,
                None if name == PLAIN else ratio(wall[PLAIN], wall[name]),
                _median(cpu[name]) * 1000,
                None if name == PLAIN else ratio(cpu[PLAIN], cpu[name]),
            )
            for name in engines
        ],
        notes=[
            "The trap: PyMySQL speaks TLS where the server offers it, though nothing was said about it, and loads the "
            "system's authorities into a new context for each connection. A comparison of pooled and unpooled that "
            "does not know this measures the reading of a file of certificates.",
            "`connect_args={'ssl': context}` with one `ssl.SSLContext` for the engine ends it; rds_router's engines "
            "share one by themselves. `ssl_disabled=True` is for loopback only.",
        ],
        plots=[Plot("Time of a connect: wall, and the client's own CPU in it", partial(_draw, wall, cpu), (8, 2.6))],
        raw={"wall": wall, "cpu": cpu},
    )


def _engine(url: str, options: Mapping[str, Any]) -> Engine:
    return create_engine(make_url(url), poolclass=NullPool, connect_args=dict(options))


def _is_encrypted(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(text("SHOW STATUS LIKE 'Ssl_cipher'")).one()[1])


def _connector(engine: Engine) -> Callable[[], Took]:
    def connect() -> Took:
        start, used = time.perf_counter(), time.process_time()
        with engine.connect() as connection:
            connection.execute(text("SELECT 1")).all()
        return time.perf_counter() - start, time.process_time() - used

    return connect


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _draw(wall: Mapping[str, list[float]], cpu: Mapping[str, list[float]], figure: Figure) -> None:
    axis = figure.add_subplot()
    names = [name for name in wall if name != AGAIN][::-1]
    axis.barh(names, [_median(wall[name]) * 1000 for name in names], color="tab:blue", alpha=0.35, label="wall")
    axis.barh(names, [_median(cpu[name]) * 1000 for name in names], color="tab:blue", height=0.4, label="client's CPU")
    axis.set_xlabel("ms")
    axis.legend()
