"""A cluster's temporary directory, and the promise that it goes away with everything that runs in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rds_router.lab import watchdog

_PLENTY = 2 << 30
"""Bytes of free shared memory: a MySQL cluster of three takes 300 MB. A container often has 64 MB in all."""


class Guard:
    """Makes the directory, and a small process beside us that cleans up if we cannot any more.

    The directory is made in ``RDS_ROUTER_LAB_DIR`` if that is set, else in shared memory where there is plenty (a
    cluster copies some hundred files, ten times faster there than on a disk), else in the system's place for temporary
    files.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rds_router_lab-", dir=_parent())).resolve()
        self.owner = os.getpid()
        """A forked child inherits this object and must not end its parent's servers."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, str(self.directory), str(self.owner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def watch(self, kind: str, identifier: str) -> None:
        """Have that ``container`` or ``network`` removed too, if it comes to that."""
        self._tell(f"{kind} {identifier}")

    def close(self) -> None:
        """Everything is stopped: delete the directory, and let the watchdog go."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self._tell("end")
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()


def _parent() -> str | None:
    chosen = os.environ.get("RDS_ROUTER_LAB_DIR")
    if chosen:
        return chosen
    memory = "/dev/shm"
    if os.access(memory, os.W_OK):
        space = os.statvfs(memory)
        if space.f_bavail * space.f_frsize >= _PLENTY:
            return memory
    return None
