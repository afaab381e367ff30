"""Invocations: cold with a mounted file system, warm, and many at once, beside what else runs functions locally.

    .venv/bin/python -m bench.invoke [--warm 500] [--cold 10] [--seconds 3] [--burst 100] [--peer | --no-peer]

Lambay runs as users have it: IAM enforced, identity, quotas, locks, metering and coherence on. Its cold
invocation includes mounting the access point over the function's network. The peers are MiniStack, from its package,
and AWS's own Runtime Interface Emulator where `aws-lambda-rie` is found on PATH, with the same runtime client; neither
has a sandbox, a file system or IAM, and the emulator runs one function in one environment, so that its cold invocation
is the start of its process. The floor is a Python process that answers the same clients with a constant; `static
answer` is a page of Lambay's own, through its HTTP server alone. `N at once` is the time from the first of so many
invocations to the last one's answer where every one needs a new environment, less the second that each takes.

Each figure is printed once it is known, all of them side by side at the end.
"""

from __future__ import annotations

import argparse
import functools
import http.client
import io
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from lambay.runtime.packages import built
from lambay.settings import Settings

PEER = "ministack==1.5.33"
EMULATOR = "aws-lambda-rie"
MEMORY = (1769, 128)
HANDLER = b"""
import os, time
def handler(event, context):
    if "sleep" in event:
        time.sleep(event["sleep"])
    return {"pid": os.getpid(), "entries": len(os.listdir("/mnt/efs")) if os.path.isdir("/mnt/efs") else None}
"""


@dataclass
class Target:
    """A running server with ways to make a function, and to time the first invocation of a new one."""

    name: str
    endpoint: str
    create: Callable[[str, int], None]
    clients: dict[str, Any]
    tag: str = ""
    first: Callable[[str, int], float] | None = None
    only: str = ""
    """The one function that there is, where there is but one."""


