"""The token's way from one request of a client to his next, whichever worker answers it.

One signed cookie, set only by a response whose request has written, dropped by the browser after a while. Whatever is
wrong with a cookie that comes back (forged, truncated, too old, another cluster's), the request goes on: it is
taken for a client who wrote at the time it was signed, or not at all.
"""

from __future__ import annotations

import time
from typing import Final

from flask import Flask, Request, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer

from rds_router.core.token import Token
from rds_router.router import Router

NAME: Final = "rds_router_token"
_SALT: Final = "rds_router.token.v1"
_SLACK: Final = 2.0
"""Seconds by which the clocks of two web servers may differ, and one for the signature's whole seconds."""


def lifetime(router: Router) -> int:
    """Seconds after which the cookie is dropped: by then a replica that lacks the write gets no reads anyway."""
    return int(max(60.0, 10 * router.policy.max_lag, 2 * router.policy.after_write_window))


def write(app: Flask, response: Response, router: Router, token: Token, *, is_secure: bool) -> bool:
    """Give the client his token. False if the app has no secret key to sign it with."""
    serializer = _serializer(app)
    if serializer is None:
        return False
    response.set_cookie(
        NAME,
        str(serializer.dumps(str(token))),
        max_age=lifetime(router),
        httponly=True,
        secure=is_secure,
        samesite="Lax",
        path=app.config["APPLICATION_ROOT"],
    )
    # A shared cache must not hand one client's token to another.
    response.cache_control.public = False
    response.cache_control.s_maxage = None
    response.cache_control.private = True
    response.vary.add("Cookie")
    return True


def read(app: Flask, request: Request, router: Router) -> Token | None:
    """The token that the client brought, or None."""
    text = request.cookies.get(NAME)
    serializer = _serializer(app)
    if not text or serializer is None:
        return None
    try:
        payload, signed_at = serializer.loads(text, max_age=lifetime(router), return_timestamp=True)
    except BadSignature:  # SignatureExpired is one
        return None
    token = router.arriving(str(payload))
    if token is not None and token.unplaced is not None:
        age = time.time() - signed_at.timestamp() - _SLACK
        return Token(unplaced=token.unplaced - max(0.0, age))
    return token


def _serializer(app: Flask) -> URLSafeTimedSerializer | None:
    if not app.secret_key:
        return None
    return URLSafeTimedSerializer(app.secret_key, salt=_SALT)
