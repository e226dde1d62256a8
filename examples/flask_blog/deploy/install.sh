#!/bin/bash
# Puts the blog on a machine with Amazon Linux 2023, and starts it. Run as root by the template's UserData, which sets
# the variables; to run it again changes nothing that is well.
#
# ROOT (empty in life) is where the machine's files are: the tests install into a folder.
set -euo pipefail
ROOT=${ROOT:-}
home=$ROOT/opt/blog
settings=$ROOT/etc/blog/blog.env
bundle=$ROOT/etc/blog/rds-ca.pem

dnf install -y -q python3.11
id blog >/dev/null 2>&1 || useradd --system --no-create-home --shell /sbin/nologin blog

[ -d "$home/venv" ] || python3.11 -m venv "$home/venv"
"$home/venv/bin/python" -m pip install --quiet --upgrade "$(echo "$home"/wheels/rds_router-*.whl)[flask,mysql,aws,cli]" gunicorn

mkdir -p "$ROOT/etc/blog"
# Servers are verified against the authorities of RDS in every region, and RDS Proxy against Amazon's public one.
if [ ! -s "$bundle" ]; then
  curl -fsS --retry 5 -o "$bundle.new" https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem
  curl -fsS --retry 5 https://www.amazontrust.com/repository/AmazonRootCA1.pem >>"$bundle.new"
  mv "$bundle.new" "$bundle"
fi

# What the service reads. No password in it: the account signs in by IAM or by its secret.
secret_key=$(grep -s '^FLASK_SECRET_KEY=' "$settings" || echo "FLASK_SECRET_KEY=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')")
(
  umask 077
  {
    for name in AWS_DEFAULT_REGION WEB_CONCURRENCY DB_HOST DB_REPLICA_HOSTS DB_NAME DB_USER RDS_ROUTER_CREDENTIALS \
      FLASK_RDS_ROUTER_GUARD FLASK_RDS_ROUTER_SESSION_TRACKING FLASK_RDS_ROUTER_HEARTBEAT \
      FLASK_RDS_ROUTER_UNKNOWN_LAG FLASK_RDS_ROUTER_AFTER_WRITE; do
      echo "$name=${!name}"
    done
    echo "DB_SSL_CA=$bundle"
    echo "$secret_key"
  } >"$settings"
)

cd "$home"
if [ "${CREATE_ACCOUNT:-no}" = yes ]; then
  DB_SSL_CA=$bundle "$home/venv/bin/python" deploy/account.py
fi
# As the service does: the tables, and the first posts.
(
  set -a
  . "$settings"
  "$home/venv/bin/flask" --app blog init-db
)

mkdir -p "$ROOT/etc/systemd/system"
cp deploy/blog.service "$ROOT/etc/systemd/system/blog.service"
systemctl daemon-reload
systemctl enable --quiet blog
systemctl restart blog
curl -fsS --retry 30 --retry-delay 1 --retry-connrefused -o /dev/null http://127.0.0.1:80/
