"""Where a benchmark ran: the machine, the programs and their versions, and how busy it all was."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from benchmarks.load import loader

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = (
    "rds-router", "SQLAlchemy", "Flask", "Flask-SQLAlchemy", "gunicorn", "PyMySQL", "psycopg", "pytest-benchmark",
)  # fmt: skip


def describe(*, seed: int, is_quick: bool, runtime: str) -> dict[str, Any]:
    """What is known before anything is measured. Server versions are added by whoever starts the servers."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "memory": memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: found for name in PACKAGES if (found := _installed(name))},
        "servers": {},
        "runtime": runtime,
        "loader": loader(),
        "seed": seed,
        "length": "quick: shows that it runs; its figures rest on little" if is_quick else "full",
        "load_average_before": load_average(),
    }


def machine() -> str:
    """A name for the machine in file names: what it is, not what it is called."""
    words = re.sub(r"\(R\)|\(TM\)|CPU|Processor|@.*|\d+-Core", " ", processor())
    return re.sub(r"[^a-z0-9]+", "-", f"{words} {os.cpu_count()} cores".lower()).strip("-")


def processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    except (ValueError, OSError):
        return ""


def load_average() -> str:
    """Of 1, 5 and 15 minutes."""
    return " ".join(f"{each:.2f}" for each in os.getloadavg())


def commit() -> str:
    """The commit that is measured, and whether files differ from it."""
    with suppress(OSError, subprocess.CalledProcessError):
        found = _git("rev-parse", "--short=12", "HEAD")
        return f"{found}, with changes" if _git("status", "--porcelain", "--untracked-files=no") else found
    return "not a checkout"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
