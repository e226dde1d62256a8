"""Which peers are here. They live in an environment of their own, so that no user of rds_router ever gets them.

    make peers      # .venv-peers: this checkout, advanced-alchemy, aws-advanced-python-wrapper, mysql-connector

``RDS_ROUTER_PEERS_PYTHON`` names another interpreter. Without either, this one is asked, which has what it has.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = {
    "advanced-alchemy": "advanced_alchemy",
    "aws-advanced-python-wrapper": "aws_advanced_python_wrapper",
    "mysql-connector-python": "mysql-connector-python",
}
"""What a reader calls it -> what pip calls it."""
HOW = "it is not installed: make peers"


def python() -> str:
    """The interpreter that runs what is compared with peers."""
    given = os.environ.get("RDS_ROUTER_PEERS_PYTHON", "")
    own = ROOT / ".venv-peers" / "bin" / "python"
    return given or (str(own) if own.exists() else sys.executable)


@functools.cache
def versions() -> dict[str, str]:
    """Name of a package -> its version, for those that are there."""
    code = "import sys; from importlib import metadata as m\nfor name in sys.argv[1:]:\n"
    code += "    try: print(name, m.version(name))\n    except m.PackageNotFoundError: pass"
    done = subprocess.run([python(), "-c", code, *PACKAGES.values()], capture_output=True, text=True, check=True)
    found = dict(line.split() for line in done.stdout.splitlines())
    return {name: found[package] for name, package in PACKAGES.items() if package in found}
