"""What Rules ask of the things that parameters name: `Fn::ValueOf`, `Fn::ValueOfAll`, `Fn::RefAll`.

See the CloudFormation User Guide, "Rule-specific intrinsic functions".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lambay.deploy.template.errors import malformed
from lambay.deploy.template.functions import text
from lambay.deploy.template.parameters import LOOKUPS, Given, Parameter
from lambay.deploy.types.base import Call

# The operation that lists what a VPC has by default, its list, the filter that says so, and the member.
_DEFAULTS = {
    "DefaultSecurityGroup": (
        "DescribeSecurityGroups",
        "SecurityGroups",
        ("group-name", "default"),
        "GroupId",
    ),
    "DefaultNetworkAcl": ("DescribeNetworkAcls", "NetworkAcls", ("default", "true"), "NetworkAclId"),
}


async def rule_attributes(
    section: Any, declared: Mapping[str, Parameter], given: Given, call: Call
) -> Callable[[str, str], list[str]]:
    """Looks up all that `section` asks for. Raises AWSError ValidationError where it asks for what there is not."""
    known: dict[tuple[str, str], list[str]] = {}
    for function, asked in _asked(section):
        if function == "Fn::RefAll":
            kind = text(asked)
            if kind not in LOOKUPS:
                raise malformed(f"Template error: Fn::RefAll: {kind} is no parameter type of AWS's own")
            member = LOOKUPS[kind][3]
            known[kind, ""] = [text(item.get(member, "")) for item in await _listed(kind, call)]
            continue
        if (
            function == "Fn::ValueOfAll"
            and isinstance(asked, list)
            and len(asked) == 2
            and asked[0] in LOOKUPS
        ):
            kind, attribute = text(asked[0]), text(asked[1])
            every = await _listed(kind, call)
            known[kind, attribute] = [await _attribute(kind, item, attribute, call) for item in every]
            continue
        if not isinstance(asked, list) or len(asked) != 2 or asked[0] not in declared:
            raise malformed(f"Template error: {function} takes the name of a parameter and an attribute")
        name, attribute = text(asked[0]), text(asked[1])
        parameter = declared[name]
        kind = parameter.looked_up or ""
        if not kind:
            raise malformed(f"Template error: {function}: {name} is of no parameter type of AWS's own")
        values = parameter.value(given.texts[name])
        items = {text(item.get(LOOKUPS[kind][3])): item for item in await _listed(kind, call)}
        chosen = [
            items[value] for value in (values if isinstance(values, list) else [values]) if value in items
        ]
        known[name, attribute] = [await _attribute(kind, item, attribute, call) for item in chosen]
    return lambda name, attribute: known[name, attribute]


def _asked(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("Fn::ValueOf", "Fn::ValueOfAll", "Fn::RefAll"):
                yield key, item
            yield from _asked(item)
    elif isinstance(value, list):
        for item in value:
            yield from _asked(item)


async def _listed(kind: str, call: Call) -> list[dict[str, Any]]:
    service, operation, member, _ = LOOKUPS[kind]
    return list((await call(service, operation, {})).get(member, ()))


async def _attribute(kind: str, item: Mapping[str, Any], name: str, call: Call) -> str:
    if name.startswith("Tags."):
        tags = {tag["Key"]: tag["Value"] for tag in item.get("Tags", ())}
        return text(tags.get(name.removeprefix("Tags."), ""))
    if kind == "AWS::EC2::VPC::Id" and name in _DEFAULTS:
        operation, listed, (key, value), member = _DEFAULTS[name]
        filters = [{"Name": "vpc-id", "Values": [item["VpcId"]]}, {"Name": key, "Values": [value]}]
        found = (await call("ec2", operation, {"Filters": filters}))[listed]
        return text(found[0][member]) if found else ""
    if name not in item or isinstance(item[name], (dict, list)):
        raise malformed(f"Template error: Fn::ValueOf: {kind} has no attribute {name}")
    return text(item[name])
