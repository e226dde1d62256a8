"""Free TCP ports on 127.0.0.1 that stay ours while this process lives, also while a server is down."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import threading
from collections.abc import Iterable

from rds_router.lab.cache import cache_dir
from rds_router.lab.errors import LabError

# Below Linux's range for outgoing connections (32768 on): none of those can take a port between two starts.
_FIRST, _LAST = 20_000, 32_000

_guard = threading.Lock()
_taken: set[int] = set()
_register: dict[int, int] = {}
"""Process id -> descriptor of the lock file. Record locks are not inherited, so a forked child opens its own."""


def reserve(count: int) -> list[int]:
    """Distinct ports nobody listens on; reserved against other labs of this user until released."""
    found: list[int] = []
    with _guard:
        for port in random.sample(range(_FIRST, _LAST), _LAST - _FIRST):
            if len(found) == count:
                return found
            if port not in _taken and _is_free(port) and _lock(port):
                _taken.add(port)
                found.append(port)
    raise LabError(f"no {count} free ports between {_FIRST} and {_LAST} on 127.0.0.1")


def release(ports: Iterable[int]) -> None:
    """Give ports back. Giving one back twice does no harm."""
    with _guard:
        for port in set(ports) & _taken:
            _taken.discard(port)
            fcntl.lockf(_descriptor(), fcntl.LOCK_UN, 1, port)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Servers set it too: a port whose last connection lingers in TIME_WAIT is free to them.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _lock(port: int) -> bool:
    try:
        fcntl.lockf(_descriptor(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def _descriptor() -> int:
    """The lock file, one byte a port. Never closed: closing any descriptor of it drops all record locks."""
    pid = os.getpid()
    if pid not in _register:
        cache_dir().mkdir(parents=True, exist_ok=True)
        _register[pid] = os.open(cache_dir() / "ports.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return _register[pid]
