#!/bin/bash
# A container engine and database images for the lab's docker runtime, where no registry can be reached. Debian, root.
#
#   containers.sh [engine] [images] [IMAGE ...]      default: engine images; IMAGE: mysql mariadb postgres
#
# engine  installs and starts dockerd (it keeps running; pid in /var/run/docker.pid), behind rules that keep the
#         traffic of containers, DNS look-ups included, on this machine.
# images  builds local/mysql, local/mariadb and local/postgres from Debian packages alone; each is skipped when there.
#
# stdout: shell exports naming the images (RDS_ROUTER_LAB_<ENGINE>_IMAGE); stderr: what is being done.
set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
WORK=${RDS_ROUTER_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rds_router_lab}/containers
MYSQL_SUITE=${MYSQL_SUITE:-sid}
SUITE=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")

main() {
  [ "$(id -u)" = 0 ] || die "needs root"
  mkdir -p "$WORK"
  exec 9>"$WORK/lock"; flock 9
  [ $# -gt 0 ] || set -- engine images
  local step
  for step in "$@"; do
    case $step in
      engine)   engine ;;
      images)   image mysql; image mariadb; image postgres ;;
      mysql | mariadb | postgres) image "$step" ;;
      *) die "unknown step '$step'; known: engine images mysql mariadb postgres" ;;
    esac
  done
}

say() { echo "containers: $*" >&2; }
die() { say "$*"; exit 1; }

# --- the engine ----------------------------------------------------------------------------------------------

engine() {
  install_engine
  if ! docker info >/dev/null 2>&1; then
    forget_dead_pid /var/run/docker.pid
    forget_dead_pid /var/run/docker/containerd/containerd.pid
    start_engine
  fi
  keep_traffic_here
  say "dockerd $(docker info -f '{{.ServerVersion}}') runs, pid $(cat /var/run/docker.pid 2>/dev/null || echo unknown)"
}

install_engine() {
  local tool missing=
  for tool in dockerd iptables mmdebstrap; do command -v $tool >/dev/null || missing=yes; done
  [ -n "$missing" ] || return 0
  say "apt-get install docker.io iptables mmdebstrap"
  ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 || apt-get update -q >"$WORK/apt.log" 2>&1
  # A service start would run dockerd without the settings below.
  local policy=/usr/sbin/policy-rc.d ours=
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; ours=yes; }
  DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends docker.io iptables mmdebstrap debian-archive-keyring \
    >>"$WORK/apt.log" 2>&1 || { tail -5 "$WORK/apt.log" >&2; die "apt-get failed"; }
  [ -z "$ours" ] || rm -f $policy
}

forget_dead_pid() {   # a killed engine leaves this file, and a new one believes it while anything has that pid
  [ -f "$1" ] || return 0
  tr '\0' ' ' <"/proc/$(cat "$1")/cmdline" 2>/dev/null | grep -qE 'dockerd|containerd' || rm -f "$1"
}

start_engine() {
  # --ip: published ports on loopback only. --ip-masq, --dns: no way out for packets, none for look-ups.
  # 9>&-: the daemon must not hold this script's lock.
  setsid nohup dockerd --ip=127.0.0.1 --ip-masq=false --dns=127.0.0.1 >"$WORK/dockerd.log" 2>&1 </dev/null 9>&- &
  for _ in $(seq 300); do
    ! docker info >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  tail -20 "$WORK/dockerd.log" >&2
  die "dockerd did not start within 30 s"
}

keep_traffic_here() {   # containers reach each other and loopback, and nothing behind the default route
  local out network
  out=$(ip route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -1)
  [ -n "$out" ] || return 0
  rule DOCKER-USER -o "$out" -j REJECT
  for network in 172.16.0.0/12 192.168.0.0/16; do rule OUTPUT -o "$out" -d $network -j REJECT; done
}

rule() { iptables -C "$@" 2>/dev/null || iptables -I "$@"; }

# --- the images ----------------------------------------------------------------------------------------------

image() {
  local kind=$1 suite=$SUITE packages port data
  case $kind in
    mysql)    suite=$MYSQL_SUITE packages=mysql-server-core,mysql-client-core port=3306 data=/var/lib/mysql ;;
    mariadb)  packages=mariadb-server-core,mariadb-client-core,gawk port=3306 data=/var/lib/mysql ;;
    postgres) packages=postgresql port=5432 data=/var/lib/postgresql/data ;;
  esac
  local tag=local/$kind:$suite recipe
  recipe=$(cat - "$HERE"/images/* <<<"$suite $packages" | sha256sum | cut -c1-16)
  if [ "$(docker image inspect -f '{{index .Config.Labels "recipe"}}' "$tag" 2>/dev/null)" != "$recipe" ]; then
    say "building $tag"
    local tree=$WORK/$kind.tar
    # The date of sid's Release file may be past on a mirror that is a snapshot; its signature is still checked.
    mmdebstrap --mode=root --variant=essential --include="$packages" --aptopt='Acquire::Check-Valid-Until "false"' \
      --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
      --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io --customize-hook="'$HERE/images/finish.sh' $kind \"\$1\"" \
      "$suite" "$tree" "$(debian_mirror)" >"$WORK/$kind.log" 2>&1 || { tail -20 "$WORK/$kind.log" >&2; die "cannot build $tag"; }
    docker import -c 'ENTRYPOINT ["docker-entrypoint.sh"]' -c "EXPOSE $port" -c "VOLUME $data" -c "LABEL recipe=$recipe" \
      -c "ENV PGDATA=$data PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "$tree" "$tag" >/dev/null
    rm -f "$tree"
  fi
  say "$tag, $(docker image inspect -f '{{.Size}}' "$tag" | awk '{ printf "%d MB", $1 / 1000000 }')"
  echo "export RDS_ROUTER_LAB_$(engine_name "$kind")_IMAGE=$tag"
}

engine_name() { case $1 in postgres) echo POSTGRESQL ;; *) echo "${1^^}" ;; esac; }

debian_mirror() {   # the machine's own: the first .../debian of its apt sources, deb822 or one-line
  local found=${DEBIAN_MIRROR:-}
  [ -n "$found" ] || found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{sources,list} 2>/dev/null |
    sed -nE 's/^(URIs:|deb( +\[[^]]*\])?) +([^ ]+).*/\3/p' | grep -E '/debian/?$' | sed -n 1p) || true
  [ -n "$found" ] || die "no Debian mirror in /etc/apt; set DEBIAN_MIRROR"
  echo "$found"
}

main "$@"
