"""The Telemetry API: what extensions are sent, when, and what of it is lost."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from lambay.clock import Clock
from lambay.runtime import EnvironmentSpec
from lambay.runtime.telemetry import InvalidSubscription, Telemetry

from .arrange import Bench, invocation
from .test_extensions import with_extension

LISTENER = """
import http.server, socketserver, threading
received = []
class Listener(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        received.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Listener)
threading.Thread(target=server.serve_forever, daemon=True).start()
status, headers, _ = call("POST", "register", {"events": ["INVOKE", "SHUTDOWN"]}, Lambda_Extension_Name="observer")
me = headers["Lambda-Extension-Identifier"]
def subscribe(api, schema, **more):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    body = {"schemaVersion": schema, "types": ["platform", "function", "extension"],
            "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/events"},
            "buffering": {"timeoutMs": 25, "maxItems": 1000, "maxBytes": 262144}, **more}
    connection.request("PUT", api, json.dumps(body), {"Lambda-Extension-Identifier": me})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()
"""
LOOP = """
print("from the extension", flush=True)
while True:
    event = call("GET", "event/next", Lambda_Extension_Identifier=me)[2]
    if event["eventType"] == "SHUTDOWN":
        break
end = time.time() + 1.5
while time.time() < end and not any(LAST in str(each) for each in received):
    time.sleep(0.01)
print("EVENTS" + json.dumps(received), event["shutdownReason"], flush=True)
"""
TALKER = """
import time
print("importing")
def handler(event, context):
    print("line one")
    print("line two")
    if event == "hang":
        time.sleep(60)
    if event == "die":
        import os
        os._exit(3)
    return "x" * 10
