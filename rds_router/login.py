"""How a connection is opened: with whose password, and inside which TLS.

What the URL and the engine options say counts where nothing better was given. A password that a server refuses is
asked for anew once, and only tried if it is another one: it was rotated, or a token has expired.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy.engine import URL

from rds_router.credentials import Answer, Credentials, Place, Renewable, Secret, Tls
from rds_router.credentials.anchors import Anchors
from rds_router.dialects import dialect_for
from rds_router.dialects.base import Verdict
from rds_router.drivers import Opening, as_told
from rds_router.errors import ConfigurationError
from rds_router.servers import DEFAULT_PORTS


class Login:
    """The credentials and the TLS of one router."""

    def __init__(
        self, credentials: Credentials | None, tls: Tls | None, *, renewed: Callable[[str], None] = lambda name: None
    ) -> None:
        """Raises ConfigurationError for what cannot work. ``renewed`` is told the server that refused."""
        if credentials is not None and not callable(credentials):
            raise ConfigurationError(
                f"credentials is a {type(credentials).__name__}, but must be a callable: IamAuth(), SecretsManager(), "
                "or a function that takes a Place and returns the password"
            )
        if tls is not None and not isinstance(tls, Tls):
            raise ConfigurationError(f"tls is a {type(tls).__name__}, but must be a Tls(ca=...)")
        if getattr(credentials, "sends_clear_text", False) and tls is None:
            raise ConfigurationError(
                f"{credentials!r} sends its token as it is, so it needs verified TLS: give tls=Tls(ca=...), for "
                "Amazon RDS with https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
            )
        self._credentials = credentials
        self._tls = tls
        self._renewed = renewed
        self._anchors: dict[str, Anchors | None] = {}

    def opening(self, url: URL, name: str) -> Opening:
        """How to connect to one server. Raises ConfigurationError for a driver that cannot."""
        if self._credentials is None and self._tls is None:
            return as_told
        family, driver = url.get_backend_name(), url.get_driver_name()
        encryption = self._tls.parameters(family, driver) if self._tls is not None else {}
        anchors = self._anchors.setdefault(driver, self._tls.anchors(driver)) if self._tls is not None else None
        place = Place(
            name, url.host or "", url.port or DEFAULT_PORTS.get(family, 0), url.username or "", url.database or ""
        )
        verdict_of = dialect_for(family).verdict_of_error

        def open_one(connect: Callable[..., Any], arguments: Any, parameters: dict[str, Any]) -> Any:
            if encryption:
                # What it was told in the driver's own words, perhaps with no verification, counts no more.
                parameters = {key: value for key, value in parameters.items() if not key.startswith("ssl")} | encryption
            if anchors is not None:
                connect = anchors.around(connect, place)
            answer = again = self._asked(place)
            try:
                return _connected(connect, arguments, parameters | _as_arguments(answer, driver))
            except Exception as error:
                refusal = self._told(error, place)
                if verdict_of(error) is Verdict.LOGIN:
                    again = self._asked_again(place, answer)
            if again == answer:
                raise refusal
            self._renewed(name)
            try:
                return _connected(connect, arguments, parameters | _as_arguments(again, driver))
            except Exception as error:
                refusal = self._told(error, place)
            raise refusal

        return open_one

    def _asked(self, place: Place) -> Answer | None:
        return None if self._credentials is None else _kept_secret(self._credentials(place), self._credentials)

    def _asked_again(self, place: Place, refused: Answer | None) -> Answer | None:
        if self._credentials is None or refused is None:
            return None
        if isinstance(self._credentials, Renewable):
            return _kept_secret(self._credentials.renew(place, refused), self._credentials)
        return self._asked(place)

    def _told(self, error: Exception, place: Place) -> Exception:
        """The error in plain words, and without the driver's frames, which know the password."""
        plain = self._tls.explained(error, place) if self._tls is not None else None
        if plain is not None:
            # Of the same class and with the same number: SQLAlchemy and the dialect judge it by these.
            error = (
                type(error)(*error.args[:1], plain)
                if isinstance(next(iter(error.args), None), int)
                else type(error)(plain)
            )
        elif hasattr(error, "pgconn"):
            error = type(error)(*error.args)  # psycopg's own has the whole connection with it, password included
        return error.with_traceback(None)


def _connected(connect: Callable[..., Any], arguments: Any, parameters: dict[str, Any]) -> Any:
    """A connection, at a second attempt if the first failed by a fault of the driver's.

    MariaDB's C library loads a login plugin when it is first needed. Of two threads that need one at the same time the
    second is told "could not be loaded: it is already loaded", by the number of a refused login (1045).
    """
    try:
        return connect(*arguments, **parameters)
    except Exception as error:
        if not _LOADED_TWICE.search(str(error)):
            raise
    return connect(*arguments, **parameters)


def _kept_secret(answer: object, source: Credentials) -> Answer:
    """The answer in a form that tells nothing when it is shown. Raises ConfigurationError for anything else."""
    if isinstance(answer, str):
        return Secret(answer)
    if isinstance(answer, tuple) and len(answer) == 2 and all(isinstance(each, str) for each in answer):
        return answer[0], Secret(answer[1])
    name = getattr(source, "__qualname__", type(source).__qualname__)
    raise ConfigurationError(f"the credentials {name} answered with neither a password nor (user, password), both str")


_LOADED_TWICE: Final = re.compile(r"plugin \S+ could not be loaded: it is already loaded", re.I)


def _as_arguments(answer: Answer | None, driver: str) -> dict[str, str]:
    if answer is None:
        return {}
    password = "passwd" if driver == "mysqldb" else "password"
    return {password: answer} if isinstance(answer, str) else {"user": answer[0], password: answer[1]}
