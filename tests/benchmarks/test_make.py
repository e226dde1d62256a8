"""`make bench` measures; only who asks for it gets the quick run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("given", "is_quick"), [([], False), (["QUICK=1"], True)])
def test_make_bench_is_quick_if_asked(given: list[str], is_quick: bool) -> None:
    told = subprocess.run(["make", "-n", "bench", *given], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ("--quick" in told) is is_quick
