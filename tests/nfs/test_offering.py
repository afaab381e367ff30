"""`lambay up --nfs-listen`: what EFS has is what NFS clients can mount, as its policies say."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import wire
from .wire import Client, Connection, User, u32

PATIENCE = 60.0


@pytest.fixture(scope="module")
def lambay() -> Iterator[Any]:
    from tests.e2e.arrange import Lambay

    with tempfile.TemporaryDirectory() as directory:
        server = Lambay(Path(directory) / "data", "--nfs-listen", "127.0.0.1:0")
        yield server
        server.stop()


def port(lambay: Any) -> int:
    status = json.loads(lambay.cli("status", "--json").stdout)
    return int(status["nfs"].rpartition(":")[2])


def available(efs: Any, file_system: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while (
        efs.describe_file_systems(FileSystemId=file_system)["FileSystems"][0]["LifeCycleState"] != "available"
    ):
        assert time.monotonic() < deadline


def eventually(act: Any, wanted: int) -> None:
    """The file server hears of a change right after it is made, not before the call that makes it is answered."""
    deadline = time.monotonic() + PATIENCE
    while (status := act()) != wanted:
        assert time.monotonic() < deadline, status


def test_file_systems_and_access_points_come_and_go_and_policies_decide(lambay: Any) -> None:
    efs = lambay.boto("efs")
    file_system = efs.create_file_system(CreationToken="nfs")["FileSystemId"]
    available(efs, file_system)
    point = efs.create_access_point(
        ClientToken="nfs",
        FileSystemId=file_system,
        PosixUser={"Uid": 1000, "Gid": 1000},
        RootDirectory={
            "Path": "/p",
            "CreationInfo": {"OwnerUid": 1000, "OwnerGid": 1000, "Permissions": "755"},
        },
    )["AccessPointId"]
    client = Client(Connection(port(lambay), User(0, 0)))
    root = u32(wire.PUTROOTFH)

    eventually(lambda: client.status(root, wire.lookup(point)), wire.OK)
    client.ok(root, wire.lookup(point), wire.open_(b"o", "file", create=wire.unchecked(mode=0o600)))
    backing = lambay.data_dir / "file-systems" / file_system
    assert (backing / "p" / "file").stat().st_uid == 1000

    def policy(*actions: str) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": [f"elasticfilesystem:{action}" for action in actions],
            "Condition": {"Bool": {"elasticfilesystem:AccessedViaMountTarget": "true"}},
        }
        efs.put_file_system_policy(
            FileSystemId=file_system, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        )

    numbers = itertools.count()

    def make() -> int:
        """A new name each time: one that exists has an answer of its own."""
        return client.status(root, wire.lookup(file_system), wire.create(2, f"made {next(numbers)}"))

    policy("ClientMount", "ClientRootAccess")
    eventually(make, wire.ROFS)
    policy("ClientMount", "ClientWrite")
    eventually(make, wire.ACCES)
    policy("ClientWrite")
    eventually(lambda: client.status(root, wire.lookup(file_system), u32(wire.GETFH)), wire.ACCES)
    policy("ClientMount", "ClientWrite", "ClientRootAccess")
    eventually(make, wire.OK)

    efs.delete_access_point(AccessPointId=point)
    eventually(lambda: client.status(root, wire.lookup(point)), wire.NOENT)
    efs.delete_file_system(FileSystemId=file_system)
    eventually(lambda: client.status(root, wire.lookup(file_system)), wire.NOENT)


def test_a_policy_can_name_the_addresses_of_clients_without_tls(lambay: Any) -> None:
    efs = lambay.boto("efs")
    file_system = efs.create_file_system(CreationToken=f"addresses {time.monotonic_ns()}")["FileSystemId"]
    available(efs, file_system)

    def policy(*statements: dict[str, Any]) -> None:
        everything = {"Principal": {"AWS": "*"}, "Action": "elasticfilesystem:Client*"}
        document = {"Version": "2012-10-17", "Statement": [everything | each for each in statements]}
        efs.put_file_system_policy(FileSystemId=file_system, Policy=json.dumps(document))

    def allow(addresses: str) -> dict[str, Any]:
        return {"Effect": "Allow", "Condition": {"IpAddress": {"aws:SourceIp": addresses}}}

    near, far = (
        Client(Connection(port(lambay), User(0, 0), source=source)) for source in ("127.0.0.1", "127.0.0.9")
    )

    def sees(client: Client) -> int:
        return client.status(u32(wire.PUTROOTFH), wire.lookup(file_system), u32(wire.GETFH))

    policy(allow("192.0.2.0/24"))
    for client in (near, far):
        eventually(lambda client=client: sees(client), wire.ACCES)  # type: ignore[misc]
    policy(allow("127.0.0.0/8"))
    for client in (near, far):
        eventually(lambda client=client: sees(client), wire.OK)  # type: ignore[misc]
    others = {"NotIpAddress": {"aws:SourceIp": "127.0.0.1"}}
    policy(allow("127.0.0.0/8"), {"Effect": "Deny", "Condition": others})
    eventually(lambda: sees(far), wire.ACCES)
    assert sees(near) == wire.OK


def test_the_command_to_mount_by_nfs(lambay: Any) -> None:
    said = lambay.cli("fs", "mount", "--nfs", "fs-0123456789abcdef0:/models", "/mnt/shared").stdout
    assert said == (
        "mount -t nfs4 -o vers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport,"
        f"port={port(lambay)} 127.0.0.1:/fs-0123456789abcdef0/models /mnt/shared\n"
    )
