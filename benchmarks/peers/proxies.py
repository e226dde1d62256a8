"""Proxies in front of a cluster of the lab, set up as their manuals say, to be measured beside rds_router.

MySQL Router (``.ci/servers/install.sh mysqlrouter``): transparent read/write splitting. It takes its topology from the
metadata that MySQL Shell would write for an InnoDB ReplicaSet; here it is written by hand, as there is no Shell.
pgpool-II (``apt-get install --no-install-recommends pgpool2``): streaming replication, load balancing by statement.

Both listen on 127.0.0.1 only, keep their files in a temporary directory, and end with the block.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
from sqlalchemy.engine import make_url

from rds_router.lab import Cluster, EngineMissing, LabError, Server, ports
from rds_router.lab.cache import cache_dir

_CLUSTER = "aaaaaaaa-0000-11f0-8000-000000000001"


@dataclass(frozen=True, slots=True)
class InFront:
    """A proxy that runs."""

    url: str
    pid: int


def version(program: str) -> str:
    """Of ``mysqlrouter`` or ``pgpool``, as it says itself."""
    command = {"mysqlrouter": [str(_router_folder() / "bin" / "mysqlrouter"), "-V"], "pgpool": ["pgpool", "--version"]}
    path = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
    done = subprocess.run(command[program], capture_output=True, text=True, check=False, env=path)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found.group() if found else "of unknown version"


@contextlib.contextmanager
def mysql_router(c: Cluster) -> Iterator[InFront]:
    """MySQL Router in front of a MySQL cluster; the URL is of its port that splits reads from writes."""
    programs = _router_folder()
    if not (programs / "bin" / "mysqlrouter").exists():
        raise EngineMissing("no MySQL Router here; to get it: .ci/servers/install.sh mysqlrouter")
    _write_metadata(c.primary, (c.primary, *c.replicas))
    c.wait_caught_up()
    (port,) = ports.reserve(1)
    with tempfile.TemporaryDirectory(prefix="rds_router_peers-") as folder:
        home = Path(folder)
        _configure_router(home, programs, port, c)
        command = [str(programs / "bin" / "mysqlrouter"), "-c", str(home / "router.conf")]
        command += ["--user=root"] if os.getuid() == 0 else []
        with running(command, home / "out", port, ports_to_release=[port]) as pid:
            yield InFront(c.primary.url.replace(f":{c.primary.port}/", f":{port}/"), pid)


@contextlib.contextmanager
def pgpool(c: Cluster) -> Iterator[InFront]:
    """pgpool-II in front of a PostgreSQL cluster."""
    program = shutil.which("pgpool", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise EngineMissing("no pgpool here; to get it: apt-get install --no-install-recommends pgpool2")
    found = ports.reserve(2)
    with tempfile.TemporaryDirectory(prefix="rds_router_peers-") as folder:
        home = Path(folder)
        _configure_pgpool(home, found, (c.primary, *c.replicas))
        who: dict[str, Any] = {}
        if os.getuid() == 0:
            account = pwd.getpwnam("postgres")
            for each in (home, *home.iterdir()):
                os.chown(each, account.pw_uid, account.pw_gid)
            who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        files = ["-f", str(home / "pgpool.conf"), "-F", str(home / "pcp.conf"), "-a", str(home / "pool_hba.conf")]
        with running([program, "-n", *files], home / "out", found[0], ports_to_release=found, **who) as pid:
            yield InFront(c.primary.url.replace(f":{c.primary.port}/", f":{found[0]}/"), pid)


def _router_folder() -> Path:
    return Path(os.environ.get("RDS_ROUTER_PEERS_MYSQLROUTER", cache_dir() / "mysqlrouter"))


@contextlib.contextmanager
def running(
    command: Sequence[str], out: Path, port: int, *, ports_to_release: list[int], **options: Any
) -> Iterator[int]:
    with out.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **options
        )
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{command[0]} does not listen: {out.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        time.sleep(1.0)  # it has yet to look at the servers
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        ports.release(ports_to_release)


def _write_metadata(primary: Server, servers: Sequence[Server]) -> None:
    """What MySQL Shell's ``createReplicaSet()`` and ``addInstance()`` leave behind, as far as the Router reads it."""
    with _as_admin(primary) as execute:
        execute("DROP DATABASE IF EXISTS mysql_innodb_cluster_metadata")
        execute("CREATE DATABASE mysql_innodb_cluster_metadata")
        execute("USE mysql_innodb_cluster_metadata")
        for statement in _METADATA.split(";\n"):
            if statement.strip():
                execute(statement)
        for number, server in enumerate(servers, start=1):
            with _as_admin(server) as ask:
                ((uuid,),) = ask("SELECT @@server_uuid")
            address = f"{server.host}:{server.port}"
            execute(
                f"INSERT INTO instances VALUES ({number}, '{_CLUSTER}', '{address}', '{uuid}', '{address}',"
                f" json_object('mysqlClassic', '{address}'), '{{}}', '', '{address}')"
            )
            source, is_primary = ("NULL", 1) if server is primary else ("1", 0)
            execute(f"INSERT INTO async_cluster_members VALUES ('{_CLUSTER}', 1, {number}, {source}, {is_primary})")
        execute("CREATE USER IF NOT EXISTS router@'%' IDENTIFIED BY 'router'")
        execute("GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON mysql_innodb_cluster_metadata.* TO router@'%'")
        execute("GRANT SELECT ON performance_schema.* TO router@'%'")


