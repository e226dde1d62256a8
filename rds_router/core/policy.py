"""The user's choices."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_args

from rds_router.core.contract import ACCEPTED, ANY, Contract, contract_of
from rds_router.errors import PolicyError

AfterWrite: TypeAlias = Literal["token", "primary", "any"]
StaleWrites: TypeAlias = Literal["allow", "check", "refuse"]
NoReplica: TypeAlias = Literal["primary", "error", "stalest"]
ReplicaTransactions: TypeAlias = Literal["autocommit", "snapshot"]
Balance: TypeAlias = Literal["least_loaded", "round_robin", "random"]
UnknownLag: TypeAlias = Literal["exclude", "allow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingPolicy:
    """What the user promises his readers and allows the router. Times are seconds.

    Raises :class:`~rds_router.errors.PolicyError` for a value that is not accepted.
    """

    max_lag: float = 5.0
    """A replica further behind gets no reads; it returns at half of this."""
    unknown_lag: UnknownLag = "exclude"
    """What to do with a replica whose lag is not known: it gets no reads, or gets them all the same."""
    reads: Contract | str = "session"
    """What reads are promised unless view, block or statement say otherwise: "any", "bounded(seconds)", "monotonic",
    "session" or "strong"."""
    after_write: AfterWrite = "token"
    """After a commit that wrote, the same client's reads go to replicas that have the write, else to the
    primary ("token"); to the primary for ``after_write_window`` ("primary"); anywhere ("any", which makes "any" of
    ``reads="session"``)."""
    track_tables: bool = False
    """Only reads of tables that the client has written need have his writes; text whose tables are not known waits.
    Triggers, foreign-key cascades, views and functions of your own are not seen through."""
    remember_seen: bool = True
    """In Flask, a client's next request sees nothing older than this one has shown him, whichever process answers it.
    A short cookie names the replica that he reads from, and is sent when that changes. Where ``reads`` promises it."""
    confirm_misses: bool = True
    """A primary-key lookup (``get()``, ``get_or_404()`` and its kin) that finds nothing on a replica is asked of the
    primary before that is believed."""
    stale_writes: StaleWrites = "allow"
    """What to do when an object that was read on a replica is changed: nothing; compare what was read with the
    primary's rows, locked, at each flush ("check"); refuse it ("refuse"). The last two raise StaleRead."""
    causal_wait: float = 0.05
    """How long a read waits, at most, for a replica to be seen to have its client's write before it goes to the
    primary; 0: it does not wait. For a replica that lags nobody waits more than once a ``probe_interval``. With "token"
    only."""
    after_write_window: float = 5.0
    """How long "primary" above lasts, and how long a reader stays on the primary when the
    position of his write cannot be told."""
    no_replica: NoReplica = "primary"
    """The last resort when no replica is eligible: the primary, an error, or the least stale replica within
    ``hard_max_lag`` (an error if there is none). Until every replica has been asked once, the primary."""
    hard_max_lag: float = 60.0
    """The bound of ``no_replica="stalest"``: at least ``max_lag`` there, of no meaning elsewhere."""
    primary_read_share: float = 0.5
    """With ``no_replica="primary"``: the part of a process's connections to the primary (``pool_size`` and
    ``max_overflow``) beyond which it takes no reads in the replicas' stead. Such a read waits for a moment, then it is
    refused, so that writes still find a connection. 1: no bound."""
    balance: Balance = "least_loaded"
    """How one of several eligible replicas is chosen, always by weight: the one with fewer connections in use of two
    drawn ("least_loaded"), in turns ("round_robin"), or one drawn ("random")."""
    latency_window: float = 0.02
    """Of two drawn replicas, one whose probes take longer by more than this gets no read. With "least_loaded" only."""
    slow_start: float = 10.0
    """A replica that comes back, or is added, begins with a tenth of its share and has all of it after this."""
    replica_transactions: ReplicaTransactions = "autocommit"
    """Each read on a replica sees the newest data there at the lowest cost in round trips
    ("autocommit"), or all reads of one transaction on one replica see one moment ("snapshot"). If that replica lags too
    much or goes away, the rest is read on the primary or another replica, which shows a moment of its own."""
    session_tracking: bool = True
    """Let the primary tell a commit's position with its answer, where driver and server can (PyMySQL, psycopg).
    Turn it off behind RDS Proxy, where it pins a client to a connection."""
    guard: bool = True
    """Make replica connections refuse writes, as a net under the classifier."""
    behind_proxy: bool = False
    """The servers are the endpoints of a proxy that gives each transaction another connection (RDS Proxy, pgbouncer).
    Roles are as configured, nothing is asked but whether somebody answers, and pools are small and short-lived. See
    :meth:`rds_proxy`."""
    heartbeat: bool = False
    """Write one row on the primary at each probe and measure lag by its age on the replicas. It alone tells
    a replica that was cut off from its primary from one that idles. Creates the table ``rds_router_heartbeat``.
    MySQL, MariaDB, PostgreSQL and SQLite; refused elsewhere."""
    probe_interval: float = 1.0
    """How often each server is asked how it is."""
    probe_timeout: float = 1.0
    """After this a probe counts as failed."""
    max_backoff: float = 60.0
    """A replica that is down is asked ever more rarely, up to this, by a pause drawn from 0 on. Not while the primary
    is missing: the replica may be the next one."""
    share_observations: bool = True
    """Processes on one host that watch the same servers tell each other what these answered, so that each server is
    asked once an interval by all of them together. Linux only, and only for servers that are configured,
    not found; a directory of the user's own holds the files."""
    read_deadline: float = 2.0
    """A read on a replica is given up, and run again elsewhere, once its server has been silent for so long: it
    answered neither the read nor a probe. A read that takes long on a server that answers probes is not given up."""
    failover_timeout: float = 10.0
    """While there is no primary, how long a transaction that needs it waits before it fails; 0: not at all. An outage
    older than this fails whoever comes at once."""
    wake_timeout: float = 0.0
    """How long a primary that was never heard of may take to answer: one that was paused (Aurora Serverless v2) wakes.
    Until then who needs it waits in place of ``failover_timeout``, and so long may connecting to it take."""
    failover_queue: int = 1000
    """How many may wait for a primary; if more come, who came first gets the error."""
    zone: str = ""
    """Replicas of this zone are preferred while one of them is eligible."""
    cluster: str = ""
    """What tokens call the cluster; processes that exchange tokens need the same. Made of the primary's address when
    not given."""
    pure_functions: frozenset[str] = field(default_factory=frozenset)
    """Names of your own SQL functions that only read, so that statements calling them may go to a replica."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            check = _CHECKS.get(item.name)
            if check is not None:
                object.__setattr__(self, item.name, check(item.name, getattr(self, item.name)))
        if self.no_replica == "stalest" and self.hard_max_lag < self.max_lag:
            raise PolicyError("hard_max_lag", self.hard_max_lag, f"at least max_lag ({self.max_lag:g})")

    @property
    def contract(self) -> Contract:
        """What reads are promised by this policy, its shorthand ``after_write="any"`` included."""
        contract = contract_of(self.reads)
        if self.after_write == "any" and contract.own_writes:
            return ANY.within(contract.max_staleness)
        return contract

    @property
    def max_age(self) -> float:
        """How old an observation may be and still count: three missed probes and a time-out."""
        return 3 * self.probe_interval + self.probe_timeout

    @classmethod
    def rds_proxy(cls, **changes: Any) -> RoutingPolicy:
        """The policy for RDS Proxy: nothing that pins a client to a connection, authors read on the primary by time.

        ``changes``: fields of your own. A router whose primary is an endpoint of RDS Proxy begins with this policy.
        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-pinning.html
        """
        return cls(**{**_RDS_PROXY, **changes})

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Any], *, prefix: str = "", base: RoutingPolicy | None = None
    ) -> RoutingPolicy:
        """A policy from configuration values or environment strings, ``prefix`` cut off the upper-case names.

        ``base`` has the fields that are not given.

        Keys that do not begin with the prefix, or name no field, are ignored. Raises PolicyError naming the full key
        for a value that is not accepted.
        """
        names = {item.name.upper(): item.name for item in dataclasses.fields(cls)}
        given: dict[str, Any] = {}
        for key, value in settings.items():
            if key.startswith(prefix) and key[len(prefix) :] in names:
                given[names[key[len(prefix) :]]] = value
        try:
            return dataclasses.replace(base or cls(), **given)
        except PolicyError as error:
            raise PolicyError(prefix + error.field.upper(), error.value, error.accepted) from None


def _seconds(*, minimum: float, maximum: float = math.inf) -> Callable[[str, Any], float]:
    bound = f"from {minimum:g} to {maximum:g}" if maximum < math.inf else f"of at least {minimum:g}"

    def check(name: str, value: Any) -> float:
        seconds = _number(value)
        if not minimum <= seconds <= maximum or seconds == math.inf:
            raise PolicyError(name, value, f"a number of seconds {bound}")
        return seconds

    return check


def _share(name: str, value: Any) -> float:
    share = _number(value)
    if not 0 < share <= 1:
        raise PolicyError(name, value, "a number above 0, up to 1")
    return share


def _count(*, minimum: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        number = _number(value)
        if not (minimum <= number < math.inf and number == int(number)):
            raise PolicyError(name, value, f"a whole number of at least {minimum}")
        return int(number)

    return check


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _one_of(alias: Any) -> Callable[[str, Any], str]:
    accepted = get_args(alias)

    def check(name: str, value: Any) -> str:
        if value not in accepted:
            raise PolicyError(name, value, "one of " + ", ".join(repr(each) for each in accepted))
        return str(value)

    return check


_TRUTH: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _boolean(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    truth = _TRUTH.get(str(value).strip().lower())
    if truth is None:
        raise PolicyError(name, value, "true or false")
    return truth


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise PolicyError(name, value, "a string")
    return value


def _word(name: str, value: Any) -> str:
    if not (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]{0,64}", value)):
        raise PolicyError(name, value, "at most 64 letters, digits, dots, hyphens and underscores")
    return value


def _names(name: str, value: Any) -> frozenset[str]:
    if isinstance(value, str):
        value = value.split(",")
    names = list(value) if isinstance(value, Iterable) else [value]
    if not all(isinstance(each, str) for each in names):
        raise PolicyError(name, value, "names of SQL functions: a list, or one comma-separated string")
    return frozenset(each.strip().lower() for each in names if each.strip())


def _contract(name: str, value: Any) -> Contract | str:
    try:
        contract = contract_of(value)
    except ValueError:
        raise PolicyError(name, value, ACCEPTED) from None
    return str(contract) if isinstance(value, str) else contract


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "max_lag": _seconds(minimum=0.0),
    "unknown_lag": _one_of(UnknownLag),
    "reads": _contract,
    "after_write": _one_of(AfterWrite),
    "track_tables": _boolean,
    "remember_seen": _boolean,
    "confirm_misses": _boolean,
    "stale_writes": _one_of(StaleWrites),
    "causal_wait": _seconds(minimum=0.0, maximum=10.0),
    "after_write_window": _seconds(minimum=0.0),
    "no_replica": _one_of(NoReplica),
    "hard_max_lag": _seconds(minimum=0.0),
    "primary_read_share": _share,
    "balance": _one_of(Balance),
    "latency_window": _seconds(minimum=0.0),
    "slow_start": _seconds(minimum=0.0, maximum=3600.0),
    "replica_transactions": _one_of(ReplicaTransactions),
    "session_tracking": _boolean,
    "guard": _boolean,
    "behind_proxy": _boolean,
    "heartbeat": _boolean,
    "probe_interval": _seconds(minimum=0.01, maximum=3600.0),
    "probe_timeout": _seconds(minimum=0.05, maximum=60.0),
    "max_backoff": _seconds(minimum=0.0, maximum=3600.0),
    "share_observations": _boolean,
    "read_deadline": _seconds(minimum=0.1, maximum=3600.0),
    "failover_timeout": _seconds(minimum=0.0, maximum=3600.0),
    "wake_timeout": _seconds(minimum=0.0, maximum=3600.0),
    "failover_queue": _count(minimum=1),
    "zone": _text,
    "cluster": _word,
    "pure_functions": _names,
}
_RDS_PROXY: Final[Mapping[str, Any]] = {
    "behind_proxy": True,
    "guard": False,
    "session_tracking": False,
    "causal_wait": 0.0,  # there is no news to wait for
    "replica_transactions": "snapshot",  # a cursor, and all reads of a transaction, stay with one connection
    "unknown_lag": "allow",  # nobody can tell which server would answer
    "probe_interval": 5.0,
    "probe_timeout": 2.0,
}
