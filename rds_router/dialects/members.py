"""Who belongs to a cluster, as one of its servers tells it: what to ask, and how to read the answers.

The SQL is what AWS publishes for Aurora and Multi-AZ DB clusters. An answer that names no primary, or nobody at all, is
no answer: a list is only changed for a better one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rds_router.dialects.base import Answers, Query
from rds_router.dialects.reading import text_of


@dataclass(frozen=True, slots=True)
class Member:
    """One server of a cluster."""

    identifier: str
    """What the cluster calls it; on Aurora the instance's name."""
    is_primary: bool
    host: str = ""
    """Empty where only the identifier is told: the host is made of the cluster's own name then."""
    port: int | None = None
    tags: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Membership:
    """How servers of one kind tell who they are."""

    name: str
    is_there: str
    """SQL that has a row where servers are of this kind, and needs no grant."""
    ask: tuple[Query, ...]
    read: Callable[[Answers], tuple[Member, ...]]
    """Empty for answers that are no answer."""


def with_one_primary(members: list[Member], primary: str | None) -> tuple[Member, ...]:
    """The members if one of them is that primary; nobody else."""
    known = {each.identifier for each in members}
    if not primary or primary not in known or len(known) < len(members) or not all(known):
        return ()
    return tuple(Member(each.identifier, each.identifier == primary, each.host, each.port) for each in members)


def member_of(identifier: object, host: object = "", port: object = None) -> Member:
    """A row as a member, its role not known yet."""
    number = text_of(port)
    is_port = number is not None and number.isdigit()
    return Member(text_of(identifier) or "", False, text_of(host) or "", int(number) if is_port and number else None)
