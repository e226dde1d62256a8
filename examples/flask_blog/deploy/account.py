"""Makes the application's account, as the administrator. Run by install.sh; to run it again changes nothing.

The accounts may do what the blog needs, and see how far replicas are behind. The server refuses them without TLS.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pymysql

DATABASE = "blog"
BY_PASSWORD, BY_IAM = "blog", "blog_iam"
RIGHTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES"


def statements(*, has_iam: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """SQL and its parameters; ``%s`` is the password of the application's secret."""
    yield f"CREATE USER IF NOT EXISTS '{BY_PASSWORD}'@'%%' IDENTIFIED BY %s REQUIRE SSL", ("password",)
    if has_iam:
        yield f"CREATE USER IF NOT EXISTS '{BY_IAM}'@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'", ()
        yield f"ALTER USER '{BY_IAM}'@'%' REQUIRE SSL", ()
    for user in (BY_PASSWORD, BY_IAM) if has_iam else (BY_PASSWORD,):
        yield f"GRANT {RIGHTS} ON {DATABASE}.* TO '{user}'@'%'", ()
        # For the router: whether a server follows another one, and how far it is behind.
        yield f"GRANT REPLICATION CLIENT ON *.* TO '{user}'@'%'", ()


def create(admin: Mapping[str, Any], app: Mapping[str, Any], *, host: str, port: int, ca: str, has_iam: bool) -> None:
    """Connect with the secrets' values, over verified TLS, and run the statements."""
    connection = pymysql.connect(
        host=host,
        port=port,
        user=admin["username"],
        password=admin["password"],
        ssl_ca=ca,
        ssl_verify_cert=True,
        ssl_verify_identity=True,
        connect_timeout=10,
        read_timeout=30,
        autocommit=True,
    )
    with connection, connection.cursor() as cursor:
        for sql, names in statements(has_iam=has_iam):
            cursor.execute(sql, [app[name] for name in names] or None)


def main() -> None:
    import boto3

    client = boto3.client("secretsmanager")
    admin, app = (
        json.loads(client.get_secret_value(SecretId=os.environ[name])["SecretString"])
        for name in ("ADMIN_SECRET", "APP_SECRET")
    )
    host, _, port = os.environ["ADMIN_HOST"].partition(":")
    has_iam = os.environ["RDS_ROUTER_CREDENTIALS"] == "iam"
    create(admin, app, host=host, port=int(port or 3306), ca=os.environ["DB_SSL_CA"], has_iam=has_iam)
    print(f"The application's account is there: {BY_IAM if has_iam else BY_PASSWORD}.")


if __name__ == "__main__":
    main()
