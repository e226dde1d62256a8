"""What a MySQL, MariaDB or PostgreSQL server presents when a client asks for TLS. Nobody signs in."""

from __future__ import annotations

import socket
import ssl
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Protocol: TypeAlias = Literal["mysql", "postgresql"]


class NoTls(Exception):
    """The server offers none, or does not speak either protocol."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One of a chain."""

    subject: str
    issuer: str
    not_before: str
    not_after: str
    names: tuple[str, ...] = ()
    """Host names and addresses that it is for."""

    @property
    def ends_at(self) -> float:
        """Seconds since 1970."""
        return float(ssl.cert_time_to_seconds(self.not_after))


@dataclass(frozen=True, slots=True)
class Presented:
    """What one server showed."""

    protocol: Protocol
    version: str
    """Of the connection: ``TLSv1.3``."""
    cipher: str
    chain: tuple[Certificate, ...]
    """The server's own certificate first."""
    versions: tuple[str, ...]
    """All that it accepts."""
    refusal: str = field(default="")
    """Why the chain or the name was not verified; empty if it was, or nobody asked."""


def presented(
    host: str, port: int, *, protocol: Protocol | None = None, ca: str | None = None, timeout: float = 5.0
) -> Presented:
    """Ask a server. ``ca``: verify against these authorities. Raises NoTls, or OSError if it cannot be reached."""
    protocol = protocol or _spoken(host, port, timeout)
    with _handshake(host, port, protocol, _open_context(), timeout) as secure:
        cipher = secure.cipher()
        found = Presented(
            protocol=protocol,
            version=secure.version() or "?",
            cipher=cipher[0] if cipher else "?",
            chain=tuple(_read(each.get_info()) for each in secure._sslobj.get_unverified_chain() or ()),  # type: ignore[attr-defined]
            versions=(),
        )
    accepted = tuple(name for name, each in _VERSIONS.items() if _accepts(host, port, protocol, each, timeout))
    refusal = "" if ca is None else _refusal(host, port, protocol, ca, timeout)
    return Presented(protocol, found.version, found.cipher, found.chain, accepted, refusal)


def anchor(host: str, port: int, context: ssl.SSLContext, *, timeout: float = 5.0) -> str:
    """The authority in which a PostgreSQL server's chain ends, as PEM, once ``context`` has verified chain and name."""
    with _handshake(host, port, "postgresql", context, timeout) as secure:
        (*_, last) = secure._sslobj.get_verified_chain()  # type: ignore[attr-defined]
        return ssl.DER_cert_to_PEM_cert(last.public_bytes(_DER))


def _accepts(host: str, port: int, protocol: Protocol, version: ssl.TLSVersion, timeout: float) -> bool:
    context = _open_context()
    with suppress(ValueError, OSError):  # this machine's OpenSSL may have been built without it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that is why it is asked for the old ones
            context.minimum_version = context.maximum_version = version
        with _handshake(host, port, protocol, context, timeout):
            return True
    return False


def _refusal(host: str, port: int, protocol: Protocol, ca: str, timeout: float) -> str:
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        with _handshake(host, port, protocol, context, timeout):
            return ""
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)


@contextmanager
def _handshake(
    host: str, port: int, protocol: Protocol, context: ssl.SSLContext, timeout: float
) -> Iterator[ssl.SSLSocket]:
    with socket.create_connection((host, port), timeout=timeout) as plain:
        (_ask_mysql if protocol == "mysql" else _ask_postgresql)(plain)
        with context.wrap_socket(plain, server_hostname=host) as secure:
            yield secure


def _spoken(host: str, port: int, timeout: float) -> Protocol:
    """A MySQL server speaks first, a PostgreSQL server never."""
    with socket.create_connection((host, port), timeout=timeout) as plain:
        plain.settimeout(min(timeout, _SILENCE))
        try:
            return "mysql" if plain.recv(1) else "postgresql"
        except TimeoutError:
            return "postgresql"


def _ask_mysql(plain: socket.socket) -> None:
    head = _exactly(plain, 4)
    greeting = _exactly(plain, int.from_bytes(head[:3], "little"))
    if greeting[:1] == b"\xff":
        raise NoTls(f"the server refuses connections: {greeting[3:].decode('utf-8', 'replace')}")
    place = greeting.index(b"\0", 1) + 14  # version, connection id, first part of the scramble, a filler
    (capabilities,) = struct.unpack_from("<H", greeting, place)
    if not capabilities & _SSL:
        raise NoTls("the server does not offer TLS")
    request = struct.pack("<IIB23x", _SSL | _PROTOCOL_41 | _SECURE_CONNECTION, 1 << 24, 45)
    plain.sendall(struct.pack("<I", len(request))[:3] + b"\1" + request)


def _ask_postgresql(plain: socket.socket) -> None:
    plain.sendall(struct.pack(">II", 8, 80877103))
    answer = plain.recv(1)
    if answer != b"S":
        raise NoTls("the server does not offer TLS" if answer == b"N" else "the server speaks another protocol")


def _open_context() -> ssl.SSLContext:
    """One that takes whatever is presented: it is only looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _read(info: Any) -> Certificate:
    return Certificate(
        subject=_name(info["subject"]),
        issuer=_name(info["issuer"]),
        not_before=info["notBefore"],
        not_after=info["notAfter"],
        names=tuple(value for _, value in info.get("subjectAltName", ())),
    )


def _name(parts: Any) -> str:
    return ", ".join(f"{_SHORT.get(key, key)}={value}" for part in parts for key, value in part)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise NoTls("the server closed the connection before it said anything")
        data += more
    return data


_SHORT: Final = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C"}
_VERSIONS: Final = {  # oldest first
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_DER: Final = 2  # _ssl.ENCODING_DER
_SILENCE: Final = 1.0
_SSL: Final = 1 << 11
_PROTOCOL_41: Final = 1 << 9
_SECURE_CONNECTION: Final = 1 << 15
