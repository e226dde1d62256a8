"""``rds-router compare``: the same blog on two databases, in turns, and what of the difference is more than noise."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from rds_router.comparison import rounds, showing
from rds_router.comparison.blog import PREFIX
from rds_router.comparison.place import Place, Refused
from rds_router.comparison.rounds import BrokeOff
from rds_router.errors import ConfigurationError
from rds_router.settings import credentials_from, tls_from

BROKE_OFF, REFUSED, INTERRUPTED = 1, 2, 130
_REMOVED_WITHIN: Final = 30
_LEAST_ROUNDS: Final = 4


@click.command()
@click.argument("url_a")
@click.argument("url_b")
@click.option("--replicas-a", multiple=True, metavar="URL,...", help="A's replicas. May be given several times.")
@click.option("--replicas-b", multiple=True, metavar="URL,...", help="B's replicas.")
@click.option("--seconds", type=click.FloatRange(1, 3600), default=60, show_default=True, metavar="S",
              help="How long they work, both together; filling the tables comes on top.")  # fmt: skip
@click.option("--rounds", "count", type=click.IntRange(_LEAST_ROUNDS, 1000), default=12, show_default=True, metavar="N",
              help="How often they take turns. More rounds: better intervals.")  # fmt: skip
@click.option("--clients", type=click.IntRange(1, 64), default=4, show_default=True, metavar="N",
              help="How many use a side at once.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, metavar="N", help="Draws the contents and the work.")
@click.option("--schema", default=PREFIX, show_default=True, metavar="NAME",
              help="The schema that is made and removed; on MySQL and MariaDB a database.")  # fmt: skip
@click.option("--schema-b", metavar="NAME", help="Another name for B's, where A and B are the same server.")
@click.option("--ca", envvar="DB_SSL_CA", metavar="FILE", help="The authorities to trust, in PEM form; or DB_SSL_CA.")
@click.option("--credentials", envvar="RDS_ROUTER_CREDENTIALS", metavar="iam|secretsmanager:NAME",
              help="In place of the URLs' passwords; or RDS_ROUTER_CREDENTIALS.")  # fmt: skip
@click.option("--credentials-b", metavar="iam|secretsmanager:NAME", help="B's, if they are others.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, writable=True, path_type=Path), metavar="FILE",
              help="Write everything there too.")  # fmt: skip
@click.option("--picture", type=click.Path(dir_okay=False, writable=True, path_type=Path), metavar="FILE.svg|png",
              help="Draw the ratios there too; needs matplotlib.")  # fmt: skip
def compare(
    url_a: str,
    url_b: str,
    replicas_a: Sequence[str],
    replicas_b: Sequence[str],
    seconds: float,
    count: int,
    clients: int,
    seed: int,
    schema: str,
    schema_b: str | None,
    ca: str | None,
    credentials: str | None,
    credentials_b: str | None,
    json_file: Path | None,
    picture: Path | None,
) -> None:
    """Run the same blog on two databases and say which is faster, at what, by how much, and how surely.

    Both URLs are primaries: a schema is made on each, and removed at the end, after Ctrl-C and after an error too. A
    database that has one of that name already is refused, and nothing is touched. Nothing outside of it is read.

    Exit code: 0 done; 1 it broke off, or something could not be removed; 2 refused, or wrong usage; 130 interrupted.
    """
    _refuse_early(seconds, count, picture)
    console = Console(stderr=True)
    logging.getLogger("rds_router").addHandler(logging.NullHandler())  # events are counted in the answer
    places: list[Place] = []
    code = 0
    with _interrupts() as stop:
        try:
            tls = tls_from(ca)
            for letter, url, replicas, name, secret in (
                ("A", url_a, replicas_a, schema, credentials),
                ("B", url_b, replicas_b, schema_b or schema, credentials_b or credentials),
            ):
                listed = [each.strip() for one in replicas for each in one.split(",") if each.strip()]
                known = credentials_from(secret)
                places.append(Place(letter, url, listed, schema=name, clients=clients, credentials=known, tls=tls))
            for place in places:
                if not stop.is_set():
                    place.make()
            with _shown_progress(console) as tell:
                progress = rounds.Progress(tell, stop)
                a, b = places
                done = rounds.run(a, b, seconds=seconds, rounds=count, clients=clients, seed=seed, progress=progress)
            if stop.is_set():
                code = INTERRUPTED
            else:
                found = showing.answer(a, b, done, seconds=seconds, clients=clients, seed=seed)
        except (ConfigurationError, Refused) as error:
            code = _told(console, REFUSED, error)
        except BrokeOff as error:
            code = INTERRUPTED if stop.is_set() else _told(console, BROKE_OFF, error)
        finally:
            left = _not_removed(console, places)
    if code == 0:
        showing.print_table(found)
        if json_file is not None:
            json_file.write_text(json.dumps(showing.as_json(found), indent=1) + "\n", encoding="utf-8")
        if picture is not None:
            showing.draw(found, picture)
    elif code == INTERRUPTED:
        console.print("interrupted: nothing is reported", highlight=False)
    raise SystemExit(code or (BROKE_OFF if left else 0))


def _refuse_early(seconds: float, count: int, picture: Path | None) -> None:
    """What would only be found out at the end."""
    if rounds.slice_seconds(seconds, count) < rounds.SHORTEST_SLICE:
        least = rounds.SHORTEST_SLICE * (3 * count + 2)
        raise click.UsageError(
            f"{count} rounds need {least:.0f} --seconds or more: three slices each, of {rounds.SHORTEST_SLICE} s"
        )
    if picture is not None and picture.suffix not in showing.PICTURES:
        raise click.UsageError(f"--picture must end in one of {', '.join(showing.PICTURES)}")
    if picture is not None and importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--picture needs matplotlib, which is not installed: pip install matplotlib")


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set by Ctrl-C, SIGTERM and SIGHUP. None of them cuts anything short: there are schemas to remove."""
    stop = threading.Event()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
            before[number] = signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _shown_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("making the schemas", total=None)
        yield lambda words, done, whole: bar.update(task, description=words, completed=done, total=whole)


def _told(console: Console, code: int, error: BaseException) -> int:
    console.print(f"rds-router compare: {error}", markup=False, highlight=False, soft_wrap=True)
    return code


def _not_removed(console: Console, places: Sequence[Place]) -> list[Place]:
    """Remove what was made, in a bounded time: a server that hangs must not keep the program from its end."""
    outcomes: dict[Place, str] = {}

    def remove(place: Place) -> None:
        try:
            place.remove()
            outcomes[place] = ""
        except Exception as error:  # whatever it is, the user must hear what is left
            outcomes[place] = place.readable(error)
        place.close()

    threads = [threading.Thread(target=remove, args=(place,), daemon=True) for place in places]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _REMOVED_WITHIN
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [place for place in places if outcomes.get(place) != ""]
    for place in left:
        why = outcomes.get(place, "it does not answer")
        text = f"{place.letter} ({place}): {place.what} could not be removed ({why}); to remove it: {place.removal}"
        _told(console, BROKE_OFF, RuntimeError(text))
    return left
