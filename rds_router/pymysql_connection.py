"""A PyMySQL connection that shares its TLS context, hears what the server tells with its OK packets, and does not wait
for a silent server for ever.

After a commit that wrote, MySQL (``session_track_gtids``) and MariaDB (``session_track_system_variables``) name the
new GTID in the OK packet of that very commit: a position without a round trip. PyMySQL neither asks for these bytes
nor reads them. https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_ok_packet.html
"""

from __future__ import annotations

import io
import math
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from typing import Any, Final

from pymysql.connections import Connection
from pymysql.constants import CLIENT, CR
from pymysql.err import MySQLError, OperationalError

from rds_router.core.position import MariaDBGtidList, MySQLGtidSet
from rds_router.patience import Patience

_SESSION_TRACK: Final = 1 << 23
"""CLIENT_SESSION_TRACK: OK packets may carry session state."""
_STATE_CHANGED: Final = 0x4000
"""SERVER_SESSION_STATE_CHANGED: this OK packet does."""
_SYSTEM_VARIABLE: Final = 0
_GTIDS: Final = 3
_MANY: Final = 100
_TRACK: Final = {
    False: ("SELECT @@global.gtid_mode IN ('ON', 'ON_PERMISSIVE')", "SET SESSION session_track_gtids = OWN_GTID"),
    True: ("SELECT @@global.log_bin", "SET SESSION session_track_system_variables = 'last_gtid'"),
}
"""Is MariaDB -> does this server give GTIDs at all, and what makes it tell those of a session's own commits."""


def connection_class(patience: Patience | None = None) -> type[Connection]:
    """A new connection class, for one engine: its connections share one TLS context for each set of TLS settings.

    PyMySQL builds a context for each connect, 22 to 33 ms of CPU, also when nothing was said about TLS.
    ``patience``: how long they wait for a server that is silent; a ``read_timeout`` of the user's own holds as well.
    """
    contexts: dict[str, ssl.SSLContext] = {}
    lock = threading.Lock()

    class EngineConnection(ToldConnection):
        _rds_patience = patience

        def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
            if isinstance(sslp, ssl.SSLContext):
                return sslp
            key = repr(sorted(sslp.items()))
            found = contexts.get(key)
            if found is not None:
                return found
            # A forked child may have inherited the lock held by nobody: then it builds its own all the same.
            is_mine = lock.acquire(timeout=1.0)
            try:
                if key not in contexts:
                    contexts[key] = super()._create_ssl_ctx(sslp)
                return contexts[key]
            finally:
                if is_mine:
                    lock.release()

    return EngineConnection


