"""What PostgreSQL's SQL does, as tables. Deliberate choices are argued where they are made.

Functions start from the catalog's volatility (``data/postgresql_functions.txt``): immutable and stable ones
compute, volatile ones may do anything. Names are then taken out (they answer about this server, this connection
or this transaction) and let in (they differ from call to call, but wherever they are called).

What text cannot show, and a read-only connection must catch: operators, casts and views over functions of the
user's own, overloads of built-in names, and a user's function written like a column, ``(x).f``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rds_router.classify.lexer import postgresql_lexis
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
        **effects(Kind.WRITE, "{}", "insert update delete merge call do copy"),
        **effects(
            Kind.DDL,
            "{}",
            "create alter drop truncate grant revoke comment security reindex cluster vacuum analyze analyse "
            "refresh reassign import checkpoint load",
        ),
        **effects(
            Kind.SESSION,
            "{}",
            "set reset begin start commit end rollback abort savepoint release prepare execute deallocate "
            "declare fetch move close listen unlisten notify discard",
        ),
        "lock": (Kind.LOCKING_READ, "LOCK"),
        "notify": (Kind.WRITE, "NOTIFY"),
    }
)
"""EXPLAIN, SHOW and COPY ... TO STDOUT are looked into: see ``statements.py``."""

WORDS: Mapping[str, Word] = MappingProxyType(
    {
        **COMMON_WORDS,
        **words(Word.DML, "insert update delete merge"),
        **words(Word.ROWS, "rows"),
        **words(
            Word.KEEP,
            "symmetric asymmetric ilike similar isnull notnull overlaps array variadic returning ordinality "
            "materialized user",
        ),
    }
)

NOT_FUNCTIONS = union(
    # These may name a function: f(1) where an expression begins.
    COMMON_NOT_FUNCTIONS - {"by", "is", "join"},
    listed(
        # reserved words, and words that may not name a function
        "symmetric asymmetric overlaps array variadic returning only group row both leading trailing placing do "
        "xmlnamespaces to "
        # types, as in numeric(10, 2), varchar(20), timestamp(3)
        "bit char character varchar nchar numeric decimal dec float int integer smallint bigint real time "
        "timestamp timestamptz timetz bpchar varbit precision setof"
    ),
)
NOT_FUNCTIONS_AFTER: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "first": frozenset({"fetch"}),
        "next": frozenset({"fetch"}),
        "sets": frozenset({"grouping"}),
        "zone": frozenset({"time"}),
        "materialized": frozenset({"as", "not"}),
        "bernoulli": frozenset({"tablesample"}),
        "system": frozenset({"tablesample"}),
        "keys": frozenset({"unique"}),
        "by": frozenset({"group", "order", "partition"}),
        "join": frozenset({"left", "right", "inner", "outer", "full", "cross", "natural"}),
        "varying": frozenset({"character", "char", "nchar", "bit"}),
        # INTERVAL ... MINUTE TO SECOND (3)
        "second": frozenset({"to"}),
    }
)
NOT_FUNCTIONS_BEHIND_OPERAND = frozenset(
    {
        "over",
        "filter",
        "columns",
        "operator",
        "repeatable",
        "escape",
        "passing",
        "within",
        "rows",
        "range",
        "groups",
        "second",
        "ilike",
        "join",
    }
)

CONSTRUCTS = listed(
    "coalesce greatest least nullif grouping extract overlay position substring trim treat cast normalize xmlconcat "
    "xmlelement xmlexists xmlforest xmlparse xmlpi xmlroot xmlserialize xmltable xmlattributes exists "
    "current_date current_time current_timestamp localtime localtimestamp "
    # SQL/JSON of PostgreSQL 16 and 17
    "json_object json_array json_objectagg json_arrayagg json_scalar json_serialize json json_exists json_query "
    "json_value json_table merge_action"
)
"""Grammar that looks like a call."""

NEWER = listed(  # PostgreSQL 16
    "any_value array_sample array_shuffle date_add date_subtract erf erfc json_array json_object_agg_strict "
    "json_object_agg_unique json_object_agg_unique_strict json_agg_strict jsonb_agg_strict jsonb_object_agg_strict "
    "jsonb_object_agg_unique jsonb_object_agg_unique_strict pg_input_is_valid pg_input_error_info random_normal "
    "pg_split_walfile_name system_user "
    # 17
    "to_bin to_oct unicode_version icu_unicode_version unicode_assigned xmltext uuid_extract_timestamp "
    "uuid_extract_version jsonb_path_query_tz pg_basetype pg_column_toast_chunk_id to_regtypemod "
    # 18
    "array_reverse array_sort casefold crc32 crc32c gamma lgamma reverse uuidv4 uuidv7 json_strip_nulls "
    "jsonb_strip_nulls pg_get_acl"
)
"""Functions of later versions that compute, by their manuals."""

VOLATILE_BUT_HARMLESS = listed(
    "random clock_timestamp timeofday gen_random_uuid current_query pg_sleep pg_sleep_for pg_sleep_until "
    "pg_relation_size pg_table_size pg_total_relation_size pg_indexes_size pg_database_size pg_tablespace_size "
    "pg_partition_ancestors pg_partition_tree pg_jit_available pg_collation_actual_version "
    "pg_database_collation_actual_version"
)
"""Differ from call to call wherever they are called, or read what replicates."""

EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {
        **effects(Kind.WRITE, "{}(): a sequence", "nextval setval"),
        **effects(Kind.SESSION, "{}(): " + SESSION_STATE, "currval lastval"),
        **effects(
            Kind.LOCKING_READ,
            "{}(): an advisory lock",
            "pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all "
            "pg_advisory_unlock_shared pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_lock "
            "pg_try_advisory_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared",
        ),
        **effects(
            Kind.SESSION,
            "{}(): " + SESSION_STATE,
            "set_config setseed pg_backend_pid inet_client_addr inet_client_port pg_my_temp_schema "
            "pg_is_other_temp_schema pg_listening_channels pg_cursor pg_prepared_statement pg_stat_clear_snapshot "
            "pg_replication_origin_session_setup pg_replication_origin_session_reset pg_trigger_depth",
        ),
        **effects(
            Kind.SESSION,
            "{}(): the primary's transactions",
            "pg_export_snapshot txid_current_snapshot pg_current_snapshot txid_status pg_xact_status "
            "txid_current_if_assigned pg_current_xact_id_if_assigned pg_last_committed_xact pg_xact_commit_timestamp "
            "pg_xact_commit_timestamp_origin pg_prepared_xact mxid_age pg_get_multixact_members pg_snapshot_xip",
        ),
        # A setting made by SET or set_config() on the primary's connection is not there on a replica's.
        **effects(Kind.SESSION, "{}(): " + SESSION_STATE, "current_setting"),
        **effects(Kind.WRITE, "{}(): takes a transaction id", "txid_current pg_current_xact_id"),
        **effects(Kind.WRITE, "{}(): notifies", "pg_notify"),
        **effects(
            Kind.UNKNOWN,
            "{}(): runs SQL given as text",
            "query_to_xml query_to_xmlschema query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema ts_stat "
            "ts_rewrite dblink dblink_exec dblink_connect dblink_send_query crosstab connectby",
        ),
        **effects(
            Kind.SESSION,
            "{}(): " + THIS_SERVER,
            "inet_server_addr inet_server_port pg_is_in_recovery pg_postmaster_start_time pg_conf_load_time "
            "pg_current_logfile pg_blocking_pids pg_safe_snapshot_blocking_pids pg_lock_status "
            "pg_get_replication_slots pg_get_shmem_allocations pg_get_backend_memory_contexts pg_config "
            "pg_show_all_settings pg_show_all_file_settings pg_hba_file_rules pg_ident_file_mappings "
            "pg_relation_filepath pg_tablespace_location pg_notification_queue_usage pg_sequence_last_value "
            "pg_get_wal_resource_managers pg_show_replication_origin_status pg_replication_origin_oid "
            "aurora_version aurora_db_instance_identifier aurora_replica_status "
            "aurora_global_db_status aurora_global_db_instance_status",
        ),
    }
)
EFFECT_BEGINNINGS: tuple[tuple[str, Effect], ...] = (
    ("pg_advisory_", (Kind.LOCKING_READ, "an advisory lock")),
    ("pg_try_advisory_", (Kind.LOCKING_READ, "an advisory lock")),
    ("lo_", (Kind.WRITE, "a large object")),
    ("pg_stat_", (Kind.SESSION, THIS_SERVER)),
    ("pg_ls_", (Kind.SESSION, "files of the server")),
    ("pg_read_", (Kind.SESSION, "files of the server")),
    ("pg_wal", (Kind.SESSION, THIS_SERVER)),
    ("pg_control_", (Kind.SESSION, THIS_SERVER)),
    ("pg_event_trigger_", (Kind.SESSION, THIS_SERVER)),
    ("binary_upgrade_", (Kind.WRITE, "upgrades")),
    ("dblink", (Kind.WRITE, "talks to another server")),
    ("aurora_", (Kind.SESSION, THIS_SERVER)),
)
"""Families of functions known by how their names begin. The exact names above come first."""
PURE_IN_SPITE_OF_THEIR_BEGINNING = frozenset({"pg_wal_lsn_diff"})

BOUND_SETTINGS = listed(
    "in_hot_standby hot_standby primary_conninfo primary_slot_name cluster_name data_directory config_file hba_file "
    "ident_file external_pid_file listen_addresses port unix_socket_directories data_directory_mode "
    "synchronous_standby_names recovery_target recovery_target_name promote_trigger_file"
)
"""Settings of a server that tell it from another. A session's settings are never asked of a replica at all."""

