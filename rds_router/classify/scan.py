"""Walks over the tokens of a query once and finds what writes, locks or binds, at any depth.

There is no parser: a read must be *confirmed*, and for that it is enough to know, at each token, whether a word is
a keyword or a name, whether a name before a parenthesis is a call, and which names stand where tables stand. What
the walk does not expect makes the statement unknown, which sends it to the primary.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence

from rds_router.classify.lexer import unquoted
from rds_router.classify.rules_base import Effect, Rules, Word, listed
from rds_router.core.statement import Kind, Statement


class Clause(enum.IntEnum):
    """Where the walk is, at one level of parentheses."""

    EXPRESSION = 0
    """Inside parentheses that hold no query."""
    QUERY = 1
    """In a query, outside of FROM and WITH: FROM at this level begins the list of tables."""
    TABLE = 2
    """In FROM, where a table is expected."""
    ALIAS = 3
    """In FROM, behind a table: a name here is its alias."""
    TABLE_DONE = 4
    """In FROM, behind an alias."""
    CONDITION = 5
    """In FROM, behind ON or FOR: an expression, until the next comma or JOIN."""
    WITH = 6
    """In the list of common table expressions."""


def scan(
    tokens: Sequence[str],
    rules: Rules,
    *,
    start: int = 0,
    pure_functions: Collection[str] = frozenset(),
    clause: Clause = Clause.EXPRESSION,
) -> Statement:
    """Judge the query in ``tokens[start:]``; a trailing semicolon must be gone.

    Returns:
        READ with the tables it names (None when not sure), or the first thing found that is not a read.
    """
    expression, query, table, alias, done, condition, in_with = Clause
    words, behind_dot = rules.words, rules.behind_dot
    stack: list[Clause] = []
    names = _Names()
    alias_at = -1
    previous = ""
    for i in range(start, len(tokens)):
        token = tokens[i]
        first = token[0]
        effect: Effect | None = None
        if first not in _NO_WORD:
            low = token.lower()
            code = words.get(low)
            if code is None or previous == "." or (previous in _AS and _is_label(tokens, i, start, clause, rules)):
                if previous == ".":
                    if low in behind_dot or low.startswith('u&"'):
                        effect = _behind_dot(tokens, i, low, rules, pure_functions, clause)
                elif clause is table:
                    effect = _table(tokens, i, rules, names, in_with in stack)
                    clause = alias
                elif clause is alias:
                    clause = done
                    if _may_precede_alias(previous, rules):
                        alias_at = i
                elif clause is in_with:
                    names.define(tokens, i, low, nested=bool(stack))
            elif code == _KEEP:
                if clause is table and low not in _BEFORE_TABLES:
                    names.sure = False
            elif code == _SELECT:
                clause = query
            elif code == _FROM:
                if clause is not expression and not _is_distinct_from(tokens, i, start):
                    clause = table
            elif code == _JOIN:
                if previous.lower() != "for":
                    clause = table
            elif code == _CLAUSE:
                if clause is table:
                    names.sure = False
                if clause is not expression and previous.lower() != "for":
                    clause = query
            elif code == _ON:
                if clause is alias or clause is done:
                    clause = condition
            else:
                effect, clause = _word(tokens, i, start, low, code, rules, clause, names)
        elif token == "(":
            if previous and previous[0] not in _NO_CALL:
                effect = _call(tokens, i - 1, start, rules, pure_functions, clause, alias_at)
            stack.append(clause)
            if clause is not table:
                clause = expression
        elif token == ")":
            if not stack:
                return Statement(Kind.UNKNOWN, "unbalanced parentheses")
            clause = stack.pop()
            if clause is table:
                clause = alias
        elif token == ",":
            if clause is alias or clause is done or clause is condition:
                clause = table
        elif first in _NAME_QUOTES and len(token) > 1:
            if previous == ".":
                if rules.any_word_labels and unquoted(token) in behind_dot:
                    effect = _behind_dot(tokens, i, unquoted(token), rules, pure_functions, clause)
            elif clause is table:
                effect = _table(tokens, i, rules, names, in_with in stack)
                clause = alias
            elif clause is alias:
                clause = done
                if _may_precede_alias(previous, rules):
                    alias_at = i
            elif clause is in_with:
                names.define(tokens, i, unquoted(token).lower(), nested=bool(stack))
        elif first not in _HARMLESS:
            effect = _odd(tokens, i, rules)
            if first == "{":
                names.sure = False
        if effect is not None:
            return Statement(*effect)
        previous = token
    if stack:
        return Statement(Kind.UNKNOWN, "unbalanced parentheses")
    return Statement(Kind.READ, "", names.tables())


def effect_of_function(
    name: str, rules: Rules, pure_functions: Collection[str], *, schema: str = "", quoted: bool = False
) -> Effect | None:
    """Say what calling a function does; None when it computes. ``name`` and ``schema`` are lower case."""
    qualified = f"{schema}.{name}" if schema else name
    if qualified in pure_functions:
        return None
    if schema and schema != rules.builtin_schema:
        if name in rules.effects and name in pure_functions:
            return None
        return Kind.UNKNOWN, f"function {qualified}()"
    effect = rules.effects.get(name)
    if effect is not None:
        return effect
    if name in rules.pure or (name in rules.constructs and not quoted):
        return None
    return Kind.UNKNOWN, f"function {qualified}()"


class _Names:
    """The names of tables met so far. Common table expressions are no tables, wherever that is sure."""

    __slots__ = ("ctes", "doubtful", "found", "sure")

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.ctes: set[str] = set()
        self.doubtful: set[str] = set()
        self.sure = True

    def define(self, tokens: Sequence[str], i: int, name: str, *, nested: bool) -> None:
        """Note the name of a common table expression: in the list of them, before AS or a column list."""
        following = tokens[i + 1].lower() if i + 1 < len(tokens) else ""
        if following in {"as", "("}:
            self.ctes.add(name)
            if nested:
                # Its name holds inside one subquery only; elsewhere the same name may be a table.
                self.doubtful.add(name)

    def tables(self) -> frozenset[str] | None:
        if not self.sure or self.doubtful & self.found & self.ctes:
            return None
        return frozenset(self.found - self.ctes)


def _table(tokens: Sequence[str], i: int, rules: Rules, names: _Names, in_cte: bool) -> Effect | None:
    """Note the table whose name begins at ``i``, unless it is a function."""
    parts = [unquoted(tokens[i]).lower()]
    end, count = i + 1, len(tokens)
    while end + 1 < count and tokens[end] == ".":
        parts.append(unquoted(tokens[end + 1]).lower())
        end += 2
    if end < count and tokens[end] == "(":
        return None
    name = ".".join(parts)
    if name not in rules.no_tables:
        names.found.add(name)
        if in_cte and len(parts) == 1:
            names.doubtful.add(name)
        if tokens[i][0] in "uU" and "&" in tokens[i]:
            names.sure = False
    return rules.relation(tuple(parts))


def _behind_dot(
    tokens: Sequence[str], i: int, name: str, rules: Rules, pure_functions: Collection[str], clause: Clause
) -> Effect | None:
    """Judge a name behind a dot that may be a call without parentheses: neither a table's nor a call with them."""
    if i + 1 < len(tokens) and tokens[i + 1] == "(":
        return None
    if clause is Clause.ALIAS and (i < 2 or tokens[i - 2] not in _ENDS_OF_EXPRESSIONS):
        return None
    if name in pure_functions:
        return None
    return rules.behind_dot.get(name, (Kind.UNKNOWN, "an escaped name behind a dot"))


