"""Stands in front of a MySQL or MariaDB server and changes what passes, as RDS does it, on the real protocol.

The login passes through as it is; a query is changed by ``rewrite``; everything else is passed on byte for byte.
``hides_tls`` and ``asks_for_clear_text``: what somebody in the middle would have the server say.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from rds_router.lab import Server

CLIENT_SSL = 1 << 11
COM_QUERY = 3
Rewrite = Callable[[str], str]


class MysqlFront:
    """Listens on 127.0.0.1; ``port`` leads to the server. A context manager."""

    def __init__(
        self,
        server: Server,
        *,
        rewrite: Rewrite = lambda sql: sql,
        hides_tls: bool = False,
        asks_for_clear_text: bool = False,
    ) -> None:
        self.server = server
        self.rewrite = rewrite
        self._hides_tls = hides_tls
        self._asks_for_clear_text = asks_for_clear_text
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"front {self.port}", daemon=True).start()

    def __enter__(self) -> MysqlFront:
        return self

    def __exit__(self, *_: object) -> None:
        # A listener that is closed while a thread waits in accept() goes on to accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End all connections."""
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name=f"front {self.port}", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, EOFError):
            server = socket.create_connection(("127.0.0.1", self.server.port), timeout=10)
            server.settimeout(None)
            with server:
                self._open |= {client, server}
                try:
                    self._talk(client, server)
                finally:
                    self._open -= {client, server}

    def _talk(self, client: socket.socket, server: socket.socket) -> None:
        number, greeting = read_packet(server)
        client.sendall(packet(number, without_capability(greeting, CLIENT_SSL) if self._hides_tls else greeting))
        if self._asks_for_clear_text:
            read_packet(client)
            client.sendall(packet(2, b"\xfemysql_clear_password\0"))
            read_packet(client)
            return
        back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
        back.start()
        try:
            while True:
                number, payload = read_packet(client)
                if number == 0 and payload[:1] == bytes([COM_QUERY]):
                    payload = self._rewritten(payload)
                server.sendall(packet(number, payload))
        finally:
            for each in (client, server):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            back.join()

    def _rewritten(self, payload: bytes) -> bytes:
        sql = payload[1:].decode("utf-8", "surrogateescape")
        return payload[:1] + self.rewrite(sql).encode("utf-8", "surrogateescape")


def read_packet(source: Any) -> tuple[int, bytes]:
    """The number and the payload of the next packet. Raises EOFError at the end."""
    head = _exactly(source, 4)
    return head[3], _exactly(source, int.from_bytes(head[:3], "little"))


def packet(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number]) + payload


def without_capability(greeting: bytes, capability: int) -> bytes:
    """A server's greeting that no longer offers something (the lower half of the capability flags)."""
    place = greeting.index(b"\0", 1) + 1 + 4 + 8 + 1  # version, connection id, first part of the scramble, filler
    (lower,) = struct.unpack_from("<H", greeting, place)
    return greeting[:place] + struct.pack("<H", lower & ~capability) + greeting[place + 2 :]


def _exactly(source: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
