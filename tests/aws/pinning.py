"""When RDS Proxy pins a client to a connection, as AWS publishes it, written as tables.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-pinning.html
"""

from __future__ import annotations

import re

TRACKED = (
    "autocommit, auto_increment_increment, character set, charset, character_set_client, character_set_database, "
    "character_set_filesystem, character_set_connection, character_set_results, character_set_server, "
    "collation_connection, collation_database, collation_server, interactive_timeout, names, net_write_timeout, "
    "query_cache_type, session_track_schema, sql_mode, time_zone, transaction isolation, transaction_isolation, "
    "tx_isolation, transaction_read_only, tx_read_only, wait_timeout"
)
"""What MySQL's and MariaDB's clients may SET without being pinned."""

_NAMES = "|".join(re.sub(r"\s+", r"\\s+", name) for name in TRACKED.split(", "))
_SET = rf"^\s*SET\s+(?!(SESSION\s+|@@session\.|@@)?({_NAMES})\b)"
MYSQL = {
    "a variable that is not tracked": _SET,
    "a user variable": r"(^|[^@\w`])@(?!@)[\w`'\"]+\s*(:=|=)|\bINTO\s+@",
    "a table lock": r"^\s*(LOCK\s+TABLES?|FLUSH\s+TABLES\s+WITH\s+READ\s+LOCK)\b",
    "a named lock": r"\b(GET_LOCK|RELEASE_LOCK|RELEASE_ALL_LOCKS)\s*\(",
    "a temporary table": r"^\s*CREATE\s+TEMPORARY\b",
    "what the last statement did": r"\b(ROW_COUNT|FOUND_ROWS|LAST_INSERT_ID)\s*\(",
    "a prepared statement": r"^\s*(PREPARE|EXECUTE|DEALLOCATE)\b",
}
POSTGRESQL = {
    "a setting": r"^\s*(SET|RESET)\b(?!\s+TRANSACTION)|\bset_config\s*\(",
    "a prepared statement": r"^\s*(PREPARE|EXECUTE|DEALLOCATE|DISCARD)\b",
    "a temporary relation": r"^\s*CREATE\s+(LOCAL\s+|GLOBAL\s+)?(TEMP|TEMPORARY)\b",
    "a cursor": r"^\s*DECLARE\b",
    "a channel": r"^\s*(LISTEN|UNLISTEN)\b",
    "a library": r"^\s*LOAD\b",
    "a sequence": r"\b(nextval|setval|currval|lastval)\s*\(",
    "an advisory lock": r"\bpg_(try_)?advisory_\w*lock\w*\s*\(",
}
LONGEST = 16 * 1024
"""Bytes; a longer statement pins."""


def why_pinned(statement: str, engine: str) -> str:
    """What of a statement pins; empty if nothing does."""
    if len(statement.encode()) > LONGEST:
        return "a long statement"
    for why, pattern in (POSTGRESQL if engine == "postgresql" else MYSQL).items():
        if re.search(pattern, statement, re.I):
            return why
    return ""
