"""Cleans up after a process that could not: run as ``python -I -S watchdog.py DIRECTORY PARENT``.

It waits on its standard input. ``end`` there means the cluster was stopped in good order: it leaves without
doing anything. End of file, or its parent being gone, means the parent died (SIGKILL, a crash, ``os._exit``):
then it ends every server whose data directory is inside DIRECTORY, with their children, removes what it was told of
(``container ID``, ``network ID``), and deletes DIRECTORY.

A parent-death signal would not do: it follows the thread that started the server, not the process. Standard
library only, and nothing of this package: it must start in milliseconds and outlive whatever its parent broke.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

POLL = 0.5  # seconds between two looks at the parent; its end is normally seen at once, by end of file


def main(directory: str, parent: int) -> None:
    """Wait for the word or the end of the process with the id ``parent``; in the latter case clean up."""
    for caught in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(caught, signal.SIG_IGN)  # it ends with its parent, not before
    left_behind = wait_for_the_end(parent)
    if left_behind is not None:
        clean_up(directory, left_behind)


def wait_for_the_end(parent: int) -> list[tuple[str, str]] | None:
    """None after ``end``; else the kinds and ids of what the container engine still has of ours."""
    told: list[tuple[str, str]] = []
    buffer = b""
    while True:
        readable, _, _ = select.select([0], [], [], POLL)
        if not readable:
            # A forked grandchild may hold the pipe open after the parent died.
            if os.getppid() != parent:
                return told
            continue
        chunk = os.read(0, 4096)
        if not chunk:
            return told
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            word, _, identifier = line.decode().partition(" ")
            if word == "end":
                return None
            told.append((word, identifier))


def clean_up(directory: str, left_behind: list[tuple[str, str]]) -> None:
    """End the servers of DIRECTORY, remove containers, then networks, and delete DIRECTORY."""
    # PostgreSQL gives its shared memory back on SIGQUIT; on SIGKILL nobody can, so that comes second.
    for signals, patience in (((signal.SIGCONT, signal.SIGQUIT), 2.0), ((signal.SIGKILL,), 10.0)):
        end_processes(directory, signals, patience)
    for data in Path(directory).glob("*/postmaster.pid"):
        release_shared_memory(data.parent)
    for kind, identifier in sorted(left_behind):
        with contextlib.suppress(OSError, http.client.HTTPException):
            remove_from_engine(kind, identifier)
    shutil.rmtree(directory, ignore_errors=True)


def end_processes(directory: str, signals: tuple[signal.Signals, ...], patience: float) -> None:
    """Send these signals to all that run in DIRECTORY until nothing does, or patience (seconds) ends."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and (left := family(servers_of(directory))):
        for pid in left:
            for number in signals:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
        time.sleep(0.05)


def release_shared_memory(data: Path) -> None:
    """Remove the System V segment of a PostgreSQL server that was killed; its lock file says which it is."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        _, segment = (data / "postmaster.pid").read_text().splitlines()[6].split()
        remove = 0  # IPC_RMID
        ctypes.CDLL(None).shmctl(int(segment), remove, None)


def processes() -> dict[int, tuple[int, list[str]]]:
    """Process id -> parent's id and arguments, of every process that is not a zombie."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,command="], capture_output=True, text=True, check=False)
        rows = (line.split(None, 2) for line in listing.stdout.splitlines())
        return {int(row[0]): (int(row[1]), row[2].split()) for row in rows if len(row) == 3}
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # The name in parentheses may contain anything, so read behind the last one.
                state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
                arguments = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")
                if state not in "ZX":
                    found[int(entry)] = (int(parent), arguments)
    return found


def is_stopped(pid: int) -> bool:
    """True if no thread of the process runs any more: stopped, or gone. Where there is no /proc nobody tells: True."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    for thread in threads:
        with contextlib.suppress(OSError, IndexError):  # it has ended meanwhile
            if Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()[0] not in "TtZX":
                return False
    return True


def servers_of(directory: str) -> set[int]:
    """Processes that name a data directory inside DIRECTORY: ``--datadir=DIRECTORY/..`` or ``-D DIRECTORY/..``."""
    inside = directory.rstrip("/") + "/"
    return {
        pid
        for pid, (_, arguments) in processes().items()
        for before, argument in zip(["", *arguments], arguments, strict=False)
        if argument.startswith(f"--datadir={inside}") or (before == "-D" and argument.startswith(inside))
    }


def family(roots: set[int]) -> set[int]:
    """These processes and all that descend from them."""
    parents = {pid: parent for pid, (parent, _) in processes().items()}
    members = roots & parents.keys()
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    return members


def remove_from_engine(kind: str, identifier: str) -> None:
    """Remove a container with its anonymous volumes, or a network, over the engine's local socket."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not address.startswith("unix://"):
        return
    requests = {
        "container": [
            ("POST", f"/containers/{identifier}/unpause"),
            ("DELETE", f"/containers/{identifier}?force=1&v=1"),
        ],
        "network": [("DELETE", f"/networks/{identifier}")],
    }
    for method, path in requests[kind]:
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(address.removeprefix("unix://"))
        connection.request(method, path)
        connection.getresponse().read()
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