SERVER_RELATIONS = listed(
    "pg_locks pg_cursors pg_prepared_statements pg_prepared_xacts pg_replication_slots pg_replication_origin_status "
    "pg_settings pg_file_settings pg_hba_file_rules pg_ident_file_mappings pg_shmem_allocations "
    "pg_shmem_allocations_numa "
    "pg_backend_memory_contexts pg_config pg_wait_events pg_aios pg_dsm_registry_allocations"
)


def relation(parts: tuple[str, ...]) -> Effect | None:
    """Say why a relation must be asked on the primary, or None: views of the server's or the connection's state."""
    table = parts[-1]
    if len(parts) > 1 and parts[-2].startswith("pg_temp"):
        return Kind.SESSION, "temporary table"
    # An extension's views, which may be in any schema.
    if table.startswith("pg_buffercache"):
        return Kind.SESSION, f"{table}: {THIS_SERVER}"
    if len(parts) > 1 and parts[-2] != "pg_catalog":
        return None
    if table in SERVER_RELATIONS or (
        table.startswith(("pg_stat_", "pg_statio_")) and table not in {"pg_stat_ext", "pg_stats", "pg_stats_ext"}
    ):
        return Kind.SESSION, f"{table}: {THIS_SERVER}"
    return None


def postgresql() -> Rules:
    """Build the rules of PostgreSQL 12 to 18."""
    names = read_names("postgresql_functions.txt")
    beginnings = tuple(beginning for beginning, _ in EFFECT_BEGINNINGS)
    known = union(names["immutable"], names["stable"], names["types"], NEWER, VOLATILE_BUT_HARMLESS)
    table = dict(EFFECTS)
    for name in union(known, names["volatile"]):
        if name.startswith(beginnings) and name not in table and name not in PURE_IN_SPITE_OF_THEIR_BEGINNING:
            kind, why = next(effect for start, effect in EFFECT_BEGINNINGS if name.startswith(start))
            table[name] = (kind, f"{name.upper()}(): {why}")
    for name in names["volatile"] - table.keys() - VOLATILE_BUT_HARMLESS:
        table[name] = (Kind.WRITE, f"{name.upper()}(): volatile")
    return Rules(
        name="postgresql",
        lexis=postgresql_lexis(),
        verbs=VERBS,
        words=WORDS,
        refused=COMMON_REFUSED,
        not_functions=NOT_FUNCTIONS,
        not_functions_after=NOT_FUNCTIONS_AFTER,
        not_functions_behind_operand=NOT_FUNCTIONS_BEHIND_OPERAND,
        effects=MappingProxyType(table),
        pure=known - table.keys(),
        constructs=CONSTRUCTS,
        relation=relation,
        server_variables=read_names("server_variables.txt")["postgresql"],
        any_word_labels=True,
        # https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-USAGE: (x).f is f(x), whatever x is.
        # A column of such a name goes to the primary, too: one cannot be told from the other.
        behind_dot=MappingProxyType(table),
        builtin_schema="pg_catalog",
        explains_dml=True,
    )
