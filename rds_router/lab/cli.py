"""``python -m rds_router.lab``: a cluster to play with at the command line."""

from __future__ import annotations

import json
import signal
import threading
from types import FrameType
from typing import Any

from rds_router.lab.binaries import LOCAL_ENGINES
from rds_router.lab.clusters import Cluster, cluster
from rds_router.lab.doctor import examine
from rds_router.lab.errors import LabError
from rds_router.lab.server import Server
from rds_router.lab.torture.command import torture_command


def main() -> None:
    """The command line. Says which extra to install where click or rich is missing."""
    try:
        command = command_group()
    except ImportError as error:
        raise SystemExit(f"the lab's command line needs {error.name}: pip install 'rds-router[lab]'") from error
    command()


def command_group() -> Any:
    """The click command group; click and rich are imported here, so that the library does not need them."""
    import click
    from rich.console import Console
    from rich.table import Table

    errors = Console(stderr=True)

    @click.group(help="Clusters to play with: a primary and its replicas on this machine.")
    def lab() -> None:
        pass

    @lab.command(help="Start a cluster, print its URLs, and keep it until Ctrl-C.")
    @click.argument("engine", type=click.Choice([*LOCAL_ENGINES, "sqlite"]))
    @click.option("--replicas", type=click.IntRange(0, 20), default=2, show_default=True)
    @click.option("--docker", is_flag=True, help="In containers instead of this machine's own programs.")
    @click.option("--image", help="Container image, instead of the official one.")
    @click.option("--database", default="app", show_default=True)
    @click.option(
        "-o", "--option", "options", multiple=True, metavar="NAME=VALUE", help="Extra server setting; repeatable."
    )
    @click.option("--delay", type=click.FloatRange(0), default=0.0, help="Seconds the last replica stays behind.")
    @click.option("--json", "form", flag_value="json", help="Print one JSON object and nothing else.")
    @click.option("--env", "form", flag_value="env", help="Print shell exports and nothing else.")
    def up(
        engine: str,
        replicas: int,
        docker: bool,
        image: str | None,
        database: str,
        options: tuple[str, ...],
        delay: float,
        form: str | None,
    ) -> None:
        settings = dict(_name_and_value(option) for option in options)
        # Before the start: a signal during it must end in cleaning up too.
        _interrupt_once()
        try:
            with cluster(
                engine,
                replicas=replicas,
                runtime="docker" if docker else "local",
                image=image,
                options=settings,
                database=database,
            ) as c:
                if delay and c.replicas:
                    c.set_delay(c.replicas[-1], delay)
                _show(c, form)
                threading.Event().wait()
        except KeyboardInterrupt:
            pass
        except LabError as error:
            raise click.ClickException(str(error)) from error

    def _show(c: Cluster, form: str | None) -> None:
        if form == "json":
            click.echo(json.dumps(as_json(c)))
        elif form == "env":
            for name, value in as_environment(c).items():
                click.echo(f"export {name}='{value}'")
        else:
            table = Table(title=f"{c.engine}: a primary and {len(c.replicas)} replicas", title_justify="left")
            for heading in ("server", "role", "SQLAlchemy URL"):
                table.add_column(heading, overflow="fold")
            for server in c.servers:
                table.add_row(server.name, server.role, server.url)
            Console().print(table)
            for name, value in as_environment(c).items():
                click.echo(f"export {name}='{value}'")
            errors.print("Ctrl-C stops it and deletes its files.")

    @lab.command(help="Say which clusters can be started here, what is missing, and how to get it.")
    @click.option("--json", "as_data", is_flag=True, help="Print a JSON list and nothing else.")
    def doctor(as_data: bool) -> None:
        findings = examine()
        if as_data:
            rows = [
                {"engine": f.engine, "runtime": f.runtime, "is_ready": f.is_ready, "detail": f.detail} for f in findings
            ]
            click.echo(json.dumps(rows))
            return
        table = Table()
        for heading in ("engine", "runtime", "ready", "what is there, or how to get it"):
            table.add_column(heading, overflow="fold")
        for finding in findings:
            ready = "[green]yes[/]" if finding.is_ready else "[red]no[/]"
            table.add_row(finding.engine, finding.runtime, ready, finding.detail)
        Console().print(table)

    lab.add_command(torture_command())
    return lab


def as_json(c: Cluster) -> dict[str, Any]:
    """A cluster's addresses as plain data: ``{"engine", "primary": {...}, "replicas": [{...}, ...]}``."""

    def plain(server: Server) -> dict[str, Any]:
        fields = ("name", "host", "port", "url", "admin_url", "bare_url")
        return {field: getattr(server, field) for field in fields}

    return {"engine": c.engine, "primary": plain(c.primary), "replicas": [plain(server) for server in c.replicas]}


def as_environment(c: Cluster) -> dict[str, str]:
    """The two settings of an application on rds_router: primary, and replicas separated by commas."""
    return {
        "SQLALCHEMY_DATABASE_URI": c.primary.url,
        "SQLALCHEMY_REPLICA_URIS": ",".join(server.url for server in c.replicas),
    }


def _interrupt_once() -> None:
    """Let Ctrl-C, SIGTERM and SIGHUP all be a KeyboardInterrupt, and a second one not disturb the cleaning up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(again, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def _name_and_value(option: str) -> tuple[str, str]:
    import click

    name, separator, value = option.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{option!r} is not NAME=VALUE", param_hint="--option")
    return name, value
