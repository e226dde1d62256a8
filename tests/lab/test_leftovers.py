"""Nothing is left behind: no process, no file, no port, whatever ends the program."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rds_router.lab import cluster
from rds_router.lab.watchdog import family, servers_of
from tests.conftest import missing
from tests.lab.conftest import ENGINES

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def lab_up(engine: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """``python -m rds_router.lab up`` in a process of its own, and what it printed."""
    command = [sys.executable, "-m", "rds_router.lab", "up", engine, "--replicas", "1", "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        try:
            assert program.stdout is not None
            line = program.stdout.readline()
            if not line:
                assert program.stderr is not None
                why = program.stderr.read()
                if "to get it" not in why:
                    pytest.fail(why)
                missing(engine, why.strip())
            yield program, json.loads(line)
        finally:
            program.kill()


def directory_of(addresses: dict[str, Any]) -> Path:
    """The temporary directory of that cluster."""
    if addresses["engine"] == "sqlite":
        return Path(addresses["primary"]["url"].removeprefix("sqlite:///")).parent
    port = f"port={addresses['primary']['port']}"
    for base in (Path("/dev/shm"), Path("/tmp")):
        for candidate in base.glob("rds_router_lab-*"):
            if any(port in " ".join(_arguments(pid)) for pid in servers_of(str(candidate))):
                return candidate
    raise AssertionError(f"no server with {port}")


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []  # it has ended meanwhile


def eventually(question: Callable[[], bool], timeout: float = 15) -> bool:
    """True as soon as the answer is."""
    deadline = time.monotonic() + timeout
    while not question():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_free(port: int) -> bool:
    """True if nobody listens there."""
    with socket.socket() as probe:
        return port == 0 or probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc, which only Linux has")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_lab_up_leaves_nothing(engine: str, end: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and even SIGKILL of the lab's process: servers, files and ports are gone soon after."""
    with lab_up(engine) as (program, addresses):
        directory = directory_of(addresses)
        servers = family(servers_of(str(directory)))
        assert directory.is_dir()
        assert bool(servers) is (engine != "sqlite")
        program.send_signal(end)
        assert program.wait(timeout=30) == (-signal.SIGKILL if end is signal.SIGKILL else 0)
        assert eventually(lambda: not directory.exists())
        assert not family(servers)
        assert is_free(addresses["primary"]["port"])


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc, which only Linux has")
def test_sigkill_while_a_forked_child_lives() -> None:
    """A child that inherited the pipe to the watchdog does not keep the servers alive."""
    script = (
        "import os, time\n"
        "from rds_router.lab import cluster\n"
        "c = cluster('sqlite', replicas=1)\n"
        "if os.fork() == 0:\n"
        "    time.sleep(30)\n"
        "    os._exit(0)\n"
        "print(c.primary.path.parent, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        directory = Path(program.stdout.readline().strip())
        group = program.pid
        assert directory.is_dir()
        program.kill()
        program.wait()
        try:
            assert eventually(lambda: not directory.exists())
        finally:
            os.killpg(group, signal.SIGKILL)


def test_a_forked_child_does_not_stop_its_parents_cluster() -> None:
    """stop() in a child process does nothing."""
    with cluster("sqlite", replicas=0) as c:
        child = subprocess.run([sys.executable, "-c", "pass"], check=True, preexec_fn=c.stop)
        assert child.returncode == 0
        assert c.primary.path.exists()


def test_a_failed_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server that refuses its options: the error quotes its log, and directory and processes are gone."""
    from rds_router.lab import EngineMissing, ServerFailed

    monkeypatch.setenv("RDS_ROUTER_LAB_DIR", str(tmp_path))
    try:
        with pytest.raises(ServerFailed, match="no-such-setting"):
            cluster("mariadb", replicas=1, options={"no_such_setting": 1})
    except EngineMissing as error:
        missing("mariadb", str(error))
    assert list(tmp_path.iterdir()) == []
