"""What the README says of make is so."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("variable", "target", "said"),
    [("SERVERS", "servers", 'SERVERS="skip"'), ("PORT", "demo", "--port skip"), ("T", "unit", "skip")],
)
def test_a_variable_of_the_environment_reaches_the_command(variable: str, target: str, said: str) -> None:
    """``SERVERS=skip make test`` must install nothing: a default in the Makefile does not beat it."""
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", target],
        cwd=ROOT,
        env={**os.environ, variable: "skip"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said in done.stdout
