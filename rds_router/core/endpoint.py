"""What a host name of Amazon RDS or Aurora says of itself.

https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html and, for proxies,
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-endpoints.html
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final


class EndpointKind(enum.Enum):
    """What answers under a host name."""

    CLUSTER = "cluster"
    """The writer of an Aurora or Multi-AZ DB cluster."""
    READER = "reader"
    """One of its readers, drawn by DNS for each connect."""
    CUSTOM = "custom"
    """One of the members that the owner chose."""
    INSTANCE = "instance"
    """One instance: of a cluster, or an RDS instance with its standby."""
    PROXY = "proxy"
    """RDS Proxy."""
    GLOBAL = "global"
    """The writer of an Aurora global database."""
    SHARD_GROUP = "shard group"
    """A router of Aurora Limitless."""
    HOST = "host"
    """A name that is not of RDS, or an alias that hides it."""
    ADDRESS = "address"
    """An IP address."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host name taken apart. ``identifier`` and what follows are empty for names that are not of RDS."""

    kind: EndpointKind
    host: str
    identifier: str = ""
    """The owner's name for the cluster, instance, endpoint or proxy."""
    region: str = ""
    """Empty for a global endpoint too."""
    domain: str = ""
    """What follows the owner's part in an instance's name: ``abc.eu-west-1.rds.amazonaws.com``."""

    @property
    def instance_template(self) -> str:
        """The host names of the same account's and region's instances, ``?`` for the identifier; empty if unknown."""
        is_known = self.domain and self.kind not in (EndpointKind.GLOBAL, EndpointKind.PROXY)
        return f"?.{self.domain}" if is_known else ""


def endpoint_of(host: str) -> Endpoint:
    """What ``host`` is. Every text has an answer; what is not recognised is a plain host name."""
    name = host.strip().rstrip(".").lower()
    found = _RDS.fullmatch(name)
    if found is None:
        return Endpoint(EndpointKind.ADDRESS if _ADDRESS.fullmatch(name) else EndpointKind.HOST, name)
    kind = _KINDS[found["kind"] or ""]
    region = found["region"] or found["region_after"]
    return Endpoint(
        kind=kind,
        host=name,
        identifier=found["identifier"].partition(".")[0],
        region="" if kind is EndpointKind.GLOBAL else region,
        domain=found["domain"],
    )


_KINDS: Final = {
    "": EndpointKind.INSTANCE,
    "cluster-": EndpointKind.CLUSTER,
    "cluster-ro-": EndpointKind.READER,
    "cluster-custom-": EndpointKind.CUSTOM,
    "proxy-": EndpointKind.PROXY,
    "global-": EndpointKind.GLOBAL,
    "shardgrp-": EndpointKind.SHARD_GROUP,
}
# China's older names, and those of the isolated partitions, have "rds" before the region. A proxy's further
# endpoints are "name.endpoint.proxy-...".
_RDS: Final = re.compile(
    r"(?P<identifier>[a-z0-9-]+(?:\.endpoint(?=\.proxy-))?)\."
    r"(?P<kind>cluster-custom-|cluster-ro-|cluster-|proxy-|global-|shardgrp-)?"
    r"(?P<domain>[a-z0-9]+\.(?:(?P<region>[a-z]+(?:-[a-z0-9]+)*)\.rds|rds\.(?P<region_after>[a-z]+(?:-[a-z0-9]+)+))"
    r"\.(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|csp\.hci\.ic\.gov))"
)
_ADDRESS: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|\[?[0-9a-f]*:[0-9a-f:.]*(?:%[^\]]+)?\]?")
