"""Logs Insights: the language, what queries return, and how they are run."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
from collections import Counter
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.observe import Logs
from lambay.observe import log_schema as schema
from lambay.observe.insights.language import InvalidQuery, read

from .conftest import ACCOUNT, Client

GROUP = "/aws/lambda/shop"
MINUTE = 60_000
BASE = 1_795_000_000_000 // (5 * MINUTE) * (5 * MINUTE)
REQUEST = "8d2a1c0e-1111-4222-8333-9a0b1c2d3e4f"


async def ask(client: Client, logs: Logs, text: str, *groups: str, **more: Any) -> list[dict[str, str]]:
    """The rows of a query over everything, without @ptr."""
    asked = {"logGroupNames": list(groups or (GROUP,)), "startTime": 0, "endTime": 4_000_000_000} | more
    started = await client.start_query(queryString=text, **asked)
    query = logs._insights.find(ACCOUNT, "eu-west-1", started["queryId"])
    assert query is not None
    assert query.task is not None
    await query.task
    answer = await client.get_query_results(queryId=started["queryId"])
    assert answer["status"] == "Complete", answer
    return [
        {each["field"]: each["value"] for each in row if each["field"] != "@ptr"} for row in answer["results"]
    ]


@pytest.fixture
async def events(client: Client) -> list[dict[str, Any]]:
    """Twelve JSON events, one a minute: mounts and errors."""
    found: list[dict[str, Any]] = []
    for minute in range(12):
        kind = "efs_error" if minute % 4 == 3 else "efs_mount"
        event: dict[str, Any] = {
            "timestamp": minute,
            "event_type": kind,
            "duration_ms": 100 + 10 * minute,
            "success": kind == "efs_mount",
            "user": {"name": f"u{minute % 3}", "roles": ["a", "b"]},
        }
        if kind == "efs_error":
            event["error_message"] = "timeout" if minute < 8 else "denied"
        found.append(event)
        await client.write(GROUP, f"s{minute % 2}", json.dumps(event) + "\n", at=BASE + minute * MINUTE)
    return found


async def test_a_property_in_many_places_of_one_stats(client: Client, logs: Logs) -> None:
    """Before the JSON stands text or nothing; numbers are numbers or texts, or missing; some lines are no JSON."""
    numbers: dict[str, list[float]] = {"a": [], "b": []}
    for index in range(60):
        kind, value = "ab"[index % 2], round(random.Random(index).uniform(-50, 50), 3)
        event: dict[str, Any] = {"kind": kind, "at": {"ms": str(value) if index % 5 == 0 else value}}
        if index % 7 == 0:
            event["at"] = {}
        else:
            numbers[kind].append(value)
        await client.write(
            GROUP, "s", ("2026 INFO é " if index % 3 else "") + json.dumps(event), at=BASE + index
        )
        await client.write(GROUP, "s", f"kind a {index} {{", at=BASE + index)

    for prelude in ("", "fields at.ms * 1 as unused | ", "limit 10000 | ", "dedup @ptr | "):
        rows = await ask(
            client,
            logs,
            prelude + "filter ispresent(kind) | fields kind as k | stats count(*) as n, count(at.ms) as m, "
            "sum(at.ms) as s, min(at.ms) + max(at.ms) as x, pct(at.ms, 90) as p, stddev(at.ms) as d, "
            "count_distinct(kind) as u by kind, concat(k, '!') as c | sort kind",
        )

        assert [(row["kind"], row["c"], row["n"], row["u"]) for row in rows] == [
            ("a", "a!", "30", "1"),
            ("b", "b!", "30", "1"),
        ]
        for row in rows:
            own = sorted(numbers[row["kind"]])
            assert int(row["m"]) == len(own)
            assert float(row["s"]) == pytest.approx(sum(own), abs=1e-3)
            assert float(row["x"]) == pytest.approx(own[0] + own[-1], abs=1e-3)
            assert float(row["p"]) == own[-(-len(own) * 9 // 10) - 1]
            assert float(row["d"]) == pytest.approx(statistics.stdev(own), abs=1e-3)


async def test_the_documents_query_of_mount_times(
    client: Client, logs: Logs, events: list[dict[str, Any]]
) -> None:
    rows = await ask(
        client,
        logs,
        """-- Average EFS mount time
