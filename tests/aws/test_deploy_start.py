"""The blog starts by what the template's machine runs: its script, its installer, its unit, on servers with TLS.

What only Amazon has is a stand-in on the PATH: dnf, the aws command, systemctl, Python's wheel. All else is real: the
script as the template makes it, the account, the tables, gunicorn as the unit starts it, one request.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from rds_router.lab import Cluster
from tests.aws.certificates import Authority
from tests.aws.template import FILE, Stack

DEPLOY = FILE.parent
PASSWORD = "Zb4nvwk9QhT7xLr2"
SECRETS = {
    "admin": {"username": "admin", "password": "admin"},
    "app": {"username": "blog", "password": PASSWORD},
}


@pytest.fixture(scope="module")
def secrets_manager() -> Iterator[str]:
    """moto as a server on 127.0.0.1 that holds the two secrets; yields its address."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("flask_cors", reason="moto's server is not installed (extra dev)")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "eu-west-1"}
    settings |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.delenv(name, raising=False)
        for name, value in settings.items():
            patch.setenv(name, value)
        client = boto3.client("secretsmanager")
        for name, secret in SECRETS.items():
            client.create_secret(Name=name, SecretString=json.dumps(secret))
        yield settings["AWS_ENDPOINT_URL"]
        for name in SECRETS:
            client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    server.stop()


class Machine:
    """A folder in the place of a machine."""

    def __init__(self, root: Path, authority: Authority) -> None:
        self.root = root
        self.calls = root / "calls"
        self._path = root / "stand-ins"
        self._path.mkdir()
        # The archive is made for real, but for the wheel: the blog runs with the library of this checkout.
        self._stand_in("make-wheel", 'mkdir "${@: -2:1}" && touch "${@: -2:1}/rds_router-0.0.0-py3-none-any.whl"')
        archive = root / "packed.tar.gz"
        environment = {**os.environ, "PYTHON": str(self._path / "make-wheel")}
        subprocess.run([DEPLOY / "pack.sh", archive], env=environment, check=True, capture_output=True)
        for name in ("dnf", "useradd", "systemctl"):
            self._stand_in(name)
        self._stand_in("aws", f'cp {shlex.quote(str(archive))} "${{@: -1}}"')
        self._stand_in("curl", f'[[ "$*" != *global-bundle.pem ]] || cp {shlex.quote(str(authority.ca))} "$5"')
        programs = Path(sys.executable).parent
        # An environment of this one's programs, where pip does nothing.
        make = [
            f'printf \'#!/bin/bash\\n{first}exec {programs / name} "$@"\\n\' >"$3/bin/{name}"'
            for name, first in (("python", '[ "$2" = pip ] && exit\\n'), ("flask", ""), ("gunicorn", ""))
        ]
        self._stand_in("python3.11", "\n".join(['mkdir -p "$3/bin"', *make, 'chmod +x "$3"/bin/*']))
        signals = root / "opt/aws/bin"
        signals.mkdir(parents=True)
        self._stand_in("cfn-signal").rename(signals / "cfn-signal")

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run what the machine is told at its first start."""
        environment = {**os.environ, "ROOT": str(self.root), "PATH": f"{self._path}:{os.environ['PATH']}"}
        return subprocess.run(["bash"], input=script, env=environment, capture_output=True, text=True, check=False)

    @property
    def settings(self) -> dict[str, str]:
        """What systemd would read for the service."""
        lines = (self.root / "etc/blog/blog.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def command(self, key: str) -> list[str]:
        """A command of the unit, its paths in this folder."""
        unit = configparser.RawConfigParser(strict=False)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(self.root / "etc/systemd/system/blog.service")
        words = shlex.split(unit["Service"][key].lstrip("-"))
        return [word.replace("/opt/blog", f"{self.root}/opt/blog") if "/" in word else word for word in words]

    def environment(self, **more: str) -> dict[str, str]:
        keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_") or name == "PATH"}
        return {**keys, **self.settings, **more}

    def _stand_in(self, name: str, does: str = "") -> Path:
        """A program that notes its call, and does that."""
        path = self._path / name
        path.write_text(f'#!/bin/bash\nset -euo pipefail\necho {name} "$@" >>{shlex.quote(str(self.calls))}\n{does}\n')
        path.chmod(0o755)
        return path


@pytest.fixture
def blog_database(tls_cluster: Callable[[str], Cluster]) -> Iterator[Cluster]:
    """A cluster with a database ``blog``, as RDS makes it, taken away again with the accounts."""
    cluster = tls_cluster("mysql")
    engine = create_engine(cluster.primary.admin_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as admin:
        admin.execute(text("CREATE DATABASE blog"))
        try:
            yield cluster
        finally:
            admin.execute(text("DROP DATABASE blog"))
            admin.execute(text("DROP USER IF EXISTS blog"))
    engine.dispose()
    cluster.wait_caught_up()


@pytest.mark.timeout(400)
def test_the_blog_starts_as_the_template_says(
    blog_database: Cluster, authority: Authority, secrets_manager: str, tmp_path: Path
) -> None:
    """By a rotated secret; the plugin for IAM is in Amazon's servers only."""
    pytest.importorskip("gunicorn", reason="gunicorn is not installed (extra dev)")
    primary, replica = (f"127.0.0.1:{each.port}" for each in (blog_database.primary, blog_database.replicas[0]))
    admin, app = secrets()
    script = Stack(Authentication="secret", AppWorkers="2").user_data(
        **{
            "AWS::Region": "eu-west-1",
            "AWS::StackName": "blog",
            "AdminSecret": admin,
            "AppSecret": app,
            "Primary.Endpoint.Address": primary,
            "Replica.Endpoint.Address": replica,
        }
    )
    machine = Machine(tmp_path, authority)
    first = machine.run(script)
    assert first.returncode == 0, first.stderr
    assert "Tables created and filled." in first.stdout
    settings = machine.settings
    assert (settings["DB_HOST"], settings["DB_REPLICA_HOSTS"], settings["WEB_CONCURRENCY"]) == (primary, replica, "2")
    assert PASSWORD not in str(settings)
    assert (tmp_path / "etc/blog/blog.env").stat().st_mode & 0o777 == 0o600
    calls = machine.calls.read_text().splitlines()
    assert "systemctl restart blog" in calls
    assert calls[-1] == "cfn-signal --exit-code 0 --stack blog --resource App --region eu-west-1"

    again = machine.run(script)
    assert again.returncode == 0, again.stderr
    assert "Tables are there" in again.stdout
    assert machine.settings == settings

    home = tmp_path / "opt/blog"
    blog_database.wait_caught_up()
    look = [*machine.command("ExecStartPre"), "--json"]
    doctor = subprocess.run(look, cwd=home, env=machine.environment(), capture_output=True, text=True, check=False)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    findings = json.loads(doctor.stdout)["findings"]
    assert {each["severity"] for each in findings if each["topic"] == "TLS"} == {"ok"}
    assert [each for each in findings if each["severity"] in ("warning", "error")] == []
    with served(machine) as address:
        deadline = time.monotonic() + 120
        page = ""
        while replica not in page and time.monotonic() < deadline:
            page = get(address, deadline)
        assert "Saltmarsh" in page
        assert replica in page  # named at the foot of the page: it answered


