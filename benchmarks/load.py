"""Load on a web application by clients of their own process: wrk where it is installed, else a small one of ours."""

from __future__ import annotations

import shutil
import subprocess


def loader() -> str:
    """Which one loads here, as the report says it."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return "benchmarks/load.py (no wrk here: apt-get install wrk)"
    said = subprocess.run([wrk, "-v"], capture_output=True, text=True, check=False)
    return " ".join((said.stdout + said.stderr).split()[:2])
