"""The blog's CloudFormation template: its linter, what it would make, and what moto makes of it."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from rds_router import RoutingPolicy
from tests.aws.template import FILE, GIVEN, Stack, load

CHOICES = [
    {"Engine": engine, "Authentication": authentication, "UseProxy": proxy}
    for engine in ("rds-mysql", "aurora-mysql")
    for authentication, proxy in (("iam", "no"), ("secret", "no"), ("secret", "yes"))
    if (engine, proxy) != ("rds-mysql", "yes")
]


@pytest.fixture(params=CHOICES, ids=lambda choice: "-".join(choice.values()))
def stack(request: pytest.FixtureRequest) -> Stack:
    return Stack(**request.param)


def instances(stack: Stack) -> dict[str, Any]:
    return stack.of_type("AWS::RDS::DBInstance")


def test_the_linter_finds_nothing() -> None:
    """cfn-lint carries AWS's schemas with it: types, properties, values, references."""
    api = pytest.importorskip("cfnlint.api", reason="cfn-lint is not installed (extra dev)")
    assert [str(each) for each in api.lint_file(FILE)] == []


def test_a_primary_and_a_replica(stack: Stack) -> None:
    servers = instances(stack)
    assert len(servers) == 2
    if "Primary" in servers:
        assert servers["Replica"]["SourceDBInstanceIdentifier"] == {"Ref": "Primary"}
        assert servers["Primary"]["MultiAZ"] == "true"
    else:
        assert [each["DBClusterIdentifier"] for each in servers.values()] == [{"Ref": "Cluster"}] * 2


def test_port_3306_is_open_to_the_application_and_to_nobody_else(stack: Stack) -> None:
    database = {"Ref": "DatabaseGroup"}
    for properties in (*instances(stack).values(), *stack.of_type("AWS::RDS::DBCluster").values()):
        groups = properties.get("VPCSecurityGroups") or properties.get("VpcSecurityGroupIds")
        # An instance of a cluster has the cluster's groups.
        assert groups == [database] or "DBClusterIdentifier" in properties
    (rule,) = stack.resources["DatabaseGroup"]["Properties"]["SecurityGroupIngress"]
    assert (rule["FromPort"], rule["ToPort"], rule["SourceSecurityGroupId"]) == (3306, 3306, {"Ref": "AppGroup"})
    added = stack.of_type("AWS::EC2::SecurityGroupIngress")
    assert all(each["GroupId"] != database for each in added.values())
    assert bool(added) is bool(stack.of_type("AWS::RDS::DBProxy"))
    # The application's group itself lets nobody in but, to its proxy, the application.
    assert "SecurityGroupIngress" not in stack.resources["AppGroup"]["Properties"]
    (web,) = stack.resources["WebGroup"]["Properties"]["SecurityGroupIngress"]
    assert (web["FromPort"], web["CidrIp"]) == (80, "203.0.113.7/32")


def test_no_server_has_a_public_address_or_a_way_out(stack: Stack) -> None:
    assert [each["PubliclyAccessible"] for each in instances(stack).values()] == [False, False]
    private = [{"Ref": "PrivateSubnet1"}, {"Ref": "PrivateSubnet2"}]
    assert stack.resources["DatabaseSubnets"]["Properties"]["SubnetIds"] == private
    routed = [each["SubnetId"] for each in stack.of_type("AWS::EC2::SubnetRouteTableAssociation").values()]
    assert routed == [{"Ref": "PublicSubnet"}]
    zones = [stack.resources[each["Ref"]]["Properties"]["AvailabilityZone"] for each in private]
    assert zones[0] != zones[1]


def test_only_tls_is_spoken(stack: Stack) -> None:
    group, switch = ("Parameters", "1") if "Primary" in stack.resources else ("ClusterParameters", "ON")
    assert stack.resources[group]["Properties"]["Parameters"]["require_secure_transport"] == switch
    users = {
        name: each["Properties"].get("DBParameterGroupName") or each["Properties"].get("DBClusterParameterGroupName")
        for name, each in stack.resources.items()
        if name in ("Primary", "Replica", "Cluster")
    }
    assert set(map(str, users.values())) == {str({"Ref": group})}
    assert all(each["RequireTLS"] is True for each in stack.of_type("AWS::RDS::DBProxy").values())


