"""Workers on one host tell each other what their servers answered: a hundred of them ask once, not a hundred times.

1. One directory for each cluster, account and schedule, in a directory of this user's that nobody else may enter. In it
   one file for each server: the last observation, as JSON, replaced as a whole. No password is in it, nor in its name.
2. Whose turn it is to probe is settled by a lock on a file (``flock``), which the system takes back from a process that
   dies. Who does not get it takes the other's news. A holder that hangs is not waited for longer than a probe takes:
   then one of those who wait puts a new file in the place of his, and all go by that.
3. News that contradicts what this process saw last is not believed: it asks for itself. So what it learns from its own
   sessions counts at once and stays, and a worker that cannot reach a server, or may not log in, misleads nobody.
4. Whoever is asked for news by a reader (``hurry``, ``refresh``), or by a failed read, probes by itself.
5. Whatever is wrong with the files (foreign, torn, old, not writable) costs an event and a probe of one's own.

The clock is CLOCK_MONOTONIC, which all processes of a boot share, on Linux: elsewhere nothing is shared.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import shutil
import stat
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from rds_router._version import __version__
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.position import format_position, parse_position
from rds_router.dialects import dialect_for
from rds_router.dialects.base import Dialect
from rds_router.events import NewsNotShared
from rds_router.servers import Target

if TYPE_CHECKING or sys.platform != "win32":
    import fcntl


class Asks(Protocol):
    """What is shared here of a Prober."""

    name: str
    dialect: Dialect

    def probe(self, *, as_primary: bool) -> Observation:
        """Ask the server now."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Sharing:
    """One router's part in what its host knows."""

    def __init__(
        self,
        directory: Path,
        *,
        policy: RoutingPolicy,
        clock: Callable[[], float],
        tell: Callable[[NewsNotShared], None],
    ) -> None:
        self._directory = directory
        self._policy = policy
        self._clock = clock
        self._tell = tell
        self._told: set[str] = set()
        self._is_open = False
        self._leave: weakref.finalize[..., Any] | None = None
        self._held: set[int] = set()
        self._seen: dict[str, _Seen] = {}

    def __repr__(self) -> str:
        return f"<Sharing in {self._directory}>"

    def open(self) -> None:
        """Take part. Where that is not possible it is told, and this process asks for itself."""
        try:
            _own_directory(self._directory.parent)
            _own_directory(self._directory)
            users = os.open(self._directory / "users", _FLAGS | os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            self._trouble(error)
            return
        fcntl.flock(users, fcntl.LOCK_SH)
        # Also when the router is forgotten without close().
        self._leave = weakref.finalize(self, _leave, users, self._directory, os.getpid())
        self._is_open = True

    def close(self) -> None:
        """Take part no more; the last one takes the files away."""
        self._is_open = False
        if self._leave is not None:
            self._leave()

    def forked(self) -> None:
        """In a forked child: what is open belongs to the parent, and a lock lasts until all have closed it."""
        held, self._held = self._held, set()
        for number in held:
            with suppress(OSError):
                os.close(number)
        self.close()
        self._seen = {}

    def turn(self, prober: Asks, *, as_primary: bool, is_asked: bool, wake: threading.Event) -> Observation:
        """The news of one server: another process's if it is new, this one's own if nobody has any.

        ``is_asked``: somebody waits for a probe that begins now. ``wake`` is set when somebody does.
        """
        seen = self._seen.get(prober.name) or self._seen.setdefault(prober.name, _Seen(*self._paths(prober.name)))
        step, holder, until = _STEP, 0, 0.0
        patience = self._policy.probe_timeout + _GRACE
        latest = self._clock() + 2 * patience
        while self._is_open and not is_asked:
            told = self._read(prober, seen, as_primary=as_primary)
            if told is not None:
                if (told.report is not None) is not seen.is_well:
                    break
                return seen.taken(told, prober)
            with self._lock(seen.lock) as held_by:
                if held_by is None:
                    # The one who had the lock a moment ago may have told meanwhile.
                    told = self._read(prober, seen, as_primary=as_primary)
                    if told is not None and (told.report is not None) is seen.is_well:
                        return seen.taken(told, prober)
                    news = seen.asked(prober.probe(as_primary=as_primary))
                    self._write(prober, seen, news, as_primary=as_primary)
                    return news
            if held_by != holder:
                holder, until = held_by, self._clock() + patience
            if self._clock() >= latest:
                break  # one after another hangs, as when no name is resolved: now each sees for itself
            if self._clock() >= until:
                if not self._replace(seen.lock, holder):
                    break
                continue
            if wake.wait(step):
                break
            step = min(2 * step, _LONGEST_STEP)
        return seen.asked(prober.probe(as_primary=as_primary))

    def pause(self, news: Observation, usual: float) -> float:
        """Seconds until the next turn. Who took another's news leaves the next probe to him, who asks before that."""
        seen = self._seen.get(news.server)
        if seen is None or not seen.in_a_row:
            return usual
        # Half of what ``usual`` was drawn for stays: a hundred workers do not come at once for what they took at once.
        return max(0.0, news.at + max(usual, 0.85 * self._policy.probe_interval + usual / 2) - self._clock())

    def _read(self, prober: Asks, seen: _Seen, *, as_primary: bool) -> Observation | None:
        """Another process's last news, if it is new here, young, and was asked for as this one would."""
        try:
            if _stamp(os.stat(seen.news)) == seen.stamp:
                return None
            number = os.open(seen.news, _FLAGS | os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._trouble(error)
            return None
        try:
            stamp = _stamp(os.fstat(number))
            text = os.read(number, _MAX_BYTES)
        except OSError as error:
            self._trouble(error)
            return None
        finally:
            os.close(number)
        try:
            news, family, was_primary = decoded(text, prober.name)
        except ValueError as error:
            self._trouble(error)
            return None
        if news.at <= seen.at:
            seen.stamp = stamp
            return None
        age = self._clock() - news.at
        # From the future: left by an earlier boot, or made up.
        if not 0 <= age < self._policy.probe_interval or (self._policy.heartbeat and as_primary and not was_primary):
            return None
        if family != prober.dialect.name:
            prober.dialect = dialect_for(family)
        return news

    def _write(self, prober: Asks, seen: _Seen, news: Observation, *, as_primary: bool) -> None:
        if not self._is_open:
            return
        draft = f"{seen.news}.{os.getpid()}-{threading.get_ident()}"
        try:
            text = encoded(news, prober.dialect.name, as_primary=as_primary)
            number = os.open(draft, _FLAGS | os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(number, text)
            finally:
                os.close(number)
            os.replace(draft, seen.news)
        except (OSError, TypeError, ValueError) as error:
            # Whatever it is, the news itself is good, and this thread must live.
            with suppress(OSError):
                os.unlink(draft)
            self._trouble(error)

    @contextmanager
    def _lock(self, path: str) -> Iterator[int | None]:
        """None if it is this process's turn to ask the server, for as long as the block runs; else whose it is: the
        number of the file that another one has locked."""
        try:
            number = os.open(path, _FLAGS | os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            self._trouble(error)
            yield None  # nobody to agree with
            return
        self._held.add(number)
        try:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield os.fstat(number).st_ino
            except OSError as error:
                self._trouble(error)
                yield None
            else:
                yield None
        finally:
            if number in self._held:  # not in a forked child, which has closed it
                self._held.discard(number)
                os.close(number)

    def _replace(self, path: str, holder: int) -> bool:
        """Put a new file in the place of one whose holder hangs, unless another one just did. False: it cannot be."""
        try:
            if os.stat(path).st_ino == holder:
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._trouble(error)
            return False
        return True

    def _paths(self, name: str) -> tuple[str, str]:
        """Of the news of a server, and of the lock."""
        path = self._directory / hashlib.sha256(name.encode()).hexdigest()[:16]
        return f"{path}.json", f"{path}.lock"

    def _trouble(self, error: Exception) -> None:
        """Told once for each kind of it."""
        if isinstance(error, OSError) and error.errno == errno.ENOENT and self._is_open:
            # The last of the others took the files away while this one came.
            try:
                _own_directory(self._directory.parent)
                _own_directory(self._directory)
                return
            except OSError as another:
                error = another
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        if why not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(why)
            self._tell(NewsNotShared(str(self._directory), why))


def _leave(users: int, directory: Path, owner: int) -> None:
    if os.getpid() == owner:
        with suppress(OSError):  # somebody else is here still
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
    os.close(users)


@dataclasses.dataclass(slots=True)
class _Seen:
    """What this process last heard of one server."""

    news: str
    """Path of the file that another process's news is in."""
    lock: str
    at: float = -math.inf
    stamp: tuple[int, int] = (0, 0)
    """Of the file when there was nothing new in it: it is not read again before it is another one."""
    is_well: bool = True
    """Its own last probe was answered, or it made none yet."""
    in_a_row: int = 0
    """How often others' news did since its own last probe."""

    def asked(self, news: Observation) -> Observation:
        self.at, self.is_well, self.in_a_row = news.at, news.report is not None, 0
        return news

    def taken(self, news: Observation, prober: Asks) -> Observation:
        self.at = news.at
        self.in_a_row += 1
        if self.in_a_row == _ENOUGH:
            prober.close()  # a hundred workers need not hold a hundred connections that ask nothing
        return news


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_ino, found.st_mtime_ns


def sharing_of(
    found: Sequence[Target],
    policy: RoutingPolicy,
    *,
    clock: Callable[[], float],
    tell: Callable[[NewsNotShared], None],
) -> Sharing | None:
    """A router's part; None where nothing is to be shared, or can be."""
    if not policy.share_observations or clock is not time.monotonic or sys.platform != "linux":
        return None
    if any(each.url.host is None for each in found):
        return None
    directory = _directory_for(found, policy)
    return None if directory is None else Sharing(directory, policy=policy, clock=clock, tell=tell)


def _directory_for(found: Sequence[Target], policy: RoutingPolicy) -> Path | None:
    """Where processes meet that ask the same servers, as the same account, on the same schedule."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        # The same address is another server in another network, the same second another time in another time namespace.
        spaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "time") if _is_link(f"/proc/self/ns/{kind}")]
    except OSError:
        return None
    places = sorted(
        [each.server.name, each.family, each.url.host, each.url.port, each.url.username, each.url.database]
        for each in found
    )
    schedule = [policy.probe_interval, policy.probe_timeout, policy.heartbeat]
    key = json.dumps([__version__, _FIELDS, boot, spaces, places, schedule], default=str)
    return _base() / hashlib.sha256(key.encode()).hexdigest()[:32]


def _base() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime):
        return Path(runtime) / "rds_router"
    return Path(tempfile.gettempdir()) / f"rds_router-{os.geteuid()}"


def _is_link(path: str) -> bool:
    return os.path.lexists(path)


def _own_directory(path: Path) -> None:
    """Make it, or make sure that nobody else has made it or may enter it. Raises OSError."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EACCES, f"{path} is not a directory of this user's alone (mode 0700)")


def encoded(news: Observation, family: str, *, as_primary: bool) -> bytes:
    """An observation as another process can read it."""
    values = _values(news) | {"report": None if news.report is None else _values(news.report)}
    return json.dumps({"family": family, "as_primary": as_primary, "observation": values}).encode()


def decoded(text: bytes, server: str) -> tuple[Observation, str, bool]:
    """The observation of ``server``, its engine family, and whether it was asked as the primary. Raises ValueError."""
    try:
        found = json.loads(text)
        values = dict(found["observation"])
        report = values.pop("report")
        values["report"] = None if report is None else Report(**_checked(Report, report))
        news = Observation(**_checked(Observation, values))
        if news.server != server or not isinstance(found["family"], str) or not isinstance(found["as_primary"], bool):
            raise ValueError
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise ValueError("a file is not one of ours, or not whole: what is in it is ignored") from None
    return news, found["family"], found["as_primary"]


def _values(record: Observation | Report) -> dict[str, Any]:
    return {
        each.name: _WRITE.get(str(each.type), _as_it_is)(getattr(record, each.name))
        for each in dataclasses.fields(record)
        if each.name != "report"
    }


def _checked(kind: type[Observation] | type[Report], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all fields, each of its field's type. Raises TypeError or ValueError."""
    fields = dataclasses.fields(kind)
    if {each.name for each in fields} != values.keys():
        raise ValueError("other fields")
    return {each.name: _READ[str(each.type)](values[each.name]) for each in fields}


def _exactly(kind: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError
        return value

    return check


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _as_it_is(value: Any) -> Any:
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_exactly(str)(each) for each in _exactly(list)(value))


_WRITE: Final[Mapping[str, Callable[[Any], Any]]] = {
    "Role": lambda role: role.value,
    "Position | None": _or_none(format_position),
}
_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "str": _exactly(str),
    "bool": _exactly(bool),
    "int": _exactly(int),
    "float": _number,
    "str | None": _or_none(_exactly(str)),
    "bool | None": _or_none(_exactly(bool)),
    "int | None": _or_none(_exactly(int)),
    "float | None": _or_none(_number),
    "tuple[str, ...]": _texts,
    "Role": Role,
    "Position | None": _or_none(parse_position),
    "Report | None": _as_it_is,  # made already
}
"""How a field is read, by its type as written: a field of another type needs a line here (a test says so)."""
_FIELDS: Final = [[each.name, str(each.type)] for kind in (Observation, Report) for each in dataclasses.fields(kind)]

_FLAGS: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_MAX_BYTES: Final = 1 << 20
_STEP: Final = 0.02
"""Seconds until the next look whether the process that probes is done. Each is twice as long, up to ..."""
_LONGEST_STEP: Final = 0.32
_GRACE: Final = 0.5
"""Seconds by which another process's probe may take longer than a probe may."""
_ENOUGH: Final = 10
_MAX_TOLD: Final = 10
