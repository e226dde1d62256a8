"""What MySQL's and MariaDB's SQL does, as tables. Deliberate choices are argued where they are made.

What is bound to a connection or tells one server from another goes to the primary even though a replica would
answer it: LAST_INSERT_ID(), FOUND_ROWS(), user variables, GET_LOCK() and its family (a lock on a replica protects
nothing), SHOW PROCESSLIST, @@server_id, performance_schema. A wrong guess here raises no error anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rds_router.classify.lexer import mysql_lexis
from rds_router.classify.rules_base import (
    COMMON_NOT_FUNCTIONS,
    COMMON_REFUSED,
    COMMON_WORDS,
    SESSION_STATE,
    THIS_SERVER,
    Effect,
    Rules,
    Word,
    effects,
    listed,
    read_names,
    union,
    words,
)
from rds_router.core.statement import Kind

VERBS: Mapping[str, Effect] = MappingProxyType(
    {
        **effects(Kind.WRITE, "{}", "insert update delete replace call do load handler import binlog"),
        **effects(
            Kind.DDL,
            "{}",
            "create alter drop rename truncate grant revoke repair optimize check checksum analyze cache install "
            "uninstall flush purge reset change start stop backup clone shutdown restart kill",
        ),
        **effects(
            Kind.SESSION,
            "{}",
            "set use begin commit rollback savepoint release prepare execute deallocate xa declare open fetch "
            "close get signal resignal delimiter if case loop repeat while leave iterate return",
        ),
        **effects(Kind.SESSION, "HANDLER", "handler"),
        "start": (Kind.SESSION, "START"),
        "lock": (Kind.LOCKING_READ, "LOCK"),
        "unlock": (Kind.LOCKING_READ, "UNLOCK"),
    }
)
"""EXPLAIN, DESCRIBE, SHOW and MariaDB's ANALYZE are looked into: see ``statements.py``."""

REFUSED: Mapping[str, Effect] = MappingProxyType(
    {
        **COMMON_REFUSED,
        "lock": (Kind.LOCKING_READ, "LOCK IN SHARE MODE"),
        "procedure": (Kind.UNKNOWN, "PROCEDURE"),
        # The next FOUND_ROWS() must find what this statement left on its connection.
        "sql_calc_found_rows": (Kind.SESSION, "SQL_CALC_FOUND_ROWS"),
        **effects(Kind.WRITE, "{}", "delete update call load"),
        **effects(Kind.DDL, "{}", "drop alter grant revoke rename purge"),
        **effects(Kind.LOCKING_READ, "{}", "unlock"),
        "insert": (Kind.WRITE, "INSERT"),
        "replace": (Kind.WRITE, "REPLACE"),
    }
)

WORDS: Mapping[str, Word] = MappingProxyType(
    {
        **COMMON_WORDS,
        **words(Word.CALL_OR_DML, "insert replace"),
        **words(
            Word.REFUSE,
            "lock procedure sql_calc_found_rows delete update call load drop alter grant revoke rename purge unlock",
        ),
        **words(Word.STRAIGHT_JOIN, "straight_join"),
        **words(Word.CLAUSE, "minus qualify"),
        **words(
            Word.KEEP,
            "use force ignore index key div mod xor rlike regexp binary row match against sounds escape "
            "high_priority sql_no_cache sql_cache sql_buffer_result sql_small_result sql_big_result distinctrow",
        ),
    }
)

NOT_FUNCTIONS = union(
    COMMON_NOT_FUNCTIONS,
    listed(
        # reserved words
        "xor div mod rlike regexp binary row match distinctrow index key partition group straight_join high_priority "
        "sql_small_result sql_big_result returning "
        # types, as in CAST(x AS DECIMAL(10, 2)) or JSON_TABLE's columns
        "char character varchar varbinary nchar nvarchar decimal dec numeric fixed float float4 float8 double "
        "real bit tinyint smallint mediumint int integer bigint datetime enum varcharacter tinytext mediumtext "
        "longtext blob text unsigned signed"
    ),
)
NOT_FUNCTIONS_AFTER: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "first": frozenset({"fetch"}),
        "next": frozenset({"fetch"}),
        "sets": frozenset({"grouping"}),
        "of": frozenset({"member"}),
        "sql_no_cache": frozenset({"select", "all", "distinct", "high_priority", "straight_join"}),
        "sql_cache": frozenset({"select", "all", "distinct", "high_priority", "straight_join"}),
        "sql_buffer_result": frozenset({"select", "all", "distinct", "high_priority", "straight_join"}),
        "bernoulli": frozenset({"tablesample"}),
        "system": frozenset({"tablesample"}),
    }
)
NOT_FUNCTIONS_BEHIND_OPERAND = frozenset({"over", "against", "columns", "escape", "filter", "vector"})

EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {
        **effects(
            Kind.LOCKING_READ,
            "{}(): a named lock",
            "get_lock release_lock release_all_locks is_free_lock is_used_lock service_get_read_locks "
            "service_get_write_locks service_release_locks version_tokens_lock_shared version_tokens_lock_exclusive "
            "version_tokens_unlock",
        ),
        **effects(
            Kind.SESSION,
            "{}(): " + SESSION_STATE,
            "last_insert_id found_rows row_count connection_id ps_current_thread_id",
        ),
        **effects(Kind.WRITE, "{}(): a sequence", "nextval setval lastval"),
        **effects(Kind.UNKNOWN, "{}(): reads a file of the server", "load_file"),
        **effects(
            Kind.SESSION,
            "{}(): " + THIS_SERVER,
            "master_pos_wait source_pos_wait wait_for_executed_gtid_set wait_until_sql_thread_after_gtids "
            "master_gtid_wait wsrep_last_written_gtid wsrep_last_seen_gtid wsrep_sync_wait_upto_gtid "
            "binlog_gtid_pos ps_thread_id",
        ),
        **effects(
            Kind.WRITE,
            "{}(): changes the server",
            "keyring_key_store keyring_key_remove keyring_key_generate audit_log_filter_set_user "
            "audit_log_filter_set_filter audit_log_rotate sys_exec sys_eval sys_set lib_mysqludf_sys_info "
            "version_tokens_set version_tokens_edit version_tokens_delete group_replication_set_as_primary "
            "group_replication_switch_to_single_primary_mode group_replication_switch_to_multi_primary_mode "
            "asynchronous_connection_failover_add_source asynchronous_connection_failover_delete_source",
        ),
    }
)

BOUND_VARIABLES = listed(
    "identity last_insert_id insert_id warning_count error_count rand_seed1 rand_seed2 pseudo_thread_id "
    "pseudo_slave_mode pseudo_replica_mode in_transaction last_gtid external_user proxy_user statement_id "
    "last_commit_id server_id server_uuid hostname port socket pid_file datadir basedir tmpdir read_only "
    "super_read_only innodb_read_only bind_address general_log_file slow_query_log_file log_error plugin_dir "
    "character_sets_dir secure_file_priv slave_load_tmpdir replica_load_tmpdir init_slave init_replica "
    "offline_mode event_scheduler"
)
"""Tell what this connection did last, what its transaction is, or which server this is."""
BOUND_VARIABLE_BEGINNINGS = (
    "gtid_",
    "rpl_",
    "wsrep_",
    "slave_",
    "replica_",
    "report_",
    "relay_log",
    "log_bin",
    "log_slave",
    "log_replica",
    "master_",
    "source_",
    "group_replication_",
    "innodb_data_home",
    "aurora_",
    "innodb_replica_",
)


SCOPES = frozenset({"global", "session", "local", "persist", "persist_only"})


def variable(token: str, server_variables: frozenset[str]) -> Effect | None:
    """Say what reading ``@x`` or ``@@x`` means: None when it is configuration, the same for every connection.

    A user variable lives in one connection. So does a system variable's session value, which SET changes on the
    primary's connection and not on a replica's; only what has no session value, or is asked for as
    ``@@global.x``, is configuration. A few of those tell one server from another.
    """
    if not token.startswith("@@"):
        return Kind.SESSION, f"user variable {token}"
    name = token[2:].lower()
    scope, dot, rest = name.partition(".")
    is_global = bool(dot) and scope in {"global", "persist", "persist_only"}
    if dot and scope in SCOPES:
        name = rest
    if not name or name in SCOPES or name in BOUND_VARIABLES or name.startswith(BOUND_VARIABLE_BEGINNINGS):
        return Kind.SESSION, f"variable @@{name}"
    if is_global or name in server_variables:
        return None
    return Kind.SESSION, f"variable @@{name} of the session"


