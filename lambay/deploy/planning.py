"""From what a caller gave to a plan: macros carried out, parameters looked up, everything checked before a change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from lambay.aws import AWSError
from lambay.deploy import transforms
from lambay.deploy.records import Shape
from lambay.deploy.rule_attributes import rule_attributes
from lambay.deploy.scope import StackScope
from lambay.deploy.template import loops, parameters, rules, template
from lambay.deploy.template.errors import faulty, invalid, malformed
from lambay.deploy.template.functions import resolve, text
from lambay.deploy.template.graph import references
from lambay.deploy.template.parameters import LOOKUPS, Given, Parameter
from lambay.deploy.template.reading import Document, read
from lambay.deploy.template.template import Template
from lambay.deploy.types.base import Call
from lambay.deploy.types.registry import advice, recognized, resource_type

_EXTENSIONS = "AWS::LanguageExtensions"
_DYNAMIC = re.compile(r"\{\{resolve:(ssm|ssm-secure|secretsmanager):([^{}]+)\}\}")


@dataclass(frozen=True)
class Place:
    """Where a stack is, for pseudo parameters."""

    account: str
    region: str
    stack: str
    stack_arn: str
    notification_arns: tuple[str, ...] = ()

    def pseudo(self) -> dict[str, Any]:
        return {
            "AWS::AccountId": self.account,
            "AWS::NotificationARNs": list(self.notification_arns),
            "AWS::Partition": "aws",
            "AWS::Region": self.region,
            "AWS::StackId": self.stack_arn,
            "AWS::StackName": self.stack,
            "AWS::URLSuffix": "amazonaws.com",
        }


@dataclass(frozen=True)
class Plan:
    """A template with everything that is known before anything is made."""

    template: Template
    scope: StackScope
    shape: Shape
    tags: Mapping[str, str]

    def present(self) -> list[str]:
        return self.template.present(self.scope)

    def within(self, ref: Callable[[str], Any], attribute: Callable[[str, str], Any]) -> StackScope:
        """The scope with resources in it."""
        return replace(self.scope, resource=ref, resource_attribute=attribute, imported=self.scope.imported)


class Planner:
    """`exports(account, region, name)` gives an exported value, `call` the API as the stack's principal."""

    def __init__(self, exports: Callable[[str, str, str], str | None]) -> None:
        self._exports = exports

    async def plan(self, shape: Shape, place: Place, call: Call) -> Plan:
        """The plan of a shape whose parameters have been taken in. Raises AWSError ValidationError."""
        document = read(shape.processed or shape.template)
        return await self._made(document, shape, place, call)

    async def take(
        self,
        template_body: str,
        given: Sequence[Mapping[str, Any]],
        previous: Mapping[str, str] | None,
        place: Place,
        call: Call,
        **shape: Any,
    ) -> Plan:
        """The plan of a template as a caller gives it, with its macros carried out."""
        document = read(template_body)
        body = document.body
        declared = parameters.declared(document.body.get("Parameters") or {})
        texts = parameters.given(declared, given, previous)
        fetched = await self._fetch(declared, texts, call)
        document = await self._expand(document, declared, Given(texts, fetched), place, call)
        expanded = document.body is not body
        processed = msgspec.json.encode(document.body).decode() if expanded else ""
        made = Shape(template=template_body, processed=processed, parameters=texts, fetched=fetched, **shape)
        return await self._made(document, made, place, call, asserting=True)

    async def _made(
        self, document: Document, shape: Shape, place: Place, call: Call, *, asserting: bool = False
    ) -> Plan:
        """`asserting`: Rules are asked when a template is given, not when a stack is rolled back or deleted."""
        body = document.body
        declared = parameters.declared(body.get("Parameters") or {})
        # A macro may add parameters with defaults.
        texts = {
            name: item.default for name, item in declared.items() if item.default is not None
        } | shape.parameters
        given = Given(texts, shape.fetched)
        scope = self._scope(body, declared, given, place, await _zones(body, place, call))
        made = template.parse(document, scope)
        check_types(made)
        check_policies(made)
        check_attributes(made)
        if made.rules and asserting:
            rules.check(made.rules, scope, await rule_attributes(made.rules, declared, given, call))
        made.present(scope)
        return Plan(made, scope, shape, {tag.key: tag.value for tag in shape.tags})

    def _scope(
        self,
        body: Mapping[str, Any],
        declared: Mapping[str, Parameter],
        given: Given,
        place: Place,
        zones: Mapping[str, Sequence[str]],
    ) -> StackScope:
        return StackScope(
            parameters=declared,
            given=given,
            pseudo=place.pseudo(),
            mappings=body.get("Mappings") or {},
            definitions=body.get("Conditions") or {},
            exports=lambda name: self._exports(place.account, place.region, name),
            zone_names=zones,
        )

    async def _expand(
        self, document: Document, declared: Mapping[str, Parameter], given: Given, place: Place, call: Call
    ) -> Document:
        """The macros: included snippets first, then loops, then SAM and the others that the template names."""
        body = document.body
        named = template.transforms(body)
        if any(key in ("Fn::Transform", "Transform") for key in _keys(body)):
            body = await transforms.include(body, call)
        if not named and body is document.body:
            return document
        if _EXTENSIONS in named:
            scope = self._scope(body, declared, given, place, await _zones(body, place, call))
            body = loops.unroll(body, scope)
        elif any(key.startswith("Fn::ForEach::") for key in _keys(body)):
            raise invalid("Fn::ForEach needs the transform AWS::LanguageExtensions: add it under Transform.")
        for name in named:
            if name == transforms.SAM:
                values = {
                    key: parameter.value(text_)
                    for key, text_ in given.texts.items()
                    if (parameter := declared.get(key)) is not None
                }
                body = await transforms.serverless(body, values | place.pseudo(), call)
            elif name not in (_EXTENSIONS, "AWS::Include"):
                owned = name if name.startswith("AWS::") else f"{place.account}::{name}"
                raise invalid(f"No transform named {owned} found.")
        return Document(body, document.lines)

    async def _fetch(
        self, declared: Mapping[str, Parameter], texts: Mapping[str, str], call: Call
    ) -> dict[str, str]:
        """The values of SSM parameter types; that what AWS-specific types name exists."""
        fetched: dict[str, str] = {}
        for name, parameter in declared.items():
            given = texts[name]
            if parameter.ssm is not None:
                fetched[name] = await _ssm(name, given, call)
            kind = parameter.looked_up
            if kind is not None and given:
                await _exists(parameter, kind, given, call)
        return fetched


