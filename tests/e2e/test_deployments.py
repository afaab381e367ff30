"""A deployment whose hook is a function that answers CodeDeploy itself, and a loop of functions that is ended."""

from __future__ import annotations

import json
import time

from tests.e2e.arrange import PATIENCE, Deployer, Lambay, bundle, unique

HOOK = """
    import boto3

    def handler(event, context):
        boto3.client("codedeploy").put_lifecycle_event_hook_execution_status(
            deploymentId=event["DeploymentId"],
            lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
            status="Succeeded",
        )
    """
LOOP = """
    import json, os
    import boto3

    def handler(event, context):
        if event == "count":
            return len(os.listdir("/mnt/efs"))
        open(f"/mnt/efs/{event['round']}", "w").close()
        boto3.client("lambda").invoke(
            FunctionName=context.function_name,
            InvocationType="Event",
            Payload=json.dumps({"round": event["round"] + 1}),
        )
    """


def permit(deploy: Deployer, *actions: str) -> None:
    """Let the functions' role do this."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    deploy.iam.put_role_policy(
        RoleName=deploy.role.rsplit("/", 1)[-1],
        PolicyName=unique("policy"),
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )


def service_role(deploy: Deployer) -> str:
    """A role that CodeDeploy acts as."""
    trusted = {"Service": "codedeploy.amazonaws.com"}
    trust = {"Effect": "Allow", "Principal": trusted, "Action": "sts:AssumeRole"}
    allowed = {"Effect": "Allow", "Action": "lambda:*", "Resource": "*"}
    name = unique("deployer")
    made = deploy.iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    deploy.iam.put_role_policy(RoleName=name, PolicyName="lambda", PolicyDocument=document)
    arn: str = made["Role"]["Arn"]
    return arn


def test_an_alias_is_moved_after_its_hook_has_agreed(lambay: Lambay, deploy: Deployer) -> None:
    permit(deploy, "codedeploy:PutLifecycleEventHookExecutionStatus")
    codedeploy, name = lambay.boto("codedeploy"), unique("released")
    hook = deploy.function(HOOK)
    function = deploy.function('def handler(event, context):\n    return "old"', FunctionName=name)
    deploy.lambda_.publish_version(FunctionName=function)
    deploy.lambda_.update_function_code(
        FunctionName=function, ZipFile=bundle('def handler(event, context):\n    return "new"')
    )
    deploy.lambda_.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 0.1})
    deploy.lambda_.publish_version(FunctionName=function)
    deploy.lambda_.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    assert deploy.invoke(function, Qualifier="live") == "old"
    codedeploy.create_application(applicationName=name, computePlatform="Lambda")
    codedeploy.create_deployment_group(
        applicationName=name,
        deploymentGroupName="group",
        deploymentConfigName="CodeDeployDefault.LambdaAllAtOnce",
        serviceRoleArn=service_role(deploy),
    )
    properties = {"Name": function, "Alias": "live", "CurrentVersion": "1", "TargetVersion": "2"}
    appspec = {
        "version": 0.0,
        "Resources": [{function: {"Type": "AWS::Lambda::Function", "Properties": properties}}],
        "Hooks": [{"BeforeAllowTraffic": hook}],
    }
    number = codedeploy.create_deployment(
        applicationName=name,
        deploymentGroupName="group",
        revision={"revisionType": "AppSpecContent", "appSpecContent": {"content": json.dumps(appspec)}},
    )["deploymentId"]
    codedeploy.get_waiter("deployment_successful").wait(
        deploymentId=number, WaiterConfig={"Delay": 1, "MaxAttempts": int(PATIENCE)}
    )
    assert deploy.invoke(function, Qualifier="live") == "new"


def test_a_function_that_invokes_itself_ends_after_sixteen_rounds(deploy: Deployer) -> None:
    permit(deploy, "lambda:InvokeFunction")
    function = deploy.function(LOOP, deploy.access_point(deploy.file_system()))
    deploy.lambda_.invoke(FunctionName=function, InvocationType="Event", Payload=b'{"round": 1}')
    deadline = time.monotonic() + PATIENCE
    while (rounds := deploy.invoke(function, "count")) < 16:
        assert time.monotonic() < deadline, rounds
        time.sleep(0.1)
    # The seventeenth would have come at once.
    for _ in range(10):
        assert deploy.invoke(function, "count") == 16
        time.sleep(0.1)
