#!/bin/bash
# Database servers for the lab on a Debian machine; no service is started, nothing listens afterwards.
#
#   install.sh [mariadb] [mysql] [postgresql] [pgbouncer]        default: the three servers
#
# mariadb, postgresql  Debian's own packages, by apt-get (needs root when they are missing).
# mysql                real MySQL 9.x: Debian sid's packages unpacked into one plain folder that runs on its own
#                      libraries. The host is not changed (no dpkg -i, no sources.list edit) and root is not needed.
# mysqlrouter          MySQL Router in the same way, only when asked for: benchmarks/peers measures it.
#
# stdout: shell exports for RDS_ROUTER_LAB_*_BIN; stderr: what is being done. Quick when everything is there.
# Settings: RDS_ROUTER_LAB_CACHE (default ~/.cache/rds_router_lab), DEBIAN_MIRROR, MYSQL_SUITE (default sid).
set -euo pipefail

CACHE=${RDS_ROUTER_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rds_router_lab}
MYSQL_SUITE=${MYSQL_SUITE:-sid}
MYSQL_RECIPE=1   # raise it when the unpacking below changes: old folders are then made anew
SCRATCH=

main() {
  local engines=("$@") engine
  [ ${#engines[@]} -gt 0 ] || engines=(mariadb mysql postgresql)
  for engine in "${engines[@]}"; do
    case $engine in
      mariadb)    install_mariadb ;;
      mysql)      install_mysql ;;
      postgresql) install_postgresql ;;
      mysqlrouter) install_mysqlrouter ;;
      pgbouncer)  command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || apt_install pgbouncer ;;
      *) die "unknown engine '$engine'; known: mariadb mysql postgresql mysqlrouter pgbouncer" ;;
    esac
  done
}

say() { echo "servers: $*" >&2; }
die() { say "$*"; exit 1; }

# --- MariaDB and PostgreSQL: Debian's packages ---------------------------------------------------------------

install_mariadb() {
  command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ] || apt_install mariadb-server
  echo "export RDS_ROUTER_LAB_MARIADB_BIN=$(dirname "$(PATH=$PATH:/usr/sbin command -v mariadbd)")"
}

install_postgresql() {
  [ -n "$(newest_postgresql)" ] || apt_install postgresql
  echo "export RDS_ROUTER_LAB_POSTGRESQL_BIN=$(newest_postgresql)"
}

newest_postgresql() {
  local found; found=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -1)
  [ -z "$found" ] || dirname "$found"
}

apt_install() {
  [ "$(id -u)" = 0 ] || die "$* is missing; as root: apt-get install $*"
  command -v apt-get >/dev/null || die "$* is missing and this is not a Debian machine; install it by hand"
  say "apt-get install $*"
  deny_service_starts
  ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 || apt-get update -q >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "$@" >&2
  allow_service_starts
}

# Debian starts a service on installation unless policy-rc.d says no.
POLICY=/usr/sbin/policy-rc.d
POLICY_IS_OURS=
deny_service_starts() {
  [ ! -e $POLICY ] || return 0
  printf '#!/bin/sh\nexit 101\n' >$POLICY && chmod +x $POLICY
  POLICY_IS_OURS=yes
}
allow_service_starts() { [ -z "$POLICY_IS_OURS" ] || rm -f $POLICY; POLICY_IS_OURS=; }

# --- MySQL: unpacked, not installed --------------------------------------------------------------------------

install_mysql() {
  local root=$CACHE/mysql
  mkdir -p "$CACHE"; root=$(realpath -m "$root")
  if ! mysql_is_ready "$root"; then
    exec 9>"$root.lock"; flock 9          # two test runs at once
    mysql_is_ready "$root" || unpack_mysql "$root"
    exec 9>&-
  fi
  say "$("$root/bin/mysqld" --version | sed 's/^.*mysqld *//')"
  echo "export RDS_ROUTER_LAB_MYSQL_BIN=$root/bin"
}

mysql_is_ready() { [ "$(cat "$1/.recipe" 2>/dev/null)" = "$MYSQL_RECIPE $MYSQL_SUITE" ]; }

unpack_mysql() {
  local root=$1
  command -v apt-get >/dev/null || die "MySQL comes from Debian packages and there is no apt-get here; set RDS_ROUTER_LAB_MYSQL_BIN to the folder of your own mysqld"
  fetch_tree mysql-server-core mysql-client-core
  leave_out_what_no_test_needs "$SCRATCH/tree"
  keep_tree "$root"
  write_launcher "$root" mysqld usr/sbin/mysqld
  write_launcher "$root" mysql usr/bin/mysql
  "$root/bin/mysqld" --version >/dev/null || die "the unpacked mysqld does not run; delete $root and try again"
  echo "$MYSQL_RECIPE $MYSQL_SUITE" >"$root/.recipe"
}

install_mysqlrouter() {
  local root=$CACHE/mysqlrouter program
  mkdir -p "$CACHE"; root=$(realpath -m "$root")
  if ! mysql_is_ready "$root"; then
    fetch_tree mysql-router
    keep_tree "$root"
    for program in mysqlrouter mysqlrouter_keyring; do write_launcher "$root" $program usr/bin/$program; done
    "$root/bin/mysqlrouter" --version >/dev/null || die "the unpacked mysqlrouter does not run; delete $root and try again"
    echo "$MYSQL_RECIPE $MYSQL_SUITE" >"$root/.recipe"
  fi
  say "$("$root/bin/mysqlrouter" --version)"
  echo "export RDS_ROUTER_PEERS_MYSQLROUTER=$root"
}

