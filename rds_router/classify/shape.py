"""The shape of SQL text: what it has in common with the same statement on other values.

Statements of one shape share what was learned of one of them, and only shapes are told to logs: they hold no values.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from rds_router.classify.lexer import Lexis, Unreadable, readings
from rds_router.classify.text import DIALECTS, LONGEST, rules_of


def normal_form(sql: str, *, dialect: str) -> str:
    """Return the text without its values: ``SELECT a FROM t WHERE b = 7`` is ``select a from t where b = ?``.

    Literals and placeholders are ``?``, comments are gone, white space is one space, and what stands in no quotes is
    lower case. Text that can be read in several ways has the forms of all. Text that cannot be read, or whose
    literals end elsewhere under a server's unusual backslash setting, is ``sha256:`` and its digest.
    """
    lexis = rules_of(dialect if dialect in DIALECTS else "mysql").lexis
    if len(sql) > LONGEST:
        return digest(sql)
    # Drivers' placeholders, which are operators and names to a server. A quote is neither made nor broken by this.
    plain = _DRIVERS_PLACEHOLDER.sub(" ? ", sql) if "%" in sql else sql
    try:
        form = _forms(plain, lexis)
    except Unreadable:
        return digest(sql)
    if "\\" in sql and lexis.other is not None:
        try:
            if _forms(plain, lexis.other) != form:
                return digest(sql)
        except Unreadable:
            pass  # no server with that setting runs it
    return form


def digest(text: str) -> str:
    """Return what stands for text that is too long to keep or cannot be read."""
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


_DRIVERS_PLACEHOLDER: Final = re.compile(r"%s\b|%\([A-Za-z0-9_]+\)s\b")
_NAMED_PLACEHOLDER: Final = re.compile(r":[^:=]")
_STRING: Final = re.compile(r"[eE]?'")
_STRINGS_PREFIX: Final = frozenset({"x", "b", "n", "e"})
_RESTS_OF_NUMBERS: Final = re.compile(r"[xXoObB][0-9a-fA-F_]+|_[0-9_]+")
_NO_SPACE_BEFORE: Final = frozenset({",", ")", ".", ";"})
_NO_SPACE_AFTER: Final = frozenset({"(", "."})


def _forms(sql: str, lexis: Lexis) -> str:
    return " /* or */ ".join(dict.fromkeys(_form(tokens, lexis) for tokens in readings(sql, lexis)))


def _form(tokens: list[str], lexis: Lexis) -> str:
    words: list[str] = []
    was_number = False
    for token in tokens:
        is_string = _STRING.match(token) is not None or _is_string_of(lexis, token)
        is_number = "0" <= token[0] <= "9"
        if is_string and words and words[-1] in _STRINGS_PREFIX:
            words[-1] = "?"
        if is_string or is_number or _is_placeholder(lexis, token) or (was_number and _RESTS_OF_NUMBERS.match(token)):
            # Literals side by side are one literal: 'it''s', a string over two lines, 0x1f where it is no one token.
            if not words or words[-1] != "?":
                words.append("?")
        elif token[-1] == "?" and token != "@?":
            # "=?" is one operator to the lexer. Of PostgreSQL's own only "@?" ends so.
            words += [token[:-1], "?"]
        else:
            words.append(token if token[0] in '"`[' or token[:2].lower() == "u&" else token.lower())
        was_number = is_number
    return _spaced(words)


def _is_string_of(lexis: Lexis, token: str) -> bool:
    """A string that only some engines have: ``"x"`` of MySQL (under ANSI_QUOTES a name), ``$$x$$`` of PostgreSQL."""
    return (token[0] == '"' and lexis.versioned_comments) or (token[0] == "$" and lexis.dollar_strings)


def _is_placeholder(lexis: Lexis, token: str) -> bool:
    if token == "?" or _NAMED_PLACEHOLDER.match(token):
        return True
    # SQLite: neither a name nor a variable of a session begins so.
    return token[0] in "$@" and not lexis.versioned_comments and not lexis.dollar_strings and len(token) > 1


def _spaced(words: list[str]) -> str:
    parts: list[str] = []
    before = "("
    for word in words:
        if before not in _NO_SPACE_AFTER and word not in _NO_SPACE_BEFORE:
            parts.append(" ")
        parts.append(word)
        before = word
    return "".join(parts)
