#!/bin/sh
# Installs this checkout, editable, into an environment.
#
#   pip-install.sh FOLDER '.[extras]'
set -eu
echo "environment: pip install -e '$2' (a minute the first time)" >&2
"$1/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$2" || {
  echo "environment: pip could not install '$2': is the package index reachable? To begin anew: make clean" >&2
  exit 1
}
