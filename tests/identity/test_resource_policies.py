"""boto3 against the real front door: policies of functions, queues, buckets and keys, within and across accounts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambay.functions import Functions
from lambay.identity import PoliciesByService, ServiceAccess
from lambay.neighbours.access_keys import IamRecords
from lambay.network import Network
from tests.functions.conftest import FakeFileSystems, FakeFleet, zipped

from .conftest import ACCOUNT
from .test_clients import Server

OTHER = "222222222222"
REGION = "eu-west-1"


class Accounts(Server):
    """Two accounts, Lambda in both."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, accounts=f"{OTHER}:other:secret", data_dir=directory)

    def rooms(self, iam: IamRecords) -> tuple[Any, ...]:
        self.fleet = FakeFleet()
        self.functions = Functions(
            self.store,
            self.fleet,
            FakeFileSystems(),
            Network(self.neighbours),
            self.neighbours,
            self.settings,
            self.clock,
            ServiceAccess(self.identity, iam),
        )
        assert isinstance(self.policies, PoliciesByService)
        self.policies.add("lambda", self.functions.resource_policy)
        self.neighbours.on_invocation(self.functions.deliver)
        return (self.functions,)

    async def start(self) -> None:
        await self.functions.start()
        await super().start()

    async def stop(self) -> None:
        await self.functions.stop()
        await super().stop()

    def other(self, service: str) -> Any:
        """As the root of the other account."""
        return self.client(service, "other", "secret")

    def function(self, client: Any, iam: Any, name: str = "f") -> str:
        trust = {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        role = iam.create_role(RoleName=f"{name}-role", AssumeRolePolicyDocument=document(trust))["Role"][
            "Arn"
        ]
        made = client.create_function(
            FunctionName=name,
            Role=role,
            Runtime="python3.12",
            Handler="app.handler",
            Code={"ZipFile": zipped()},
        )
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
        return str(made["FunctionArn"])

    def user(self, name: str, *statements: dict[str, Any]) -> Any:
        iam = self.client("iam")
        iam.create_user(UserName=name)
        if statements:
            iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document(*statements))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return lambda service: self.client(service, key["AccessKeyId"], key["SecretAccessKey"])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Accounts]:
    server = Accounts(tmp_path)
    await server.start()
    yield server
    await server.stop()


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any, resource: Any = "*", **elements: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **elements}


def refused(call: Any, **given: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**given)
    code = caught.value.response["Error"]["Code"]
    assert code in ("AccessDenied", "AccessDeniedException", "AuthorizationError"), caught.value
    return str(caught.value.response["Error"]["Message"])


async def test_a_functions_policy_lets_a_user_without_policies_invoke_it(server):
    def act():
        arn = server.function(server.client("lambda"), server.client("iam"))
        ann = server.user("ann")
        assert "no identity-based policy allows" in refused(ann("lambda").invoke, FunctionName="f")
        server.client("lambda").add_permission(
            FunctionName="f",
            StatementId="ann",
            Action="lambda:InvokeFunction",
            Principal=f"arn:aws:iam::{ACCOUNT}:user/ann",
        )
        assert ann("lambda").invoke(FunctionName=arn)["StatusCode"] == 200
        refused(ann("lambda").delete_function, FunctionName="f")

    await asyncio.to_thread(act)


async def test_another_account_invokes_with_the_leave_of_both(server):
    def act():
        arn = server.function(server.client("lambda"), server.client("iam"))
        own = server.function(server.other("lambda"), server.other("iam"))
        assert own.split(":")[4] == OTHER
        assert "no resource-based policy allows" in refused(server.other("lambda").invoke, FunctionName=arn)
        server.client("lambda").add_permission(
            FunctionName="f", StatementId="other", Action="lambda:InvokeFunction", Principal=OTHER
        )
        assert server.other("lambda").invoke(FunctionName=arn)["StatusCode"] == 200
        assert server.fleet.runs[-1][0].account == ACCOUNT
        # The permission is for invoking, and a bare name is the caller's own function.
        refused(server.other("lambda").delete_function, FunctionName=arn)
        server.other("lambda").invoke(FunctionName="f")
        assert server.fleet.runs[-1][0].account == OTHER
        # A user of the other account needs its own account's leave as well.
        iam = server.other("iam")
        iam.create_user(UserName="bob")
        key = iam.create_access_key(UserName="bob")["AccessKey"]
        bob = server.client("lambda", key["AccessKeyId"], key["SecretAccessKey"])
        refused(bob.invoke, FunctionName=arn)
        iam.put_user_policy(
            UserName="bob", PolicyName="own", PolicyDocument=document(allow("lambda:InvokeFunction", arn))
        )
        assert bob.invoke(FunctionName=arn)["StatusCode"] == 200

    await asyncio.to_thread(act)


async def test_a_layer_version_is_shared_by_its_policy(server):
    def act():
        lambda_ = server.client("lambda")
        made = lambda_.publish_layer_version(LayerName="tools", Content={"ZipFile": zipped()})
        arn = made["LayerVersionArn"]
        iam = server.other("iam")
        iam.create_user(UserName="bob")
        iam.put_user_policy(UserName="bob", PolicyName="own", PolicyDocument=document(allow("lambda:*")))
        key = iam.create_access_key(UserName="bob")["AccessKey"]
        bob = server.client("lambda", key["AccessKeyId"], key["SecretAccessKey"])
        assert "no resource-based policy allows" in refused(bob.get_layer_version_by_arn, Arn=arn)
        lambda_.add_layer_version_permission(
            LayerName="tools",
            VersionNumber=1,
            StatementId="other",
            Action="lambda:GetLayerVersion",
            Principal=OTHER,
        )
        assert bob.get_layer_version_by_arn(Arn=arn)["LayerVersionArn"] == arn

    await asyncio.to_thread(act)


