"""What a host name of RDS says of itself: a table of examples, and that every text has an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rds_router.core.endpoint import Endpoint, EndpointKind, endpoint_of

TABLE = """
my.cluster-abc123.eu-west-1.rds.amazonaws.com  cluster  my  eu-west-1  ?.abc123.eu-west-1.rds.amazonaws.com
my.cluster-ro-abc123.eu-west-1.rds.amazonaws.com  reader  my  eu-west-1  ?.abc123.eu-west-1.rds.amazonaws.com
some.cluster-custom-abc123.eu-west-1.rds.amazonaws.com  custom  some  eu-west-1  ?.abc123.eu-west-1.rds.amazonaws.com
one-1.abc123.eu-west-1.rds.amazonaws.com  instance  one-1  eu-west-1  ?.abc123.eu-west-1.rds.amazonaws.com
pool.proxy-abc123.eu-west-1.rds.amazonaws.com  proxy  pool  eu-west-1  -
read.endpoint.proxy-abc123.eu-west-1.rds.amazonaws.com  proxy  read  eu-west-1  -
all.global-abc123.global.rds.amazonaws.com  global  all  -  -
sg.shardgrp-abc123.us-east-1.rds.amazonaws.com  shard group  sg  us-east-1  ?.abc123.us-east-1.rds.amazonaws.com
my.cluster-abc123.cn-north-1.rds.amazonaws.com.cn  cluster  my  cn-north-1  ?.abc123.cn-north-1.rds.amazonaws.com.cn
my.cluster-ro-abc123.rds.cn-north-1.amazonaws.com.cn  reader  my  cn-north-1  ?.abc123.rds.cn-north-1.amazonaws.com.cn
a.abc123.rds.cn-northwest-1.amazonaws.com.cn  instance  a  cn-northwest-1 ?.abc123.rds.cn-northwest-1.amazonaws.com.cn
pool.proxy-abc123.rds.cn-north-1.amazonaws.com.cn  proxy  pool  cn-north-1  -
my.cluster-abc123.us-gov-west-1.rds.amazonaws.com  cluster  my  us-gov-west-1  ?.abc123.us-gov-west-1.rds.amazonaws.com
one.abc123.rds.us-gov-east-1.amazonaws.com  instance  one  us-gov-east-1  ?.abc123.rds.us-gov-east-1.amazonaws.com
one.abc123.rds.us-iso-east-1.c2s.ic.gov  instance  one  us-iso-east-1  ?.abc123.rds.us-iso-east-1.c2s.ic.gov
MY.Cluster-ABC123.EU-West-1.RDS.amazonaws.com.  cluster  my  eu-west-1  ?.abc123.eu-west-1.rds.amazonaws.com
db  host  -  -  -
db.example.com  host  -  -  -
rds.amazonaws.com  host  -  -  -
my.cluster-abc123.eu-west-1.rds.amazonaws.com.evil.org  host  -  -  -
a.b.c.cluster-abc123.eu-west-1.rds.amazonaws.com  host  -  -  -
10.0.0.7  address  -  -  -
::1  address  -  -  -
[2001:db8::7]  address  -  -  -
fe80::1%eth0  address  -  -  -
"""


@pytest.mark.parametrize("line", TABLE.strip().splitlines(), ids=lambda line: str(line).split()[0])
def test_the_table(line: str) -> None:
    host, rest = line.split(maxsplit=1)
    expected = rest.replace("shard group", "shard_group").split()
    found = endpoint_of(host)
    told = (found.kind.value.replace(" ", "_"), found.identifier, found.region, found.instance_template)
    assert tuple(each or "-" for each in told) == tuple(expected)


@given(st.text(max_size=80) | st.from_regex(r"[a-z.-]{0,20}(rds[.])?[a-z-]{0,9}[.]amazonaws[.]com", fullmatch=True))
def test_every_text_has_an_answer(host: str) -> None:
    found = endpoint_of(host)
    assert isinstance(found, Endpoint)
    assert bool(found.domain) is (found.kind not in (EndpointKind.HOST, EndpointKind.ADDRESS))
