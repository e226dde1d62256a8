"""Programs that a benchmark starts, and ends whatever happens."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def program(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: IO[str], patience: float = 20.0
) -> Iterator[subprocess.Popen[bytes]]:
    """The program, while the block runs. It has ``patience`` seconds to end by itself."""
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
