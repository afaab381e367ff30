"""A server's hard day: owners who change and use their functions, and what disturbs them from outside."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambay.settings import Settings
from tests.e2e.arrange import RUNTIME, Deployer, Lambay, bundle, control_groups, unique

EXCUSED_SECONDS = 90.0
"""For how long after a disturbance a call may fail that works when it is repeated."""

SOURCE = """
import os, time
CODE = {code}
def handler(event, context):
    what = event["what"]
    if what == "crash":
        os._exit(1)
    if what == "raise":
        raise ValueError
    if what == "hang":
        time.sleep(600)
    if what == "fork":
        for _ in range(20):
            if os.fork() == 0:
                time.sleep(600)
    if what == "fill":
        held = bytearray(1 << 30)
    with open("/tmp/scratch", "ab") as file:
        file.write(bytes(1 << 16))
    fd = os.open("/mnt/efs/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, (event["line"] + "\\n").encode())
    os.fsync(fd)
    os.close(fd)
    return {{"code": CODE, "setting": os.environ.get("SETTING")}}
"""
USES = ("answer",) * 6 + ("wild",) * 3 + ("event", "code", "configuration", "publish", "replace")
FAILURES = {
    "crash": "Runtime.ExitError",
    "raise": "ValueError",
    "hang": "Sandbox.Timedout",
    "fill": "Runtime.OutOfMemory",
}


class Day:
    """What owners and disturbers share. A fault is an outcome that no disturbance excuses."""

    def __init__(self, server: Lambay, seed: int) -> None:
        self.server = server
        self.dice = random.Random(seed)
        self.faults: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.lines: list[str] = []
        """What was acknowledged as written to the file system, or as queued to be."""
        self.over = threading.Event()
        self._up = threading.Event()
        self._up.set()
        self._disturbed = -EXCUSED_SECONDS
        deploy = Deployer(server)
        self.role = deploy.role
        self.point = deploy.access_point(deploy.file_system())
        self.vpc = {"SubnetIds": [deploy.subnet["SubnetId"]], "SecurityGroupIds": [deploy.group]}

    def created(self, client: Any, name: str, code: int, **settings: Any) -> None:
        client.create_function(
            FunctionName=name,
            Runtime=RUNTIME,
            Handler="app.handler",
            Role=self.role,
            VpcConfig=self.vpc,
            FileSystemConfigs=[{"Arn": self.point, "LocalMountPath": "/mnt/efs"}],
            Code={"ZipFile": bundle(SOURCE.format(code=code))},
            **settings,
        )

    # Disturbances

    def kill_an_environment(self) -> None:
        """kill -9 of some process of some sandbox."""
        inside = []
        for group in control_groups(self.tag):
            with contextlib.suppress(OSError):
                inside += [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
        if inside:
            self._kill(self.dice.choice(inside))

    def kill_the_file_server(self) -> None:
        self._kill(self.status()["file_server"]["pid"])

    def kill_a_fork_server(self) -> None:
        found = processes(self.server.process.pid, "fork_server.py")
        if found:
            self._kill(self.dice.choice(found))

    def restart(self) -> None:
        """SIGTERM or kill -9 of the whole server, and a new one on what it left."""
        self._up.clear()
        self.disturb()
        if self.dice.random() < 0.5:
            self.server.kill()
        elif (status := self.server.stop()) != 0:
            self.faults.append(f"SIGTERM ended the server with {status}: {self.server.said()[-2000:]}")
        self.disturb()
        self.server.start()
        self.disturb()
        self._up.set()

    def disturb(self) -> None:
        self._disturbed = time.monotonic()

    def _kill(self, pid: int) -> None:
        self.disturb()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def up(self) -> None:
        """Return once the server is not being restarted."""
        self._up.wait()

    def excused(self) -> bool:
        return time.monotonic() - self._disturbed < EXCUSED_SECONDS

    # What is seen from outside

    @property
    def tag(self) -> str:
        return Settings(data_dir=self.server.data_dir).tag

    def status(self) -> Any:
        import urllib.request

        with urllib.request.urlopen(self.server.endpoint + "/_lambay/status") as answer:
            return json.load(answer)

    def advance(self, seconds: int) -> None:
        self.server.cli("clock", "advance", f"{seconds}s")


class Owner(threading.Thread):
    """Has two functions: one that is changed and must always work, one that may do anything."""

    def __init__(self, day: Day, number: int, keeper: str) -> None:
        super().__init__(name=f"owner {number}", daemon=True)
        self.day = day
        self.dice = random.Random(day.dice.random())
        self.keeper = keeper
        self.steady, self.wild = unique(f"steady-{number}"), unique(f"wild-{number}")
        self.code = self.setting = 0
        self.written = 0
        self._endpoint = ""

    def run(self) -> None:
        try:
            self._create(self.steady, Timeout=30, MemorySize=256)
            self._create(self.wild, Timeout=2, MemorySize=128)
            while not self.day.over.is_set():
                use = self.dice.choice(USES)
                getattr(self, f"_{use}")()
                self.day.counts[use] += 1
        except Exception as error:
            self.day.faults.append(f"{self.name}: {error!r}")

    @property
    def client(self) -> Any:
        if self._endpoint != self.day.server.endpoint:
            self._client, self._endpoint = self.day.server.boto("lambda"), self.day.server.endpoint
        return self._client

    def until_it_works(self, call: Callable[[], Any], *done: str) -> Any:
        """Repeated where a disturbance excuses it. An error of the codes `done` says that an earlier try worked."""
        tried = False
        while True:
            self.day.up()
            try:
                return call()
            except (ClientError, BotoCoreError) as error:
                code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
                if tried and code in done:
                    return None
                if not self.day.excused():
                    raise
                tried = True

    def settled(self, name: str) -> None:
        """Once the function is Active and not being updated."""

        def ask() -> None:
            for waiter in ("function_active_v2", "function_updated_v2"):
                self.client.get_waiter(waiter).wait(
                    FunctionName=name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 400}
                )

        self.until_it_works(ask)

    def _create(self, name: str, **settings: Any) -> None:
        setting = {"Variables": {"SETTING": str(self.setting)}}
        self.until_it_works(
            lambda: self.day.created(self.client, name, self.code, Environment=setting, **settings),
            "ResourceConflictException",
        )
        self.settled(name)

    def invoked(self, name: str, what: str, **options: Any) -> tuple[str | None, Any]:
        line = f"{name} {self.written}"
        self.written += 1
        event = json.dumps({"what": what, "line": line})
        answer = self.client.invoke(FunctionName=name, Payload=event, **options)
        payload = json.loads(answer["Payload"].read() or b"null")
        if "FunctionError" not in answer:
            self.day.lines.append(line)
        return answer.get("FunctionError"), payload

    def _answer(self, name: str | None = None) -> None:
        """A function answers, as it was last acknowledged to be."""
        while True:
            error, payload = self.until_it_works(lambda: self.invoked(name or self.steady, "answer"))
            if error is None:
                break
            if not self.day.excused():
                raise AssertionError(f"{name or self.steady}: {payload}")
        if name is None:
            expected = {"code": self.code, "setting": str(self.setting)}
            assert payload == expected, (payload, expected)

    def _wild(self) -> None:
        what = self.dice.choice([*FAILURES, "fork", "answer"])
        error, payload = self.until_it_works(lambda: self.invoked(self.wild, what))
        # Two seconds of a fourteenth of a processor may be too few for anything.
        expected = (FAILURES.get(what), "Sandbox.Timedout")
        if (payload or {}).get("errorType") not in expected and not self.day.excused():
            raise AssertionError(f"{self.wild} {what}: {error} {payload}")

    def _event(self) -> None:
        line = f"event of {self.name} {self.written}"
        self.written += 1
        event = json.dumps({"what": "answer", "line": line})
        self.until_it_works(
            lambda: self.client.invoke(FunctionName=self.keeper, Payload=event, InvocationType="Event")
        )
        self.day.lines.append(line)

    def _code(self) -> None:
        code = bundle(SOURCE.format(code=self.code + 1))
        self._update(lambda: self.client.update_function_code(FunctionName=self.steady, ZipFile=code))
        self.code += 1
        self.settled(self.steady)
        self._answer()

    def _configuration(self) -> None:
        given = {
            "Environment": {"Variables": {"SETTING": str(self.setting + 1)}},
            "MemorySize": self.dice.choice((256, 512)),
            "EphemeralStorage": {"Size": self.dice.choice((512, 1024))},
        }
        self._update(
            lambda: self.client.update_function_configuration(FunctionName=self.steady, **given),
        )
        self.setting += 1
        self.settled(self.steady)
        self._answer()

    def _update(self, call: Callable[[], Any]) -> None:
        """A try that a restart cut off may be under way already."""

        def once_settled() -> Any:
            self.settled(self.steady)
            return call()

        self.until_it_works(once_settled)

    def _publish(self) -> None:
        """A version, behind an alias; all but the last two versions go."""
        version = self.until_it_works(lambda: self.client.publish_version(FunctionName=self.steady))[
            "Version"
        ]
        place = {"FunctionName": self.steady, "Name": "live", "FunctionVersion": version}
        try:
            self.until_it_works(lambda: self.client.update_alias(**place))
        except self.client.exceptions.ResourceNotFoundException:
            self.until_it_works(lambda: self.client.create_alias(**place), "ResourceConflictException")
        self.settled(f"{self.steady}:{version}")
        self._answer(f"{self.steady}:live")
        listed = self.until_it_works(
            lambda: self.client.list_versions_by_function(FunctionName=self.steady)["Versions"]
        )
        for old in [each["Version"] for each in listed if each["Version"] not in ("$LATEST", version)][:-1]:
            self.until_it_works(
                lambda old=old: self.client.delete_function(FunctionName=self.steady, Qualifier=old),
                "ResourceNotFoundException",
            )

    def _replace(self) -> None:
        """Deleted while it is warm, and made again under the same name."""
        self.until_it_works(
            lambda: self.client.delete_function(FunctionName=self.steady), "ResourceNotFoundException"
        )
        self._create(self.steady, Timeout=30, MemorySize=256)
        self._answer()


def processes(parent: int, mark: str) -> list[int]:
    """The children of a process that have the mark in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (process / "status").read_text()
            command = (process / "cmdline").read_text()
            if f"PPid:\t{parent}\n" in status and mark in command:
                found.append(int(process.name))
    return found