def test_the_parameter_group_is_of_the_servers_version() -> None:
    families = {
        version: Stack(MySQLVersion=version).resources["Parameters"]["Properties"]["Family"]
        for version in ("8.0", "8.0.43", "8.4", "8.4.7")
    }
    assert families == {"8.0": "mysql8.0", "8.0.43": "mysql8.0", "8.4": "mysql8.4", "8.4.7": "mysql8.4"}


def test_storage_is_encrypted_and_backed_up_and_does_not_go_by_accident(stack: Stack) -> None:
    name = "Primary" if "Primary" in stack.resources else "Cluster"
    owner = stack.resources[name]
    assert owner["Properties"]["StorageEncrypted"] is True
    assert owner["Properties"]["BackupRetentionPeriod"] >= 7
    assert owner["Properties"]["DeletionProtection"] == "true"
    assert (owner["DeletionPolicy"], owner["UpdateReplacePolicy"]) == ("Snapshot", "Snapshot")
    (disk,) = stack.resources["App"]["Properties"]["BlockDeviceMappings"]
    assert disk["Ebs"]["Encrypted"] is True


def test_iam_authentication_is_on_and_the_machine_may_use_it_for_one_account(stack: Stack) -> None:
    owners = (*instances(stack).values(), *stack.of_type("AWS::RDS::DBCluster").values())
    assert all(each["EnableIAMDatabaseAuthentication"] is True for each in owners if "DBClusterIdentifier" not in each)
    statements = permissions(stack)
    connect = [each["Fn::Sub"] for each in statements["rds-db:connect"]]
    assert all(each.endswith("/blog_iam") for each in connect)
    named = {each.split("dbuser:${")[1].split(".")[0] for each in connect}
    assert named == ({"Cluster"} if "Cluster" in stack.resources else {"Primary", "Replica"})


def permissions(stack: Stack) -> dict[str, list[Any]]:
    """Action -> resources, of the machine's role."""
    (policy,) = stack.resources["AppRole"]["Properties"]["Policies"]
    found: dict[str, list[Any]] = {}
    for each in policy["PolicyDocument"]["Statement"]:
        resource = each["Resource"]
        found.setdefault(each["Action"], []).extend(resource if isinstance(resource, list) else [resource])
    return found


def test_the_machine_may_do_little(stack: Stack) -> None:
    assert permissions(stack).keys() == {"s3:GetObject", "secretsmanager:GetSecretValue", "rds-db:connect"}
    assert "*" not in [*(each for listed in permissions(stack).values() for each in listed)]
    assert stack.resources["App"]["Properties"]["MetadataOptions"]["HttpTokens"] == "required"


def test_the_administrators_secret_can_be_taken_from_the_machine() -> None:
    """It makes the application's account once; afterwards MayCreateAccount=no."""
    assert {"Ref": "AdminSecret"} in permissions(Stack())["secretsmanager:GetSecretValue"]
    assert permissions(Stack(MayCreateAccount="no"))["secretsmanager:GetSecretValue"] == [{"Ref": "AppSecret"}]


def test_passwords_are_made_by_secrets_manager_and_rotated(stack: Stack) -> None:
    rotated = {str(each["SecretId"]) for each in stack.of_type("AWS::SecretsManager::RotationSchedule").values()}
    assert rotated == {str({"Ref": name}) for name in stack.of_type("AWS::SecretsManager::Secret")}
    for each in stack.of_type("AWS::SecretsManager::RotationSchedule").values():
        assert each["HostedRotationLambda"]["RotationType"] == "MySQLSingleUser"
        assert each["HostedRotationLambda"]["VpcSecurityGroupIds"] == {"Ref": "AppGroup"}
    assert load()["Transform"] == "AWS::SecretsManager-2024-09-16"
    owner = stack.resources.get("Primary") or stack.resources["Cluster"]
    password = owner["Properties"]["MasterUserPassword"]["Fn::Sub"]
    assert password == "{{resolve:secretsmanager:${AdminSecret}:SecretString:password}}"


