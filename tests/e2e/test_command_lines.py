"""The `aws` command line unmodified, and `lambay` itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.arrange import LAMBAY, bundle, unique

ECHO = "def handler(event, context):\n    print('said', event)\n    return event"


def aws(deploy: Any, *arguments: str) -> Any:
    """The parsed answer of `aws ARGUMENTS` with only the endpoint, Region and credentials set."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("aws")), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "AWS_ENDPOINT_URL": deploy.server.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_PAGER": "",
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_the_aws_command_line_makes_and_invokes_a_function_with_a_file_system(
    deploy: Any, tmp_path: Path
) -> None:
    name = unique("function")
    file_system = aws(deploy, "efs", "create-file-system", "--creation-token", name)["FileSystemId"]
    aws(
        deploy,
        "efs",
        "create-mount-target",
        "--file-system-id",
        file_system,
        "--subnet-id",
        deploy.subnet["SubnetId"],
    )
    point = aws(
        deploy,
        *("efs", "create-access-point", "--file-system-id", file_system, "--posix-user", "Uid=1000,Gid=1000"),
        *("--root-directory", "Path=/lambda,CreationInfo={OwnerUid=1000,OwnerGid=1000,Permissions=755}"),
    )
    (tmp_path / "code.zip").write_bytes(
        bundle("import os\ndef handler(event, context): return os.statvfs('/mnt/efs').f_blocks")
    )
    aws(
        deploy,
        *(
            "lambda",
            "create-function",
            "--function-name",
            name,
            "--runtime",
            f"python3.{sys.version_info.minor}",
        ),
        *("--role", deploy.role, "--handler", "app.handler", "--zip-file", f"fileb://{tmp_path}/code.zip"),
        *("--vpc-config", f"SubnetIds={deploy.subnet['SubnetId']},SecurityGroupIds={deploy.group}"),
        *("--file-system-configs", f"Arn={point['AccessPointArn']},LocalMountPath=/mnt/efs"),
    )
    aws(deploy, "lambda", "wait", "function-active-v2", "--function-name", name)

    answer = aws(deploy, "lambda", "invoke", "--function-name", name, str(tmp_path / "out"))

    assert answer["StatusCode"] == 200
    assert "FunctionError" not in answer
    assert int((tmp_path / "out").read_text()) > 0
    groups = aws(deploy, "logs", "describe-log-groups", "--log-group-name-prefix", f"/aws/lambda/{name}")
    assert [group["logGroupName"] for group in groups["logGroups"]] == [f"/aws/lambda/{name}"]


def test_lambay_invoke_shows_answer_and_log(deploy: Any) -> None:
    name = deploy.function(ECHO)

    done = deploy.server.cli("invoke", name, '{"a": 1}')

    assert json.loads(done.stdout) == {"a": 1}
    assert "said {'a': 1}" in done.stderr
    assert "REPORT RequestId:" in done.stderr


def test_the_log_names_the_runtime_version_that_the_configuration_names(deploy: Any) -> None:
    name = deploy.function(ECHO)
    deploy.invoke(name, 1)

    shown = deploy.lambda_.get_function_configuration(FunctionName=name)["RuntimeVersionConfig"]
    assert f"Runtime Version ARN: {shown['RuntimeVersionArn']}" in deploy.server.cli("logs", name).stdout


def test_lambay_invoke_fails_with_the_function(deploy: Any) -> None:
    name = deploy.function("def handler(event, context): raise ValueError('no')")

    done = deploy.server.cli("invoke", name, check=False)

    assert done.returncode == 1
    assert json.loads(done.stdout)["errorType"] == "ValueError"


def test_lambay_logs_shows_what_was_said(deploy: Any) -> None:
    name = deploy.function(ECHO)
    deploy.invoke(name, {"word": "marmalade"})

    assert "marmalade" in deploy.server.cli("logs", name).stdout


def test_lambay_logs_follows(deploy: Any) -> None:
    name = deploy.function(ECHO)
    deploy.invoke(name, {"word": "first"})
    following = subprocess.Popen(
        [str(LAMBAY), "logs", "-f", name, "--filter", "said", "--endpoint", deploy.server.endpoint],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    try:
        assert "first" in following.stdout.readline()
        deploy.invoke(name, {"word": "second"})
        assert "second" in following.stdout.readline()
    finally:
        following.terminate()
        following.wait()


def test_lambay_fs_copies_lists_and_shows(deploy: Any, tmp_path: Path) -> None:
    point = deploy.access_point(deploy.file_system(), uid=4321).rsplit("/", 1)[1]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(os.urandom(1 << 20))
    (tmp_path / "model" / "config").write_text("layers = 6\n")
    server = deploy.server

    server.cli("fs", "cp", "-r", str(tmp_path / "model"), f"{point}:/models/mine")
    listed = json.loads(server.cli("fs", "ls", "--json", f"{point}:/models/mine").stdout)
    server.cli("fs", "cp", f"{point}:/models/mine/weights", str(tmp_path / "back"))

    assert [(entry["name"], entry["uid"]) for entry in listed] == [("config", 4321), ("weights", 4321)]
    assert server.cli("fs", "cat", f"{point}:/models/mine/config").stdout == "layers = 6\n"
    assert (tmp_path / "back").read_bytes() == (tmp_path / "model" / "weights").read_bytes()


def test_lambay_fs_mounts_on_this_host(deploy: Any, tmp_path: Path) -> None:
    arn = deploy.access_point(deploy.file_system())
    function = deploy.function("def handler(event, context): return open('/mnt/efs/from-host').read()", arn)
    directory = tmp_path / "here"
    directory.mkdir()

    deploy.server.cli("fs", "mount", arn.rsplit("/", 1)[1], str(directory))
    try:
        (directory / "from-host").write_text("hello")
        assert deploy.invoke(function) == "hello"
    finally:
        deploy.server.cli("fs", "unmount", str(directory))

    assert not directory.is_mount()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("fs", "ls", "elsewhere:/"), "'elsewhere:/' is not fsap-…:/path or fs-…:/path"),
        (("fs", "ls", "fsap-00000000000000000:/"), "fsap-00000000000000000"),
        (("logs", "no-such-function"), "ResourceNotFoundException"),
        (("invoke", "no-such-function"), "ResourceNotFoundException"),
        (("zone", "down", "mars"), "zone: 'mars' is no Availability Zone's name"),
        (("logs", "x", "--since", "soon"), "--since: 'soon' is not a number with s, m, h or d"),
    ],
)
def test_a_mistake_gets_one_clear_line(deploy: Any, arguments: tuple[str, ...], complaint: str) -> None:
    done = deploy.server.cli(*arguments, check=False)

    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert "max retries" not in done.stderr


def test_without_a_server_the_command_says_so() -> None:
    done = subprocess.run(
        [str(LAMBAY), "status", "--endpoint", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no Lambay answers at http://127.0.0.1:9" in done.stderr


def test_status_tells_the_transport_and_what_is_stored_only(deploy: Any) -> None:
    deploy.efs.create_file_system(CreationToken=unique("token"), Encrypted=True)

    status = json.loads(deploy.server.cli("status", "--json").stdout)

    assert status["file_server"]["transport"] in ("io_uring", "classic")
    assert any("ncrypt" in note for fs in status["file_systems"] for note in fs["stored_not_enforced"])


def test_up_without_root_says_what_is_missing_and_why() -> None:
    # Root is given up after the imports: the interpreter itself may lie where only root can read.
    program = "import os\nfrom lambay import host\nos.setuid(65534)\nprint('\\n'.join(host.unmet_needs()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "root: Lambay mounts file systems" in done.stdout