fields @timestamp, duration_ms
| filter event_type = "efs_mount"
| stats avg(duration_ms) as avg_mount_time by bin(5m)
""",
    )

    wanted = []
    for start in (0, 5, 10):
        own = [
            event["duration_ms"]
            for minute, event in enumerate(events)
            if event["event_type"] == "efs_mount" and start <= minute < start + 5
        ]
        wanted.append(statistics.fmean(own))
    assert [float(row["avg_mount_time"]) for row in rows] == pytest.approx(wanted, abs=1e-4)
    assert all(row["bin(5m)"].endswith(":00.000") for row in rows)


async def test_the_documents_query_of_errors(
    client: Client, logs: Logs, events: list[dict[str, Any]]
) -> None:
    rows = await ask(
        client,
        logs,
        """-- EFS errors
fields @timestamp, error_message
| filter event_type = "efs_error"
| stats count() by error_message
""",
    )

    assert {row["error_message"]: row["count()"] for row in rows} == {"timeout": "2", "denied": "1"}


@pytest.mark.usefixtures("events")
async def test_what_a_query_shows_without_fields(client: Client, logs: Logs) -> None:
    rows = await ask(client, logs, "limit 1")

    assert rows == [{"@timestamp": rows[0]["@timestamp"], "@message": rows[0]["@message"]}]
    assert json.loads(rows[0]["@message"])["timestamp"] == 11


ROWS: list[tuple[str, list[dict[str, str]]]] = [
    ("stats count(*)", [{"count(*)": "12"}]),
    ('filter event_type like "error" | stats count(*) as n', [{"n": "3"}]),
    ("filter event_type like /^efs_e/ | stats count(*) as n", [{"n": "3"}]),
    ("filter event_type =~ /(?i)ERROR/ | stats count(*) as n", [{"n": "3"}]),
    ("filter event_type not like /error/ | stats count(*) as n", [{"n": "9"}]),
    ("filter duration_ms > 150 and duration_ms <= 180 | stats count(*) as n", [{"n": "3"}]),
    ('filter duration_ms = "150" or duration_ms = 160 | stats count(*) as n', [{"n": "2"}]),
    ("filter duration_ms in [100, 110, 5] | stats count(*) as n", [{"n": "2"}]),
    ("filter error_message not in ['denied'] | stats count(*) as n", [{"n": "11"}]),
    ("filter ispresent(error_message) | stats count(*) as n", [{"n": "3"}]),
    ("filter not ispresent(error_message) | stats count(*) as n", [{"n": "9"}]),
    ("filter success = 1 | stats count(success) as n", [{"n": "9"}]),
    (
        "stats count_distinct(user.name) as users, sum(duration_ms) as total, min(duration_ms), max(duration_ms)",
        [{"users": "3", "total": "1860", "min(duration_ms)": "100", "max(duration_ms)": "210"}],
    ),
    (
        "stats pct(duration_ms, 50) as p50, pct(duration_ms, 99) as p99, median(duration_ms) as m",
        [{"p50": "150", "p99": "210", "m": "150"}],
    ),
    ("stats earliest(duration_ms) as e, latest(duration_ms) as l", [{"e": "100", "l": "210"}]),
    ("stats sortsFirst(event_type) as f, sortsLast(event_type) as l", [{"f": "efs_error", "l": "efs_mount"}]),
    ("stats max(duration_ms) - min(duration_ms) as spread", [{"spread": "110"}]),
    (
        "stats count(*) as n by user.name | sort n desc, user.name | limit 1",
        [{"user.name": "u0", "n": "4"}],
    ),
    ("stats count(*) as n by bin(5m) | stats max(n) as most, count(*) as bins", [{"most": "5", "bins": "3"}]),
    ("fields duration_ms / 1000 as s | sort @timestamp | limit 1", [{"s": "0.1"}]),
    ("fields user.roles.0 as role, strlen(event_type) as n | limit 1", [{"role": "a", "n": "9"}]),
    (
        "fields concat(event_type, '-', toupper(user.name)) as c | sort @timestamp asc | limit 1",
        [{"c": "efs_mount-U0"}],
    ),
    ("fields coalesce(error_message, 'none') as e | sort @timestamp | limit 1 | display e", [{"e": "none"}]),
    ("fields @timestamp, duration_ms as d | display d | sort d desc | limit 1", [{"d": "210"}]),
    (
        "fields duration_ms % 100 as rest, greatest(duration_ms, 200) as g, -duration_ms as m, 2 ^ 3 as p "
        "| sort duration_ms desc | limit 1",
        [{"rest": "10", "g": "210", "m": "-210", "p": "8"}],
    ),
    ("sort @timestamp asc | limit 4 | filter duration_ms > 100 | stats count(*) as n", [{"n": "3"}]),
    ("dedup event_type | sort @timestamp | display event_type", [{"event_type": "efs_mount"}]),
    ("fields substr(event_type, 4, 3) as s, replace(event_type, 'efs', 'x') as r | sort @timestamp | limit 1",
     [{"s": "mou", "r": "x_mount"}]),
    ("fields toMillis(@timestamp) - toMillis(@timestamp) as zero | limit 1", [{"zero": "0"}]),
    ("filter strcontains(@message, 'denied') | stats count(*) as n", [{"n": "1"}]),
    ("filter @logStream = 's1' | stats count(*) as n", [{"n": "6"}]),
    ("stats count(*) as n by @log", [{"@log": f"{ACCOUNT}:{GROUP}", "n": "12"}]),
    ("filter isempty(error_message) | stats count(*) as n", [{"n": "9"}]),
    ("fields jsonParse(@message) as j | fields j.user.name as u | display u | sort @timestamp | limit 1",
     [{"u": "u0"}]),
    ("filter nosuch = 1 | stats count(*) as n", [{"n": "0"}]),
    ("where duration_ms > 100 | where @logStream = 's1' | stats count(*) as n", [{"n": "6"}]),
    ("# a comment\nstats count(*) as n # another\n", [{"n": "12"}]),
]  # fmt: skip


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(("text", "wanted"), ROWS)
async def test_a_query(client: Client, logs: Logs, text: str, wanted: list[dict[str, str]]) -> None:
    rows = await ask(client, logs, text)

    assert rows[: len(wanted)] == wanted
    assert len(rows) == len(wanted) or "dedup" in text


@pytest.mark.usefixtures("events")
async def test_dedup_keeps_the_first_in_order(client: Client, logs: Logs) -> None:
    rows = await ask(client, logs, "fields event_type, duration_ms | sort @timestamp desc | dedup event_type")

    assert sorted((row["event_type"], row["duration_ms"]) for row in rows) == [
        ("efs_error", "210"),
        ("efs_mount", "200"),
    ]


async def test_parse_by_pattern_and_by_expression(client: Client, logs: Logs) -> None:
    for user, method, latency in (("ann", "GET", 12), ("bob", "PUT", 30), ("ann", "GET", 8)):
        await client.write(GROUP, "s", f"user={user}, method:{method}, latency := {latency}")

    by_glob = await ask(
        client,
        logs,
        'parse @message "user=*, method:*, latency := *" as @user, @method, @latency '
        "| stats avg(@latency) as mean by @method, @user | sort mean desc",
    )
    by_regex = await ask(
        client,
        logs,
        r"parse @message /user=(?<who>\w+), .* latency := (?<ms>\d+)/ | filter ms > 10 "
        "| display who, ms | sort ms asc",
    )

    assert by_glob == [
        {"@method": "PUT", "@user": "bob", "mean": "30"},
        {"@method": "GET", "@user": "ann", "mean": "10"},
    ]
    assert by_regex == [{"who": "ann", "ms": "12"}, {"who": "bob", "ms": "30"}]


async def test_the_fields_of_functions_logs(client: Client, logs: Logs) -> None:
    await client.write(
        GROUP,
        "2026/11/21/[$LATEST]a",
        "INIT_START Runtime Version: python:3.11.v1\n",
        f"START RequestId: {REQUEST} Version: $LATEST\n",
        f"2026-11-21T02:00:00.000Z\t{REQUEST}\tINFO\t" + '{"step": "load"}\n',
        f"END RequestId: {REQUEST}\n",
        f"REPORT RequestId: {REQUEST}\tDuration: 102.25 ms\tBilled Duration: 303 ms\tMemory Size: 512 MB\t"
        "Max Memory Used: 64 MB\tInit Duration: 200.50 ms\t\n",
        json.dumps(
            {
                "time": "2026-11-21T02:00:00.000Z",
                "type": "platform.report",
                "record": {"requestId": REQUEST, "metrics": {"durationMs": 7.5, "maxMemoryUsedMB": 70}},
            }
        ),
    )

    reports = await ask(
        client,
        logs,
        'filter @type = "REPORT" | fields @duration, @billedDuration, @initDuration, @memorySize / 1000 / 1000 as mb, '
        "@maxMemoryUsed as used | sort @duration desc",
    )
    by_request = await ask(client, logs, "stats count(*) as lines by @requestId | sort lines desc")
    steps = await ask(client, logs, 'filter step = "load" | stats count(*) as n')

    assert reports == [
        {
            "@duration": "102.25",
            "@billedDuration": "303",
            "@initDuration": "200.5",
            "mb": "512",
            "used": "64000000",
        },
        {"@duration": "7.5", "used": "70000000"},
    ]
    assert by_request == [{"@requestId": REQUEST, "lines": "5"}, {"lines": "1"}]
    assert steps == [{"n": "1"}]


async def test_several_groups_time_and_limit(client: Client, logs: Logs) -> None:
    for group in ("/a", "/b"):
        for second in range(10):
            await client.write(group, "s", f"line {second}", at=BASE + second * 1000)

    both = await ask(client, logs, "stats count(*) as n by @log | sort @log", "/a", "/b")
    some = await ask(
        client,
        logs,
        "fields @message",
        "/a",
        startTime=BASE // 1000 + 2,
        endTime=BASE // 1000 + 5,
        limit=3,
    )

    assert both == [{"@log": f"{ACCOUNT}:/a", "n": "10"}, {"@log": f"{ACCOUNT}:/b", "n": "10"}]
    assert [row["@message"] for row in some] == ["line 5", "line 4", "line 3"]


async def test_counts_agree_with_an_independent_count(client: Client, logs: Logs) -> None:
    seed = random.randrange(1 << 32)
    draw = random.Random(seed)
    wanted: Counter[tuple[int, str]] = Counter()
    for _ in range(300):
        at = BASE + draw.randrange(3_600_000)
        level = draw.choice(["INFO", "WARN", "ERROR"])
        wanted[at // (5 * MINUTE), level] += 1
        await client.write(GROUP, "s", json.dumps({"level": level}), at=at)

    rows = await ask(client, logs, "stats count(*) as n by toMillis(bin(5m)) / 300000 as bin, level")

    assert {(int(row["bin"]), row["level"]): int(row["n"]) for row in rows} == dict(wanted), f"seed {seed}"


@pytest.mark.usefixtures("events")
async def test_statistics_pages_records_and_fields(client: Client, logs: Logs) -> None:
    started = await client.start_query(
        logGroupName=GROUP, startTime=0, endTime=4_000_000_000, queryString="filter success = 0 | limit 2"
    )
    query = logs._insights.find(ACCOUNT, "eu-west-1", started["queryId"])
    assert query is not None
    assert query.task is not None
    await query.task
    first = await client.get_query_results(queryId=started["queryId"], maxItems=1)
    second = await client.get_query_results(
        queryId=started["queryId"], maxItems=1, nextToken=first["nextToken"]
    )
    pointer = next(each["value"] for each in first["results"][0] if each["field"] == "@ptr")
    record = (await client.get_log_record(logRecordPointer=pointer))["logRecord"]
    fields = (await client.get_log_group_fields(logGroupName=GROUP))["logGroupFields"]
    (described,) = (await client.describe_queries(logGroupName=GROUP))["queries"]

    assert (first["statistics"]["recordsScanned"], first["statistics"]["recordsMatched"]) == (12, 2)
    assert first["statistics"]["bytesScanned"] > 0
    assert len(first["results"]) == len(second["results"]) == 1
    assert "nextToken" not in second
    assert record["error_message"] == "denied"
    assert {"name": "error_message", "percent": 25} in fields
    assert {"name": "user.name", "percent": 100} in fields
    assert described["status"] == "Complete"
    assert "terminal status" in (await client.refused("stop_query", queryId=started["queryId"])).message


async def test_a_query_can_be_stopped(client: Client, logs: Logs) -> None:
    await client.write(GROUP, "s", "x")
    started = await client.start_query(
        logGroupName=GROUP, startTime=0, endTime=4_000_000_000, queryString="fields @message"
    )
    query = logs._insights.find(ACCOUNT, "eu-west-1", started["queryId"])
    assert query is not None
    assert query.task is not None

    assert (await client.stop_query(queryId=started["queryId"])) == {"success": True}
    await query.task
    assert (await client.get_query_results(queryId=started["queryId"]))["status"] == "Cancelled"


@pytest.fixture
def nothing_is_purged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was deleted or has expired lies on the disk still."""
    monkeypatch.setattr(schema, "purge", lambda connection, limit: False)
    monkeypatch.setattr(schema, "expire", lambda connection, group_id, now_ms, limit: 0)


