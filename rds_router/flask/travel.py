"""What a client has written and seen, on its way from one of his requests to the next, whichever worker answers it.

1. Two things travel, each as a signed text with its time, in a cookie of its own or in Flask's session, as the
   configuration says, and in a header, for API clients, who send back what they were given last: the *token* of what
   was written, and the *trail* of what was seen. Apart, so that of two requests at the same time the one that only read
   does not bring back an older token.
2. A response carries a token only if its request has written, and is then kept out of shared caches. It carries a trail
   only if that has changed, or is at half of its life; and never if a shared cache may keep it, for what everybody may
   be shown at any later time is no client's own.
3. Too old: dropped, for by then a replica that lacks what they are about gets no reads anyway. Forged, cut off, of
   another cluster: after such a token its client is read for on the primary for ``after_write_window``, after such a
   trail where all is that was committed by now; and he is given another one.
"""

from __future__ import annotations

import math
import time
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from flask import Flask, Request, Response, session
from itsdangerous import BadSignature, Signer, URLSafeTimedSerializer

from rds_router.core.scope import Sight
from rds_router.core.token import Token
from rds_router.core.trail import Trail
from rds_router.events import TokenIgnored
from rds_router.router import Router


class Carrier(NamedTuple):
    """One thing that travels, by its names on the way."""

    prefix: str
    """Of its cookie's name."""
    header: str
    session_key: str
    salt: str

    def cookie(self, key: str | bytes) -> str:
        """The name of its cookie. An application with another key on the same host, whatever its port, has another
        one: it could only take this for a forgery, and replace it."""
        return f"{self.prefix}_{_name(key, self.salt)}"


TOKEN: Final = Carrier("rds_router_token", "RDS-Router-Token", "_rds_router_token", "rds_router.token.v1")
TRAIL: Final = Carrier("rds_router_trail", "RDS-Router-Trail", "_rds_router_trail", "rds_router.trail.v1")
STORE_SETTING: Final = "RDS_ROUTER_TOKEN_STORE"
STORES: Final = ("cookie", "session")
LONGEST: Final = 1024
"""Characters of a signed text. A cluster with a long past has GTIDs of many servers; browsers keep 4096 a cookie."""
_SLACK: Final = 2.0
"""Seconds by which the clocks of two web servers may differ, and one for the signature's whole seconds."""


def lifetime(router: Router) -> int:
    """Seconds after which what travels is dropped: by then a replica that lacks it gets no reads anyway.

    Not in the latter half of it either, so that a trail need not be sent each time it was followed.
    """
    policy = router.policy
    oldest = max(policy.max_lag, policy.contract.max_staleness or 0.0)
    if policy.no_replica == "stalest":
        oldest = max(oldest, policy.hard_max_lag)
    return math.ceil(max(60.0, 10 * policy.max_lag, 2 * policy.after_write_window, 2 * (oldest + policy.max_age)))


def signed(app: Flask, router: Router, token: Token | None) -> str | None:
    """The text that travels; of None, that something was written which nobody knows. None without a secret key."""
    serializer = _serializer(app, TOKEN)
    if serializer is None:
        return None
    text = str(serializer.dumps(str(token or "")))
    if len(text) > LONGEST:
        # Everything that was committed until now is more than was asked for, and shorter.
        text = str(serializer.dumps(str(router.departing(Token(at=router.clock())))))
    return text


def signed_trail(app: Flask, trail: Trail) -> str | None:
    """The text that travels. None without a secret key."""
    serializer = _serializer(app, TRAIL)
    return None if serializer is None else str(serializer.dumps(str(trail)))


class Brought(NamedTuple):
    """What a request came with."""

    token: Token | None = None
    """What its client must not be read behind."""
    is_spoilt: bool = False
    """Something of the token was not signed by us: the client needs another one."""
    trail: str = ""
    """The text of the trail; empty if there is none, or none that may stay as it is."""
    sight: Sight | None = None
    """What it says here."""
    arrived: float = float("-inf")
    """Monotonic seconds: nothing was read before."""


def brought(app: Flask, request: Request, router: Router) -> Brought:
    """All that the client of this request brought, in one."""
    arrived = router.clock()
    token, is_spoilt = None, False
    for text in _texts(app, request, TOKEN):
        try:
            found = _understood(app, text, router)
        except BadSignature as error:
            found, is_spoilt = router.unplaced(f"its signature is not ours: {error}"), True
        token = found if token is None else token.merge(found)
    trail, sight = _trail(app, request, router, arrived) if remembers_seen(router) else ("", None)
    return Brought(token, is_spoilt, trail, sight, arrived)


