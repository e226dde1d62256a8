"""pgbouncer in transaction mode before a server: each transaction on another connection, as behind RDS Proxy."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

from rds_router.lab import Server


def program() -> str | None:
    """Where it is, if it is installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextlib.contextmanager
def bouncing(server: Server) -> Iterator[str]:
    """The server's URL through a pgbouncer of its own, which has twenty connections for everybody."""
    found = program()
    assert found is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="rds_router-pgbouncer-"))
    folder.chmod(0o755)
    url = make_url(server.url)
    users = folder / "users.txt"
    users.write_text(f'"{url.username}" "{url.password}"\n')
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{url.database} = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\n"
        "pool_mode = transaction\ndefault_pool_size = 20\nserver_round_robin = 1\nmax_client_conn = 200\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [found, "-q", str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            user="postgres" if os.getuid() == 0 else None,  # it refuses root
        )
    try:
        _wait_for(port, process, folder / "log")
        yield url.set(port=port).render_as_string(hide_password=False)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"pgbouncer did not start: {log.read_text()}")
