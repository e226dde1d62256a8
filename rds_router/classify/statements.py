"""From tokens to verdicts on whole statements: several in one text, EXPLAIN, SHOW, COPY and the like."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from rds_router.classify.rules_base import Rules, Word, words
from rds_router.classify.rules_show import judge_show
from rds_router.classify.scan import Clause, scan
from rds_router.core.statement import Kind, Statement


def judge_tokens(tokens: Sequence[str], rules: Rules, pure_functions: Collection[str]) -> Statement:
    """Judge every statement among the tokens: READ if all are, else the first that is not."""
    tables: frozenset[str] | None = frozenset()
    seen = False
    start = 0
    count = len(tokens)
    while start < count:
        end = _semicolon(tokens, start)
        if end > start:
            verdict = judge_one(tokens[start:end] if start or end < count else tokens, rules, pure_functions)
            if verdict.kind is not Kind.READ:
                return verdict
            seen = True
            tables = None if tables is None or verdict.tables is None else tables | verdict.tables
        start = end + 1
    return Statement(Kind.READ, "", tables) if seen else Statement(Kind.UNKNOWN, "no statement")


def judge_one(tokens: Sequence[str], rules: Rules, pure_functions: Collection[str]) -> Statement:
    """Judge one statement. ``tokens`` is not empty and holds no top-level semicolon."""
    at = 0
    while at < len(tokens) and tokens[at] == "(":
        at += 1
    verb = tokens[at].lower() if at < len(tokens) else ""
    if verb in _QUERIES and (verb != "table" or rules.name != "mariadb"):
        return scan(tokens, rules, pure_functions=pure_functions)
    if at == 0:
        look_into = _LOOKED_INTO.get((rules.name, verb))
        if look_into is not None:
            return look_into(tokens, rules, pure_functions)
    effect = rules.verbs.get(verb)
    if effect is not None:
        return Statement(*effect)
    return Statement(Kind.UNKNOWN, f"statement {verb.upper()[:40]}" if verb else "no statement")


def _semicolon(tokens: Sequence[str], start: int) -> int:
    """Find the end of the statement: the next semicolon outside of parentheses, or the end."""
    try:
        at = tokens.index(";", start)
    except ValueError:
        return len(tokens)
    depth = 0
    for i in range(start, len(tokens)):
        token = tokens[i]
        if token == "(":
            depth += 1
        elif token == ")":
            depth -= 1
        elif token == ";" and depth <= 0:
            return i
    # Never closed: cut at the first, so that the rest is looked at, too.
    return at


def _explain(tokens: Sequence[str], rules: Rules, pure_functions: Collection[str]) -> Statement:
    """MySQL and MariaDB: EXPLAIN, DESCRIBE, DESC, and MariaDB's ANALYZE, which runs the statement."""
    at = 1
    while at < len(tokens):
        word = tokens[at].lower()
        if word in {"extended", "partitions", "analyze", "verbose"}:
            at += 1
        elif word == "format" and tokens[at + 1 : at + 2] == ["="]:
            at += 3
        else:
            break
    if at >= len(tokens):
        return Statement(Kind.UNKNOWN, "EXPLAIN of nothing")
    word = tokens[at].lower()
    if word == "into":
        return Statement(Kind.SESSION, "EXPLAIN INTO")
    if word == "for":
        if tokens[at + 1 : at + 2] and tokens[at + 1].lower() in {"schema", "database"}:
            at += 3
            word = tokens[at].lower() if at < len(tokens) else ""
        else:
            return Statement(Kind.SESSION, "EXPLAIN FOR CONNECTION")
    if word in _QUERIES or word == "(" or word in rules.verbs:
        return judge_one(tokens[at:], rules, pure_functions)
    if tokens[0].lower() == "analyze":
        return Statement(Kind.DDL, "ANALYZE")
    if at == 1 and len(tokens) <= 6:
        return Statement(Kind.READ, "", _named(tokens[1:]))
    return Statement(Kind.UNKNOWN, "EXPLAIN")


def _named(tokens: Sequence[str]) -> frozenset[str] | None:
    """The table of DESCRIBE, when it is written plainly."""
    if len(tokens) == 1:
        return frozenset({tokens[0].strip('`"').lower()})
    return None


def _explain_postgresql(tokens: Sequence[str], rules: Rules, pure_functions: Collection[str]) -> Statement:
    """PostgreSQL: only ANALYZE runs the statement; without it a writing statement is merely planned."""
    at, runs = 1, False
    if tokens[1:2] == ["("]:
        if ")" not in tokens:
            return Statement(Kind.UNKNOWN, "EXPLAIN")
        close = tokens.index(")")
        options = [t.lower().strip("'\"") for t in tokens[2:close]]
        for i, option in enumerate(options):
            if option in _ANALYZE:
                runs = runs or options[i + 1 : i + 2] not in ([no] for no in _OFF)
            elif not option.isidentifier() and option not in {",", "0", "1"}:
                return Statement(Kind.UNKNOWN, "EXPLAIN")
        at = close + 1
    while at < len(tokens) and tokens[at].lower() in _ANALYZE | {"verbose"}:
        runs = runs or tokens[at].lower() != "verbose"
        at += 1
    rest = tokens[at:]
    if not rest:
        return Statement(Kind.UNKNOWN, "EXPLAIN of nothing")
    if not runs and rest[0].lower() in {"insert", "update", "delete", "merge"}:
        return _planned(rest, rules, pure_functions)
    if not runs and rest[0].lower() in {"create", "declare"}:
        rest = _query_of(rest)
    return judge_one(rest, rules, pure_functions)


