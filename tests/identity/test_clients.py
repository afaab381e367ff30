"""boto3 against the real front door: signatures, users, roles and sessions as clients see them."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError

from lambay.api import Gateway, Listener
from lambay.clock import Clock
from lambay.identity import Identity, PoliciesByService, SecurityTokens
from lambay.neighbours import Neighbours
from lambay.neighbours.access_keys import IamRecords
from lambay.neighbours.resource_policies import ResourcePolicies
from lambay.observe import Logs
from lambay.settings import Settings
from lambay.store import Store

from .conftest import ACCOUNT

TRUST_ROOT = {"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}}


class Server:
    """A front door with identity, logs and the neighbours behind it."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.settings = Settings(account=ACCOUNT, **settings)
        self.clock = Clock()
        self.store = Store(directory / "lambay.db")
        self.neighbours = Neighbours(directory / "neighbours", self.settings, self.clock)
        iam = IamRecords(self.neighbours.ready)
        self.policies = PoliciesByService(ResourcePolicies(self.neighbours.ready))
        self.identity = Identity(self.store, iam, self.settings, self.clock, self.policies)
        self.logs = Logs(directory / "logs.db", self.clock, self.settings)
        sts = SecurityTokens(self.identity, iam, self.settings, self.clock)
        services = (self.logs, sts, *self.rooms(iam))
        gateway = Gateway(services, self.identity, self.neighbours, self.settings, self.clock)
        self._listener = Listener(gateway.handle)

    def rooms(self, iam: IamRecords) -> tuple[Any, ...]:
        """Further services behind the door."""
        return ()

    async def start(self) -> None:
        await self.logs.start()
        endpoint = await self._listener.start("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{endpoint.port}"

    async def stop(self) -> None:
        await self._listener.stop(0)
        await self.logs.close()
        await self.neighbours.close()
        self.store.close()

    def client(self, service: str, key: str = "test", secret: str = "test", token: str | None = None) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="eu-west-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(
                retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, inject_host_prefix=False
            ),
        )

    def client_of(self, service: str, credentials: dict[str, Any]) -> Any:
        return self.client(
            service,
            credentials["AccessKeyId"],
            credentials["SecretAccessKey"],
            credentials["SessionToken"],
        )


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    await server.start()
    yield server
    await server.stop()


def trust(**given: Any) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", **TRUST_ROOT, **given}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def code_of(caught: Any) -> tuple[str, int]:
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


async def test_the_root_is_who_it_is(server):
    identity = await asyncio.to_thread(server.client("sts").get_caller_identity)
    assert (identity["Account"], identity["UserId"]) == (ACCOUNT, ACCOUNT)
    assert identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"


async def test_a_wrong_secret_is_refused_by_every_protocol(server):
    def act():
        calls = {
            "sts": lambda client: client.get_caller_identity(),
            "logs": lambda client: client.describe_log_groups(),
            "s3": lambda client: client.list_buckets(),
            "ec2": lambda client: client.describe_vpcs(),
        }
        codes = {}
        for service, call in calls.items():
            with pytest.raises(ClientError) as caught:
                call(server.client(service, secret="wrong"))
            codes[service] = code_of(caught)
        return codes

    assert await asyncio.to_thread(act) == {
        "sts": ("SignatureDoesNotMatch", 403),
        "logs": ("InvalidSignatureException", 400),
        "s3": ("SignatureDoesNotMatch", 403),
        "ec2": ("AuthFailure", 401),
    }


async def test_an_iam_users_access_key_works_until_it_is_made_inactive(server):
    def act():
        iam = server.client("iam")
        user = iam.create_user(UserName="ann", Path="/team/")["User"]
        key = iam.create_access_key(UserName="ann")["AccessKey"]
        anns = server.client("sts", key["AccessKeyId"], key["SecretAccessKey"])
        identity = anns.get_caller_identity()
        assert (identity["Arn"], identity["UserId"]) == (user["Arn"], user["UserId"])
        info = server.client("sts").get_access_key_info(AccessKeyId=key["AccessKeyId"])
        assert info["Account"] == ACCOUNT
        iam.update_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"], Status="Inactive")
        with pytest.raises(ClientError) as caught:
            anns.get_caller_identity()
        assert code_of(caught) == ("InvalidClientTokenId", 403)

    await asyncio.to_thread(act)


