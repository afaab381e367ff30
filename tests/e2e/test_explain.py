"""Misconfigurations of the troubleshooting pages: built, seen to fail as on AWS, explained, mended, seen to work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.arrange import VPC_ACCESS, Deployer, Lambay, unique

ACCOUNT = "000000000000"
READ_WRITE = "arn:aws:iam::aws:policy/AmazonElasticFileSystemClientReadWriteAccess"
LAMBDA = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}

# Appends to a file and says how that went.
WRITER = """
    import errno, os
    def handler(event, context):
        try:
            with open("/mnt/efs/x", "a") as file:
                file.write("x")
            return "written"
        except OSError as error:
            return errno.errorcode[error.errno]
    """


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@dataclass
class Application:
    """A function with a role, a file system and an access point of its own."""

    server: Lambay
    deploy: Deployer
    file_system: str
    role: str
    root: str = "/data"
    access_point: str = ""
    function: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def file_system_arn(self) -> str:
        return f"arn:aws:elasticfilesystem:us-east-1:{ACCOUNT}:file-system/{self.file_system}"

    @property
    def role_arn(self) -> str:
        return f"arn:aws:iam::{ACCOUNT}:role/{self.role}"

    @property
    def directory(self) -> Path:
        return self.server.data_dir / "file-systems" / self.file_system / self.root.lstrip("/")

    def create(self, source: str = WRITER, **settings: Any) -> None:
        self.access_point = self.access_point or self.deploy.access_point(self.file_system, self.root)
        settings = {"Role": self.role_arn, **settings}
        self.function = self.deploy.function(source, self.access_point, **settings)

    def invoke(self) -> Any:
        return self.deploy.invoke(self.function)

    def refused(self) -> tuple[str, str]:
        """Code and message of the error that the invocation ends in."""
        with pytest.raises(ClientError) as caught:
            self.invoke()
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    def explain(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(
            self.server.cli("explain", self.function, "--json", check=False).stdout
        )
        return told

    def cause(self) -> str:
        """What `lambay explain` names as the one thing to change; empty where nothing is in the way."""
        return self.explain()["cause"] or ""

    def notes(self) -> str:
        return "\n".join(step["sentence"] for step in self.explain()["steps"] if step["outcome"] == "note")

    def logged(self) -> str:
        group = f"/aws/lambda/{self.function}"
        events = self.server.boto("logs").filter_log_events(logGroupName=group)["events"]
        return "\n".join(event["message"] for event in events)

    def policy(self, *statements: dict[str, Any]) -> None:
        self.deploy.efs.put_file_system_policy(FileSystemId=self.file_system, Policy=document(*statements))

    def grant(self, action: Any, resource: str, **elements: Any) -> None:
        """An inline policy of the role, the only one but the right to interfaces."""
        statement = {"Effect": "Allow", "Action": action, "Resource": resource, **elements}
        self.deploy.iam.put_role_policy(
            RoleName=self.role, PolicyName="own", PolicyDocument=document(statement)
        )


@pytest.fixture
def application(lambay: Lambay, deploy: Deployer) -> Callable[[], Application]:
    def make() -> Application:
        role = unique("role")
        deploy.iam.create_role(RoleName=role, AssumeRolePolicyDocument=document(LAMBDA))
        deploy.iam.attach_role_policy(RoleName=role, PolicyArn=VPC_ACCESS)
        return Application(lambay, deploy, deploy.file_system(), role)

    return make


@pytest.fixture
def app(application: Callable[[], Application]) -> Application:
    made = application()
    made.create()
    return made


# What nobody but IAM says: another role is named, and ours not.
OTHERS = {
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
    "Action": "elasticfilesystem:DescribeFileSystems",
}


def test_without_a_file_system_policy_a_missing_permission_changes_nothing(app: Application) -> None:
    assert app.invoke() == "written"
    assert app.cause() == ""
    assert "has no file system policy, so everybody who reaches it has full access" in app.notes()


def test_a_role_without_client_mount(app: Application) -> None:
    app.policy(OTHERS)
    code, message = app.refused()
    cause = app.cause()
    assert code == "EFSMountFailureException"
    assert message.startswith(
        f"The function could not mount the EFS file system with access point {app.access_point}."
    )
    assert cause in message
    assert f"EFSMountFailureException: {cause}" in app.logged()
    assert f"role {app.role_arn} lacks elasticfilesystem:ClientMount on {app.file_system_arn}" in cause
    managed = cause.rpartition("granted by attaching ")[2].partition(" ")[0]
    app.deploy.iam.attach_role_policy(RoleName=app.role, PolicyArn=managed)
    assert app.invoke() == "EROFS"


def test_a_role_without_client_write(app: Application) -> None:
    app.policy(OTHERS)
    app.grant("elasticfilesystem:ClientMount", app.file_system_arn)
    assert app.invoke() == "EROFS"
    assert f"lacks elasticfilesystem:ClientWrite on {app.file_system_arn}" in app.cause()
    managed = app.cause().rpartition("granted by attaching ")[2].partition(" ")[0]
    assert managed == READ_WRITE
    app.deploy.iam.attach_role_policy(RoleName=app.role, PolicyArn=managed)
    assert app.invoke() == "written"
    assert app.cause() == ""


def test_a_policy_whose_resource_is_the_access_point(app: Application) -> None:
    app.policy(OTHERS)
    app.grant("elasticfilesystem:Client*", app.access_point)
    code, message = app.refused()
    assert code == "EFSMountFailureException"
    assert app.cause() in message
    assert "as Resource and never applies to a mount" in app.cause()
    through = {"StringEquals": {"elasticfilesystem:AccessPointArn": app.access_point}}
    app.grant("elasticfilesystem:Client*", app.file_system_arn, Condition=through)
    assert app.invoke() == "written"


def test_a_deny_names_its_statement(app: Application) -> None:
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "elasticfilesystem:Client*"}
    deny = {"Sid": "Keep", "Effect": "Deny", "Principal": "*", "Action": "elasticfilesystem:ClientWrite"}
    app.policy(everybody, deny)
    assert app.invoke() == "EROFS"
    assert "by statement 'Keep' of resource-based policy" in app.cause()
    app.policy(everybody)
    assert app.invoke() == "written"


def test_only_secure_transport_is_what_a_function_has(app: Application) -> None:
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "elasticfilesystem:Client*"}
    plain = {"Bool": {"aws:SecureTransport": "false"}}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "*", "Condition": plain}
    through = {"Bool": {"elasticfilesystem:AccessedViaMountTarget": "true"}}
    app.policy({**everybody, "Condition": through}, deny)
    assert app.invoke() == "written"


def test_without_root_access_root_is_nobody(application: Callable[[], Application]) -> None:
    app = application()
    app.access_point = app.deploy.access_point(app.file_system, app.root, uid=0)
    app.create()
    assert app.invoke() == "written"
    actions = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
    app.policy({"Effect": "Allow", "Principal": "*", "Action": actions})
    assert app.invoke() == "EACCES"
    assert "PosixUser 0 without ClientRootAccess" in app.cause()
    app.policy({"Effect": "Allow", "Principal": "*", "Action": "elasticfilesystem:Client*"})
    assert app.invoke() == "written"


def test_a_directory_that_another_user_owns(app: Application) -> None:
    # Somebody made it before the access point was there.
    app.directory.mkdir(mode=0o700)
    assert app.invoke() == "EACCES"
    assert "access point root /data is owned by 0:0 mode 700; PosixUser is 1000:1000" in app.cause()
    # "Delete the directory and let the access point make it anew."
    shutil.rmtree(app.directory)
    app.deploy.lambda_.update_function_configuration(FunctionName=app.function, Description="again")
    app.deploy.lambda_.get_waiter("function_updated_v2").wait(
        FunctionName=app.function, WaiterConfig={"Delay": 0.1}
    )
    assert app.invoke() == "written"
    assert app.cause() == ""


def test_a_root_directory_that_is_not_there(application: Callable[[], Application]) -> None:
    app = application()
    made = app.deploy.efs.create_access_point(
        ClientToken=unique("token"),
        FileSystemId=app.file_system,
        PosixUser={"Uid": 1000, "Gid": 1000},
        RootDirectory={"Path": "/missing"},
    )
    app.access_point, app.root = made["AccessPointArn"], "/missing"
    app.create()
    code, message = app.refused()
    cause = app.cause()
    assert (code, cause in message) == ("EFSMountFailureException", True)
    assert f"access point root /missing does not exist on {app.file_system}" in cause
    assert cause in app.logged()
    app.directory.mkdir()
    os.chown(app.directory, 1000, 1000)
    assert app.invoke() == "written"


def test_an_access_point_that_was_deleted(app: Application) -> None:
    assert app.invoke() == "written"
    app.deploy.efs.delete_access_point(AccessPointId=app.access_point.rpartition("/")[2])
    code, _ = app.refused()
    assert code == "EFSMountFailureException"
    assert app.access_point in app.cause()


def test_a_role_that_does_not_trust_lambda_any_more(app: Application) -> None:
    ec2 = {**LAMBDA, "Principal": {"Service": "ec2.amazonaws.com"}}
    app.deploy.iam.update_assume_role_policy(RoleName=app.role, PolicyDocument=document(ec2))
    code, message = app.refused()
    assert (code, message) == (
        "AccessDeniedException",
        "The role defined for the function cannot be assumed by Lambda.",
    )
    assert f"role {app.role_arn} does not exist or does not let Lambda assume it" in app.cause()
    app.deploy.iam.update_assume_role_policy(RoleName=app.role, PolicyDocument=document(LAMBDA))
    assert app.invoke() == "written"


def test_a_trust_policy_keeps_other_accounts_deputies_out(app: Application) -> None:
    def only(account: str) -> None:
        mine = {**LAMBDA, "Condition": {"StringEquals": {"aws:SourceAccount": account}}}
        app.deploy.iam.update_assume_role_policy(RoleName=app.role, PolicyDocument=document(mine))

    only("222222222222")
    assert app.refused()[0] == "AccessDeniedException"
    only(ACCOUNT)
    assert app.invoke() == "written"


def test_a_role_without_the_right_to_network_interfaces(application: Callable[[], Application]) -> None:
    app = application()
    app.deploy.iam.detach_role_policy(RoleName=app.role, PolicyArn=VPC_ACCESS)
    with pytest.raises(ClientError) as caught:
        app.create()
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert caught.value.response["Error"]["Message"] == (
        "The provided execution role does not have permissions to call CreateNetworkInterface on EC2"
    )
    app.deploy.iam.attach_role_policy(RoleName=app.role, PolicyArn=VPC_ACCESS)
    app.create()
    app.deploy.iam.detach_role_policy(RoleName=app.role, PolicyArn=VPC_ACCESS)
    assert f"granted by attaching {VPC_ACCESS}" in app.cause()


def test_a_file_system_without_mount_target(app: Application) -> None:
    efs = app.deploy.efs
    target = efs.describe_mount_targets(FileSystemId=app.file_system)["MountTargets"][0]
    efs.delete_mount_target(MountTargetId=target["MountTargetId"])
    while efs.describe_mount_targets(FileSystemId=app.file_system)["MountTargets"]:
        pass
    code, message = app.refused()
    cause = app.cause()
    assert (code, cause in message) == ("EFSMountConnectivityException", True)
    assert f"no mount target of {app.file_system} is available in {target['AvailabilityZoneName']}" in cause
    assert cause in app.logged()
    efs.create_mount_target(
        FileSystemId=app.file_system, SubnetId=target["SubnetId"], SecurityGroups=[app.deploy.group]
    )
    while (
        efs.describe_mount_targets(FileSystemId=app.file_system)["MountTargets"][0]["LifeCycleState"]
        != "available"
    ):
        pass
    assert app.invoke() == "written"


def test_a_function_that_mounts_nothing(app: Application) -> None:
    app.deploy.lambda_.update_function_configuration(FunctionName=app.function, FileSystemConfigs=[])
    app.deploy.lambda_.get_waiter("function_updated_v2").wait(
        FunctionName=app.function, WaiterConfig={"Delay": 0.1}
    )
    assert app.invoke() == "ENOENT"
    assert "mounts no file system: there is nothing at /mnt" in app.notes()


@pytest.mark.parametrize(
    "subject", ["arn:aws:sqs:us-east-1:000000000000:orders", "arn:aws:lambda:x", "arn:nothing", "two words"]
)
def test_what_is_no_function_and_no_file_system(lambay: Lambay, subject: str) -> None:
    done = lambay.cli("explain", subject, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"lambay: {subject} is no function, access point or file system: give a function's name or ARN, "
        "or the id or ARN of an access point or file system\n"
    )


def test_a_disabled_key_keeps_its_file_system_from_being_mounted(
    application: Callable[[], Application],
) -> None:
    app = application()
    kms = app.server.boto("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    app.deploy.efs.delete_mount_target(
        MountTargetId=app.deploy.efs.describe_mount_targets(FileSystemId=app.file_system)["MountTargets"][0][
            "MountTargetId"
        ]
    )
    app.file_system = app.deploy.file_system(Encrypted=True, KmsKeyId=key)
    app.create()
    assert app.invoke() == "written"
    kms.disable_key(KeyId=key)
    code, message = app.refused()
    cause = app.cause()
    assert (code, cause in message) == ("EFSMountFailureException", True)
    assert cause == f"KMS key {key} of file system {app.file_system} is Disabled: enable it"
    kms.enable_key(KeyId=key)
    assert app.invoke() == "written"
    kms.schedule_key_deletion(KeyId=key)
    assert "is PendingDeletion: cancel its deletion" in app.refused()[1]
    kms.cancel_key_deletion(KeyId=key)
    kms.enable_key(KeyId=key)
    assert app.invoke() == "written"


# Goes on changing something, and says what stopped it. It holds no file open: who does may end by the change.
LONG = """
    import errno, os, time
    def handler(event, context):
        os.mkdir("/mnt/efs/x")
        while context.get_remaining_time_in_millis() > 2000:
            try:
                os.utime("/mnt/efs/x")
            except OSError as error:
                return errno.errorcode[error.errno]
            time.sleep(0.01)
        return "nothing stopped it"
    """


def test_a_policy_change_reaches_a_mount_in_use(application: Callable[[], Application]) -> None:
    from threading import Thread

    app = application()
    app.create(LONG, Timeout=60)
    ends: list[Any] = []

    def run() -> None:
        try:
            ends.append(app.invoke())
        except ClientError as error:
            ends.append(error.response["Error"]["Code"])

    def during(change: Callable[[], None]) -> Any:
        running = Thread(target=run)
        running.start()
        while running.is_alive() and not (app.directory / "x").exists():
            pass
        change()
        running.join()
        (app.directory / "x").rmdir()
        return ends.pop()

    reading = {"Effect": "Allow", "Principal": "*", "Action": "elasticfilesystem:ClientMount"}
    writing = {"Effect": "Allow", "Principal": "*", "Action": "elasticfilesystem:Client*"}
    assert during(lambda: app.policy(reading)) == "EROFS"
    app.policy(OTHERS)
    app.grant("elasticfilesystem:Client*", app.file_system_arn)
    take_away = {"RoleName": app.role, "PolicyName": "own"}
    assert during(lambda: app.deploy.iam.delete_role_policy(**take_away)) == "EFSIOException"
    assert app.refused()[0] == "EFSMountFailureException"
    app.policy(writing)
    # The mount stands again, and nothing of what was taken away stays.
    assert during(lambda: app.policy(reading)) == "EROFS"


# Holds one file open and goes on writing to it.
HOLDER = """
    import errno, os
    def handler(event, context):
        file = os.open("/mnt/efs/x", os.O_CREAT | os.O_WRONLY)
        while context.get_remaining_time_in_millis() > 2000:
            try:
                os.pwrite(file, b"x", 0)
            except OSError as error:
                return errno.errorcode[error.errno]
        return "nothing stopped it"
    """


def test_a_file_that_is_open_for_writing_is_no_loophole(application: Callable[[], Application]) -> None:
    """Even where the kernel writes it past the file server."""
    from threading import Thread

    app = application()
    app.create(HOLDER, Timeout=60)
    ends: list[str] = []

    def run() -> None:
        try:
            ends.append(app.invoke())
        except ClientError as error:
            ends.append(error.response["Error"]["Code"])

    running = Thread(target=run)
    running.start()
    while running.is_alive() and not (app.directory / "x").exists():
        pass
    app.policy({"Effect": "Allow", "Principal": "*", "Action": "elasticfilesystem:ClientMount"})
    running.join()
    assert ends[0] in ("EROFS", "EFSIOException")


def test_people_read_it_too(app: Application) -> None:
    told = app.server.cli("explain", app.function)
    assert f"✓ access point: {app.access_point} leads to /data of {app.file_system}" in told.stdout
    assert told.stdout.endswith("Nothing is in the way.\n")
    app.policy(OTHERS)
    told = app.server.cli("explain", app.function, check=False)
    assert told.returncode == 1
    assert "✗ IAM: role" in told.stdout
    told = app.server.cli("explain", app.access_point)
    assert told.stdout.splitlines()[0] == app.access_point
    missing = app.server.cli("explain", "nobody", check=False)
    assert (missing.returncode, "Function not found" in missing.stderr) == (1, True)


def test_environment_variables_want_their_key(app: Application) -> None:
    kms, lambda_ = app.server.boto("kms"), app.deploy.lambda_
    key = kms.create_key()["KeyMetadata"]["Arn"]

    def renewed(**settings: Any) -> None:
        """Environments of their own for what comes."""
        lambda_.update_function_configuration(FunctionName=app.function, **settings)
        lambda_.get_waiter("function_updated_v2").wait(FunctionName=app.function, WaiterConfig={"Delay": 0.1})

    renewed(KMSKeyArn=key, Environment={"Variables": {"NAME": "value"}})
    assert app.invoke() == "written"
    renewed(Description="disabled")
    kms.disable_key(KeyId=key)
    code, message = app.refused()
    assert code == "KMSDisabledException"
    assert message.startswith(
        "Lambda was unable to decrypt the environment variables because the KMS key used is disabled."
    )
    kms.schedule_key_deletion(KeyId=key)
    assert app.refused()[0] == "KMSInvalidStateException"
    kms.cancel_key_deletion(KeyId=key)
    kms.enable_key(KeyId=key)
    for grant in kms.list_grants(KeyId=key)["Grants"]:
        assert grant["GranteePrincipal"] == app.role_arn
        kms.revoke_grant(KeyId=key, GrantId=grant["GrantId"])
    code, message = app.refused()
    assert code == "KMSAccessDeniedException"
    assert f"is not authorized to perform: kms:Decrypt on resource: {key}" in message
    app.grant("kms:Decrypt", key)
    assert app.invoke() == "written"


def test_a_security_group_that_lets_nobody_in(application: Callable[[], Application]) -> None:
    app = application()
    ec2, efs = app.deploy.ec2, app.deploy.efs
    vpc = app.deploy.subnet["VpcId"]
    closed = ec2.create_security_group(GroupName=unique("closed"), Description="-", VpcId=vpc)["GroupId"]
    target = efs.describe_mount_targets(FileSystemId=app.file_system)["MountTargets"][0]["MountTargetId"]
    efs.modify_mount_target_security_groups(MountTargetId=target, SecurityGroups=[closed])
    app.create()
    code, message = app.refused()
    cause = app.cause()
    assert (code, cause in message) == ("EFSMountTimeoutException", True)
    assert f"security group {closed} of mount target {target} has no inbound rule for TCP 2049" in cause
    assert cause in app.logged()
    nfs = {"IpProtocol": "tcp", "FromPort": 2049, "ToPort": 2049}
    group = {"UserIdGroupPairs": [{"GroupId": app.deploy.group}]}
    ec2.authorize_security_group_ingress(GroupId=closed, IpPermissions=[{**nfs, **group}])
    assert app.invoke() == "written"
    assert app.cause() == ""
