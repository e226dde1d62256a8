"""Writes docs/classification.md from the classifier's own tables.

python docs/generate_classification.py           # writes the page
python docs/generate_classification.py --check   # exit code 1 if the committed page is not what it would write
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from rds_router.classify import elements, orm_rules, rules_mysql, rules_postgresql, rules_show
from rds_router.classify.constructs import classify
from rds_router.classify.rules_base import Effect, Rules, Word
from rds_router.classify.text import rules_of
from rds_router.classify.walk import GRAVITY
from rds_router.core.statement import Kind

PAGE: Final = Path(__file__).with_name("classification.md")

TITLES: Final = {"mysql": "MySQL", "mariadb": "MariaDB", "postgresql": "PostgreSQL"}

HEAD: Final = """\
<!-- Written by docs/generate_classification.py from the classifier's tables. Change those, then run it. -->

# What goes where, and why

A statement goes to a replica only if it is known to be a plain read: the same answer there as on the primary, but for
lag. Everything else goes to the primary: what writes, what locks, what reads or sets the state of one connection, what
answers about one server, and whatever is not understood. A read sent to the primary costs a little work; a write or a
lock sent to a replica is an error, or worse, no error.

To see a verdict: `rds-router classify --dialect postgresql "SELECT nextval('s')"`, or in Python
`rds_router.classify("SELECT nextval('s')", dialect="postgresql")`, which takes SQLAlchemy statements too.

