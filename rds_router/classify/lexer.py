r"""Cuts SQL text into tokens, each engine by its own rules.

A token is the piece of text itself; its first character tells its sort: a letter or ``$`` begins a word,
a quote a string or a quoted name, ``@`` a variable, a digit a number. Comments and white space are gone.

Two things make text ambiguous, and both are answered by *several readings*, of which a caller must take
the strictest:

1. MySQL's versioned comments (``/*!80000 ... */``, MariaDB's ``/*M! ... */``) are executed or skipped
   depending on a server version this library does not ask for;
2. whether a backslash escapes depends on a server setting (``NO_BACKSLASH_ESCAPES``,
   ``standard_conforming_strings``); :attr:`Lexis.other` is the reading under the unusual setting.

Everything here is linear in the length of the text: an unfinished string or comment swallows the rest of
the text in one match, so that no piece of it is ever looked at twice.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass


class Unreadable(ValueError):
    """The text cannot be cut into tokens: a string or comment never ends. Caught inside the package."""


@dataclass(frozen=True, slots=True)
class Lexis:
    """How one engine reads characters."""

    pattern: re.Pattern[str]
    """Matches one token. Has no group, so that ``findall`` yields the tokens themselves."""
    slow: re.Pattern[str]
    """The same with ``$tag$`` strings, which need a group."""
    string: re.Pattern[str]
    """Matches a finished string or quoted name, whole."""
    hash_comments: bool = False
    nested_comments: bool = False
    versioned_comments: bool = False
    dollar_strings: bool = False
    inside: re.Pattern[str] | None = None
    """Inside an executed versioned comment, where ``*/`` is its end. Elsewhere ``*/*`` begins a comment."""
    other: Lexis | None = None
    """How the same engine reads under its unusual backslash setting."""


def readings(sql: str, lexis: Lexis) -> Iterator[list[str]]:
    """Yield every way the text may be read, comments removed.

    Raises:
        Unreadable: a string, a quoted name or a comment does not end, or there are more sorts of
            versioned comment than can be tried one against the other.
    """
    if lexis.versioned_comments and ("/*!" in sql or "/*M!" in sql):
        openers = sorted(set(_VERSIONED.findall(sql)))
        if len(openers) > _MOST_VERSIONS:
            raise Unreadable("too many sorts of versioned comment")
        for count in range(len(openers) + 1):
            for executed in itertools.combinations(openers, count):
                yield _walk(sql, lexis, frozenset(executed))
        return
    if lexis.dollar_strings and "$" in sql:
        yield _walk(sql, lexis, frozenset())
        return
    tokens = lexis.pattern.findall(sql)
    if tokens:
        _check_end(tokens[-1], lexis)
    if "/*" in sql:
        if lexis.nested_comments and any(t.startswith("/*") and "/*" in t[2:] for t in tokens):
            yield _walk(sql, lexis, frozenset())
            return
        tokens = [t for t in tokens if not t.startswith("/*")]
    if "--" in sql:
        tokens = [t for t in tokens if not t.startswith("--")]
    if lexis.hash_comments and "#" in sql:
        tokens = [t for t in tokens if t[0] != "#"]
    yield tokens


def ends_in_line_comment(sql: str, lexis: Lexis) -> bool:
    """Tell whether whatever is written behind this text would become part of a comment."""
    last = ""
    for match in lexis.slow.finditer(sql):
        last = match.group()
    return (last.startswith("--") or (lexis.hash_comments and last[:1] == "#")) and sql.endswith(last)


def split(sql: str, lexis: Lexis) -> list[str]:
    """Cut a script at its semicolons; comments stay with the statement behind them, empty statements go.

    Text that cannot be read (an unfinished string) is the last statement, whole.
    """
    pieces: list[str] = []
    start = position = 0
    holds_something = False
    while match := lexis.slow.search(sql, position):
        token = match.group()
        position = match.end()
        if token == ";":
            if holds_something:
                pieces.append(sql[start : match.start()].strip(_WHITE_SPACE))
            start, holds_something = position, False
        elif token.startswith("/*"):
            if lexis.nested_comments:
                end = _end_of_nested(sql, match.start())
                position = len(sql) if end is None else end
            elif _VERSIONED.match(token):
                holds_something = True
                end = _end_of_nested(sql, match.start())
                position = len(sql) if end is None else end
        elif not token.startswith("--") and not (lexis.hash_comments and token[0] == "#"):
            holds_something = True
    if holds_something:
        pieces.append(sql[start:].strip(_WHITE_SPACE))
    return pieces


def unquoted(token: str) -> str:
    """Return the name inside a quoted identifier; any other token as it is."""
    quote = token[0]
    if quote in '"`':
        return token[1:-1].replace(quote * 2, quote)
    if quote == "[":
        return token[1:-1]
    return token


_MOST_VERSIONS = 4
_VERSIONED = re.compile(r"/\*M?!(?:[0-9]{5,6})?")
_COMMENT_MARK = re.compile(r"/\*|\*/")


