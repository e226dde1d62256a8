"""Certificates for tests: an authority, servers and clients of it, and the same authority as it was when it expired."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates. ``ca`` is what clients trust."""

    def __init__(self, folder: Path, name: str = "rds_router tests") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca = self._write(f"{name}.pem", self._own_certificate(days=30))
        self.expired_ca = self._write(f"{name} expired.pem", self._own_certificate(days=-1))
        """The same authority with the same key, in a certificate of its own that ended yesterday."""

    def issue(self, name: str, *hosts: str) -> Identity:
        """A certificate for a server with these names and addresses, or for a client called ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key(), days=30)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(each) for each in hosts]), False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Identity(self._write(f"{name}.crt", certificate), self._write_key(f"{name}.key", key))

    def _own_certificate(self, *, days: int) -> x509.Certificate:
        builder = self._builder(self._name, self._key.public_key(), days=days)
        return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(
            self._key, hashes.SHA256()
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * _DAY)
            .not_valid_after(now + days * _DAY)
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self._folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def _write_key(self, name: str, key: ec.EllipticCurvePrivateKey) -> Path:
        path = self._folder / name
        path.touch(mode=0o600)
        form = serialization.PrivateFormat.TraditionalOpenSSL
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return path


def bundle(path: Path, authority: Path, *, size: int = 200_000) -> Path:
    """A file as large as Amazon's, the authority's own certificate at its end."""
    others = Authority(path.parent, "another authority")
    certificate = others.ca.read_text()
    pieces = []
    while sum(map(len, pieces)) < size:
        other = Authority(path.parent, f"authority {len(pieces)}")
        pieces.append(other.ca.read_text())
        other.ca.unlink()
        other.expired_ca.unlink()
    path.write_text("".join([certificate, *pieces, authority.read_text()]))
    return path


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
