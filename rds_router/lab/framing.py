"""Where packets end in a stream: the message framing of MySQL and PostgreSQL, and of TLS once they speak it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from typing import Protocol as TypingProtocol

Protocol: TypeAlias = Literal["", "mysql", "postgresql"]


class Framing(TypingProtocol):
    """One direction of one connection."""

    def ends(self, data: bytes) -> list[int]:
        """The offsets in ``data``, the stream's next bytes, behind each packet that ends there."""
        ...


def framings(protocol: Protocol) -> tuple[Framing, Framing]:
    """The framing towards the server and towards the client of one new connection."""
    if not protocol:
        return _Chunks(), _Chunks()
    talk = _Talk()
    if protocol == "mysql":
        return _Messages(_MySQLClient(talk)), _Messages(_MySQLServer(talk))
    return _Messages(_PostgreSQLClient(talk)), _Messages(_PostgreSQLServer(talk))


class _Chunks:
    """No protocol that is known: what came together is a packet."""

    def ends(self, data: bytes) -> list[int]:
        return [len(data)]


@dataclass(slots=True)
class _Talk:
    """What both directions of a connection must know."""

    is_tls: bool = False
    is_asked: bool = False
    """PostgreSQL's client has asked for encryption, and the answer is one byte."""


class _Side(TypingProtocol):
    """How the packets of one side begin."""

    def size(self) -> int:
        """Bytes to see of the next packet before its length is known."""
        ...

    def rest(self, head: bytes) -> int:
        """Bytes that follow those."""
        ...


class _Messages:
    def __init__(self, side: _Side) -> None:
        self._side = side
        self._head = b""
        self._rest: int | None = None

    def ends(self, data: bytes) -> list[int]:
        found: list[int] = []
        at = 0
        while at < len(data):
            if self._rest is None:
                wanted = self._side.size() - len(self._head)
                piece = data[at : at + wanted]
                self._head += piece
                at += len(piece)
                if len(piece) < wanted:
                    break
                self._rest = self._side.rest(self._head)
            step = min(self._rest, len(data) - at)
            at += step
            self._rest -= step
            if not self._rest:
                found.append(at)
                self._head, self._rest = b"", None
        return found


class _MySQLClient:
    def __init__(self, talk: _Talk) -> None:
        self._talk = talk
        self._is_first = True

    def size(self) -> int:
        return _TLS_HEAD if self._talk.is_tls else 8 if self._is_first else 4

    def rest(self, head: bytes) -> int:
        if self._talk.is_tls:
            return _tls_rest(head)
        rest = int.from_bytes(head[:3], "little") + 4 - len(head)
        if self._is_first:
            # The short form of the client's first packet: the rest of it follows within TLS.
            self._is_first = False
            self._talk.is_tls = bool(int.from_bytes(head[4:8], "little") & _CLIENT_SSL) and rest + 4 == 32
        return rest


class _MySQLServer:
    def __init__(self, talk: _Talk) -> None:
        self._talk = talk

    def size(self) -> int:
        return _TLS_HEAD if self._talk.is_tls else 4

    def rest(self, head: bytes) -> int:
        return _tls_rest(head) if self._talk.is_tls else int.from_bytes(head[:3], "little")


class _PostgreSQLClient:
    def __init__(self, talk: _Talk) -> None:
        self._talk = talk
        self._has_begun = False

    def size(self) -> int:
        # Until the session begins a message has no letter, but a code.
        return 5 if self._has_begun or self._talk.is_tls else 8

    def rest(self, head: bytes) -> int:
        if self._talk.is_tls:
            return _tls_rest(head)
        if self._has_begun:
            return int(struct.unpack("!I", head[1:5])[0]) - 4
        length, code = struct.unpack("!II", head)
        self._talk.is_asked = code in _ASKS_ENCRYPTION
        self._has_begun = not self._talk.is_asked
        return int(length) - 8


class _PostgreSQLServer:
    def __init__(self, talk: _Talk) -> None:
        self._talk = talk

    def size(self) -> int:
        return 1 if self._talk.is_asked else 5

    def rest(self, head: bytes) -> int:
        if self._talk.is_asked:
            self._talk.is_asked = False
            self._talk.is_tls = head in (b"S", b"G")
            return 0
        return _tls_rest(head) if self._talk.is_tls else int(struct.unpack("!I", head[1:5])[0]) - 4


def _tls_rest(head: bytes) -> int:
    return int(struct.unpack("!H", head[3:5])[0])


_TLS_HEAD: Final = 5
_CLIENT_SSL: Final = 0x800
_ASKS_ENCRYPTION: Final = (80877103, 80877104)