def test_the_proxy_is_there_if_it_is_wanted() -> None:
    assert Stack().of_type("AWS::RDS::DBProxy") == {}
    aurora = Stack(Engine="aurora-mysql", Authentication="secret", UseProxy="yes")
    assert aurora.of_type("AWS::RDS::DBProxyTargetGroup")["ProxyTargets"]["DBClusterIdentifiers"] == [
        {"Ref": "Cluster"}
    ]
    assert aurora.of_type("AWS::RDS::DBProxyEndpoint")["ProxyReader"]["TargetRole"] == "READ_ONLY"
    rule = load()["Rules"]["ProxyNeedsAuroraAndASecret"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "UseProxy"}, "yes"]}
    assert [each["Assert"]["Fn::Equals"][1] for each in rule["Assertions"]] == ["aurora-mysql", "secret"]


def test_what_the_machine_runs_is_a_script_without_a_secret(stack: Stack) -> None:
    script = stack.user_data()
    syntax = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (syntax.returncode, syntax.stderr) == (0, "")
    assert script.startswith("#!/bin/bash\n")
    assert "password" not in script.lower()
    settings = dict(
        each.split("=", 1)
        for line in script.splitlines()
        if line.startswith("export ")
        for each in line.removeprefix("export ").split()
    )
    is_aurora, has_proxy = "Cluster" in stack.resources, "Proxy" in stack.resources
    direct = ("[Instance1.Endpoint.Address]", "[Instance2.Endpoint.Address]")
    if not is_aurora:
        direct = ("[Primary.Endpoint.Address]", "[Replica.Endpoint.Address]")
    assert settings["DB_HOST"] == ("[Proxy.Endpoint]" if has_proxy else direct[0])
    assert settings["DB_REPLICA_HOSTS"] == ("[ProxyReader.Endpoint]" if has_proxy else direct[1])
    by_iam = settings["RDS_ROUTER_CREDENTIALS"] == "iam"
    assert settings["DB_USER"] == ("blog_iam" if by_iam else "blog")
    assert by_iam or settings["RDS_ROUTER_CREDENTIALS"] == "secretsmanager:[AppSecret]"
    # What pins a client of the proxy to a connection is off.
    policy = {name.removeprefix("FLASK_RDS_ROUTER_"): value for name, value in settings.items() if "FLASK_" in name}
    sees = "false" if has_proxy else "true"
    by_time = ("allow", "primary") if has_proxy else ("exclude", "token")
    assert policy == {
        **dict.fromkeys(("GUARD", "SESSION_TRACKING", "HEARTBEAT"), sees),
        **dict(zip(("UNKNOWN_LAG", "AFTER_WRITE"), by_time, strict=True)),
    }
    RoutingPolicy.from_settings(policy)  # accepts them


MOTO_LACKS = {
    "AWS::RDS::DBCluster",
    "AWS::RDS::DBClusterParameterGroup",
    "AWS::RDS::DBProxy",
    "AWS::RDS::DBProxyEndpoint",
    "AWS::RDS::DBProxyTargetGroup",
    "AWS::SecretsManager::RotationSchedule",
    "AWS::SecretsManager::Secret",
    "AWS::SecretsManager::SecretTargetAttachment",
}
"""Types that moto's CloudFormation does not make: for them the tests above look at the template itself."""


