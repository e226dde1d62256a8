"""rds_router beside its peers, by the same clients, on the same servers, in the same run.

    pip install -e '.[torture]' -r benchmarks/peers/requirements.txt
    .ci/servers/install.sh mysqlrouter; apt-get install --no-install-recommends pgpool2
    python -m benchmarks.peers.compare stale --engine mysql --json stale.json       # who reads behind what he wrote?
    python -m benchmarks.peers.compare outages --engine mysql --json outages.json   # how long does nothing succeed?

Prints tables in Markdown. Nothing is tuned for anybody: time limits as in ``rds_router.torture.ways``, no retry.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.proxies import move_primary, mysql_router, pgpool
from rds_router.lab import Cluster, Server, cluster
from rds_router.lab.torture.checker import Promises, Rule
from rds_router.lab.torture.figures import longest_outage, reads, writes
from rds_router.lab.torture.history import Outcome, Record
from rds_router.lab.torture.run import ClientHangs, Result, Settings, run
from rds_router.lab.torture.schedule import KINDS, LAG, PRIMARY, Fault, Step, Verb
from rds_router.lab.torture.workload import Workload

SETTLED = 3.0
"""Seconds before the fault, so that pools are full and everybody has looked around."""
FAULTS = ("kill-replica", "freeze-replica", "kill-primary", "demote", "freeze-primary", "switch")

Way = tuple[str, Mapping[str, Any], "Callable[[Server], object] | None"]


@contextlib.contextmanager
def ways(c: Cluster, *, is_stale: bool) -> Iterator[list[Way]]:
    """All that can be measured on this engine: a name, what the clients are told, who must hear of promotions."""
    policy = {"max_lag": 5.0}
    found: list[Way] = [("rds_router", {"kind": "router", "policy": policy}, None)]
    if is_stale:
        no_tokens = {"kind": "router", "policy": {**policy, "after_write": "any"}}
        found.append(('rds_router, `after_write="any"`', no_tokens, None))
    with contextlib.ExitStack() as stack:
        if c.engine == "mysql":
            found.append(
                ("MySQL Router", {"kind": "proxy", "url": stack.enter_context(mysql_router(c)).url}, move_primary)
            )
        if c.engine == "postgresql":
            found.append(("pgpool-II", {"kind": "proxy", "url": stack.enter_context(pgpool(c)).url}, None))
        if c.engine != "mariadb":
            found.append(("aws wrapper", {"kind": "benchmarks.peers.aws:way"}, None))
        yield found


def stale(engine: str, operations: int) -> list[dict[str, Any]]:
    """Replicas held back at random: who reads behind what he wrote or saw?"""
    rows = []
    with cluster(engine, replicas=3) as c, ways(c, is_stale=True) as found:
        for name, through, _ in found:
            settings = Settings(
                engine=engine,
                seed=1,
                seconds=600.0,
                operations=operations,
                processes=2,
                threads=4,
                faults=[LAG],
                workload=Workload(clients=40, lists=max(20, operations // 250)),
                through=through,
                promises=Promises(staleness=7.75),
            )
            result = run(settings, on=c)
            broken = Counter(each.rule for each in result.verdict.violations)
            row = {"way": name, "operations": len(result.history), "reads": len(reads(result.history))}
            row |= {rule.name.lower(): broken[rule] for rule in Rule}
            rows.append(row)
            print(row, flush=True)
    return rows


def outages(engine: str, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """One fault each, on a fresh cluster for each way: a proxy that lost its way must not spoil the next one's run."""
    rows = []
    for kind in kinds:
        for place in range(_ways_on(engine)):
            with cluster(engine, replicas=2) as c, ways(c, is_stale=False) as found:
                name, through, promoted = found[place]
                fault = _fault(kind)
                settings = Settings(
                    engine=engine,
                    seed=1,
                    seconds=fault.end + 8.0,
                    processes=2,
                    threads=4,
                    schedule=[fault],
                    workload=Workload(clients=24, lists=60, reads=0.6),
                    through=through,
                )
                row: dict[str, Any] = {"fault": kind, "way": name}
                try:
                    row |= _measured(run(settings, on=c, promoted=promoted))
                except ClientHangs as error:
                    print(error, file=sys.stderr, flush=True)
            rows.append(row)
            print(row, flush=True)
    return rows


def _ways_on(engine: str) -> int:
    return {"mysql": 3, "postgresql": 3, "mariadb": 1}[engine]


def _fault(kind: str) -> Fault:
    at, steps = SETTLED, []
    for number, (pause, verb, is_other) in enumerate(KINDS[kind].moves):
        at += pause
        begins = PRIMARY if KINDS[kind].is_on_primary else 1
        steps.append(Step(at, verb, 1 if is_other else None if number else begins))
    return Fault(kind, tuple(steps))


def _measured(result: Result) -> dict[str, Any]:
    start = result.done[0].start
    promotion = next((done for done in result.done if done.verb is Verb.PROMOTE), None)
    row: dict[str, Any] = {"promoted_after": round(promotion.end - start, 2) if promotion else None}
    for name, records in (("reads", reads(result.history)), ("writes", writes(result.history))):
        row[f"{name}_blocked"] = round(longest_outage(records, start - 0.5, result.end).seconds, 2)
        row[f"{name}_failed"] = _count(records, Outcome.FAILED)
        row[f"{name}_slowest"] = round(max((each.end - each.start for each in records if _is_ok(each)), default=0), 2)
    row["in_doubt"] = _count(result.history, Outcome.IN_DOUBT)
    row["violations"] = dict(Counter(each.rule.name.lower() for each in result.verdict.violations))
    return row


def _count(records: Sequence[Record], outcome: Outcome) -> int:
    return sum(each.outcome is outcome for each in records)


def _is_ok(record: Record) -> bool:
    return record.outcome is Outcome.OK


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """In Markdown; of a way whose clients were left waiting for ever nothing else can be told."""
    heads = list(max(rows, key=len))
    lines = [heads, ["---"] * len(heads), *([str(row.get(head, "hangs")) for head in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("stale", "outages"))
    parser.add_argument("--engine", choices=("mysql", "mariadb", "postgresql"), required=True)
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.what == "stale":
        rows = stale(given.engine, given.operations)
    else:
        rows = outages(given.engine, given.faults.split(","))
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