def _walk(sql: str, lexis: Lexis, executed: frozenset[str]) -> list[str]:
    """Read token by token where one expression cannot: nested, versioned comments and ``$tag$`` strings."""
    tokens: list[str] = []
    position, opened = 0, 0
    outside = lexis.slow.search
    inside = lexis.inside.search if lexis.inside else outside
    while match := (inside if opened else outside)(sql, position):
        token = match.group()
        position = match.end()
        if token.startswith("/*"):
            start = match.start()
            versioned = _VERSIONED.match(token) if lexis.versioned_comments else None
            if versioned and versioned.group() in executed:
                opened += 1
                position = start + len(versioned.group())
                continue
            if versioned or lexis.nested_comments:
                end = _end_of_nested(sql, start)
                if end is None:
                    raise Unreadable("a comment does not end")
                position = end
            elif not _is_closed_comment(token):
                raise Unreadable("a comment does not end")
        elif token == "*/":
            opened -= 1
        elif not token.startswith("--") and not (lexis.hash_comments and token[0] == "#"):
            tokens.append(token)
    if opened:
        raise Unreadable("a versioned comment does not end")
    if tokens:
        _check_end(tokens[-1], lexis)
    return tokens


def _end_of_nested(sql: str, start: int) -> int | None:
    depth = 0
    for mark in _COMMENT_MARK.finditer(sql, start):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return None


def _is_closed_comment(token: str) -> bool:
    return len(token) >= 4 and token.endswith("*/")


def _check_end(token: str, lexis: Lexis) -> None:
    """Only the last token can be unfinished: it has swallowed everything behind it."""
    if token.startswith("/*"):
        if not _is_closed_comment(token):
            raise Unreadable("a comment does not end")
    elif token[0] == "$" and lexis.dollar_strings:
        tag_end = token.find("$", 1)
        if tag_end > 0:
            tag = token[: tag_end + 1]
            if len(token) < 2 * len(tag) or not token.endswith(tag):
                raise Unreadable(f"a {tag} string does not end")
    elif _OPENS_QUOTE.match(token) and not lexis.string.fullmatch(token):
        raise Unreadable("a string or quoted name does not end")


_OPENS_QUOTE = re.compile(r"""['"`\[]|[eE]'|[uU]&\"""")

# White space is what the servers take for it: none of Unicode's, which they read as letters of a name.
# U+212A (the Kelvin sign) is left out of the letters: Python lower-cases it to "k".
_WHITE_SPACE = " \t\n\r\f\v"
_SPACE = r" \t\n\r\f\v"
_LETTER = r"A-Za-z_\x80-\u2129\u212b-\ud7ff\ue000-\U0010ffff"
_BLOCK = r"/\*(?:[^*]*\*+(?:[^/*][^*]*\*+)*/|[\s\S]*)"
_PLACEHOLDER = rf"\\?:=|::|:[{_LETTER}][{_LETTER}0-9$]*|\\:"
_PUNCTUATION = r"[(),.;]"
_REST = rf"[^{_SPACE}]"


def _quoted(quote: str) -> str:
    """A quoted name: no backslashes, doubled quotes inside."""
    return f"{quote}[^{quote}]*(?:{quote}{quote}[^{quote}]*)*(?:{quote}|\\Z)"


def _escaped(quote: str) -> str:
    """A string with backslash escapes. A doubled quote makes two strings side by side, which means the same."""
    return rf"{quote}[^{quote}\\]*(?:\\[\s\S][^{quote}\\]*)*(?:{quote}|\\?\Z)"


def _simple(quote: str) -> str:
    """A string without backslash escapes."""
    return rf"{quote}[^{quote}]*(?:{quote}|\Z)"


def _finished(*expressions: str) -> re.Pattern[str]:
    closed = [e.replace(r"|\\?\Z)", ")").replace(r"|\Z)", ")") for e in expressions]
    return re.compile("|".join(closed))


