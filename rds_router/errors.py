"""Every exception of rds_router.

::

    RouterError
    ├── ConfigurationError      (also a ValueError) a setting that cannot work: its value, what is accepted
    │   └── PolicyError         a field of RoutingPolicy
    ├── StaleRead               a change rests on values read on a replica that are no longer true
    ├── NoServerAvailable       nobody may answer this statement now; carries the objections to each server
    └── RouterClosed            the router was used after close()
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ConfigurationError", "NoServerAvailable", "PolicyError", "RouterClosed", "RouterError", "StaleRead"]


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


class RouterClosed(RouterError):
    """The router was used after ``close()``."""
