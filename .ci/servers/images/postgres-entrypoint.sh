#!/bin/bash
# Entry point of our PostgreSQL image: of the official image's behaviour what the lab and testcontainers use.
# POSTGRES_PASSWORD, POSTGRES_USER and POSTGRES_DB as there; PGDATA is made on the first start.
set -euo pipefail

[ $# -gt 0 ] && [ "${1#-}" = "$1" ] || set -- postgres "$@"
if [ "$1" = postgres ] && [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /run/postgresql; chown postgres:postgres "$PGDATA" /run/postgresql
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
  initdb -D "$PGDATA" -U "$user" -E UTF8 --locale=C -A scram-sha-256 --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") -N >/dev/null
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
  [ "$database" = postgres ] || echo "CREATE DATABASE \"$database\"" | postgres --single -D "$PGDATA" postgres >/dev/null
fi
exec "$@"
