"""The first code in a sandbox: waits for the function, becomes it, and runs AWS's runtime client.

It runs under the function's interpreter (Python 3.8 and later), which has nothing of Lambay. Its standard
input is a socket to Lambay: it writes one byte once everything is imported and reads one JSON object,
`{"environment": {...}, "exec": [...] or null}`. With `exec`, that command is run with the environment
instead: an interpreter that has started already cannot take on PYTHON* and LD_* variables.
"""

import json
import os
import resource
import socket
import sys
import time
from typing import Any

# The sandbox has them, Lambay has not.
import awslambdaric.__main__ as client  # type: ignore[import-not-found]
import awslambdaric.bootstrap as loop  # type: ignore[import-not-found]

TASK_ROOT = "/var/task"


def receive() -> Any:
    with socket.socket(fileno=0) as channel:
        channel.sendall(b"R")
        parts = []
        while True:
            part = channel.recv(65536)
            if not part:
                break
            parts.append(part)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, channel.detach())
        os.close(null)
    if not parts:
        # Lambay went away before this sandbox was needed.
        os._exit(0)
    return json.loads(b"".join(parts))


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def search_path() -> "list[str]":
    """Lambda's order: the function, its layers, the runtime's packages, the standard library."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    first = [TASK_ROOT, f"/opt/python/lib/{version}/site-packages", "/opt/python"]
    given = os.environ.get("PYTHONPATH", "").split(":")
    rest = [path for path in sys.path if path not in (*first, "/var/rapid", "")]
    runtime = [path for path in given if path and path not in first]
    return first + runtime + [path for path in rest if path not in runtime]


def run() -> None:
    os.chdir(TASK_ROOT)
    sys.path[:] = search_path()
    sys.argv[:] = ["/var/runtime/bootstrap.py", os.environ["_HANDLER"]]
    # Its own descriptor for whole log records, which the runtime client closes at its end.
    os.environ["_LAMBDA_TELEMETRY_LOG_FD"] = str(os.dup(1))
    client.main(sys.argv)


def main() -> None:
    limit()
    if sys.argv[1:] == ["run"]:
        run()
        return
    received = receive()
    environment = received["environment"]
    if received["exec"] is not None:
        os.chdir(TASK_ROOT)
        os.execve(received["exec"][0], received["exec"], environment)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.path_importer_cache.clear()
    if environment.get("AWS_LAMBDA_LOG_FORMAT") == "JSON" or "AWS_LAMBDA_LOG_LEVEL" in environment:
        import importlib

        # It reads them when it is imported.
        importlib.reload(loop)
    run()


main()
