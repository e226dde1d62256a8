"""``flask rds``: commands for an application that uses the extension. Flask finds them by an entry point."""

from __future__ import annotations

from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup

from rds_router.doctor import command
from rds_router.errors import ConfigurationError
from rds_router.flask.extension import SQLAlchemy

rds = AppGroup("rds", help="The database servers behind this application.")


@rds.command()
@command.options
def doctor(**options: Any) -> None:
    """Look at the application's servers, and say what is wrong, what it means and what to do.

    Servers, pools and policy are those of the application's configuration. Nothing is changed on any server.

    Exit code: 0 nothing is wrong, 1 there is an error, 2 it could not be tried.
    """
    extension = current_app.extensions.get("sqlalchemy")
    if not isinstance(extension, SQLAlchemy):
        raise click.UsageError("this application does not use rds_router.flask.SQLAlchemy")
    try:
        command.examine(extension.router, **options)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
