"""Settings: what is wrong is refused at start, naming the key, the value and what is accepted."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask
from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from rds_router import ConfigurationError, Replica
from rds_router.events import Event, ReplicaOut
from rds_router.flask import SQLAlchemy
from rds_router.lab import Cluster
from tests.conftest import ClusterFactory
from tests.flask.conftest import MakeSite
from tests.session.models import User

DB_KEYS = ("DB_HOST", "DB_USER", "DB_PASS", "DB_PORT", "DB_NAME", "DB_REPLICA_HOSTS", "DB_SSL_CA", "DB_DRIVER")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No DB_* of this machine's, no .env above."""
    for key in DB_KEYS:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").touch()
    return monkeypatch


def configured(**config: Any) -> tuple[Flask, SQLAlchemy]:
    app = Flask("site")
    app.config.update(config)
    return app, SQLAlchemy(app)


PRIMARY = "mysql+pymysql://app:s3cr3t@primary/blogdb"


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("RDS_ROUTER_MAX_LAG", "soon", "a number of seconds"),
        ("RDS_ROUTER_MAX_LAG", -1, "a number of seconds"),
        ("RDS_ROUTER_MAX_LAG", True, "a number of seconds"),
        ("RDS_ROUTER_UNKNOWN_LAG", "maybe", "one of 'exclude', 'allow'"),
        ("RDS_ROUTER_AFTER_WRITE", "never", "one of 'token', 'primary', 'any'"),
        ("RDS_ROUTER_NO_REPLICA", None, "one of 'primary', 'error', 'stalest'"),
        ("RDS_ROUTER_GUARD", "perhaps", "true or false"),
        ("RDS_ROUTER_PROBE_INTERVAL", 0, "a number of seconds from 0.01 to 3600"),
        ("RDS_ROUTER_ZONE", 5, "a string"),
        ("RDS_ROUTER_PURE_FUNCTIONS", [1], "names of SQL functions"),
        ("RDS_ROUTER_HARD_MAX_LAG", "far", "a number of seconds"),
    ],
)
def test_a_wrong_value_names_key_value_and_what_is_accepted(key: str, value: Any, accepted: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured(SQLALCHEMY_DATABASE_URI=PRIMARY, **{key: value})
    assert key in str(caught.value)
    assert accepted in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_strings_of_the_environment_are_understood() -> None:
    app, db = configured(
        SQLALCHEMY_DATABASE_URI=PRIMARY,
        RDS_ROUTER_MAX_LAG="2.5",
        RDS_ROUTER_GUARD="off",
        RDS_ROUTER_PURE_FUNCTIONS="Slug, distance_km",
    )
    with app.app_context():
        assert db.router.policy.max_lag == 2.5
        assert db.router.policy.guard is False
        assert db.router.policy.pure_functions == {"slug", "distance_km"}


def test_an_unknown_key_is_refused() -> None:
    """A misspelt key would leave a promise unkept and say nothing."""
    with pytest.raises(ConfigurationError, match=r"RDS_ROUTER_MAXLAG is no setting.*RDS_ROUTER_MAX_LAG"):
        configured(SQLALCHEMY_DATABASE_URI=PRIMARY, RDS_ROUTER_MAXLAG=3)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"SQLALCHEMY_REPLICA_URI": PRIMARY},
            "SQLALCHEMY_REPLICA_URI is no setting of rds_router: the replicas are SQL",
        ),
        ({"SQLALCHEMY_REPLICA_URIS": 5}, "SQLALCHEMY_REPLICA_URIS is 5, but must be a list"),
        ({"SQLALCHEMY_REPLICA_URIS": {"a": "b"}}, "SQLALCHEMY_REPLICA_URIS is a dict"),
        ({"SQLALCHEMY_REPLICA_URIS": [5]}, "SQLALCHEMY_REPLICA_URIS[0] is 5, but must be a string, URL or Replica"),
        ({"SQLALCHEMY_REPLICA_URIS": "mysql:/broken"}, "SQLALCHEMY_REPLICA_URIS[0] is not a URL of the form"),
        (
            {"SQLALCHEMY_REPLICA_URIS": ["mysql+pymysql://r1/db", Replica("mysql+pymysql://app:s3cr3t@r2:x/db")]},
            "SQLALCHEMY_REPLICA_URIS[1] is not a URL of the form dialect+driver://user:password@host:port/database: "
            "its port is not a number",
        ),
        ({"SQLALCHEMY_DATABASE_URI": "primary/s3cr3t"}, "SQLALCHEMY_DATABASE_URI is not a URL of the form dialect"),
        ({"SQLALCHEMY_DATABASE_URI": ""}, "SQLALCHEMY_DATABASE_URI is '', but must be a URL of the form dialect"),
        ({"SQLALCHEMY_DATABASE_URI": 5}, "SQLALCHEMY_DATABASE_URI is 5, but must be a string, URL or Replica"),
        ({"SQLALCHEMY_DATABASE_URI": "mysql+pymysql://a:s3cr3t@h:port/d"}, "SQLALCHEMY_DATABASE_URI is not a URL"),
        ({"RDS_ROUTER_PRIMARY_NAME": 7}, "RDS_ROUTER_PRIMARY_NAME is 7, but must be a string"),
        ({"SQLALCHEMY_ENGINE_OPTIONS": "x"}, "SQLALCHEMY_ENGINE_OPTIONS is a str, but must be a dict of create_engine"),
        ({"SQLALCHEMY_ENGINE_OPTIONS": 5}, "SQLALCHEMY_ENGINE_OPTIONS is 5, but must be a dict of create_engine()"),
        (
            {"SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": "s3cr3t"}},
            "SQLALCHEMY_ENGINE_OPTIONS['connect_args'] is a str, but must be a dict of the driver's arguments",
        ),
        (
            {
                "SQLALCHEMY_REPLICA_URIS": ["mysql+pymysql://r1/db"],
                "RDS_ROUTER_REPLICA_ENGINE_OPTIONS": {"nonsense": 1},
            },
            "RDS_ROUTER_REPLICA_ENGINE_OPTIONS must be a dict of create_engine() arguments: the engine options for "
            "r1:3306 (replica) are not accepted: Invalid argument(s) 'nonsense'",
        ),
        ({"SQLALCHEMY_REPLICA_URIS": [PRIMARY]}, "primary:3306 is configured twice: name it once"),
        ({"SQLALCHEMY_REPLICA_URIS": ["postgresql://replica/blogdb"]}, "is postgresql, but the primary"),
        ({"SQLALCHEMY_REPLICA_URIS": ["nosuch://replica/blogdb"]}, "names the dialect 'nosuch'"),
        ({"RDS_ROUTER_REPLICA_ENGINE_OPTIONS": "pool"}, "RDS_ROUTER_REPLICA_ENGINE_OPTIONS is a str"),
        (
            {"SQLALCHEMY_ENGINE_OPTIONS": {"pool_sise": 5}},
            "SQLALCHEMY_ENGINE_OPTIONS must be a dict of create_engine() ar",
        ),
        ({"SQLALCHEMY_ENGINE_OPTIONS": {"pool_sise": 5}}, "Invalid argument(s) 'pool_sise'"),
        (
            {"SQLALCHEMY_ENGINE_OPTIONS": {"pool_size": "many"}},
            "SQLALCHEMY_ENGINE_OPTIONS must be a dict of create_engi",
        ),
        ({"SQLALCHEMY_ENGINE_OPTIONS": {"pool_size": "many"}}, "engine options for primary:3306"),
        ({"SQLALCHEMY_ENGINE_OPTIONS": {"pool_reset_on_return": "maybe"}}, "SQLALCHEMY_ENGINE_OPTIONS must be a dict"),
    ],
)
def test_what_cannot_work_is_refused_at_start(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured(**{"SQLALCHEMY_DATABASE_URI": PRIMARY, **config})
    assert words in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_no_fault_of_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    with pytest.raises(ConfigurationError, match=r"needs a driver that is not installed") as caught:
        configured(SQLALCHEMY_DATABASE_URI="mysql://app:s3cr3t@h/db")
    assert "ENGINE_OPTIONS" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_no_primary_is_flask_sqlalchemys_own_error() -> None:
    with pytest.raises(RuntimeError, match="must be set"):
        configured(SQLALCHEMY_REPLICA_URIS=[PRIMARY])


@pytest.mark.parametrize("given", [None, [], "", " , ", ()])
def test_no_replicas_in_any_form(given: Any) -> None:
    app, db = configured(SQLALCHEMY_DATABASE_URI=PRIMARY, SQLALCHEMY_REPLICA_URIS=given)
    with app.app_context():
        assert not db.router.has_replicas


@pytest.mark.parametrize(
    "given",
    [
        "mysql+pymysql://app:x@r1/db, mysql+pymysql://app:x@r2/db",
        ["mysql+pymysql://app:x@r1/db", make_url("mysql+pymysql://app:x@r2/db")],
        (Replica("mysql+pymysql://app:x@r1/db"), "mysql+pymysql://app:x@r2/db"),
    ],
)
def test_replicas_in_every_form(given: Any) -> None:
    app, db = configured(SQLALCHEMY_DATABASE_URI=PRIMARY, SQLALCHEMY_REPLICA_URIS=given)
    with app.app_context():
        assert [seen.server.name for seen in db.router.topology.servers] == ["primary:3306", "r1:3306", "r2:3306"]


def test_names_weights_and_zones_arrive() -> None:
    app, db = configured(
        SQLALCHEMY_DATABASE_URI=PRIMARY,
        RDS_ROUTER_PRIMARY_NAME="db-main",
        SQLALCHEMY_REPLICA_URIS=[Replica("mysql+pymysql://app:x@r1/db", name="near", weight=3, zone="eu-1a")],
    )
    with app.app_context():
        main, near = (seen.server for seen in db.router.topology.servers)
    assert (main.name, near.name, near.weight, near.zone) == ("db-main", "near", 3, "eu-1a")


# --- the environment


def test_the_environment_alone_is_enough(environment: pytest.MonkeyPatch) -> None:
    for key, value in {
        "DB_HOST": "db",
        "DB_USER": "app",
        "DB_PASS": "p@ss:/word",
        "DB_PORT": "3307",
        "DB_NAME": "blogdb",
        "DB_REPLICA_HOSTS": "r1, r2:3308",
    }.items():
        environment.setenv(key, value)
    app, db = configured()
    with app.app_context():
        assert [seen.server.name for seen in db.router.topology.servers] == ["db:3307", "r1:3307", "r2:3308"]
        assert db.engine.url.password == "p@ss:/word"
        assert db.engine.url.database == "blogdb"


def test_a_dotenv_file_is_read_and_the_environment_wins(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DB_HOST=from-file\nDB_NAME=blogdb\nDB_REPLICA_HOSTS=r1\n")
    environment.setenv("DB_NAME", "other")
    app, db = configured()
    with app.app_context():
        assert db.engine.url.host == "from-file"
        assert db.engine.url.database == "other"
        assert db.router.has_replicas


def test_configuration_wins_over_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DB_HOST", "env")
    environment.setenv("DB_REPLICA_HOSTS", "env-r1")
    app, db = configured(SQLALCHEMY_DATABASE_URI=PRIMARY)
    with app.app_context():
        assert db.engine.url.host == "primary"
        assert not db.router.has_replicas
    app, db = configured(SQLALCHEMY_REPLICA_URIS=["mysql+pymysql://app:x@mine/db"])
    with app.app_context():
        assert [seen.server.name for seen in db.router.topology.servers] == ["env:3306", "mine:3306"]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("DB_PORT", "many", "DB_PORT is 'many', but a port must be a number"),
        ("DB_SSL_CA", "/nowhere.pem", "DB_SSL_CA is '/nowhere.pem', but must be a file"),
        ("DB_DRIVER", "nosuch", "DB_DRIVER is 'nosuch', which SQLAlchemy does not know; use mysql"),
        ("DB_REPLICA_HOSTS", "r1 r2", "DB_REPLICA_HOSTS names the host 'r1 r2', but must be hosts separated by commas"),
    ],
)
def test_a_wrong_environment_is_refused(environment: pytest.MonkeyPatch, key: str, value: str, words: str) -> None:
    environment.setenv("DB_HOST", "db")
    environment.setenv(key, value)
    with pytest.raises(ConfigurationError, match=words):
        configured()


