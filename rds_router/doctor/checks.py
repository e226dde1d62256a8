"""From facts to findings: pure functions, one for each topic.

1. who answers  2. roles  3. TLS  4. versions  5. grants  6. lag  7. replicas refuse writes  8. positions
9. settings that differ  10. schema (``schema.py``)  11. connections (``connections.py``)  12. endpoints  13. proxies
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final

from rds_router.core.endpoint import EndpointKind, endpoint_of
from rds_router.core.observation import Role
from rds_router.dialects.heartbeat import TABLE
from rds_router.dialects.probe import told_grant
from rds_router.doctor.connections import connections
from rds_router.doctor.facts import Facts, ServerFacts
from rds_router.doctor.finding import Finding, Severity
from rds_router.doctor.schema import schemas

OK, NOTE, WARNING, ERROR = Severity

MYSQL: Final = ("mysql", "mariadb")


def findings_of(facts: Facts) -> tuple[Finding, ...]:
    """All findings, in the order of the topics."""
    return tuple(finding for check in CHECKS for finding in check(facts))


def reachable(facts: Facts) -> Iterator[Finding]:
    for each in facts.servers:
        if each.report is not None:
            as_whom = f", this account is {each.account}" if each.account else ""
            yield Finding(OK, "reachable", each.name, f"answers{as_whom}")
            if each.unasked:
                yield Finding(NOTE, "reachable", each.name, "could not be asked for " + ", ".join(each.unasked))
        elif each.is_login_refused:
            do = "check user, password and the database's name; the server lets nobody in by them"
            yield Finding(ERROR, "reachable", each.name, f"is there, but refused the login: {each.error}", do)
        else:
            do = "check that it runs, its host name and port, and that its security group lets this machine in"
            yield Finding(ERROR, "reachable", each.name, f"was not reached: {each.error}", do)


def roles(facts: Facts) -> Iterator[Finding]:
    identities: dict[str, str] = {}
    for each in facts.reached:
        assert each.report is not None
        part, role, identity = "primary" if each.is_primary else "replica", each.report.role, each.report.identity
        if identity and identity in identities:
            do = "take one of them out of the configuration"
            yield Finding(ERROR, "role", each.name, f"is the same server as {identities[identity]}", do)
        identities.setdefault(identity, each.name)
        if role.value == part:
            yield Finding(OK, "role", each.name, f"is the {part}, as configured")
        elif role is Role.REPLICA:
            why = "follows another server" if each.report.follows else "refuses writes"
            do = "name the server that accepts writes first; until then every write fails"
            yield Finding(ERROR, "role", each.name, f"is configured as the primary, but {why}", do)
        elif role is Role.PRIMARY:
            do = "set up its replication, or take it out of the configuration; it gets no reads"
            yield Finding(
                ERROR, "role", each.name, "is configured as a replica, but accepts writes and follows nobody", do
            )
        elif each.report.missing:
            yield Finding(WARNING, "role", each.name, "its role is not known for want of a grant", "see grants")
        else:
            says = f"its role cannot be told: it is taken for the {part} because the configuration says so"
            yield Finding(NOTE, "role", each.name, says)
    if len(facts.servers) == 1:
        yield Finding(NOTE, "role", "", "no replica is configured: everything goes to the primary")


def encryption(facts: Facts) -> Iterator[Finding]:
    verify = "name the CA's certificates: DB_SSL_CA, or ssl_ca= (PyMySQL), sslmode=verify-full&sslrootcert= (psycopg)"
    for each in facts.reached:
        tls = each.encryption
        if tls is None:
            continue
        is_here, bad = _is_here(each.host), NOTE if _is_here(each.host) else WARNING
        where = "; it does not leave this machine" if is_here else ""
        if not tls.version:
            says = f"the connection is not encrypted: whoever is in between reads along{where}"
            yield Finding(bad, "TLS", each.name, says, "" if is_here else verify)
        elif tls.version in ("SSLv3", "TLSv1", "TLSv1.1"):
            do = "let the server speak TLSv1.2 or later (tls_version, ssl_min_protocol_version)"
            yield Finding(WARNING, "TLS", each.name, f"encrypted by {tls.version}, which is broken", do)
        elif not tls.is_verified:
            how = "is not verified" if tls.is_verified is False else "may not be verified: the driver does not tell"
            says = f"encrypted by {tls.version}, but the server {how}: another one could pose as it{where}"
            yield Finding(bad, "TLS", each.name, says, "" if is_here else verify)
        else:
            yield Finding(OK, "TLS", each.name, f"encrypted by {tls.version}, certificate and name verified")
        if tls.is_required is False and not is_here:
            says = "it lets clients in without TLS too"
            do = "set require_secure_transport=ON (on RDS in the parameter group)"
            yield Finding(NOTE, "TLS", each.name, says, do)


def versions(facts: Facts) -> Iterator[Finding]:
    primary = facts.primary
    for each in facts.reached:
        if not each.version:
            continue
        named = f"{_PRODUCT.get(each.family, each.family)} {each.version}"
        if each.is_primary or not primary.version:
            yield Finding(OK, "version", each.name, named)
        elif each.family != primary.family:
            says = f"{named} follows {_PRODUCT.get(primary.family, primary.family)}: they differ in SQL"
            yield Finding(WARNING, "version", each.name, says, "replicate between servers of one kind")
        elif _numbers(each.version) < _numbers(primary.version):
            says = f"{named} is older than its primary ({primary.version}): what is new there may break its replication"
            yield Finding(WARNING, "version", each.name, says, "upgrade replicas before their primary")
        elif _numbers(each.version) > _numbers(primary.version):
            says = f"{named} is newer than its primary ({primary.version}), as during an upgrade"
            yield Finding(NOTE, "version", each.name, says)
        else:
            yield Finding(OK, "version", each.name, named)


def grants(facts: Facts) -> Iterator[Finding]:
    for each in facts.reached:
        assert each.report is not None
        for missing in each.report.missing:
            told = told_grant(missing)
            if told is None:
                yield Finding(WARNING, "grants", each.name, missing)
                continue
            says = f"{each.account} lacks {told[0].partition(' (')[0]}; not known without it: {told[1]}"
            is_its_own = each.family in MYSQL and facts.primary.report and missing not in facts.primary.report.missing
            where = each.name if is_its_own else "the primary"
            do = f"as an administrator of {where}: {grant_statement(told[0], each)}"
            yield Finding(WARNING, "grants", each.name, says, do)
        if not each.report.missing and each.account:
            yield Finding(OK, "grants", each.name, "the account may see what the router needs")


def grant_statement(grant: str, server: ServerFacts) -> str:
    """The statement that gives the account what a dialect's Query.grant names."""
    newer, _, older = grant.partition(" (before MariaDB 10.5: ")
    if older and _numbers(server.version) < (10, 5):
        newer = f"{older.removesuffix(')')} ON *.*"
    return f"GRANT {newer} TO {server.account};"


