"""Where the server programs of this machine are."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from rds_router.lab.cache import cache_dir
from rds_router.lab.errors import EngineMissing


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one engine."""

    server: Path
    """``mariadbd``, ``mysqld`` or ``postgres``."""
    installer: Path
    """What makes an empty data directory: ``mariadb-install-db``, ``mysqld`` itself, ``initdb``."""
    version: str
    """As the server says it: ``10.11.19``."""


@dataclass(frozen=True, slots=True)
class _Kind:
    servers: tuple[str, ...]
    installers: tuple[str, ...]
    is_mariadb: bool
    how_to_get: str


_KINDS = {
    "mariadb": _Kind(("mariadbd", "mysqld"), ("mariadb-install-db",), True, "apt-get install mariadb-server"),
    "mysql": _Kind(("mysqld",), ("mysqld",), False, "run .ci/servers/install.sh mysql, or install it from mysql.com"),
    "postgresql": _Kind(("postgres",), ("initdb",), False, "apt-get install postgresql"),
}

LOCAL_ENGINES = tuple(_KINDS)
"""Engines that need a server program."""


def find(engine: str) -> Binaries:
    """The programs of that engine.

    Looks in the folder ``RDS_ROUTER_LAB_<ENGINE>_BIN`` and, only if that is not set, on PATH, in the usual places and
    in the lab's own cache. Raises EngineMissing, saying where it looked and how to get them.
    """
    kind = _KINDS[engine]
    variable = f"RDS_ROUTER_LAB_{engine.upper()}_BIN"
    given = os.environ.get(variable)
    folders = [Path(given)] if given else list(_usual_folders(engine))
    for server in _named(folders, kind.servers):
        version = _version(server, server.stat().st_mtime_ns)
        # Debian's MariaDB calls itself mysqld too.
        if engine != "postgresql" and ("MariaDB" in version) is not kind.is_mariadb:
            continue
        beside = [*folders, server.parent, server.parent.parent / "bin", server.parent.parent / "scripts"]
        for installer in _named([*beside, *_usual_folders(engine)], kind.installers):
            return Binaries(server, server if installer.name == server.name else installer, _number(version))
    where = f"{variable}={given}" if given else f"PATH, {', '.join(_FOLDERS)} or {variable}"
    raise EngineMissing(
        f"no {engine} server here: none of {', '.join(kind.servers)} in {where}; to get it: {kind.how_to_get}"
    )


_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/lib/postgresql/*/bin")


def _usual_folders(engine: str) -> Iterable[Path]:
    if engine == "mysql":
        yield cache_dir() / "mysql" / "bin"
    if engine == "postgresql":
        # Newest first; and before PATH, where a link may hide initdb's siblings.
        for folder in sorted(glob("/usr/lib/postgresql/*/bin"), key=_numbers, reverse=True):
            yield Path(folder)
    yield from (Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder)
    for pattern in (*_FOLDERS[:3], "/usr/bin", "/opt/homebrew/bin", f"/opt/homebrew/opt/{engine}*/bin"):
        yield from (Path(folder) for folder in sorted(glob(pattern), reverse=True))


def _named(folders: Iterable[Path], names: Iterable[str]) -> Iterable[Path]:
    wanted = tuple(names)
    for folder in folders:
        for name in wanted:
            found = shutil.which(name, path=str(folder))
            if found:
                yield Path(found)


@functools.cache
def _version(server: Path, changed: int) -> str:
    """The one line the program prints about itself; asked once a process, or again if the file changed."""
    try:
        done = subprocess.run([str(server), "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _number(version: str) -> str:
    found = re.search(r"\d+\.\d[\d.]*", version)
    return found.group() if found else "unknown"


def _numbers(path: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", path)]
