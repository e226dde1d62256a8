"""Servers as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from rds_router.lab import ports
from rds_router.lab.cache import copy_tree, template
from rds_router.lab.engines import Engine, Options, Recipe
from rds_router.lab.engines.base import environment
from rds_router.lab.errors import LabError, LabTimeout, ServerFailed
from rds_router.lab.guard import Guard
from rds_router.lab.parallel import each
from rds_router.lab.server import Server, State
from rds_router.lab.watchdog import family, is_stopped, release_shared_memory

STOP_TIMEOUT = 30.0  # seconds
START_TIMEOUT = 60.0  # seconds; a start takes half of one, on a machine that has nothing else to do


class LocalRuntime:
    """Processes whose data, sockets and logs are all inside one temporary directory."""

    def __init__(self, engine: Engine, recipe: Recipe, guard: Guard, options: Options) -> None:
        self._engine = engine
        self._recipe = recipe
        self._guard = guard
        self._options = options
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: list[int] = []
        self._template = template(recipe.key, recipe.build)
        if recipe.run_as is not None:
            os.chown(guard.directory, recipe.run_as, pwd.getpwuid(recipe.run_as).pw_gid)

    def reserve_ports(self, count: int) -> list[int]:
        """Ports for the servers to come; kept until close()."""
        found = ports.reserve(count)
        self._ports += found
        return found

    def peer(self, name: str, port: int) -> tuple[str, int]:
        return "127.0.0.1", port

    def create_all(self, primary: Server, replicas: Sequence[Server]) -> None:
        each([primary, *replicas], lambda server: self._create(server, None if server is primary else primary))

    def _create(self, server: Server, source: Server | None) -> None:
        server.path = self._guard.directory / server.name
        copy_tree(self._template, server.path)
        self._recipe.prepare(server, source)
        self.start(server)

    def rebuild(self, server: Server, source: Server) -> None:
        self.kill(server)
        release_shared_memory(server.path)
        shutil.rmtree(server.path, ignore_errors=True)
        if self._recipe.clone(server, source):
            self.start(server)
        else:
            self._create(server, source)

    def start(self, server: Server) -> None:
        temporary = self._guard.directory / f"{server.name}.tmp"
        temporary.mkdir(exist_ok=True)
        with self._log_of(server).open("ab") as log:
            self._processes[server.name] = subprocess.Popen(
                self._recipe.command(server, self._options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._guard.directory,
                env=environment(temporary) | {"TZ": os.environ.get("TZ", "UTC")},
                # Ctrl-C in the terminal is for us: we end the servers, in our own order.
                start_new_session=True,
                user=self._recipe.run_as,
                group=None if self._recipe.run_as is None else pwd.getpwuid(self._recipe.run_as).pw_gid,
                extra_groups=None if self._recipe.run_as is None else [],
            )
        server.state = State.RUNNING
        self._wait_until_it_answers(server)

    def stop(self, server: Server) -> None:
        process = self._processes[server.name]
        # PostgreSQL's SIGINT ("fast") ends sessions; its SIGTERM would wait for them to leave.
        process.send_signal(signal.SIGINT if self._engine.name == "postgresql" else signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        self.kill(server)

    def kill(self, server: Server) -> None:
        process = self._processes.get(server.name)
        if process is not None and process.poll() is None:
            for pid in self._pids(process):
                _send(pid, signal.SIGKILL)
            process.wait()
        server.state = State.DEAD

    def freeze(self, server: Server) -> None:
        # The main process first, so that it starts no more children: a signal takes effect when the kernel finds time.
        process = self._processes[server.name]
        server.state = State.FROZEN
        _stop([process.pid])
        _stop(self._pids(process)[1:])

    def thaw(self, server: Server) -> None:
        for pid in reversed(self._pids(self._processes[server.name])):
            _send(pid, signal.SIGCONT)
        server.state = State.RUNNING

    def is_up(self, server: Server) -> bool:
        process = self._processes.get(server.name)
        return process is not None and process.poll() is None

    def pids(self, server: Server) -> list[int]:
        return self._pids(self._processes[server.name]) if self.is_up(server) else []

    def log(self, server: Server) -> str:
        try:
            return self._log_of(server).read_text(errors="replace")[-3000:]
        except FileNotFoundError:
            return ""

    def close(self) -> None:
        running = [process for process in self._processes.values() if process.poll() is None]
        for process in running:
            for pid in reversed(self._pids(process)) if self._engine.name == "postgresql" else ():
                # Its SIGQUIT ends it at once too, and it collects its children, which SIGKILL would leave to init.
                _send(pid, signal.SIGCONT)
                _send(pid, signal.SIGQUIT)
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2 if self._engine.name == "postgresql" else 0)
            for pid in self._pids(process) if process.poll() is None else ():
                _send(pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()
        for data in self._guard.directory.glob("*/postmaster.pid"):
            release_shared_memory(data.parent)
        ports.release(self._ports)

    def _wait_until_it_answers(self, server: Server) -> None:
        """First by TCP, which costs the starting server nothing; then by a real connection."""
        deadline = time.monotonic() + START_TIMEOUT
        while self.is_up(server):
            with contextlib.suppress(OSError, LabError):
                socket.create_connection((server.host, server.port), timeout=1).close()
                self._engine.check(server)
                return
            if time.monotonic() > deadline:
                self.kill(server)
                raise ServerFailed(
                    f"{server.name} took no connection within {START_TIMEOUT:.0f} s:\n{self.log(server)}"
                )
            time.sleep(0.01)
        server.state = State.DEAD
        code = self._processes[server.name].returncode
        raise ServerFailed(f"{server.name} ended by itself (code {code}):\n{self.log(server)}")

    def _pids(self, process: subprocess.Popen[bytes]) -> list[int]:
        """The main process, then its children: PostgreSQL's are each in a process group of their own."""
        return [process.pid, *sorted(family({process.pid}) - {process.pid})]

    def _log_of(self, server: Server) -> Path:
        return self._guard.directory / f"{server.name}.log"


def _stop(pids: Sequence[int]) -> None:
    """SIGSTOP; returns when none of their threads runs any more."""
    for pid in pids:
        _send(pid, signal.SIGSTOP)
    deadline = time.monotonic() + STOP_TIMEOUT
    while not all(map(is_stopped, pids)):
        if time.monotonic() > deadline:
            raise LabTimeout(f"processes {pids} have not stopped within {STOP_TIMEOUT:.0f} s of their SIGSTOP")
        time.sleep(0.001)


def _send(pid: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, what)