def lag(facts: Facts) -> Iterator[Finding]:
    policy, primary = facts.policy, facts.primary.report
    for each in facts.replicas:
        assert each.report is not None
        told_by = _LAG_SOURCE.get(each.family) if each.tells_positions else None
        figure, source = each.report.lag, told_by or "what it tells"
        if each.report.lag_grows_when_idle and primary and primary.position and each.report.position:
            figure = 0.0 if each.report.position.covers(primary.position) else figure
        if policy.heartbeat and None not in (each.heartbeat, facts.primary.heartbeat):
            figure, source = max(0.0, (facts.primary.heartbeat or 0) - (each.heartbeat or 0)), "the heartbeat"
        gets = "gets no reads" if policy.unknown_lag == "exclude" else "gets reads all the same (unknown_lag='allow')"
        if figure is not None and figure > policy.max_lag:
            says = f"{figure:.1f} s behind ({source}), more than max_lag ({policy.max_lag:g} s): it gets no reads"
            do = "look for a long transaction, or a replica that is too small"
            yield Finding(WARNING, "lag", each.name, says, do)
        elif figure is not None:
            yield Finding(OK, "lag", each.name, f"{figure:.1f} s behind ({source})")
        elif each.report.missing:
            yield Finding(WARNING, "lag", each.name, f"not known for want of a grant: it {gets}", "see grants")
        elif each.report.follows and each.tells_positions:
            says = f"not known, because its replication does not run: it {gets}"
            yield Finding(ERROR, "lag", each.name, says, f"look at {_STATUS.get(each.family, 'its replication')}")
        else:
            says = f"it tells none: it {gets}"
            do = "set unknown_lag='allow' with after_write='primary', where reads of unknown age do no harm"
            yield Finding(WARNING, "lag", each.name, says, do)
    if facts.replicas and not policy.heartbeat:
        says = "without the heartbeat a replica that is cut off from an idle primary looks fresh"
        yield Finding(NOTE, "lag", "", says, "RoutingPolicy(heartbeat=True), RDS_ROUTER_HEARTBEAT=true")
    elif facts.replicas and primary and facts.primary.heartbeat is None:
        says = f"the heartbeat's table {TABLE} is not there yet: the application makes it at its first use"
        yield Finding(NOTE, "lag", "", says, "let its account CREATE, INSERT, UPDATE, or make the table yourself")


def read_only(facts: Facts) -> Iterator[Finding]:
    for each in facts.replicas:
        assert each.report is not None
        if each.report.is_writable:
            says = "accepts writes of its own, which its primary never sees"
            do = _READ_ONLY.get(each.family, "make it refuse writes")
            yield Finding(WARNING, "read only", each.name, says, do)
        elif each.report.is_writable is False and each.settings.get("super_read_only", "").upper() == "OFF":
            says = "read_only, but not super_read_only: an administrator, or his procedure, may write here"
            yield Finding(NOTE, "read only", each.name, says, "set super_read_only=1 where the host lets you")
        elif each.report.is_writable is False:
            yield Finding(OK, "read only", each.name, "refuses writes")


