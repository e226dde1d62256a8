"""Where the time of the blog goes: a flame graph of one of its processes under load, by py-spy.

    make profile                               # build/profile/blog.svg, and what is ours of it
    python -m benchmarks.flame --seconds 30

Only samples of threads that hold the interpreter's lock count: CPU, and no waiting for servers.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from benchmarks.blog import Blog, fill, serving
from benchmarks.context import Context
from rds_router.lab.watchdog import family

OURS = re.compile(r"\((rds_router|blog)/")
THEIRS = re.compile(r"\((sqlalchemy|pymysql|flask|flask_sqlalchemy|jinja2|werkzeug|itsdangerous|gunicorn)/")
RATE = 250


def record(seconds: int, to: Path, *, seed: int = 1) -> Counter[str]:
    """Write the picture; the samples of each function of ours, and of all others under ``""``."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with Context(seed=seed) as context, tempfile.TemporaryDirectory(prefix="rds_router_flame-") as folder:
        raw = Path(folder) / "raw"
        c = context.cluster("mysql")
        fill(c)
        blog = Blog(primary=c.primary.url, replicas=[each.url for each in c.replicas], tls="off", workers=1)
        with serving(blog) as site:
            site.load(clients=8, seconds=2, seed=seed)
            (worker,) = family({site.pid}) - {site.pid}
            watching = [_watch(worker, seconds, *each) for each in (("flamegraph", to), ("raw", raw))]
            time.sleep(0.5)
            site.load(clients=8, seconds=seconds, seed=seed + 1)
            for each in watching:
                _, complaint = each.communicate(timeout=seconds + 60)
                if each.returncode:
                    raise RuntimeError(f"py-spy failed (it needs leave to look into processes): {complaint[-1000:]}")
        stacks = [line.rpartition(" ") for line in raw.read_text("utf-8").splitlines()]
    return by_function([(stack.split(";"), int(count)) for stack, _, count in stacks])


def _watch(pid: int, seconds: int, kind: str, to: Path) -> subprocess.Popen[str]:
    spy = Path(sys.executable).with_name("py-spy")
    command = [str(spy), "record", "--gil", "--nonblocking", "--pid", str(pid), "--rate", str(RATE)]
    command += ["--duration", str(seconds), "--format", kind, "-o", str(to)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def by_function(stacks: list[tuple[list[str], int]]) -> Counter[str]:
    """To the innermost function of ours goes what is spent in it and in the standard library below it."""
    found: Counter[str] = Counter()
    for frames, count in stacks:
        owner = next((each for each in reversed(frames) if OURS.search(each) or THEIRS.search(each)), "")
        found[re.sub(r":\d+\)$", ")", owner) if OURS.search(owner) else ""] += count
    return found


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--seconds", default=20, show_default=True)
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), default=Path("build/profile/blog.svg"))
def main(seconds: int, to: Path) -> None:
    found = record(seconds, to)
    total = sum(found.values())
    ours = total - found.pop("")
    click.echo(f"{to}: {total} samples; {100 * ours / total:.0f} % of them are the blog's or rds_router's own:")
    for name, count in found.most_common(20):
        click.echo(f"  {100 * count / total:5.1f} %  {name}")


if __name__ == "__main__":
    main()
