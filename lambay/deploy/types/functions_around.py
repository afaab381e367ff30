"""AWS::Lambda::*: versions, aliases, permissions, URLs, event sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from lambay.aws import AWSError
from lambay.deploy.types.base import At, Made, Properties, ResourceType, changed, gone, take


async def _provisioned(at: At, function: str, qualifier: str, config: Any) -> None:
    """Provisioned concurrency of a version or alias, until it is ready; None takes it away."""
    named = {"FunctionName": function, "Qualifier": qualifier}
    if config is None:
        await gone(at.call("lambda", "DeleteProvisionedConcurrencyConfig", **named))
        return
    await at.call("lambda", "PutProvisionedConcurrencyConfig", **named, **config)

    async def look() -> bool:
        found = await at.call("lambda", "GetProvisionedConcurrencyConfig", **named)
        if found["Status"] == "FAILED":
            raise AWSError("GeneralServiceException", str(found.get("StatusReason", "FAILED")))
        return bool(found["Status"] == "READY")

    await at.until(look)


class Version(ResourceType):
    name = "AWS::Lambda::Version"

    async def create(self, at: At, properties: Properties) -> Made:
        given = take(properties, "FunctionName", "CodeSha256", "Description")
        made = await at.call("lambda", "PublishVersion", **given)
        arn, version = made["FunctionArn"], made["Version"]
        if "ProvisionedConcurrencyConfig" in properties:
            config = properties["ProvisionedConcurrencyConfig"]
            try:
                await _provisioned(at, properties["FunctionName"], version, config)
            except AWSError:
                await self.delete(at, arn, properties)
                raise
        return Made(arn, {"FunctionArn": arn, "Version": version})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        name, _, version = id.rpartition(":")
        await gone(at.call("lambda", "DeleteFunction", FunctionName=name, Qualifier=version))


class Alias(ResourceType):
    name = "AWS::Lambda::Alias"

    async def create(self, at: At, properties: Properties) -> Made:
        named = take(properties, "FunctionName", "Name")
        made = await at.call(
            "lambda",
            "CreateAlias",
            **named,
            **take(properties, "Description", "FunctionVersion"),
            **_routing(properties),
        )
        if "ProvisionedConcurrencyConfig" in properties:
            config = properties["ProvisionedConcurrencyConfig"]
            await _provisioned(at, properties["FunctionName"], properties["Name"], config)
        return Made(made["AliasArn"], {"AliasArn": made["AliasArn"]})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        rolling = at.update_policy.get("CodeDeployLambdaAliasUpdate")
        if rolling and changed(before, properties, "FunctionVersion"):
            await _shift(at, properties, before, rolling)
        elif changed(before, properties, "Description", "FunctionVersion", "RoutingConfig"):
            routing = _routing(properties) or {"RoutingConfig": {"AdditionalVersionWeights": {}}}
            given = take(properties, "FunctionName", "Name", "FunctionVersion")
            description = properties.get("Description", "")
            await at.call("lambda", "UpdateAlias", **given, **routing, Description=description)
        if changed(before, properties, "ProvisionedConcurrencyConfig"):
            config = properties.get("ProvisionedConcurrencyConfig")
            await _provisioned(at, properties["FunctionName"], properties["Name"], config)
        return Made(id, {"AliasArn": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("lambda", "DeleteAlias", **take(properties, "FunctionName", "Name")))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        try:
            found = await at.call("lambda", "GetAlias", **take(properties, "FunctionName", "Name"))
        except AWSError:
            return ()
        return [found["AliasArn"]]


async def _shift(at: At, properties: Properties, before: Properties, rolling: Properties) -> None:
    """The alias goes from version to version by CodeDeploy, which takes it back where it fails.

    See the CloudFormation User Guide, "CodeDeployLambdaAliasUpdate".
    """
    function, alias = properties["FunctionName"], properties["Name"]
    specification: dict[str, Any] = {
        "version": "0.0",
        "Resources": [
            {
                alias: {
                    "Type": "AWS::Lambda::Function",
                    "Properties": {
                        "Name": function,
                        "Alias": alias,
                        "CurrentVersion": before["FunctionVersion"],
                        "TargetVersion": properties["FunctionVersion"],
                    },
                }
            }
        ],
    }
    hooks = (("BeforeAllowTraffic", "BeforeAllowTrafficHook"), ("AfterAllowTraffic", "AfterAllowTrafficHook"))
    named = [{event: rolling[name]} for event, name in hooks if name in rolling]
    if named:
        specification["Hooks"] = named
    started = await at.call(
        "codedeploy",
        "CreateDeployment",
        applicationName=rolling["ApplicationName"],
        deploymentGroupName=rolling["DeploymentGroupName"],
        revision={
            "revisionType": "AppSpecContent",
            "appSpecContent": {"content": msgspec.json.encode(specification).decode()},
        },
    )

    async def look() -> bool:
        found = await at.call("codedeploy", "GetDeployment", deploymentId=started["deploymentId"])
        deployment = found["deploymentInfo"]
        if deployment["status"] in ("Failed", "Stopped"):
            said = deployment.get("errorInformation", {}).get("message", deployment["status"])
            raise AWSError("GeneralServiceException", f"CodeDeploy's {started['deploymentId']} ended: {said}")
        return bool(deployment["status"] == "Succeeded")

    await at.until(look)


def _routing(properties: Properties) -> dict[str, Any]:
    """CloudFormation has the weights as a list."""
    if "RoutingConfig" not in properties:
        return {}
    listed = properties["RoutingConfig"].get("AdditionalVersionWeights", [])
    weights = {item["FunctionVersion"]: item["FunctionWeight"] for item in listed}
    return {"RoutingConfig": {"AdditionalVersionWeights": weights}}


class Permission(ResourceType):
    name = "AWS::Lambda::Permission"

    async def create(self, at: At, properties: Properties) -> Made:
        statement = at.name(100)
        await at.call("lambda", "AddPermission", StatementId=statement, **properties)
        return Made(statement, {"Id": statement})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(
            at.call("lambda", "RemovePermission", FunctionName=properties["FunctionName"], StatementId=id)
        )

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [at.name(100)]


class EventSourceMapping(ResourceType):
    name = "AWS::Lambda::EventSourceMapping"
    extra_attributes = frozenset({"EventSourceMappingArn"})

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call("lambda", "CreateEventSourceMapping", **_mapped(properties))
        id = made["UUID"]
        return Made(id, {"Id": id, "EventSourceMappingArn": at.arn("lambda", f"event-source-mapping:{id}")})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        given = {
            key: item for key, item in _mapped(properties).items() if key not in ("EventSourceArn", "Tags")
        }
        await at.call("lambda", "UpdateEventSourceMapping", UUID=id, **given)
        return Made(id, {"Id": id, "EventSourceMappingArn": at.arn("lambda", f"event-source-mapping:{id}")})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("lambda", "DeleteEventSourceMapping", UUID=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        found = await at.call("lambda", "ListEventSourceMappings", FunctionName=properties["FunctionName"])
        source = properties.get("EventSourceArn")
        return [item["UUID"] for item in found["EventSourceMappings"] if item.get("EventSourceArn") == source]


def _mapped(properties: Properties) -> dict[str, Any]:
    made = dict(properties)
    if isinstance(made.get("Tags"), list):
        made["Tags"] = {tag["Key"]: tag["Value"] for tag in made["Tags"]}
    return made


class Url(ResourceType):
    name = "AWS::Lambda::Url"

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call("lambda", "CreateFunctionUrlConfig", **_named(properties))
        return Made(made["FunctionArn"], take(made, "FunctionArn", "FunctionUrl"))

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        given = _named(properties)
        given.setdefault("Cors", {} if "Cors" in before else None)
        made = await at.call("lambda", "UpdateFunctionUrlConfig", **given)
        return Made(id, take(made, "FunctionArn", "FunctionUrl"))

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        given = take(_named(properties), "FunctionName", "Qualifier")
        await gone(at.call("lambda", "DeleteFunctionUrlConfig", **given))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [str(properties["TargetFunctionArn"])]


def _named(properties: Properties) -> dict[str, Any]:
    given = dict(properties)
    given["FunctionName"] = given.pop("TargetFunctionArn")
    return given


class EventInvokeConfig(ResourceType):
    name = "AWS::Lambda::EventInvokeConfig"

    async def create(self, at: At, properties: Properties) -> Made:
        await at.call("lambda", "PutFunctionEventInvokeConfig", **properties)
        return Made(f"{properties['FunctionName']}|{properties['Qualifier']}")

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await at.call("lambda", "PutFunctionEventInvokeConfig", **properties)
        return Made(id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        given = take(properties, "FunctionName", "Qualifier")
        await gone(at.call("lambda", "DeleteFunctionEventInvokeConfig", **given))


class CodeSigningConfig(ResourceType):
    name = "AWS::Lambda::CodeSigningConfig"

    async def create(self, at: At, properties: Properties) -> Made:
        made = (await at.call("lambda", "CreateCodeSigningConfig", **properties))["CodeSigningConfig"]
        return Made(made["CodeSigningConfigArn"], take(made, "CodeSigningConfigArn", "CodeSigningConfigId"))

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        given = take(properties, "AllowedPublishers", "CodeSigningPolicies", "Description")
        made = (await at.call("lambda", "UpdateCodeSigningConfig", CodeSigningConfigArn=id, **given))[
            "CodeSigningConfig"
        ]
        return Made(id, take(made, "CodeSigningConfigArn", "CodeSigningConfigId"))

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("lambda", "DeleteCodeSigningConfig", CodeSigningConfigArn=id))


class ProvisionedConcurrencyConfig(ResourceType):
    """No type of AWS's, though guides have it: a version or alias has the property of this name."""

    name = "AWS::Lambda::ProvisionedConcurrencyConfig"

    def faults(self, properties: Properties) -> list[str]:
        required = ("FunctionName", "ProvisionedConcurrentExecutions")
        return [f"#: required key [{name}] not found" for name in required if name not in properties]

    def coerce(self, properties: Properties) -> dict[str, Any]:
        made = dict(properties)
        amount = made.get("ProvisionedConcurrentExecutions")
        if isinstance(amount, str) and amount.isdigit():
            made["ProvisionedConcurrentExecutions"] = int(amount)
        return made

    def warnings(self, properties: Properties) -> list[str]:
        published = (
            "" if "Qualifier" in properties else " Without a Qualifier a version was published for it."
        )
        return [
            "AWS::Lambda::ProvisionedConcurrencyConfig is not a type of AWS, which refuses this template: give "
            f"ProvisionedConcurrencyConfig as a property of AWS::Lambda::Version or AWS::Lambda::Alias.{published}"
        ]

    async def create(self, at: At, properties: Properties) -> Made:
        function, qualifier = properties["FunctionName"], properties.get("Qualifier")
        if qualifier is None:
            published = await at.call("lambda", "PublishVersion", FunctionName=function)
            qualifier = published["Version"]
        config = take(properties, "ProvisionedConcurrentExecutions")
        await _provisioned(at, function, str(qualifier), config)
        return Made(f"{function}:{qualifier}")

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        function, _, qualifier = id.rpartition(":")
        await _provisioned(at, function, qualifier, None)
        if "Qualifier" not in properties:
            # PublishVersion gives the last version where nothing changed since: it may be in an alias's use.
            version = at.call("lambda", "DeleteFunction", FunctionName=function, Qualifier=qualifier)
            await gone(version, "ResourceConflictException")


TYPES: tuple[ResourceType, ...] = (
    Version(),
    Alias(),
    Permission(),
    EventSourceMapping(),
    Url(),
    EventInvokeConfig(),
    CodeSigningConfig(),
    ProvisionedConcurrencyConfig(),
)
