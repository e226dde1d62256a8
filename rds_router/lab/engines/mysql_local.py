"""MySQL and MariaDB from the programs of this machine: templates and command lines."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import time
from pathlib import Path

from rds_router.lab.binaries import Binaries
from rds_router.lab.engines.base import Options, environment
from rds_router.lab.engines.mysql_family import account_statements, server_options
from rds_router.lab.errors import ServerFailed
from rds_router.lab.server import Server

# Small and careless of power cuts, but not of SIGKILL: see server_options for what a commit is worth.
_SHARED = {
    "bind-address": "127.0.0.1",
    "socket": "s.sock",  # inside the data directory: a longer path may pass the limit of 107 bytes
    "pid-file": "s.pid",
    "innodb-flush-method": "nosync",
    "innodb-doublewrite": "OFF",
    "innodb-log-buffer-size": "2M",
    "innodb-buffer-pool-load-at-startup": "OFF",
    "innodb-buffer-pool-dump-at-shutdown": "OFF",
    "key-buffer-size": "16K",
}
_SMALL = {
    "mariadb": {
        "innodb-buffer-pool-size": "16M",
        "innodb-log-file-size": "8M",
        "aria-pagecache-buffer-size": "1M",
        "performance-schema": "OFF",
    },
    "mysql": {
        "innodb-buffer-pool-size": "32M",
        "innodb-redo-log-capacity": "8M",
        "mysqlx": "OFF",
        "table-open-cache": "200",
        "table-definition-cache": "400",
        "performance-schema-max-digest-length": "0",
        "performance-schema-digests-size": "0",
        "performance-schema-events-statements-history-long-size": "0",
        "performance-schema-events-waits-history-long-size": "0",
        "performance-schema-events-stages-history-long-size": "0",
        "performance-schema-events-transactions-history-long-size": "0",
        "innodb-read-io-threads": "1",
        "innodb-write-io-threads": "1",
        "innodb-purge-threads": "1",
        "innodb-page-cleaners": "1",
    },
}


class MysqlRecipe:
    """How one of the two is made and started here."""

    def __init__(self, engine: str, binaries: Binaries) -> None:
        self.engine = engine
        self.binaries = binaries
        self.run_as: int | None = None  # both run as root when told to
        self._user = ["--user=root"] if os.getuid() == 0 else []

    @property
    def key(self) -> str:
        made_by = repr(
            (self._build_command(Path("/t")), account_statements(self.engine), _SMALL, str(self.binaries.server))
        )
        return f"{self.engine}-{self.binaries.version}-{hashlib.sha256(made_by.encode()).hexdigest()[:12]}"

    def build(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="rds_router_lab-") as folder:
            work = Path(folder)
            accounts, log = work / "accounts.sql", work / "log"
            # Bootstrap starts without grant tables; FLUSH PRIVILEGES lets account statements work.
            statements = ["FLUSH PRIVILEGES", *account_statements(self.engine), "CREATE DATABASE app"]
            accounts.write_text("".join(f"{statement};\n" for statement in statements))
            with log.open("wb") as out:
                done = subprocess.run(
                    [*self._build_command(directory), self._accounts_option(accounts)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=environment(work),
                    check=False,
                )
            if done.returncode != 0:
                why = log.read_text(errors="replace")[:2000]
                raise ServerFailed(f"cannot make an empty {self.engine} data directory:\n{why}")
            if self.engine == "mysql":
                self._start_once(directory, work)
        # A copied server UUID would make replicas take each other for themselves.
        (directory / "auto.cnf").unlink(missing_ok=True)

    def _start_once(self, directory: Path, temporary: Path) -> None:
        """Let the first start's work (redo log of the running size, upgrade checks) be done once, not in each copy."""
        settings = _SHARED | _SMALL[self.engine] | {"datadir": str(directory)}
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        command = [str(self.binaries.server), "--no-defaults", *self._user, *arguments, "--skip-log-bin"]
        with subprocess.Popen(
            [*command, "--skip-networking"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(temporary),
        ) as server:
            while server.poll() is None and not (directory / _SHARED["pid-file"]).exists():
                time.sleep(0.05)
            server.terminate()
        if server.returncode != 0:
            raise ServerFailed(f"a fresh mysql data directory could not be started and stopped ({server.returncode})")

    def prepare(self, server: Server, source: Server | None) -> None:
        """A copy of the template needs nothing more: its settings are on the command line."""

    def clone(self, server: Server, source: Server) -> bool:
        """No: the binary logs go back to the template, so a fresh copy replays everything."""
        return False

    def command(self, server: Server, options: Options) -> list[str]:
        settings = _SHARED | _SMALL[self.engine] | server_options(self.engine, server)
        settings |= {"datadir": str(server.path), "port": str(server.port)}
        for name, value in options.items():
            settings[name.replace("_", "-")] = _text(value)
        arguments = [f"--{name}={value}" if value else f"--{name}" for name, value in settings.items()]
        return [str(self.binaries.server), "--no-defaults", *self._user, *arguments]

    def _build_command(self, directory: Path) -> list[str]:
        fast = [f"--{name}={_SHARED[name]}" for name in ("innodb-flush-method", "innodb-doublewrite")]
        fast += [*self._user, f"--datadir={directory}", "--innodb-flush-log-at-trx-commit=0"]
        installer = str(self.binaries.installer)
        if self.engine == "mariadb":
            size = f"--innodb-log-file-size={_SMALL['mariadb']['innodb-log-file-size']}"
            wanted = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", size]
            return [installer, "--no-defaults", *wanted, *fast]
        # A redo log of the running size (8M) would make the initialisation wait for it.
        return [
            installer,
            "--no-defaults",
            "--initialize-insecure",
            "--skip-log-bin",
            "--innodb-redo-log-capacity=64M",
            *fast,
        ]

    def _accounts_option(self, accounts: Path) -> str:
        return f"--extra-file={accounts}" if self.engine == "mariadb" else f"--init-file={accounts}"


def _text(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    return str(value)
