"""The package as users get it: built, installed into an environment of its own, imported far from this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SMOKE = Path(__file__).with_name("smoke.py")

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; its errors if it fails. The checkout is not on its path."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def new_environment(folder: Path) -> Path:
    """A virtual environment with nothing in it; returns its Python."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel made from it."""
    pytest.importorskip("build", reason="build is not installed")
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


def sources() -> set[str]:
    """All files of the package in this checkout, as paths inside a distribution."""
    found = (path for path in (ROOT / "rds_router").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == sources()
    assert "rds_router/py.typed" in packed
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_distribution_holds_what_building_needs(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {name.split("/", 1)[1] for name in opened.getnames() if "/" in name}
    assert sources() | {"README.md", "LICENSE", "pyproject.toml"} <= packed
    assert not any(name.startswith(("tests/", "examples/", ".ci/")) for name in packed)


def test_the_wheel_works_where_only_sqlalchemy_is(built: Path, tmp_path: Path) -> None:
    """No extra: the router and its session. Its own dependencies are enough."""
    python = new_environment(tmp_path / "plain")
    (wheel,) = built.glob("*.whl")
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    printed = run(python, "-I", "-W", "error", SMOKE, "plain", cwd=tmp_path)
    assert f"from {tmp_path / 'plain'}" in printed
    assert "smoke test passed" in printed


def test_pip_install_of_the_checkout_works_with_flask(tmp_path: Path) -> None:
    """``pip install .``: built by pip itself, in isolation."""
    python = new_environment(tmp_path / "flask")
    run(python, "-m", "pip", "install", "--quiet", f"{ROOT}[flask]", cwd=tmp_path)
    printed = run(python, "-I", "-W", "error", SMOKE, "flask", cwd=tmp_path)
    assert f"from {tmp_path / 'flask'}" in printed
    assert "smoke test passed" in printed
    run(python, "-m", "pip", "check", cwd=tmp_path)
