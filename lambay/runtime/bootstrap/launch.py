"""Waits for a function of an OS-only runtime and becomes its `bootstrap`."""

import http.client
import json
import os
import sys

from waiting import execute, receive, start_extensions  # type: ignore[import-not-found]


def refuse(programs: str) -> None:
    """Tell of a function without a program, as Lambda's supervisor does."""
    kind = "Runtime.InvalidEntrypoint"
    body = json.dumps({"errorType": kind, "errorMessage": f"Couldn't find valid bootstrap(s): [{programs}]"})
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    headers = {"Lambda-Runtime-Function-Error-Type": kind}
    connection.request("POST", "/2018-06-01/runtime/init/error", body, headers)
    connection.getresponse().read()


def main() -> None:
    received = receive()
    start_extensions(received["environment"])
    execute(received["commands"], received["environment"])
    refuse(" ".join(command[0] for command in received["commands"]))
    sys.exit(1)


if __name__ == "__main__":
    main()
