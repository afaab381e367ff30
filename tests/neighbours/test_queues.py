"""SQS: messages survive, and a long poll neither blocks others nor sleeps longer than it must."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lambay.clock import Clock
from lambay.neighbours import Neighbours

from .clients import ACCOUNT, REGION, Client, connect, opened

HERE: dict[str, Any] = {"account": ACCOUNT, "region": REGION}


async def queue(neighbours: Neighbours, **attributes: str) -> tuple[Client, str]:
    sqs = connect(neighbours, "sqs")
    return sqs, (await sqs.create_queue(QueueName="q", Attributes=attributes))["QueueUrl"]


def bodies(answer: dict[str, Any]) -> list[str]:
    return [message["Body"] for message in answer.get("Messages", [])]


@pytest.mark.parametrize("by", ["replay", "snapshot", "upgrade"])
async def test_messages_survive(tmp_path: Path, by: str) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as neighbours:
        sqs, url = await queue(neighbours, VisibilityTimeout="60")
        for text in ("deleted", "in flight", "waiting"):
            await sqs.send_message(
                QueueUrl=url,
                MessageBody=text,
                MessageAttributes={"a": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}},
            )
        taken = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=2)
        assert bodies(taken) == ["deleted", "in flight"]
        await sqs.delete_message(QueueUrl=url, ReceiptHandle=taken["Messages"][0]["ReceiptHandle"])
        if by != "replay":
            await neighbours.snapshot()
            assert neighbours.status().entries == 1
    if by == "upgrade":
        _pretend_another_version(tmp_path)
    async with opened(tmp_path, clock) as neighbours:
        sqs = connect(neighbours, "sqs")
        got = await sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=600
        )
        assert bodies(got) == ["waiting"]
        assert got["Messages"][0]["MessageAttributes"]["a"]["BinaryValue"] == b"\x00\xff"
        clock.advance(timedelta(seconds=61))
        again = await sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["ApproximateReceiveCount"]
        )
        assert bodies(again) == ["in flight"]
        assert again["Messages"][0]["Attributes"]["ApproximateReceiveCount"] == "2"
        old = taken["Messages"][1]["ReceiptHandle"]
        await sqs.delete_message(QueueUrl=url, ReceiptHandle=old)


async def test_a_long_poll_ends_when_a_message_comes(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        sqs, url = await queue(neighbours)
        began = time.monotonic()
        poll = asyncio.ensure_future(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20))
        other = connect(neighbours, "sqs")
        await other.list_queues()
        assert not poll.done()
        await other.send_message(QueueUrl=url, MessageBody="now")
        assert bodies(await poll) == ["now"]
        assert time.monotonic() - began < 10


async def test_a_long_poll_follows_the_clock(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as neighbours:
        _, url = await queue(neighbours, ReceiveMessageWaitTimeSeconds="20")
        given = {"QueueUrl": url, "MessageBody": "later", "DelaySeconds": 15}
        await neighbours.call("sqs", "SendMessage", given, **HERE)
        first = asyncio.ensure_future(neighbours.call("sqs", "ReceiveMessage", {"QueueUrl": url}, **HERE))
        await neighbours.call("sqs", "ListQueues", {}, **HERE)
        await _until_asleep(clock)
        clock.advance(timedelta(seconds=16))
        assert bodies(await first) == ["later"]
        second = asyncio.ensure_future(neighbours.call("sqs", "ReceiveMessage", {"QueueUrl": url}, **HERE))
        await _until_asleep(clock)
        clock.advance(timedelta(seconds=21))
        assert bodies(await second) == []


async def test_an_empty_receive_leaves_no_entry(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        sqs, url = await queue(neighbours)
        before = neighbours.status().entries
        for _ in range(3):
            assert bodies(await sqs.receive_message(QueueUrl=url)) == []
        assert neighbours.status().entries == before


async def test_a_move_to_the_dead_letter_queue_survives(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as neighbours:
        sqs = connect(neighbours, "sqs")
        dead = (await sqs.create_queue(QueueName="dead"))["QueueUrl"]
        policy = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead", "maxReceiveCount": "1"}
        _, url = await queue(neighbours, RedrivePolicy=json.dumps(policy), VisibilityTimeout="5")
        await sqs.send_message(QueueUrl=url, MessageBody="poison")
        assert bodies(await sqs.receive_message(QueueUrl=url)) == ["poison"]
        clock.advance(timedelta(seconds=6))
        assert bodies(await sqs.receive_message(QueueUrl=url)) == []
    async with opened(tmp_path, clock) as neighbours:
        sqs = connect(neighbours, "sqs")
        assert bodies(await sqs.receive_message(QueueUrl=dead)) == ["poison"]


async def test_a_topic_fans_out_to_a_queue_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        sqs, url = await queue(neighbours)
        sns = connect(neighbours, "sns")
        topic = (await sns.create_topic(Name="t"))["TopicArn"]
        await sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:q")
        await sns.publish(TopicArn=topic, Message="hello")
        before = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        await neighbours.snapshot()
    _pretend_another_version(tmp_path)
    async with opened(tmp_path) as neighbours:
        sqs = connect(neighbours, "sqs")
        assert await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]) == before
        (message,) = (await sqs.receive_message(QueueUrl=url))["Messages"]
        assert json.loads(message["Body"])["Message"] == "hello"


def _pretend_another_version(directory: Path) -> None:
    """As if the snapshot were of another version of moto: only the history and the messages are read."""
    with sqlite3.connect(directory / "journal.db") as database:
        (mark,) = database.execute("SELECT value FROM marks WHERE name = 'snapshot'").fetchone()
        changed = json.dumps(json.loads(mark) | {"version": "moto 0.0.1"}).encode()
        database.execute("UPDATE marks SET value = ? WHERE name = 'snapshot'", (changed,))


async def _until_waiting(neighbours: Neighbours) -> None:
    """Until a poll waits."""
    async with asyncio.timeout(20):
        while not neighbours._pollers._waiting:  # noqa: ASYNC110 - nothing tells of a waiter
            await asyncio.sleep(0.01)


async def _until_asleep(clock: Clock) -> None:
    """Until somebody waits for `clock`."""
    async with asyncio.timeout(20):
        while not clock._sleepers:  # noqa: ASYNC110 - a clock tells nobody that it has a sleeper
            await asyncio.sleep(0.01)


async def test_a_poll_of_one_queue_is_not_woken_by_another(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        sqs, url = await queue(neighbours)
        other = (await sqs.create_queue(QueueName="other"))["QueueUrl"]
        poll = asyncio.ensure_future(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20))
        await _until_waiting(neighbours)
        for _ in range(5):
            await sqs.send_message(QueueUrl=other, MessageBody="not for it")
            assert neighbours._pollers._waiting
        await sqs.send_message(QueueUrl=url, MessageBody="for it")
        assert bodies(await poll) == ["for it"]
        assert not neighbours._pollers._waiting


async def test_a_fifo_group_goes_on_when_its_message_is_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        sqs = connect(neighbours, "sqs")
        given = {"FifoQueue": "true", "ContentBasedDeduplication": "true", "VisibilityTimeout": "600"}
        url = (await sqs.create_queue(QueueName="q.fifo", Attributes=given))["QueueUrl"]
        for text in ("one", "two"):
            await sqs.send_message(QueueUrl=url, MessageBody=text, MessageGroupId="g")
        (first,) = (await sqs.receive_message(QueueUrl=url))["Messages"]
        poll = asyncio.ensure_future(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20))
        await _until_waiting(neighbours)
        await sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
        assert bodies(await poll) == ["two"]


async def test_a_notification_over_http_is_sent_once_and_not_again_by_a_replay(tmp_path: Path) -> None:
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        received.put_nowait(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with opened(tmp_path) as neighbours:
            sns = connect(neighbours, "sns")
            topic = (await sns.create_topic(Name="t"))["TopicArn"]
            await sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=f"http://127.0.0.1:{port}/")
            await sns.publish(TopicArn=topic, Message="hello")
            assert (await asyncio.wait_for(received.get(), 30))["Message"] == "hello"
        async with opened(tmp_path) as neighbours:
            sns = connect(neighbours, "sns")
            await sns.publish(TopicArn=topic, Message="again")
            assert (await asyncio.wait_for(received.get(), 30))["Message"] == "again"
        assert received.empty()
