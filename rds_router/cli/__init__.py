"""The command line: one group, each command in a module of its own, imported when it is called for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

import click

from rds_router._version import __version__

COMMANDS: Final[Mapping[str, str]] = {
    "classify": "rds_router.cli.classify:classify",
    "compare": "rds_router.cli.compare:compare",
    "doctor": "rds_router.cli.doctor:doctor",
    "tls": "rds_router.cli.tls:tls",
}
"""Name of a command -> where it is."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="rds-router")
def commands() -> None:
    """Read/write splitting for SQLAlchemy: tools around it."""
