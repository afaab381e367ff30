"""The API from inside: boto3's words, another's permissions, no socket."""

from __future__ import annotations

from typing import Any

import pytest

from lambay.api import Gateway
from lambay.aws import AWSError, Principal
from lambay.clock import Clock
from lambay.settings import Settings
from tests.api.house import ACCOUNT, Echo, EveryoneIsRoot, Recorded

ANN = Principal("user", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ann", "AIDAANN")


class Inside:
    """A gateway with an owned file service that remembers its inputs."""

    def __init__(self, answer: Any) -> None:
        self.identity, self.neighbours = EveryoneIsRoot(), Echo()
        self.efs = Recorded("efs", {"create_mount_target": answer, "create_access_point": answer})
        self.gateway = Gateway((self.efs,), self.identity, self.neighbours, Settings(iam="off"), Clock())

    async def call(self, service: str, operation: str, **input: Any) -> dict[str, Any]:
        return await self.gateway.call(ANN, service, operation, input, account=ACCOUNT, region="eu-west-1")


TARGET = {
    "MountTargetId": "fsmt-1",
    "FileSystemId": "fs-1",
    "SubnetId": "subnet-1",
    "LifeCycleState": "creating",
}


async def test_an_owned_operation_is_done_as_the_principal() -> None:
    inside = Inside(TARGET)

    output = await inside.call(
        "efs", "CreateMountTarget", FileSystemId="fs-0123456789abcdef0", SubnetId="subnet-0123456789abcdef0"
    )

    assert output == TARGET
    assert inside.efs.inputs == [
        {"FileSystemId": "fs-0123456789abcdef0", "SubnetId": "subnet-0123456789abcdef0"}
    ]
    call = inside.efs.calls[0]
    assert (call.principal, call.account, call.region, call.operation) == (
        ANN,
        ACCOUNT,
        "eu-west-1",
        "CreateMountTarget",
    )
    assert inside.identity.actions == ["elasticfilesystem:CreateMountTarget"]


async def test_what_the_principal_may_not_is_refused() -> None:
    inside = Inside(TARGET)
    inside.identity.denied.add("elasticfilesystem:CreateMountTarget")

    with pytest.raises(AWSError) as refused:
        await inside.call(
            "efs", "CreateMountTarget", FileSystemId="fs-0123456789abcdef0", SubnetId="subnet-01234567"
        )

    assert refused.value.code == "AccessDeniedException"
    assert inside.efs.inputs == []


async def test_numbers_may_be_texts() -> None:
    inside = Inside({})

    await inside.call(
        "efs",
        "CreateAccessPoint",
        ClientToken="t",
        FileSystemId="fs-0123456789abcdef0",
        PosixUser={"Uid": "1000", "Gid": "1000"},
    )

    assert inside.efs.inputs[0]["PosixUser"] == {"Uid": 1000, "Gid": 1000}


async def test_an_error_is_the_services_own() -> None:
    inside = Inside(AWSError("FileSystemNotFound", "no such file system"))

    with pytest.raises(AWSError) as refused:
        await inside.call(
            "efs", "CreateMountTarget", FileSystemId="fs-0123456789abcdef0", SubnetId="subnet-01234567"
        )

    assert (refused.value.code, refused.value.message) == ("FileSystemNotFound", "no such file system")


async def test_a_neighbour_gets_the_request_that_boto3_would_send() -> None:
    inside = Inside({})

    await inside.call("sqs", "DeleteQueue", QueueUrl="http://q")

    [(call, request)] = inside.neighbours.calls
    assert (call.service, call.operation, call.principal) == ("sqs", "DeleteQueue", ANN)
    assert request.headers["x-amz-target"] == "AmazonSQS.DeleteQueue"