def positions(facts: Facts) -> Iterator[Finding]:
    if facts.policy.after_write != "token" or not facts.replicas or facts.primary.report is None:
        return
    for each in (facts.primary, *facts.replicas):
        assert each.report is not None
        if each.report.position is not None or each.report.storage is not None:
            continue
        if not each.tells_positions:
            says = "its kind has no positions: own writes are told from others by lag or by time"
            yield Finding(NOTE, "position", each.name, says)
            continue
        says = "tells no position: who wrote reads on the primary for a while, instead of where his write is"
        do = {
            "mysql": "set gtid_mode=ON (on RDS: gtid-mode in the parameter group)",
            "mariadb": "set log_bin=ON (on RDS: turn automatic backups on)",
        }.get(each.family, "")
        yield Finding(WARNING if do else NOTE, "position", each.name, says, do)


def settings(facts: Facts) -> Iterator[Finding]:
    values: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for each in facts.reached:
        for name, value in each.settings.items():
            if name in _COMPARED:
                values[name][value].append(each.name)
    differ = {name: by_value for name, by_value in values.items() if len(by_value) > 1}
    for name, by_value in sorted(differ.items()):
        shown = "; ".join(f"{value or 'empty'} on {', '.join(names)}" for value, names in by_value.items())
        do = "make it the same everywhere (on RDS: one parameter group)"
        yield Finding(WARNING, "settings", "", f"{name} differs, so {_COMPARED[name]}: {shown}", do)
    if values and not differ and len(facts.reached) > 1:
        same = ", ".join(sorted(values))
        yield Finding(OK, "settings", "", f"the same on all servers: {same}")


def endpoints(facts: Facts) -> Iterator[Finding]:
    for each in facts.servers:
        kind = endpoint_of(each.host).kind
        if kind in (EndpointKind.READER, EndpointKind.CUSTOM):
            says = "leads to another instance at each connect: what is learnt of one connection is not true of the next"
            yield Finding(WARNING, "endpoint", each.name, says, "name the instances, each by its own endpoint")
        elif kind is EndpointKind.CLUSTER and facts.replicas:
            says = "follows the writer by DNS, for which it needs seconds after a failover"
            do = "name the instances, each by its own endpoint: the router asks them which one is the writer"
            yield Finding(NOTE, "endpoint", each.name, says, do)


def proxies(facts: Facts) -> Iterator[Finding]:
    for each in facts.reached:
        is_rds_proxy = endpoint_of(each.host).kind is EndpointKind.PROXY
        if each.is_pooled or is_rds_proxy:
            pins = {"guard": facts.policy.guard, "session_tracking": facts.policy.session_tracking}
            wanted = [name for name, is_on in pins.items() if is_on]
            what = "is RDS Proxy" if is_rds_proxy else "a pooler stands between"
            says = f"{what}: session state pins a client to one connection, or leaks to others"
            do = f"turn off {' and '.join(wanted)} of the policy; " if wanted else ""
            do += "keep the pool small and pool_recycle under the pooler's idle limit"
            yield Finding(WARNING if wanted else NOTE, "proxy", each.name, says, do)


CHECKS: Final[tuple[Callable[[Facts], Iterator[Finding]], ...]] = (
    *(reachable, roles, encryption, versions, grants, lag, read_only, positions, settings),
    *(schemas, connections, endpoints, proxies),
)

_PRODUCT: Final = {"mysql": "MySQL", "mariadb": "MariaDB", "postgresql": "PostgreSQL", "sqlite": "SQLite"}
_LAG_SOURCE: Final = {
    "mysql": "Seconds_Behind_Source",
    "mariadb": "Seconds_Behind_Master",
    "postgresql": "age of the last transaction replayed",
}
_READ_ONLY: Final = {
    "mysql": "set read_only=1 and super_read_only=1",
    "mariadb": "set read_only=1",
    "postgresql": "set default_transaction_read_only=on",
}
_STATUS: Final = {
    "mysql": "SHOW REPLICA STATUS (Replica_IO_Running, Replica_SQL_Running, Last_Error)",
    "mariadb": "SHOW ALL SLAVES STATUS (Slave_IO_Running, Slave_SQL_Running, Last_Error)",
    "postgresql": "pg_stat_wal_receiver",
}
_COMPARED: Final = {
    "time_zone": "NOW() and TIMESTAMP columns read differently",
    "timezone": "timestamps read differently",
    "sql_mode": "a statement may work on one server and fail on another",
    "character_set_server": "text may be compared and sorted differently",
    "collation_server": "text may be compared and sorted differently",
    "lower_case_table_names": "a table may be found on one server only",
    "datestyle": "dates as text read differently",
    "intervalstyle": "intervals as text read differently",
    "standard_conforming_strings": "a backslash in a literal means another thing",
    "default_transaction_isolation": "a transaction sees other things",
}


def _is_here(host: str) -> bool:
    return not host or host in ("localhost", "::1") or host.startswith("127.")


def _numbers(version: str) -> tuple[int, ...]:
    """``10.11.19-MariaDB`` -> (10, 11, 19)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(each) for each in found.group().split(".")) if found else ()