async def _ssm(name: str, key: str, call: Call) -> str:
    try:
        found = await call("ssm", "GetParameter", {"Name": key, "WithDecryption": True})
    except AWSError as error:
        if error.code != "ParameterNotFound":
            raise
        raise invalid(f"Unable to fetch parameters [{key}] from parameter store for this account.") from None
    return str(found["Parameter"]["Value"])


async def _exists(parameter: Parameter, kind: str, given: str, call: Call) -> None:
    service, operation, listed, member = LOOKUPS[kind]
    if kind in ("AWS::EC2::Image::Id", "AWS::EC2::Instance::Id"):
        ids = {"ImageIds": [given]} if kind == "AWS::EC2::Image::Id" else {"InstanceIds": [given]}
        try:
            await call(service, operation, ids)
        except AWSError:
            raise invalid(
                f"Parameter validation failed: parameter value {given} for parameter name {parameter.name} "
                "does not exist"
            ) from None
        return
    found = await call(service, operation, {})
    there = {str(item[member]).rpartition("/")[2] for item in found.get(listed, ())}
    values = parameter.value(given)
    for value in values if isinstance(values, list) else [values]:
        if value not in there:
            raise invalid(
                f"Parameter validation failed: parameter value {value} for parameter name {parameter.name} "
                "does not exist"
            )


