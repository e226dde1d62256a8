"""Each engine's text is cut into tokens by that engine's rules."""

from __future__ import annotations

import pytest

from rds_router.classify.lexer import (
    Lexis,
    Unreadable,
    ends_in_line_comment,
    mysql_lexis,
    postgresql_lexis,
    readings,
    sqlite_lexis,
    unquoted,
)

MYSQL, POSTGRESQL, SQLITE = mysql_lexis(), postgresql_lexis(), sqlite_lexis()


def tokens(sql: str, lexis: Lexis) -> list[str]:
    """The only reading of a text that has one."""
    (only,) = readings(sql, lexis)
    return only


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("a--1", ["a", "-", "-", "1"]),
        ("a-- 1\nb", ["a", "b"]),
        ("a--\tb", ["a"]),
        ("a--\x01b\nc", ["a", "c"]),
        ("a --", ["a"]),
        ("a # b\nc", ["a", "c"]),
        ("a # b\rc\nd", ["a", "d"]),
        ("a /* b /* c */ d", ["a", "d"]),
        ("a/**/b", ["a", "b"]),
        ("2*/*'*/3", ["2", "*", "3"]),
        ("'a\\'b' c", ["'a\\'b'", "c"]),
        ("'a''b'", ["'a'", "'b'"]),
        ("'\\\\' b", ["'\\\\'", "b"]),
        ('"a\\"b"', ['"a\\"b"']),
        ("`a``b` c", ["`a``b`", "c"]),
        ("`a\\`b", ["`a\\`", "b"]),
        ("N'a' x'1f' b'01' _utf8'x'", ["N", "'a'", "x", "'1f'", "b", "'01'", "_utf8", "'x'"]),
        ("1.FOR", ["1.", "FOR"]),
        ("1e5FOR", ["1e5", "FOR"]),
        ("1.5e-3x", ["1.5e-3", "x"]),
        ("1for", ["1for"]),
        ("0x1f", ["0x1f"]),
        ("t.1a", ["t", ".", "1a"]),
        ("@a:=@@b.c", ["@a", ":=", "@@b.c"]),
        ("@`a` @'b'", ["@", "`a`", "@", "'b'"]),
        ("%s %(n)s :n ?", ["%", "s", "%", "(", "n", ")", "s", ":n", "?"]),
        ("\\N", ["\\N"]),
        ("a$b é\u3000x", ["a$b", "é\u3000x"]),
        ("a\xa0b", ["a\xa0b"]),
    ],
)
def test_mysql(sql: str, expected: list[str]) -> None:
    """https://dev.mysql.com/doc/refman/8.4/en/language-structure.html"""
    assert tokens(sql, MYSQL) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("a--1\nb", ["a", "b"]),
        ("a--1\rb", ["a", "b"]),
        ("a # b", ["a", "#", "b"]),
        ("a /* b /* c */ d */ e", ["a", "e"]),
        ("a/*/*/**/*/*/b", ["a", "b"]),
        ("2*/*'*/3", ["2", "*", "3"]),
        ("5+-/*x*/-3", ["5", "+", "-", "-", "3"]),
        ("'a\\' b", ["'a\\'", "b"]),
        ("E'a\\'b' c", ["E'a\\'b'", "c"]),
        ("e'a''b\\\\' c", ["e'a''b\\\\'", "c"]),
        ("E'a'\n'b\\'c' d", ["E'a'\n'b\\'c'", "d"]),
        ("E'a' -- note\n 'b\\'c' d", ["E'a' -- note\n 'b\\'c'", "d"]),
        ("namE'a\\'", ["namE", "'a\\'"]),
        ("$$a'b$$ c", ["$$a'b$$", "c"]),
        ("$x$ $y$ $$ $x$ c", ["$x$ $y$ $$ $x$", "c"]),
        ("$X$ $x$ $X$", ["$X$ $x$ $X$"]),
        ("a$b$c", ["a$b$c"]),
        ("$1$2", ["$1", "$2"]),
        ("$1 + $2", ["$1", "+", "$2"]),
        ('"a""b" c', ['"a""b"', "c"]),
        ("U&\"a\" u&'b'", ['U&"a"', "u", "&", "'b'"]),
        ("a::int x[1:n]", ["a", "::", "int", "x", "[", "1", ":n", "]"]),
        ("a:=1 b=>2", ["a", ":=", "1", "b", "=>", "2"]),
        ("a@>b ->>c #>>d ?|e", ["a", "@>", "b", "-", ">>", "c", "#>>", "d", "?|", "e"]),
        ("1FOR 1.FOR 1e5x 1..2", ["1", "FOR", "1.", "FOR", "1e5", "x", "1", ".", ".", "2"]),
    ],
)
def test_postgresql(sql: str, expected: list[str]) -> None:
    """https://www.postgresql.org/docs/current/sql-syntax-lexical.html"""
    assert tokens(sql, POSTGRESQL) == expected


