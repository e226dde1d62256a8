"""One run: a cluster, client processes, faults, and the check. What the clients go through is their own affair.

The clients are ``processes`` programs ``python -m MODULE``. Each reads one line of JSON (a task) from its standard
input and obeys: ``prepare`` makes the tables, ``work`` runs until its standard input ends or its share is done,
``contents`` writes down what each server holds.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rds_router.lab.clusters import Cluster, cluster
from rds_router.lab.errors import LabError
from rds_router.lab.proxy import Proxy
from rds_router.lab.server import Server
from rds_router.lab.torture.checker import Announced, Facts, Promises, Verdict, check
from rds_router.lab.torture.conductor import Conductor, Done
from rds_router.lab.torture.history import Contents, Record, read_history
from rds_router.lab.torture.schedule import ALL, WIRES, Fault, draw_schedule
from rds_router.lab.torture.workload import Workload

CLIENTS = "rds_router.torture"
"""The clients that go through rds_router."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to run. Times are seconds."""

    engine: str
    seed: int
    seconds: float = 60.0
    operations: int | None = None
    """Stop when so many have been done, though no later than ``seconds``."""
    replicas: int = 3
    processes: int = 2
    threads: int = 4
    faults: Sequence[str] = ALL
    schedule: Sequence[Fault] | None = None
    """In place of one drawn from the seed."""
    workload: Workload = field(default_factory=Workload)
    through: Mapping[str, Any] = field(default_factory=lambda: {"kind": "router", "policy": {}})
    """What the clients go through: passed on to them as it is."""
    promises: Promises = field(default_factory=Promises)
    clients: str = CLIENTS


class ClientHangs(LabError):
    """A client has not come to an end a minute after the last fault was over: its way waits for ever."""


@dataclass(frozen=True, slots=True)
class Result:
    settings: Settings
    history: Sequence[Record]
    schedule: Sequence[Fault]
    done: Sequence[Done]
    facts: Facts
    verdict: Verdict
    start: float
    end: float
    events: Counter[str]
    """What the clients' routers told, by the kind of event."""


def run(settings: Settings, *, on: Cluster | None = None, promoted: Callable[[Server], object] | None = None) -> Result:
    """Torture a cluster: ``on``, or one of its own. Raises LabError if the cluster or a client does not work.

    ``promoted(server)`` is called after each promotion: some proxies must be told by their operator.
    """
    with contextlib.ExitStack() as stack:
        c = on or stack.enter_context(cluster(settings.engine, replicas=settings.replicas))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rds_router_torture-")))
        return _run(settings, c, folder, promoted)


def _run(settings: Settings, c: Cluster, folder: Path, promoted: Callable[[Server], object] | None = None) -> Result:
    schedule = settings.schedule
    if schedule is None:
        schedule = draw_schedule(settings.seed, settings.seconds, replicas=len(c.replicas), kinds=settings.faults)
    task = {
        "servers": {server.name: server.url for server in c.servers},
        "primary": c.primary.name,
        "folder": str(folder),
        "seed": settings.seed,
        "threads": settings.threads,
        "operations": settings.operations,
        "processes": settings.processes,
        "workload": asdict(settings.workload),
        "through": dict(settings.through),
    }
    _obey(settings, task | {"do": "prepare"})
    c.wait_caught_up()
    stop = threading.Event()
    with _wires(c, schedule) as wires, _working(settings, _through(wires, task), folder) as workers:
        conductor = Conductor(c, wires=wires, promoted=promoted)
        start = time.monotonic()
        clock = threading.Thread(target=_wait_for_workers, args=(workers, settings.seconds, stop), daemon=True)
        clock.start()
        conductor.play(schedule, stop)
        stop.wait(max(0.0, start + settings.seconds - time.monotonic()))
        end = time.monotonic()
        conductor.heal()
    c.wait_caught_up(timeout=60.0)
    of_primary_first = {server.name: server.url for server in (c.primary, *c.replicas)}
    _obey(settings, task | {"do": "contents", "servers": of_primary_first})
    lines = (folder / "contents").read_text(encoding="utf-8").splitlines()
    history, facts = read_history(folder), replace(conductor.facts(), announced=_announced(folder))
    verdict = check(history, [Contents.of_line(line) for line in lines], settings.promises, facts)
    end = min(end, max((record.end for record in history), default=end))
    return Result(settings, history, schedule, conductor.done, facts, verdict, start, end, _events(folder))


@contextlib.contextmanager
def _wires(c: Cluster, schedule: Sequence[Fault]) -> Iterator[dict[str, Proxy]]:
    """A proxy in front of each server, if the schedule does anything to wires: they cost time."""
    with contextlib.ExitStack() as stack:
        needed = any(step.verb in WIRES for fault in schedule for step in fault.steps)
        yield {server.name: stack.enter_context(Proxy(server)) for server in c.servers} if needed else {}


def _through(wires: Mapping[str, Proxy], task: dict[str, Any]) -> dict[str, Any]:
    """The task of clients who reach the servers through these wires."""
    return task | {"servers": {**task["servers"], **{name: wire.url for name, wire in wires.items()}}}


def _obey(settings: Settings, task: Mapping[str, Any]) -> None:
    """A short task, done when this returns."""
    done = subprocess.run(
        [sys.executable, "-m", settings.clients],
        input=json.dumps(task) + "\n",
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise LabError(f"the clients could not {task['do']}: {done.stderr.strip()[-2000:]}")


@contextlib.contextmanager
def _working(settings: Settings, task: Mapping[str, Any], folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Client processes at work; told to stop at the end of the block, and waited for."""
    workers = []
    try:
        for number in range(settings.processes):
            with (folder / f"{number}.log").open("w") as log:
                worker = subprocess.Popen(
                    [sys.executable, "-m", settings.clients],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            workers.append(worker)
            assert worker.stdin is not None
            worker.stdin.write(json.dumps({**task, "do": "work", "number": number}) + "\n")
            worker.stdin.flush()
        for number, worker in enumerate(workers):
            assert worker.stdout is not None
            if worker.stdout.readline() != "ready\n":
                raise LabError(f"client process {number} did not start: {_log(folder, number)}")
        yield workers
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for number, worker in enumerate(workers):
            try:
                code = worker.wait(timeout=60)
            except subprocess.TimeoutExpired:
                worker.send_signal(signal.SIGUSR1)
                time.sleep(1.0)  # it writes down where it is
                raise ClientHangs(f"client process {number} hangs: {_log(folder, number)}") from None
            if code:
                raise LabError(f"client process {number} ended with {code}: {_log(folder, number)}")
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def _wait_for_workers(workers: Sequence[subprocess.Popen[str]], seconds: float, stop: threading.Event) -> None:
    """The run is over when its time is, or when every client process has done its share."""
    end = time.monotonic() + seconds
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(timeout=max(0.0, end - time.monotonic()))
    stop.set()


def _log(folder: Path, number: int) -> str:
    return (folder / f"{number}.log").read_text(encoding="utf-8", errors="replace").strip()[-6000:]


def _announced(folder: Path) -> list[Announced] | None:
    """What the clients' routers told of writes that were lost with a primary; None if they are told nothing."""
    told = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.losses")}
    if None in told.values():
        return None
    return [Announced(process, server, at) for process, losses in told.items() for server, at in losses]


def _events(folder: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for file in folder.glob("*.events"):
        counts.update(json.loads(file.read_text(encoding="utf-8")))
    return counts
