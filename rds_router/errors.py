"""Every exception of rds_router.

::

    RouterError
    ├── ConfigurationError      (also a ValueError) a setting that cannot work: its value, what is accepted
    │   └── PolicyError         a field of RoutingPolicy
    ├── StaleRead               a change rests on values read on a replica that are no longer true
    ├── NoServerAvailable       nobody may answer this statement now; carries the objections to each server
    │   └── NoPrimary           there is no primary: nothing was sent
    ├── PrimaryChanged          (also the DBAPIError that SQLAlchemy would have raised) the primary refused a write
    ├── CommitInDoubt           a COMMIT's answer was lost, and nobody could be asked what became of it
    ├── DiscoveryError          nobody told who belongs to the cluster
    └── RouterClosed            the router was used after close()
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CommitInDoubt",
    "ConfigurationError",
    "DiscoveryError",
    "NoPrimary",
    "NoServerAvailable",
    "PolicyError",
    "PrimaryChanged",
    "RouterClosed",
    "RouterError",
    "StaleRead",
]


class RouterError(Exception):
    """Base of all errors of rds_router."""


class ConfigurationError(RouterError, ValueError):
    """A setting that cannot work. The text names the setting, its value and what is accepted."""


class PolicyError(ConfigurationError):
    """A field of :class:`~rds_router.RoutingPolicy` has a value that is not accepted."""

    def __init__(self, field: str, value: object, accepted: str) -> None:
        super().__init__(f"policy field {field!r} is {value!r}, but must be {accepted}")
        self.field = field
        self.value = value
        self.accepted = accepted


class NoServerAvailable(RouterError):
    """No server may answer this statement now, and the policy forbids the last resort."""

    def __init__(self, message: str, objections: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.objections = tuple(objections)


class StaleRead(RouterError):
    """A change rests on values that were read on a replica and are others on the primary (``stale_writes``).

    Nothing of the flush was sent. Roll back, read on the primary, and change it again.
    """

    def __init__(self, message: str, objects: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.objects = tuple(objects)
        """The objects, as ``Post(7)``."""


class NoPrimary(NoServerAvailable):
    """There is no primary, and the time to wait for one is over. Nothing was sent: it is safe to try again later.

    The text says since when, what each server said last, and how long was waited. ``__cause__`` is the driver's error
    if a connection was tried.
    """

    def __init__(self, message: str, objections: Sequence[str] = (), *, waited: float = 0.0) -> None:
        super().__init__(message, objections)
        self.waited = waited
        """Seconds."""


class ReadElsewhere(RouterError):
    """A read that waits for the primary need not: replicas may answer again. It is decided anew; nobody sees this."""


class WrongServer(NoPrimary):
    """A new connection to the primary leads to a server that is not it. The router tries again.

    Only who connects past the router, to an engine of his own choice, sees this. Others see NoPrimary.
    """


class PrimaryChanged(RouterError):
    """The primary refused a write: it was demoted, and another server is, or will be, the primary.

    An instance is also of the class that SQLAlchemy would have raised (``OperationalError``, ``InternalError``), with
    its ``orig``, ``statement`` and ``connection_invalidated``: the pool of that server has been let go, all servers are
    being asked, and the next transaction goes to the new primary.
    """

    server: str
    """The server that refused."""
    safe_to_repeat: bool
    """True: nothing of the transaction was done, it may be run again from its beginning. False in AUTOCOMMIT: the
    refused statement changed nothing, but those before it stand. (That MySQL commits by itself at DDL is not seen.)"""


class CommitInDoubt(RouterError):
    """The answer to a COMMIT was lost, and what became of it could not be found out in time.

    The transaction may have been done: look before you run it again. ``__cause__`` is the driver's error.
    """


class DiscoveryError(RouterError):
    """Nobody told who belongs to the cluster. Says who was asked, and what to do."""


class RouterClosed(RouterError):
    """The router was used after ``close()``."""
