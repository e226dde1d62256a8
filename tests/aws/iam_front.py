"""Signs in as RDS does with IAM: asks for the token in clear text inside TLS, and judges it itself.

Behind it is a real server, which gets an ordinary login; from then on bytes pass through unchanged.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from rds_router.lab import Server
from rds_router.lab.engines.base import APP
from rds_router.pymysql_connection import ToldConnection
from tests.aws.certificates import Identity
from tests.aws.mysql_front import CLIENT_SSL, packet, read_packet

IsGood = Callable[[str, str], bool]
"""(user, token) -> let in."""
_OK = b"\0\0\0\2\0\0\0"


class IamFront:
    """A context manager; ``port`` leads to the server. ``logins`` are the users and tokens that were sent."""

    def __init__(self, server: Server, identity: Identity, is_good: IsGood) -> None:
        self.logins: list[tuple[str, str]] = []
        self._server = server
        self._is_good = is_good
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(Path(identity.certificate), Path(identity.key))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> IamFront:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), client:
            with socket.create_connection(("127.0.0.1", self._server.port)) as asked:
                _, greeting = read_packet(asked)
            client.sendall(packet(0, _with_tls(greeting)))
            read_packet(client)  # the request for TLS
            with self._context.wrap_socket(client, server_side=True) as secure:
                _, response = read_packet(secure)
                (flags,) = struct.unpack_from("<I", response)
                user = response[32 : response.index(b"\0", 32)].decode()
                secure.sendall(packet(3, b"\xfemysql_clear_password\0"))
                _, answer = read_packet(secure)
                token = answer.rstrip(b"\0").decode()
                self.logins.append((user, token))
                if not self._is_good(user, token):
                    refusal = f"Access denied for user '{user}'@'127.0.0.1' (using password: YES)"
                    secure.sendall(packet(5, b"\xff" + struct.pack("<H", 1045) + b"#28000" + refusal.encode()))
                    return
                self._pass_on(secure, flags & ~CLIENT_SSL)

    def _pass_on(self, client: ssl.SSLSocket, flags: int) -> None:
        server = ToldConnection(
            host="127.0.0.1", port=self._server.port, user=APP[0], password=APP[1], database="app", ssl_disabled=True,
            defer_connect=True, client_flag=flags,
        )  # fmt: skip
        server.connect()
        upstream: socket.socket = server._sock
        client.sendall(packet(5, _OK))
        back = threading.Thread(target=_answers, args=(upstream, client), daemon=True)
        back.start()
        try:
            while data := client.recv(65536):
                upstream.sendall(data)
        finally:
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)
            back.join()
            server._force_close()


def _answers(upstream: socket.socket, client: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError):
        while data := upstream.recv(65536):
            client.sendall(data)


def _with_tls(greeting: bytes) -> bytes:
    place = greeting.index(b"\0", 1) + 1 + 4 + 8 + 1
    (lower,) = struct.unpack_from("<H", greeting, place)
    return greeting[:place] + struct.pack("<H", lower | CLIENT_SSL) + greeting[place + 2 :]
