"""What the workers of one host tell each other: whose news is taken, whose turn it is, and what is wrong with files."""

from __future__ import annotations

import dataclasses
import errno
import math
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rds_router import Router, RoutingPolicy
from rds_router import sharing as module
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.position import MariaDBGtidList
from rds_router.dialects import MARIADB
from rds_router.events import NewsNotShared
from rds_router.servers import targets
from rds_router.sharing import Sharing, decoded, encoded, sharing_of
from rds_router.testing import Clock
from tests.cluster.asking import eventually

REPORT = Report(Role.REPLICA, lag=0.5, position=MariaDBGtidList.parse("0-1-7,1-2-9"), missing=("a grant",))


class Asking:
    """Stands for a Prober: counts, and answers what the test says."""

    dialect = MARIADB
    name = "r1"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked = 0
        self.closed = 0
        self.report: Report | None = REPORT
        self.meanwhile: Callable[[], object] = lambda: None

    def probe(self, *, as_primary: bool) -> Observation:
        self.asked += 1
        news = Observation(self.name, self.clock(), self.report, error="" if self.report else "no answer")
        self.meanwhile()
        return news

    def close(self) -> None:
        self.closed += 1


class Worker:
    """One process, as far as the files can tell."""

    def __init__(self, directory: Path, clock: Clock, **policy: Any) -> None:
        self.events: list[NewsNotShared] = []
        self.wake = threading.Event()
        self.prober = Asking(clock)
        self.sharing = Sharing(directory, policy=RoutingPolicy(**policy), clock=clock, tell=self.events.append)
        self.sharing.open()

    def turn(self, *, is_asked: bool = False, as_primary: bool = False) -> Observation:
        return self.sharing.turn(self.prober, as_primary=as_primary, is_asked=is_asked, wake=self.wake)


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def hire(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Worker]]:
    """Makes workers of one host."""
    hired: list[Worker] = []

    def make(**policy: Any) -> Worker:
        hired.append(Worker(tmp_path / "private" / "cluster", clock, **policy))
        return hired[-1]

    yield make
    for worker in hired:
        worker.sharing.close()


Hire = Callable[..., Worker]


def test_one_asks_and_the_others_take_its_news(hire: Hire, clock: Clock) -> None:
    first, *others = (hire() for _ in range(5))
    news = first.turn()
    clock.advance(0.2)
    assert [worker.turn() for worker in others] == [news] * 4
    assert [worker.prober.asked for worker in (first, *others)] == [1, 0, 0, 0, 0]
    assert all(worker.events == [] for worker in (first, *others))


def test_news_that_is_known_or_old_is_no_news(hire: Hire, clock: Clock) -> None:
    """Then it is this worker's turn."""
    first, second = hire(), hire()
    first.turn()
    clock.advance(0.9)
    first.turn()
    clock.advance(1.0)
    second.turn()
    assert (first.prober.asked, second.prober.asked) == (2, 1)


def test_who_took_the_news_comes_back_after_its_source_has_asked_again(hire: Hire, clock: Clock) -> None:
    first, second = hire(), hire()
    own = first.turn()
    assert first.sharing.pause(own, 0.9) == 0.9
    clock.advance(0.25)
    news = second.turn()
    assert second.sharing.pause(news, 0.9) == pytest.approx(1.05)
    assert second.sharing.pause(news, 1.1) == pytest.approx(1.15), "not all at once"
    assert second.sharing.pause(own, 30.0) == pytest.approx(29.75), "a server that is left alone is left alone"


def test_a_reader_that_waits_gets_a_probe_of_his_own(hire: Hire) -> None:
    first, second = hire(), hire()
    first.turn()
    second.turn(is_asked=True)
    assert second.prober.asked == 1


def test_while_another_asks_one_waits_for_his_news(hire: Hire) -> None:
    first, second = hire(), hire()
    taken: list[Observation] = []
    thread = threading.Thread(target=lambda: taken.append(second.turn()))
    first.prober.meanwhile = thread.start
    news = first.turn()
    thread.join(20.0)
    assert taken == [news]
    assert second.prober.asked == 0


def test_a_reader_ends_that_wait(hire: Hire) -> None:
    first, second = hire(), hire()
    second.wake.set()
    first.prober.meanwhile = second.turn
    first.turn()
    assert second.prober.asked == 1