SEQUENCE_COLUMNS = frozenset({"nextval", "currval"})
"""In MariaDB's Oracle mode, ``sequence.nextval``: https://mariadb.com/kb/en/sequence-overview/"""
BEHIND_DOT: Mapping[str, Effect] = MappingProxyType(
    {name: (Kind.WRITE, f"{name} of a sequence") for name in SEQUENCE_COLUMNS}
)

SERVER_TABLES = listed(
    "processlist profiling innodb_trx innodb_locks innodb_lock_waits innodb_metrics global_status session_status "
    "global_variables session_variables user_variables open_tables "
    "user_statistics client_statistics table_statistics index_statistics query_response_time "
    "replica_host_status wsrep_membership wsrep_status optimizer_trace system_variables metadata_lock_info "
    "slave_status innodb_mutexes innodb_session_temp_tablespaces innodb_cached_indexes"
)
SERVER_TABLE_BEGINNINGS = (
    "innodb_buffer",
    "innodb_cmp",
    "innodb_temp",
    "innodb_tablespaces_s",
    "thread_pool_",
    "tp_thread_",
)
"""How the names of more such tables in information_schema begin. ``SYSTEM_VARIABLES`` shows the session's values."""


def relation(parts: tuple[str, ...]) -> Effect | None:
    """Say why a table must be asked on the primary, or None: tables about the server, not about its data."""
    if len(parts) < 2:
        return None
    schema, table = parts[-2], parts[-1]
    if schema in {"performance_schema", "sys"}:
        return Kind.SESSION, f"{schema}: {THIS_SERVER}"
    if schema == "information_schema" and (table in SERVER_TABLES or table.startswith(SERVER_TABLE_BEGINNINGS)):
        return Kind.SESSION, f"information_schema.{table}: {THIS_SERVER}"
    if schema == "mysql" and table in {"gtid_executed", "gtid_slave_pos", "general_log", "slow_log"} | {
        "slave_master_info",
        "slave_relay_log_info",
        "slave_worker_info",
    }:
        return Kind.SESSION, f"mysql.{table}: {THIS_SERVER}"
    return None


def mysql() -> Rules:
    """Build the rules of MySQL (8.0 and later; 5.7 is a subset)."""
    names = read_names("mysql_functions.txt")
    return Rules(
        name="mysql",
        lexis=mysql_lexis(),
        verbs=VERBS,
        words=WORDS,
        refused=REFUSED,
        not_functions=NOT_FUNCTIONS,
        # MySQL 8.0 has no SQL_CACHE any more, so there it may name a function.
        not_functions_after={word: after for word, after in NOT_FUNCTIONS_AFTER.items() if word != "sql_cache"},
        not_functions_behind_operand=NOT_FUNCTIONS_BEHIND_OPERAND,
        effects=EFFECTS,
        pure=names["native"] - EFFECTS.keys(),
        constructs=names["keyword"] - EFFECTS.keys(),
        relation=relation,
        server_variables=read_names("server_variables.txt")["mysql"],
        variable=variable,
        assigns=True,
        # A server spoken to as mysql may be a MariaDB.
        sequence_columns=SEQUENCE_COLUMNS,
        behind_dot=BEHIND_DOT,
        no_tables=frozenset({"dual"}),
    )


def mariadb() -> Rules:
    """Build the rules of MariaDB: MySQL's words, its own functions, and sequences."""
    names = read_names("mariadb_functions.txt")
    return Rules(
        name="mariadb",
        lexis=mysql_lexis(),
        verbs=VERBS,
        # MariaDB has no TABLE statement, so the word stays a keyword that begins nothing.
        words={**WORDS, "table": Word.KEEP},
        refused=REFUSED,
        not_functions=NOT_FUNCTIONS,
        not_functions_after=NOT_FUNCTIONS_AFTER,
        not_functions_behind_operand=NOT_FUNCTIONS_BEHIND_OPERAND,
        effects=EFFECTS,
        pure=names["native"] - EFFECTS.keys(),
        constructs=names["keyword"] - EFFECTS.keys(),
        relation=relation,
        server_variables=read_names("server_variables.txt")["mariadb"],
        variable=variable,
        assigns=True,
        sequence_columns=SEQUENCE_COLUMNS,
        behind_dot=BEHIND_DOT,
        no_tables=frozenset({"dual"}),
    )
