"""Deployments as boto3 begins and watches them: traffic, hooks, alarms, stops, rollbacks, restarts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lambay.deployments.records import AppSpec
from lambay.runtime import Outcome
from tests.functions.conftest import ACCOUNT, REGION
from tests.functions.server import Server

from .conftest import ROLLBACK, Hooks, Released, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_all_at_once(server: Server) -> None:
    released = Released(server, "at-once")
    await released.make()
    number = await released.deploy()
    info = await released.until_status(number, "Succeeded")
    assert await released.alias() == ("2", {})
    assert info["deploymentOverview"]["Succeeded"] == 1
    assert (info["creator"], info["computePlatform"]) == ("user", "Lambda")
    assert await released.events(number) == {
        "BeforeAllowTraffic": "Succeeded",
        "AllowTraffic": "Succeeded",
        "AfterAllowTraffic": "Succeeded",
    }
    waiter = server.clients["codedeploy"].get_waiter("deployment_successful")
    await asyncio.to_thread(waiter.wait, deploymentId=number)


async def test_a_canary_gets_its_share_and_after_its_time_the_rest(server: Server) -> None:
    released = Released(server, "canary")
    await released.make("CodeDeployDefault.LambdaCanary10Percent5Minutes")
    number = await released.deploy()
    await released.until_alias("1", {"2": 0.1})
    found = await server(
        "codedeploy",
        "batch_get_deployment_targets",
        deploymentId=number,
        targetIds=(await server("codedeploy", "list_deployment_targets", deploymentId=number))["targetIds"],
    )

    async def weight() -> Any:
        found = await server(
            "codedeploy", "get_deployment_target", deploymentId=number, targetId="canary:live"
        )
        return found["deploymentTarget"]["lambdaTarget"]["lambdaFunctionInfo"]["targetVersionWeight"]

    await until(weight, lambda share: share == 10.0)
    assert found["deploymentTargets"][0]["deploymentTargetType"] == "LambdaTarget"
    error = await server.refused(
        "codedeploy",
        "create_deployment",
        applicationName="app",
        deploymentGroupName="canary",
        revision={"revisionType": "String", "string": {"content": json.dumps(released.appspec())}},
    )
    assert error["Error"]["Code"] == "DeploymentLimitExceededException"
    released.advance(4.9)
    assert await released.alias() == ("1", {"2": 0.1})
    released.advance(0.2)
    await released.until_status(number, "Succeeded")
    assert await released.alias() == ("2", {})


async def test_a_custom_linear_deployment_goes_on_after_a_restart(server: Server) -> None:
    timed = {"linearPercentage": 40, "linearInterval": 2}
    await server(
        "codedeploy",
        "create_deployment_config",
        deploymentConfigName="forty",
        computePlatform="Lambda",
        trafficRoutingConfig={"type": "TimeBasedLinear", "timeBasedLinear": timed},
    )
    released = Released(server, "linear")
    await released.make("forty")
    number = await released.deploy()
    await released.until_alias("1", {"2": 0.4})
    await server.deployments.stop()
    released.advance(2.1)
    await server.deployments.start()
    await released.until_alias("1", {"2": 0.8})
    assert (await released.until_status(number, "InProgress"))["deploymentConfigName"] == "forty"
    released.advance(2)
    await released.until_status(number, "Succeeded")
    assert await released.alias() == ("2", {})


async def test_hooks_are_asked_and_answer(server: Server, hooks: Hooks) -> None:
    released = Released(server, "hooked")
    await released.make()
    await server.create("check-before")
    await server.create("check-after")
    number = await released.deploy({"BeforeAllowTraffic": "check-before", "AfterAllowTraffic": "check-after"})
    for name in ("check-before", "check-after"):
        async with asyncio.timeout(60):
            called, event = await hooks.calls.get()
        assert (called, event["DeploymentId"]) == (name, number)
        assert await released.alias() == (("1", {}) if name == "check-before" else ("2", {}))
        execution = event["LifecycleEventHookExecutionId"]
        answer = {"deploymentId": number, "lifecycleEventHookExecutionId": execution, "status": "Succeeded"}
        await server("codedeploy", "put_lifecycle_event_hook_execution_status", **answer)
        error = await server.refused("codedeploy", "put_lifecycle_event_hook_execution_status", **answer)
        assert error["Error"]["Code"] == "LifecycleEventAlreadyCompletedException"
    await released.until_status(number, "Succeeded")


async def test_a_hook_that_answers_failed_ends_the_deployment_before_any_traffic(
    server: Server, hooks: Hooks
) -> None:
    released = Released(server, "refused")
    await released.make()
    await server.create("refusing")
    number = await released.deploy({"BeforeAllowTraffic": "refusing"})
    async with asyncio.timeout(60):
        _, event = await hooks.calls.get()
    await server(
        "codedeploy",
        "put_lifecycle_event_hook_execution_status",
        deploymentId=number,
        lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status="Failed",
    )
    info = await released.until_status(number, "Failed")
    assert info["errorInformation"]["code"] == "HOOK_EXECUTION_FAILURE"
    assert await released.alias() == ("1", {})
    assert await released.events(number) == {
        "BeforeAllowTraffic": "Failed",
        "AllowTraffic": "Skipped",
        "AfterAllowTraffic": "Skipped",
    }


async def test_a_hook_that_fails_after_the_traffic_gives_it_back(server: Server, hooks: Hooks) -> None:
    released = Released(server, "given-back")
    await released.make(autoRollbackConfiguration={"enabled": True, "events": ROLLBACK})
    await server.create("broken")
    hooks.outcome = Outcome(payload=b'{"errorMessage":"no"}', error="Unhandled")
    number = await released.deploy({"AfterAllowTraffic": "broken"})
    info = await released.until_status(number, "Failed")
    back = info["rollbackInfo"]["rollbackDeploymentId"]
    undone = await released.until_status(back, "Succeeded")
    assert (undone["creator"], undone["rollbackInfo"]["rollbackTriggeringDeploymentId"]) == (
        "codeDeployRollback",
        number,
    )
    assert await released.alias() == ("1", {})


async def test_a_hook_has_an_hour(server: Server, hooks: Hooks) -> None:
    released = Released(server, "slow")
    await released.make()
    await server.create("silent")
    number = await released.deploy({"BeforeAllowTraffic": "silent"})
    async with asyncio.timeout(60):
        await hooks.calls.get()
    released.advance(61)
    info = await released.until_status(number, "Failed")
    assert "in an hour" in info["errorInformation"]["message"]


async def test_an_alarm_stops_a_deployment_and_gives_the_traffic_back(server: Server) -> None:
    released = Released(server, "alarming")
    server.alarms.known["errors"] = "OK"
    await released.make(
        "CodeDeployDefault.LambdaLinear10PercentEvery1Minute",
        alarmConfiguration={"enabled": True, "alarms": [{"name": "errors"}]},
        autoRollbackConfiguration={"enabled": True, "events": ROLLBACK},
    )
    number = await released.deploy()
    await released.until_alias("1", {"2": 0.1})
    server.alarms.set("errors", "ALARM")
    info = await released.until_status(number, "Stopped")
    assert info["errorInformation"]["code"] == "ALARM_ACTIVE"
    await released.until_status(info["rollbackInfo"]["rollbackDeploymentId"], "Succeeded")
    assert await released.alias() == ("1", {})


async def test_an_alarm_that_is_not_there_stops_unless_it_is_to_be_ignored(server: Server) -> None:
    released = Released(server, "unwatched")
    await released.make(alarmConfiguration={"enabled": True, "alarms": [{"name": "none-such"}]})
    number = await released.deploy()
    info = await released.until_status(number, "Stopped")
    assert "none-such" in info["errorInformation"]["message"]
    ignoring = {"enabled": True, "ignorePollAlarmFailure": True, "alarms": [{"name": "none-such"}]}
    number = await released.deploy(overrideAlarmConfiguration=ignoring)
    await released.until_status(number, "Succeeded")


@pytest.mark.parametrize(("back", "expected"), [(True, ("1", {})), (False, ("1", {"2": 0.1}))])
async def test_a_stopped_deployment_gives_back_where_it_is_told_to(
    server: Server, back: bool, expected: Any
) -> None:
    released = Released(server, f"stopped-{back}".lower())
    await released.make(
        "CodeDeployDefault.LambdaCanary10Percent30Minutes",
        autoRollbackConfiguration={"enabled": True, "events": ROLLBACK},
    )
    number = await released.deploy()
    await released.until_alias("1", {"2": 0.1})
    answer = await server("codedeploy", "stop_deployment", deploymentId=number, autoRollbackEnabled=back)
    assert answer["status"] == "Pending"
    info = await released.until_status(number, "Stopped")
    assert ("rollbackInfo" in info) == back
    if back:
        await released.until_status(info["rollbackInfo"]["rollbackDeploymentId"], "Succeeded")
    assert await released.alias() == expected
    error = await server.refused("codedeploy", "stop_deployment", deploymentId=number)
    assert error["Error"]["Code"] == "DeploymentAlreadyCompletedException"


async def test_an_alias_elsewhere_fails_the_deployment(server: Server) -> None:
    released = Released(server, "elsewhere")
    await released.make()
    await server("lambda", "update_alias", FunctionName="elsewhere", Name="live", FunctionVersion="2")
    info = await released.until_status(await released.deploy(), "Failed")
    assert info["errorInformation"]["code"] == "INVALID_LAMBDA_CONFIGURATION"
    assert await released.alias() == ("2", {})


async def test_a_revision_in_a_bucket_is_yaml(server: Server) -> None:
    released = Released(server, "bucketed")
    await released.make()
    text = """