class ToldConnection(Connection):  # type: ignore[misc]  # PyMySQL has no types
    """Remembers the GTIDs that the server told since it was last made to forget."""

    rds_positions: tuple[str, ...] = ()
    """GTIDs of what this session committed, each as told: a transaction may commit on its way (DDL, CALL)."""
    rds_is_told: bool = False
    """The server was asked to tell them."""
    _rds_patience: Patience | None = None
    _rds_longest: float = math.inf
    """Seconds after which a read ends whoever is heard of: a read_timeout of the user's own."""
    _rds_is_patient: bool = False
    """That was put aside."""
    _read_timeout: float | None
    _rfile: Any
    _sock: Any

    def connect(self, sock: Any = None) -> None:
        patience = self._rds_patience
        if not self._rds_is_patient and self._read_timeout is not None:  # else it connects once more: ping() does
            self._rds_longest = self._read_timeout
        if patience is None or self._rds_longest <= patience.seconds:
            super().connect(sock)
            return
        self._rds_is_patient = True
        # connect_timeout does not cover the handshake's reads.
        self._read_timeout = patience.seconds
        super().connect(sock)
        # Whatever the handshake sent has been read: nothing is lost with the old buffer.
        self._rfile.close()
        self._rfile = io.BufferedReader(_PatientReader(self._sock, patience, self._rds_longest))
        self._read_timeout = patience.seconds / 2

    def rds_track(self) -> None:
        """Ask the server to tell. Where it cannot, nothing changes. Two round trips a connection."""
        if not self.client_flag & _SESSION_TRACK:
            return
        gives_gtids, track = _TRACK[self._is_mariadb]
        try:
            with self.cursor() as cursor:
                cursor.execute(gives_gtids)
                # A silent server would be taken for one where nothing was written.
                if cursor.fetchone() == (1,):
                    cursor.execute(track)
                    self.rds_is_told = True
        except MySQLError:
            if not self.open:
                raise

    def rds_forget(self, wanted: object) -> None:
        """A transaction begins: what was committed earlier is not its. Told in any case, ``wanted`` or not."""
        self.rds_positions = ()

    def rds_told(self) -> str | None:
        """The GTIDs of what was committed since; empty if nothing was; None if this connection is not told."""
        return ",".join(self.rds_positions) if self.rds_is_told else None

    def _request_authentication(self) -> None:
        context = getattr(self, "ctx", None)
        if (
            context is not None
            and context.verify_mode is ssl.CERT_REQUIRED
            and not self.server_capabilities & CLIENT.SSL
        ):
            # Before 1.2 PyMySQL would go on without.
            raise OperationalError(CR.CR_SSL_CONNECTION_ERROR, "SSL is required but the server doesn't support it")
        if self.server_capabilities & _SESSION_TRACK:
            self.client_flag |= _SESSION_TRACK
        super()._request_authentication()

    def _process_auth(self, plugin_name: bytes, auth_packet: Any, handler: Any = None) -> Any:
        if plugin_name == b"mysql_clear_password" and not self._secure:
            raise OperationalError(
                CR.CR_AUTH_PLUGIN_CANNOT_LOAD,
                "the server asks for the password in clear text, outside of TLS: not sent",
            )
        return super()._process_auth(plugin_name, auth_packet, handler)

    def _read_ok_packet(self) -> Any:
        packet = super()._read_ok_packet()
        self._hear(packet.server_status, packet.message)
        return packet

    def _read_query_result(self, unbuffered: bool = False) -> Any:
        affected = super()._read_query_result(unbuffered)
        result = self._result
        if result is not None and result.message:
            self._hear(result.server_status, result.message)
        return affected

    def _hear(self, status: int | None, message: bytes) -> None:
        if status is not None and status & _STATE_CHANGED and self.client_flag & _SESSION_TRACK:
            position = gtids_in(message)
            if position:
                self.rds_positions = (*self._condensed(), position)

    def _condensed(self) -> tuple[str, ...]:
        """What was told so far; on an autocommitting engine that may be a GTID for each of many statements."""
        if len(self.rds_positions) < _MANY:
            return self.rds_positions
        flavour = MariaDBGtidList if self._is_mariadb else MySQLGtidSet
        return (str(flavour.parse(",".join(self.rds_positions))),)

    @property
    def _is_mariadb(self) -> bool:
        return "mariadb" in self.get_server_info().lower()


class _PatientReader(io.RawIOBase):
    """What socket.makefile() reads from, but for a time-out: that may not be the end."""

    def __init__(self, sock: socket.socket, patience: Patience, longest: float = math.inf) -> None:
        self._socket = sock
        self._patience = patience
        self._longest = longest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return self._socket.recv_into(buffer)
        except TimeoutError:
            return self._read_on(buffer)

    def _read_on(self, buffer: Any) -> int:
        usual = self._socket.gettimeout() or 0.0
        since = self._patience.clock() - usual
        while (left := self._patience.left(since)) > 0:
            rest = since + self._longest - self._patience.clock()
            if rest <= 0:
                raise TimeoutError(f"timed out after {self._longest:g} s (read_timeout)")
            self._socket.settimeout(min(left, rest))
            try:
                count = self._socket.recv_into(buffer)
            except TimeoutError:
                continue
            self._socket.settimeout(usual)
            return count
        raise TimeoutError(self._patience.words)


def gtids_in(message: bytes) -> str | None:
    """The GTIDs in the tail of an OK packet, or None. Bytes that are not understood hold none."""
    try:
        _, message = _string(message)  # the human-readable part
        state, _ = _string(message)
        for kind, data in _entries(state):
            if kind == _GTIDS:
                return _string(data[1:])[0].decode("ascii")
            if kind == _SYSTEM_VARIABLE:
                name, rest = _string(data)
                if name == b"last_gtid":
                    return _string(rest)[0].decode("ascii")
    except (IndexError, struct.error, UnicodeDecodeError):
        return None
    return None


def _entries(state: bytes) -> Iterator[tuple[int, bytes]]:
    while state:
        data, rest = _string(state[1:])
        yield state[0], data
        state = rest


def _string(data: bytes) -> tuple[bytes, bytes]:
    """A length-encoded string and what follows it."""
    first = data[0]
    if first < 0xFB:
        size, start = first, 1
    elif first == 0xFC:
        size, start = struct.unpack_from("<H", data, 1)[0], 3
    elif first == 0xFD:
        size, start = int.from_bytes(data[1:4], "little"), 4
    else:
        size, start = struct.unpack_from("<Q", data, 1)[0], 9
    return data[start : start + size], data[start + size :]