def _query_of(tokens: Sequence[str]) -> Sequence[str]:
    """The query of CREATE TABLE ... AS or DECLARE ... CURSOR FOR, where that is clear, or the statement itself.

    Nothing is created under EXPLAIN without ANALYZE: a standby plans the query and answers. Only a temporary table's
    name is looked up in a schema that the session must make first, which a standby refuses.
    """
    lowered = [t.lower().strip('"') for t in tokens]
    if lowered[0] == "declare":
        if "for" not in lowered or "cursor" not in lowered[: lowered.index("for")]:
            return tokens
        query = tokens[lowered.index("for") + 1 :]
    else:
        if "as" not in lowered or {"table", "materialized"}.isdisjoint(lowered[1:4]):
            return tokens
        if not _TEMPORARY.isdisjoint(lowered[: lowered.index("as")]):
            return tokens
        query = tokens[lowered.index("as") + 1 :]
        for end in (["with", "data"], ["with", "no", "data"]):
            if [t.lower() for t in query[-len(end) :]] == end:
                query = query[: -len(end)]
    return query if query and query[0].lower() in _QUERIES | {"("} else tokens


_TEMPORARY = frozenset({"temp", "temporary", "pg_temp"})


def _planned(tokens: Sequence[str], rules: Rules, pure_functions: Collection[str]) -> Statement:
    """A writing statement that is planned only. The planner may call functions, so those are judged.

    A read-only server does not refuse it: under EXPLAIN without ANALYZE nothing is executed, and the table lock
    taken, ROW EXCLUSIVE, is allowed on a standby.
    """
    planned = replace(
        rules,
        words={**rules.words, **_PLANNED_WORDS},
        not_functions=rules.not_functions | {"insert"},
        not_functions_after={**rules.not_functions_after, "conflict": frozenset({"on"})},
    )
    verdict = scan(_without_columns(tokens), planned, pure_functions=pure_functions, clause=Clause.QUERY)
    return Statement(verdict.kind, verdict.because)


def _without_columns(tokens: Sequence[str]) -> list[str]:
    """Leave out the columns of INSERT INTO t (a, b): there, t is no function."""
    kept: list[str] = []
    at = 0
    while at < len(tokens):
        kept.append(tokens[at])
        at += 1
        if kept[-1].lower() != "into":
            continue
        while at < len(tokens) and tokens[at] != "(" and tokens[at].lower() not in _QUERIES | {"using"}:
            kept.append(tokens[at])
            at += 1
        opens = tokens[at : at + 2]
        if len(opens) == 2 and opens[0] == "(" and opens[1].lower() not in _QUERIES | {"("}:
            at = tokens.index(")", at) + 1 if ")" in tokens[at:] else len(tokens)
    return kept


def _copy(tokens: Sequence[str], rules: Rules, pure_functions: Collection[str]) -> Statement:
    """COPY table or query TO STDOUT reads; to a file or a program it writes on the server."""
    refused = Statement(Kind.WRITE, "COPY")
    at = 1
    if tokens[1:2] == ["("]:
        depth = 0
        for i in range(1, len(tokens)):
            depth += (tokens[i] == "(") - (tokens[i] == ")")
            if depth == 0:
                at = i + 1
                break
        else:
            return refused
        verdict = judge_one(tokens[2 : at - 1], rules, pure_functions) if at > 3 else refused
    else:
        while at < len(tokens) and tokens[at].lower() not in {"to", "from"}:
            at += 1
        # The columns in parentheses are mere names.
        named = tokens.index("(") if "(" in tokens[:at] else at
        verdict = scan(["TABLE", *tokens[1:named]], rules)
    if verdict.kind is not Kind.READ:
        return verdict
    if [t.lower() for t in tokens[at : at + 2]] != ["to", "stdout"]:
        return refused
    return Statement(Kind.READ, "", verdict.tables)


def _help(tokens: Sequence[str]) -> Statement:
    return Statement(Kind.READ) if len(tokens) == 2 else Statement(Kind.UNKNOWN, "HELP")


def _analyze_mariadb(tokens: Sequence[str], rules: Rules, pure_functions: Collection[str]) -> Statement:
    following = tokens[1].lower() if len(tokens) > 1 else ""
    if following in {"table", "local", "no_write_to_binlog", "tables"}:
        return Statement(Kind.DDL, "ANALYZE TABLE")
    return _explain(tokens, rules, pure_functions)


_PLANNED_WORDS = {
    **words(Word.KEEP, "insert update delete merge into"),
    # DELETE FROM a USING b: what follows is a table.
    **words(Word.JOIN, "using"),
}
_ANALYZE = frozenset({"analyze", "analyse"})
_OFF = frozenset({"false", "off", "0", "no"})
_QUERIES = frozenset({"select", "with", "values", "table"})

_Look = Callable[[Sequence[str], Rules, Collection[str]], Statement]
_LOOKED_INTO: dict[tuple[str, str], _Look] = {
    **{(name, verb): _explain for name in ("mysql", "mariadb") for verb in ("explain", "describe", "desc")},
    # HELP reads tables that come with the server.
    **{(name, "help"): lambda tokens, rules, pure: _help(tokens) for name in ("mysql", "mariadb")},
    ("mariadb", "analyze"): _analyze_mariadb,
    ("postgresql", "explain"): _explain_postgresql,
    ("postgresql", "copy"): _copy,
    **{(name, "show"): judge_show for name in ("mysql", "mariadb", "postgresql")},
    ("sqlite", "explain"): lambda tokens, rules, pure: judge_one(tokens[1:] or ["?"], rules, pure),
}

__all__ = ["Clause", "judge_one", "judge_tokens"]