version: 0.0
Resources:
  - bucketed:
      Type: AWS::Lambda::Function
      Properties: {Name: bucketed, Alias: live, CurrentVersion: 1, TargetVersion: 2}
"""
    await server("s3", "create_bucket", Bucket="revisions")
    await server("s3", "put_object", Bucket="revisions", Key="appspec.yml", Body=text.encode())
    location = {"bucket": "revisions", "key": "appspec.yml", "bundleType": "YAML"}
    revision = {"revisionType": "S3", "s3Location": location}
    await released.until_status(await released.deploy(revision=revision), "Succeeded")
    found = await server("codedeploy", "get_application_revision", applicationName="app", revision=revision)
    assert found["revisionInfo"]["deploymentGroups"] == ["bucketed"]
    missing = {"revisionType": "S3", "s3Location": {**location, "key": "none"}}
    error = await server.refused(
        "codedeploy",
        "create_deployment",
        applicationName="app",
        deploymentGroupName="bucketed",
        revision=missing,
    )
    assert error["Error"]["Code"] == "InvalidRevisionException"


async def test_a_topic_is_told(server: Server) -> None:
    topic = (await server("sns", "create_topic", Name="deployments"))["TopicArn"]
    queue = (await server("sqs", "create_queue", QueueName="deployments"))["QueueUrl"]
    await server(
        "sns",
        "subscribe",
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:deployments",
    )
    released = Released(server, "told")
    trigger = {"triggerName": "done", "triggerTargetArn": topic, "triggerEvents": ["DeploymentSuccess"]}
    await released.make(triggerConfigurations=[trigger])
    number = await released.deploy()
    received = await server("sqs", "receive_message", QueueUrl=queue, WaitTimeSeconds=20)
    told = json.loads(json.loads(received["Messages"][0]["Body"])["Message"])
    assert (told["deploymentId"], told["status"], told["eventTriggerName"]) == (number, "SUCCEEDED", "done")


async def test_another_room_deploys_and_waits(server: Server) -> None:
    released = Released(server, "stacked")
    await released.make()
    spec = AppSpec("stacked", "live", "1", "2")
    number = await server.deployments.start_deployment(ACCOUNT, REGION, "app", "stacked", spec)
    deployment = await server.deployments.ended(ACCOUNT, REGION, number)
    assert (deployment.status, deployment.creator) == ("Succeeded", "CloudFormation")
    assert await released.alias() == ("2", {})


async def test_a_service_role_without_rights_moves_nothing(server: Server) -> None:
    released = Released(server, "powerless")
    await released.make()
    trust = {
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "codedeploy.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ]
    }
    await server("iam", "create_role", RoleName="powerless", AssumeRolePolicyDocument=json.dumps(trust))
    await server(
        "codedeploy",
        "update_deployment_group",
        applicationName="app",
        currentDeploymentGroupName="powerless",
        serviceRoleArn=f"arn:aws:iam::{ACCOUNT}:role/powerless",
    )
    if not server.enforcing:
        pytest.skip("the setting iam is off")
    info = await released.until_status(await released.deploy(), "Failed")
    assert info["errorInformation"]["code"] == "IAM_ROLE_PERMISSIONS"
    assert await released.alias() == ("1", {})


async def test_groups_and_deployments_are_listed(server: Server) -> None:
    released = Released(server, "listed")
    await released.make()
    number = await released.deploy()
    await released.until_status(number, "Succeeded")
    listed = await server(
        "codedeploy",
        "list_deployments",
        applicationName="app",
        deploymentGroupName="listed",
        includeOnlyStatuses=["Succeeded"],
    )
    assert listed["deployments"] == [number]
    found = await server(
        "codedeploy", "get_deployment_group", applicationName="app", deploymentGroupName="listed"
    )
    group = found["deploymentGroupInfo"]
    assert group["lastSuccessfulDeployment"]["deploymentId"] == number
    assert group["deploymentConfigName"] == "CodeDeployDefault.LambdaAllAtOnce"
    groups = await server("codedeploy", "list_deployment_groups", applicationName="app")
    assert "listed" in groups["deploymentGroups"]
    arn = f"arn:aws:codedeploy:{REGION}:{ACCOUNT}:deploymentgroup:app/listed"
    await server("codedeploy", "tag_resource", ResourceArn=arn, Tags=[{"Key": "a", "Value": "b"}])
    tags = await server("codedeploy", "list_tags_for_resource", ResourceArn=arn)
    assert tags["Tags"] == [{"Key": "a", "Value": "b"}]
