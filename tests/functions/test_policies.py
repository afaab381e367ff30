"""Permissions, tags, layers, and the settings of asynchronous invocations."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.http import Request

from .conftest import ACCOUNT, REGION, World, failing, minimal, zipped

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
LAYER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:l"


async def refused(world: World, operation: str, **input: Any) -> AWSError:
    with pytest.raises(AWSError) as caught:
        await world(operation, **input)
    return caught.value


def permission(sid: str = "s", **input: Any) -> dict[str, Any]:
    return {"StatementId": sid, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com", **input}


async def test_a_permission_becomes_a_statement(world: World) -> None:
    await world.create()
    added = await world(
        "AddPermission",
        FunctionName="f",
        **permission(SourceArn="arn:aws:s3:::bucket", SourceAccount=ACCOUNT),
    )
    expected = {
        "Sid": "s",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": ARN,
        "Condition": {
            "StringEquals": {"AWS:SourceAccount": ACCOUNT},
            "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"},
        },
    }
    assert json.loads(added["Statement"]) == expected
    policy = await world("GetPolicy", FunctionName="f")
    document = {"Version": "2012-10-17", "Id": "default", "Statement": [expected]}
    assert json.loads(policy["Policy"]) == json.loads(world.functions.resource_policy(ARN) or "") == document


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("*", "*"),
        ("123456789012", {"AWS": "arn:aws:iam::123456789012:root"}),
        ("arn:aws:iam::123456789012:role/r", {"AWS": "arn:aws:iam::123456789012:role/r"}),
        ("events.amazonaws.com", {"Service": "events.amazonaws.com"}),
    ],
)
async def test_principals(world: World, given: str, expected: object) -> None:
    await world.create()
    added = await world("AddPermission", FunctionName="f", **permission(Principal=given))
    assert json.loads(added["Statement"])["Principal"] == expected


async def test_permissions_that_cannot_be(world: World) -> None:
    await world.create()
    await world("AddPermission", FunctionName="f", **permission())
    error = await refused(world, "AddPermission", FunctionName="f", **permission())
    assert error.message.startswith("The statement id (s) provided already exists.")
    error = await refused(
        world, "AddPermission", FunctionName="f", **permission("x", Principal="someone.com")
    )
    assert error.message == "The provided principal was invalid. Please check the principal and try again."
    error = await refused(world, "AddPermission", FunctionName="f:$LATEST", **permission("x"))
    assert error.message == "We currently do not support adding policies for $LATEST."
    error = await refused(world, "AddPermission", FunctionName="f:alias", **permission("x"))
    assert error.message == f"Cannot find alias arn: {ARN}:alias"
    error = await refused(world, "AddPermission", FunctionName="f", RevisionId="x", **permission("x"))
    assert (error.code, "Call the GetPolicy API" in error.message) == ("PreconditionFailedException", True)
    for number in range(1000):
        try:
            await world("AddPermission", FunctionName="f", **permission(f"n{number}"))
        except AWSError as full:
            error = full
            break
    assert error.code == "PolicyLengthExceededException"


async def test_each_qualifier_has_its_own_policy(world: World) -> None:
    await world.create()
    await world("PublishVersion", FunctionName="f")
    await world("AddPermission", FunctionName="f", Qualifier="1", **permission())
    assert (await refused(world, "GetPolicy", FunctionName="f")).message == (
        "The resource you requested does not exist."
    )
    policy = await world("GetPolicy", FunctionName="f:1")
    assert json.loads(policy["Policy"])["Statement"][0]["Resource"] == f"{ARN}:1"
    error = await refused(world, "RemovePermission", FunctionName="f:1", StatementId="other")
    assert error.message == "Statement other is not found in resource policy."
    await world("RemovePermission", FunctionName="f:1", StatementId="s")
    error = await refused(world, "RemovePermission", FunctionName="f:1", StatementId="s")
    assert error.message == "No policy is associated with the given resource."


async def test_a_whole_policy_replaces_the_permissions(world: World) -> None:
    await world.create()
    await world("AddPermission", FunctionName="f", **permission())
    statement = {"Sid": "x", "Effect": "Deny", "Principal": "*", "Action": "lambda:*", "Resource": ARN}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    put = await world("PutResourcePolicy", ResourceArn=ARN, Policy=document)
    shown = await world("GetPolicy", FunctionName="f")
    assert (json.loads(shown["Policy"])["Statement"], shown["RevisionId"]) == ([statement], put["RevisionId"])
    assert await world("GetResourcePolicy", ResourceArn=ARN) == put
    error = await refused(world, "DeleteResourcePolicy", ResourceArn=ARN, RevisionId="other")
    assert error.code == "PreconditionFailedException"
    await world("DeleteResourcePolicy", ResourceArn=ARN, RevisionId=put["RevisionId"])
    assert (await refused(world, "GetPolicy", FunctionName="f")).code == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("{", "not JSON"),
        ("{}", "no Statement"),
        ('{"Statement": [{"Effect": "Maybe"}]}', "statement 1 has no Effect"),
        ('{"Statement": {"Effect": "Allow", "Action": "lambda:*"}}', "needs Principal and Action"),
        ('{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:*"}}', "not Lambda's"),
        (
            '{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}',
            "the Resource of statement 1",
        ),
    ],
)
async def test_policies_that_cannot_be(world: World, document: str, text: str) -> None:
    await world.create()
    error = await refused(world, "PutResourcePolicy", ResourceArn=ARN, Policy=document)
    assert (error.code, text in error.message) == ("InvalidParameterValueException", True), error.message


async def test_code_signing_that_enforces_refuses_what_nobody_signed(world: World) -> None:
    publishers = {"SigningProfileVersionArns": [f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p"]}
    made = await world(
        "CreateCodeSigningConfig",
        AllowedPublishers=publishers,
        CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"},
        Tags={"a": "b"},
    )
    config = made["CodeSigningConfig"]["CodeSigningConfigArn"]
    error = await refused(world, "CreateFunction", **minimal(CodeSigningConfigArn=config))
    assert error.code == "CodeVerificationFailedException"
    policies = {"UntrustedArtifactOnDeployment": "Warn"}
    await world("UpdateCodeSigningConfig", CodeSigningConfigArn=config, CodeSigningPolicies=policies)
    await world.create(CodeSigningConfigArn=config)
    assert await world("GetFunctionCodeSigningConfig", FunctionName="f") == {
        "CodeSigningConfigArn": config,
        "FunctionName": "f",
    }
    listed = await world("ListFunctionsByCodeSigningConfig", CodeSigningConfigArn=config)
    assert listed == {"FunctionArns": [ARN]}
    error = await refused(world, "DeleteCodeSigningConfig", CodeSigningConfigArn=config)
    assert error.code == "ResourceConflictException"
    assert await world("ListTags", Resource=config) == {"Tags": {"a": "b"}}
    await world("DeleteFunctionCodeSigningConfig", FunctionName="f")
    await world("DeleteCodeSigningConfig", CodeSigningConfigArn=config)
    error = await refused(
        world, "PutFunctionCodeSigningConfig", FunctionName="f", CodeSigningConfigArn=config
    )
    assert error.code == "CodeSigningConfigNotFoundException"
    error = await refused(world, "GetCodeSigningConfig", CodeSigningConfigArn=config)
    assert error.message == f"The Lambda code signing configuration {config} can not be found."


async def test_tags(world: World) -> None:
    await world.create(Tags={"a": "1"})
    await world("TagResource", Resource=ARN, Tags={"b": "2"})
    await world("UntagResource", Resource=ARN, TagKeys=["a", "c"])
    assert await world("ListTags", Resource=ARN) == {"Tags": {"b": "2"}}
    error = await refused(world, "TagResource", Resource=f"{ARN}:1", Tags={"b": "2"})
    assert error.message.startswith("Tags on function aliases and versions are not supported.")
    error = await refused(world, "TagResource", Resource=ARN, Tags={str(n): "" for n in range(50)})
    assert error.message == "Number of tags exceeds resource tag limit."


# -- layers -------------------------------------------------------------------------------------------------


async def publish(world: World, name: str = "l", text: str = "x = 1", **input: Any) -> dict[str, Any]:
    content = {"ZipFile": zipped({"python/shared.py": text})}
    return await world("PublishLayerVersion", LayerName=name, Content=content, **input)


async def test_a_layer_version_is_published_read_and_downloaded(world: World) -> None:
    made = await publish(world, CompatibleRuntimes=["python3.12"], LicenseInfo="MIT")
    assert (made["LayerVersionArn"], made["Version"], made["LayerArn"]) == (f"{LAYER}:1", 1, LAYER)
    read = await world("GetLayerVersionByArn", Arn=f"{LAYER}:1")
    location = urllib.parse.urlsplit(read["Content"].pop("Location"))
    made["Content"].pop("Location")
    assert read == made
    answer = await world.functions.handle_code(Request("GET", location.path, location.query, {}))
    assert answer.headers["content-length"] == str(made["Content"]["CodeSize"])
    await publish(world)
    listed = await world("ListLayerVersions", LayerName="l")
    assert [version["Version"] for version in listed["LayerVersions"]] == [2, 1]
    layers = await world("ListLayers", CompatibleRuntime="python3.12")
    assert layers["Layers"][0]["LatestMatchingVersion"]["Version"] == 1


async def test_a_function_finds_its_layers_in_order_even_when_they_are_deleted(world: World) -> None:
    await publish(world)
    await publish(world, "other", "y = 2")
    other = f"{LAYER[:-1]}other:1"
    await world.create(Layers=[f"{LAYER}:1", other])
    await world("DeleteLayerVersion", LayerName="l", VersionNumber=1)
    await world.settle()
    await world("Invoke", FunctionName="f")
    first, second = world.fleet.runs[0][0].layers
    assert (first / "python/shared.py").read_text() == "x = 1"
    assert (second / "python/shared.py").read_text() == "y = 2"
    assert (await publish(world))["Version"] == 2


async def test_layers_that_cannot_be_used(world: World) -> None:
    await publish(world)
    await publish(world)
    cases = {
        (f"{LAYER}:1", f"{LAYER}:2"): "Two different versions of the same layer are not allowed",
        (f"{LAYER}:9",): f"Layer version {LAYER}:9 does not exist.",
        (f"{LAYER}:1".replace(REGION, "eu-west-1"),): f"Layers are expected to be in region {REGION}.",
        (f"{LAYER}:1".replace(ACCOUNT, "1" * 12),): "is not authorized to perform: lambda:GetLayerVersion",
        tuple(f"{LAYER}{n}:1" for n in range(6)): "Cannot reference more than 5 layers.",
    }
    for arns, text in cases.items():
        error = await refused(world, "CreateFunction", **minimal(Layers=list(arns)))
        assert text in error.message, error.message


async def test_layer_permissions(world: World) -> None:
    await publish(world)
    given = {"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "*"}
    added = await world("AddLayerVersionPermission", LayerName="l", VersionNumber=1, **given)
    policy = await world("GetLayerVersionPolicy", LayerName=LAYER, VersionNumber=1)
    assert policy["RevisionId"] == added["RevisionId"]
    assert json.loads(policy["Policy"])["Statement"][0]["Resource"] == f"{LAYER}:1"
    await world("RemoveLayerVersionPermission", LayerName="l", VersionNumber=1, StatementId="s")
    error = await refused(world, "GetLayerVersionPolicy", LayerName="l", VersionNumber=1)
    assert error.message == "No policy is associated with the given resource."
    error = await refused(world, "GetLayerVersionPolicy", LayerName="l", VersionNumber=2)
    assert error.message == f"Layer version {LAYER}:2 does not exist."


# -- account and asynchronous settings ----------------------------------------------------------------------


async def test_account_settings_count_what_is_there(world: World) -> None:
    await world.create()
    await publish(world)
    await world("PutFunctionConcurrency", FunctionName="f", ReservedConcurrentExecutions=100)
    shown = await world("GetAccountSettings")
    layer = len(zipped({"python/shared.py": "x = 1"}))
    assert shown["AccountUsage"] == {"FunctionCount": 1, "TotalCodeSize": len(zipped()) + layer}
    assert shown["AccountLimit"]["UnreservedConcurrentExecutions"] == 900
    error = await refused(world, "PutFunctionConcurrency", FunctionName="f", ReservedConcurrentExecutions=901)
    assert "below its minimum value of [100]" in error.message
    await world("DeleteFunctionConcurrency", FunctionName="f")
    assert await world("GetFunctionConcurrency", FunctionName="f") == {}


async def test_event_invoke_settings_are_put_and_updated(world: World) -> None:
    await world.create()
    await world("PutFunctionEventInvokeConfig", FunctionName="f", MaximumRetryAttempts=1)
    shown = await world("UpdateFunctionEventInvokeConfig", FunctionName="f", MaximumEventAgeInSeconds=60)
    assert (shown["MaximumRetryAttempts"], shown["MaximumEventAgeInSeconds"]) == (1, 60)
    assert (shown["FunctionArn"], shown["DestinationConfig"]) == (
        f"{ARN}:$LATEST",
        {"OnSuccess": {}, "OnFailure": {}},
    )
    shown = await world("PutFunctionEventInvokeConfig", FunctionName="f", MaximumRetryAttempts=0)
    assert "MaximumEventAgeInSeconds" not in shown
    await world("DeleteFunctionEventInvokeConfig", FunctionName="f")
    error = await refused(world, "GetFunctionEventInvokeConfig", FunctionName="f")
    assert error.message == f"The function {ARN}:$LATEST doesn't have an EventInvokeConfig"
    error = await refused(world, "PutFunctionEventInvokeConfig", FunctionName="f")
    assert error.message == "You must specify at least one of error handling or destination setting."
    destination = {"OnSuccess": {"Destination": ARN}}
    error = await refused(
        world, "PutFunctionEventInvokeConfig", FunctionName="f", DestinationConfig=destination
    )
    assert error.message == "You can't specify the function as a destination for itself."


async def test_results_go_to_their_destinations(world: World) -> None:
    await world.create()
    await world.create("next")
    queue, following = f"arn:aws:sqs:{REGION}:{ACCOUNT}:failed", f"{ARN[:-1]}next"
    await world(
        "PutFunctionEventInvokeConfig",
        FunctionName="f",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnSuccess": {"Destination": following}, "OnFailure": {"Destination": queue}},
    )
    await world("Invoke", FunctionName="f", InvocationType="Event", Payload=b'{"n": 1}')
    await world.until(lambda: len(world.fleet.runs) == 2)
    spec, invocation = world.fleet.runs[1]
    record = json.loads(invocation.event)
    assert spec.function_name == "next"
    assert record["requestContext"]["condition"] == "Success"
    assert record["requestContext"]["functionArn"] == f"{ARN}:$LATEST"
    assert (record["requestPayload"], record["responsePayload"]) == ({"n": 1}, {"n": 1})
    world.fleet.handler = failing("boom")
    await world("Invoke", FunctionName="f", InvocationType="Event", Payload=b'{"n": 2}')
    await world.until(lambda: bool(world.neighbours.sent("SendMessage")))
    (message,) = world.neighbours.sent("SendMessage")
    record = json.loads(message["MessageBody"])
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["responseContext"]["functionError"] == "Unhandled"


@pytest.mark.parametrize("kind", ["lambda", "sqs"])
async def test_a_result_goes_nowhere_once_the_role_lost_its_right(
    world: World, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    await world.create()
    await world.create("next")
    target, action = {
        "lambda": (f"{ARN[:-1]}next", "lambda:InvokeFunction"),
        "sqs": (f"arn:aws:sqs:{REGION}:{ACCOUNT}:results", "sqs:SendMessage"),
    }[kind]
    destination = {"OnSuccess": {"Destination": target}}
    await world("PutFunctionEventInvokeConfig", FunctionName="f", DestinationConfig=destination)

    world.access.missing_rights.add(action)
    await world("Invoke", FunctionName="f", InvocationType="Event", Payload=b"2")
    await world.until(lambda: f"{target} refused its result" in caplog.text)

    assert f"lacks {action}" in caplog.text
    assert [spec.function_name for spec, _ in world.fleet.runs] == ["f"]
    assert world.neighbours.sent("SendMessage") == []


async def test_a_runtime_version_is_kept_and_let_go(world: World) -> None:
    await world.create()
    shown = await world("GetRuntimeManagementConfig", FunctionName="f")
    assert shown == {"UpdateRuntimeOn": "Auto", "FunctionArn": ARN}
    configuration = await world("GetFunctionConfiguration", FunctionName="f")
    here = configuration["RuntimeVersionConfig"]["RuntimeVersionArn"]

    kept = {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": here}
    put = await world("PutRuntimeManagementConfig", FunctionName="f", **kept)
    assert put == {**kept, "FunctionArn": ARN}
    shown = await world("GetRuntimeManagementConfig", FunctionName="f", Qualifier="$LATEST")
    assert shown == {**kept, "FunctionArn": f"{ARN}:$LATEST"}
    error = await refused(world, "UpdateFunctionConfiguration", FunctionName="f", Runtime="nodejs20.x")
    assert (error.code, error.message) == (
        "InvalidParameterValueException",
        "Cannot change runtime identifier when runtime management configuration is set to 'Manual'. Change the "
        "runtime management configuration to 'Auto' or 'FunctionUpdate', then retry.",
    )
    await world("UpdateFunctionConfiguration", FunctionName="f", Runtime=configuration["Runtime"], Timeout=9)

    put = await world("PutRuntimeManagementConfig", FunctionName="f", UpdateRuntimeOn="FunctionUpdate")
    assert put == {"UpdateRuntimeOn": "FunctionUpdate", "FunctionArn": ARN}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"UpdateRuntimeOn": "Manual"}, "needs the runtime version to stay with"),
        (
            {"UpdateRuntimeOn": "Auto", "RuntimeVersionArn": "HERE"},
            "goes with UpdateRuntimeOn Manual, not Auto",
        ),
        (
            {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": f"arn:aws:lambda:{REGION}::runtime:0"},
            "is not a runtime version of this host, which has arn:aws:lambda:",
        ),
    ],
)
async def test_a_runtime_version_goes_with_manual_updates(
    world: World, given: dict[str, str], words: str
) -> None:
    await world.create()
    configuration = await world("GetFunctionConfiguration", FunctionName="f")
    here = configuration["RuntimeVersionConfig"]["RuntimeVersionArn"]
    named = {member: here if value == "HERE" else value for member, value in given.items()}

    error = await refused(world, "PutRuntimeManagementConfig", FunctionName="f", **named)

    assert error.code == "InvalidParameterValueException"
    assert words in error.message


async def test_an_aliass_runtime_updates_are_its_versions(world: World) -> None:
    await world.create(Publish=True)
    await world("CreateAlias", FunctionName="f", Name="live", FunctionVersion="1")

    await world("PutRuntimeManagementConfig", FunctionName="f:1", UpdateRuntimeOn="FunctionUpdate")

    shown = await world("GetRuntimeManagementConfig", FunctionName="f", Qualifier="live")
    assert shown == {"UpdateRuntimeOn": "FunctionUpdate", "FunctionArn": f"{ARN}:live"}
    assert (await world("GetRuntimeManagementConfig", FunctionName="f"))["UpdateRuntimeOn"] == "Auto"
