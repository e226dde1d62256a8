"""The one authority that a server's certificate hangs on, in a file of its own.

libpq reads and parses its file of authorities for each connection: 17 ms of CPU for Amazon's bundle of 200 kB. So after
the first connection, which was verified by the whole bundle, the chain is verified once more here, and the authority in
which it ends is written to a small file for the connections that follow. That file trusts nobody whom the bundle does
not. When it does not do (the server hangs on another authority by now, the file was cleaned away), the bundle is taken
again; when the bundle changes, what was learnt from it is forgotten.
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from rds_router.credentials.base import Place
from rds_router.credentials.presented import anchor


class Anchors:
    """For all servers that are reached by one bundle. Thread-safe: at worst something is learnt twice."""

    def __init__(self, bundle: str, context: ssl.SSLContext) -> None:
        """``context`` trusts what the bundle holds."""
        self._bundle = bundle
        self._context = context
        self._seen = self._look()
        self._files: dict[Place, str] = {}

    def around(self, connect: Callable[..., Any], place: Place) -> Callable[..., Any]:
        """``connect`` of libpq's drivers, told the small file where there is one."""

        def connect_by_anchor(*arguments: Any, **parameters: Any) -> Any:
            if (seen := self._look()) != self._seen:
                self._seen, self._files = seen, {}
            small = self._files.get(place)
            if small:
                try:
                    return connect(*arguments, **{**parameters, "sslrootcert": small})
                except Exception as error:
                    if not _WRONG_FILE.search(str(error)):
                        raise
            connection = connect(*arguments, **parameters)
            if small != "":
                self._files[place] = self._learnt(place)
            return connection

        return connect_by_anchor

    def _learnt(self, place: Place) -> str:
        """A file with the server's authority; empty if that cannot be found out, and is not tried again."""
        with suppress(Exception):  # the connection is there: whatever goes wrong here costs some milliseconds a connect
            text = anchor(place.host, place.port, self._context)
            number, path = tempfile.mkstemp(prefix="rds_router-", suffix=".pem")
            weakref.finalize(self, _remove, path, os.getpid())
            with open(number, "w", encoding="ascii") as file:
                file.write(text)
            return path
        return ""

    def _look(self) -> tuple[int, int]:
        try:
            found = os.stat(self._bundle)
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner:  # else this is a forked child that ends
        with suppress(OSError):
            os.unlink(path)


LARGE: Final = 16_000
"""Bytes: below that, reading all of it takes no time to speak of."""
_WRONG_FILE: Final = re.compile(r"certificate verify failed|root certificate file", re.I)