async def test_a_queues_policy_lets_in_and_keeps_out(server):
    def act():
        sqs = server.client("sqs")
        url = sqs.create_queue(QueueName="q")["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"
        ann = server.user("ann")
        eve = server.user("eve", allow("sqs:*"))
        refused(ann("sqs").send_message, QueueUrl=url, MessageBody="m")
        principal = {"AWS": f"arn:aws:iam::{ACCOUNT}:user/ann"}
        denied = {"AWS": f"arn:aws:iam::{ACCOUNT}:user/eve"}
        policy = document(
            allow("sqs:SendMessage", arn, Principal=principal),
            {"Effect": "Deny", "Action": "sqs:*", "Resource": arn, "Principal": denied},
        )
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        ann("sqs").send_message(QueueUrl=url, MessageBody="m")
        assert "explicit deny in a resource-based policy" in refused(
            eve("sqs").send_message, QueueUrl=url, MessageBody="m"
        )

    await asyncio.to_thread(act)


async def test_a_bucket_of_another_account_is_opened_by_its_policy(server):
    def act():
        s3 = server.client("s3")
        s3.create_bucket(Bucket="shelf", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket="shelf", Key="k", Body=b"x")
        refused(server.other("s3").get_object, Bucket="shelf", Key="k")
        policy = document(allow("s3:GetObject", "arn:aws:s3:::shelf/*", Principal={"AWS": OTHER}))
        s3.put_bucket_policy(Bucket="shelf", Policy=policy)
        assert server.other("s3").get_object(Bucket="shelf", Key="k")["Body"].read() == b"x"
        refused(server.other("s3").put_object, Bucket="shelf", Key="k", Body=b"y")

    await asyncio.to_thread(act)


async def test_a_key_is_used_only_with_leave_of_its_own_policy(server):
    def act():
        kms = server.client("kms")
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName="alias/a", TargetKeyId=key)
        ann = server.user("ann", allow("kms:*"))
        assert ann("kms").encrypt(KeyId="alias/a", Plaintext=b"x")["CiphertextBlob"]
        only_root = allow("kms:*", Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:user/bob"})
        kms.put_key_policy(KeyId=key, PolicyName="default", Policy=document(only_root))
        for name in (key, "alias/a"):
            assert "no resource-based policy allows" in refused(
                ann("kms").encrypt, KeyId=name, Plaintext=b"x"
            )

    await asyncio.to_thread(act)


async def test_a_service_is_no_confused_deputy(server):
    """Another account's topic that sends to our function needs our function's leave for that very topic."""

    def act():
        arn = server.function(server.client("lambda"), server.client("iam"))
        topics = {}
        for name, sns in (("ours", server.client("sns")), ("theirs", server.other("sns"))):
            topics[name] = sns.create_topic(Name="t")["TopicArn"]
            sns.subscribe(TopicArn=topics[name], Protocol="lambda", Endpoint=arn)
        server.client("lambda").add_permission(
            FunctionName="f",
            StatementId="topic",
            Action="lambda:InvokeFunction",
            Principal="sns.amazonaws.com",
            SourceArn=topics["ours"],
        )
        server.other("sns").publish(TopicArn=topics["theirs"], Message="evil")
        server.client("sns").publish(TopicArn=topics["ours"], Message="good")

    await asyncio.to_thread(act)
    async with asyncio.timeout(60):
        # What would be wrong was sent first, and would be there first.
        while not server.fleet.runs:  # noqa: ASYNC110 - the fake fleet has no event of its own
            await asyncio.sleep(0)
    messages = [json.loads(run[1].event)["Records"][0]["Sns"]["Message"] for run in server.fleet.runs]
    assert messages == ["good"]


async def test_source_accounts_and_denies_of_a_functions_policy_count(server):
    access = ServiceAccess(server.identity, IamRecords(server.neighbours.ready))
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
    keys = {"aws:SourceArn": "arn:aws:s3:::b", "aws:SourceAccount": ACCOUNT}
    ours = {"StringEquals": {"AWS:SourceAccount": ACCOUNT}}
    statement = allow("lambda:InvokeFunction", arn, Principal={"Service": "s3.amazonaws.com"}, Condition=ours)
    action = "lambda:InvokeFunction"

    def may(document: str, **changed: str) -> bool:
        given = {**keys, **{f"aws:{name}": value for name, value in changed.items()}}
        return access.service_may("s3.amazonaws.com", action, arn, document, given)

    assert may(document(statement))
    assert not may(document(statement), SourceAccount=OTHER)
    elsewhere = {"StringNotEquals": {"aws:SourceArn": "arn:aws:s3:::other"}}
    deny = {**statement, "Effect": "Deny", "Condition": elsewhere}
    assert not may(document(statement, deny))
    assert may(document(statement, deny), SourceArn="arn:aws:s3:::other")