Your own functions are unknown, so they go to the primary. Name those that only compute in the policy:
`RoutingPolicy(pure_functions={"distance", "app.score"})`.
"""

EVERY: Final = ("mysql", "mariadb", "postgresql")
MYSQLS: Final = ("mysql", "mariadb")
POSTGRESQL: Final = ("postgresql",)

EXAMPLES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "Reads": {
        "SELECT * FROM t WHERE a = 'for update'": EVERY,
        "WITH c AS (SELECT 1) SELECT * FROM c": EVERY,
        "(SELECT 1) UNION (SELECT 2)": EVERY,
        "TABLE t": ("mysql", "postgresql"),
        "SELECT now(), count(*) FROM t": EVERY,
        "SELECT my_function(1)": EVERY,
        "EXPLAIN SELECT 1": EVERY,
        "SELECT $$; DELETE FROM t$$": POSTGRESQL,
        "SELECT 1 # FOR UPDATE": MYSQLS,
    },
    "Locks": {
        "SELECT * FROM t FOR UPDATE": EVERY,
        "SELECT * FROM (SELECT * FROM t FOR SHARE) AS s": ("mysql", "postgresql"),
        "SELECT * FROM t LOCK IN SHARE MODE": MYSQLS,
        "SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED": POSTGRESQL,
        "SELECT get_lock('a', 1)": MYSQLS,
        "SELECT pg_advisory_lock(1)": POSTGRESQL,
        "LOCK TABLES t READ": MYSQLS,
        "LOCK TABLE t IN SHARE MODE": POSTGRESQL,
    },
    "Writes inside a read": {
        "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d": POSTGRESQL,
        "SELECT 1 INTO @a": MYSQLS,
        "SELECT * FROM t INTO OUTFILE '/tmp/t'": MYSQLS,
        "SELECT * INTO n FROM t": POSTGRESQL,
        "SELECT nextval('s')": POSTGRESQL,
        "SELECT NEXT VALUE FOR s": ("mariadb",),
        "SELECT 1; DELETE FROM t": EVERY,
        "SELECT 1 /*!50000 FOR UPDATE */": MYSQLS,
        "EXPLAIN ANALYZE DELETE FROM t": ("mysql", "postgresql"),
        "EXPLAIN DELETE FROM t": EVERY,
        "COPY t TO STDOUT": POSTGRESQL,
        "COPY t FROM STDIN": POSTGRESQL,
        "CALL p()": EVERY,
    },
    "Bound to one connection or server": {
        "SELECT last_insert_id()": MYSQLS,
        "SELECT found_rows()": MYSQLS,
        "SELECT currval('s')": POSTGRESQL,
        "SELECT @a": MYSQLS,
        "SELECT @a := 1": MYSQLS,
        "SELECT @@max_connections": MYSQLS,
        "SELECT @@server_id": MYSQLS,
        "SET autocommit = 1": MYSQLS,
        "SELECT set_config('a.b', 'c', false)": POSTGRESQL,
        "START TRANSACTION READ ONLY": EVERY,
        "CREATE TEMPORARY TABLE t (a int)": EVERY,
        "SHOW TABLES": MYSQLS,
        "SHOW PROCESSLIST": MYSQLS,
        "SHOW server_version": POSTGRESQL,
        "SELECT * FROM information_schema.tables": EVERY,
        "SELECT * FROM performance_schema.threads": MYSQLS,
        "SELECT * FROM pg_stat_activity": POSTGRESQL,
    },
}
"""Statements and whose SQL they are. Judged when the page is made: it cannot promise what the code does not do."""

WORDS_OF_DML: Final = "These begin a writing statement wherever one may begin, in a CTE for instance"


def page() -> str:
    """The whole page."""
    parts = [HEAD, *_kinds(), *_examples()]
    for dialect in TITLES:
        parts += _dialect(rules_of(dialect))
    parts += _constructs()
    return "\n".join(parts).rstrip() + "\n"


def main() -> None:
    """Write the page, or compare it."""
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") != page():
            raise SystemExit(f"{PAGE.name} is out of date: run python docs/{Path(__file__).name}")
    else:
        PAGE.write_text(page(), encoding="utf-8")


# Parts ---------------------------------------------------------------------------------------------------


def _kinds() -> Iterator[str]:
    yield "## The kinds\n"
    yield "Of several findings in one statement the gravest, here the lowest, is the verdict on a construct.\n"
    docs = _docs_of_members(Kind)
    yield from _table(
        ("kind", "goes to", "what it is"),
        (
            (kind.value, "**replica**" if kind is Kind.READ else "primary", docs[kind.name])
            for kind in sorted(Kind, key=GRAVITY.__getitem__)
        ),
    )


def _examples() -> Iterator[str]:
    yield "## Examples\n"
    for heading, statements in EXAMPLES.items():
        yield f"### {heading}\n"
        yield from _table(
            ("statement", *TITLES.values()),
            (
                (_code(sql), *(_shown(sql, dialect) if dialect in whose else "" for dialect in TITLES))
                for sql, whose in statements.items()
            ),
        )


def _shown(sql: str, dialect: str) -> str:
    verdict = classify(sql, dialect=dialect)
    return "**read**" if verdict.is_read else _cell(str(verdict))


def _dialect(rules: Rules) -> Iterator[str]:
    title = TITLES[rules.name]
    yield f"## {title}\n"
    yield "### By the first word\n"
    queries = "`SELECT`, `WITH`, `VALUES`" + ("" if rules.name == "mariadb" else ", `TABLE`")
    yield f"{queries} and any of them in parentheses: looked into, word by word. {_LOOKED_INTO[rules.name]}\n"
    yield from _effects(rules.verbs, strip=False)
    yield "Any other first word: unknown.\n"
    yield "### Inside a query\n"
    refused = {word: effect for word, effect in rules.refused.items() if rules.words.get(word) is Word.REFUSE}
    yield "Refused wherever they stand unquoted:\n"
    yield from _effects(refused, strip=False)
    dml = sorted(word for word, code in rules.words.items() if code in (Word.DML, Word.CALL_OR_DML))
    if dml:
        yield f"{WORDS_OF_DML}: {_names(dml)}.\n"
    yield (
        "`FOR UPDATE`, `FOR NO KEY UPDATE`, `FOR SHARE`, `FOR KEY SHARE` with or without `OF`, `NOWAIT`, "
        "`SKIP LOCKED`: locking read, at any depth.\n"
    )
    if rules.assigns:
        yield "`:=` sets a user variable: session.\n"
    yield "### Functions that do not go to a replica\n"
    yield from _effects(rules.effects, strip=True)
    if rules.name == "postgresql":
        starts = ", ".join(f"`{start}...`" for start, _ in rules_postgresql.EFFECT_BEGINNINGS)
        yield f"Functions whose names begin so are taken for one of these, known or not: {starts}.\n"
    yield "### Functions that may\n"
    yield _PURE[rules.name]
    yield ""
    yield from _details(f"{len(rules.pure | rules.constructs)} names", sorted(rules.pure | rules.constructs))
    yield "### Variables, settings and system tables\n"
    yield from _server_state(rules.name)


_LOOKED_INTO: Final = {
    "mysql": "`EXPLAIN`, `DESCRIBE` and `DESC` are what the explained statement is; `SHOW` by its second word.",
    "mariadb": "`EXPLAIN`, `DESCRIBE`, `DESC` and `ANALYZE` are what the explained statement is (a read-only MariaDB "
    "refuses to explain a write); `SHOW` by its second word.",
    "postgresql": "`EXPLAIN` is what the explained statement is; `COPY ... TO STDOUT` what it copies, any other `COPY` "
    "writes; `SHOW` by its setting.",
}

_PURE: Final = {
    "mysql": "Built-in functions that compute, as MySQL's manual and server list them. `NOW()`, `UUID()` and "
    "`RAND()` are among them: they differ from call to call wherever they are called.",
    "mariadb": "Built-in functions that compute, as MariaDB's manual and server list them.",
    "postgresql": "Functions the catalog calls immutable or stable, and volatile ones that differ from call to call "
    "wherever they are called, less those above. All other volatile functions are writes.",
}


def _server_state(dialect: str) -> Iterator[str]:
    if dialect == "postgresql":
        yield (
            "These relations of the catalog, and `pg_stat_...`, `pg_statio_...`, show one server's state: session. "
            "The rest of the catalog and `information_schema` replicate: read.\n"
        )
        yield f"{_names(sorted(rules_postgresql.SERVER_RELATIONS))}\n"
        yield "`SHOW` of these settings tells this connection or server from another: session. Of any other: read.\n"
        yield f"{_names(sorted(rules_postgresql.BOUND_SETTINGS))}\n"
        return
    yield "`@a` lives in one connection: session. `@@a` is configuration: read, unless it is named here.\n"
    yield from _details("variables of this connection or server", sorted(rules_mysql.BOUND_VARIABLES))
    starts = ", ".join(f"`@@{start}...`" for start in rules_mysql.BOUND_VARIABLE_BEGINNINGS)
    yield f"So are all whose names begin so, and every `@@session.` one: {starts}.\n"
    yield (
        "Everything in `performance_schema` and `sys`, and these tables of `information_schema`, show one "
        f"server's state: session. {_names(sorted(rules_mysql.SERVER_TABLES))}\n"
    )
    yield f"`SHOW` of these is a read: {_names(sorted(rules_show.READ_WORDS))}.\n"
    yield f"`SHOW` of these is about this connection: {_names(sorted(rules_show.CONNECTION_WORDS))}.\n"
    yield "`SHOW VARIABLES LIKE` a pattern that only configuration matches: read. Any other `SHOW`: session.\n"


def _constructs() -> Iterator[str]:
    yield "## SQLAlchemy constructs\n"
    yield (
        "A construct is judged on its tree, whatever its dialect would make of it: every element at any depth, each "
        "by the rule of its class. Text inside it (`text()`, `literal_column()`, prefixes, suffixes, hints, custom "
        "operators) is judged as text in its place, functions and tables by name as above. An ORM statement is "
        "judged with what its mappers, eager joins and options add when it is compiled. The verdict is remembered by "
        "the statement's own cache key.\n"
    )
    yield "An element of any other class, or one whose rendering `@compiles` replaced, makes the statement unknown.\n"
    rows = []
    for module, names in elements.KNOWN.items():
        by_rule: dict[str, list[str]] = {}
        for name, rule in names.items():
            by_rule.setdefault("its parts decide" if rule is None else _first_sentence(rule), []).append(name)
        rows += [(f"`sqlalchemy.{module}`", _names(sorted(members)), rule) for rule, members in by_rule.items()]
    yield from _table(("module", "classes", "rule"), rows)
    yield "What an ORM statement's options and mappers add:\n"
    yield from _table(
        ("what", "rule"),
        (
            (f"`{function.__name__}`", _first_sentence(function))
            for function in (
                orm_rules.entity,
                orm_rules.relationship,
                orm_rules.join_element,
                orm_rules.options,
                orm_rules.compile_state_functions,
            )
        ),
    )


# Forms ---------------------------------------------------------------------------------------------------


def _effects(table: Mapping[str, Effect], *, strip: bool) -> Iterator[str]:
    """Names with the same effect in one row, the gravest last."""
    groups: dict[tuple[int, str, str], list[str]] = {}
    for name, (kind, because) in table.items():
        reason = because.removeprefix(f"{name.upper()}(): ") if strip else ""
        groups.setdefault((GRAVITY[kind], kind.value, reason), []).append(name)
    rows: list[tuple[str, ...]] = []
    for (_, sort, reason), names in sorted(groups.items()):
        shown = _names(sorted(names if strip else (name.upper() for name in names)))
        rows.append((sort, reason, shown) if strip else (sort, shown))
    yield from _table(("kind", "why", "functions") if strip else ("kind", "words"), rows)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _details(summary: str, names: Iterable[str]) -> Iterator[str]:
    yield f"<details><summary>{summary}</summary>\n"
    yield textwrap.fill(" ".join(f"`{name}`" for name in names), 118, break_long_words=False, break_on_hyphens=False)
    yield "\n</details>\n"


def _names(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def _code(sql: str) -> str:
    return f"`{_cell(sql)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _first_sentence(function: Callable[..., object]) -> str:
    text = " ".join((inspect.getdoc(function) or "").split())
    return _cell(text.replace("``", "`"))


def _docs_of_members(kinds: type[Kind]) -> dict[str, str]:
    """The string literal below each member of an enum's source: what its reader sees there."""
    docs: dict[str, str] = {}
    name = ""
    for line in inspect.getsource(kinds).splitlines()[1:]:
        line = line.strip()
        if " = " in line:
            name = line.partition(" = ")[0]
        elif name and line.startswith('"""'):
            docs[name] = line.strip('"')
            name = ""
    return docs


if __name__ == "__main__":
    main()
