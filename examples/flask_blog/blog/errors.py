"""Pages for what went wrong."""

from __future__ import annotations

import logging

from flask import Flask, g, render_template
from sqlalchemy.exc import DBAPIError
from werkzeug.exceptions import HTTPException, InternalServerError, NotFound

from blog.models import db
from rds_router import NoServerAvailable

_log = logging.getLogger(__name__)
_TEXTS = {
    NotFound: "There is nothing at this address, or not any more.",
    InternalServerError: "Something went wrong on our side. It has been written down.",
}


def init_app(app: Flask) -> None:
    """Show errors in the blog's own dress."""
    app.register_error_handler(HTTPException, _refuse)
    app.register_error_handler(DBAPIError, _apologise)
    app.register_error_handler(NoServerAvailable, _apologise)


def _refuse(error: HTTPException) -> tuple[str, int]:
    is_stock = error.description == type(error).description
    text = _TEXTS.get(type(error), error.description) if is_stock else error.description
    return render_template("error.html", title=error.name, text=text), error.code or 500


def _apologise(error: Exception) -> tuple[str, int]:
    # The driver's own words: SQLAlchemy's would put the reader's input into the log.
    _log.error("a database failed: %s", error.orig if isinstance(error, DBAPIError) else error)
    db.session.rollback()
    g.user = None  # the page must not ask the database who is reading
    # A COMMIT whose answer was lost may have been done: "nothing was changed" would be a guess.
    text = (
        "A database failed in the middle of this request. What you sent may not have been saved: "
        "look before you send it again."
    )
    return render_template("error.html", title="Service unavailable", text=text), 503
