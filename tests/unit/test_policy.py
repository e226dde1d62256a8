"""RoutingPolicy: what it accepts, what it says of the rest, and that settings mean what fields mean."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rds_router import ConfigurationError, PolicyError, RoutingPolicy

seconds = st.floats(0.0, 1e6)
names = st.frozensets(st.from_regex(r"[a-z_][a-z0-9_.]{0,10}", fullmatch=True), max_size=4)
drawn: dict[str, st.SearchStrategy[Any]] = {
    "max_lag": st.floats(0.0, 60.0),
    "unknown_lag": st.sampled_from(["exclude", "allow"]),
    "reads": st.sampled_from(["any", "bounded(2.5)", "monotonic", "session", "strong"]),
    "track_tables": st.booleans(),
    "remember_seen": st.booleans(),
    "confirm_misses": st.booleans(),
    "stale_writes": st.sampled_from(["allow", "check", "refuse"]),
    "after_write": st.sampled_from(["token", "primary", "any"]),
    "causal_wait": st.floats(0.0, 10.0),
    "after_write_window": seconds,
    "no_replica": st.sampled_from(["primary", "error", "stalest"]),
    "hard_max_lag": st.floats(60.0, 1e6),
    "primary_read_share": st.floats(0.0, 1.0, exclude_min=True),
    "balance": st.sampled_from(["least_loaded", "round_robin", "random"]),
    "latency_window": seconds,
    "slow_start": st.floats(0.0, 3600.0),
    "replica_transactions": st.sampled_from(["autocommit", "snapshot"]),
    "session_tracking": st.booleans(),
    "guard": st.booleans(),
    "behind_proxy": st.booleans(),
    "heartbeat": st.booleans(),
    "probe_interval": st.floats(0.01, 3600.0),
    "probe_timeout": st.floats(0.05, 60.0),
    "max_backoff": st.floats(0.0, 3600.0),
    "share_observations": st.booleans(),
    "read_deadline": st.floats(0.1, 3600.0),
    "failover_timeout": st.floats(0.0, 3600.0),
    "wake_timeout": st.floats(0.0, 3600.0),
    "failover_queue": st.integers(1, 10**6),
    "zone": st.text(max_size=10),
    "cluster": st.from_regex(r"[A-Za-z0-9._-]{0,64}", fullmatch=True),
    "pure_functions": names,
}
policies = st.builds(RoutingPolicy, **drawn)


@given(policies)
def test_a_policy_made_of_its_own_settings_is_the_same(policy: RoutingPolicy) -> None:
    settings = {f"APP_{field.name.upper()}": getattr(policy, field.name) for field in dataclasses.fields(policy)}
    assert RoutingPolicy.from_settings(settings, prefix="APP_") == policy


@given(policies)
def test_a_policy_made_of_strings_as_the_environment_has_them_is_the_same(policy: RoutingPolicy) -> None:
    settings: dict[str, str] = {}
    for field in dataclasses.fields(policy):
        value = getattr(policy, field.name)
        settings[field.name.upper()] = ", ".join(value) if isinstance(value, frozenset) else str(value)
    assert RoutingPolicy.from_settings(settings) == policy


def test_every_field_is_covered_by_these_properties() -> None:
    """A new field that is not checked, or not drawn above, is noticed here."""
    assert drawn.keys() == {field.name for field in dataclasses.fields(RoutingPolicy)}
    for field in dataclasses.fields(RoutingPolicy):
        with pytest.raises(PolicyError, match=field.name.upper()):
            RoutingPolicy.from_settings({field.name.upper(): object()})


def test_settings_of_others_are_ignored() -> None:
    policy = RoutingPolicy.from_settings({"MAX_LAG": 1, "APP_OTHER": 2, "APP_MAX_LAG": "3"}, prefix="APP_")
    assert policy == RoutingPolicy(max_lag=3.0)


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("max_lag", "much", "a number of seconds of at least 0"),
        ("max_lag", -1, "a number of seconds of at least 0"),
        ("max_lag", True, "a number of seconds of at least 0"),
        ("max_lag", None, "a number of seconds of at least 0"),
        ("max_lag", math.nan, "a number of seconds of at least 0"),
        ("max_lag", math.inf, "a number of seconds of at least 0"),
        ("max_lag", 10**400, "a number of seconds of at least 0"),
        ("after_write_window", "5 s", "a number of seconds of at least 0"),
        ("causal_wait", 10.1, "a number of seconds from 0 to 10"),
        ("probe_interval", 0, "a number of seconds from 0.01 to 3600"),
        ("probe_interval", 3601, "a number of seconds from 0.01 to 3600"),
        ("probe_timeout", 0.01, "a number of seconds from 0.05 to 60"),
        ("unknown_lag", "zero", "one of 'exclude', 'allow'"),
        ("after_write", "Token", "one of 'token', 'primary', 'any'"),
        ("no_replica", ["primary"], "one of 'primary', 'error', 'stalest'"),
        ("replica_transactions", 1, "one of 'autocommit', 'snapshot'"),
        ("primary_read_share", 0, "a number above 0, up to 1"),
        ("primary_read_share", 1.5, "a number above 0, up to 1"),
        ("primary_read_share", True, "a number above 0, up to 1"),
        ("balance", "fair", "one of 'least_loaded', 'round_robin', 'random'"),
        ("slow_start", -1, "a number of seconds from 0 to 3600"),
        ("guard", "maybe", "true or false"),
        ("behind_proxy", 2, "true or false"),
        ("heartbeat", 2, "true or false"),
        ("zone", None, "a string"),
        ("cluster", "blog;db", "at most 64 letters, digits, dots, hyphens and underscores"),
        ("cluster", "é", "at most 64 letters, digits, dots, hyphens and underscores"),
        ("pure_functions", 5, "names of SQL functions: a list, or one comma-separated string"),
        ("pure_functions", [5], "names of SQL functions: a list, or one comma-separated string"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_itself_and_what_is_accepted(
    field: str, value: Any, accepted: str
) -> None:
    with pytest.raises(PolicyError) as refusal:
        RoutingPolicy(**{field: value})
    assert str(refusal.value) == f"policy field {field!r} is {value!r}, but must be {accepted}"
    with pytest.raises(ConfigurationError) as refusal_of_setting:
        RoutingPolicy.from_settings({f"RDS_ROUTER_{field.upper()}": value}, prefix="RDS_ROUTER_")
    assert f"'RDS_ROUTER_{field.upper()}' is {value!r}" in str(refusal_of_setting.value)


def test_the_bound_of_stalest_may_not_be_below_max_lag() -> None:
    with pytest.raises(
        PolicyError, match=r"^policy field 'hard_max_lag' is 60.0, but must be at least max_lag \(120\)$"
    ):
        RoutingPolicy(max_lag=120, no_replica="stalest")
    assert RoutingPolicy(max_lag=120).max_lag == 120.0, "of no meaning without it"


@pytest.mark.parametrize(
    ("given_names", "understood"),
    [
        ("", frozenset()),
        ("Slugify, app.title ,", frozenset({"slugify", "app.title"})),
        (["Slugify"], frozenset({"slugify"})),
        (("a", "B"), frozenset({"a", "b"})),
    ],
)
def test_functions_are_named_in_any_case_in_a_list_or_a_string(given_names: Any, understood: frozenset[str]) -> None:
    assert RoutingPolicy(pure_functions=given_names).pure_functions == understood


def test_news_is_believed_for_three_intervals_and_a_time_out() -> None:
    assert RoutingPolicy(probe_interval=2.0, probe_timeout=0.5).max_age == 6.5