def test_a_worker_that_hangs_in_its_turn_is_not_waited_for_for_ever(hire: Hire, clock: Clock) -> None:
    """It may be stopped in the middle of it, and keeps the lock."""
    first, second = hire(), hire()
    second.wake.wait = lambda timeout=None: bool(clock.advance(0.5))  # type: ignore[method-assign]
    first.prober.meanwhile = second.turn
    first.turn()
    assert second.prober.asked == 1


def test_of_many_who_waited_for_one_that_hangs_one_asks(hire: Hire, clock: Clock) -> None:
    """A herd at a slow machine would make it slower. Two that replace the same file in the same moment may both ask."""
    first, *others = (hire() for _ in range(9))
    threads = [threading.Thread(target=worker.turn) for worker in others]

    def wait(timeout: float | None = None) -> bool:
        time.sleep(0.005)
        return False

    for worker in others:
        worker.wake.wait = wait  # type: ignore[method-assign]
        worker.prober.meanwhile = lambda: time.sleep(0.1)

    def hang() -> None:
        for thread in threads:
            thread.start()
        for _ in range(5):
            time.sleep(0.1)
            # Past the time that they wait for the first, and short of what anybody waits in all.
            clock.advance(RoutingPolicy().probe_timeout + 0.6)
            if eventually(lambda: any(worker.prober.asked for worker in others), seconds=5.0):
                break  # else none had begun
        for thread in threads:
            thread.join(20.0)

    first.prober.meanwhile = hang
    first.turn()
    assert 1 <= sum(worker.prober.asked for worker in others) <= 2


def test_where_one_after_another_hangs_each_asks_in_the_end(hire: Hire, clock: Clock) -> None:
    """As when no name is resolved: the third does not wait for the second as long as that one did for the first."""
    first, second, third = (hire() for _ in range(3))
    for worker in (second, third):
        worker.wake.wait = lambda timeout=None: bool(clock.advance(0.5))  # type: ignore[method-assign]
    began = clock()
    first.prober.meanwhile = second.turn
    second.prober.meanwhile = third.turn
    first.turn()
    assert (second.prober.asked, third.prober.asked) == (1, 1)
    assert clock() - began <= 3 * (RoutingPolicy().probe_timeout + 1.0)