def test_a_wrong_password_is_told_as_what_it_is(mariadb_cluster: Cluster) -> None:
    """Through Flask: the account of the replica, not its network; the remedy is named, the password is not."""
    wrong = make_url(mariadb_cluster.replicas[0].url).set(password="s3cr3t-w0rd")
    app, db = configured(
        SQLALCHEMY_DATABASE_URI=mariadb_cluster.primary.url,
        SQLALCHEMY_REPLICA_URIS=[Replica(wrong, name="r1")],
        RDS_ROUTER_PROBE_INTERVAL=3600,
    )
    with app.app_context():
        events: list[Event] = []
        db.router.events.listen(events.append)
        with contextlib.closing(db.router):
            assert db.router.refresh(10)
    (out,) = [each for each in events if isinstance(each, ReplicaOut)]
    assert (out.server, out.why) == ("r1", "login refused")
    assert out.detail.endswith("check user, password and database in the URL of this server")
    assert "s3cr3t-w0rd" not in str(out)


def test_db_ssl_ca_decides_whom_to_trust(
    environment: pytest.MonkeyPatch, lab_cluster: ClusterFactory, tmp_path: Path
) -> None:
    """Against a real server with a certificate: the right file connects over TLS, a wrong one does not."""
    authority = make_authority("ours")
    own = write_pem(tmp_path / "ours.pem", authority[0])
    other = write_pem(tmp_path / "other.pem", make_authority("theirs")[0])
    certificate, key = make_certificate(*authority)
    cluster = lab_cluster(
        "mariadb",
        replicas=0,
        options={
            "ssl_ca": str(own),
            "ssl_cert": str(write_pem(tmp_path / "server.pem", certificate)),
            "ssl_key": str(write_key(tmp_path / "server.key", key)),
        },
    )
    url = make_url(cluster.primary.url)
    for name, value in {
        "DB_HOST": "127.0.0.1",
        "DB_USER": str(url.username),
        "DB_PASS": str(url.password),
        "DB_PORT": str(url.port),
        "DB_NAME": str(url.database),
        "DB_SSL_CA": str(own),
    }.items():
        environment.setenv(name, value)
    app, db = configured()
    with app.app_context():
        cipher = db.session.execute(db.text("SHOW SESSION STATUS LIKE 'Ssl_cipher'")).one()[1]
        db.session.remove()
        db.engine.dispose()
    assert cipher
    environment.setenv("DB_SSL_CA", str(other))
    app, db = configured()
    with app.app_context():
        with pytest.raises(OperationalError, match="is signed by none of the authorities"):
            db.session.execute(db.text("SELECT 1"))
        db.session.remove()


def test_a_site_configured_with_strings_reads_from_its_replica(make_site: MakeSite, paths: list[Path]) -> None:
    site = make_site(SQLALCHEMY_REPLICA_URIS=f"sqlite:///{paths[1]} , sqlite:///{paths[2]}")
    with site.app.app_context():
        assert site.db.session.scalar(select(User.name).where(User.id == 1)) == "ann"
    assert site.seen.parts == ["replica"]


# ---------------------------------------------------------------------------------------------------------

Authority = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def make_authority(name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = {"digital_signature": True, "key_cert_sign": True, "crl_sign": True}
    return _signed(
        subject,
        subject,
        key,
        key,
        lambda builder: (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(x509.KeyUsage(**{**_NO_USAGE, **usage}), critical=True)
        ),
    ), key


def make_certificate(authority: x509.Certificate, signer: ec.EllipticCurvePrivateKey) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return _signed(
        subject,
        authority.subject,
        key,
        signer,
        lambda builder: builder.add_extension(names, critical=False).add_extension(issuer, critical=False),
    ), key


_NO_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    extend: Callable[[x509.CertificateBuilder], x509.CertificateBuilder],
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    return extend(builder).sign(signer, hashes.SHA256())


def write_pem(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return path
