#!/bin/sh
# A virtual environment of the first Python >= 3.10 found ($PYTHON, else python3, else python3.13 down to 3.10).
#
#   venv.sh FOLDER
#
# Debian keeps the venv module in a package of its own: as root it is installed, else this says how.
set -eu

say() { echo "environment: $*" >&2; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }

find_python() {
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    if is_new_enough "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  say "${PYTHON:-python3} is not Python 3.10 or newer; install one, or name it: make PYTHON=/path/to/python3.12"
  return 1
}

has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

folder=$1
if [ -x "$folder/bin/python" ] && is_new_enough "$folder/bin/python"; then
  exit 0
fi
python=$(find_python)
if ! has_venv "$python"; then
  package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    say "$python has no venv module. On Debian or Ubuntu, as root: apt-get install python3-venv"
    exit 1
  fi
  say "apt-get install $package"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null
  apt-get install -yq --no-install-recommends "$package" >/dev/null
fi
say "$folder with $("$python" --version)"
"$python" -m venv "$folder"
