"""Clients as EFS's mount helper makes them: TLS from the first byte, and a certificate that says who connects."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lambay.settings import Settings

from . import wire
from .mount_helper import ROOT, Credentials, Mount
from .test_offering import available, eventually, port
from .wire import Client, Connection, User, u32

PUTROOTFH = u32(wire.PUTROOTFH)
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def lambay() -> Iterator[Any]:
    from tests.e2e.arrange import Lambay

    with tempfile.TemporaryDirectory() as directory:
        server = Lambay(Path(directory) / "data", "--nfs-listen", "127.0.0.1:0")
        yield server
        server.stop()


@pytest.fixture(scope="module")
def file_system(lambay: Any) -> str:
    efs = lambay.boto("efs")
    made: str = efs.create_file_system(CreationToken="helper")["FileSystemId"]
    available(efs, made)
    return made


@pytest.fixture(scope="module")
def access_point(lambay: Any, file_system: str) -> str:
    creation = {"OwnerUid": 1000, "OwnerGid": 1000, "Permissions": "755"}
    made: str = lambay.boto("efs").create_access_point(
        ClientToken="helper",
        FileSystemId=file_system,
        PosixUser={"Uid": 1000, "Gid": 1000},
        RootDirectory={"Path": "/p", "CreationInfo": creation},
    )["AccessPointId"]
    return made


@pytest.fixture(scope="module")
def user(lambay: Any) -> Credentials:
    """Of an IAM user without any policies."""
    iam = lambay.boto("iam")
    iam.create_user(UserName="mounter")
    key = iam.create_access_key(UserName="mounter")["AccessKey"]
    return Credentials(key["AccessKeyId"], key["SecretAccessKey"])


@pytest.fixture
def mount(lambay: Any, tmp_path: Path) -> Iterator[Callable[..., Client]]:
    opened: list[Connection] = []

    def mount(what: Mount, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Client:
        connection = Connection(port(lambay), User(0, 0))
        opened.append(connection)
        authority = lambay.data_dir / "tls" / "efs" / "authority.pem"
        connection.wrap(what.context(tmp_path, authority, version), what.name)
        return Client(connection)

    yield mount
    for connection in opened:
        connection.close()


@pytest.fixture
def policy(lambay: Any, file_system: str) -> Iterator[Callable[..., None]]:
    efs = lambay.boto("efs")

    def put(principal: str, *actions: str, **condition: dict[str, str]) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": principal},
            "Action": [f"elasticfilesystem:{action}" for action in actions],
            **({"Condition": condition} if condition else {}),
        }
        efs.put_file_system_policy(
            FileSystemId=file_system, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        )

    yield put
    efs.delete_file_system_policy(FileSystemId=file_system)


def make(client: Client) -> int:
    """The status of making a directory; its name is a new one."""
    return client.status(PUTROOTFH, wire.create(2, f"made {next(NUMBERS)}"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_access_point_with_iam(
    lambay: Any,
    mount: Callable[..., Client],
    file_system: str,
    access_point: str,
    version: ssl.TLSVersion,
) -> None:
    client = mount(Mount(file_system, access_point, ROOT), version)

    name = f"by {version.name}"
    client.ok(PUTROOTFH, wire.open_(b"o", name, create=wire.unchecked(mode=0o600)))

    assert (lambay.data_dir / "file-systems" / file_system / "p" / name).stat().st_uid == 1000


def test_the_file_system_itself_without_iam(
    lambay: Any, mount: Callable[..., Client], file_system: str
) -> None:
    client = mount(Mount(file_system))

    client.ok(PUTROOTFH, wire.open_(b"o", "plain", create=wire.unchecked(mode=0o600)))

    assert (lambay.data_dir / "file-systems" / file_system / "plain").stat().st_uid == 0


def test_the_policy_knows_who_connects_and_changes_hold_at_once(
    mount: Callable[..., Client], policy: Callable[..., None], file_system: str, user: Credentials
) -> None:
    policy("arn:aws:iam::000000000000:user/mounter", "ClientMount", "ClientWrite", "ClientRootAccess")
    eventually(lambda: make(mount(Mount(file_system))), wire.ACCES)
    client = mount(Mount(file_system, credentials=user))
    assert make(client) == wire.OK

    policy("arn:aws:iam::000000000000:user/mounter", "ClientMount", "ClientRootAccess")
    eventually(lambda: make(client), wire.ROFS)
    policy("arn:aws:iam::000000000000:user/another", "ClientMount", "ClientWrite", "ClientRootAccess")
    eventually(lambda: make(client), wire.ACCES)


def test_policies_of_a_role_decide_for_its_sessions(
    lambay: Any, mount: Callable[..., Client], policy: Callable[..., None], file_system: str
) -> None:
    iam = lambay.boto("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(
        RoleName="mounting",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": trust}),
    )["Role"]["Arn"]
    given = lambay.boto("sts").assume_role(RoleArn=role, RoleSessionName="here")["Credentials"]
    session = Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    policy("arn:aws:iam::000000000000:user/mounter", "ClientMount")
    client = mount(Mount(file_system, credentials=session))
    eventually(lambda: make(client), wire.ACCES)

    iam.attach_role_policy(
        RoleName="mounting", PolicyArn="arn:aws:iam::aws:policy/AmazonElasticFileSystemClientFullAccess"
    )

    eventually(lambda: make(client), wire.OK)


def test_a_policy_can_name_addresses(
    mount: Callable[..., Client], policy: Callable[..., None], file_system: str
) -> None:
    actions = "ClientMount", "ClientWrite", "ClientRootAccess"
    client = mount(Mount(file_system))
    policy("*", *actions, IpAddress={"aws:SourceIp": "192.0.2.0/24"})
    eventually(lambda: make(client), wire.ACCES)
    policy("*", *actions, IpAddress={"aws:SourceIp": "127.0.0.0/8"})
    eventually(lambda: make(client), wire.OK)


LONG_AGO = datetime.now(UTC) - timedelta(days=2)
UNTRUE: dict[str, Callable[[Mount], Mount]] = {
    "another secret": lambda mount: replace(mount, credentials=Credentials("test", "no")),
    "an unknown key": lambda mount: replace(mount, credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "no")),
    "for another file system": lambda mount: replace(mount, signed_for="fs-00000000000000000"),
    "for another certificate": lambda mount: replace(mount, another_key=True),
    "for another Region": lambda mount: replace(mount, region="eu-west-1"),
    "signed long ago": lambda mount: replace(mount, signed_at=LONG_AGO),
    "no longer valid": lambda mount: replace(mount, ends=timedelta(minutes=-1)),
    "not valid yet": lambda mount: replace(mount, begins=timedelta(minutes=10)),
    "no such access point": lambda mount: replace(mount, access_point="fsap-00000000000000000"),
    "no such file system": lambda mount: replace(mount, file_system="fs-00000000000000000"),
}


@pytest.mark.parametrize("what", UNTRUE)
def test_what_is_untrue_is_denied(
    mount: Callable[..., Client], file_system: str, access_point: str, what: str
) -> None:
    """The session is made, as with EFS; there is nothing in it."""
    client = mount(UNTRUE[what](Mount(file_system, access_point, ROOT)))

    assert client.status(PUTROOTFH, u32(wire.GETFH)) == wire.ACCES


def test_an_access_point_belongs_to_its_file_system(
    lambay: Any, mount: Callable[..., Client], access_point: str
) -> None:
    efs = lambay.boto("efs")
    other = efs.create_file_system(CreationToken="other")["FileSystemId"]
    available(efs, other)

    client = mount(Mount(other, access_point, ROOT))

    assert client.status(PUTROOTFH, u32(wire.GETFH)) == wire.ACCES


def test_handles_hold_over_a_restart_of_the_file_server_and_a_new_certificate(
    lambay: Any, mount: Callable[..., Client], file_system: str, access_point: str
) -> None:
    before = mount(Mount(file_system, access_point, ROOT))
    handle, _ = before.open("kept")
    server = Settings(data_dir=lambay.data_dir).run_dir / "fsd.pid"

    os.kill(int(server.read_text()), signal.SIGKILL)
    with contextlib.suppress(OSError):
        assert before.connection.socket.recv(1) == b""

    after = mount(Mount(file_system, access_point, ROOT))
    assert after.status(wire.putfh(handle), u32(wire.GETFH)) == wire.OK