def remembers_seen(router: Router) -> bool:
    """Trails are kept: reads are promised to be monotonic, and servers tell their runs apart."""
    policy = router.policy
    return policy.remember_seen and policy.contract.monotonic and not policy.behind_proxy


def send(app: Flask, request: Request, response: Response, router: Router, what: Carrier, text: str) -> None:
    """Give the client the signed text, by the way on which he brings it."""
    response.headers[what.header] = text
    if TOKEN.header in request.headers or TRAIL.header in request.headers:
        pass  # an API client: what it keeps is its own affair
    elif app.config.get(STORE_SETTING) == "session":
        session[what.session_key] = text
    else:
        response.set_cookie(
            what.cookie(_keys(app)[-1]),
            text,
            max_age=lifetime(router),
            httponly=True,
            secure=request.is_secure,
            samesite="Lax",
            path=app.config["APPLICATION_ROOT"],
        )
    # A shared cache must not hand one client's token to another.
    response.cache_control.public = False
    response.cache_control.s_maxage = None
    response.cache_control.private = True
    response.vary.update(("Cookie", TOKEN.header, TRAIL.header))


def may_be_shared(response: Response) -> bool:
    """A shared cache may keep it and show it to others: by what the application says, not by a cache's guess."""
    control = response.cache_control
    if control.private or control.no_store:
        return False
    return bool(control.public or control.s_maxage or control.max_age or response.expires)


def _texts(app: Flask, request: Request, what: Carrier) -> list[str]:
    keys = _keys(app)
    if not keys:
        return []
    if app.config.get(STORE_SETTING) == "session":
        stored = [session.get(what.session_key)]
    else:
        # The newest key's first: what another one signed may be older.
        stored = [request.cookies.get(what.cookie(key)) for key in reversed(keys)]
    return [str(text) for text in (request.headers.get(what.header), *stored) if text]


def _understood(app: Flask, text: str, router: Router) -> Token | None:
    """What a signed token says; None once it is too old. Raises BadSignature."""
    payload, age = _unsigned(app, text, TOKEN)
    if age > lifetime(router):
        return None
    token = router.arriving(payload) if payload else router.unplaced("it was given for one that could not be read")
    if token is not None and token.unplaced is not None:
        # What it says is not known here, but when it was given is.
        return Token(unplaced=token.unplaced - max(0.0, age - _SLACK))
    return token


def _trail(app: Flask, request: Request, router: Router, arrived: float) -> tuple[str, Sight | None]:
    """What is brought as a trail, and what it says. Of two the header's counts."""
    for text in _texts(app, request, TRAIL)[:1]:
        try:
            payload, age = _unsigned(app, text, TRAIL)
        except BadSignature as error:
            router.events.emit(TokenIgnored(f"a trail's signature is not ours: {error}"))
            payload, age = "spoilt", 0.0
        if age > lifetime(router):
            break
        return payload if age < lifetime(router) / 2 else "", router.sight_of(payload, at=arrived)
    return "", None


def _unsigned(app: Flask, text: str, what: Carrier) -> tuple[str, float]:
    """The text that was signed, and its age, below zero if our clock is behind the signer's. Raises BadSignature."""
    serializer = _serializer(app, what)
    assert serializer is not None, "the caller looks for a secret key"
    found: tuple[Any, datetime] = serializer.loads(text, return_timestamp=True)
    return str(found[0]), time.time() - found[1].timestamp()


def _serializer(app: Flask, what: Carrier) -> URLSafeTimedSerializer | None:
    keys = _keys(app)
    return URLSafeTimedSerializer(keys, salt=what.salt) if keys else None


def _keys(app: Flask) -> list[Any]:
    """The last one signs, those before are still read: Flask's own order for keys that are being replaced."""
    return [*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key] if app.secret_key else []


@lru_cache(maxsize=64)
def _name(key: str | bytes, salt: str) -> str:
    """Eight letters that tell nobody the key: the beginning of a signature. Not of the cluster too: a process that
    reaches it by another address must see that its client has written."""
    return Signer(key, salt=salt).get_signature("name").decode()[:8]