def move_primary(new: Server) -> None:
    """What an operator does in MySQL Shell after a failover (``setPrimaryInstance``): tell the metadata."""
    with _as_admin(new) as execute:
        ((uuid,),) = execute("SELECT @@server_uuid")
        execute("USE mysql_innodb_cluster_metadata")
        ((number,),) = execute(f"SELECT instance_id FROM instances WHERE mysql_server_uuid = '{uuid}'")
        execute(
            "INSERT INTO async_cluster_members SELECT cluster_id, view_id + 1, instance_id,"
            f" IF(instance_id = {number}, NULL, {number}), instance_id = {number} FROM async_cluster_members"
            " WHERE view_id = (SELECT max(view_id) FROM async_cluster_members AS newest)"
        )


@contextlib.contextmanager
def _as_admin(server: Server) -> Iterator[Any]:
    connection = pymysql.connect(
        host=server.host, port=server.port, user="admin", password="admin", autocommit=True, connect_timeout=5
    )
    with connection, connection.cursor() as cursor:

        def execute(statement: str) -> Any:
            cursor.execute(statement)
            return cursor.fetchall()

        yield execute


def _configure_router(home: Path, programs: Path, port: int, c: Cluster) -> None:
    for name in ("log", "run", "data"):
        (home / name).mkdir()
    addresses = [f"mysql://{each.host}:{each.port}" for each in (c.primary, *c.replicas)]
    state = {"group-replication-id": _CLUSTER, "cluster-metadata-servers": addresses, "view-id": 1}
    (home / "data" / "state.json").write_text(json.dumps({"metadata-cache": state, "version": "1.0.0"}))
    keyring = str(programs / "bin" / "mysqlrouter_keyring")
    keys = [f"--master-key-file={home}/data/mk", f"{home}/data/keyring"]
    subprocess.run([keyring, "init", *keys], check=True, capture_output=True)
    subprocess.run([keyring, "set", *keys, "router", "password"], input=b"router\n", check=True, capture_output=True)
    pem = c.primary.path
    (home / "router.conf").write_text(
        _ROUTER.format(home=home, plugins=programs / "usr" / "lib" / "mysqlrouter" / "plugin", port=port, pem=pem)
    )


