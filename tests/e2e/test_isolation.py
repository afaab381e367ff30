"""A function cannot reach what is not its own, nor outlive its time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PROBE = """
    import os
    def handler(event, context):
        found = {}
        for path in event["paths"]:
            try:
                found[path] = os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(20).decode("latin1")
            except OSError as error:
                found[path] = None
        return found
"""


def test_the_hosts_files_and_the_data_directory_are_out_of_reach(deploy: Any) -> None:
    data_dir = deploy.server.data_dir
    paths = [
        "/etc/shadow",
        "/root",
        "/home",
        str(data_dir),
        str(data_dir / "lambay.db"),
        "/run/lambay",
        "/sys/fs/cgroup",
    ]
    probe = deploy.function(PROBE)

    found = deploy.invoke(probe, {"paths": [*paths, f"/proc/1/root{data_dir}", "/proc/1/environ"]})

    assert {path: seen for path, seen in found.items() if seen} == {}


def test_other_processes_are_invisible(deploy: Any) -> None:
    function = deploy.function(
        "import os\ndef handler(event, context): return sorted(int(p) for p in os.listdir('/proc') if p.isdigit())"
    )
    assert len(deploy.invoke(function)) <= 4


def test_privileges_cannot_be_had(deploy: Any) -> None:
    function = deploy.function(
        """
        import ctypes, os
        def attempt(action):
            try:
                return str(action())
            except OSError as error:
                return error.strerror
        def handler(event, context):
            libc = ctypes.CDLL(None, use_errno=True)
            def call(name, *arguments):
                if getattr(libc, name)(*arguments) < 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                return "done"
            status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
            return {
                "root": attempt(lambda: os.setuid(0)),
                "mount": attempt(lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None)),
                "user namespace": attempt(lambda: call("unshare", 0x10000000)),
                "device": attempt(lambda: os.mknod("/tmp/sda", 0o60600, os.makedev(254, 0))),
                "code": attempt(lambda: open("/var/task/app.py", "a")),
                "system": attempt(lambda: open("/usr/bin/new", "w")),
                "capabilities": status["CapEff"].strip() + status["CapBnd"].strip(),
                "no new privileges": status["NoNewPrivs"].strip(),
                "seccomp": status["Seccomp"].strip(),
            }
        """
    )

    got = deploy.invoke(function)

    assert "done" not in got.values()
    assert int(got["capabilities"], 16) == 0
    assert (got["no new privileges"], got["seccomp"]) == ("1", "2")


def test_a_timed_out_function_and_all_its_children_end(deploy: Any) -> None:
    marker = "lambay-outliving-child"
    function = deploy.function(
        f"""
        import os, subprocess, time
        def handler(event, context):
            subprocess.Popen(["/bin/sh", "-c", "exec -a {marker} sleep 300 || sleep 300"], start_new_session=True)
            subprocess.Popen(["sleep", "298.7531"], start_new_session=True)
            time.sleep(60)
        """,
        Timeout=1,
    )

    answer = deploy.lambda_.invoke(FunctionName=function)
    payload = json.loads(answer["Payload"].read())

    assert answer["FunctionError"] == "Unhandled"
    assert payload["errorType"] == "Sandbox.Timedout"
    assert payload["errorMessage"].endswith("Error: Task timed out after 1.00 seconds")
    running = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not any(b"298.7531" in line or marker.encode() in line for line in running)


def test_too_much_memory_ends_the_function_and_nothing_else(deploy: Any) -> None:
    greedy = deploy.function("def handler(event, context): return len(bytearray(1 << 30))", MemorySize=128)
    modest = deploy.function("def handler(event, context): return 'fine'", MemorySize=128)

    answer = deploy.lambda_.invoke(FunctionName=greedy)

    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] in ("Runtime.OutOfMemory", "Runtime.ExitError")
    assert deploy.invoke(modest) == "fine"


def test_tmp_has_its_configured_size_and_does_not_count_as_memory(deploy: Any) -> None:
    function = deploy.function(
        """
        import os
        def handler(event, context):
            written = 0
            try:
                with open("/tmp/big", "wb") as file:
                    while True:
                        written += file.write(bytes(1 << 20))
                        file.flush()
            except OSError as error:
                return {"megabytes": written >> 20, "error": error.strerror}
        """,
        MemorySize=128,
        EphemeralStorage={"Size": 512},
    )

    got = deploy.invoke(function)

    assert got["error"] == "No space left on device"
    assert 480 <= got["megabytes"] <= 540


def test_there_is_no_way_out_of_the_network_namespace(deploy: Any) -> None:
    function = deploy.function(
        """
        import socket
        def handler(event, context):
            found = {}
            for address in event["addresses"]:
                probe = socket.socket()
                probe.settimeout(1)
                found[address] = probe.connect_ex(tuple(address.rsplit(":", 1)[:1]) + (int(address.rsplit(":", 1)[1]),))
            return found
        """
    )
    host_port = deploy.server.endpoint.rsplit(":", 1)[1]

    codes = deploy.invoke(
        function, {"addresses": [f"127.0.0.1:{host_port}", "192.0.2.1:80", "169.254.169.254:80"]}
    )

    assert 0 not in codes.values()


def test_a_function_calls_aws_with_its_roles_session(deploy: Any) -> None:
    function = deploy.function(
        "import boto3\ndef handler(event, context): return boto3.client('sts').get_caller_identity()['Arn']"
    )

    arn = deploy.invoke(function)

    role = deploy.role.rsplit("/", 1)[1]
    assert arn == f"arn:aws:sts::000000000000:assumed-role/{role}/{function}"


@pytest.mark.parametrize(
    ("source", "error_type"),
    [
        ("import nothing_of_this_name\ndef handler(event, context): pass", "Runtime.ImportModuleError"),
        ("def other(event, context): pass", "Runtime.HandlerNotFound"),
        ("def handler(event, context): raise KeyError('x')", "KeyError"),
        ("import sys\ndef handler(event, context): sys.exit(3)", "Runtime.ExitError"),
        ("def handler(event, context): return object()", "Runtime.MarshalError"),
        ("def handler(event, context): return 'x' * (7 << 20)", "Function.ResponseSizeTooLarge"),
    ],
)
def test_each_way_to_fail_has_its_error(deploy: Any, source: str, error_type: str) -> None:
    answer = deploy.lambda_.invoke(FunctionName=deploy.function(source))

    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == error_type
