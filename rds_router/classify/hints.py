"""What a statement itself asks for: ``execution_options(rds_reads=..., rds_route=..., rds_max_staleness=...)``.

Execution options are no part of a statement's cache key, so they are read from the statement every time.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, cast

from rds_router.core.contract import Contract, contract_of

Route = Literal["primary", "replica"]
"""The two places a statement may ask for."""

READS_OPTION: Final = "rds_reads"
ROUTE_OPTION: Final = "rds_route"
STALENESS_OPTION: Final = "rds_max_staleness"

_NONE: dict[str, Any] = {}


def route_of(clause: object) -> Route | None:
    """The statement's own wish, or None. Raises ValueError for anything but ``"primary"`` and ``"replica"``."""
    return route_from(getattr(clause, "_execution_options", _NONE))


def max_staleness_of(clause: object) -> float | None:
    """How old an answer the statement accepts, in seconds, or None. Raises ValueError for anything but a
    number that is zero or more."""
    return max_staleness_from(getattr(clause, "_execution_options", _NONE))


def route_from(options: Any) -> Route | None:
    """As :func:`route_of`, from a mapping of execution options."""
    wish = options.get(ROUTE_OPTION)
    if wish is None or wish == "primary" or wish == "replica":
        return cast("Route | None", wish)
    raise ValueError(f"execution option {ROUTE_OPTION}={wish!r}: use 'primary' or 'replica' (or None for no wish)")


def max_staleness_from(options: Any) -> float | None:
    """As :func:`max_staleness_of`, from a mapping of execution options."""
    seconds = options.get(STALENESS_OPTION)
    if seconds is None:
        return None
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds >= 0 and not math.isnan(seconds):
        return float(seconds)
    raise ValueError(
        f"execution option {STALENESS_OPTION}={seconds!r}: use a number of seconds, 0 or more "
        "(or None for the policy's own limit)"
    )


def reads_from(options: Any) -> Contract | None:
    """The contract that a mapping of execution options names, or None. Raises ValueError for what is none."""
    given = options.get(READS_OPTION)
    if given is None:
        return None
    try:
        return contract_of(given)
    except ValueError as error:
        raise ValueError(f"execution option {READS_OPTION}: {error}") from None