class Rows:
    """The figures by system and measure; each is printed as it comes."""

    def __init__(self) -> None:
        self._systems: dict[str, dict[str, str]] = {}

    def put(self, system: str, measure: str, value: str) -> None:
        self._systems.setdefault(system, {})[measure] = value
        print(f"{system:<18}{measure:<20}{value:>12}", flush=True)

    def show(self) -> None:
        measures = dict.fromkeys(name for row in self._systems.values() for name in row)
        print(f"\n{'':<20}" + "".join(f"{name:>18}" for name in self._systems))
        for name in measures:
            print(f"{name:<20}" + "".join(f"{row.get(name, ''):>18}" for row in self._systems.values()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--warm", type=int, default=500, help="warm invocations to time")
    parser.add_argument("--cold", type=int, default=10, help="cold invocations to time")
    parser.add_argument(
        "--peer",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"run {PEER} and {EMULATOR} as well",
    )
    parser.add_argument("--seconds", type=float, default=3, help="how long each throughput is measured")
    parser.add_argument("--burst", type=int, default=100, help="environments at once; 0: none")
    options = parser.parse_args()
    rows = Rows()
    with lambay() as target:
        print(settings(target), flush=True)
        for memory in MEMORY:
            measure(target, options, memory, functools.partial(rows.put, f"Lambay {memory} MB"))
    for peer in (emulator, ministack) if options.peer else ():
        try:
            with peer() as target:
                measure(target, options, MEMORY[0], functools.partial(rows.put, target.name))
        except Absent as absent:
            print(absent, flush=True)
    with floor() as bare:
        throughput(bare, "none", options, functools.partial(rows.put, "bare floor"))
    rows.show()


class Absent(Exception):
    """A peer that can't be had here."""


Put = Callable[[str, str], None]
"""Takes a measure's name and its value."""


def measure(target: Target, options: argparse.Namespace, memory: int, put: Put) -> None:
    first = target.first or functools.partial(first_invocation, target)
    cold = [first(f"cold-{memory}-{number}", memory) for number in range(options.cold)]
    put("cold p50", milliseconds(cold, 50))
    put("cold p99", milliseconds(cold, 99))
    warm = target.only or f"warm-{memory}"
    target.create(warm, memory)
    invoke(target, warm)
    boto = [timed(lambda: invoke(target, warm)) for _ in range(options.warm)]
    put("warm boto3 p50", milliseconds(boto, 50))
    put("warm boto3 p99", milliseconds(boto, 99))
    throughput(target, warm, options, put)
    if target.tag:
        static = RawClient(target.endpoint, warm)
        put("static answer p50", milliseconds([timed(static.health) for _ in range(options.warm)], 50))
    if target.tag and options.burst:
        target.create(f"burst-{memory}", memory)
        put(f"{options.burst} at once", f"{burst(target, f'burst-{memory}', options.burst):.2f} s")
        put("idle environment", f"{idle_memory(target):.1f} MiB")


def first_invocation(target: Target, name: str, memory: int) -> float:
    target.create(name, memory)
    return timed(functools.partial(invoke, target, name))


def throughput(target: Target, function: str, options: argparse.Namespace, put: Put) -> None:
    raw = RawClient(target.endpoint, function)
    for _ in range(20):
        raw.invoke()
    bare = [timed(raw.invoke) for _ in range(options.warm)]
    put("warm raw p50", milliseconds(bare, 50))
    put("warm raw p99", milliseconds(bare, 99))
    # The emulator takes one invocation at a time, and may end when asked for more.
    for count in (1,) if target.only else (1, 8, 64):
        put(f"{count} clients/s", rate(target, function, count, options.seconds))


def burst(target: Target, function: str, count: int) -> float:
    """Seconds, beyond the one that each invocation takes, until `count` at once have been answered."""
    clients = [RawClient(target.endpoint, function, b'{"sleep": 1}') for _ in range(count)]
    begun = time.perf_counter()
    for client in clients:
        client.send()
    for client in clients:
        client.receive()
    return time.perf_counter() - begun - 1.0


def idle_memory(target: Target) -> float:
    """What an environment's control group is charged on average, in MiB, while nothing runs in it."""
    usage = [
        int(Path(path, name).read_text())
        # Other control groups may go while this looks through them.
        for path, _, names in os.walk("/sys/fs/cgroup")
        for name in ("memory.usage_in_bytes", "memory.current")
        if name in names and f"/lambay-{target.tag}/slot-" in path
    ]
    return sum(usage) / max(1, len(usage)) / (1 << 20)


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def milliseconds(seconds: list[float], percentile: int) -> str:
    return f"{statistics.quantiles(seconds, n=100, method='inclusive')[percentile - 1] * 1000:.2f} ms"


def invoke(target: Target, name: str) -> bytes:
    answer = target.clients["lambda"].invoke(FunctionName=name, Payload=b"{}")
    payload: bytes = answer["Payload"].read()
    if "FunctionError" in answer:
        raise RuntimeError(f"{target.name}: {name} failed: {payload!r}")
    return payload


class RawClient:
    """One kept connection and one signed request, sent again and again over a bare socket.

    `http.client` takes half a millisecond of processor for each request, on the cores that are measured.
    """

    def __init__(self, endpoint: str, function: str, event: bytes = b"{}") -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        path = f"/2015-03-31/functions/{function}/invocations"
        request = AWSRequest("POST", endpoint + path, {"content-type": "application/json"}, event)
        SigV4Auth(Credentials("test", "test"), "lambda", "us-east-1").add_auth(request)
        headers = {**dict(request.headers), "host": f"{host}:{port}", "content-length": str(len(event))}
        self._invocation = _request(f"POST {path}", headers, event)
        self._health = _request("GET /_lambay/health", {"host": host}, b"")

    def invoke(self) -> None:
        self.send()
        self.receive()

    def send(self) -> None:
        self.socket.sendall(self._invocation)

    def receive(self) -> None:
        head, body = self._answer()
        if not head.startswith(b"http/1.1 200") or b"x-amz-function-error" in head:
            raise RuntimeError(f"{head!r} {body!r}")

    def health(self) -> None:
        self.socket.sendall(self._health)
        self._answer()

    def _answer(self) -> tuple[bytes, bytes]:
        """The answer's head, in small letters, and its body."""
        answer = self.socket.recv(65536)
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self.socket.recv(65536)
        head = answer[:end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(answer) < end + 4 + length:
            answer += self.socket.recv(65536)
        return head, answer[end + 4 :]


def _request(line: str, headers: dict[str, str], body: bytes) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{line} HTTP/1.1\r\n{fields}\r\n".encode() + body


def rate(target: Target, function: str, clients: int, seconds: float) -> str:
    """Invocations a second of `clients` kept connections, from as many processes but at most four."""
    processes = []
    for number in range(min(4, clients)):
        connections = len(range(number, clients, 4))
        program = [sys.executable, "-m", "bench.invoke_client", target.endpoint, function]
        program += [str(seconds), str(connections)]
        processes.append(subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [int(process.communicate()[0]) for process in processes]
    return f"{sum(counts) / seconds:.0f}"


@contextmanager
def started(command: list[str], environment: dict[str, str], ready: Callable[[str], bool]) -> Iterator[str]:
    """The first line of the process's output that is `ready`; the process ends with the block."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment
    )
    assert process.stdout is not None
    seen = []
    try:
        for line in process.stdout:
            seen.append(line)
            if ready(line):
                break
        else:
            raise RuntimeError(f"{command[0]} did not start: {''.join(seen)}")
        drain = threading.Thread(target=process.stdout.read, daemon=True)
        drain.start()
        yield line
    finally:
        process.send_signal(signal.SIGTERM)
        # A hundred environments end before the server does.
        process.wait(180)


def clients(endpoint: str) -> dict[str, Any]:
    session = boto3.Session("test", "test", region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1})
    return {
        service: session.client(service, endpoint_url=endpoint, config=config)
        for service in ("lambda", "efs", "ec2", "iam")
    }


def bundle() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("app.py", HANDLER)
    return archive.getvalue()


@contextmanager
def lambay() -> Iterator[Target]:
    with tempfile.TemporaryDirectory(prefix="lambay-bench-") as directory:
        command = [
            str(Path(sys.executable).with_name("lambay")),
            "up",
            "--port",
            "0",
            "--data-dir",
            directory,
        ]
        with started(
            [*command, "--log-level", "warning"], {}, lambda line: line.startswith("Lambay ready")
        ) as line:
            endpoint = next(word for word in line.split() if word.startswith("http"))
            made = clients(endpoint)
            settings_of_function = mounted_settings(made)

            def create(name: str, memory: int) -> None:
                made["lambda"].create_function(
                    FunctionName=name, Code={"ZipFile": bundle()}, MemorySize=memory, **settings_of_function
                )
                active(made["lambda"], name)

            yield Target("Lambay", endpoint, create, made, Settings(data_dir=Path(directory)).tag)


def mounted_settings(made: dict[str, Any]) -> dict[str, Any]:
    """A function's settings with an access point of a new file system in the default VPC."""
    subnet = made["ec2"].describe_subnets()["Subnets"][0]
    groups = made["ec2"].describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [subnet["VpcId"]]}])
    group = groups["SecurityGroups"][0]["GroupId"]
    efs = made["efs"]
    file_system = efs.create_file_system(ThroughputMode="elastic")["FileSystemId"]
    wait(lambda: efs.describe_file_systems(FileSystemId=file_system)["FileSystems"][0])
    efs.create_mount_target(FileSystemId=file_system, SubnetId=subnet["SubnetId"], SecurityGroups=[group])
    wait(lambda: efs.describe_mount_targets(FileSystemId=file_system)["MountTargets"][0])
    point = efs.create_access_point(
        FileSystemId=file_system,
        PosixUser={"Uid": 1000, "Gid": 1000},
        RootDirectory={
            "Path": "/bench",
            "CreationInfo": {"OwnerUid": 1000, "OwnerGid": 1000, "Permissions": "755"},
        },
    )
    wait(lambda: efs.describe_access_points(AccessPointId=point["AccessPointId"])["AccessPoints"][0])
    return {
        "Runtime": f"python3.{sys.version_info.minor}",
        "Handler": "app.handler",
        "Role": role(made["iam"]),
        "Timeout": 30,
        "VpcConfig": {"SubnetIds": [subnet["SubnetId"]], "SecurityGroupIds": [group]},
        "FileSystemConfigs": [{"Arn": point["AccessPointArn"], "LocalMountPath": "/mnt/efs"}],
    }


def role(iam: Any) -> str:
    trust = {
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ]
    }
    document = json.dumps({"Version": "2012-10-17"} | trust)
    made = iam.create_role(RoleName="bench", AssumeRolePolicyDocument=document)
    vpc_access = "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
    iam.attach_role_policy(RoleName="bench", PolicyArn=vpc_access)
    return str(made["Role"]["Arn"])


