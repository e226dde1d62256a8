"""``rds-router`` and ``python -m rds_router``."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line. Without click and rich: exit code 2 and what to install."""
    try:
        from rds_router.cli import commands

        commands(prog_name="rds-router")  # imports its commands when they are called for
    except ModuleNotFoundError as missing:
        if missing.name not in ("click", "rich"):
            raise
        print(
            f"rds-router: the command line needs {missing.name}, which is not installed. "
            "Install it with: pip install 'rds-router[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
