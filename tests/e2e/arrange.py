"""A running server as an object, and short ways to arrange things on it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

LAMBAY = Path(sys.executable).with_name("lambay")
RUNTIME = f"python3.{sys.version_info.minor}"
PATIENCE = 60.0
VPC_ACCESS = "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"


class Lambay:
    """One server process; `boto` gives clients of it."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self.options = options
        self.start()

    def start(self) -> None:
        command = [str(LAMBAY), "up", "--port", "0", "--data-dir", str(self.data_dir), *self.options]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read when the server fails to start
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()
        if not self.ready.startswith("Lambay ready"):
            self.process.wait(PATIENCE)
            raise RuntimeError(f"not ready: {self.ready!r}\n{self.said()}")
        self.endpoint = next(word for word in self.ready.split() if word.startswith("http"))

    def said(self) -> str:
        """The server's own log so far."""
        self.log.seek(0)
        return self.log.read()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def boto(self, service: str, key: str = "test", secret: str = "test", token: str | None = None) -> Any:
        session = boto3.Session(key, secret, token, region_name="us-east-1")
        config = Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE)
        return session.client(service, endpoint_url=self.endpoint, config=config)

    def follow_logs(self, function: str) -> subprocess.Popen[str]:
        """`lambay logs -f FUNCTION`: its lines on stdout as they come, those of the last hour first."""
        return subprocess.Popen(
            [str(LAMBAY), "logs", "-f", function],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"AWS_ENDPOINT_URL": self.endpoint},
        )

    def cli(
        self, *arguments: str, input: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`lambay ARGUMENTS` against this server."""
        return subprocess.run(
            [str(LAMBAY), *arguments],
            input=input,
            check=check,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=os.environ | {"AWS_ENDPOINT_URL": self.endpoint},
        )


class Deployer:
    """Makes file systems, access points and functions on a server as a user would with boto3."""

    def __init__(self, server: Lambay, key: str = "test", secret: str = "test") -> None:
        self.server = server
        self.efs, self.ec2 = server.boto("efs", key, secret), server.boto("ec2", key, secret)
        self.lambda_, self.iam = server.boto("lambda", key, secret), server.boto("iam", key, secret)
        subnets = self.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])[
            "Subnets"
        ]
        self.subnet = min(subnets, key=lambda subnet: subnet["AvailabilityZone"])
        groups = self.ec2.describe_security_groups(
            Filters=[
                {"Name": "vpc-id", "Values": [self.subnet["VpcId"]]},
                {"Name": "group-name", "Values": ["default"]},
            ]
        )
        self.group = groups["SecurityGroups"][0]["GroupId"]
        self._role: str | None = None

    @property
    def role(self) -> str:
        if self._role is None:
            trust = {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": "lambda.amazonaws.com"},
                        "Action": "sts:AssumeRole",
                    }
                ],
            }
            name = unique("role")
            made = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
            self.iam.attach_role_policy(RoleName=name, PolicyArn=VPC_ACCESS)
            self._role = made["Role"]["Arn"]
        return self._role

    def file_system(self, **settings: Any) -> str:
        """A file system, elastic unless told otherwise, with a mount target in the one subnet used here."""
        settings = {"ThroughputMode": "elastic"} | settings
        created = self.efs.create_file_system(CreationToken=unique("token"), **settings)
        file_system_id: str = created["FileSystemId"]
        available(lambda: self.efs.describe_file_systems(FileSystemId=file_system_id)["FileSystems"])
        self.efs.create_mount_target(
            FileSystemId=file_system_id, SubnetId=self.subnet["SubnetId"], SecurityGroups=[self.group]
        )
        available(lambda: self.efs.describe_mount_targets(FileSystemId=file_system_id)["MountTargets"])
        return file_system_id

    def access_point(
        self, file_system_id: str, path: str = "/data", uid: int = 1000, mode: str = "0755"
    ) -> str:
        """The ARN of an access point at `path` acting as `uid`, which owns the directory when it is first made."""
        created = self.efs.create_access_point(
            ClientToken=unique("token"),
            FileSystemId=file_system_id,
            PosixUser={"Uid": uid, "Gid": uid},
            RootDirectory={
                "Path": path,
                "CreationInfo": {"OwnerUid": uid, "OwnerGid": uid, "Permissions": mode},
            },
        )
        found = available(
            lambda: self.efs.describe_access_points(AccessPointId=created["AccessPointId"])["AccessPoints"]
        )
        arn: str = found[0]["AccessPointArn"]
        return arn

    def function(self, source: str, access_point: str | None = None, **settings: Any) -> str:
        """The name of a new, active function whose module `app` is `source`, with the access point at /mnt/efs."""
        name: str = settings.pop("FunctionName", unique("function"))
        if access_point is not None:
            settings.setdefault(
                "VpcConfig", {"SubnetIds": [self.subnet["SubnetId"]], "SecurityGroupIds": [self.group]}
            )
            settings["FileSystemConfigs"] = [{"Arn": access_point, "LocalMountPath": "/mnt/efs"}]
        defaults = {
            "Runtime": RUNTIME,
            "Handler": "app.handler",
            "Role": self.role,
            "Timeout": 20,
            "MemorySize": 512,
            "Code": {"ZipFile": bundle(source)},
        }
        # What is None has no default: an image has neither runtime nor handler.
        given = {member: value for member, value in (defaults | settings).items() if value is not None}
        self.lambda_.create_function(FunctionName=name, **given)
        self.lambda_.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1})
        return name

    def invoke(self, name: str, event: Any = None, **options: Any) -> Any:
        """The function's parsed answer; fails the test where the function failed."""
        answer = self.lambda_.invoke(FunctionName=name, Payload=json.dumps(event), **options)
        payload = json.loads(answer["Payload"].read() or b"null")
        assert "FunctionError" not in answer, payload
        return payload


def control_groups(tag: str) -> list[Path]:
    """Those of an instance, its parents first. Others' come and go meanwhile."""
    names = f"lambay-{tag}"
    return [Path(found) for found, _, _ in os.walk("/sys/fs/cgroup") if names in found]


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def bundle(source: str) -> bytes:
    """A zip with `source` as app.py."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("app.py", textwrap.dedent(source))
    return archive.getvalue()


def available(describe: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What `describe` returns once every resource in it is available: EFS has no waiter and no event for it."""
    while True:
        found = describe()
        if all(resource["LifeCycleState"] == "available" for resource in found):
            return found
