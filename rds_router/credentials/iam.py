"""IAM database authentication: a signed token in the place of a password.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html: a token lives for 15 minutes, is
made without asking anybody, and is sent as it is, so TLS is a must. There is a limit to new connections a second.
"""

from __future__ import annotations

import random as dice
import time
from collections.abc import Callable
from typing import Any, Final

from rds_router.core.endpoint import endpoint_of
from rds_router.credentials import aws
from rds_router.credentials.base import Answer, Place, Remembered, Secret
from rds_router.errors import ConfigurationError

LIFETIME: Final = 900.0
"""Seconds in which a connection can be opened with a token. Connections that are open live on."""


class IamAuth:
    """``Router(..., credentials=IamAuth())``: signs in with a token, for each server and user its own.

    ``region``: of the servers; by default what their names say, else AWS's own configuration. ``host``: what to sign
    for where the URL has an alias of the endpoint. Tokens are used for 8 to 12 of their 15 minutes, so that a fleet
    does not renew them all at once. Credentials of AWS itself are found as boto3 finds them: environment, profile,
    role of the instance or task.
    """

    sends_clear_text: Final = True

    def __init__(
        self,
        region: str | None = None,
        *,
        host: Callable[[Place], str] = lambda place: place.host,
        client: Callable[[str, str | None], Any] = aws.client,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = dice.random,
    ) -> None:
        self.region = region
        self._host = host
        self._client = client
        self._random = random
        self._clients: dict[str, Any] = {}
        self._tokens: Remembered[Secret] = Remembered(clock)

    def __repr__(self) -> str:
        return f"IamAuth(region={self.region!r})"

    def __call__(self, place: Place, /) -> Answer:
        return self._tokens.get(place, lambda: self._made(place))

    def renew(self, place: Place, refused: Answer, /) -> Answer:
        """A new token, unless somebody else has made one since."""
        return self._tokens.get(place, lambda: self._made(place), unless=Secret(refused))

    def _made(self, place: Place) -> tuple[Secret, float]:
        if not place.user:
            raise ConfigurationError(f"IamAuth needs a user for {place.name}: name it in the URL")
        host = self._host(place)
        region = self.region or endpoint_of(host).region
        if region not in self._clients:
            self._clients[region] = self._client("rds", region)
        token = self._clients[region].generate_db_auth_token(
            DBHostname=host, Port=place.port, DBUsername=place.user, Region=region or None
        )
        return Secret(token), LIFETIME * (0.55 + 0.25 * self._random())
