"""SHOW: what it tells about data and schema may be asked anywhere; about the server or connection, the primary."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rds_router.classify.lexer import unquoted
from rds_router.classify.rules_base import SESSION_STATE, THIS_SERVER, Rules, listed
from rds_router.classify.rules_mysql import variable
from rds_router.classify.rules_postgresql import BOUND_SETTINGS
from rds_router.classify.scan import Clause, scan
from rds_router.core.statement import Kind, Statement

READ_WORDS = listed(
    "columns fields index indexes keys tables databases schemas triggers events table create engines plugins "
    "character charset collation privileges grants function procedure package contributors authors locales "
    "library"
)
"""The word behind SHOW [FULL | EXTENDED] that names data or schema."""
CONNECTION_WORDS = listed("warnings errors profile profiles count user_variables")
"""What the last statements of this connection left behind."""


def judge_show(tokens: Sequence[str], rules: Rules, pure_functions: Collection[str]) -> Statement:
    """Judge a SHOW statement."""
    words = [t.lower() for t in tokens[1:6]]
    if rules.name == "postgresql":
        return _show_postgresql(tokens, rules)
    while words and words[0] in {"full", "extended"}:
        words.pop(0)
    word = words[0] if words else ""
    if word in CONNECTION_WORDS:
        return Statement(Kind.SESSION, f"SHOW {word.upper()}: {SESSION_STATE}")
    if word == "variables" or (word in {"global", "session", "local"} and words[1:2] == ["variables"]):
        return _variables(tokens, rules, is_global=word == "global")
    if word == "grants" and len(words) == 1:
        return Statement(Kind.READ, "")
    if word == "grants" or words[:2] == ["create", "user"]:
        return _plain(tokens)
    if word in READ_WORDS or words[:2] == ["storage", "engines"]:
        if word in {"function", "procedure", "package"} and "code" in words:
            return Statement(Kind.UNKNOWN, "SHOW CODE")
        # LIKE and WHERE hold expressions, which may call functions. FROM is a schema's name or a table's.
        verdict = scan(_without_names(tokens), rules, clause=Clause.QUERY, pure_functions=pure_functions)
        return Statement(verdict.kind, verdict.because)
    return Statement(Kind.SESSION, f"SHOW {word.upper()[:40]}: {THIS_SERVER}")


def _without_names(tokens: Sequence[str]) -> list[str]:
    """Keep what stands behind WHERE: before it there are only names, some spelt like keywords."""
    for i, token in enumerate(tokens):
        if token.lower() == "where":
            return list(tokens[i:])
    return []


def _plain(tokens: Sequence[str]) -> Statement:
    """SHOW GRANTS FOR somebody@somewhere: nothing in it can be an expression."""
    ends_in_a_call = [t.lower() for t in tokens[-3:]] == ["current_user", "(", ")"]
    if ":=" in tokens or ("(" in tokens and not (ends_in_a_call and tokens.count("(") == 1)):
        return Statement(Kind.UNKNOWN, "SHOW GRANTS")
    return Statement(Kind.READ, "")


def _variables(tokens: Sequence[str], rules: Rules, *, is_global: bool) -> Statement:
    """Read when the one variable asked for is configuration of the server, the same on every server."""
    lowered = [t.lower() for t in tokens]
    if lowered[-2:-1] == ["like"] and tokens[-1][0] in "'\"":
        name = lowered[-1][1:-1]
        prefix = "@@global." if is_global else "@@"
        if name.isidentifier() and variable(prefix + name, rules.server_variables) is None:
            return Statement(Kind.READ, "")
    return Statement(Kind.SESSION, f"SHOW VARIABLES: {SESSION_STATE}")


def _show_postgresql(tokens: Sequence[str], rules: Rules) -> Statement:
    """Read when the setting is the server's; most can be SET in a session."""
    if len(tokens) != 2:
        return Statement(Kind.SESSION, "SHOW")
    name = unquoted(tokens[1]).lower()
    if name in rules.server_variables and name not in BOUND_SETTINGS:
        return Statement(Kind.READ, "")
    return Statement(Kind.SESSION, f"SHOW {name.upper()}: {SESSION_STATE}")
