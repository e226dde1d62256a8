"""TLS to the servers: chain and host name are verified unless somebody says otherwise.

Every driver has its own words for the same thing; here each is told. PyMySQL is given one finished context for all
connections: to load Amazon's bundle of 200 kB costs 20 to 30 ms of CPU, which it would do for each connect.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Final

from rds_router.credentials.anchors import LARGE, Anchors
from rds_router.credentials.base import Place
from rds_router.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Tls:
    """``Router(..., tls=Tls(ca="global-bundle.pem"))``. Raises ConfigurationError for files that cannot be used."""

    ca: str | os.PathLike[str] | None = None
    """PEM file with the authorities to trust; None: those of the machine, to which Amazon's own do not belong."""
    certificate: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    """PEM file with a certificate of one's own, where servers ask for it (mutual TLS)."""
    key: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    """PEM file with its key, without a passphrase; None: in the certificate's file."""
    check_host: bool = field(default=True, kw_only=True)
    """The certificate must be for the host that the URL names. False where one goes through a tunnel."""
    context: ssl.SSLContext = field(init=False, repr=False, compare=False)
    """For all connections of PyMySQL."""

    def __post_init__(self) -> None:
        for name in ("ca", "certificate", "key"):
            path = getattr(self, name)
            if path is not None and not os.path.isfile(path):
                raise ConfigurationError(f"Tls({name}=) is {os.fspath(path)!r}, but must be a file in PEM form")
        object.__setattr__(self, "context", self._made())

    def parameters(self, family: str, driver: str) -> dict[str, Any]:
        """Connect arguments for a DBAPI driver. Raises ConfigurationError for one that is not known here."""
        ca, certificate, key = (None if each is None else os.fspath(each) for each in self._files)
        if family in ("mysql", "mariadb") and driver == "pymysql":
            return {"ssl": self.context}
        if driver == "mysqldb" and ca is not None:
            files = {"ca": ca, "cert": certificate, "key": key}
            mode = "VERIFY_IDENTITY" if self.check_host else "VERIFY_CA"
            return {"ssl": {name: path for name, path in files.items() if path}, "ssl_mode": mode}
        if driver == "mysqlconnector" and ca is not None:
            given = {"ssl_ca": ca, "ssl_cert": certificate, "ssl_key": key, "ssl_verify_cert": True}
            given |= {"ssl_verify_identity": self.check_host, "tls_versions": ["TLSv1.2", "TLSv1.3"]}
            return {name: value for name, value in given.items() if value is not None}
        if family == "postgresql" and driver in ("psycopg", "psycopg2"):
            mode = "verify-full" if self.check_host else "verify-ca"
            given = {"sslmode": mode, "sslrootcert": ca or "system", "sslcert": certificate, "sslkey": key}
            given |= {"ssl_min_protocol_version": "TLSv1.2"}
            return {name: value for name, value in given.items() if value is not None}
        if driver in ("mysqldb", "mysqlconnector"):
            raise ConfigurationError(f"Tls() without ca= does not work with {driver}, which needs the file: name it")
        raise ConfigurationError(
            f"tls= does not know the driver {driver} of {family}: use pymysql, mysqldb, mysqlconnector, psycopg or "
            "psycopg2, or give the driver's own options in engine_options"
        )

    def anchors(self, driver: str) -> Anchors | None:
        """For a driver of libpq's, which reads the whole file for each connection, if that is large."""
        if self.ca is None or driver not in ("psycopg", "psycopg2") or os.path.getsize(self.ca) < LARGE:
            return None
        return Anchors(os.fspath(self.ca), self.context)

    def explained(self, error: BaseException, place: Place) -> str | None:
        """What failed, in words that end in what to do; None if it was not TLS."""
        text = str(error)
        where = f"{place.host}:{place.port}"
        look = f"see what it presents: rds-router tls {where}"
        trusted = f"the authorities in {os.fspath(self.ca)}" if self.ca else "this machine's authorities"
        if _NO_TLS.search(text):
            return f"{where} does not offer TLS, which tls= demands: turn it on there (nothing was sent to it)"
        if _WRONG_HOST.search(text):
            return (
                f"the certificate of {where} is for another host: connect by a name that is in it, or, through a "
                f"tunnel only, Tls(check_host=False); {look}"
            )
        if _OLD.search(text):
            return f"{where} speaks no TLS 1.2 or newer, which is the least that is accepted; {look}"
        if not _FAILED.search(text):
            return None
        expired = self._expired()
        if expired:
            return (
                f"the certificate of {where} is not verified, and of {trusted} these have expired: "
                f"{', '.join(expired)}: get the current bundle; {look}"
            )
        if "has expired" in text:
            return f"the certificate of {where} has expired: renew it there; {look}"
        return f"the certificate of {where} is signed by none of {trusted}, has expired or is for another host; {look}"

    @property
    def _files(self) -> tuple[Any, Any, Any]:
        return self.ca, self.certificate, self.key

    def _made(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        except (ssl.SSLError, OSError) as error:
            files = ", ".join(os.fspath(each) for each in self._files if each is not None)
            raise ConfigurationError(f"Tls cannot use {files}: {error}") from None
        # Python 3.13 turns it on; authorities of Amazon's and of MySQL's own making lack what it asks for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_host
        return context

    def _expired(self) -> list[str]:
        """Which of the authorities have."""
        if self.ca is None:
            return []
        return [
            f"{_common_name(each)} ({each['notAfter']})"
            for each in self.context.get_ca_certs()
            if ssl.cert_time_to_seconds(str(each["notAfter"])) < time.time()
        ]


def _no_passphrase() -> str:
    # Without this OpenSSL would ask at the terminal, and a server would stand still.
    raise OSError("the key has a passphrase, which nobody is here to type")


def _common_name(certificate: Any) -> str:
    subject = {name: value for part in certificate["subject"] for name, value in part}
    return str(subject.get("commonName") or subject.get("organizationalUnitName") or "?")


# The words of Python's ssl, of libpq and of MariaDB's and Oracle's C libraries.
_NO_TLS: Final = re.compile(
    r"SSL is required|does not support SSL|TLS is required|server does not support it|server doesn't support", re.I
)
_WRONG_HOST: Final = re.compile(
    r"hostname mismatch|IP address mismatch|does not match host name|doesn't match host|Hostname verification failed",
    re.I,
)
_OLD: Final = re.compile(r"unsupported protocol|protocol version|NO_PROTOCOLS|no protocols available", re.I)
_FAILED: Final = re.compile(
    r"certificate verify failed|certificate validation|validation of .* certificate|self[- ]signed|"
    r"certificate has expired|verification of peer",
    re.I,
)