async def late(client: Client, logs: Logs, monkeypatch: pytest.MonkeyPatch, text: str, change: Any) -> Any:
    """The statistics and results of a query that has its turn only after `change`."""
    run, turn = logs._insights._readers.run, asyncio.Event()

    async def wait_and_run(work: Any) -> Any:
        await turn.wait()
        return await run(work)

    monkeypatch.setattr(logs._insights._readers, "run", wait_and_run)
    started = await client.start_query(
        logGroupName=GROUP, startTime=0, endTime=4_000_000_000, queryString=text
    )
    await change
    turn.set()
    query = logs._insights.find(ACCOUNT, "eu-west-1", started["queryId"])
    assert query is not None
    assert query.task is not None
    await query.task
    answer = await client.get_query_results(queryId=started["queryId"])
    assert answer["status"] == "Complete"
    return answer


@pytest.mark.usefixtures("nothing_is_purged")
async def test_a_group_deleted_before_the_querys_turn_is_empty(
    client: Client, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.write(GROUP, "s", "x", "y")
    answer = await late(
        client, logs, monkeypatch, "fields @message", client.delete_log_group(logGroupName=GROUP)
    )

    assert (answer["results"], answer["statistics"]["recordsScanned"]) == ([], 0)


@pytest.mark.usefixtures("nothing_is_purged")
async def test_a_query_goes_by_the_retention_of_its_turn(
    client: Client, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.write(GROUP, "s", "old", at=client.now - 2 * 86_400_000)
    await client.write(GROUP, "s", "new")
    shorter = client.put_retention_policy(logGroupName=GROUP, retentionInDays=1)
    answer = await late(client, logs, monkeypatch, "display @message", shorter)

    assert [row[0]["value"] for row in answer["results"]] == ["new"]
    assert answer["statistics"]["recordsScanned"] == 1


@pytest.mark.usefixtures("nothing_is_purged")
async def test_a_deleted_streams_events_are_neither_scanned_nor_have_fields(
    client: Client, logs: Logs
) -> None:
    await client.write(GROUP, "gone", '{"gone": 1}')
    await client.write(GROUP, "here", '{"here": 1}')
    await client.delete_log_stream(logGroupName=GROUP, logStreamName="gone")
    started = await client.start_query(
        logGroupName=GROUP, startTime=0, endTime=4_000_000_000, queryString="fields @message"
    )
    query = logs._insights.find(ACCOUNT, "eu-west-1", started["queryId"])
    assert query is not None
    assert query.task is not None
    await query.task
    told = (await client.get_query_results(queryId=started["queryId"]))["statistics"]
    fields = (await client.get_log_group_fields(logGroupName=GROUP))["logGroupFields"]

    assert (told["recordsScanned"], told["recordsMatched"]) == (1, 1)
    assert [each["name"] for each in fields if each["name"][0] != "@"] == ["here"]


async def test_query_definitions(client: Client) -> None:
    made = await client.put_query_definition(name="errors", queryString="filter x = 1", logGroupNames=[GROUP])
    await client.put_query_definition(
        name="errors/2", queryString="limit 1", queryDefinitionId=made["queryDefinitionId"]
    )
    (found,) = (await client.describe_query_definitions(queryDefinitionNamePrefix="err"))["queryDefinitions"]

    assert (found["name"], found["queryString"]) == ("errors/2", "limit 1")
    await client.delete_query_definition(queryDefinitionId=made["queryDefinitionId"])
    error = await client.refused("delete_query_definition", queryDefinitionId=made["queryDefinitionId"])
    assert error.code == "ResourceNotFoundException"


REFUSED = [
    ("", "empty"),
    ("select * from logs", "begins with a command"),
    ("fields @message | unmask x", "unmask is not supported"),
    ("pattern @message", "pattern is not supported"),
    ("fields @timestamp | diff", "diff is not supported"),
    ("stats count(*) by", "ends too early"),
    ("filter a = ", "ends too early"),
    ("filter a ~ 1", "character 10"),
    ("fields nosuch(a)", "there is no function nosuch()"),
    ("fields count(*)", "stands in stats only"),
    ("stats duration", "stands alone"),
    ("filter a like /(/", "no regular expression"),
    ('parse @message "a=* b=*" as x', "2 wildcards (*) and there are 1 names"),
    ("parse @message /a=(.*)/", "no named groups"),
    ("stats count(*) by bin(5)", "bin() takes a period"),
    ("stats count(*) by a | stats count(*) by b | stats count(*)", "at most 2 stats"),
    ("limit 20000", "limit: 20000"),
    ("fields strlen()", "strlen() takes 1 arguments"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
async def test_what_is_no_query_is_refused_with_its_place(client: Client, text: str, said: str) -> None:
    await client.create_log_group(logGroupName=GROUP)
    with pytest.raises(AWSError) as caught:
        await client.start_query(logGroupName=GROUP, startTime=0, endTime=4_000_000_000, queryString=text)

    assert caught.value.code == "MalformedQueryException"
    assert said in caught.value.message
    assert "location" in caught.value.members["queryCompileError"]


def test_a_pipe_within_a_text_or_expression_is_no_command() -> None:
    assert len(read('filter @message like /x|pattern y/ or @message like "a | diff"')) == 1


def test_an_unreadable_query_says_where() -> None:
    with pytest.raises(InvalidQuery) as caught:
        read("fields a | filter b ===")

    assert caught.value.start == 21
