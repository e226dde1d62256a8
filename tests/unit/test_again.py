"""A second try does not hide what is broken."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

SELDOM = """
    import pathlib
    def test_seldom():
        place = pathlib.Path("tried")
        if not place.exists():
            place.touch()
            raise AssertionError("the first time")
    def test_well(): pass
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("RDS_ROUTER_AGAIN", "2")
    monkeypatch.setenv("PYTHONPATH", str(pytest.importorskip("tests").__path__[0]).removesuffix("/tests"))
    pytester.makeconftest('pytest_plugins = ["tests.again"]')
    return pytester


def test_what_passes_alone_is_listed_and_the_run_passes(run: pytest.Pytester) -> None:
    run.makepyfile(SELDOM)
    result = run.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*again, alone*", "*::test_seldom", "*1 passed*", "*passed alone*"])


def test_what_fails_again_fails_the_run(run: pytest.Pytester) -> None:
    run.makepyfile("def test_broken(): assert False")
    assert run.runpytest_subprocess("-p", "no:cacheprovider").ret == 1


def test_what_is_marked_once_is_not_tried_again(run: pytest.Pytester) -> None:
    run.makepyfile(SELDOM.replace("def test_seldom", "import pytest\n    @pytest.mark.once\n    def test_seldom"))
    result = run.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret == 1
    result.stdout.no_fnmatch_line("*again, alone*")


def test_many_failures_are_not_the_machines(run: pytest.Pytester) -> None:
    run.makepyfile("import pytest\n@pytest.mark.parametrize('x', range(3))\ndef test_broken(x): assert False")
    result = run.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret == 1
    result.stdout.no_fnmatch_line("*again, alone*")


def test_nobody_asks_nothing_is_repeated(run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RDS_ROUTER_AGAIN")
    run.makepyfile(SELDOM)
    assert run.runpytest_subprocess("-p", "no:cacheprovider").ret == 1