def _call(
    tokens: Sequence[str],
    at: int,
    start: int,
    rules: Rules,
    pure_functions: Collection[str],
    clause: Clause,
    alias_at: int,
) -> Effect | None:
    """Judge the name before a parenthesis: a call, a clause, a type, or an alias with its columns."""
    token = tokens[at]
    quoted = token[0] in _NAME_QUOTES
    if quoted:
        # PostgreSQL's quoted names keep their case; MySQL's function names have none.
        name = unquoted(token) if rules.any_word_labels else unquoted(token).lower()
        if at > start and tokens[at - 1][0] == token[0]:
            return Kind.UNKNOWN, "a function's name with quotes in it"
    else:
        name = token.lstrip(":").lower()
    before = tokens[at - 1] if at > start else ""
    if before == ".":
        schema = unquoted(tokens[at - 2]).lower() if at - 2 >= start else ""
        if at - 3 >= start and tokens[at - 3] == ".":
            schema = "?." + schema
        return effect_of_function(name, rules, pure_functions, schema=schema or "?", quoted=quoted)
    if before == "::" or before in _AS or clause is Clause.WITH or at == alias_at:
        return None
    if not quoted:
        if name in rules.not_functions:
            return None
        if name in rules.not_functions_after and before.lower() in rules.not_functions_after[name]:
            return None
        if name in rules.not_functions_behind_operand and _is_behind_operand(tokens, at, start, rules):
            return None
        if name == "lateral" and clause is Clause.TABLE:
            return None
        if name in _GROUPINGS and _is_in_group_by(tokens, at, start):
            return None
        if name in _TABLE_FUNCTIONS and clause is not Clause.ALIAS and name not in pure_functions:
            return Kind.UNKNOWN, f"function {name}() outside of FROM"
    return effect_of_function(name, rules, pure_functions, quoted=quoted)


