#!/bin/sh
# The database servers that `make test` runs on. As root on Debian the missing ones are installed; SERVERS=skip, or
# another machine, leaves everything as it is, and the tests of what is missing are skipped and listed at the end.
set -eu

say() { echo "servers: $*" >&2; }

if [ "${SERVERS:-}" = skip ]; then
  say "SERVERS=skip: nothing is installed"
elif [ "$(id -u)" != 0 ]; then
  say "not root: nothing is installed; what is there is used (python -m rds_router.lab doctor says what)"
elif ! command -v apt-get >/dev/null 2>&1; then
  say "no apt-get: nothing is installed; what is there is used (python -m rds_router.lab doctor says what)"
else
  for engine in mariadb mysql postgresql pgbouncer; do
    .ci/servers/install.sh "$engine" >/dev/null || say "$engine could not be installed: its tests will be skipped"
  done
fi
