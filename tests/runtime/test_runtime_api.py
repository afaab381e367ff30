"""The Runtime API as a custom runtime meets it, spoken by a function that is one."""

from __future__ import annotations

import json

from .arrange import Bench

# In the place of the runtime client: the wrapper makes it the function's process.
CUSTOM = """
import http.client, json, os
root = "/2018-06-01/runtime"
def call(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, root + path, body, headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()
found = []
found.append(call("POST", "/invocation/none/response", "1")[::2])
while True:
    status, headers, event = call("GET", "/invocation/next")
    request = headers["Lambda-Runtime-Aws-Request-Id"]
    found.append(call("POST", "/invocation/other/response", "1")[::2])
    found.append(call("POST", "/init/error", "{}")[::2])
    found.append(call("GET", "/nowhere")[::2])
    found.append(call("POST", f"/invocation/{request}/neither", "1")[::2])
    said = [[status, json.loads(body)["errorType"]] for status, body in found]
    accepted = call("POST", f"/invocation/{request}/response", json.dumps(said))
    print(accepted[0], accepted[2].decode(), end="", flush=True)
    again = call("POST", f"/invocation/{request}/response", "2")
    print("again", again[0], flush=True)
"""


async def test_calls_out_of_order_are_refused_as_lambda_does(bench: Bench) -> None:
    spec = bench.function("", variables={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"})
    wrapper = spec.code / "wrap"
    wrapper.write_text('#!/bin/sh\nexec "$1" /var/task/custom.py\n')
    wrapper.chmod(0o755)
    (spec.code / "custom.py").write_text(CUSTOM)

    outcome = await bench.invoke(spec)
    await bench.invoke(spec)

    assert json.loads(outcome.payload) == [
        [400, "InvalidRequestID"],
        [400, "InvalidRequestID"],
        [403, "InvalidStateTransition"],
        [404, "UnknownPath"],
        [404, "UnknownPath"],
    ]
    log = await bench.log(spec)
    assert '202 {"status":"OK"}\n' in log
    assert "again 400\n" in log