def _word(
    tokens: Sequence[str],
    i: int,
    start: int,
    low: str,
    code: Word,
    rules: Rules,
    clause: Clause,
    names: _Names,
) -> tuple[Effect | None, Clause]:
    """Judge the rarer keywords."""
    following = tokens[i + 1].lower() if i + 1 < len(tokens) else ""
    after = tokens[i + 2].lower() if i + 2 < len(tokens) else ""
    before = tokens[i - 1] if i > start else ""
    if code == Word.REFUSE:
        return rules.refused[low], clause
    if code == Word.VALUES:
        in_place = clause in (Clause.EXPRESSION, Clause.TABLE, Clause.WITH)
        return None, Clause.QUERY if in_place and before in _BEGINNINGS | {")"} else clause
    if code == Word.FOR:
        if following in {"update", "share"} or (following, after) in {("no", "key"), ("key", "share")}:
            return (Kind.LOCKING_READ, f"FOR {following.upper()}"), clause
        in_from = clause in (Clause.ALIAS, Clause.TABLE_DONE)
        return None, Clause.CONDITION if in_from else clause
    if code == Word.WITH:
        if before in _BEGINNINGS:
            return None, Clause.WITH
        if following in _BEHIND_WITH:
            return None, clause
        return (Kind.UNKNOWN, "WITH in the middle of a query"), clause
    if code == Word.TABLE:
        return None, Clause.TABLE
    if code == Word.NEXT:
        if (following, after) == ("value", "for"):
            return (Kind.WRITE, f"{low.upper()} VALUE FOR"), clause
        return None, _as_name(tokens, i, rules, clause, names)
    if code == Word.DML:
        # In WITH the word before may be any name (SEARCH ... SET x DELETE), so what follows decides.
        defines = clause is Clause.WITH and following in {"as", "("}
        if not defines and (clause is Clause.WITH or _begins_statement(before, following, rules)):
            return (Kind.WRITE, low.upper()), clause
        return None, _as_name(tokens, i, rules, clause, names)
    if code == Word.CALL_OR_DML:
        return (None if following == "(" else rules.refused[low]), clause
    if code == Word.STRAIGHT_JOIN:
        return None, clause if clause in (Clause.QUERY, Clause.EXPRESSION) else Clause.TABLE
    if code == Word.ROWS and clause is Clause.TABLE:
        names.sure = False
    return None, clause


def _as_name(tokens: Sequence[str], i: int, rules: Rules, clause: Clause, names: _Names) -> Clause:
    """Go on as behind any name: the word is no keyword here."""
    if clause is Clause.TABLE:
        names.sure = False
        return Clause.ALIAS
    return Clause.TABLE_DONE if clause is Clause.ALIAS else clause


def _begins_statement(before: str, following: str, rules: Rules) -> bool:
    """Tell INSERT, UPDATE ... at the head of a statement from columns of that name."""
    if before not in _BEGINNINGS and before != ")" and (before[0] in _NO_WORD or before.lower() in rules.words):
        return False
    return bool(following) and (following[0] not in _NO_WORD or following[0] in _NAME_QUOTES)


