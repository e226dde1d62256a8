"""R14, kept by the whole suite: the lab's password must be in nothing that the package writes.

1. Whatever is logged, every event, every error of the package's own, what a router shows of itself when it is closed.
2. What a web page, a command or a program that a test runs has answered.
3. What a test printed (``tests/conftest.py`` asks :func:`leaks_in`).

The lab itself tells its URLs, on purpose: its own tests are left alone. Searching a text costs less than a microsecond.
"""

from __future__ import annotations

import functools
import importlib
import logging
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from rds_router import Router, RouterError
from rds_router.events import Emitter
from rds_router.lab.engines.base import APP

CANARY: Final = APP[1]
found: list[str] = []
"""What a test has leaked so far, each with where it was seen."""


def leaks_in(where: str, *texts: object) -> None:
    """Note each text that has the password in it."""
    for each in texts:
        line = each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each)
        place = line.find(CANARY)
        if place >= 0:
            found.append(f"{where}: ...{line[max(0, place - 120) : place + 60]!r}")


@contextmanager
def watched() -> Iterator[None]:
    """Look at everything from now on."""
    handler = Listening()
    logging.getLogger().addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        _after(patch, Emitter, "emit", lambda result, emitter, event: leaks_in("an event", event, repr(event)))
        patch.setattr(RouterError, "__init__", _init_of_error)
        _before(patch, Router, "close", _shown)
        _after(
            patch, subprocess, "run", lambda ran, *_, **__: leaks_in("a program", ran.stdout or "", ran.stderr or "")
        )
        for module, owner, method, look in _LIBRARIES:
            _after(patch, getattr(importlib.import_module(module), owner), method, look)
        yield
    logging.getLogger().removeHandler(handler)


class Listening(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        leaks_in(f"the log of {record.name}", record.getMessage(), record.exc_text or record.exc_info or "")


def _init_of_error(error: RouterError, *arguments: Any, **options: Any) -> None:
    # It has none of its own: a PrimaryChanged takes that of the DBAPIError which it is as well.
    super(RouterError, error).__init__(*arguments, **options)
    leaks_in("an error", *arguments, error)


def _shown(router: Any) -> None:
    topology, engines = router.topology, router._engines
    leaks_in("a router", repr(router), repr(topology), repr(router._outage), repr(router._monitor), repr(router.policy))
    leaks_in("a topology", *map(repr, topology.servers), *topology.primary_objections())
    leaks_in("metrics", router.events, dict(router.events.counts), dict(router.healed_shapes))
    leaks_in("an engine", *(f"{each!r} {each.url}" for each in engines._all()))


_LIBRARIES: Final[tuple[tuple[str, str, str, Callable[..., None]], ...]] = (
    ("werkzeug.test", "Client", "open", lambda page, *_, **__: leaks_in("a page", page.headers)),
    # Not before the test itself reads it: it may be a stream.
    ("werkzeug.wrappers", "Response", "get_data", lambda body, *_, **__: leaks_in("a page", body)),
    ("click.testing", "CliRunner", "invoke", lambda result, *_, **__: leaks_in("a command", result.output)),
)


def _after(patch: pytest.MonkeyPatch, owner: Any, name: str, look: Callable[..., None]) -> None:
    real = getattr(owner, name)

    @functools.wraps(real)
    def call(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        look(result, *arguments, **options)
        return result

    patch.setattr(owner, name, call)


def _before(patch: pytest.MonkeyPatch, owner: Any, name: str, look: Callable[..., None]) -> None:
    real = getattr(owner, name)

    @functools.wraps(real)
    def call(*arguments: Any, **options: Any) -> Any:
        look(*arguments)
        return real(*arguments, **options)

    patch.setattr(owner, name, call)
