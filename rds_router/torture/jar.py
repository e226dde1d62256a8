"""The cookies of all clients: a folder with a file for each, shared by all processes.

A client waits for his answer before he asks again: whoever serves him holds the lock of his file.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rds_router.lab.torture.history import Action
from rds_router.lab.torture.workload import Draw, Operation


@dataclass(slots=True)
class Cookie:
    """What a client's browser brings along."""

    client: int
    token: str = ""
    """What he has written, ..."""
    trail: str = ""
    """... and seen: the texts that Flask's cookies carry."""
    last: Operation | None = None
    """His last write, which he is likely to look at."""


class Jar:
    """All cookies. ``folder`` is the same for all processes."""

    def __init__(self, folder: Path, clients: int) -> None:
        self._folder = folder
        self._clients = clients

    @contextmanager
    def borrow(self, draw: Draw) -> Iterator[Cookie]:
        """The cookie of some client whom nobody serves now; it is put back as the block left it."""
        while True:
            client = int(draw() * self._clients)
            file = os.open(self._folder / f"{client}.cookie", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            try:
                cookie = _read(client, os.pread(file, 65536, 0))
                try:
                    yield cookie
                finally:
                    text = _text(cookie)
                    os.pwrite(file, text, 0)
                    os.ftruncate(file, len(text))
            finally:
                os.close(file)
            return


def _read(client: int, text: bytes) -> Cookie:
    if not text:
        return Cookie(client)
    token, trail, last = json.loads(text)
    return Cookie(client, token, trail, Operation(Action(last[0]), last[1]) if last else None)


def _text(cookie: Cookie) -> bytes:
    last = (cookie.last.action.value, cookie.last.key) if cookie.last else None
    return json.dumps([cookie.token, cookie.trail, last]).encode()