def test_a_directory_without_locks_costs_an_event(hire: Hire, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = hire()

    def flock(number: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", flock)
    worker.turn()
    assert worker.prober.asked == 1
    assert [event.why for event in worker.events] == ["No locks available"]


def test_bad_news_of_others_is_looked_into(hire: Hire, clock: Clock) -> None:
    """Only one's own failure takes a server out; then others' failures are as good as one's own."""
    first, second = hire(), hire()
    second.turn()
    clock.advance(1.0)
    first.prober.report = None
    first.turn()
    assert second.turn().report is not None
    assert second.prober.asked == 2
    clock.advance(1.0)
    second.prober.report = None
    assert second.turn().report is None
    clock.advance(1.0)
    failed = first.turn()
    assert second.turn() is not None
    assert (failed.report, second.prober.asked) == (None, 3), "both saw it fail: one asks"


def test_good_news_of_others_does_not_bring_back_what_failed_here(hire: Hire, clock: Clock) -> None:
    """This worker may have no way to the server, or may not log in there."""
    first, second = hire(), hire()
    second.prober.report = None
    second.turn(is_asked=True)
    clock.advance(0.1)
    first.turn()
    assert second.turn().report is None
    assert second.prober.asked == 2


def test_the_heartbeat_is_not_left_to_one_who_takes_its_server_for_a_replica(hire: Hire) -> None:
    first, second = hire(heartbeat=True), hire(heartbeat=True)
    first.turn(as_primary=False)
    second.turn(as_primary=True)
    assert second.prober.asked == 1


def test_who_only_takes_news_keeps_no_connection(hire: Hire, clock: Clock) -> None:
    first, second = hire(), hire()
    for _ in range(12):
        first.turn()
        second.turn()
        clock.advance(0.9)
    assert (second.prober.asked, second.prober.closed, first.prober.closed) == (0, 1, 0)


def test_only_the_user_may_enter_and_the_last_one_takes_the_files_away(hire: Hire, tmp_path: Path) -> None:
    first, second = hire(), hire()
    first.turn()
    private = tmp_path / "private"
    for path in (private, private / "cluster"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    files = list((private / "cluster").iterdir())
    assert sorted(path.suffix for path in files) == ["", ".json", ".lock"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    first.sharing.close()
    assert (private / "cluster").is_dir()
    second.sharing.close()
    second.sharing.close()
    assert list(private.iterdir()) == []


def test_a_forgotten_part_is_left_like_a_closed_one(tmp_path: Path, clock: Clock) -> None:
    before = len(os.listdir("/proc/self/fd"))
    worker = Worker(tmp_path / "p" / "c", clock)
    worker.turn()
    del worker
    assert len(os.listdir("/proc/self/fd")) == before
    assert not (tmp_path / "p" / "c").exists()


def test_files_that_another_took_away_are_made_anew(hire: Hire, tmp_path: Path, clock: Clock) -> None:
    worker, other = hire(), hire()
    module.shutil.rmtree(tmp_path / "private" / "cluster")
    worker.turn()
    clock.advance(1.0)
    worker.turn()
    assert other.turn().at == clock()
    assert (other.prober.asked, worker.events) == (0, [])


@pytest.mark.parametrize("which", [".", "cluster"])
def test_what_another_user_put_in_its_place_is_not_used(hire: Hire, tmp_path: Path, which: str) -> None:
    """The files went away, and a directory that others may enter stands there: it is told, and asked for itself."""
    worker = hire()
    module.shutil.rmtree(tmp_path / "private")
    (tmp_path / "private").mkdir(mode=0o700)
    if which == ".":
        (tmp_path / "private").chmod(0o777)
    else:
        (tmp_path / "private" / "cluster").symlink_to(tmp_path / "nowhere")
    worker.turn()
    worker.turn(is_asked=True)
    (event,) = worker.events
    assert "is not a directory of this user's alone" in event.why
    assert worker.prober.asked == 2
    assert list(tmp_path.glob("private/*/*")) == []


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_directory_that_others_may_enter_is_not_used(hire: Hire, tmp_path: Path, mode: int) -> None:
    """It is told, and this process asks for itself."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private").chmod(mode)
    worker = hire()
    worker.turn()
    (event,) = worker.events
    assert "is not a directory of this user's alone" in event.why or "Permission" in event.why
    assert worker.prober.asked == 1
    assert list((tmp_path / "private").iterdir()) == []


def test_a_link_in_the_directorys_place_is_not_followed(hire: Hire, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "private").symlink_to(tmp_path / "elsewhere")
    assert hire().events != []
    assert list((tmp_path / "elsewhere").iterdir()) == []


GARBAGE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"[" * 5000,
    encoded(Observation("r1", 1.0, REPORT), "mariadb", as_primary=False)[:-3],
    encoded(Observation("r1", 1.0, REPORT), "mariadb", as_primary=False).replace(b'"lag": 0.5', b'"lag": NaN'),
    encoded(Observation("r1", 1.0, REPORT), "mariadb", as_primary=False).replace(b'"lag": 0.5', b'"lag": true'),
    encoded(Observation("r1", 1.0, REPORT), "mariadb", as_primary=False).replace(b'"lag"', b'"other"'),
    encoded(Observation("r1", 1.0, REPORT), "mariadb", as_primary=False).replace(b"replica", b"king"),
    encoded(Observation("r1", 1.0, REPORT), "mariadb", as_primary=False).replace(b"0-1-7", b"0-1-x"),
    encoded(Observation("r2", 1.0, REPORT), "mariadb", as_primary=False),
]


@pytest.mark.parametrize("text", GARBAGE)
def test_what_is_not_ours_or_not_whole_is_ignored(hire: Hire, tmp_path: Path, text: bytes) -> None:
    """Told once; the next own news takes its place."""
    first, second = hire(), hire()
    first.turn()
    (path,) = (tmp_path / "private" / "cluster").glob("*.json")
    path.write_bytes(text)
    second.turn()
    assert second.prober.asked == 1
    assert [event.why for event in second.events] == [
        "a file is not one of ours, or not whole: what is in it is ignored"
    ]
    assert first.turn().report == REPORT


def test_news_from_the_future_is_ignored(hire: Hire, tmp_path: Path, clock: Clock) -> None:
    """An earlier boot's clock was further on."""
    first, second = hire(), hire()
    first.turn()
    (path,) = (tmp_path / "private" / "cluster").glob("*.json")
    path.write_bytes(encoded(Observation("r1", clock() + 50.0, REPORT), "mariadb", as_primary=False))
    second.turn()
    assert second.prober.asked == 1


texts = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
reports = st.builds(
    Report,
    st.sampled_from(Role),
    lag=st.none() | numbers,
    lag_grows_when_idle=st.booleans(),
    position=st.none() | st.just(REPORT.position),
    is_writable=st.none() | st.booleans(),
    follows=st.none() | st.booleans(),
    identity=texts,
    heartbeat=st.none() | numbers,
    missing=st.lists(texts, max_size=3).map(tuple),
)


@given(st.builds(Observation, st.just("r1"), numbers, st.none() | reports, error=texts), st.booleans())
def test_an_observation_arrives_as_it_was_sent(news: Observation, as_primary: bool) -> None:
    assert decoded(encoded(news, "mariadb", as_primary=as_primary), "r1") == (news, "mariadb", as_primary)


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match="not one of ours"):
        decoded(text, "r1")


OF_TYPE: dict[str, Any] = {
    "str": "words",
    "bool": True,
    "int": 3,
    "float": 1.5,
    "str | None": "words",
    "bool | None": True,
    "int | None": 3,
    "float | None": 1.5,
    "tuple[str, ...]": ("some", "words"),
    "Role": Role.REPLICA,
    "Position | None": MariaDBGtidList.parse("0-1-7"),
}


def test_whatever_a_report_holds_arrives() -> None:
    """Every field there is, also one that somebody adds."""
    report = Report(**{each.name: OF_TYPE[str(each.type)] for each in dataclasses.fields(Report)})
    others = {each.name: OF_TYPE[str(each.type)] for each in dataclasses.fields(Observation) if each.name != "report"}
    news = Observation(**{**others, "server": "r1", "report": report})
    assert decoded(encoded(news, "mariadb", as_primary=True), "r1") == (news, "mariadb", True)


def test_news_that_cannot_be_told_is_news_all_the_same(hire: Hire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitor's thread must not die of it."""
    worker = hire()
    monkeypatch.setattr(module, "encoded", lambda *_, **__: module.json.dumps(object()))
    assert worker.turn().report == REPORT
    assert len(worker.events) == 1


def test_every_field_can_be_told() -> None:
    """A field of a new type needs a reader."""
    for kind in (Observation, Report):
        for field in dataclasses.fields(kind):
            assert str(field.type) in module._READ, f"{kind.__name__}.{field.name} is {field.type}"


URLS = ("mysql+pymysql://app:geheim@db/blog", ["mysql+pymysql://app:geheim@r1/blog"])


def place_of(primary: str, replicas: list[str], **policy: Any) -> Path:
    made = sharing_of(targets(primary, replicas), RoutingPolicy(**policy), clock=module.time.monotonic, tell=print)
    assert made is not None
    return made._directory


def test_who_meets_where() -> None:
    """The same servers, account and schedule; a password makes no difference, and is not in the name."""
    here = place_of(*URLS)
    assert here == place_of(*(URLS[0].replace("geheim", "x"), [URLS[1][0].replace("geheim", "y")]))
    others = {
        place_of(URLS[0].replace("app", "job"), URLS[1]),
        place_of(URLS[0], [URLS[1][0].replace("r1", "r2")]),
        place_of(*URLS, probe_interval=2.0),
        place_of(*URLS, heartbeat=True),
    }
    assert len(others | {here}) == 5


def test_nothing_is_shared_that_cannot_be(tmp_path: Path) -> None:
    """By the policy's word, with a clock of one's own, with files for servers."""
    found = targets(*URLS)
    assert sharing_of(found, RoutingPolicy(share_observations=False), clock=module.time.monotonic, tell=print) is None
    assert sharing_of(found, RoutingPolicy(), clock=Clock(), tell=print) is None
    with Router(f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db") as router:
        assert router._monitor.sharing is None


def test_the_clock_never_makes_infinity() -> None:
    with pytest.raises(ValueError, match="not one of ours"):
        decoded(encoded(Observation("r1", math.inf), "mysql", as_primary=False), "r1")