def test_sqlite() -> None:
    """Names in brackets, no nested comments, variables of four sorts."""
    assert tokens("[a b] `c` /* /* */ ?1 :n @n $n", SQLITE) == ["[a b]", "`c`", "?", "1", ":n", "@n", "$n"]


@pytest.mark.parametrize("lexis", [MYSQL, POSTGRESQL, SQLITE])
@pytest.mark.parametrize("sql", ["'a", '"a', "/* a", "/*/", "a '", "'a''"])
def test_what_does_not_end_cannot_be_read(sql: str, lexis: Lexis) -> None:
    """The rest of the text could be anything."""
    with pytest.raises(Unreadable, match="does not end"):
        list(readings(sql, lexis))


@pytest.mark.parametrize("sql", ["$$a", "$a$ $b$", "E'a\\'", "/* /* */", 'U&"a'])
def test_what_does_not_end_in_postgresql(sql: str) -> None:
    """Dollar quotes, escapes and nested comments."""
    with pytest.raises(Unreadable, match="does not end"):
        list(readings(sql, POSTGRESQL))


def test_versioned_comments_are_read_in_every_combination() -> None:
    """Which are executed depends on the server."""
    found = {" ".join(each) for each in readings("a /*!50000 b */ c /*M! d */", MYSQL)}
    assert found == {"a c", "a b c", "a c d", "a b c d"}


def test_versioned_comments_of_one_sort_stand_or_fall_together() -> None:
    """The same version is executed everywhere or nowhere."""
    found = {" ".join(each) for each in readings("/*!80000 a */ b /*!80000 c */", MYSQL)}
    assert found == {"b", "a b c"}


def test_a_versioned_comment_may_hold_a_plain_one() -> None:
    """Executed, it ends at its own end; skipped, comments nest."""
    assert [" ".join(each) for each in readings("/*! a /* x */ */ b", MYSQL)] == ["b", "a b"]


def test_a_string_with_a_comments_end_makes_the_skipped_reading_impossible() -> None:
    """A server that skips the comment ends it inside the string: one impossible reading is enough."""
    with pytest.raises(Unreadable):
        list(readings("/*! '*/' */ b", MYSQL))


def test_too_many_sorts_of_versioned_comment_are_not_tried() -> None:
    """Sixteen readings are enough."""
    sql = " ".join(f"/*!5000{i} a */" for i in range(5))
    with pytest.raises(Unreadable, match="too many"):
        list(readings(sql, MYSQL))


def test_the_unusual_backslash_setting_is_another_reading() -> None:
    """NO_BACKSLASH_ESCAPES, and standard_conforming_strings off."""
    assert MYSQL.other is not None
    assert POSTGRESQL.other is not None
    assert tokens("'a\\' b", MYSQL.other) == ["'a\\'", "b"]
    assert tokens("'a\\'b' c", POSTGRESQL.other) == ["'a\\'b'", "c"]


@pytest.mark.parametrize(
    ("sql", "lexis", "swallows"),
    [
        ("a -- b", MYSQL, True),
        ("a -- b\n", MYSQL, False),
        ("a --b", MYSQL, False),
        ("a --b", POSTGRESQL, True),
        ("a #", MYSQL, True),
        ("a # b", POSTGRESQL, False),
        ("'-- a'", MYSQL, False),
        ("", MYSQL, False),
    ],
)
def test_a_line_comment_at_the_end_swallows_what_is_put_behind_it(sql: str, lexis: Lexis, swallows: bool) -> None:
    """Which matters for fragments."""
    assert ends_in_line_comment(sql, lexis) is swallows


@pytest.mark.parametrize(
    ("token", "name"), [('"a""b"', 'a"b'), ("`a``b`", "a`b"), ("[a b]", "a b"), ("plain", "plain")]
)
def test_the_name_inside_its_quotes(token: str, name: str) -> None:
    """Doubled quotes become one."""
    assert unquoted(token) == name
