"""Asks the API of RDS: for instances with read replicas, and for what a cluster's SQL does not tell (tags, endpoints).

The account needs rds:DescribeDBInstances, rds:DescribeDBClusters and, for custom endpoints,
rds:DescribeDBClusterEndpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy.engine import URL

from rds_router.core.endpoint import Endpoint, EndpointKind, endpoint_of
from rds_router.credentials import aws
from rds_router.dialects.members import Member
from rds_router.discovery.base import Reach, directly, targets_of
from rds_router.errors import DiscoveryError
from rds_router.servers import Target

_USABLE = frozenset(
    "available backing-up modifying storage-optimization configuring-enhanced-monitoring configuring-log-exports "
    "configuring-iam-database-auth maintenance rebooting storage-full upgrading".split()
)
"""States in which an instance has an endpoint that may answer; whether it does, probes tell."""


class RdsApi:
    """The members of a cluster or of an instance with its read replicas, by identifier or by the URL's host."""

    def __init__(
        self,
        url: URL,
        *,
        identifier: str | None = None,
        region: str | None = None,
        tags: Mapping[str, str] | None = None,
        reach: Reach = directly,
        client: Callable[[str, str | None], Any] = aws.client,
    ) -> None:
        self.url = url
        self._endpoint = endpoint_of(url.host or "")
        self._identifier = identifier
        self._tags = frozenset((tags or {}).items())
        self._reach = reach
        self._client = client("rds", region or self._endpoint.region or None)

    def __repr__(self) -> str:
        return f"<RdsApi {self._identifier or self._endpoint.host}>"

    def find(self) -> tuple[Target, ...]:
        """See :class:`~rds_router.discovery.Discovery`."""
        instances = {each["DBInstanceIdentifier"]: each for each in self._pages("describe_db_instances", "DBInstances")}
        cluster = self._cluster(instances)
        members = _of_cluster(cluster, instances) if cluster else self._of_instance(instances)
        custom = self._custom_members(cluster) if cluster else None
        chosen = [
            each
            for each in members
            if each.is_primary or (self._tags <= each.tags and (custom is None or each.identifier in custom))
        ]
        if not any(each.is_primary for each in chosen):
            raise DiscoveryError(f"the API of RDS knows no usable primary of {self._identifier or self._endpoint.host}")
        return targets_of(chosen, self.url, template="", reach=self._reach)

    def _cluster(self, instances: Mapping[str, Any]) -> Any:
        """The cluster that is meant, if one is."""
        endpoint = self._endpoint
        for each in self._pages("describe_db_clusters", "DBClusters"):
            name = each["DBClusterIdentifier"]
            hosts = {each.get("Endpoint"), each.get("ReaderEndpoint"), *each.get("CustomEndpoints", ())}
            member_names = {member["DBInstanceIdentifier"] for member in each.get("DBClusterMembers", ())}
            if self._identifier is not None:
                if self._identifier in {name, *member_names}:
                    return each
            elif endpoint.host in {host.lower() for host in hosts if host} or any(
                _host(instances[member]) == endpoint.host for member in member_names if member in instances
            ):
                return each
        return None

    def _custom_members(self, cluster: Any) -> frozenset[str] | None:
        """Whom a custom endpoint means; None if the URL is of none."""
        if self._endpoint.kind is not EndpointKind.CUSTOM:
            return None
        found = self._pages(
            "describe_db_cluster_endpoints", "DBClusterEndpoints", DBClusterIdentifier=cluster["DBClusterIdentifier"]
        )
        for each in found:
            if str(each.get("Endpoint", "")).lower() == self._endpoint.host:
                if each.get("StaticMembers"):
                    return frozenset(each["StaticMembers"])
                members = {member["DBInstanceIdentifier"] for member in cluster.get("DBClusterMembers", ())}
                return frozenset(members - set(each.get("ExcludedMembers", ())))
        raise DiscoveryError(f"the API of RDS knows no custom endpoint {self._endpoint.host}")

    def _of_instance(self, instances: Mapping[str, Any]) -> list[Member]:
        """An instance and its read replicas, whichever of them was named."""
        named = self._named(self._endpoint, instances)
        if named is None:
            raise DiscoveryError(f"the API of RDS knows no instance {self._identifier or self._endpoint.host}")
        primary = instances.get(named.get("ReadReplicaSourceDBInstanceIdentifier") or "", named)
        replicas = (instances.get(name) for name in primary.get("ReadReplicaDBInstanceIdentifiers", ()))
        return [_member(primary, is_primary=True), *(_member(each) for each in replicas if each and _is_usable(each))]

    def _named(self, endpoint: Endpoint, instances: Mapping[str, Any]) -> Any:
        if self._identifier is not None:
            return instances.get(self._identifier)
        return next((each for each in instances.values() if _host(each) == endpoint.host), None)

    def _pages(self, operation: str, key: str, **arguments: Any) -> Iterable[Any]:
        for page in self._client.get_paginator(operation).paginate(**arguments):
            yield from page[key]


def _of_cluster(cluster: Any, instances: Mapping[str, Any]) -> list[Member]:
    found = []
    for each in cluster.get("DBClusterMembers", ()):
        instance = instances.get(each["DBInstanceIdentifier"])
        if instance is not None and (each["IsClusterWriter"] or _is_usable(instance)) and _host(instance):
            found.append(_member(instance, is_primary=bool(each["IsClusterWriter"])))
    return found


def _member(instance: Any, *, is_primary: bool = False) -> Member:
    return Member(
        identifier=instance["DBInstanceIdentifier"],
        is_primary=is_primary,
        host=_host(instance),
        port=instance.get("Endpoint", {}).get("Port"),
        tags=frozenset((tag["Key"], tag["Value"]) for tag in instance.get("TagList", ())),
    )


def _host(instance: Any) -> str:
    return str(instance.get("Endpoint", {}).get("Address", "")).lower()


def _is_usable(instance: Any) -> bool:
    return bool(_host(instance)) and instance.get("DBInstanceStatus") in _USABLE