async def _zones(body: Mapping[str, Any], place: Place, call: Call) -> dict[str, list[str]]:
    regions = {item if isinstance(item, str) and item else place.region for item in _uses(body, "Fn::GetAZs")}
    found: dict[str, list[str]] = {}
    for region in sorted(regions):
        listed = await call(
            "ec2", "DescribeAvailabilityZones", {"Filters": [{"Name": "region-name", "Values": [region]}]}
        )
        found[region] = sorted(zone["ZoneName"] for zone in listed["AvailabilityZones"])
    return found


def _uses(value: Any, function: str) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == function:
                yield item
            yield from _uses(item, function)
    elif isinstance(value, list):
        for item in value:
            yield from _uses(item, function)


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _keys(item)
    elif isinstance(value, list):
        for item in value:
            yield from _keys(item)


def check_types(made: Template) -> None:
    """Raises AWSError ValidationError that names every type that is not there, with its near matches."""
    lost = [resource.type for resource in made.resources.values() if not recognized(resource.type)]
    if lost:
        raise malformed(
            f"Unrecognized resource types: [{', '.join(dict.fromkeys(lost))}]"
            + "".join(advice(name) for name in dict.fromkeys(lost))
        )


def check_policies(made: Template) -> None:
    """No type that Lambay has can be snapshotted."""
    for resource in made.resources.values():
        for policy in (resource.deletion_policy, resource.update_replace_policy):
            if policy == "Snapshot":
                raise faulty(f"resource type {resource.type} does not support deletion policy Snapshot")


def check_attributes(made: Template) -> None:
    """Fn::GetAtt asks only for what its resource has."""
    values = [resource.properties for resource in made.resources.values()]
    values += [output.value for output in made.outputs.values()]
    for name, attribute in references(values):
        if attribute is None or not attribute or name not in made.resources:
            continue
        known = resource_type(made.resources[name].type).attributes()
        if known is not None and attribute not in known and attribute.split(".")[0] not in known:
            raise faulty(f"resource {name} does not support attribute type {attribute} in Fn::GetAtt")


async def dynamic(value: Any, call: Call) -> Any:
    """`{{resolve:ssm:…}}` and `{{resolve:secretsmanager:…}}` in resolved properties."""
    if isinstance(value, dict):
        return {key: await dynamic(item, call) for key, item in value.items()}
    if isinstance(value, list):
        return [await dynamic(item, call) for item in value]
    if not isinstance(value, str) or "{{resolve:" not in value:
        return value
    made, end = "", 0
    for found in _DYNAMIC.finditer(value):
        made += value[end : found.start()] + await _dynamic(found[1], found[2], call)
        end = found.end()
    return made + value[end:]


async def _dynamic(service: str, key: str, call: Call) -> str:
    if service.startswith("ssm"):
        name, _, version = key.partition(":")
        found = await call(
            "ssm", "GetParameter", {"Name": f"{name}:{version}" if version else name, "WithDecryption": True}
        )
        return str(found["Parameter"]["Value"])
    # arn:aws:secretsmanager:region:account:secret:name has seven parts of its own.
    parts = key.split(":")
    width = 7 if parts[0] == "arn" else 1
    secret, rest = ":".join(parts[:width]), [*parts[width:], "", "", "", ""]
    given = {"SecretId": secret, "VersionStage": rest[2], "VersionId": rest[3]}
    held = await call(
        "secretsmanager", "GetSecretValue", {name: item for name, item in given.items() if item}
    )
    held_text = str(held["SecretString"])
    return text(msgspec.json.decode(held_text)[rest[1]]) if rest[1] else held_text


def resolved_outputs(plan: Plan, scope: StackScope) -> Iterator[tuple[str, str, str, str | None]]:
    """Key, value, description and export name of each output whose condition holds."""
    for output in plan.template.outputs.values():
        if output.condition is not None and not scope.condition(output.condition):
            continue
        value = resolve(output.value, scope)
        if isinstance(value, (dict, list)):
            raise malformed(
                f"The Value field of every Outputs member must evaluate to a String. ({output.name})"
            )
        export = resolve(output.export, scope) if output.export is not None else None
        yield output.name, text(value), output.description, None if export is None else text(export)
