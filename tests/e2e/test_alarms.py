"""An alarm on low burst credits fires when a function really drains them, and its function runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lambay.aws import Principal
from lambay.house import House
from lambay.settings import Settings
from tests.e2e.arrange import RUNTIME, bundle

ACCOUNT, REGION = "000000000000", "us-east-1"
ROOT = Principal("root", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
MIB = 1 << 20
PATIENCE = 120

WRITER = f"""
import os

def handler(event, context):
    with open("/mnt/efs/data", "wb", buffering=0) as file:
        for _ in range(event):
            file.write(bytes({MIB}))
        os.fsync(file.fileno())
"""

REACTION = """
import json

def handler(event, context):
    message = json.loads(event["Records"][0]["Sns"]["Message"])
    print("REACTED", message["AlarmName"], message["NewStateValue"])
"""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A whole server in this process, so that the test has its clock."""
    settings = Settings(port=0, data_dir=tmp_path / "data", iam="off")
    settings.data_dir.mkdir(mode=0o711)
    async with AsyncExitStack() as stack:
        yield await House.build(settings, stack)


async def ask(house: House, service: str, operation: str, **input: Any) -> Any:
    return await house.gateway.call(ROOT, service, operation, input, account=ACCOUNT, region=REGION)


async def test_low_credits_alarm(house: House) -> None:
    subnets = await ask(house, "ec2", "DescribeSubnets")
    subnet = subnets["Subnets"][0]["SubnetId"]
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    made = await ask(house, "iam", "CreateRole", RoleName="r", AssumeRolePolicyDocument=json.dumps(trust))
    role = made["Role"]["Arn"]
    await ask(
        house,
        "iam",
        "AttachRolePolicy",
        RoleName="r",
        PolicyArn="arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole",
    )
    created = await ask(house, "efs", "CreateFileSystem", CreationToken="t", ThroughputMode="bursting")
    file_system = created["FileSystemId"]
    await ready(house, "DescribeFileSystems", "FileSystems", FileSystemId=file_system)
    await ask(house, "efs", "CreateMountTarget", FileSystemId=file_system, SubnetId=subnet)
    await ready(house, "DescribeMountTargets", "MountTargets", FileSystemId=file_system)
    point = await ask(
        house,
        "efs",
        "CreateAccessPoint",
        ClientToken="t",
        FileSystemId=file_system,
        PosixUser={"Uid": 1000, "Gid": 1000},
        RootDirectory={
            "Path": "/d",
            "CreationInfo": {"OwnerUid": 1000, "OwnerGid": 1000, "Permissions": "0755"},
        },
    )
    await ready(house, "DescribeAccessPoints", "AccessPoints", FileSystemId=file_system)

    async def function(name: str, source: str, **more: Any) -> str:
        made = await ask(
            house,
            "lambda",
            "CreateFunction",
            **{
                "FunctionName": name,
                "Runtime": RUNTIME,
                "Handler": "app.handler",
                "Role": role,
                "Timeout": 60,
                "Code": {"ZipFile": bundle(source)},
                **more,
            },
        )
        state = "Pending"
        while state == "Pending":
            state = (await ask(house, "lambda", "GetFunction", FunctionName=name))["Configuration"]["State"]
        arn: str = made["FunctionArn"]
        return arn

    groups = await ask(house, "ec2", "DescribeSecurityGroups")
    await function(
        "writer",
        WRITER,
        VpcConfig={"SubnetIds": [subnet], "SecurityGroupIds": [groups["SecurityGroups"][0]["GroupId"]]},
        FileSystemConfigs=[{"Arn": point["AccessPointArn"], "LocalMountPath": "/mnt/efs"}],
    )
    reaction = await function("reaction", REACTION)
    topic = (await ask(house, "sns", "CreateTopic", Name="ops"))["TopicArn"]
    await ask(
        house,
        "lambda",
        "AddPermission",
        FunctionName="reaction",
        StatementId="s",
        Action="lambda:InvokeFunction",
        Principal="sns.amazonaws.com",
    )
    await ask(house, "sns", "Subscribe", TopicArn=topic, Protocol="lambda", Endpoint=reaction)

    stats = await house.fsd.stats()
    full = stats.volumes[file_system]["limits"]["burst_credit_balance"]
    await ask(
        house,
        "cloudwatch",
        "PutMetricAlarm",
        AlarmName="credits",
        Namespace="AWS/EFS",
        MetricName="BurstCreditBalance",
        Dimensions=[{"Name": "FileSystemId", "Value": file_system}],
        Statistic="Minimum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=float(full - 100 * MIB),
        ComparisonOperator="LessThanThreshold",
        AlarmActions=[topic],
    )
    before = await next_state(house)
    answer = await ask(house, "lambda", "Invoke", FunctionName="writer", Payload=b"256")
    assert "FunctionError" not in answer
    tail = house.logs.tail(ACCOUNT, REGION, "/aws/lambda/reaction", pattern="REACTED")
    reacted = asyncio.create_task(anext(tail))
    # A minute earns 60 MiB back, far less than what was drained.
    after = await next_state(house)

    assert (before, after) == ("OK", "ALARM")
    (event,) = await asyncio.wait_for(reacted, PATIENCE)
    assert event.message == "REACTED credits ALARM\n"
    await tail.aclose()


async def ready(house: House, operation: str, members: str, **input: Any) -> None:
    """EFS has no waiter and no event for it."""
    while True:
        found = (await ask(house, "efs", operation, **input))[members]
        if all(each["LifeCycleState"] == "available" for each in found):
            return


async def next_state(house: House) -> str:
    """The state that the alarm changes to as the clock is moved into the next minute."""
    changes: asyncio.Queue[str] = asyncio.Queue()
    house.alarms.on_change(lambda change: changes.put_nowait(change.after.state))
    house.clock.advance(timedelta(seconds=61 - house.clock.time() % 60))
    async with asyncio.timeout(PATIENCE):
        await house.alarms.evaluate()
        return await changes.get()
