"""The servers as the user names them: names, and each thing that cannot work."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import make_url

from rds_router import ConfigurationError, Replica, Router, RoutingPolicy
from rds_router.servers import targets

PRIMARY = "mysql+pymysql://app:geheim@db.example/blog"
FORM = "dialect+driver://user:password@host:port/database"


def names(primary: Any, replicas: Any = ()) -> list[str]:
    return [each.server.name for each in targets(primary, replicas)]


def test_a_server_is_named_as_told_or_by_host_and_port() -> None:
    replicas = [Replica("mysql+pymysql://r1.example:3307/blog"), Replica("mysql+pymysql://r2.example/blog", name="two")]
    assert names(PRIMARY, replicas) == ["db.example:3306", "r1.example:3307", "two"]
    assert names("postgresql+psycopg://db.example/blog") == ["db.example:5432"]
    assert names("sqlite:////tmp/blog.db", ["sqlite:////tmp/copy.db"]) == ["blog.db", "copy.db"]
    assert names("sqlite://") == ["memory"]


def test_replicas_are_a_list_or_one_comma_separated_string() -> None:
    listed = ["mysql+pymysql://r1.example/blog", make_url("mysql+pymysql://r2.example/blog")]
    joined = "mysql+pymysql://r1.example/blog, mysql+pymysql://r2.example/blog,"
    assert names(PRIMARY, listed) == names(PRIMARY, joined) == ["db.example:3306", "r1.example:3306", "r2.example:3306"]
    assert names(PRIMARY, "") == names(PRIMARY, []) == ["db.example:3306"]


def test_weight_and_zone_are_kept_and_only_the_first_is_the_primary() -> None:
    found = targets(PRIMARY, [Replica("mysql+pymysql://r1.example/blog", weight=3, zone="a")])
    assert [(each.server.weight, each.server.zone, each.server.is_primary) for each in found] == [
        (1.0, "", True),
        (3, "a", False),
    ]


def test_mysql_and_mariadb_urls_go_together() -> None:
    assert len(names(PRIMARY, "mariadb+pymysql://r1.example/blog")) == 2


@pytest.mark.parametrize(
    ("primary", "replicas", "message"),
    [
        ("", [], "no primary is configured: give the URL of the server that accepts writes"),
        (None, [], "no primary is configured: give the URL of the server that accepts writes"),
        (7, [], "the URL of the primary is 7, but must be a string, URL or Replica"),
        (PRIMARY, [PRIMARY, 7], "the URL of replica 2 is 7, but must be a string, URL or Replica"),
        (PRIMARY, [b"geheim"], "the URL of replica 1 is a bytes, but must be a string, URL or Replica"),
        (PRIMARY, [""], "the URL of replica 1 is '', but must be a URL of the form " + FORM),
        (
            "mysql+pymysql://app:geheim@h:port/db",
            [],
            f"the URL of the primary is not a URL of the form {FORM}: its port is not a number",
        ),
        (
            "mysql+pymysql://app:geheim@h:99999/db?password=geheim",
            [],
            "the URL of the primary mysql+pymysql://app:***@h:99999/db names the port 99999, but a port must be a "
            "number from 1 to 65535",
        ),
        (Replica(PRIMARY, name=7), [], "the name of the primary is 7, but must be a string"),  # type: ignore[arg-type]
        (
            PRIMARY,
            [Replica("mysql+pymysql://r1/blog", zone=1)],  # type: ignore[arg-type]
            "the zone of replica 1 is 1, but must be a string",
        ),
        (PRIMARY, 7, "the replicas are 7, but must be a list, or one comma-separated string"),
        (
            PRIMARY,
            make_url("mysql+pymysql://r1.example/blog"),
            "the replicas are a URL, but must be a list, or one comma-separated string",
        ),
        (
            "app:geheim@db.example",
            [],
            "the URL of the primary is not a URL of the form " + FORM,
        ),
        (
            "frobnicate://app:geheim@db.example/blog",
            [],
            "the URL of the primary frobnicate://app:***@db.example/blog names the dialect 'frobnicate', which "
            "SQLAlchemy does not know; use mysql+pymysql, mariadb+pymysql, postgresql+psycopg or sqlite",
        ),
        ("mysql+pymysql:///blog", [], "the URL of the primary mysql+pymysql:///blog names no host"),
        (
            PRIMARY,
            ["postgresql+psycopg://r1.example/blog"],
            "replica r1.example:5432 is postgresql, but the primary db.example:3306 is mysql: a replica must be of its "
            "primary's engine",
        ),
        (PRIMARY, [PRIMARY], "db.example:3306 is configured twice: name it once"),
        (
            PRIMARY,
            [Replica("mysql+pymysql://other:x@DB.example:3306/blog", name="r1")],
            "r1 and db.example:3306 are the same server: name it once",
        ),
        (
            Replica("sqlite:////tmp/a.db", name="one"),
            [Replica("sqlite:////tmp/a.db", name="two")],
            "two and one are the same server: name it once",
        ),
        *[
            (
                PRIMARY,
                [Replica("mysql+pymysql://r1.example/blog", weight=weight)],  # type: ignore[arg-type]
                f"the weight of r1.example:3306 is {weight!r}, but must be a number above 0",
            )
            for weight in (0, -1, float("nan"), float("inf"), "2", None, True)
        ],
    ],
)
def test_what_cannot_work_is_refused_by_name_and_without_the_password(
    primary: Any, replicas: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        targets(primary, replicas)
    assert str(refusal.value) == message
    assert "geheim" not in str(refusal.value)


def test_servers_behind_sockets_are_told_apart_by_them() -> None:
    def at(path: str, name: str) -> Replica:
        return Replica(f"mysql+pymysql://app@/blog?unix_socket={path}", name=name)

    assert len(names(at("/run/a.sock", "a"), [at("/run/b.sock", "b")])) == 2
    with pytest.raises(ConfigurationError, match="b and a are the same server"):
        targets(at("/run/a.sock", "a"), [at("/run/a.sock", "b")])


def test_no_repr_shows_a_password() -> None:
    replica = Replica(PRIMARY, name="r1")
    assert "geheim" not in repr(replica)
    assert "geheim" not in repr(targets(PRIMARY, [Replica("mysql+pymysql://app:geheim@r1/blog")]))


@pytest.mark.parametrize("url", ["mssql+pyodbc://sa:geheim@db.example/blog", "oracle+oracledb://app:geheim@db.example"])
def test_a_heartbeat_is_refused_where_none_is_known(url: str) -> None:
    """It was accepted, and did nothing: all replicas stayed out for an unknown lag."""
    with pytest.raises(ConfigurationError) as refusal:
        Router(url, policy=RoutingPolicy(heartbeat=True))
    assert str(refusal.value) == (
        f"heartbeat=True does nothing on {url.partition('+')[0]}: its row is known for MySQL, MariaDB, PostgreSQL "
        "and SQLite only. Turn it off (RDS_ROUTER_HEARTBEAT=0); the lag of the replicas stays unknown, and "
        "unknown_lag='allow' uses them all the same"
    )
    Router("sqlite://", policy=RoutingPolicy(heartbeat=True)).close()
