"""The lab's parts alone: no server is started here."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rds_router.lab import EngineMissing, ports
from rds_router.lab.binaries import find
from rds_router.lab.cache import template
from rds_router.lab.follower import STATUS_TABLE, Follower, Following, connect
from rds_router.lab.server import Server, halves


def test_the_lab_stands_alone() -> None:
    """Importing it loads no other part of rds_router and no driver, client library or container library."""
    script = (
        "import sys, types\n"
        "parent = types.ModuleType('rds_router'); parent.__path__ = ['rds_router']\n"
        "sys.modules['rds_router'] = parent\n"
        "import rds_router.lab\n"
        "ours = {n for n in sys.modules if n.startswith('rds_router.') and not n.startswith('rds_router.lab')}\n"
        "late = {'sqlalchemy', 'pymysql', 'psycopg', 'click', 'rich', 'docker'} & sys.modules.keys()\n"
        "sys.exit(str(ours | late) if ours | late else 0)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ports_are_distinct_and_given_back() -> None:
    """No port is handed out twice until it is released."""
    first, second = ports.reserve(20), ports.reserve(20)
    assert len({*first, *second}) == 40
    ports.release([*first, *second])
    ports.release(first)


def test_another_process_does_not_get_a_reserved_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reservation holds between processes, also while nobody listens."""
    mine = ports.reserve(1)
    script = f"from rds_router.lab import ports; import sys; sys.exit(ports._lock({mine[0]}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0
    ports.release(mine)


def test_a_template_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten threads want it; one builds it; all get the whole of it."""
    monkeypatch.setenv("RDS_ROUTER_LAB_CACHE", str(tmp_path))
    builds = []

    def build(directory: Path) -> None:
        builds.append(directory)
        directory.mkdir()
        (directory / "file").write_text("whole")

    found = []
    threads = [threading.Thread(target=lambda: found.append(template("key", build))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert {path / "file" for path in found} == {tmp_path / "templates" / "key" / "file"}


def test_a_template_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one who wants it builds it from scratch."""
    monkeypatch.setenv("RDS_ROUTER_LAB_CACHE", str(tmp_path))

    def fail(directory: Path) -> None:
        directory.mkdir()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        template("key", fail)
    assert [path.name for path in (tmp_path / "templates").iterdir()] == ["key.lock"]
    assert template("key", Path.mkdir).is_dir()


def test_a_mariadb_that_calls_itself_mysqld_is_not_mysql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's mysqld is MariaDB: it is found as mariadb, and not taken for mysql."""
    for name in ("mysqld", "mariadb-install-db"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'mysqld  Ver 10.11.19-MariaDB for debian-linux-gnu'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("RDS_ROUTER_LAB_MYSQL_BIN", str(tmp_path))
    monkeypatch.setenv("RDS_ROUTER_LAB_MARIADB_BIN", str(tmp_path))
    assert find("mariadb").version == "10.11.19"
    with pytest.raises(EngineMissing, match="no mysql server here"):
        find("mysql")


def test_halves() -> None:
    """io_only is the receiver, sql_only the applier, neither is both, both is a mistake."""
    assert halves(io_only=True, sql_only=False) == {"receiver"}
    assert halves(io_only=False, sql_only=True) == {"applier"}
    assert halves(io_only=False, sql_only=False) == {"receiver", "applier"}
    with pytest.raises(ValueError, match="exclude each other"):
        halves(io_only=True, sql_only=True)


def test_repr_of_a_server_has_no_password() -> None:
    """One line: name, role, address, state."""
    server = Server("mysql-1", "mysql", "mysql+pymysql://app:secret@h/app", "a:secret", "b:secret", port=3306)
    assert repr(server) == "<mysql-1 replica 127.0.0.1:3306 dead>"


class FollowingByHand:
    """A primary file, one follower, and a clock that is moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.primary = connect(folder / "primary.sqlite")
        self.follower = Follower(folder / "replica.sqlite")
        connect(self.follower.path).close()
        self.watching = connect(folder / "primary.sqlite")
        self.following = Following(folder / "primary.sqlite", [self.follower], clock=lambda: self.now)

    def write(self, value: int) -> None:
        self.primary.execute("CREATE TABLE IF NOT EXISTS t (v)")
        self.primary.execute("INSERT INTO t VALUES (?)", (value,))

    def pass_at(self, now: float) -> tuple[float, list[int]]:
        """One pass at that time; caught_up_at and the rows of the replica after it."""
        self.now = now
        self.following.follow(self.watching)
        with contextlib.closing(sqlite3.connect(self.follower.path)) as replica:
            caught_up_at = replica.execute(f"SELECT caught_up_at FROM {STATUS_TABLE}").fetchone()[0]
            return caught_up_at, [row[0] for row in replica.execute("SELECT v FROM t ORDER BY v")]

    def close(self) -> None:
        for connection in (self.primary, self.watching, *self.following._open.values()):
            connection.close()
        for copy in self.following._copies:
            copy.content.close()


def test_caught_up_at_advances_while_nothing_changes(tmp_path: Path) -> None:
    """An idle primary: the replica is known to be up to date as of each pass."""
    with contextlib.closing(FollowingByHand(tmp_path)) as f:
        f.write(1)
        assert f.pass_at(1000.0) == (1000.0, [1])
        assert f.pass_at(1007.5) == (1007.5, [1])


def test_a_delayed_replica_shows_what_was_so_many_seconds_ago(tmp_path: Path) -> None:
    """With a delay of 10, content and caught_up_at are those of 10 seconds ago, and never go back."""
    with contextlib.closing(FollowingByHand(tmp_path)) as f:
        f.write(1)
        f.pass_at(1000.0)
        f.follower.delay = 10.0
        f.write(2)
        assert f.pass_at(1001.0) == (1000.0, [1])
        f.write(3)
        assert f.pass_at(1005.0) == (1000.0, [1])
        assert f.pass_at(1012.0) == (1001.0, [1, 2])  # when 3 came is not known: somewhere behind 1001
        assert f.pass_at(1015.0) == (1005.0, [1, 2, 3])
        f.follower.delay = 100.0
        assert f.pass_at(1020.0) == (1005.0, [1, 2, 3])


def test_a_paused_replica_stands_still(tmp_path: Path) -> None:
    """Paused, neither content nor caught_up_at moves; without a receiver it comes to what it had received."""
    with contextlib.closing(FollowingByHand(tmp_path)) as f:
        f.write(1)
        f.pass_at(1000.0)
        f.follower.applies = False
        f.write(2)
        assert f.pass_at(1001.0) == (1000.0, [1])
        f.follower.applies, f.follower.receives = True, False
        f.write(3)
        assert f.pass_at(1002.0) == (1001.0, [1, 2])
        assert f.pass_at(1003.0) == (1001.0, [1, 2])
        f.follower.receives = True
        assert f.pass_at(1004.0) == (1004.0, [1, 2, 3])


def test_the_primary_has_no_status_table(tmp_path: Path) -> None:
    """Only replicas carry it: that is how the router's dialect tells them apart."""
    with contextlib.closing(FollowingByHand(tmp_path)) as f:
        f.write(1)
        f.pass_at(1000.0)
        names = [row[0] for row in f.primary.execute("SELECT name FROM sqlite_master")]
        assert names == ["t"]
