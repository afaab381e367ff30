"""NFS clients inside of a VPC: functions that speak NFSv4.1 themselves, to the mount target beside them."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import ssl
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.arrange import PATIENCE, Deployer, Lambay, bundle
from tests.nfs import wire
from tests.nfs.mount_helper import ROOT, Credentials, Mount

WIRE = Path(wire.__file__).read_text()

CLIENT = """
import ssl
import wire
from wire import Client, Connection, User, u32

kept = []

def begin(host, tls):
    connection = Connection(2049, User(event_user, event_user), host)
    if tls:
        context = ssl.create_default_context(cadata=tls["authority"])
        with open("/tmp/client.pem", "w") as file:
            file.write(tls["certificate"] + tls["key"])
        context.load_cert_chain("/tmp/client.pem")
        connection.wrap(context, host)
    kept[:] = [Client(connection)]

event_user = 0

def handler(event, context):
    global event_user
    event_user = event.get("user", 0)
    try:
        if not kept or event.get("anew"):
            begin(event["host"], event.get("tls"))
        client = kept[0]
        steps = client.steps(*event.get("path", ()))
        if event["act"] == "read":
            status, found = client.run(*steps, wire.read(wire.ANONYMOUS, 0, 1000))
            return {"status": status, "content": found[-1].value[1].decode() if status == 0 else None}
        made = wire.open_(b"owner", event["name"], create=wire.unchecked(mode=0o644))
        return {"status": client.run(*steps, made)[0]}
    except (EOFError, OSError) as error:
        kept.clear()
        return {"ended": type(error).__name__}
"""

WRITER = """
import os

def handler(event, context):
    path = "/mnt/efs/" + event["name"]
    if "content" in event:
        with open(path, "w") as file:
            file.write(event["content"])
    return {"there": os.path.exists(path)}
