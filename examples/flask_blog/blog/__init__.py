"""A small blog on Flask-SQLAlchemy whose reads go to replicas.

It is an ordinary Flask application but for one import, in ``models.py``. What it adds to show routing at work stands
apart from it: ``trace.py`` (the footer of each page), ``servers.py`` (the page /servers).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import click
from flask import Flask, Response

from blog import errors, forms, people, posts, servers, text, trace
from blog.models import db
from blog.seed import seed

__all__ = ["create_app"]


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The application.

    ``config`` wins over ``FLASK_*`` environment variables. Without ``SQLALCHEMY_DATABASE_URI`` the servers are
    those of ``DB_HOST``, ``DB_REPLICA_HOSTS`` and their kin, or of a ``.env`` file. Without ``SECRET_KEY`` one is
    made up: good for one process, and until it ends.
    """
    app = Flask(__name__)
    app.config.from_mapping(SESSION_COOKIE_SAMESITE="Lax", POSTS_PER_PAGE=6, DEMO_CLUSTER=None)
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    app.config["SECRET_KEY"] = app.config["SECRET_KEY"] or secrets.token_hex(32)

    db.init_app(app)
    for part in (trace, forms, people, errors, text):
        part.init_app(app)
    for blueprint in (posts.blueprint, people.blueprint, servers.blueprint):
        app.register_blueprint(blueprint)
    app.after_request(_send_headers)
    app.cli.command("init-db")(_init_db)
    return app


def _init_db() -> None:
    """Create the tables, and fill them if they are empty."""
    db.create_all()
    click.echo("Tables created and filled." if seed() else "Tables are there and hold posts already.")


def _send_headers(response: Response) -> Response:
    # Everything the pages use is their own: no script, style or picture of another host can be smuggled in.
    response.headers.setdefault("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    return response
