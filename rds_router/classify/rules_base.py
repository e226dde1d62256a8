"""The shape of an engine's rules, and what the engines have in common. The rules themselves are tables."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources

from rds_router.classify.lexer import Lexis
from rds_router.core.statement import Kind

Effect = tuple[Kind, str]
"""What a word, a function or a variable does, and the few words that say so to a developer."""


class Word(enum.IntEnum):
    """What an unquoted word means in the middle of a query. A word without a meaning here is a name."""

    KEEP = 0
    """A keyword that changes nothing, but is not a name."""
    SELECT = 1
    FROM = 2
    JOIN = 3
    CLAUSE = 4
    """Ends the FROM clause: WHERE, ORDER, UNION ..."""
    ON = 5
    WITH = 6
    TABLE = 7
    VALUES = 8
    FOR = 9
    NEXT = 10
    """NEXT or PREVIOUS, as in NEXT VALUE FOR."""
    REFUSE = 11
    """Writes, locks or binds wherever it stands; ``Rules.refused`` says how."""
    DML = 12
    """Begins a writing statement, but may also be a column's name."""
    CALL_OR_DML = 13
    """A function before a parenthesis (REPLACE, INSERT), a writing statement elsewhere."""
    STRAIGHT_JOIN = 14
    ROWS = 15
    """May begin ROWS FROM (f(), g())."""


@dataclass(frozen=True, slots=True)
class Rules:
    """All that is known of one engine's SQL. Names are lower case."""

    name: str
    lexis: Lexis
    verbs: Mapping[str, Effect]
    """First words that settle a statement by themselves."""
    words: Mapping[str, Word]
    refused: Mapping[str, Effect]
    """The effects of :attr:`Word.REFUSE` words."""
    not_functions: frozenset[str]
    """Words that may stand before a parenthesis and call nothing: IN, VALUES, VARCHAR ..."""
    not_functions_after: Mapping[str, frozenset[str]]
    """The same, but only behind one of these words: FETCH FIRST (, GROUPING SETS (."""
    not_functions_behind_operand: frozenset[str]
    """The same, but only behind a finished expression: f(x) OVER (, f(x) FILTER (."""
    effects: Mapping[str, Effect]
    """Functions known to write, lock or bind."""
    pure: frozenset[str]
    """Functions known to compute, found by name, quoted or not."""
    constructs: frozenset[str]
    """Pure functions that are grammar: quoted, the same name would be somebody's own function."""
    relation: Callable[[tuple[str, ...]], Effect | None]
    """Tables that answer about this server or connection, by the parts of their name."""
    server_variables: frozenset[str] = frozenset()
    """Settings with one value for the whole server: nothing a connection could have changed for itself."""
    variable: Callable[[str, frozenset[str]], Effect | None] | None = None
    """What reading ``@x`` or ``@@x`` means; None where ``@`` is an operator."""
    assigns: bool = False
    """``:=`` sets a variable (MySQL); elsewhere it names an argument."""
    any_word_labels: bool = False
    """Behind AS every word is a name (PostgreSQL's ColLabel)."""
    builtin_schema: str = ""
    """Functions qualified by this schema are the built-in ones."""
    sequence_columns: frozenset[str] = frozenset()
    """Columns that are none but move a sequence (MariaDB in Oracle mode)."""
    behind_dot: Mapping[str, Effect] = field(default_factory=dict)
    """Names that act behind a dot without parentheses: ``(x).f`` calls f(x) in PostgreSQL."""
    no_tables: frozenset[str] = frozenset()
    """Names in FROM that are no tables: dual."""
    explains_dml: bool = False
    """A plain EXPLAIN of a writing statement is answered by a read-only server."""


SESSION_STATE = "state of the connection"
THIS_SERVER = "answers about this server"


def effects(kind: Kind, because: str, names: str) -> dict[str, Effect]:
    """Build one row group of a table: every name has the same effect. ``{}`` in ``because`` is the name."""
    return {name: (kind, because.replace("{}", name.upper())) for name in names.split()}


def words(code: Word, names: str) -> dict[str, Word]:
    """Build one row group of the word table."""
    return dict.fromkeys(names.split(), code)


def read_names(file: str) -> dict[str, frozenset[str]]:
    """Read a list of names from the package's data: ``[section]`` lines, names between white space."""
    text = resources.files(__package__).joinpath("data").joinpath(file).read_text(encoding="utf-8")
    sections: dict[str, list[str]] = {}
    names: list[str] = []
    for line in text.splitlines():
        if line.startswith("["):
            names = sections.setdefault(line.strip("[] "), [])
        elif not line.startswith("#"):
            names.extend(line.split())
    return {section: frozenset(members) for section, members in sections.items()}


def listed(names: str) -> frozenset[str]:
    """Return the names between the white space of a text: how the tables are written."""
    return frozenset(names.split())


def union(*sets: Iterable[str]) -> frozenset[str]:
    """Return all names of all sets."""
    return frozenset(name for names in sets for name in names)


# Words every engine shares. Reserved in all of them, so a name must be quoted to be spelt like one.
COMMON_WORDS: Mapping[str, Word] = {
    **words(Word.SELECT, "select"),
    **words(Word.FROM, "from"),
    **words(Word.JOIN, "join"),
    **words(Word.CLAUSE, "where group having order limit union intersect except window offset fetch"),
    **words(Word.ON, "on"),
    **words(Word.WITH, "with"),
    **words(Word.TABLE, "table"),
    **words(Word.VALUES, "values"),
    **words(Word.FOR, "for"),
    **words(Word.NEXT, "next previous"),
    **words(
        Word.KEEP,
        "as and or not in is null like between case when then else end exists all any some distinct by asc "
        "desc left right inner outer cross natural full using lateral only recursive set collate over filter "
        "partition rollup cube grouping sets cast interval tablesample true false",
    ),
    **words(Word.REFUSE, "into"),
}
COMMON_REFUSED: Mapping[str, Effect] = {"into": (Kind.WRITE, "INTO")}
COMMON_NOT_FUNCTIONS = listed(
    "select from where and or not in is like between case when then else exists all any some distinct on using "
    "as by having union intersect except join limit offset interval values with"
) - {"with"}
"""``WITH (`` is left out on purpose: a table hint of another engine, which may lock."""
