"""Files kept between runs: data directories to copy from, made once a server version and recipe."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


def cache_dir() -> Path:
    """The folder for what is kept: ``RDS_ROUTER_LAB_CACHE``, else ``rds_router_lab`` in the user's cache folder."""
    own = os.environ.get("RDS_ROUTER_LAB_CACHE")
    if own:
        return Path(own)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "rds_router_lab"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rds_router_lab"


def template(key: str, build: Callable[[Path], None]) -> Path:
    """The template directory of that key; ``build(directory)`` fills it if it does not exist yet.

    Safe for several processes at once: one builds, the others wait. A build that fails leaves nothing.
    """
    home = cache_dir() / "templates"
    ready = home / key
    if ready.is_dir():
        return ready
    home.mkdir(parents=True, exist_ok=True)
    with file_lock(home / f"{key}.lock"):
        if not ready.is_dir():
            draft = home / f"{key}.draft"
            shutil.rmtree(draft, ignore_errors=True)
            try:
                build(draft)
                # A rename shows the whole template or none of it, to those who look without the lock.
                draft.rename(ready)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return ready


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file that is created if need be; waits for other processes and threads."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def copy_tree(source: Path, target: Path) -> None:
    """Copy a directory with owners and modes; blocks are shared where the file system can."""
    target.mkdir(parents=True, exist_ok=True)
    paths = [f"{source}/.", str(target)]
    if sys.platform == "linux":
        sharing = subprocess.run(["cp", "-a", "--reflink=auto", *paths], stderr=subprocess.DEVNULL, check=False)
        if sharing.returncode == 0:
            return
    subprocess.run(["cp", "-a", *paths], check=True)
