"""Asks a server of the cluster who else belongs to it: Aurora, and RDS Multi-AZ DB clusters."""

from __future__ import annotations

import random as dice
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.engine import URL

from rds_router import drivers
from rds_router.dialects import MEMBERSHIPS, dialect_for
from rds_router.dialects.base import Answers, Denied, Row
from rds_router.dialects.members import Member, Membership
from rds_router.dialects.probe import ask_all
from rds_router.discovery.base import Reach, directly, targets_of
from rds_router.errors import DiscoveryError
from rds_router.login import Login
from rds_router.servers import Target


class SqlDiscovery:
    """Asks the cluster's own name first, then the members it knew last, until one answers."""

    def __init__(
        self,
        url: URL,
        *,
        template: str,
        reach: Reach = directly,
        login: Login | None = None,
        connect_options: Mapping[str, Any] | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.url = url
        self._template = template
        self._reach = reach
        self._login = login or Login(None, None)
        self._connect_options = dict(connect_options or {})
        self._timeout = timeout
        self._known: tuple[Target, ...] = ()

    def __repr__(self) -> str:
        return f"<SqlDiscovery {self.url.host}>"

    def find(self) -> tuple[Target, ...]:
        """See :class:`~rds_router.discovery.Discovery`."""
        failures: list[str] = []
        for name, url in self._places():
            try:
                members = self._told_by(url, name)
            except DiscoveryError as error:
                failures.append(f"{name}: {error}")
            except Exception as error:  # whatever a driver raises: the next one is asked
                failures.append(f"{name}: {type(error).__name__}: {error}")
            else:
                self._known = targets_of(members, self.url, template=self._template, reach=self._reach)
                return self._known
        raise DiscoveryError("nobody told who belongs to the cluster: " + "; ".join(failures))

    def _places(self) -> Iterable[tuple[str, URL]]:
        yield str(self.url.host), self.url
        others = [(each.server.name, each.url) for each in self._known]
        # In whatever order: a server that hangs is not always the first.
        yield from dice.sample(others, len(others))

    def _told_by(self, url: URL, name: str) -> tuple[Member, ...]:
        connect = drivers.connector(url, self._connect_options, self._timeout, self._login.opening(url, name))
        connection = connect()
        try:

            def execute(sql: str) -> Sequence[Row]:
                cursor = connection.cursor()
                try:
                    cursor.execute(sql)
                    names = [column[0] for column in cursor.description]
                    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
                finally:
                    cursor.close()

            return self._read(execute)
        finally:
            with suppress(Exception):  # it may be broken already, each driver in its own way
                connection.close()

    def _read(self, execute: Callable[[str], Sequence[Row]]) -> tuple[Member, ...]:
        backend = self.url.get_backend_name()
        known: tuple[Membership, ...] = MEMBERSHIPS.get(backend, ())
        kind = next((each for each in known if execute(each.is_there)), None)
        if kind is None:
            grants = ", ".join(query.grant for each in known for query in each.ask if query.grant)
            needs = f" (which may need GRANT {grants})" if grants else ""
            raise DiscoveryError(
                f"is of no cluster that tells this account its members{needs}: name the servers, or Find(identifier=)"
            )
        answers: Answers = ask_all(kind.ask, dialect_for(backend), execute)
        members = kind.read(answers)
        if members and not self._template and not all(each.host for each in members):
            raise DiscoveryError(
                "the URL's host is an alias: say the instances' names, Find(instances='?.abc.REGION...')"
            )
        if members:
            return members
        denied = [each.grant for each in answers.values() if isinstance(each, Denied)]
        wanting = f"GRANT {', '.join(denied)} is missing" if denied else "its answer names no primary, or nobody"
        raise DiscoveryError(f"{kind.name}: {wanting}")