def test_a_machine_whose_database_is_away_says_so(authority: Authority, secrets_manager: str, tmp_path: Path) -> None:
    """The stack then fails within minutes, instead of waiting for a signal that never comes."""
    admin, app = secrets()
    attributes = {"AWS::StackName": "blog", "AdminSecret": admin, "AppSecret": app, "AWS::Region": "eu-west-1"}
    away = {"Primary.Endpoint.Address": "127.0.0.1:1", "Replica.Endpoint.Address": "127.0.0.1:1"}
    machine = Machine(tmp_path, authority)
    result = machine.run(Stack(Authentication="secret").user_data(**attributes, **away))
    assert result.returncode != 0
    assert "Can't connect to MySQL server" in result.stderr
    last = machine.calls.read_text().splitlines()[-1]
    assert re.match(r"cfn-signal --exit-code [1-9]\d* --stack blog", last)


def test_the_account_for_iam_is_made_as_amazon_documents_it() -> None:
    """Not run: no server but Amazon's has the plugin."""
    sys.path.insert(0, str(DEPLOY))
    try:
        from account import statements
    finally:
        sys.path.remove(str(DEPLOY))
    made = [sql for sql, _ in statements(has_iam=True)]
    assert "CREATE USER IF NOT EXISTS 'blog_iam'@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'" in made
    assert "ALTER USER 'blog_iam'@'%' REQUIRE SSL" in made
    assert "GRANT REPLICATION CLIENT ON *.* TO 'blog_iam'@'%'" in made
    assert not any("blog_iam" in sql for sql, _ in statements(has_iam=False))


def secrets() -> tuple[str, str]:
    """The ARNs of the administrator's secret and of the application's."""
    import boto3

    listed = boto3.client("secretsmanager").list_secrets()["SecretList"]
    by_name = {each["Name"]: str(each["ARN"]) for each in listed}
    return by_name["admin"], by_name["app"]


@contextlib.contextmanager
def served(machine: Machine) -> Iterator[str]:
    """gunicorn, as the unit starts it; ended as systemd ends it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = machine.environment(BIND=f"127.0.0.1:{port}")
    log = machine.root / "gunicorn.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            machine.command("ExecStart"), cwd=machine.root / "opt/blog", env=environment, stdout=output, stderr=output
        )
    try:
        yield f"http://127.0.0.1:{port}/"
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def get(address: str, deadline: float) -> str:
    """The page, as soon as somebody answers."""
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:  # nobody listens yet, or a loaded machine is slow
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
