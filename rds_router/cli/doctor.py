"""``rds-router doctor``: looks at the servers and says what is wrong and what to do."""

from __future__ import annotations

from typing import Any

import click

from rds_router.doctor import command
from rds_router.errors import ConfigurationError
from rds_router.router import Router
from rds_router.settings import credentials_from, tls_from, uris_from_environment


@click.command()
@click.argument("urls", nargs=-1, metavar="[URL]...")
@click.option(
    "--pool-size",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    metavar="N",
    help="The application's pool_size, for each server; 0 is without bound.",
)
@click.option(
    "--max-overflow",
    type=click.IntRange(-1),
    default=10,
    show_default=True,
    metavar="N",
    help="The application's max_overflow, for each server; -1 is without bound.",
)
@click.option("--ca", envvar="DB_SSL_CA", metavar="FILE", help="The authorities to trust, in PEM form; or DB_SSL_CA.")
@click.option("--credentials", envvar="RDS_ROUTER_CREDENTIALS", metavar="iam|secretsmanager:NAME",
              help="In place of the URLs' passwords; or RDS_ROUTER_CREDENTIALS.")  # fmt: skip
@command.options
def doctor(
    urls: tuple[str, ...], pool_size: int, max_overflow: int, ca: str | None, credentials: str | None, **options: Any
) -> None:
    """Look at a primary and its replicas, and say what is wrong, what it means and what to do.

    The first URL is the primary's. Without any, the servers are those of DB_HOST, DB_REPLICA_HOSTS and their kin, of
    the environment or a .env file. Nothing is changed on any server.

    Exit code: 0 nothing is wrong, 1 there is an error, 2 it could not be tried.
    """
    try:
        found = {} if urls else _from_environment()
        servers = urls or (found["SQLALCHEMY_DATABASE_URI"], *found["SQLALCHEMY_REPLICA_URIS"])
        router = Router(
            servers[0],
            servers[1:],
            engine_options={"pool_size": pool_size, "max_overflow": max_overflow},
            credentials=credentials_from(credentials or found.get("RDS_ROUTER_CREDENTIALS")),
            tls=tls_from(ca or found.get("RDS_ROUTER_TLS")),
        )
        with router:
            command.examine(router, **options)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None


def _from_environment() -> dict[str, Any]:
    found = uris_from_environment()
    if not found:
        raise click.UsageError("name the servers: URLs, the primary's first; or set DB_HOST and its kin")
    return found
