#!/bin/bash
# Entry point of our MySQL and MariaDB images: of the official images' behaviour what the lab and testcontainers use.
# The data directory comes initialised with the image; the first start creates the accounts and the database asked for
# by MYSQL_ROOT_PASSWORD, MYSQL_DATABASE, MYSQL_USER and MYSQL_PASSWORD (or MARIADB_...).
set -euo pipefail

[ $# -gt 0 ] && [ "${1#-}" = "$1" ] || set -- mysqld "$@"
case $1 in mysqld | mariadbd) shift ;; *) exec "$@" ;; esac
server=$(command -v mariadbd || command -v mysqld)
data=/var/lib/mysql

setting() { local own=MYSQL_$1 other=MARIADB_$1; printf %s "${!own:-${!other:-}}"; }
quoted() { printf %s "$1" | sed -e 's/\\/\\\\/g' -e "s/'/''/g"; }

accounts() {   # one statement a line, as an init file wants it; none of it in the binary log, which must begin empty
  local root database user
  root=$(quoted "$(setting ROOT_PASSWORD)") database=$(setting DATABASE) user=$(quoted "$(setting USER)")
  echo "SET SESSION sql_log_bin = 0;"
  echo "CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY '$root';"
  echo "GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;"
  echo "ALTER USER 'root'@'localhost' IDENTIFIED BY '$root';"
  [ -z "$database" ] || echo "CREATE DATABASE IF NOT EXISTS \`$database\`;"
  [ -z "$user" ] || echo "CREATE USER IF NOT EXISTS '$user'@'%' IDENTIFIED BY '$(quoted "$(setting PASSWORD)")';"
  [ -z "$user" ] || [ -z "$database" ] || echo "GRANT ALL ON \`${database//_/\\_}\`.* TO '$user'@'%';"
}

mkdir -p /run/mysqld   # an image has no /run
chown mysql:mysql "$data" /run/mysqld
if [ ! -e "$data/.accounts-made" ]; then
  rm -f "$data/auto.cnf"   # the image's containers must not share a server UUID
  (umask 077; accounts >/run/mysqld/accounts.sql); chown mysql /run/mysqld/accounts.sql
  set -- "$@" --init-file=/run/mysqld/accounts.sql
  touch "$data/.accounts-made"
fi
exec "$server" --user=mysql "$@"
