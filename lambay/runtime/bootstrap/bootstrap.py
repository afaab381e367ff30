"""The first code in a Python sandbox: waits for the function, becomes it, and runs AWS's runtime client.

It runs under the function's interpreter (Python 3.8 and later), which has nothing of Lambay but this
directory. With `run` as its argument it finds everything in its environment: an interpreter that has
started already cannot take on PYTHON* and LD_* variables, and a wrapper script starts a new one.
"""

import os
import sys
import time
from typing import Any

# The sandbox has them, Lambay has not.
import awslambdaric.__main__ as client  # type: ignore[import-not-found]
import awslambdaric.bootstrap as loop  # type: ignore[import-not-found]
from waiting import execute, receive, start_extensions  # type: ignore[import-not-found]

TASK_ROOT = "/var/task"


def search_path() -> Any:
    """Lambda's order: the function, its layers, the runtime's packages, the standard library."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    first = [TASK_ROOT, f"/opt/python/lib/{version}/site-packages", "/opt/python"]
    given = os.environ.get("PYTHONPATH", "").split(":")
    runtime = [path for path in given if path and path not in first]
    rest = [path for path in sys.path if path not in (*first, *runtime, "/var/rapid", "")]
    return first + runtime + rest


def run() -> None:
    os.chdir(TASK_ROOT)
    sys.path[:] = search_path()
    sys.argv[:] = ["/var/runtime/bootstrap.py", os.environ["_HANDLER"]]
    # Its own descriptor for whole log records, which the runtime client closes at its end.
    os.environ["_LAMBDA_TELEMETRY_LOG_FD"] = str(os.dup(1))
    client.main(sys.argv)


def become(environment: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.path_importer_cache.clear()
    if environment.get("AWS_LAMBDA_LOG_FORMAT") == "JSON" or "AWS_LAMBDA_LOG_LEVEL" in environment:
        import importlib

        # It reads them when it is imported.
        importlib.reload(loop)


def main() -> None:
    """Wait for the function in a process that can become it."""
    received = receive()
    start_extensions(received["environment"])
    if received["commands"] is not None:
        os.chdir(received["directory"])
        execute(received["commands"], received["environment"])
        sys.exit(f"{received['commands'][0][0]} cannot be executed")
    become(received["environment"])
    run()


if __name__ == "__main__":
    run() if sys.argv[1:] == ["run"] else main()
