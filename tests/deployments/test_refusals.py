"""What CodeDeploy refuses, and pure parts: AppSpec files and the steps of a configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.deployments import appspec, shifting
from lambay.deployments.records import AppSpec, Shifting
from tests.functions.conftest import ACCOUNT
from tests.functions.server import Server

from .conftest import SERVICE_ROLE, Released

by_boto3 = pytest.mark.asyncio(loop_scope="module")

GROUP = {"applicationName": "app", "deploymentGroupName": "new", "serviceRoleArn": SERVICE_ROLE}


@pytest.mark.parametrize(
    ("operation", "input", "code"),
    [
        (
            "create_application",
            {"applicationName": "app", "computePlatform": "Lambda"},
            "ApplicationAlreadyExistsException",
        ),
        ("create_application", {"applicationName": "servers"}, "InvalidComputePlatformException"),
        ("get_application", {"applicationName": "none"}, "ApplicationDoesNotExistException"),
        ("get_deployment", {"deploymentId": "d-000000000"}, "DeploymentDoesNotExistException"),
        ("get_deployment_config", {"deploymentConfigName": "none"}, "DeploymentConfigDoesNotExistException"),
        (
            "delete_deployment_config",
            {"deploymentConfigName": shifting.ALL_AT_ONCE},
            "InvalidOperationException",
        ),
        (
            "create_deployment_config",
            {
                "deploymentConfigName": "c",
                "computePlatform": "Lambda",
                "trafficRoutingConfig": {
                    "type": "TimeBasedCanary",
                    "timeBasedCanary": {"canaryPercentage": 100, "canaryInterval": 1},
                },
            },
            "InvalidTrafficRoutingConfigurationException",
        ),
        (
            "get_deployment_group",
            {"applicationName": "app", "deploymentGroupName": "none"},
            "DeploymentGroupDoesNotExistException",
        ),
        (
            "create_deployment_group",
            {**GROUP, "deploymentConfigName": "none"},
            "DeploymentConfigDoesNotExistException",
        ),
        ("create_deployment_group", {**GROUP, "serviceRoleArn": "x"}, "InvalidRoleException"),
        (
            "create_deployment_group",
            {**GROUP, "serviceRoleArn": f"arn:aws:iam::{ACCOUNT}:role/function"},
            "InvalidRoleException",
        ),
        (
            "create_deployment_group",
            {**GROUP, "deploymentStyle": {"deploymentType": "IN_PLACE"}},
            "InvalidDeploymentStyleException",
        ),
        (
            "create_deployment_group",
            {**GROUP, "autoRollbackConfiguration": {"enabled": True}},
            "InvalidAutoRollbackConfigException",
        ),
        ("create_deployment_group", {**GROUP, "autoScalingGroups": ["a"]}, "InvalidInputException"),
        ("tag_resource", {"ResourceArn": "x", "Tags": []}, "InvalidArnException"),
        ("list_applications", {"nextToken": "x"}, "InvalidNextTokenException"),
    ],
)
@by_boto3
async def test_refusals(server: Server, operation: str, input: dict[str, Any], code: str) -> None:
    error = await server.refused("codedeploy", operation, **input)
    assert error["Error"]["Code"] == code


@by_boto3
async def test_a_deployment_needs_a_revision_of_a_function(server: Server) -> None:
    released = Released(server, "revised")
    await released.make()
    given = {"applicationName": "app", "deploymentGroupName": "revised"}
    error = await server.refused("codedeploy", "create_deployment", **given)
    assert error["Error"]["Code"] == "RevisionRequiredException"
    revision = {"revisionType": "AppSpecContent", "appSpecContent": {"content": "{}"}}
    error = await server.refused("codedeploy", "create_deployment", **given, revision=revision)
    assert error["Error"]["Code"] == "InvalidRevisionException"
    text = json.dumps(released.appspec())
    wrong = {"revisionType": "String", "string": {"content": text, "sha256": "0" * 64}}
    error = await server.refused("codedeploy", "create_deployment", **given, revision=wrong)
    assert "sha256" in error["Error"]["Message"]


@by_boto3
async def test_a_config_in_use_stays_and_the_lists_have_all(server: Server) -> None:
    await server(
        "codedeploy", "create_deployment_config", deploymentConfigName="mine", computePlatform="Lambda"
    )
    await server("codedeploy", "create_deployment_group", **{**GROUP, "deploymentConfigName": "mine"})
    error = await server.refused("codedeploy", "delete_deployment_config", deploymentConfigName="mine")
    assert error["Error"]["Code"] == "DeploymentConfigInUseException"
    listed = (await server("codedeploy", "list_deployment_configs"))["deploymentConfigsList"]
    assert {"mine", *shifting.BUILT_IN} <= set(listed)
    shown = await server(
        "codedeploy",
        "get_deployment_config",
        deploymentConfigName="CodeDeployDefault.LambdaLinear10PercentEvery3Minutes",
    )
    assert shown["deploymentConfigInfo"]["trafficRoutingConfig"] == {
        "type": "TimeBasedLinear",
        "timeBasedLinear": {"linearPercentage": 10, "linearInterval": 3},
    }


@by_boto3
async def test_a_renamed_application_keeps_what_it_has(server: Server) -> None:
    await server("codedeploy", "create_application", applicationName="old", computePlatform="Lambda")
    await server("codedeploy", "create_deployment_group", **{**GROUP, "applicationName": "old"})
    await server("codedeploy", "update_application", applicationName="old", newApplicationName="renamed")
    found = await server("codedeploy", "list_deployment_groups", applicationName="renamed")
    assert found["deploymentGroups"] == ["new"]
    await server("codedeploy", "delete_application", applicationName="renamed")
    error = await server.refused("codedeploy", "get_application", applicationName="renamed")
    assert error["Error"]["Code"] == "ApplicationDoesNotExistException"


def test_an_appspec_reads_back_as_written() -> None:
    spec = AppSpec("f", "live", "1", "2", {"BeforeAllowTraffic": "g"})
    assert appspec.parse(json.dumps(appspec.rendered(spec))) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "neither JSON nor YAML"),
        ("version: 1", "version is not 0.0"),
        ("version: 0.0", "Resources"),
        ("{version: 0.0, Resources: [{f: {Type: 'AWS::ECS::Service'}}]}", "AWS::Lambda::Function"),
        (
            "{version: 0.0, Resources: [{f: {Type: 'AWS::Lambda::Function', Properties: {Name: f, Alias: a}}}]}",
            "has no CurrentVersion, TargetVersion",
        ),
        (
            "{version: 0.0, Resources: [{f: {Type: 'AWS::Lambda::Function', Properties: {Name: f, Alias: a, "
            "CurrentVersion: 1, TargetVersion: 2}}}], Hooks: [{BeforeInstall: g}]}",
            "hook BeforeInstall",
        ),
    ],
)
def test_appspecs_that_are_none(text: str, words: str) -> None:
    with pytest.raises(AWSError) as caught:
        appspec.parse(text)
    assert words in caught.value.message


def test_steps() -> None:
    assert shifting.steps(Shifting()) == [(0, 100)]
    assert shifting.steps(Shifting("TimeBasedCanary", 10, 5)) == [(0, 10), (300, 100)]
    linear = shifting.steps(Shifting("TimeBasedLinear", 30, 1))
    assert linear == [(0, 30), (60, 60), (120, 90), (180, 100)]
