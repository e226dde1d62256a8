"""How a cluster is found: from the name of an endpoint, and what the name does not say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import URL

from rds_router.core.endpoint import EndpointKind, endpoint_of
from rds_router.credentials import aws
from rds_router.discovery.base import Discovery, Reach, directly
from rds_router.discovery.rds_api import RdsApi
from rds_router.discovery.sql import SqlDiscovery
from rds_router.errors import ConfigurationError, DiscoveryError
from rds_router.login import Login
from rds_router.servers import Replica, policy_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """How to find a cluster's servers. Nothing is needed for the endpoints of Aurora and of Multi-AZ DB clusters."""

    identifier: str = ""
    """Of a DB instance with read replicas, or of a cluster: asked of the API of RDS. Not needed where the URL's host is
    an endpoint of it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Only replicas with all of these, as the API of RDS tells them."""
    region: str = ""
    """Of the API; by default the one in the host's name, else AWS's own configuration."""
    instances: str = ""
    """Host names of Aurora's instances with ``?`` for the identifier, where the URL's host is an alias."""
    interval: float = 30.0
    """Seconds between two looks, less up to a fifth."""
    reach: Reach = directly
    """How servers are reached from here: through tunnels, under other names."""
    client: Callable[[str, str | None], Any] = aws.client
    """Makes a client of boto3's: ``(service, region)``."""


def found_by(url: URL, find: Find, options: Mapping[str, Any]) -> dict[str, Any]:
    """The router's arguments: the servers as found now, and how to go on looking. Raises DiscoveryError."""
    endpoint = endpoint_of(url.host or "")
    if endpoint.kind is EndpointKind.PROXY:
        return {"policy": policy_for(url), **options, "primary": url}
    discovery: Discovery
    if find.identifier or find.tags or endpoint.kind is EndpointKind.CUSTOM:
        discovery = _by_api(url, find)
        found = discovery.find()
    else:
        template = find.instances or endpoint.instance_template
        discovery = _by_sql(url, find, template, options)
        try:
            found = discovery.find()
        except DiscoveryError:
            # An RDS instance with read replicas: only the API knows them.
            if endpoint.kind is not EndpointKind.INSTANCE:
                raise
            discovery = _by_api(url, find)
            found = discovery.find()
    primary, *replicas = (Replica(each.url, name=each.server.name) for each in found)
    how = {"discovery": discovery, "discovery_interval": find.interval}
    return {**options, **how, "primary": primary, "replicas": replicas}


def _by_api(url: URL, find: Find) -> RdsApi:
    return RdsApi(
        url,
        identifier=find.identifier or None,
        region=find.region or None,
        tags=find.tags,
        reach=find.reach,
        client=find.client,
    )


def _by_sql(url: URL, find: Find, template: str, options: Mapping[str, Any]) -> SqlDiscovery:
    if template and "?" not in template:
        raise ConfigurationError(f"Find(instances=) is {template!r}, but must hold a ? in the place of the identifier")
    return SqlDiscovery(
        url,
        template=template,
        reach=find.reach,
        login=Login(options.get("credentials"), options.get("tls")),
        connect_options=(options.get("engine_options") or {}).get("connect_args", {}),
    )
