"""Our positions against the servers' own arithmetic, on random values."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from asking import Asked, asked

from rds_router.core.position import Lsn, MariaDBGtidList, MySQLGtidSet
from rds_router.lab import Cluster

ROUNDS = 300
UUIDS = ["3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"]


@pytest.fixture
def mysql(mysql_cluster: Cluster) -> Iterator[Asked]:
    with asked(mysql_cluster.primary.url) as server:
        yield server


@pytest.fixture
def postgresql(postgresql_cluster: Cluster) -> Iterator[Asked]:
    with asked(postgresql_cluster.primary.url) as server:
        yield server


def test_mysql_covers_is_gtid_subset(mysql: Asked) -> None:
    """covers() says what GTID_SUBSET says, on sets that overlap, touch, nest, and have tags if the server has."""
    dice, tags = random.Random(20240701), _tags(mysql)
    agreed = {True: 0, False: 0}
    for _ in range(ROUNDS):
        one, other = _gtid_set(dice, tags), _gtid_set(dice, tags)
        if dice.random() < 0.5:
            other = _part_of(one, dice)
        theirs = bool(mysql.value(f"SELECT GTID_SUBSET('{other}', '{one}')"))
        assert one.covers(other) is theirs, f"{one} covers {other}"
        agreed[theirs] += 1
    assert min(agreed.values()) > ROUNDS / 10


def test_mysql_union_is_the_servers(mysql: Asked) -> None:
    """The server prints the union of two texts as we do, but for line breaks; what is subtracted is not covered."""
    dice, tags = random.Random(20240702), _tags(mysql)
    for _ in range(ROUNDS):
        one, other = _gtid_set(dice, tags), _gtid_set(dice, tags)
        # Subtracting nothing makes the server read, merge and print.
        joined = ",".join(str(each) for each in (one, other) if not each.is_empty)
        theirs = str(mysql.value(f"SELECT GTID_SUBTRACT('{joined}', '')"))
        assert str(one.union(other)) == theirs.replace("\n", "")
        assert MySQLGtidSet.parse(theirs) == one.union(other)
        rest = MySQLGtidSet.parse(str(mysql.value(f"SELECT GTID_SUBTRACT('{other}', '{one}')")))
        assert rest.is_empty is one.covers(other)
        assert one.union(rest) == one.union(other)


def test_mysql_untidy_text_is_read_as_the_server_reads_it(mysql: Asked) -> None:
    """Upper case, spaces, line breaks, overlapping and adjacent intervals."""
    uuid = UUIDS[0]
    for text in (
        f"{uuid.upper()}:1-3:4:6-9:8-12",
        f" {uuid} : 1 - 3 ,\n {UUIDS[1]}:7\n",
        f"{uuid}:5,{uuid}:1-2,{uuid}:3",
        f"{uuid}:9223372036854775806",
    ):
        theirs = str(mysql.value(f"SELECT GTID_SUBTRACT('{text}', '')"))
        assert str(MySQLGtidSet.parse(text)) == theirs.replace("\n", "")


def test_mysql_what_the_server_refuses_we_refuse(mysql: Asked) -> None:
    """Malformed for the server (1772) is a ValueError for us; the converse is not promised."""
    uuid = UUIDS[0]
    for text in (f"{uuid}:0", f"{uuid}:1-", f"{uuid}:1-3:", f"{uuid}:x-1", f"{uuid}:9223372036854775807", "nonsense"):
        with pytest.raises(Exception, match="1772"):
            mysql.execute(f"SELECT GTID_SUBSET('{text}', '')")
        with pytest.raises(ValueError, match="Not a MySQL GTID set"):
            MySQLGtidSet.parse(text)


def test_mariadb_covers_only_what_the_server_covers(mariadb_cluster: Cluster) -> None:
    """Where we say a replica has it, MASTER_GTID_WAIT does not wait; the server may say yes where we say no."""
    mariadb_cluster.wait_caught_up()
    dice = random.Random(20240703)
    ours_yes = theirs_only = 0
    with asked(mariadb_cluster.replicas[0].url) as replica:
        position = replica.position()
        assert isinstance(position, MariaDBGtidList)
        assert not position.is_empty
        (domain, server, last), *_ = position.gtids
        for _ in range(ROUNDS):
            wanted = MariaDBGtidList(((domain, dice.choice((server, server, 77)), max(1, last + dice.randint(-3, 3))),))
            theirs = replica.value(f"SELECT MASTER_GTID_WAIT('{wanted}', 0)") == 0
            ours = position.covers(wanted)
            assert theirs or not ours, f"{position} covers {wanted}"
            ours_yes += ours
            theirs_only += theirs and not ours
    assert ours_yes > ROUNDS / 10
    assert theirs_only > ROUNDS / 10


def test_mariadb_text_is_the_servers(mariadb_cluster: Cluster) -> None:
    """Every list the server prints is read, and printed again as it was."""
    for server in mariadb_cluster.servers:
        with asked(server.url) as connection:
            for name in ("gtid_slave_pos", "gtid_binlog_pos", "gtid_current_pos", "gtid_binlog_state"):
                text = str(connection.value(f"SELECT @@global.{name}"))
                assert str(MariaDBGtidList.parse(text)) == text


def test_postgresql_order_is_pg_lsns(postgresql: Asked) -> None:
    """covers() and union say what >= and greatest() say of pg_lsn, and both print alike."""
    dice = random.Random(20240704)
    for _ in range(ROUNDS):
        one = Lsn(dice.getrandbits(dice.choice((8, 31, 33, 64))))
        other = Lsn(max(0, min(2**64 - 1, one.location + dice.choice((-1, 0, 1, -(2**32), dice.getrandbits(40))))))
        (row,) = postgresql.execute(
            f"SELECT '{one}'::pg_lsn >= '{other}'::pg_lsn AS covers, '{one}'::pg_lsn::text AS one,"
            f" greatest('{one}'::pg_lsn, '{other}'::pg_lsn)::text AS later,"
            f" ('{one}'::pg_lsn - '0/0'::pg_lsn)::text AS bytes"
        )
        assert one.covers(other) is row["covers"]
        assert Lsn.parse(row["later"]) == one.union(other)
        assert str(one.location) == row["bytes"]
        assert Lsn.parse(row["one"]) == one
        assert str(one) == row["one"]


def _tags(server: Asked) -> tuple[str, ...]:
    """Tags came with MySQL 8.3."""
    major, minor, *_ = str(server.value("SELECT version()")).split(".")
    return ("", ":blue", ":green_2") if (int(major), int(minor)) >= (8, 3) else ("",)


def _gtid_set(dice: random.Random, tags: tuple[str, ...]) -> MySQLGtidSet:
    ranges = []
    for uuid in UUIDS:
        for tag in tags:
            if dice.random() < 0.4:
                starts = [dice.randint(1, 12) for _ in range(dice.randint(1, 4))]
                ranges.append((uuid + tag, tuple((start, start + dice.randint(0, 4)) for start in starts)))
    return MySQLGtidSet(tuple(ranges))


def _part_of(whole: MySQLGtidSet, dice: random.Random) -> MySQLGtidSet:
    """Some of its transactions, and now and then one more."""
    ranges = [
        (source, ((first, dice.randint(first, last) + (dice.random() < 0.1)),))
        for source, intervals in whole.ranges
        for first, last in intervals
        if dice.random() < 0.7
    ]
    return MySQLGtidSet(tuple(ranges))