"""


def observed(
    bench: Bench,
    api: str = '"/2022-07-01/telemetry", "2022-07-01"',
    last: str = "platform.report",
    **changes: Any,
) -> EnvironmentSpec:
    program = LISTENER + f"print(subscribe({api}), flush=True)\n" + LOOP.replace("LAST", f'"{last}"')
    return with_extension(bench, TALKER, program, **changes)


async def events_of(
    bench: Bench, spec: EnvironmentSpec, event: Any = None
) -> tuple[list[dict[str, Any]], str]:
    """What the extension had received at its end, and the reason of the shutdown."""
    environment = await bench.fleet.acquire(spec)
    await bench.fleet.invoke(environment, invocation(spec, event))
    bench.fleet.release(environment)
    await bench.fleet.drain(spec.key)
    await bench.fleet.settled()
    log = await bench.log(spec)
    told = next(line for line in log.splitlines() if line.startswith("EVENTS"))
    text, _, reason = told.removeprefix("EVENTS").rpartition(" ")
    return json.loads(text), reason


def of_kind(events: list[dict[str, Any]], kind: str) -> list[Any]:
    return [event["record"] for event in events if event["type"] == kind]


async def test_an_extension_is_sent_what_happens(bench: Bench) -> None:
    spec = observed(bench)

    events, reason = await events_of(bench, spec)

    assert reason == "spindown"
    kinds = [event["type"] for event in events]
    platform = [kind for kind in kinds if kind.startswith("platform.")]
    assert platform == [
        "platform.initStart",
        "platform.telemetrySubscription",
        "platform.initRuntimeDone",
        "platform.initReport",
        "platform.extension",
        "platform.start",
        "platform.runtimeDone",
        "platform.report",
    ]
    assert of_kind(events, "platform.initStart")[0]["phase"] == "init"
    subscribed = {"name": "observer", "state": "Subscribed", "types": ["platform", "function", "extension"]}
    assert of_kind(events, "platform.telemetrySubscription") == [subscribed]
    assert of_kind(events, "platform.initRuntimeDone")[0]["status"] == "success"
    assert of_kind(events, "platform.initReport")[0]["metrics"]["durationMs"] > 0
    assert of_kind(events, "platform.extension") == [
        {"name": "observer", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    ]
    (done,) = of_kind(events, "platform.runtimeDone")
    assert (done["status"], done["metrics"]["producedBytes"]) == ("success", 12)
    assert [span["name"] for span in done["spans"]] == ["responseLatency", "responseDuration"]
    (report,) = of_kind(events, "platform.report")
    assert report["metrics"]["memorySizeMB"] == 512
    assert report["requestId"] == done["requestId"] == of_kind(events, "platform.start")[0]["requestId"]
    assert [line for line in of_kind(events, "function") if "line" in line] == ["line one", "line two"]
    assert "from the extension" in of_kind(events, "extension")
    assert all(event["time"].endswith("Z") for event in events)


@pytest.mark.parametrize(
    ("event", "status", "error", "reason"),
    [("hang", "timeout", "Sandbox.Timedout", "timeout"), ("die", "error", "Runtime.ExitError", "failure")],
)
async def test_extensions_are_told_of_a_timeout_and_a_crash(
    bench: Bench, event: str, status: str, error: str, reason: str
) -> None:
    events, told = await events_of(bench, observed(bench, timeout_s=1), event)

    assert told == reason
    (done,) = of_kind(events, "platform.runtimeDone")
    assert (done["status"], done["errorType"]) == (status, error)
    assert of_kind(events, "platform.report")[0]["status"] == status


async def test_the_logs_api_has_its_own_events(bench: Bench) -> None:
    events, _ = await events_of(bench, observed(bench, '"/2020-08-15/logs", "2021-03-18"'))

    kinds = {event["type"] for event in events}
    assert {
        "platform.logsSubscription",
        "platform.start",
        "platform.end",
        "platform.report",
        "function",
    } <= kinds
    assert not kinds & {"platform.initStart", "platform.telemetrySubscription"}


async def test_a_subscription_comes_during_init_from_an_extension(bench: Bench) -> None:
    spec = bench.function(
        """
        import http.client, json, os
        def put(identifier):
            connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
            body = {"schemaVersion": "2022-07-01", "types": ["platform"],
                    "destination": {"protocol": "TCP", "port": 9999}}
            connection.request("PUT", "/2022-07-01/telemetry", json.dumps(body),
                               {"Lambda-Extension-Identifier": identifier})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        connection.request("POST", "/2020-01-01/extension/register", json.dumps({"events": []}),
                           {"Lambda-Extension-Name": "inside"})
        me = connection.getresponse().headers["Lambda-Extension-Identifier"]
        import threading
        def wait():
            own = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
            own.request("GET", "/2020-01-01/extension/event/next", headers={"Lambda-Extension-Identifier": me})
            own.getresponse()
        threading.Thread(target=wait, daemon=True).start()
        early = put("nobody"), put(me)
        def handler(event, context):
            return early, put(me)
        """
    )

    early, late = await bench.answer(spec)

    assert early[0][0] == 403
    assert early[1] == [200, "OK"]
    assert (late[0], late[1]["errorType"]) == (403, "Telemetry.SubscriptionClosed")


class Sink:
    """A listener on a port of this process in place of an extension's."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.arrived = asyncio.Event()
        self.status = 200

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        if self.status == 200:
            self.batches.append(body)
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.status)
        writer.close()
        self.arrived.set()

    async def open(self, port: int) -> Any:
        return await asyncio.open_connection("127.0.0.1", port)

    def subscription(self, **changes: Any) -> bytes:
        body = {
            "schemaVersion": "2022-12-13",
            "types": ["function"],
            "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{self.port}"},
            "buffering": {"timeoutMs": 30_000},
        }
        return json.dumps(body | changes).encode()


@pytest.fixture
async def sink() -> Any:
    made = Sink()
    await made.start()
    yield made
    made.server.close()


async def test_a_batch_goes_out_when_it_is_full_or_asked_for(sink: Sink) -> None:
    telemetry = Telemetry(Clock(), sink.open)
    telemetry.subscribe("one", "telemetry", sink.subscription())

    for number in range(1001):
        telemetry.emit("function", str(number))
    await sink.arrived.wait()
    await telemetry.flush()

    assert [len(batch) for batch in sink.batches] == [1000, 1]
    telemetry.stop()