def _configure_pgpool(home: Path, found: Sequence[int], servers: Sequence[Server]) -> None:
    lines = [_PGPOOL.format(home=home, port=found[0], control=found[1])]
    for number, server in enumerate(servers):
        lines.append(
            f"backend_hostname{number} = '{server.host}'\nbackend_port{number} = {server.port}\n"
            f"backend_weight{number} = {0 if number == 0 else 1}\nbackend_flag{number} = 'ALLOW_TO_FAILOVER'\n"
            f"backend_application_name{number} = '{server.name}'\n"
        )
    (home / "pgpool.conf").write_text("".join(lines))
    # The servers ask for SCRAM: pgpool must know the passwords to answer for its clients.
    accounts = (make_url(url) for url in (servers[0].url, servers[0].admin_url))
    (home / "pool_passwd").write_text("".join(f"{each.username}:TEXT{each.password}\n" for each in accounts))
    (home / "pool_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
    (home / "pcp.conf").write_text("")


_METADATA = """
CREATE VIEW schema_version (major, minor, patch) AS SELECT 2, 3, 0;
CREATE TABLE clusters (cluster_id char(36) primary key, cluster_name varchar(63), description text, options json,
  attributes json, cluster_type varchar(10), primary_mode char(2), router_options json, clusterset_id char(36));
INSERT INTO clusters VALUES ('aaaaaaaa-0000-11f0-8000-000000000001', 'rs1', '', NULL,
  '{"adopted": 0, "opt_gtidSetIsComplete": true}', 'ar', 'pm', '{}', NULL);
CREATE TABLE instances (instance_id int primary key, cluster_id char(36), address varchar(265),
  mysql_server_uuid char(36), instance_name varchar(265), addresses json, attributes json, description text,
  label varchar(265));
CREATE TABLE async_cluster_members (cluster_id char(36), view_id int unsigned, instance_id int,
  master_instance_id int, primary_master bool, primary key (cluster_id, view_id, instance_id));
CREATE TABLE routers (router_id int unsigned auto_increment primary key, router_name varchar(265) not null,
  product_name varchar(128), address varchar(256), version varchar(12), last_check_in timestamp null,
  attributes json, cluster_id char(36), options json, clusterset_id char(36));
CREATE TABLE router_stats (router_id int primary key, last_check_in timestamp null);
CREATE TABLE routing_guidelines (guideline_id char(36) primary key, guideline json);
CREATE TABLE clustersets (clusterset_id char(36) primary key, domain_name varchar(63), router_options json);
CREATE VIEW v2_clusters AS SELECT cluster_type, primary_mode, cluster_id, cluster_name, router_options, attributes
  FROM clusters;
CREATE VIEW v2_gr_clusters AS SELECT cluster_type, primary_mode, cluster_id, cluster_name,
  cast(NULL AS char(36)) AS group_name, router_options FROM clusters WHERE cluster_type = 'gr';
CREATE VIEW v2_ar_clusters AS SELECT (SELECT max(view_id) FROM async_cluster_members m
  WHERE m.cluster_id = c.cluster_id) AS view_id, cluster_type, primary_mode, primary_mode AS async_topology_type,
  cluster_id, cluster_name, attributes, router_options FROM clusters c WHERE cluster_type = 'ar';
CREATE VIEW v2_instances AS SELECT instance_id, cluster_id, label, mysql_server_uuid, address, address AS endpoint,
  cast(NULL AS char(265)) AS xendpoint, attributes FROM instances;
CREATE VIEW v2_ar_members AS SELECT m.view_id, m.cluster_id, m.instance_id, i.label,
  i.mysql_server_uuid AS member_id, IF(m.primary_master, 'PRIMARY', 'SECONDARY') AS member_role,
  m.master_instance_id, i.mysql_server_uuid FROM async_cluster_members m JOIN instances i USING (instance_id)
  WHERE m.view_id = (SELECT max(view_id) FROM async_cluster_members);
CREATE VIEW v2_this_instance AS SELECT i.cluster_id, i.instance_id, c.cluster_name, c.cluster_type
  FROM instances i JOIN clusters c USING (cluster_id) WHERE i.mysql_server_uuid =
  (SELECT variable_value FROM performance_schema.global_variables WHERE variable_name = 'server_uuid');
CREATE VIEW v2_routers AS SELECT * FROM routers;
CREATE VIEW v2_router_options AS SELECT router_id, clusterset_id, cluster_id, options AS router_options FROM routers;
CREATE VIEW v2_cs_members AS SELECT cluster_id, clusterset_id, cast('PRIMARY' AS char(10)) AS member_role,
  0 AS invalidated FROM clusters WHERE clusterset_id IS NOT NULL;
CREATE VIEW v2_cs_clustersets AS SELECT clusterset_id, domain_name, 1 AS view_id, router_options FROM clustersets;
CREATE TABLE v2_router_rest_accounts (cluster_id char(36), user varchar(256), authentication_method varchar(64),
  authentication_string text, description varchar(255), privileges json);
INSERT INTO routers (router_id, router_name, product_name, address, cluster_id, options)
  VALUES (1, 'r1', 'MySQL Router', '127.0.0.1', 'aaaaaaaa-0000-11f0-8000-000000000001', '{}');
"""

_ROUTER = """[DEFAULT]
name=r1
logging_folder={home}/log
runtime_folder={home}/run
data_folder={home}/data
plugin_folder={plugins}
keyring_path={home}/data/keyring
master_key_path={home}/data/mk
dynamic_state={home}/data/state.json
pid_file={home}/pid
connect_timeout=2
read_timeout=2

[logger]
level=info

[connection_pool]
max_idle_server_connections=64

[metadata_cache:bootstrap]
cluster_type=rs
router_id=1
user=router
metadata_cluster=rs1
ttl=0.5
auth_cache_ttl=-1
auth_cache_refresh_interval=2

[routing:split]
bind_address=127.0.0.1
bind_port={port}
destinations=metadata-cache://rs1/?role=PRIMARY_AND_SECONDARY
routing_strategy=round-robin
protocol=classic
connection_sharing=1
connection_sharing_delay=0
access_mode=auto
client_ssl_mode=PREFERRED
client_ssl_cert={pem}/server-cert.pem
client_ssl_key={pem}/server-key.pem
server_ssl_mode=PREFERRED
"""

_PGPOOL = """backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = {port}
socket_dir = '{home}'
pcp_socket_dir = '{home}'
pcp_listen_addresses = '127.0.0.1'
pcp_port = {control}
pid_file_name = '{home}/pgpool.pid'
logdir = '{home}'
work_dir = '{home}'
num_init_children = 40
max_pool = 2
load_balance_mode = on
statement_level_load_balance = on
disable_load_balance_on_write = 'transaction'
enable_pool_hba = on
pool_passwd = 'pool_passwd'
sr_check_period = 1
sr_check_user = 'postgres'
sr_check_password = 'postgres'
sr_check_database = 'postgres'
delay_threshold = 10000000
health_check_period = 1
health_check_timeout = 2
health_check_user = 'postgres'
health_check_password = 'postgres'
health_check_database = 'postgres'
failover_on_backend_error = on
memory_cache_enabled = off
use_watchdog = off
"""
