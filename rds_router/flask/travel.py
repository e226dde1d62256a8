"""The token's way from one request of a client to his next, whichever worker answers it.

1. It travels as a signed text with its time: in a cookie of its own or in Flask's session, as the configuration says;
   and in a header, for API clients, who send back what they were given last.
2. A response carries it only if its request has written, and is then kept out of shared caches.
3. Too old: dropped, for by then a replica that lacks the write gets no reads anyway. Forged, cut off, of another
   cluster: its client is read for on the primary for ``after_write_window``, and is given another one.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from flask import Flask, Request, Response, session
from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from rds_router.core.token import Token
from rds_router.router import Router

COOKIE: Final = "rds_router_token"
HEADER: Final = "RDS-Router-Token"
SESSION_KEY: Final = "_rds_router_token"
STORE_SETTING: Final = "RDS_ROUTER_TOKEN_STORE"
STORES: Final = ("cookie", "session")
SALT: Final = "rds_router.token.v1"
LONGEST: Final = 1024
"""Characters of a signed text. A cluster with a long past has GTIDs of many servers; browsers keep 4096 a cookie."""
_SLACK: Final = 2.0
"""Seconds by which the clocks of two web servers may differ, and one for the signature's whole seconds."""


def lifetime(router: Router) -> int:
    """Seconds after which a token is dropped: by then a replica that lacks the write gets no reads anyway."""
    return int(max(60.0, 10 * router.policy.max_lag, 2 * router.policy.after_write_window))


def signed(app: Flask, router: Router, token: Token | None) -> str | None:
    """The text that travels; of None, that something was written which nobody knows. None without a secret key."""
    serializer = _serializer(app)
    if serializer is None:
        return None
    text = str(serializer.dumps(str(token or "")))
    if len(text) > LONGEST:
        # Everything that was committed until now is more than was asked for, and shorter.
        text = str(serializer.dumps(str(router.departing(Token(at=router.clock())))))
    return text


class Brought(NamedTuple):
    """What a request came with."""

    token: Token | None = None
    """What its client must not be read behind."""
    is_spoilt: bool = False
    """Something of it was not signed by us: the client needs another one."""


def brought(app: Flask, request: Request, router: Router) -> Brought:
    """All that the client of this request brought, in one."""
    serializer = _serializer(app)
    if serializer is None:
        return Brought()
    is_in_session = app.config.get(STORE_SETTING) == "session"
    stored = session.get(SESSION_KEY) if is_in_session else request.cookies.get(COOKIE)
    token, is_spoilt = None, False
    for text in (request.headers.get(HEADER), stored):
        if text:
            try:
                found = _understood(serializer, str(text), router)
            except BadSignature as error:
                found, is_spoilt = router.unplaced(f"its signature is not ours: {error}"), True
            token = found if token is None else token.merge(found)
    return Brought(token, is_spoilt)


def send(app: Flask, request: Request, response: Response, router: Router, text: str) -> None:
    """Give the client the signed text, by the way on which he brings it."""
    response.headers[HEADER] = text
    if HEADER in request.headers:
        pass  # an API client: what it keeps is its own affair
    elif app.config.get(STORE_SETTING) == "session":
        session[SESSION_KEY] = text
    else:
        response.set_cookie(
            COOKIE,
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
    response.vary.update(("Cookie", HEADER))


def _understood(serializer: URLSafeTimedSerializer, text: str, router: Router) -> Token | None:
    """What a signed text says; None once it is too old. Raises BadSignature."""
    try:
        payload, signed_at = serializer.loads(text, max_age=lifetime(router), return_timestamp=True)
    except SignatureExpired:
        return None
    token = router.arriving(str(payload)) if payload else router.unplaced("it was given for one that could not be read")
    if token is not None and token.unplaced is not None:
        # What it says is not known here, but when it was given is.
        age = time.time() - signed_at.timestamp() - _SLACK
        return Token(unplaced=token.unplaced - max(0.0, age))
    return token


def _serializer(app: Flask) -> URLSafeTimedSerializer | None:
    if not app.secret_key:
        return None
    # The last one signs, those before are still read: Flask's own order for keys that are being replaced.
    return URLSafeTimedSerializer([*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key], salt=SALT)
