"""What SQLite's SQL does, as tables. SQLite has no replicas; these rules serve tests and the strictest common rule."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rds_router.classify.lexer import sqlite_lexis
from rds_router.classify.rules_base import (
    COMMON_NOT_FUNCTIONS,
    COMMON_REFUSED,
    COMMON_WORDS,
    SESSION_STATE,
    Effect,
    Rules,
    Word,
    effects,
    listed,
    union,
    words,
)
from rds_router.core.statement import Kind

VERBS: Mapping[str, Effect] = MappingProxyType(
    {
        **effects(Kind.WRITE, "{}", "insert update delete replace"),
        **effects(Kind.DDL, "{}", "create alter drop reindex vacuum analyze"),
        **effects(Kind.SESSION, "{}", "pragma attach detach begin commit end rollback savepoint release"),
    }
)
WORDS: Mapping[str, Word] = MappingProxyType(
    {
        **COMMON_WORDS,
        **words(Word.CALL_OR_DML, "replace insert"),
        **words(Word.REFUSE, "update delete"),
        **words(Word.KEEP, "glob match regexp escape isnull notnull indexed materialized"),
    }
)
REFUSED: Mapping[str, Effect] = MappingProxyType(
    {**COMMON_REFUSED, **effects(Kind.WRITE, "{}", "insert update delete replace")}
)
EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {
        **effects(Kind.SESSION, "{}(): " + SESSION_STATE, "last_insert_rowid changes total_changes"),
        **effects(Kind.WRITE, "{}(): loads code or writes files", "load_extension writefile edit readfile"),
    }
)
PURE = listed(
    "abs char coalesce concat concat_ws format glob hex ifnull iif if instr length like likelihood likely lower ltrim "
    "max min nullif octet_length printf quote random randomblob replace round rtrim sign soundex "
    "sqlite_compileoption_get sqlite_compileoption_used sqlite_source_id sqlite_version substr substring trim typeof "
    "unhex unicode unistr unistr_quote unlikely upper zeroblob date time datetime julianday unixepoch strftime "
    "timediff avg count group_concat string_agg sum total median percentile row_number rank dense_rank percent_rank "
    "cume_dist ntile lag lead first_value last_value nth_value acos acosh asin asinh atan atan2 atanh ceil ceiling "
    "cos cosh degrees exp floor ln log log10 log2 mod pi pow power radians sin sinh sqrt tan tanh trunc json jsonb "
    "json_array jsonb_array json_array_length json_error_position json_extract jsonb_extract json_insert "
    "jsonb_insert json_object jsonb_object json_patch jsonb_patch json_pretty json_quote json_remove jsonb_remove "
    "json_replace jsonb_replace json_set jsonb_set json_type json_valid json_group_array jsonb_group_array "
    "json_group_object jsonb_group_object json_each json_tree jsonb_each jsonb_tree bm25 highlight snippet "
    "cast"
)


def _relation(parts: tuple[str, ...]) -> Effect | None:
    if parts[-1] in {"sqlite_temp_master", "sqlite_temp_schema"} or parts[0] == "temp":
        return Kind.SESSION, "temporary table"
    return None


def sqlite() -> Rules:
    """Build the rules of SQLite 3."""
    return Rules(
        name="sqlite",
        lexis=sqlite_lexis(),
        verbs=VERBS,
        words=WORDS,
        refused=REFUSED,
        not_functions=union(
            COMMON_NOT_FUNCTIONS,
            listed("glob match regexp numeric decimal varchar text integer char group materialized"),
        ),
        not_functions_after=MappingProxyType({}),
        not_functions_behind_operand=frozenset({"over", "filter"}),
        effects=EFFECTS,
        pure=PURE,
        constructs=frozenset(),
        relation=_relation,
    )
