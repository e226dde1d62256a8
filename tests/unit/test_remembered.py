"""The memory of credentials: who waits for whom, and how often AWS is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rds_router import Place, SecretsManager
from rds_router.credentials.base import ASKED_AGAIN, Remembered
from rds_router.testing import Clock

PATIENCE = 30.0


class Told:
    """What is asked, told when the test says so."""

    def __init__(self, *answers: str) -> None:
        self.answers = [*answers]
        self.count = 0
        self.is_asked = threading.Event()
        self.may_tell = threading.Event()

    def __call__(self) -> tuple[str, float]:
        self.count += 1
        self.is_asked.set()
        assert self.may_tell.wait(PATIENCE)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0], 60.0


def started(call: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_who_needs_no_new_answer_does_not_wait_for_one_that_is_asked_for() -> None:
    """A replica that refuses the login must not keep anybody from another server, whose password is known."""
    memory: Remembered[str] = Remembered()
    assert memory.get("", lambda: ("old", 60.0)) == "old"
    slow, found = Told("new"), []
    renewing = started(lambda: found.append(memory.get("", slow, unless="old")))
    assert slow.is_asked.wait(PATIENCE)
    healthy = started(lambda: found.append(memory.get("", slow)))
    healthy.join(PATIENCE)
    other = started(lambda: found.append(memory.get("other", lambda: ("its own", 60.0))))
    other.join(PATIENCE)
    assert found == ["old", "its own"]
    slow.may_tell.set()
    renewing.join(PATIENCE)
    assert found == ["old", "its own", "new"]
    assert memory.get("", slow) == "new"


def test_of_those_who_need_the_same_new_answer_one_asks() -> None:
    memory: Remembered[str] = Remembered()
    slow, found = Told("new", "never"), []
    callers = [started(lambda: found.append(memory.get("", slow, unless="old"))) for _ in range(8)]
    assert slow.is_asked.wait(PATIENCE)
    slow.may_tell.set()
    for caller in callers:
        caller.join(PATIENCE)
    assert found == ["new"] * 8
    assert slow.count == 1


def test_a_refused_answer_that_is_still_the_current_one_is_not_asked_for_again_at_once() -> None:
    """Whoever refuses it is probed each second, by each process; a rotated password is found all the same."""
    clock = Clock()
    memory: Remembered[str] = Remembered(clock)
    told = Told("old")
    told.may_tell.set()
    assert [memory.get("", told, unless="old") for _ in range(5)] == ["old"] * 5
    assert told.count == 1
    told.answers = ["new"]
    clock.advance(ASKED_AGAIN)
    assert memory.get("", told, unless="old") == "new"
    assert memory.get("", told) == "new"
    assert told.count == 2


def test_a_failed_question_is_not_remembered() -> None:
    memory: Remembered[str] = Remembered()

    def fails() -> tuple[str, float]:
        raise OSError("no way to AWS")

    for _ in range(2):
        try:
            memory.get("", fails)
        except OSError:
            continue
        raise AssertionError("it was answered")
    assert memory.get("", lambda: ("at last", 60.0)) == "at last"


def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    memory: Remembered[str] = Remembered()
    slow = Told("parent's")
    parent = started(lambda: memory.get("", slow))
    assert slow.is_asked.wait(PATIENCE)
    memory.forked()
    found: list[str] = []
    child = started(lambda: found.append(memory.get("", lambda: ("child's", 60.0))))
    child.join(PATIENCE)
    assert found == ["child's"]
    slow.may_tell.set()
    parent.join(PATIENCE)


def test_secrets_manager_is_asked_twice_for_a_replica_that_goes_on_refusing() -> None:
    """Once for the current password and once for a pending one; not at each of its probes."""
    asked: list[str] = []

    class Client:
        class exceptions:
            class ResourceNotFoundException(Exception):
                pass

        def get_secret_value(self, **given: str) -> dict[str, str]:
            asked.append(given["VersionStage"])
            if given["VersionStage"] == "AWSPENDING":
                raise self.exceptions.ResourceNotFoundException
            return {"SecretString": "geheim"}

    source = SecretsManager("prod/blog", client=lambda *_: Client())
    place = Place("r1", "r1.example", 3306, "app")
    answer = source(place)
    assert [source.renew(place, answer) for _ in range(10)] == [answer] * 10
    assert asked == ["AWSCURRENT", "AWSCURRENT", "AWSPENDING"]
