"""What comes in from forms, and proof that it comes from ours."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from flask import Flask, abort, request, session, url_for

_FIELD = "csrf_token"


def init_app(app: Flask) -> None:
    """Refuse every POST without the token of its session."""
    app.before_request(_check_token)
    app.add_template_global(csrf_token)


def csrf_token() -> str:
    """The session's token, to be sent back with each form."""
    if _FIELD not in session:
        session[_FIELD] = secrets.token_urlsafe(24)
    return str(session[_FIELD])


def local_path(target: str | None) -> str:
    """``target`` if it is a path of this site, else the front page: no form may send a reader elsewhere."""
    parts = urlsplit((target or "").replace("\\", "/"))
    is_local = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    return target if target and is_local and not target.startswith("//") else url_for("posts.index")


@dataclass(slots=True)
class Form:
    """Fields of a form by their names, each required, with the longest accepted length."""

    lengths: Mapping[str, int]
    values: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def fill(self, given: Mapping[str, str]) -> bool:
        """Take the values; True if all can be accepted, else ``errors`` says why not."""
        for name, length in self.lengths.items():
            # PostgreSQL stores no NUL; browsers send line ends as CR LF.
            value = given.get(name, "").replace("\x00", "").replace("\r\n", "\n").strip()
            self.values[name] = value
            if not value:
                self.errors[name] = f"The {name} is missing."
            elif len(value) > length:
                self.errors[name] = f"The {name} has {len(value):,} characters; {length:,} are accepted."
        return not self.errors


def _check_token() -> None:
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        given, expected = request.form.get(_FIELD, ""), str(session.get(_FIELD, ""))
        if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
            abort(
                400,
                "This form is too old or came from another site. Go back, reload the page and send it again.",
            )
