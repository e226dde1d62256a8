"""``python -m rds_router.torture``: obeys one task, a line of JSON on its standard input."""

from __future__ import annotations

import faulthandler
import json
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rds_router.lab.torture.workload import Workload
from rds_router.torture.client import Client
from rds_router.torture.contents import contents, prepare
from rds_router.torture.jar import Jar
from rds_router.torture.ways import way_for


def main() -> None:
    """Obey. SIGUSR1 has it say on standard error where each thread is."""
    faulthandler.register(signal.SIGUSR1)
    task = json.loads(sys.stdin.readline())
    workload = Workload(**task["workload"])
    if task["do"] == "prepare":
        prepare(task["servers"][task["primary"]], workload)
    elif task["do"] == "contents":
        lines = [contents(name, url).as_line() + "\n" for name, url in task["servers"].items()]
        (Path(task["folder"]) / "contents").write_text("".join(lines), encoding="utf-8")
    else:
        _work(task, workload)


def _work(task: Mapping[str, Any], workload: Workload) -> None:
    process, threads = task["number"], task["threads"]
    folder = Path(task["folder"])
    share = task["operations"] and -(-task["operations"] // (threads * task["processes"]))
    way, stop = way_for(task), threading.Event()
    failures: list[threading.ExceptHookArgs] = []

    def fail(args: threading.ExceptHookArgs) -> None:
        """A client that ended before its time may have written what no history tells: the run is worth nothing."""
        failures.append(args)
        threading.__excepthook__(args)

    threading.excepthook = fail
    with ExitStack() as files:
        running = []
        for number in range(process * threads, (process + 1) * threads):
            name = f"{process}/{number % threads}"
            out = files.enter_context((folder / f"{number}.history").open("w", encoding="utf-8"))
            client = Client(name, number, way, Jar(folder, workload.clients), workload, task["seed"], out)
            running.append(threading.Thread(target=client.work, args=(stop, share), name=name, daemon=True))
        print("ready", flush=True)
        for thread in running:
            thread.start()
        if share:
            threading.Thread(target=_until_end_of_input, args=(stop,), daemon=True).start()
        else:
            _until_end_of_input(stop)
        for thread in running:
            thread.join()
    (folder / f"{process}.events").write_text(json.dumps(way.close()), encoding="utf-8")
    (folder / f"{process}.losses").write_text(json.dumps(way.losses), encoding="utf-8")
    if failures:
        raise SystemExit(1)


def _until_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


if __name__ == "__main__":
    main()