"""


class Stage:
    """A function with a mount, and one that is an NFS client of the same file system."""

    def __init__(self, server: Lambay) -> None:
        self.server = server
        self.deploy = Deployer(server)
        self.file_system = self.deploy.file_system()
        self.host = f"{self.file_system}.efs.us-east-1.amazonaws.com"
        point = self.deploy.access_point(self.file_system)
        self.access_point = point.rpartition("/")[2]
        self.writer = self.deploy.function(WRITER, point)
        where = {"SubnetIds": [self.deploy.subnet["SubnetId"]], "SecurityGroupIds": [self.deploy.group]}
        package = io.BytesIO(bundle(CLIENT))
        with zipfile.ZipFile(package, "a") as code:
            code.writestr("wire.py", WIRE)
        self.client = self.deploy.function("", VpcConfig=where, Code={"ZipFile": package.getvalue()})

    def write(self, name: str, content: str | None = None) -> Any:
        event = {"name": name} if content is None else {"name": name, "content": content}
        return self.deploy.invoke(self.writer, event)

    def read(self, name: str, **more: Any) -> Any:
        return self.deploy.invoke(
            self.client, {"act": "read", "host": self.host, "path": ["data", name], **more}
        )

    def make(self, name: str, **more: Any) -> Any:
        return self.deploy.invoke(
            self.client, {"act": "make", "host": self.host, "path": ["data"], "name": name, **more}
        )

    def policy(self, *actions: str, vpc: str, secure: bool = False) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": [f"elasticfilesystem:{action}" for action in actions],
            "Condition": {
                "Bool": {"elasticfilesystem:AccessedViaMountTarget": "true"}
                | ({"aws:SecureTransport": "true"} if secure else {}),
                "StringEquals": {"aws:SourceVpc": vpc},
            },
        }
        self.deploy.efs.put_file_system_policy(
            FileSystemId=self.file_system,
            Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )

    def stats(self) -> Any:
        """What fsd counts."""
        status = json.loads(self.server.cli("status", "--json").stdout)
        pid = status["file_server"]["pid"]
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(PATIENCE)
            control.connect(arguments[arguments.index(b"--socket") + 1])
            control.sendall(b'{"id": 1, "op": "stats"}\n')
            with control.makefile() as answers:
                return json.loads(answers.readline())["volumes"][self.file_system]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as directory:
        server = Lambay(Path(directory) / "data")
        yield Stage(server)
        server.stop()


def eventually(act: Any, wanted: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := act()) != wanted:
        assert time.monotonic() < deadline, found


def test_a_function_reads_by_nfs_what_another_wrote_and_the_other_way_round(stage: Stage) -> None:
    stage.write("hello", "from a mount")

    assert stage.read("hello", anew=True) == {"status": wire.OK, "content": "from a mount"}
    assert stage.make("made by nfs")["status"] == wire.OK
    assert stage.write("made by nfs") == {"there": True}


def test_a_mount_is_one_connection_and_an_nfs_client_another(stage: Stage) -> None:
    stage.write("counted", "once")
    stage.read("counted", anew=True)

    assert stage.stats()["connections"] == 2


def test_the_policy_decides_for_clients_that_are_there_already(stage: Stage) -> None:
    stage.write("guarded", "secret")
    vpc = stage.deploy.subnet["VpcId"]
    try:
        stage.policy("ClientMount", vpc="vpc-00000000000000000")
        eventually(lambda: stage.read("guarded").get("status"), wire.ACCES)

        stage.policy("ClientMount", "ClientRootAccess", vpc=vpc)
        eventually(lambda: stage.read("guarded").get("content"), "secret")
        assert stage.make("forbidden")["status"] == wire.ROFS
    finally:
        stage.deploy.efs.delete_file_system_policy(FileSystemId=stage.file_system)
    eventually(lambda: stage.make("permitted").get("status"), wire.OK)


def test_the_mount_helpers_tls_inside_of_a_vpc(stage: Stage, tmp_path: Path) -> None:
    """At the file system's own name: its certificate is checked by that, and the access point is the root."""
    stage.write("encrypted", "for the access point")
    # The authority is made for the first NFS client.
    stage.read("encrypted", anew=True)
    authority = stage.server.data_dir / "tls" / "efs" / "authority.pem"
    what = Mount(stage.file_system, stage.access_point, ROOT)
    what.context(tmp_path, authority, ssl.TLSVersion.TLSv1_3)
    tls = {
        "authority": authority.read_text(),
        "certificate": (tmp_path / "client.pem").read_text(),
        "key": (tmp_path / "client-key.pem").read_text(),
    }

    def read(**more: Any) -> Any:
        event = {"act": "read", "host": stage.host, "path": ["encrypted"], "tls": tls, "anew": True}
        return stage.deploy.invoke(stage.client, event | more)

    try:
        assert read() == {"status": wire.OK, "content": "for the access point"}
        stage.policy("ClientMount", "ClientRootAccess", vpc=stage.deploy.subnet["VpcId"], secure=True)
        eventually(lambda: stage.read("encrypted", anew=True).get("status"), wire.ACCES)
        assert read()["content"] == "for the access point"
    finally:
        stage.deploy.efs.delete_file_system_policy(FileSystemId=stage.file_system)
    untrue = Mount(stage.file_system, stage.access_point, Credentials("test", "wrong"))
    untrue.context(tmp_path, authority, ssl.TLSVersion.TLSv1_3)
    refused = {"certificate": (tmp_path / "client.pem").read_text(), "key": tls["key"]}
    assert read(tls=tls | refused) == {"status": wire.ACCES, "content": None}


def test_the_file_server_dies_and_clients_come_again(stage: Stage) -> None:
    stage.write("lasting", "still here")
    stage.read("lasting", anew=True)
    dead = json.loads(stage.server.cli("status", "--json").stdout)["file_server"]["pid"]

    os.kill(dead, signal.SIGKILL)

    eventually(lambda: stage.read("lasting").get("content"), "still here")
    eventually(lambda: stage.deploy.invoke(stage.writer, {"name": "lasting"}), {"there": True})
    assert "closed the connection" not in stage.server.said()


def test_a_mount_target_that_goes_takes_its_clients_along(stage: Stage) -> None:
    stage.write("last", "words")
    stage.read("last", anew=True)
    efs = stage.deploy.efs
    target = efs.describe_mount_targets(FileSystemId=stage.file_system)["MountTargets"][0]["MountTargetId"]

    efs.delete_mount_target(MountTargetId=target)

    eventually(lambda: "ended" in stage.read("last"), True)