@pytest.fixture
def created(aws: None, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The stack as moto makes it, for an engine; the boto3 module to ask it with."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("openapi_spec_validator", reason="moto[cloudformation] is not installed (extra dev)")
    template = for_moto(load())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of moto: a type of MOTO_LACKS
        parameters = {**GIVEN, "Engine": request.param}
        boto3.client("cloudformation").create_stack(
            StackName="blog",
            TemplateBody=json.dumps(template),
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        yield boto3


def for_moto(template: dict[str, Any]) -> dict[str, Any]:
    """The template less what moto stumbles over, each for its reason."""
    resources = template["Resources"]
    # It makes no clusters, so it can make no instance of one.
    lost = {
        name for name, each in resources.items() if each["Type"] in MOTO_LACKS or each.get("Condition") == "IsAurora"
    }
    for name in lost:
        del resources[name]
    for name in ("Primary", "Replica"):
        properties = resources[name]["Properties"]
        # It takes the parameter group itself for its name, and the security groups by a name that AWS does not know.
        del properties["DBParameterGroupName"]
        properties["VpcSecurityGroupIds"] = properties.pop("VPCSecurityGroups")
    for each in resources.values():
        each["DependsOn"] = [name for name in _listed(each.get("DependsOn", [])) if name not in lost]

    def mended(value: Any) -> Any:
        if isinstance(value, list):
            return [mended(each) for each in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"Ref"} and value["Ref"] in lost:
            return f"arn:aws:lost:::{value['Ref']}"
        if value.keys() == {"Fn::GetAtt"}:
            name, attribute = (
                value["Fn::GetAtt"] if isinstance(value["Fn::GetAtt"], list) else value["Fn::GetAtt"].split(".", 1)
            )
            return f"{name}.{attribute}" if name in lost or attribute == "DbiResourceId" else value
        if value.keys() == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
            text = value["Fn::Sub"].replace("${Cluster.", "${!Cluster.").replace(".DbiResourceId}", "}")
            for name in lost:
                text = text.replace(f"${{{name}}}", f"arn:aws:lost:::{name}")
            return {"Fn::Sub": text}
        return {key: mended(each) for key, each in value.items()}

    result: dict[str, Any] = mended(template)
    script, names = result["Resources"]["App"]["Properties"]["UserData"]["Fn::Base64"]["Fn::Sub"]
    for name in lost:
        script = script.replace(f"${{{name}}}", f"arn:aws:lost:::{name}")
    result["Resources"]["App"]["Properties"]["UserData"]["Fn::Base64"]["Fn::Sub"] = [script, names]
    return result


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("created", ["rds-mysql"], indirect=True)
def test_moto_makes_the_servers(created: Any) -> None:
    """As asked for: encrypted, not public, backed up, in one security group that the application's may enter."""
    made = created.client("rds").describe_db_instances()["DBInstances"]
    primary, replica = sorted(made, key=lambda each: "ReadReplicaSourceDBInstanceIdentifier" in each)
    assert replica["ReadReplicaSourceDBInstanceIdentifier"] == primary["DBInstanceIdentifier"]
    assert primary["Engine"] == "mysql"
    assert (primary["StorageEncrypted"], primary["BackupRetentionPeriod"]) == (True, 7)
    assert str(primary["MultiAZ"]).lower() == "true"
    assert [each["PubliclyAccessible"] for each in made] == [False, False]
    (group,) = primary["VpcSecurityGroups"]
    ec2 = created.client("ec2")
    (found,) = ec2.describe_security_groups(GroupIds=[group["VpcSecurityGroupId"]])["SecurityGroups"]
    (rule,) = found["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"], rule["IpRanges"], rule["Ipv6Ranges"]) == (3306, 3306, [], [])
    (source,) = rule["UserIdGroupPairs"]
    (app,) = ec2.describe_security_groups(GroupIds=[source["GroupId"]])["SecurityGroups"]
    assert app["Description"].startswith("The application")


@pytest.mark.parametrize("created", ["rds-mysql", "aurora-mysql"], indirect=True)
def test_moto_makes_the_network_and_the_machine(created: Any) -> None:
    """Of Aurora it makes these alone: its CloudFormation knows no clusters."""
    ec2 = created.client("ec2")
    stacks = created.client("cloudformation").describe_stacks()["Stacks"]
    assert [each["StackStatus"] for each in stacks] == ["CREATE_COMPLETE"]
    listed = created.client("cloudformation").describe_stack_resources(StackName="blog")["StackResources"]
    ids = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in listed if "PhysicalResourceId" in each}
    assert [len(each["Instances"]) for each in ec2.describe_instances()["Reservations"]] == [1]
    vpc = ids["Vpc"]
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    (public,) = (
        each for each in tables if any(route.get("GatewayId", "").startswith("igw-") for route in each["Routes"])
    )
    # It does not keep the association, which the template is asked for above; but the way out is not the default one.
    assert not any(each.get("Main") for each in public["Associations"])
    subnets = ec2.describe_subnets(SubnetIds=[ids["PrivateSubnet1"], ids["PrivateSubnet2"]])["Subnets"]
    assert len({each["AvailabilityZone"] for each in subnets}) == 2
    (web,) = ec2.describe_security_groups(Filters=[{"Name": "description", "Values": ["Who may open the blog"]}])[
        "SecurityGroups"
    ]
    (rule,) = web["IpPermissions"]
    assert (rule["FromPort"], [each["CidrIp"] for each in rule["IpRanges"]]) == (80, ["203.0.113.7/32"])
