"""A pooling proxy in front, in the place of RDS Proxy: pgbouncer, and MySQL Router's connection sharing.

RDS Proxy itself is to be had at AWS only. For PostgreSQL, pgbouncer in transaction mode is most like it. For MySQL the
best that a Debian machine has is MySQL Router, which lends a server's connection to whoever has a statement to run.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.blog import Blog, fill
from benchmarks.context import Context
from benchmarks.peers.proxies import running
from benchmarks.report import Cell, Column, Plot, Section, said
from benchmarks.ways import Turn, against, mid, race_of, raw, throughput
from rds_router import RoutingPolicy
from rds_router.lab import EngineMissing, Server, ports
from rds_router.lab.cache import cache_dir
from tests.session import pgbouncer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASE, AGAIN = "QueuePool", "QueuePool, again"
Through = Callable[[Server], AbstractContextManager[str]]


def measure(context: Context) -> Iterator[Section]:
    """The first alone where there is little time."""
    proxies = [("postgresql", "pgbouncer", bouncing), ("mysql", "MySQL Router", sharing)][: context.pick(1, 2)]
    missing = []
    for number, (engine, proxy, through) in enumerate(proxies):
        try:
            yield _measured(context.part(number, len(proxies)), engine, proxy, through)
        except EngineMissing as error:
            missing.append(str(error))
    if len(missing) == len(proxies):
        raise EngineMissing("; ".join(missing))


def _measured(context: Context, engine: str, proxy: str, through: Through) -> Section:
    c = context.cluster(engine)
    fill(c)
    tls = "shared" if engine == "mysql" else ""
    null = {"poolclass": "NullPool"}
    with ExitStack() as opened:
        urls = [opened.enter_context(through(each)) for each in c.servers]
        direct: dict[str, Any] = {"primary": c.primary.url, "replicas": [each.url for each in c.replicas], "tls": tls}
        fronted: dict[str, Any] = {"primary": urls[0], "replicas": urls[1:], "tls": tls, "policy": _behind_proxy()}
        ways = {
            BASE: Blog(**direct),
            AGAIN: Blog(**direct),
            "NullPool": Blog(**direct, engine_options=null),
            f"QueuePool, {proxy} in front": Blog(**fronted),
            f"NullPool, {proxy} in front": Blog(**fronted, engine_options=null),
        }
        race = opened.enter_context(race_of(c, ways))
        turns = race.run(context, rounds=context.pick(1, 5), seconds=1, clients=8)
    noise = against(turns[BASE], turns[AGAIN], throughput)
    names = list(turns)
    null_there = against(turns[BASE], turns[names[4]], throughput)
    return Section(
        name=f"proxy-{engine}",
        title=f"A pooling proxy in front: {proxy}",
        question=f"Does {proxy} between application and {engine} do what a pool in the application does?",
        answer=f"Requests against QueuePool: NullPool with {proxy} in front {said(null_there, noise)}, without it "
        f"{said(against(turns[BASE], turns['NullPool'], throughput), noise)}.",
        columns=(
            Column("way"), Column("requests/s", digits=0), Column("against QueuePool", noise=noise),
            Column("p50", "ms", 1), Column("p99", "ms", 1), Column("connections the servers opened", "per request", 3),
            Column("CPU app", "ms/request"), Column("CPU servers", "ms/request"), Column("errors"),
        ),
        rows=[_row(name, each, turns[BASE], [server.name for server in c.servers]) for name, each in turns.items()],
        notes=[
            f"This is {proxy}, not RDS Proxy: that one is a service, and its figures are its own. The blog is that of "
            "the pools above; the proxy runs beside everything else on the same cores, on loopback: what a near proxy "
            "saves over a far server's handshake does not show here.",
            "Through the proxy rds_router runs with `RoutingPolicy.rds_proxy()`.",
        ],
        plots=[Plot("Requests a second, median of the rounds", partial(_draw, turns), (8, 2.4))],
        raw=raw(turns),
    )  # fmt: skip


def _row(name: str, turns: list[Turn], base: list[Turn], servers: list[str]) -> list[Cell]:
    return [
        name,
        mid(turns, throughput),
        None if name == BASE else against(base, turns, throughput),
        mid(turns, lambda turn: turn.load.p50 * 1000),
        mid(turns, lambda turn: turn.load.p99 * 1000),
        mid(turns, lambda turn: turn.per_request(sum(turn.taken.opened.values()))),
        mid(turns, lambda turn: turn.cpu("app")),
        mid(turns, lambda turn: turn.cpu(*servers)),
        sum(turn.load.errors for turn in turns),
    ]


def _behind_proxy() -> dict[str, Any]:
    plain, changed = RoutingPolicy(), RoutingPolicy.rds_proxy()
    names = [each.name for each in fields(RoutingPolicy)]
    return {name: getattr(changed, name) for name in names if getattr(changed, name) != getattr(plain, name)}


def bouncing(server: Server) -> AbstractContextManager[str]:
    """The server's URL through a pgbouncer of its own."""
    if pgbouncer.program() is None:
        raise EngineMissing("no pgbouncer here; to get it: apt-get install pgbouncer")
    return pgbouncer.bouncing(server)


@contextlib.contextmanager
def sharing(server: Server) -> Iterator[str]:
    """The server's URL through a MySQL Router of its own that shares connections."""
    programs = Path(os.environ.get("RDS_ROUTER_PEERS_MYSQLROUTER", cache_dir() / "mysqlrouter"))
    if not (programs / "bin" / "mysqlrouter").exists():
        raise EngineMissing("no MySQL Router here; to get it: .ci/servers/install.sh mysqlrouter")
    if not (server.path / "server-cert.pem").exists():
        raise EngineMissing(f"{server.name} is not on this machine's disk: MySQL Router needs its certificate")
    (port,) = ports.reserve(1)
    with tempfile.TemporaryDirectory(prefix="rds_router_sharing-") as folder:
        home = Path(folder)
        for name in ("log", "run", "data"):
            (home / name).mkdir()
        plugins = programs / "usr" / "lib" / "mysqlrouter" / "plugin"
        (home / "router.conf").write_text(
            _SHARING.format(home=home, plugins=plugins, port=port, to=server.port, pem=server.path)
        )
        command = [str(programs / "bin" / "mysqlrouter"), "-c", str(home / "router.conf")]
        command += ["--user=root"] if os.getuid() == 0 else []
        with running(command, home / "out", port, ports_to_release=[port]):
            yield server.url.replace(f":{server.port}/", f":{port}/")


_SHARING = """[DEFAULT]
logging_folder={home}/log
runtime_folder={home}/run
data_folder={home}/data
plugin_folder={plugins}
pid_file={home}/pid

[logger]
level=warning

[connection_pool]
max_idle_server_connections=64

[routing:sharing]
bind_address=127.0.0.1
bind_port={port}
destinations=127.0.0.1:{to}
routing_strategy=first-available
protocol=classic
connection_sharing=1
connection_sharing_delay=0
client_ssl_mode=PREFERRED
client_ssl_cert={pem}/server-cert.pem
client_ssl_key={pem}/server-key.pem
server_ssl_mode=PREFERRED
"""


def _draw(turns: dict[str, list[Turn]], figure: Figure) -> None:
    axis = figure.add_subplot()
    names = list(turns)[::-1]
    axis.barh(names, [mid(turns[name], throughput) for name in names], color="tab:blue")
    axis.set_xlabel("requests/s")