async def test_a_role_is_assumed_and_used(server):
    def act():
        role = server.client("iam").create_role(RoleName="reader", AssumeRolePolicyDocument=trust())["Role"]
        reading = {"Effect": "Allow", "Action": ["logs:Describe*", "s3:List*"], "Resource": "*"}
        server.client("iam").put_role_policy(
            RoleName="reader",
            PolicyName="reading",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": reading}),
        )
        answer = server.client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="me")
        assert answer["AssumedRoleUser"] == {
            "AssumedRoleId": f"{role['RoleId']}:me",
            "Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/me",
        }
        identity = server.client_of("sts", answer["Credentials"]).get_caller_identity()
        assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"]
        assert identity["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"]
        assert "logGroups" in server.client_of("logs", answer["Credentials"]).describe_log_groups()
        assert "Buckets" in server.client_of("s3", answer["Credentials"]).list_buckets()

    await asyncio.to_thread(act)


async def test_a_role_that_trusts_another_is_not_assumed(server):
    def act():
        policy = trust(Principal={"Service": "lambda.amazonaws.com"})
        role = server.client("iam").create_role(RoleName="f", AssumeRolePolicyDocument=policy)["Role"]
        for name in (role["Arn"], f"arn:aws:iam::{ACCOUNT}:role/gone"):
            with pytest.raises(ClientError, match="is not authorized to perform: sts:AssumeRole") as caught:
                server.client("sts").assume_role(RoleArn=name, RoleSessionName="me")
            assert code_of(caught) == ("AccessDenied", 403)

    await asyncio.to_thread(act)


async def test_s3_objects_go_in_and_out_signed(server):
    def act():
        s3 = server.client("s3")
        s3.create_bucket(Bucket="shelf", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        name = "a folder/ünï+code (1)~&=?.txt"
        s3.put_object(Bucket="shelf", Key=name, Body=b"content", Metadata={"note": "two  spaces"})
        assert s3.get_object(Bucket="shelf", Key=name)["Body"].read() == b"content"
        url = s3.generate_presigned_url("get_object", {"Bucket": "shelf", "Key": name}, ExpiresIn=60)
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"content"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url.replace("folder", "f0lder"))
        put = s3.generate_presigned_url("put_object", {"Bucket": "shelf", "Key": "new"}, ExpiresIn=60)
        assert urllib3.request("PUT", put, body=b"sent").status == 200
        assert s3.get_object(Bucket="shelf", Key="new")["Body"].read() == b"sent"

    await asyncio.to_thread(act)


async def test_private_objects_are_not_for_the_anonymous(server):
    def act():
        s3 = server.client("s3")
        s3.create_bucket(Bucket="shelf", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        s3.put_object(Bucket="shelf", Key="private", Body=b"x")
        s3.put_object(Bucket="shelf", Key="public", Body=b"x", ACL="public-read")
        with urllib.request.urlopen(f"{server.url}/shelf/public") as answer:
            assert answer.read() == b"x"
        for path in ("/shelf/private", "/shelf", "/"):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(server.url + path)

    await asyncio.to_thread(act)


async def test_logs_are_written_searched_and_followed(server):
    def act():
        logs = server.client("logs")
        logs.create_log_group(logGroupName="/app", tags={"a": "b"})
        logs.create_log_stream(logGroupName="/app", logStreamName="s")
        now = int(server.clock.time() * 1000)
        events = [{"timestamp": now + number, "message": f"line {number}"} for number in range(25)]
        answer = logs.put_log_events(logGroupName="/app", logStreamName="s", logEvents=events)
        assert "rejectedLogEventsInfo" not in answer
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName="/app", filterPattern="line", PaginationConfig={"PageSize": 10}
        )
        found = [event["message"] for page in pages for event in page["events"]]
        assert found == [event["message"] for event in events]
        first = logs.get_log_events(logGroupName="/app", logStreamName="s", startFromHead=True, limit=20)
        rest = logs.get_log_events(
            logGroupName="/app", logStreamName="s", nextToken=first["nextForwardToken"]
        )
        assert len(first["events"]) + len(rest["events"]) == 25
        with pytest.raises(logs.exceptions.ResourceNotFoundException):
            logs.get_log_events(logGroupName="/gone", logStreamName="s")
        with pytest.raises(ClientError, match="Member must satisfy"):
            logs.put_retention_policy(logGroupName="/app", retentionInDays=2)
        arn = logs.describe_log_groups()["logGroups"][0]["logGroupArn"]
        session = logs.start_live_tail(logGroupIdentifiers=[arn])["responseStream"]
        updates = iter(session)
        assert next(updates)["sessionStart"]["logGroupIdentifiers"] == [arn]
        logs.put_log_events(
            logGroupName="/app",
            logStreamName="s",
            logEvents=[{"timestamp": now + 100, "message": "live"}],
        )
        for update in updates:
            results = update["sessionUpdate"]["sessionResults"]
            if results:
                assert results[0]["message"] == "live"
                break
        session.close()

    await asyncio.to_thread(act)