def _odd(tokens: Sequence[str], i: int, rules: Rules) -> Effect | None:
    """Judge what is neither a word, a string, nor an operator."""
    token = tokens[i]
    first = token[0]
    if first == "@":
        return rules.variable(token, rules.server_variables) if rules.variable is not None else None
    if first in _DIGITS:
        if token.isdigit() or not rules.assigns:
            return None
        letters = token.lstrip("0123456789").lower()
        followed = i + 1 < len(tokens) and tokens[i + 1] == "("
        if letters in rules.words or followed:
            return Kind.UNKNOWN, f"number {token}"
        return None
    if token in {":=", "\\:="}:
        return (Kind.SESSION, ":= sets a variable") if rules.assigns else None
    if first == ":" or token in {"\\:", "\\N"} or first == "{" or first == "}":
        return None
    if first == ";":
        return Kind.UNKNOWN, "semicolon in parentheses"
    if not rules.assigns and (first in "[]#" or (first == "$" and len(token) > 1)):
        return None
    return Kind.UNKNOWN, f"character {first!r}"


def _is_label(tokens: Sequence[str], i: int, start: int, clause: Clause, rules: Rules) -> bool:
    """Tell whether the word behind AS is a mere name, which it always is in PostgreSQL."""
    if not rules.any_word_labels or clause is Clause.WITH:
        return False
    return i - 2 < start or (tokens[i - 2] != "." and tokens[i - 2] not in _AS)


def _is_distinct_from(tokens: Sequence[str], i: int, start: int) -> bool:
    return i - 2 >= start and tokens[i - 1].lower() == "distinct" and tokens[i - 2].lower() in {"is", "not"}


def _may_precede_alias(token: str, rules: Rules) -> bool:
    """Tell whether a name behind this token can be an alias: behind a table's end or AS, not behind AND."""
    return token in _AS or token in {")", "*"} or _is_operand(token, rules)


def _is_behind_operand(tokens: Sequence[str], at: int, start: int, rules: Rules) -> bool:
    """Tell whether an expression or a table ends before ``at``, or before a NOT there: x ILIKE, x NOT ILIKE."""
    last = at - 2 if at > start and tokens[at - 1].lower() == "not" else at - 1
    if last < start:
        return False
    if _is_operand(tokens[last], rules) or tokens[last].lower() in _ENDING_WORDS:
        return True
    return last > start and tokens[last - 1] == "."


def _is_in_group_by(tokens: Sequence[str], at: int, start: int) -> bool:
    """Tell GROUP BY a, CUBE (b) from a function of that name. Looks back so far only that all stays linear."""
    before = tokens[at - 1].lower() if at > start else ""
    if before not in _BEFORE_GROUPINGS:
        return False
    for token in reversed(tokens[max(start, at - _FURTHEST_GROUP) : at]):
        low = token.lower()
        if low == "group" or low in _NOT_IN_GROUP_BY:
            return low == "group"
    return False


def _is_operand(token: str, rules: Rules) -> bool:
    if not token:
        return False
    if token[0] in _NO_WORD:
        return token[0] in _OPERANDS
    return rules.words.get(token.lower()) is None


_NAME_QUOTES = frozenset('"`[')
_DIGITS = frozenset("0123456789")
_NO_WORD = (
    frozenset("'\"`[](),.;@:{}\\-+*/<>=!%^&|~?#$") | _DIGITS | frozenset(map(chr, [*range(0x21), 0x7F, 0x212A]))
) | frozenset(map(chr, range(0xD800, 0xE000)))
_NO_CALL = _NO_WORD - _NAME_QUOTES - {":"}
_HARMLESS = frozenset("'.+-*/<>=!%^&|~?")
_OPERANDS = frozenset("'\"`[])?:$@") | _DIGITS
_BEGINNINGS = frozenset({"", "("})
_ENDS_OF_EXPRESSIONS = frozenset({")", "]"})
_ENDING_WORDS = listed("end null true false user isnull notnull")
_GROUPINGS = frozenset({"rollup", "cube"})
_BEFORE_GROUPINGS = listed("by all distinct , (")
_NOT_IN_GROUP_BY = listed("select from where having order window")
_FURTHEST_GROUP = 100
_TABLE_FUNCTIONS = frozenset({"json_table", "xmltable"})
_BEFORE_TABLES = frozenset({"lateral", "only"})
_BEHIND_WITH = listed("rollup ties ordinality time query unique wrapper conditional unconditional array local cascaded")
_AS = frozenset({"AS", "as", "As", "aS"})
_KEEP, _SELECT, _FROM, _JOIN = Word.KEEP, Word.SELECT, Word.FROM, Word.JOIN
_CLAUSE, _ON = Word.CLAUSE, Word.ON