fetch_tree() {   # packages of Debian's suite, with the libraries they need, unpacked in $SCRATCH/tree
  SCRATCH=$(mktemp -d); mkdir -p "$SCRATCH"/{lists/partial,cache/archives/partial,debs,no.d,tree}; : >"$SCRATCH/status"
  say "fetching $* from Debian $MYSQL_SUITE"
  private_apt_sources
  private_apt apt-get update >"$SCRATCH/log" 2>&1 || { tail -5 "$SCRATCH/log" >&2; die "cannot read the package lists of Debian $MYSQL_SUITE from $(debian_mirror)"; }
  local packages; packages=$(with_libraries "$@")
  # shellcheck disable=SC2086  # a list of words
  ( cd "$SCRATCH/debs" && private_apt apt-get download $packages >"$SCRATCH/log" 2>&1 ) || { tail -5 "$SCRATCH/log" >&2; die "cannot download $*"; }
  local deb; for deb in "$SCRATCH"/debs/*.deb; do dpkg-deb -x "$deb" "$SCRATCH/tree"; done
}

keep_tree() {   # what was fetched, in its own folder
  rm -rf "$1"; mkdir -p "$1"; cp -a "$SCRATCH/tree/." "$1/"; mkdir -p "$1/bin"
  rm -rf "$SCRATCH"; SCRATCH=
}

debian_mirror() {   # the machine's own: the first .../debian of its apt sources, deb822 or one-line
  local found=${DEBIAN_MIRROR:-}
  [ -n "$found" ] || found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{sources,list} 2>/dev/null |
    sed -nE 's/^(URIs:|deb( +\[[^]]*\])?) +([^ ]+).*/\3/p' | grep -E '/debian/?$' | sed -n 1p) || true
  [ -n "$found" ] || die "no Debian mirror in /etc/apt; set DEBIAN_MIRROR"
  echo "$found"
}

private_apt_sources() {
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) $MYSQL_SUITE main" >"$SCRATCH/sources.list"
}

private_apt() {   # an apt that knows nothing of the host's sources, packages and caches
  local tool=$1; shift
  "$tool" -q -o Dir::Etc::sourcelist="$SCRATCH/sources.list" -o Dir::Etc::sourceparts="$SCRATCH/no.d" \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts="$SCRATCH/no.d" \
    -o Dir::State="$SCRATCH" -o Dir::State::lists="$SCRATCH/lists" -o Dir::State::status="$SCRATCH/status" \
    -o Dir::Cache="$SCRATCH/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none \
    -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false -o Acquire::PDiffs=false \
    -o Acquire::Check-Valid-Until=false -o Acquire::Retries=3 "$@"
}

with_libraries() {   # those wanted, and of what they depend on only what ships shared libraries
  echo "$@"
  private_apt apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances "$@" | grep -E '^(lib[a-z0-9]|zlib1g$)' |
    grep -vE '^lib(perl|crypt-|debconf|gdbm|db5|terminfo|text-|locale-)|-(dev|dbg|doc|data|common)$' | sort -u
}

leave_out_what_no_test_needs() {
  ( cd "$1"
    rm -rf usr/share/{doc,man,lintian,bug,gcc,gdb,locale,i18n,perl,perl5} usr/lib/*/gconv var etc/init.d
    find usr/bin usr/sbin -type f ! -name mysqld ! -name mysql -delete
    rm -f usr/lib/mysql/plugin/{authentication_*,group_replication,*telemetry*}.so )
}

write_launcher() {   # root name binary: the binary on the folder's own loader and libraries
  local root=$1 name=$2 binary=$3 loader libraries
  loader=$(find "$root" -name 'ld-linux-*.so.*' | head -1)
  libraries=$(find "$root" -name '*.so.*' -printf '%h\n' | sort -u | grep -E '/lib(64)?(/[a-z0-9_-]+-linux-gnu[a-z0-9]*)?$|/mysql/private$|/mysql-router(/private)?$' | paste -sd:)
  cat >"$root/bin/$name" <<LAUNCHER
#!/bin/sh
run() { exec "$loader" --argv0 "$root/$binary" --library-path "$libraries" "$root/$binary" "\$@"; }
LAUNCHER
  if [ "$name" = mysqld ]; then cat >>"$root/bin/$name" <<LAUNCHER
# --no-defaults and its like must stay the first option; where the folder's own files are comes behind it.
case "\${1:-}" in --no-defaults|--defaults-file=*|--defaults-extra-file=*) first=\$1; shift ;; *) first=--no-defaults ;; esac
run "\$first" --basedir="$root/usr" --lc-messages-dir="$root/usr/share/mysql" --secure-file-priv=NULL \\
  --character-sets-dir="$root/usr/share/mysql/charsets" --plugin-dir="$root/usr/lib/mysql/plugin" "\$@"
LAUNCHER
  else echo 'run "$@"' >>"$root/bin/$name"; fi
  chmod +x "$root/bin/$name"
}

clean_up() { allow_service_starts; [ -z "$SCRATCH" ] || rm -rf "$SCRATCH"; }
trap clean_up EXIT
main "$@"
