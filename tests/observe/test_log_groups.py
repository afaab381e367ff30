"""Log groups and streams: life, lists, tags, retention."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from lambay.aws import arn
from lambay.observe import Logs, log_store
from lambay.observe import log_schema as schema
from lambay.observe.log_records import GroupKey

from .conftest import ACCOUNT, REGION, Client, call, messages

DAY = 86_400_000


async def names(client, **given):
    return [group["logGroupName"] for group in (await client.describe_log_groups(**given))["logGroups"]]


async def stream_names(client, **given):
    streams = (await client.describe_log_streams(**given))["logStreams"]
    return [stream["logStreamName"] for stream in streams]


async def test_a_new_group_is_described(client):
    before = client.now
    await client.create_log_group(logGroupName="/g", kmsKeyId="key", tags={"a": "1"})
    (group,) = (await client.describe_log_groups())["logGroups"]
    assert before <= group.pop("creationTime") <= client.now
    assert group == {
        "logGroupName": "/g",
        "metricFilterCount": 0,
        "arn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/g:*",
        "logGroupArn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/g",
        "storedBytes": 0,
        "logGroupClass": "STANDARD",
        "deletionProtectionEnabled": False,
        "kmsKeyId": "key",
    }


async def test_a_group_is_created_once(client):
    await client.create_log_group(logGroupName="/g")
    error = await client.refused("create_log_group", logGroupName="/g")
    assert (error.code, error.message) == (
        "ResourceAlreadyExistsException",
        "The specified log group already exists",
    )


async def test_names_of_aws_are_reserved(client):
    assert (
        await client.refused("create_log_group", logGroupName="aws/x")
    ).code == "InvalidParameterException"


async def test_accounts_and_regions_have_groups_of_their_own(client, logs):
    await client.create_log_group(logGroupName="/g")
    for other in (call(account="210987654321"), call(region="us-east-1")):
        assert (await logs.describe_log_groups(other, {}))["logGroups"] == []
        await logs.create_log_group(other, {"logGroupName": "/g"})


async def test_groups_are_listed_by_name_in_pages(client):
    for name in ("b", "a/2", "a/1", "a/3", "c"):
        await client.create_log_group(logGroupName=name)
    assert await names(client) == ["a/1", "a/2", "a/3", "b", "c"]
    assert await names(client, logGroupNamePrefix="a/") == ["a/1", "a/2", "a/3"]
    assert await names(client, logGroupNamePattern="3") == ["a/3"]
    assert await names(client, logGroupIdentifiers=["c", "b"]) == ["b", "c"]
    page = await client.describe_log_groups(limit=2, logGroupNamePrefix="a")
    assert [group["logGroupName"] for group in page["logGroups"]] == ["a/1", "a/2"]
    last = await client.describe_log_groups(limit=2, logGroupNamePrefix="a", nextToken=page["nextToken"])
    assert [group["logGroupName"] for group in last["logGroups"]] == ["a/3"]
    assert "nextToken" not in last


async def test_prefix_and_pattern_exclude_each_other(client):
    error = await client.refused("describe_log_groups", logGroupNamePrefix="a", logGroupNamePattern="b")
    assert "mutually exclusive" in error.message


@pytest.mark.parametrize("token", ["x", "WzFd", "bnVsbA=="])
async def test_a_foreign_token_is_refused(client, token):
    error = await client.refused("describe_log_groups", nextToken=token)
    assert error.message == "The specified nextToken is invalid."


async def test_groups_are_listed_by_class_pattern_and_tags(client):
    await client.create_log_group(logGroupName="app-one", tags={"env": "test"})
    await client.create_log_group(logGroupName="app-two", logGroupClass="INFREQUENT_ACCESS")

    async def listed(**given):
        return [group["logGroupName"] for group in (await client.list_log_groups(**given))["logGroups"]]

    assert await listed(logGroupClass="INFREQUENT_ACCESS") == ["app-two"]
    assert await listed(logGroupNamePattern="^app|two") == ["app-one", "app-two"]
    assert await listed(logGroupNamePattern="^one") == []
    assert await listed(logGroupNamePattern="one") == ["app-one"]
    assert await listed(logGroupTags=[{"key": "env", "values": ["test"]}]) == ["app-one"]


async def test_a_deleted_group_takes_its_streams_and_events_with_it(client):
    await client.write("/g", "s", "old")
    await client.delete_log_group(logGroupName="/g")
    assert await names(client) == []
    assert (await client.refused("delete_log_group", logGroupName="/g")).code == "ResourceNotFoundException"
    await client.create_log_group(logGroupName="/g")
    assert await stream_names(client, logGroupName="/g") == []
    await client.write("/g", "s", "new")
    assert messages(await client.filter_log_events(logGroupName="/g")) == ["new"]


async def test_a_protected_group_is_not_deleted(client):
    await client.create_log_group(logGroupName="/g", deletionProtectionEnabled=True)
    assert (await client.refused("delete_log_group", logGroupName="/g")).code == "ValidationException"
    await client.put_log_group_deletion_protection(logGroupIdentifier="/g", deletionProtectionEnabled=False)
    await client.delete_log_group(logGroupName="/g")


async def test_stored_bytes_follow_writes_deletions_and_expiry(client, clock, logs):
    async def stored():
        (group,) = (await client.describe_log_groups())["logGroups"]
        return group["storedBytes"]

    await client.write("/g", "s", "four", "fünf")
    assert await stored() == (4 + 26) + (5 + 26)
    await client.write("/g", "t", "x")
    await client.delete_log_stream(logGroupName="/g", logStreamName="s")
    assert await stored() == 27
    await client.put_retention_policy(logGroupName="/g", retentionInDays=1)
    clock.advance(timedelta(days=2))
    await swept(logs)
    assert await stored() == 0


async def swept(logs):
    """Until the sweeper has nothing left to remove."""
    store = logs._store
    while await store._expire() is not None:
        pass


async def test_streams_are_listed_by_name_or_last_event(client):
    now = client.now
    for name, at in (("b", now), ("a", now + 10), ("c", now - 10)):
        await client.write("/g", name, "x", at=at)
    await client.create_log_stream(logGroupName="/g", logStreamName="empty")
    assert await stream_names(client, logGroupName="/g") == ["a", "b", "c", "empty"]
    by_time = {"logGroupName": "/g", "orderBy": "LastEventTime", "descending": True}
    assert await stream_names(client, **by_time) == ["a", "b", "c", "empty"]
    assert await stream_names(client, **{**by_time, "descending": False}) == ["empty", "c", "b", "a"]
    assert await stream_names(client, logGroupName="/g", logStreamNamePrefix="e") == ["empty"]
    page = await client.describe_log_streams(**by_time, limit=3)
    assert await stream_names(client, **by_time, nextToken=page["nextToken"]) == ["empty"]
    error = await client.refused("describe_log_streams", **by_time, logStreamNamePrefix="e")
    assert error.code == "InvalidParameterException"


async def test_a_stream_is_described_with_its_times(client):
    now = client.now
    await client.write("/g", "s", "one", "two", at=now)
    await client.write("/g", "s", "zero", at=now - 5)
    (stream,) = (await client.describe_log_streams(logGroupName="/g"))["logStreams"]
    assert stream["firstEventTimestamp"] == now - 5
    assert stream["lastEventTimestamp"] == now + 1
    assert stream["lastIngestionTime"] >= now
    assert stream["arn"] == f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/g:log-stream:s"
    assert stream["storedBytes"] == 0


async def test_a_group_is_named_by_name_or_arn(client):
    await client.write("/g", "s", "x")
    own = arn("logs", REGION, ACCOUNT, "log-group:/g")
    for identifier in ("/g", own, own + ":*"):
        assert await stream_names(client, logGroupIdentifier=identifier) == ["s"]
    for input, code in (
        ({"logGroupIdentifier": own.replace(ACCOUNT, "210987654321")}, "ResourceNotFoundException"),
        ({"logGroupIdentifier": "arn:aws:s3:::bucket"}, "InvalidParameterException"),
        ({"logGroupIdentifier": "/g", "logGroupName": "/g"}, "InvalidParameterException"),
        ({}, "InvalidParameterException"),
    ):
        assert (await client.refused("describe_log_streams", **input)).code == code


async def test_a_stream_is_created_once(client):
    here = {"logGroupName": "/g", "logStreamName": "s"}
    assert (await client.refused("create_log_stream", **here)).code == "ResourceNotFoundException"
    await client.create_log_group(logGroupName="/g")
    await client.create_log_stream(**here)
    error = await client.refused("create_log_stream", **here)
    assert error.message == "The specified log stream already exists"
    await client.delete_log_stream(**here)
    error = await client.refused("delete_log_stream", **here)
    assert error.message == "The specified log stream does not exist."


async def test_tags_are_added_replaced_and_removed(client):
    await client.create_log_group(logGroupName="/g", tags={"a": "1"})
    resource = {"resourceArn": arn("logs", REGION, ACCOUNT, "log-group:/g")}
    await client.tag_resource(**resource, tags={"a": "2", "b": "3"})
    await client.tag_log_group(logGroupName="/g", tags={"c": "4"})
    assert (await client.list_tags_for_resource(**resource))["tags"] == {"a": "2", "b": "3", "c": "4"}
    await client.untag_resource(**resource, tagKeys=["a"])
    await client.untag_log_group(logGroupName="/g", tags=["b"])
    assert (await client.list_tags_log_group(logGroupName="/g"))["tags"] == {"c": "4"}
    error = await client.refused("tag_resource", **resource, tags={str(n): "" for n in range(50)})
    assert error.code == "TooManyTagsException"


async def test_retention_takes_only_the_documented_days(client):
    await client.create_log_group(logGroupName="/g")
    error = await client.refused("put_retention_policy", logGroupName="/g", retentionInDays=2)
    assert error.code == "InvalidParameterException"
    assert "Value '2' at 'retentionInDays'" in error.message
    await client.put_retention_policy(logGroupName="/g", retentionInDays=3653)
    assert (await client.describe_log_groups())["logGroups"][0]["retentionInDays"] == 3653
    await client.delete_retention_policy(logGroupName="/g")
    assert "retentionInDays" not in (await client.describe_log_groups())["logGroups"][0]


async def test_events_expire_by_the_clock(client, clock, logs):
    await client.write("/g", "s", "old")
    await client.put_retention_policy(logGroupName="/g", retentionInDays=3)
    clock.advance(timedelta(days=2))
    await client.write("/g", "s", "new")
    here = {"logGroupName": "/g", "logStreamName": "s", "startFromHead": True}
    assert messages(await client.get_log_events(**here)) == ["old", "new"]
    clock.advance(timedelta(days=2))
    assert messages(await client.get_log_events(**here)) == ["new"]
    assert messages(await client.filter_log_events(logGroupName="/g")) == ["new"]


async def test_expired_events_leave_the_disk_when_the_clock_advances(client, clock, logs):
    await client.write("/g", "s", *["x"] * 12_000, at=client.now - 20_000)
    await client.put_retention_policy(logGroupName="/g", retentionInDays=1)
    clock.advance(timedelta(days=2))

    def count(connection):
        return connection.execute("SELECT count(*) FROM log_events").fetchone()[0]

    await none_left(logs, count)


async def test_expiry_ends_where_the_retention_is_taken_away(tmp_path, clock, settings, monkeypatch):
    logs = Logs(tmp_path / "logs.db", clock, settings)
    client = Client(logs, clock)
    await client.write("/g", "s", *"abcdef")
    await client.put_retention_policy(logGroupName="/g", retentionInDays=1)
    clock.advance(timedelta(days=2))
    expire, calls = schema.expire, []

    def expire_some(connection, group_id, now_ms, limit):
        calls.append(limit)
        if len(calls) == 2:
            group = schema.find_group(connection, GroupKey(ACCOUNT, REGION, "/g"))
            schema.set_retention(connection, group, None)
        return expire(connection, group_id, now_ms, limit)

    monkeypatch.setattr(schema, "expire", expire_some)
    monkeypatch.setattr(log_store, "_PURGE_EVENTS", 2)
    await logs._store._expire()
    left = messages(await client.filter_log_events(logGroupName="/g", startFromHead=True))
    await logs.close()

    assert (left, calls) == (list("cdef"), [2, 2])


async def none_left(logs, count):
    """Until `count` finds nothing; each look waits behind one transaction of the sweeper."""
    async with asyncio.timeout(20):
        while await logs._store.change(count):
            pass


async def test_deleted_events_leave_the_disk(client, logs):
    await client.write("/g", "s", *["x"] * 12_000)
    await client.delete_log_group(logGroupName="/g")

    def count(connection):
        tables = ("log_events", "log_streams", "doomed")
        return sum(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)

    await none_left(logs, count)


async def test_a_reset_leaves_nothing(client, logs):
    await client.write("/g", "s", "x")
    await logs.reset()
    assert await names(client) == []
    await client.write("/g", "s", "y")
    assert messages(await client.filter_log_events(logGroupName="/g")) == ["y"]


async def test_a_key_is_associated_and_taken_away(client):
    await client.create_log_group(logGroupName="/keyed")
    key = "arn:aws:kms:eu-west-1:123456789012:key/1"
    await client.associate_kms_key(logGroupName="/keyed", kmsKeyId=key)
    (keyed,) = (await client.describe_log_groups())["logGroups"]
    await client.disassociate_kms_key(resourceIdentifier=keyed["logGroupArn"])
    (bare,) = (await client.describe_log_groups())["logGroups"]

    assert keyed["kmsKeyId"] == key
    assert "kmsKeyId" not in bare
    error = await client.refused("associate_kms_key", kmsKeyId=key)
    assert "Exactly one of" in error.message