async def test_a_batch_goes_out_when_it_is_large(sink: Sink) -> None:
    telemetry = Telemetry(Clock(), sink.open)
    telemetry.subscribe("one", "telemetry", sink.subscription())

    for _ in range(3):
        telemetry.emit("function", "x" * 100_000)
    await sink.arrived.wait()

    assert len(sink.batches[0]) == 2
    telemetry.stop()


async def test_a_frozen_environment_is_sent_nothing(sink: Sink) -> None:
    telemetry = Telemetry(Clock(), sink.open)
    telemetry.subscribe("one", "telemetry", sink.subscription())
    telemetry.hold(True)

    telemetry.emit("function", "late")
    await telemetry.flush()
    held = list(sink.batches)
    telemetry.hold(False)
    await telemetry.flush()

    assert held == []
    assert [event["record"] for event in sink.batches[0]] == ["late"]
    telemetry.stop()


async def test_who_falls_behind_loses_the_oldest_and_is_told(sink: Sink) -> None:
    telemetry = Telemetry(Clock(), sink.open)
    telemetry.subscribe("one", "telemetry", sink.subscription())
    telemetry.end_subscriptions()
    sink.status = 503

    for number in range(2500):
        telemetry.emit("function", str(number))
        if number % 500 == 0:
            await telemetry.flush()
    sink.status = 200
    await telemetry.flush()

    events = [event for batch in sink.batches for event in batch]
    dropped = [
        event["record"]["droppedRecords"] for event in events if event["type"] == "platform.logsDropped"
    ]
    kept = [event["record"] for event in events if event["type"] == "function"]
    assert kept[-1] == "2499"
    assert len(kept) + sum(dropped) == 2500
    assert sum(dropped) >= 500
    telemetry.stop()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"schemaVersion": "1"}, "schemaVersion: '1' is not one of"),
        ({"types": []}, "types should not be empty"),
        ({"types": ["other"]}, "types: 'other' is not one of platform, function, extension"),
        ({"buffering": {"maxItems": 10}}, "buffering.maxItems: 10 is not within 1000 and 10000"),
        ({"buffering": {"timeoutMs": "x"}}, "buffering.timeoutMs: 'x' is not within"),
        ({"destination": {"protocol": "UDP"}}, "destination.protocol: 'UDP' is not HTTP or TCP"),
        ({"destination": {"protocol": "TCP"}}, "destination.port: None is not within"),
        (
            {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain"}},
            "URI port is not provided",
        ),
        ({"destination": {"protocol": "HTTP", "URI": "http://10.0.0.1:80"}}, "destination.URI should be"),
    ],
)
async def test_a_wrong_subscription_is_told_by_field(
    sink: Sink, changes: dict[str, Any], complaint: str
) -> None:
    telemetry = Telemetry(Clock(), sink.open)

    with pytest.raises(InvalidSubscription) as refused:
        telemetry.subscribe("one", "telemetry", sink.subscription(**changes))

    assert complaint in str(refused.value)


async def test_lines_go_over_tcp(sink: Sink) -> None:
    lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await lines.put(line)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    telemetry = Telemetry(Clock(), sink.open)
    telemetry.subscribe("one", "telemetry", sink.subscription(destination={"protocol": "TCP", "port": port}))

    for number in range(2):
        telemetry.emit("function", str(number))
        await telemetry.flush()

    assert [json.loads(await lines.get())["record"] for _ in range(2)] == ["0", "1"]
    telemetry.stop()
    server.close()


async def test_an_environment_whose_runtime_is_not_forked_has_telemetry_too(bench: Bench) -> None:
    spec = replace(observed(bench), variables={"PYTHONHASHSEED": "1"})

    events, _ = await events_of(bench, spec)

    assert [line for line in of_kind(events, "function") if "line" in line] == ["line one", "line two"]