def _mysql(*, string: str, other: Lexis | None) -> Lexis:
    # "--" begins a comment only before white space or a control character, or at the end:
    # https://dev.mysql.com/doc/refman/8.4/en/ansi-diff-comments.html
    line = r"(?:#|--(?=[\x00-\x20\x7f]|\Z))[^\n]*"
    # "1.FOR" is a number and a word; "1e5for" too; "1for" is one name, whose letters are looked at all the same.
    number = rf"[0-9]+(?:\.[0-9]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+|[{_LETTER}0-9$]*)"
    word = rf"[{_LETTER}$][{_LETTER}0-9$]*"
    operators = r"[<>=!+*%^&|~?]+"
    operators_inside = r"\*/|(?:[<>=!+%^&|~?]|\*(?!/))+"
    strings = [string, string.replace("'", '"'), _quoted("`")]
    # Alternatives that begin with the same character stand in the order they must be tried.
    variable = r"@@?[A-Za-z0-9_$.\x80-\ud7ff\ue000-\U0010ffff]*"
    null = r"\\N(?![A-Za-z0-9_$])"
    ordered = [word, _PUNCTUATION, *strings, operators, number, variable, line, _BLOCK, _PLACEHOLDER, null]
    expression = "|".join([*ordered, _REST])
    pattern = re.compile(expression)
    return Lexis(
        pattern,
        pattern,
        _finished(*strings),
        hash_comments=True,
        versioned_comments=True,
        inside=re.compile(expression.replace(operators, operators_inside)),
        other=other,
    )


def _postgresql(*, string: str, other: Lexis | None) -> Lexis:
    # Strings that follow each other over a line end are one string, read by the rules of the first piece:
    # https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS
    # The closing quote is one no other follows: without that, E'''' could be cut up in 2**n ways.
    escaped = r"'[^'\\]*(?:(?:\\[\s\S]|'')[^'\\]*)*(?:'(?!')|\\?\Z)"
    between = rf"(?:[{_SPACE}]|--[^\n\r]*[\n\r])*"
    estring = rf"[eE]{escaped}(?:{between}{escaped})*"
    unicode_name = r'[uU]&"[^"]*(?:""[^"]*)*(?:"|\Z)'
    word = rf"[{_LETTER}][{_LETTER}0-9$]*"
    number = r"[0-9]+(?:\.(?!\.)[0-9]*)?(?:[eE][-+]?[0-9]+)?"
    operators = r"[<>=!+*%^&|~?#@`]+"
    dollar = rf"\$((?:[{_LETTER}][{_LETTER}0-9]*)?)\$[\s\S]*?(?:\$\1\$|\Z)"
    before = [estring, unicode_name, word, _PUNCTUATION, string, _quoted('"'), operators, number]
    after = [r"\$[0-9]+", r"--[^\n\r]*", _BLOCK, _PLACEHOLDER, _REST]
    return Lexis(
        re.compile("|".join(before + after)),
        re.compile("|".join([*before, dollar, *after])),
        _finished(estring, unicode_name, string, _quoted('"')),
        nested_comments=True,
        dollar_strings=True,
        other=other,
    )


def _sqlite() -> Lexis:
    word = rf"[{_LETTER}][{_LETTER}0-9$]*"
    strings = [_simple("'"), _quoted('"'), _quoted("`"), r"\[[^\]]*(?:\]|\Z)"]
    number = r"[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"
    operators = r"[<>=!+*%^&|~?]+"
    variable = rf"[@$#][{_LETTER}0-9$]*"
    expression = [word, _PUNCTUATION, *strings, operators, number, variable, r"--[^\n]*"]
    pattern = re.compile("|".join([*expression, _BLOCK, _PLACEHOLDER, _REST]))
    return Lexis(pattern, pattern, _finished(*strings))


# Functions, not constants: compiling these expressions would be the better part of ``import rds_router``.


@functools.cache
def mysql_lexis() -> Lexis:
    """MySQL and MariaDB."""
    return _mysql(string=_escaped("'"), other=_mysql(string=_simple("'"), other=None))


@functools.cache
def postgresql_lexis() -> Lexis:
    """PostgreSQL."""
    return _postgresql(string=_simple("'"), other=_postgresql(string=_escaped("'"), other=None))


@functools.cache
def sqlite_lexis() -> Lexis:
    """SQLite."""
    return _sqlite()
