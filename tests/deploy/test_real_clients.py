"""The clients that people have: the AWS CLI, SAM and the CDK bring up stacks, use them and take them away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.arrange import Cloud, unique
from tests.e2e.arrange import RUNTIME

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lambay" / "clients"
AWS = Path(sys.executable).with_name("aws")
SAM = CACHE / "sam" / "bin" / "sam"
CDK = CACHE / "cdk" / "node_modules" / ".bin" / "cdk"
PATIENCE = 600

pytestmark = pytest.mark.slow


def run(cloud: Cloud, command: Sequence[str | Path], where: Path) -> str:
    """What it prints; fails the test where it fails."""
    given = {
        "AWS_ENDPOINT_URL": cloud.server.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "SAM_CLI_TELEMETRY": "0",
        "CDK_DISABLE_VERSION_CHECK": "1",
        "CI": "1",
    }
    done = subprocess.run(
        list(map(str, command)),
        cwd=where,
        env=os.environ | given,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def answer(cloud: Cloud, function: str, event: Any = None) -> Any:
    said = cloud.lambda_.invoke(FunctionName=function, Payload=json.dumps(event))
    payload = json.loads(said["Payload"].read())
    assert "FunctionError" not in said, payload
    return payload


def test_the_aws_cli_deploys_and_changes(cloud: Cloud, tmp_path: Path) -> None:
    name = unique("stack")
    (tmp_path / "template.yaml").write_text("""
Parameters: {Delay: {Type: Number, Default: 1}}
Resources: {Queue: {Type: AWS::SQS::Queue, Properties: {DelaySeconds: !Ref Delay}}}
Outputs: {Url: {Value: !Ref Queue}}
""")
    deploy = [AWS, "cloudformation", "deploy", "--template-file", "template.yaml", "--stack-name", name]

    run(cloud, deploy, tmp_path)
    said = run(cloud, [*deploy, "--no-fail-on-empty-changeset"], tmp_path)
    # The AWS CLI names a change set after the second in which it is made.
    second = int(time.time())
    while int(time.time()) == second:
        time.sleep(0.05)
    run(cloud, [*deploy, "--parameter-overrides", "Delay=7"], tmp_path)

    assert "No changes to deploy" in said
    [stack] = cloud.formation.describe_stacks(StackName=name)["Stacks"]
    url = stack["Outputs"][0]["OutputValue"]
    queue = cloud.server.boto("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["DelaySeconds"])
    assert queue["Attributes"]["DelaySeconds"] == "7"
    run(cloud, [AWS, "cloudformation", "delete-stack", "--stack-name", name], tmp_path)
    assert cloud.ended(stack["StackId"])["StackStatus"] == "DELETE_COMPLETE"


def test_sam_validates_builds_deploys_and_deletes(cloud: Cloud, tmp_path: Path) -> None:
    name = unique("stack")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "app.py").write_text("def handler(event, context):\n    return event\n")
    (tmp_path / "source" / "requirements.txt").write_text("")
    (tmp_path / "template.yaml").write_text(f"""
Transform: AWS::Serverless-2016-10-31
Resources:
  Echo:
    Type: AWS::Serverless::Function
    Properties: {{CodeUri: source, Handler: app.handler, Runtime: {RUNTIME}, AutoPublishAlias: live, Timeout: 20}}
Outputs: {{Name: {{Value: !Ref Echo}}}}
""")

    run(cloud, [SAM, "validate"], tmp_path)
    run(cloud, [SAM, "build"], tmp_path)
    options = [
        "--resolve-s3",
        "--capabilities",
        "CAPABILITY_IAM",
        "--no-confirm-changeset",
        "--no-progressbar",
    ]
    run(cloud, [SAM, "deploy", "--stack-name", name, *options], tmp_path)

    [stack] = cloud.formation.describe_stacks(StackName=name)["Stacks"]
    assert answer(cloud, f"{stack['Outputs'][0]['OutputValue']}:live", {"a": 1}) == {"a": 1}
    run(cloud, [SAM, "delete", "--stack-name", name, "--no-prompts", "--region", "us-east-1"], tmp_path)
    assert cloud.ended(stack["StackId"])["StackStatus"] == "DELETE_COMPLETE"


APPLICATION = """
const cdk = require('aws-cdk-lib');
const ec2 = require('aws-cdk-lib/aws-ec2');
const efs = require('aws-cdk-lib/aws-efs');
const lambda = require('aws-cdk-lib/aws-lambda');
const app = new cdk.App();
const stack = new cdk.Stack(app, 'Shared', { env: { account: '000000000000', region: 'us-east-1' } });
const vpc = new ec2.Vpc(stack, 'Vpc', { availabilityZones: ['us-east-1a', 'us-east-1b'], natGateways: 1 });
const files = new efs.FileSystem(stack, 'Files', { vpc, removalPolicy: cdk.RemovalPolicy.DESTROY });
const point = files.addAccessPoint('Point', {
  path: '/shared',
  createAcl: { ownerUid: '1000', ownerGid: '1000', permissions: '755' },
  posixUser: { uid: '1000', gid: '1000' },
});
const count = new lambda.Function(stack, 'Count', {
  runtime: new lambda.Runtime('RUNTIME', lambda.RuntimeFamily.PYTHON),
  handler: 'count.handler',
  code: lambda.Code.fromAsset('source'),
  vpc,
  filesystem: lambda.FileSystem.fromEfsAccessPoint(point, '/mnt/shared'),
  timeout: cdk.Duration.seconds(20),
});
new cdk.CfnOutput(stack, 'Name', { value: count.functionName });
"""


def test_the_cdk_bootstraps_deploys_and_destroys(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "count.py").write_text(
        "def handler(event, context):\n"
        "    with open('/mnt/shared/count', 'a+') as file:\n"
        "        file.write('x')\n"
        "        return file.tell()\n"
    )
    (tmp_path / "app.js").write_text(APPLICATION.replace("RUNTIME", RUNTIME))
    (tmp_path / "cdk.json").write_text('{"app": "node app.js"}')
    (tmp_path / "node_modules").symlink_to(CDK.parents[1])

    run(cloud, [CDK, "bootstrap", "aws://000000000000/us-east-1"], tmp_path)
    run(cloud, [CDK, "deploy", "--require-approval", "never"], tmp_path)

    [stack] = cloud.formation.describe_stacks(StackName="Shared")["Stacks"]
    function = next(output["OutputValue"] for output in stack["Outputs"] if output["OutputKey"] == "Name")
    assert [answer(cloud, function), answer(cloud, function)] == [1, 2]
    run(cloud, [CDK, "destroy", "--force"], tmp_path)
    assert cloud.ended(stack["StackId"])["StackStatus"] == "DELETE_COMPLETE"