def active(client: Any, function: str) -> None:
    """boto3's waiter would look once a second."""
    while client.get_function_configuration(FunctionName=function)["State"] != "Active":
        time.sleep(0.01)


def wait(describe: Callable[[], dict[str, Any]]) -> None:
    while describe()["LifeCycleState"] != "available":
        time.sleep(0.05)


@contextmanager
def ministack() -> Iterator[Target]:
    """The peer from its package, in an environment of its own below the cache directory."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lambay" / "bench-ministack"
    if not (home / "bin" / "ministack").exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            subprocess.run([str(home / "bin" / "pip"), "install", "-q", PEER], check=True)
        except subprocess.CalledProcessError as error:
            raise Absent(f"{PEER} can't be installed: {error}") from error
    port = free_port()
    environment = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "LAMBDA_EXECUTOR": "local"}
    with started([str(home / "bin" / "ministack")], environment, lambda line: answers(port)):
        endpoint = f"http://127.0.0.1:{port}"
        made = clients(endpoint)
        role_arn = role(made["iam"])

        def create(name: str, memory: int) -> None:
            made["lambda"].create_function(
                FunctionName=name,
                Runtime=f"python3.{sys.version_info.minor}",
                Handler="app.handler",
                Role=role_arn,
                MemorySize=memory,
                Timeout=30,
                Code={"ZipFile": bundle()},
            )
            active(made["lambda"], name)

        yield Target("MiniStack", endpoint, create, made)


@contextmanager
def emulator() -> Iterator[Target]:
    """AWS's Runtime Interface Emulator with the runtime client that Lambay's functions have."""
    program = shutil.which(EMULATOR)
    if program is None:
        raise Absent(f"{EMULATOR} is not on PATH")
    runtime_client = built(f"python3.{sys.version_info.minor}")
    if runtime_client is None:
        raise Absent(f"{EMULATOR} has no runtime client: `python -m lambay.runtime.packages` builds it")
    with tempfile.TemporaryDirectory(prefix="lambay-bench-") as directory:
        Path(directory, "app.py").write_bytes(HANDLER)

        def start() -> tuple[subprocess.Popen[bytes], str]:
            address, runtime_api = (f"127.0.0.1:{free_port()}" for _ in range(2))
            command = [program, "--runtime-interface-emulator-address", address]
            command += [
                "--runtime-api-address",
                runtime_api,
                sys.executable,
                "-m",
                "awslambdaric",
                "app.handler",
            ]
            environment = os.environ | {"PYTHONPATH": str(runtime_client)}
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            while not answers(int(address.rpartition(":")[2])):
                time.sleep(0.001)
            return process, f"http://{address}"

        def first(name: str, memory: int) -> float:
            began = time.perf_counter()
            process, endpoint = start()
            RawClient(endpoint, "function").invoke()
            seconds = time.perf_counter() - began
            stop(process)
            return seconds

        process, endpoint = start()
        try:
            yield Target(
                "RIE", endpoint, lambda name, memory: None, clients(endpoint), first=first, only="function"
            )
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, and what it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def floor() -> Iterator[Target]:
    """A Python process that answers everything with a constant."""
    command = [sys.executable, "-m", "bench.invoke_floor"]
    with started(command, {}, lambda line: line.startswith("floor")) as line:
        yield Target("bare floor", line.split()[1], lambda name, memory: None, {})


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def settings(target: Target) -> str:
    connection = http.client.HTTPConnection(target.endpoint.removeprefix("http://"))
    connection.request("GET", "/_lambay/status")
    status = json.loads(connection.getresponse().read())
    checked = "IAM, identity, quotas, locks and metering on"
    return f"file server {json.dumps(status['file_server'])}; {checked}"


if __name__ == "__main__":
    main()
