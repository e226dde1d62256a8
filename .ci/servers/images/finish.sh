#!/bin/bash
# mmdebstrap's customize hook: finish.sh KIND ROOT. Entry point, settings, an initialised data directory, and less weight.
set -euo pipefail
kind=$1 root=$2 here=$(cd "$(dirname "$0")" && pwd)

case $kind in
  mysql | mariadb)
    if ! grep -q ^mysql: "$root/etc/passwd"; then   # the essential set has no useradd
      echo 'mysql:x:999:' >>"$root/etc/group"
      echo 'mysql:x:999:999:MySQL:/var/lib/mysql:/bin/false' >>"$root/etc/passwd"
    fi
    rm -rf "$root/var/lib/mysql" "$root/etc/mysql/my.cnf" "$root/etc/my.cnf"
    mkdir -p "$root"/{var/lib/mysql,var/lib/mysql-files,run/mysqld,etc/mysql}
    install -m755 "$here/mysql-entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"
    install -m644 "$here/my.cnf" "$root/etc/mysql/my.cnf"
    ln -s mysql/my.cnf "$root/etc/my.cnf"
    chroot "$root" chown mysql:mysql /var/lib/mysql /var/lib/mysql-files /run/mysqld
    if [ "$kind" = mariadb ]; then
      chroot "$root" mariadb-install-db --user=mysql --datadir=/var/lib/mysql --auth-root-authentication-method=normal --skip-test-db --force
    else
      chroot "$root" mysqld --user=mysql --initialize-insecure
      rm -f "$root/var/lib/mysql/auto.cnf"
    fi ;;
  postgres)
    install -m755 "$here/postgres-entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"
    mkdir -p "$root/var/lib/postgresql/data"
    chroot "$root" chown postgres:postgres /var/lib/postgresql /var/lib/postgresql/data
    for program in "$root"/usr/lib/postgresql/*/bin/*; do ln -sf "${program#"$root"}" "$root/usr/local/bin/"; done ;;
esac
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
