"""A function's name in every form that the API takes, on every operation that takes one."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from lambay.aws import AWSError

from .conftest import ACCOUNT, REGION, World

NAME = "f"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}"
FORMS = [NAME, f"function:{NAME}", f"{ACCOUNT}:function:{NAME}", ARN]

MODEL = botocore.session.get_session().get_service_model("lambda")
UNAVAILABLE = {"GetFunctionScalingConfig", "ListDurableExecutionsByFunction"}


def reading() -> list[str]:
    """Every operation that reads something of a function by its name."""
    return [
        name
        for name in MODEL.operation_names
        if name.startswith(("Get", "List"))
        and "FunctionName" in (MODEL.operation_model(name).input_shape.members)
        and name not in UNAVAILABLE
    ]


def takes_qualifier(operation: str) -> bool:
    return "Qualifier" in MODEL.operation_model(operation).input_shape.members


@pytest.fixture
async def whole(world: World) -> World:
    """A function, version and alias with one of everything."""
    await world.create()
    await world("PublishVersion", FunctionName=NAME)
    await world("CreateAlias", FunctionName=NAME, Name="live", FunctionVersion="1")
    await world("PutFunctionConcurrency", FunctionName=NAME, ReservedConcurrentExecutions=5)
    await world(
        "PutProvisionedConcurrencyConfig",
        FunctionName=NAME,
        Qualifier="live",
        ProvisionedConcurrentExecutions=1,
    )
    await world.functions._provisioning.settled()
    for qualifier in (None, "live"):
        named = {"FunctionName": NAME, **({"Qualifier": qualifier} if qualifier else {})}
        await world("PutFunctionEventInvokeConfig", **named, MaximumRetryAttempts=1)
        await world("CreateFunctionUrlConfig", **named, AuthType="NONE")
        await world("AddPermission", **named, StatementId="s", Action="lambda:InvokeFunction", Principal="*")
    return world


def asked(operation: str) -> dict[str, Any]:
    """What the operation wants beside the name."""
    if operation == "GetAlias":
        return {"Name": "live"}
    if operation == "GetProvisionedConcurrencyConfig":
        return {"Qualifier": "live"}
    return {}


def lasting(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without its signed link, which is another each second."""
    if "Code" in answer:
        answer = {**answer, "Code": {**answer["Code"], "Location": ""}}
    return answer


async def test_every_form_of_a_name_means_the_same(whole: World) -> None:
    for operation in reading():
        answers = [lasting(await whole(operation, FunctionName=form, **asked(operation))) for form in FORMS]
        assert all(answer == answers[0] for answer in answers), operation


async def test_a_qualifier_in_the_name_is_as_good_as_one_beside_it(whole: World) -> None:
    for operation in filter(takes_qualifier, reading()):
        beside = lasting(await whole(operation, FunctionName=NAME, Qualifier="live"))
        for form in FORMS:
            within = {"FunctionName": f"{form}:live"}
            if operation == "GetProvisionedConcurrencyConfig":
                within["Qualifier"] = "live"
            assert lasting(await whole(operation, **within)) == beside, operation
        with pytest.raises(AWSError) as caught:
            await whole(operation, FunctionName=f"{ARN}:live", Qualifier="1")
        assert (caught.value.code, caught.value.message) == (
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        )


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("a b", "ValidationException", "at 'functionName' failed to satisfy constraint"),
        ("x" * 65, "InvalidParameterValueException", "Member must have length less than or equal to 64"),
        (ARN.replace(REGION, "eu-west-1"), "ResourceNotFoundException", "Functions from 'eu-west-1' are not"),
        (
            ARN.replace(ACCOUNT, "111111111111"),
            "AccessDeniedException",
            "is not authorized to perform: lambda:",
        ),
        (f"111111111111:function:{NAME}", "AccessDeniedException", "is not authorized to perform: lambda:"),
    ],
)
async def test_names_that_cannot_be(world: World, name: str, code: str, text: str) -> None:
    for operation in reading():
        with pytest.raises(AWSError) as caught:
            await world(operation, FunctionName=name, **asked(operation))
        assert caught.value.code == code, operation
        assert text in caught.value.message


@pytest.mark.parametrize(
    "operation", ["PutFunctionConcurrency", "GetFunctionConcurrency", "GetFunctionRecursionConfig"]
)
async def test_what_concerns_the_function_takes_no_version(whole: World, operation: str) -> None:
    with pytest.raises(AWSError) as caught:
        await whole(operation, FunctionName=f"{NAME}:live", ReservedConcurrentExecutions=1)
    assert caught.value.message.startswith("This operation is permitted on Lambda functions only.")


async def test_what_is_not_there(whole: World) -> None:
    cases = [
        ("GetFunction", {"FunctionName": "none"}, f"Function not found: {ARN[:-1]}none"),
        ("GetFunction", {"FunctionName": NAME, "Qualifier": "9"}, f"Function not found: {ARN}:9"),
        ("Invoke", {"FunctionName": NAME, "Qualifier": "none"}, f"Function not found: {ARN}:none"),
        ("GetAlias", {"FunctionName": NAME, "Name": "none"}, f"Cannot find alias arn: {ARN}:none"),
        (
            "CreateAlias",
            {"FunctionName": NAME, "Name": "a", "FunctionVersion": "9"},
            f"Function not found: {ARN}:9",
        ),
        (
            "GetFunctionUrlConfig",
            {"FunctionName": NAME, "Qualifier": "1"},
            "The resource you requested does not exist.",
        ),
        (
            "GetFunctionEventInvokeConfig",
            {"FunctionName": NAME, "Qualifier": "1"},
            f"The function {ARN}:1 doesn't have an EventInvokeConfig",
        ),
    ]
    for operation, input, text in cases:
        with pytest.raises(AWSError) as caught:
            await whole(operation, **input)
        assert (caught.value.code, caught.value.message) == ("ResourceNotFoundException", text)


async def test_lists_come_in_pages_that_hold_their_place(whole: World) -> None:
    await whole("CreateAlias", FunctionName=NAME, Name="other", FunctionVersion="1")
    for operation, member in (
        ("ListAliases", "Aliases"),
        ("ListVersionsByFunction", "Versions"),
        ("ListFunctionEventInvokeConfigs", "FunctionEventInvokeConfigs"),
        ("ListFunctionUrlConfigs", "FunctionUrlConfigs"),
    ):
        everything = (await whole(operation, FunctionName=NAME))[member]
        assert len(everything) == 2
        first = await whole(operation, FunctionName=NAME, MaxItems=1)
        second = await whole(operation, FunctionName=NAME, MaxItems=1, Marker=first["NextMarker"])
        assert [*first[member], *second[member]] == everything, operation
        assert "NextMarker" not in second
        for marker in ("é", "none", "bm9uZQ=="):
            with pytest.raises(AWSError) as caught:
                await whole(operation, FunctionName=NAME, Marker=marker)
            assert caught.value.code == "InvalidParameterValueException"
