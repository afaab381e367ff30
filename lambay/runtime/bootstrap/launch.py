"""Waits for a function that brings its own program, and becomes that: OS-only runtimes and container images.

Where it runs in an image nothing of its own interpreter's files is there: what it needs is loaded before.
"""

import codecs
import http.client
import json
import os
import sys

from waiting import execute, receive, start_extensions  # type: ignore[import-not-found]

for name in ("ascii", "latin-1", "iso-8859-1", "idna"):
    codecs.lookup(name)


def refuse(kind: str, message: str) -> None:
    """Tell of a function that cannot be started, as Lambda's supervisor does."""
    body = json.dumps({"errorType": kind, "errorMessage": message})
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    headers = {"Lambda-Runtime-Function-Error-Type": kind}
    connection.request("POST", "/2018-06-01/runtime/init/error", body, headers)
    connection.getresponse().read()
    sys.exit(1)


def main() -> None:
    received = receive()
    start_extensions(received["environment"])
    directory = received["directory"]
    try:
        os.chdir(directory)
    except OSError as error:
        refuse("Runtime.InvalidWorkingDir", f"chdir {directory}: {(error.strerror or '').lower()}")
    execute(received["commands"], received["environment"])
    programs = " ".join(command[0] for command in received["commands"])
    refuse("Runtime.InvalidEntrypoint", f"Couldn't find valid bootstrap(s): [{programs}]")


if __name__ == "__main__":
    main()
