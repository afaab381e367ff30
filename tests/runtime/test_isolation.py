"""What a function tries in vain: each test is a function that attacks, and what it found."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from .arrange import Bench, invocation


async def test_it_sees_no_host_file(bench: Bench) -> None:
    secret = bench.settings.data_dir / "secret"
    secret.write_text("secret")
    spec = bench.function(
        """
        import os
        def handler(paths, context):
            readable = []
            for path in paths:
                try:
                    os.listdir(path) if os.path.isdir(path) else open(path).close()
                    readable.append(path)
                except OSError:
                    pass
            return [readable, sorted(os.listdir("/")), sorted(os.listdir("/var")), os.listdir("/opt")]
        """
    )
    hidden = [
        str(secret),
        str(bench.directory),
        "/root",
        "/home",
        "/etc/shadow",
        "/etc/ssh",
        "/run",
        "/sys/kernel",
    ]
    hidden += [
        "/proc/1/root",
        "/proc/1/environ",
        "/proc/1/cwd",
        "/proc/1/fd",
        "/proc/kcore",
        "/dev/vda",
        "/dev/fuse",
    ]

    readable, root, var, opt = await bench.answer(spec, hidden)

    assert readable == []
    assert set(root) <= {
        "bin",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "mnt",
        "opt",
        "proc",
        "sbin",
        "tmp",
        "usr",
        "var",
    }
    assert var == ["lang", "node_modules", "rapid", "runtime", "task"]
    assert opt == ["lib"]


async def test_it_finds_only_its_own_code(bench: Bench) -> None:
    other = bench.function("TOKEN = 'xq7-of-another'\ndef handler(event, context): return 1")
    await bench.answer(other)
    spec = bench.function(
        """
        import subprocess
        def handler(event, context):
            found = subprocess.run(
                ["grep", "-rls", "xq7-of-" + "another", "/var/task", "/opt", "/tmp", "/mnt", "/etc"],
                capture_output=True, text=True
            )
            return found.stdout.split()
        """
    )

    assert await bench.answer(spec) == []


async def test_it_sees_only_its_own_processes(bench: Bench) -> None:
    spec = bench.function(
        """
        import os
        def handler(event, context):
            names = {}
            for pid in filter(str.isdigit, os.listdir("/proc")):
                names[pid] = open(f"/proc/{pid}/cmdline").read().split("\\0")[0]
            return names
        """
    )

    names = await bench.answer(spec)

    assert set(names) == {"1", "2"}
    assert names["2"].endswith("/bin/python3.11")


async def test_a_copy_of_the_fork_server_inherits_nothing_but_modules(bench: Bench) -> None:
    spec = bench.function(
        """
        import os
        def opened(path):
            try:
                return os.listdir(path) if os.path.isdir(path) else open(path, "rb").read()
            except OSError as error:
                return error.errno
        def handler(event, context):
            status = dict(line.split(":\t", 1) for line in open("/proc/1/status").read().splitlines())
            os.kill(os.getpid(), 0)
            mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
            return {
                "links": sorted(os.readlink("/proc/self/fd/" + fd).split(":")[0] for fd in os.listdir("/proc/self/fd")
                                if os.path.exists("/proc/self/fd/" + fd)),
                "first": [opened("/proc/1/" + name) for name in ("environ", "fd", "mem", "maps")],
                "first_caps": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
                "first_uid": status["Uid"].split(),
                "environment": dict(os.environ).get("HOME"),
                "proc": mounts.count("/proc"),
                "terminals": os.listdir("/dev/pts"),
                "pids": sorted(name for name in os.listdir("/proc") if name.isdigit()),
            }
        """
    )

    found = await bench.answer(spec)

    assert set(found["links"]) <= {"/dev/null", "pipe", "socket"}
    assert {name: found["first"].count(name) for name in (13, 1)} == {13: len(found["first"]), 1: 0}
    assert {int(value, 16) for value in found["first_caps"]} == {0}
    assert found["first_uid"] == ["65534"] * 4
    assert found["environment"] is None
    assert found["proc"] == 1
    assert found["terminals"] == ["ptmx"]
    assert found["pids"] == ["1", "2"]


async def test_copies_of_one_fork_server_draw_different_numbers(bench: Bench) -> None:
    spec = bench.function(
        """
        import os, random, ssl, uuid
        def handler(event, context):
            return random.random(), random.SystemRandom().random(), ssl.RAND_bytes(8).hex(), str(uuid.uuid4())
        """
    )
    environments = [await bench.fleet.acquire(spec) for _ in range(3)]

    drawn = [(await bench.fleet.invoke(each, invocation(spec))).payload for each in environments]

    numbers = [number for payload in drawn for number in json.loads(payload)]
    assert len(set(numbers)) == 12
    for environment in environments:
        bench.fleet.release(environment)


@pytest.mark.parametrize("variable", ["PYTHONHASHSEED", "LD_BIND_NOW", "AWS_LAMBDA_EXEC_WRAPPER"])
async def test_what_a_copy_cannot_take_on_gets_a_process_of_its_own(bench: Bench, variable: str) -> None:
    layer = bench.directory / "layer"
    layer.mkdir()
    (layer / "wrapper").write_text('#!/bin/sh\nexec "$@"\n')
    (layer / "wrapper").chmod(0o755)
    value = "/opt/wrapper" if variable == "AWS_LAMBDA_EXEC_WRAPPER" else "1"
    spec = bench.function(
        """
        import os
        def handler(event, context):
            return open("/proc/self/cmdline").read().split("\\0")[1], os.environ[event]
        """,
        variables={variable: value},
        layers=(layer,),
    )

    assert await bench.answer(spec, variable) == ["/var/rapid/bootstrap.py", value]


async def test_it_has_no_privileges_and_gains_none(bench: Bench) -> None:
    spec = bench.function(
        """
        import ctypes, os, subprocess
        libc = ctypes.CDLL(None, use_errno=True)

        def tried(name, *arguments):
            ctypes.set_errno(0)
            result = getattr(libc, name)(*arguments)
            return ctypes.get_errno() if result < 0 else "done"

        def handler(event, context):
            status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
            return {
                "status": {name: status[name].split()[0] for name in
                           ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")},
                "groups": status["Groups"].split(),
                "uid": os.getuid(),
                "setuid": tried("setuid", 0),
                "mount": tried("mount", b"none", b"/tmp", b"tmpfs", 0, None),
                "unshare": tried("unshare", 0x10000000),
                "chroot": tried("chroot", b"/tmp"),
                "ptrace": tried("ptrace", 16, 1, 0, 0),
                "kill": tried("kill", 1, 9),
                "keyctl": tried("syscall", 250, 0, 0),
                "bpf": tried("syscall", 321, 0, 0, 0),
                "userns": subprocess.run(["unshare", "-U", "true"], capture_output=True).returncode,
                "su": subprocess.run(["su", "-c", "id"], capture_output=True).returncode,
            }
        """
    )

    found = await bench.answer(spec)

    status = found["status"]
    assert {int(value, 16) for name, value in status.items() if name.startswith("Cap")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert found["groups"] == []
    assert found["uid"] >= 0x40000000
    refused = {
        name: found[name]
        for name in ("setuid", "mount", "unshare", "chroot", "ptrace", "kill", "keyctl", "bpf")
    }
    assert set(refused.values()) == {1}, refused
    assert found["userns"] != 0
    assert found["su"] != 0


async def test_it_writes_only_to_tmp(bench: Bench) -> None:
    spec = bench.function(
        """
        import os
        def handler(event, context):
            written = []
            for path in ("/", "/usr", "/etc", "/var", "/var/task", "/var/runtime", "/var/lang", "/opt",
                         "/mnt", "/dev", "/dev/shm", "/proc", "/proc/sys/kernel", "/tmp"):
                try:
                    open(os.path.join(path, "mine"), "w").close()
                    written.append(path)
                except OSError:
                    pass
            return written
        """
    )

    assert await bench.answer(spec) == ["/tmp"]
    assert [path.name for path in spec.code.iterdir()] == ["app.py"]


async def test_it_reaches_no_network_but_its_own_loopback(bench: Bench) -> None:
    spec = bench.function(
        """
        import socket
        def handler(event, context):
            found = []
            for address in (("10.0.0.1", 80), ("1.1.1.1", 53), ("169.254.169.254", 80), ("127.0.0.1", event)):
                try:
                    socket.create_connection(address, timeout=1).close()
                    found.append(address)
                except OSError as error:
                    found.append(type(error).__name__ if address[1] == event else error.errno)
            return found, socket.if_nameindex()
        """
    )
    listener = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]

    found, interfaces = await bench.answer(spec, port)

    listener.close()
    assert found == [101, 101, 101, "ConnectionRefusedError"]
    assert interfaces == [[1, "lo"]]


async def test_nothing_of_it_outlives_its_timeout(bench: Bench) -> None:
    beats = bench.directory / "beats"
    beats.mkdir(mode=0o777)
    beats.chmod(0o777)
    spec = bench.function(
        """
        import os, time
        def handler(event, context):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.closerange(0, 100)
                    while True:
                        time.sleep(0.01)
                os._exit(0)
            time.sleep(60)
        """,
        timeout_s=1,
    )

    outcome = await bench.invoke(spec)
    await bench.fleet.settled()

    assert json.loads(outcome.payload)["errorType"] == "Sandbox.Timedout"
    assert _sandboxed_processes(bench) == bench.fleet.status().ready_slots * 2


async def test_pids_are_limited(bench: Bench) -> None:
    spec = bench.function(
        """
        import threading
        def handler(event, context):
            done = threading.Event()
            threading.stack_size(65536)
            started = 0
            try:
                while True:
                    threading.Thread(target=done.wait).start()
                    started += 1
            except RuntimeError:
                done.set()
                return started
        """,
        memory_mb=1024,
        timeout_s=30,
    )

    assert 1000 < await bench.answer(spec) < 1024


@pytest.mark.parametrize("megabytes", [512, 600])
async def test_tmp_has_the_configured_size(bench: Bench, megabytes: int) -> None:
    spec = bench.function(
        """
        import os
        def handler(event, context):
            written = 0
            chunk = bytes(1 << 20)
            try:
                with open("/tmp/big", "wb", buffering=0) as file:
                    while True:
                        written += file.write(chunk)
            except OSError as error:
                return written >> 20, error.errno
        """,
        timeout_s=60,
        memory_mb=256,
        ephemeral_mb=megabytes,
    )

    written, error = await bench.answer(spec)

    assert megabytes <= written <= megabytes * 1.03
    assert error == 28


async def test_tmp_is_kept_for_the_environment_and_not_for_the_next(bench: Bench) -> None:
    spec = bench.function(
        """
        import os
        def handler(event, context):
            found = os.listdir("/tmp")
            open("/tmp/mine", "w").close()
            return found
        """
    )

    first, second = await bench.answer(spec), await bench.answer(spec)
    await bench.fleet.drain(spec.key)
    third = await bench.answer(spec)

    assert (first, second, third) == ([], ["mine"], [])


async def test_two_environments_have_uids_of_their_own(bench: Bench) -> None:
    source = "import os\ndef handler(event, context): return os.getuid()"
    first, second = bench.function(source), bench.function(source)

    assert await bench.answer(first) != await bench.answer(second)


async def test_hosts_packages_are_hidden(bench: Bench) -> None:
    spec = bench.function(
        """
        import importlib.util, sys
        def handler(event, context):
            return importlib.util.find_spec("pip") is not None, sys.path[0], sys.flags.no_user_site
        """
    )

    assert (await bench.answer(spec))[:2] == [False, "/var/task"]


@pytest.mark.parametrize("memory_mb", [128])
async def test_cpu_is_the_memorys_share(bench: Bench, memory_mb: int) -> None:
    spec = bench.function(
        """
        import time
        def handler(event, context):
            began, used = time.monotonic(), time.process_time()
            while time.monotonic() - began < 1.0:
                pass
            return time.process_time() - used
        """,
        memory_mb=memory_mb,
    )

    used = await bench.answer(spec)

    assert used < 3 * memory_mb / 1769


def _sandboxed_processes(bench: Bench) -> int:
    """Processes in this instance's groups."""
    parents = Path("/sys/fs/cgroup").glob(f"**/lambay-{bench.settings.tag}")
    return max((_processes(parent) for parent in parents), default=0)


def _processes(group: Path) -> int:
    return sum(len(path.read_text().split()) for path in group.glob("**/cgroup.procs"))


async def test_it_cannot_use_up_lambays_descriptors_or_memory(bench: Bench) -> None:
    spec = bench.function(
        """
        import os, socket
        def handler(event, context):
            held = [socket.create_connection(("127.0.0.1", 9001)) for _ in range(300)]
            open_ones = 0
            for connection in held:
                connection.settimeout(0.2)
                try:
                    open_ones += connection.recv(1) != b""
                except TimeoutError:
                    open_ones += 1
                except OSError:
                    pass
            endless = held[0]
            endless.settimeout(None)
            sent = 0
            try:
                endless.sendall(b"GET /")
                while sent < 64 << 20:
                    sent += endless.send(b"x" * 65536)
            except OSError:
                pass
            return open_ones, sent >> 20
        """,
        timeout_s=60,
    )

    open_ones, megabytes = await bench.answer(spec)

    assert open_ones < 70
    assert megabytes < 16


async def test_a_flood_of_output_is_taken_as_fast_as_it_is_written(bench: Bench) -> None:
    spec = bench.function(
        """
        import sys, time
        def handler(event, context):
            until = time.monotonic() + 1.5
            lines = 0
            while time.monotonic() < until:
                sys.stdout.write("x" * 100 + "\\n")
                lines += 1
            return lines
        """
    )
    gate = asyncio.Event()
    write = bench.fleet._shipping._write
    most = 0

    async def slow(*arguments: object) -> None:
        nonlocal most
        most = max(most, len(arguments[-1]))  # type: ignore[arg-type]
        await asyncio.wait_for(gate.wait(), 60)
        await write(*arguments)  # type: ignore[arg-type]

    bench.fleet._shipping._write = slow
    environment = await bench.fleet.acquire(spec)
    running = asyncio.create_task(bench.fleet.invoke(environment, invocation(spec)))
    await asyncio.sleep(1)
    gate.set()
    lines = json.loads((await running).payload)
    bench.fleet.release(environment)

    log = await bench.log(spec)
    assert log.count("x" * 100) == lines
    assert most < 40_000
