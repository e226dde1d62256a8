"""A job that starts before the replica has the row that it was queued for, and does its work all the same.

    python examples/jobs/jobs.py mariadb

Two processes: this one is the web server, it inserts a post and queues a job for it; the other one is the worker.
Between them goes a line of JSON, as through any queue: the post's number and the token, which is text. The replica's
applier stands still meanwhile, so nothing but the token can save the job.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import IO, Any

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from rds_router import Replica, Router, RoutingPolicy, RoutingSession
from rds_router.lab import Cluster, cluster

metadata = MetaData()
posts = Table("job_posts", metadata, Column("id", Integer, primary_key=True), Column("title", String(40)))


def connect(primary: str, replica: str) -> Router:
    """The router, as the web server and the worker both make it: of the same URLs, so that they mean one cluster."""
    return Router(
        Replica(primary, name="primary"), [Replica(replica, name="replica")], policy=RoutingPolicy(max_lag=60.0)
    )


# --- the web server


def publish(router: Router, title: str) -> str:
    """Insert a post; returns the job to queue for it."""
    with RoutingSession(router=router) as session:
        session.execute(insert(posts).values(id=1, title=title))
        session.commit()
        return json.dumps({"post": 1, "token": str(session.token or "")})


# --- the worker


def announce(router: Router, job: dict[str, Any]) -> tuple[str | None, str]:
    """The job: read the post and tell of it. Returns its title, and where that was read."""
    with router.read_after(job["token"]), RoutingSession(router=router) as session, router.capture() as routed:
        title = session.scalar(select(posts.c.title).where(posts.c.id == job["post"]))
    return title, routed[0].decision.target


def work(primary: str, replica: str, queue: IO[str]) -> None:
    """Work off the queue until it ends."""
    with connect(primary, replica) as router:
        router.refresh()
        for line in queue:
            title, server = announce(router, json.loads(line))
            print(f"{title!r} from {server}", flush=True)


# --- both of them, on a cluster of their own


def show(c: Cluster) -> None:
    urls = [c.primary.url, c.replicas[0].url]
    with connect(*urls) as router:
        metadata.create_all(router.primary)
        c.wait_caught_up()
        worker = subprocess.Popen(
            [sys.executable, __file__, "--worker", *urls], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        with worker, worker.stdin as queue:
            _do(worker, queue, json.dumps({"post": 1, "token": ""}))  # it is awake, and the replica is known to be well
            c.pause_replication(c.replicas[0], sql_only=c.engine != "sqlite")
            job = publish(router, "hello")
            print(f"queued: {job}")
            print("without the token:", _do(worker, queue, json.dumps({**json.loads(job), "token": ""})))
            print("with the token:   ", _do(worker, queue, job))
            c.resume_replication(c.replicas[0], sql_only=c.engine != "sqlite")
            c.wait_caught_up()
            for _ in range(100):  # until the worker's router has heard that the replica is well again
                answer = _do(worker, queue, job)
                if answer.endswith("replica"):
                    break
                time.sleep(0.1)
            print("and once more:    ", answer)


def _do(worker: subprocess.Popen[str], queue: IO[str], job: str) -> str:
    queue.write(f"{job}\n")
    queue.flush()
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", nargs="?", default="mariadb", choices=["mariadb", "mysql", "postgresql"])
    parser.add_argument("--worker", nargs=2, metavar=("PRIMARY", "REPLICA"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        primary, replica = given.worker
        work(primary, replica, sys.stdin)
    else:
        with cluster(given.engine, replicas=1) as c:
            show(c)


if __name__ == "__main__":
    main()
