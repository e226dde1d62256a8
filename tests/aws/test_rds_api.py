"""The API of RDS, by moto: instances with read replicas, clusters, tags and custom endpoints."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import URL, make_url

from rds_router.discovery import DiscoveryError, Find, RdsApi, found_by

pytestmark = pytest.mark.usefixtures("aws")
COMMON = {"DBInstanceClass": "db.t4g.micro", "MasterUsername": "admin", "MasterUserPassword": "geheim123"}


@pytest.fixture
def rds() -> Any:
    import boto3

    return boto3.session.Session().client("rds")


def instance(rds: Any, name: str, engine: str, **more: Any) -> str:
    """Makes one; its host."""
    if engine == "mariadb":  # moto has no default for it
        more = {"EngineVersion": "10.11", **more}
    rds.create_db_instance(DBInstanceIdentifier=name, Engine=engine, AllocatedStorage=20, Port=3306, **COMMON, **more)
    return host_of(rds, name)


def replica(rds: Any, name: str, source: str, **tags: str) -> None:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    rds.create_db_instance_read_replica(
        DBInstanceIdentifier=name, SourceDBInstanceIdentifier=source, DBInstanceClass="db.t4g.micro", Tags=listed
    )


def host_of(rds: Any, name: str) -> str:
    (found,) = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
    return str(found["Endpoint"]["Address"])


def url_of(host: str, scheme: str = "mysql+pymysql") -> URL:
    return make_url(f"{scheme}://app:geheim@{host}/blog")


def names(api: RdsApi) -> list[str]:
    return [each.server.name for each in api.find()]


@pytest.mark.parametrize(
    ("engine", "scheme"),
    [("mysql", "mysql+pymysql"), ("mariadb", "mariadb+pymysql"), ("postgres", "postgresql+psycopg")],
)
def test_an_instance_and_its_read_replicas_are_found_by_identifier_and_by_either_endpoint(
    rds: Any, engine: str, scheme: str
) -> None:
    host = instance(rds, "blog", engine)
    instance(rds, "stranger", engine)
    replica(rds, "blog-1", "blog")
    replica(rds, "blog-2", "blog")
    for found in (
        RdsApi(url_of("alias.example.com", scheme), identifier="blog", region="eu-west-1"),
        RdsApi(url_of("alias.example.com", scheme), identifier="blog-2", region="eu-west-1"),
        RdsApi(url_of(host, scheme)),
        RdsApi(url_of(host_of(rds, "blog-1"), scheme)),
    ):
        targets = found.find()
        assert [each.server.name for each in targets] == ["blog", "blog-1", "blog-2"]
        assert [each.server.is_primary for each in targets] == [True, False, False]
        assert [each.url.host for each in targets] == [host_of(rds, each.server.name) for each in targets]
        assert {(each.url.username, each.url.password, each.url.database) for each in targets} == {
            ("app", "geheim", "blog")
        }


def test_new_and_deleted_replicas_are_seen_at_the_next_look(rds: Any) -> None:
    api = RdsApi(url_of(instance(rds, "blog", "mysql")))
    assert names(api) == ["blog"]
    replica(rds, "blog-1", "blog")
    assert names(api) == ["blog", "blog-1"]
    rds.delete_db_instance(DBInstanceIdentifier="blog-1", SkipFinalSnapshot=True)
    assert names(api) == ["blog"]


def test_tags_select_replicas_and_never_leave_out_the_primary(rds: Any) -> None:
    host = instance(rds, "blog", "mysql")
    replica(rds, "blog-1", "blog", tier="web", team="a")
    replica(rds, "blog-2", "blog", tier="reports")
    assert names(RdsApi(url_of(host), tags={"tier": "web"})) == ["blog", "blog-1"]
    assert names(RdsApi(url_of(host), tags={"tier": "web", "team": "b"})) == ["blog"]


def test_what_the_api_does_not_know_is_told(rds: Any) -> None:
    instance(rds, "blog", "mysql")
    with pytest.raises(DiscoveryError, match="the API of RDS knows no instance nobody"):
        RdsApi(url_of("db"), identifier="nobody", region="eu-west-1").find()
    with pytest.raises(DiscoveryError, match=r"knows no instance other\.abc\.eu-west-1"):
        RdsApi(url_of("other.abc.eu-west-1.rds.amazonaws.com")).find()


class Api:
    """A client of boto3's with answers of our own: moto has no members of clusters and no custom endpoints."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def __call__(self, service: str, region: str | None) -> Api:
        assert (service, region) == ("rds", "eu-west-1")
        return self

    def get_paginator(self, operation: str) -> Any:
        answer = self.answers[operation]

        class Pages:
            def paginate(self, **_: Any) -> Any:
                return [answer]

        return Pages()


DOMAIN = "abc.eu-west-1.rds.amazonaws.com"
MEMBERS = {"one": True, "two": False, "three": False, "four": False}


def aurora(**endpoint: Any) -> Api:
    return Api(
        describe_db_instances={
            "DBInstances": [
                {
                    "DBInstanceIdentifier": name,
                    "DBInstanceStatus": "creating" if name == "four" else "available",
                    "Endpoint": {"Address": f"{name}.{DOMAIN}", "Port": 3307},
                }
                for name in MEMBERS
            ]
        },
        describe_db_clusters={
            "DBClusters": [
                {"DBClusterIdentifier": "other", "Endpoint": f"other.cluster-{DOMAIN}", "DBClusterMembers": []},
                {
                    "DBClusterIdentifier": "my",
                    "Endpoint": f"my.cluster-{DOMAIN}",
                    "ReaderEndpoint": f"my.cluster-ro-{DOMAIN}",
                    "CustomEndpoints": [f"some.cluster-custom-{DOMAIN}"],
                    "DBClusterMembers": [
                        {"DBInstanceIdentifier": name, "IsClusterWriter": is_writer}
                        for name, is_writer in MEMBERS.items()
                    ],
                },
            ]
        },
        describe_db_cluster_endpoints={
            "DBClusterEndpoints": [{"Endpoint": f"some.cluster-custom-{DOMAIN}", **endpoint}]
        },
    )


@pytest.mark.parametrize("host", [f"my.cluster-{DOMAIN}", f"my.cluster-ro-{DOMAIN}", f"two.{DOMAIN}"])
def test_a_cluster_is_found_by_each_of_its_endpoints(host: str) -> None:
    """An instance that is still being created is left out."""
    targets = RdsApi(url_of(host), client=aurora()).find()
    assert [each.server.name for each in targets] == ["one", "three", "two"]
    assert targets[0].url.render_as_string(hide_password=False) == f"mysql+pymysql://app:geheim@one.{DOMAIN}:3307/blog"


@pytest.mark.parametrize(
    ("endpoint", "chosen"),
    [({"StaticMembers": ["two"]}, ["one", "two"]), ({"ExcludedMembers": ["two"]}, ["one", "three"])],
)
def test_a_custom_endpoint_selects_members(endpoint: Any, chosen: list[str]) -> None:
    """from_cluster asks the API for it: SQL does not tell."""
    found = found_by(url_of(f"some.cluster-custom-{DOMAIN}"), Find(client=aurora(**endpoint)), {})
    assert [found["primary"].name, *(each.name for each in found["replicas"])] == chosen
    assert found["discovery_interval"] == 30.0
