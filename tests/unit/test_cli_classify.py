"""``rds-router classify`` shows what statements are, and scores a labelled file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rds_router.cli import commands
from rds_router.cli.scoring import Score, escape, read_labelled, score, unescape

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str, stdin: str | bytes = "") -> Result:
        return CliRunner().invoke(commands, ["classify", *arguments], input=stdin)

    return invoke


def kinds(result: Result) -> list[tuple[str, str]]:
    assert result.exit_code == 0, result.output
    return [(each["statement"], each["kind"]) for each in json.loads(result.stdout)]


def test_each_argument_is_one_statement(run: Run) -> None:
    result = run("-o", "json", "SELECT 1; DELETE FROM t", "SELECT 2")
    assert kinds(result) == [("SELECT 1; DELETE FROM t", "write"), ("SELECT 2", "read")]


def test_standard_input_is_cut_at_its_semicolons(run: Run) -> None:
    script = "SELECT ';';\n-- SELECT 3;\nDELETE FROM t WHERE a = '\\';'; ;\n SELECT 2"
    found = kinds(run("-o", "json", stdin=script))
    assert [kind for _, kind in found] == ["read", "write", "read"]
    assert found[0][0] == "SELECT ';'"


def test_statements_are_cut_by_the_dialects_own_rules(run: Run) -> None:
    script = "SELECT $$;$$; SELECT 2"
    assert len(kinds(run("-o", "json", "-d", "postgresql", stdin=script))) == 2
    script = "SELECT 1 # ;\n; SELECT 2"
    assert len(kinds(run("-o", "json", "-d", "mysql", stdin=script))) == 2


def test_a_file_is_read(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "script.sql"
    script.write_text("SELECT 1;\nUPDATE t SET a = 1;\n")
    assert [kind for _, kind in kinds(run("-o", "json", "--file", str(script)))] == ["read", "write"]


def test_the_dialect_decides(run: Run) -> None:
    assert kinds(run("-o", "json", "-d", "postgresql", "SELECT lastval()"))[0][1] != "read"
    assert kinds(run("-o", "json", "-d", "mysql", "SELECT 1 --1"))[0][1] == "read"
    assert run("-d", "oracle", "SELECT 1").exit_code == 2


def test_a_pure_function_is_believed(run: Run) -> None:
    assert kinds(run("-o", "json", "SELECT My_F(1)"))[0][1] == "unknown"
    assert kinds(run("-o", "json", "--pure-function", "MY_f", "SELECT My_F(1)"))[0][1] == "read"


def test_the_table_says_kind_target_reason_and_statement(run: Run) -> None:
    result = run("SELECT id FROM t FOR UPDATE", "SELECT\n1")
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert ["kind", "goes", "to", "because", "statement"] in lines
    assert ["locking", "read", "primary", "FOR", "UPDATE", "SELECT", "id", "FROM", "t", "FOR", "UPDATE"] in lines
    assert ["read", "replica", "SELECT", "1"] in lines


def test_markup_in_a_statement_is_shown_as_it_is(run: Run) -> None:
    assert "[red]" in run("SELECT '[red]'").stdout


def test_tsv_is_escaped(run: Run) -> None:
    result = run("-o", "tsv", "DELETE\tFROM\nt")
    assert result.stdout.splitlines() == ["kind\tbecause\tstatement", "write\tDELETE\tDELETE\\tFROM\\nt"]


def test_bytes_that_are_no_text_do_not_stop_it(run: Run) -> None:
    for form in ("table", "tsv", "json"):
        result = run("-o", form, stdin=b"SELECT \xff\xfe\x00; SELECT 1")
        assert result.exit_code == 0
        assert "unknown" in result.stdout


def test_nothing_in_nothing_out(run: Run) -> None:
    assert kinds(run("-o", "json", stdin=" ;; -- nothing\n")) == []


# Scoring -------------------------------------------------------------------------------------------------


LABELLED = (
    "dialect\tstatement\texpected\nmysql\tSELECT 1\tread\nmysql\tSELECT f(1)\tread\nmysql\tDELETE\\nFROM t\twrite\n"
)
WRONG = LABELLED + "postgresql\tSELECT '\\\\n'\twrite\n"


def test_a_file_without_dangerous_mistakes_is_exit_code_0(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "labelled.tsv"
    path.write_text(LABELLED)
    result = run("--tsv", str(path))
    assert result.exit_code == 0
    assert "3 statements (1 writes, 2 reads): 0 dangerous, 1 lost (50.0 % of the reads)" in result.stdout
    assert "lost" in result.stdout


@pytest.mark.parametrize("form", ["table", "tsv", "json"])
def test_a_write_taken_for_a_read_is_exit_code_1(run: Run, tmp_path: Path, form: str) -> None:
    path = tmp_path / "labelled.tsv"
    path.write_text(WRONG)
    result = run("--tsv", str(path), "-o", form)
    assert result.exit_code == 1
    assert "dangerous" in result.stdout
    if form == "json":
        found = json.loads(result.stdout)
        assert (found["reads"], found["writes"], found["dangerous"], found["lost"]) == (2, 2, 1, 1)
        dangerous = [each for each in found["mistakes"] if each["mistake"] == "dangerous"]
        assert [(each["line"], each["statement"]) for each in dangerous] == [(5, "SELECT '\\n'")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mysql\tSELECT 1", "line 2: 2 fields instead of 3 (dialect, statement, expected)"),
        ("mysql\tSELECT 1\tmaybe", "line 2: expected is 'maybe', not 'read' or 'write'"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_line(run: Run, tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "labelled.tsv"
    path.write_text(f"dialect\tstatement\texpected\n{line}\n")
    result = run("--tsv", str(path))
    assert result.exit_code == 1
    assert message in result.stderr


def test_scoring_takes_no_other_statements(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "labelled.tsv"
    path.write_text(LABELLED)
    assert run("--tsv", str(path), "SELECT 1").exit_code == 2


def test_columns_are_found_by_their_headings() -> None:
    lines = ["source\texpected\tdialect\tstatement\n", "me\twrite\tmysql\tDELETE FROM t\n"]
    assert [(each.dialect, each.sql, each.expected) for each in read_labelled(lines)] == [
        ("mysql", "DELETE FROM t", "write")
    ]
    assert [each.line for each in read_labelled(["mysql\tSELECT 1\tread\r\n"])] == [1]


def test_escapes_go_round() -> None:
    for sql in ("a\tb\nc\rd\\e\\n", "\\", "\\\\t", ""):
        assert unescape(escape(sql)) == sql
    assert unescape("\\x \\0") == "\\x \\0"


def test_a_score_without_reads_has_no_share() -> None:
    assert str(Score(0, 0, ())) == "0 statements (0 writes, 0 reads): 0 dangerous, 0 lost"
    assert score([]) == Score(0, 0, ())


# The entry point -------------------------------------------------------------------------------------------


def test_python_m_rds_router_runs_it() -> None:
    command = [sys.executable, "-m", "rds_router", "classify", "-o", "tsv", "SELECT 1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[1] == "read\t\tSELECT 1"


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_it_says_what_to_install(missing: str) -> None:
    code = (
        f"import sys; sys.modules['{missing}'] = None; sys.argv = ['rds-router', 'classify', 'SELECT 1']\n"
        "from rds_router.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"rds-router: the command line needs {missing}, which is not installed. "
        "Install it with: pip install 'rds-router[cli]'\n"
    )
    assert done.stdout == ""


def test_an_unknown_command_is_an_error() -> None:
    assert CliRunner().invoke(commands, ["nope"]).exit_code == 2
    assert "classify" in CliRunner().invoke(commands, ["--help"]).stdout
