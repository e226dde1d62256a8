#!/bin/sh
# Is this checkout fit for a release? Builds the distributions into dist/, installs the wheel away from the checkout and
# runs the tests that need no server against it. A version with a suffix (0.2.0.dev1) may have unreleased fragments.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() { echo "release: $*" >&2; }

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' rds_router/_version.py)
[ -n "$version" ] || { say "no version in rds_router/_version.py"; exit 1; }

# The changelog is looked at where a release is being made: on a tag.
if [ -n "${RELEASE:-}" ]; then
  grep -q "^## $version " CHANGELOG.md || { say "CHANGELOG.md has no section $version: run towncrier build"; exit 1; }
  left=$(find changelog.d -name '*.md' ! -name README.md)
  [ -z "$left" ] || { say "fragments that no release has told of:" $left; exit 1; }
fi

rm -rf dist
.venv/bin/python -m build --no-isolation --outdir dist . >"$scratch/build.log" 2>&1 || { cat "$scratch/build.log" >&2; exit 1; }
say "built $(cd dist && echo *)"

.venv/bin/python -m venv "$scratch/venv"
wheel=$(echo "$root"/dist/rds_router-"$version"-*.whl)
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel[test]"

# The tests without the package beside them: what they import can only be the installed one.
mkdir "$scratch/away"
cp -R tests examples docs README.md CHANGELOG.md CONTRIBUTING.md pyproject.toml "$scratch/away/"
cd "$scratch/away"
"$scratch/venv/bin/python" -c '
import pathlib, sys, rds_router
home = pathlib.Path(rds_router.__file__).resolve()
assert home.is_relative_to(pathlib.Path(sys.prefix).resolve()), home
print("release: testing", rds_router.__version__, "in", home.parent, file=sys.stderr)
'
RDS_ROUTER_SKIP=mariadb,mysql,postgresql "$scratch/venv/bin/python" -m pytest -q -p no:cacheprovider \
  tests/spec tests/unit tests/session tests/flask tests/test_exports.py
