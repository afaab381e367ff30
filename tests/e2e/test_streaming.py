"""Streamed responses as boto3 and HTTP clients see them."""

from __future__ import annotations

import http.client
import io
import urllib.parse
import zipfile
from typing import Any

from tests.e2e.arrange import Deployer

# A runtime of its own in place of Lambda's: the wrapper makes it the function's process.
RUNTIME = """
import json, os, socket, time
def ask(line, headers=""):
    connection = socket.create_connection(os.environ["AWS_LAMBDA_RUNTIME_API"].split(":"))
    connection.sendall(f"{line} HTTP/1.1\\r\\nHost: x\\r\\n{headers}\\r\\n".encode())
    return connection
while True:
    waiting = ask("GET /2018-06-01/runtime/invocation/next").makefile("rb")
    headers = {}
    while (line := waiting.readline().strip()):
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    event = json.loads(waiting.read(int(headers["content-length"])))
    url = "rawPath" in event
    kind = "application/vnd.awslambda.http-integration-response" if url else "text/plain"
    answer = ask(
        f"POST /2018-06-01/runtime/invocation/{headers['lambda-runtime-aws-request-id']}/response",
        "Lambda-Runtime-Function-Response-Mode: streaming\\r\\nTransfer-Encoding: chunked\\r\\n"
        f"Content-Type: {kind}\\r\\n",
    )
    head = json.dumps({"statusCode": 206, "headers": {"x-own": "1"}}).encode() + bytes(8) if url else b""
    for part in (head + b"one;", b"two;"):
        answer.sendall(b"%x\\r\\n%s\\r\\n" % (len(part), part))
        time.sleep(0.1)
    answer.sendall(b"0\\r\\n\\r\\n")
    answer.recv(1000)
"""


def streaming(deploy: Deployer) -> str:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("custom.py", RUNTIME)
        wrapper = zipfile.ZipInfo("wrap")
        wrapper.external_attr = 0o755 << 16
        code.writestr(wrapper, '#!/bin/sh\nexec "$1" /var/task/custom.py\n')
    variables = {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"}}
    return deploy.function("", Code={"ZipFile": archive.getvalue()}, Environment=variables)


def test_boto3_reads_a_response_as_it_comes(deploy: Deployer) -> None:
    answer = deploy.lambda_.invoke_with_response_stream(
        FunctionName=streaming(deploy), Payload=b"{}", LogType="Tail"
    )

    events: list[dict[str, Any]] = list(answer["EventStream"])
    chunks = [event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event]
    assert chunks == [b"one;", b"two;"]
    assert "LogResult" in events[-1]["InvokeComplete"]


def test_a_url_answers_as_the_function_does(deploy: Deployer) -> None:
    name = streaming(deploy)
    for statement, action, more in (
        ("url", "lambda:InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}),
        ("invoke", "lambda:InvokeFunction", {"InvokedViaFunctionUrl": True}),
    ):
        deploy.lambda_.add_permission(
            FunctionName=name, StatementId=statement, Action=action, Principal="*", **more
        )
    made = deploy.lambda_.create_function_url_config(
        FunctionName=name, AuthType="NONE", InvokeMode="RESPONSE_STREAM"
    )
    url = urllib.parse.urlsplit(made["FunctionUrl"])
    connection = http.client.HTTPConnection(url.netloc)

    connection.request("GET", url.path)
    answer = connection.getresponse()

    assert (answer.status, answer.headers["x-own"], answer.headers["transfer-encoding"]) == (
        206,
        "1",
        "chunked",
    )
    assert answer.read1() == b"one;"
    assert answer.read() == b"two;"
