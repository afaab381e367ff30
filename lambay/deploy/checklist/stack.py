"""A template's functions, file systems and groups as the checks see them: by logical name, nothing resolved.

Two values are the same where they are written the same: `!Ref PrivateSubnet1` here is `!Ref PrivateSubnet1` there.
What comes by parameter or import is known by its name alone, and nothing is claimed of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lambay.deploy.template.reading import Document, Path

SERVERLESS = "AWS::Serverless::Function"
FUNCTION = "AWS::Lambda::Function"


@dataclass(frozen=True)
class Resource:
    name: str
    type: str
    properties: Mapping[str, Any]
    depends_on: tuple[str, ...]


@dataclass(frozen=True)
class Function:
    """A function, with what `Globals` give it. `subnets` and `groups` are None where they are not written out."""

    resource: Resource
    properties: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.resource.name

    @property
    def vpc(self) -> Mapping[str, Any]:
        return mapping(self.properties.get("VpcConfig"))

    @property
    def subnets(self) -> list[Any] | None:
        given = self.vpc.get("SubnetIds")
        return given if isinstance(given, list) else None

    @property
    def groups(self) -> list[Any] | None:
        given = self.vpc.get("SecurityGroupIds")
        return given if isinstance(given, list) else None

    @property
    def file_systems(self) -> list[Mapping[str, Any]]:
        given = self.properties.get("FileSystemConfigs")
        return [mapping(item) for item in given] if isinstance(given, list) else []


class Stack:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.resources = {
            name: Resource(
                name,
                str(mapping(body).get("Type", "")),
                mapping(mapping(body).get("Properties")),
                _names(mapping(body).get("DependsOn")),
            )
            for name, body in mapping(document.body.get("Resources")).items()
        }

    def of_type(self, *types: str) -> Iterator[Resource]:
        return (each for each in self.resources.values() if each.type in types)

    def line(self, name: str, *path: str | int) -> int:
        """Where a resource's property stands, or the nearest thing around it."""
        where: Path = ("Resources", name, *path)
        return self.document.line(*where) or 1

    @cached_property
    def functions(self) -> list[Function]:
        common = mapping(mapping(self.document.body.get("Globals")).get("Function"))
        found = []
        for resource in self.of_type(FUNCTION, SERVERLESS):
            shared = common if resource.type == SERVERLESS else {}
            found.append(Function(resource, {**shared, **resource.properties}))
        return found

    def referred(self, value: Any) -> Resource | None:
        """The resource of this template that `Ref`, `GetAtt` or a `Sub` of one name leads to."""
        name = _referred_name(value)
        return self.resources.get(name) if name else None

    def file_system_of(self, arn: Any) -> tuple[Resource | None, Any]:
        """The access point that an ARN leads to, and how its file system is written (None: not known)."""
        access_point = self.referred(arn)
        if access_point is None or access_point.type != "AWS::EFS::AccessPoint":
            return None, None
        return access_point, access_point.properties.get("FileSystemId")

    def mount_targets_of(self, file_system: Any) -> list[Resource]:
        return [
            each
            for each in self.of_type("AWS::EFS::MountTarget")
            if same(each.properties.get("FileSystemId"), file_system)
        ]

    def zone_of(self, subnet: Any) -> Any:
        """How the zone of a subnet is written, None where the subnet is not made here."""
        resource = self.referred(subnet)
        if resource is None or resource.type != "AWS::EC2::Subnet":
            return None
        return resource.properties.get("AvailabilityZone") or resource.properties.get("AvailabilityZoneId")


def same(one: Any, other: Any) -> bool:
    """Both are written the same, or lead to the same resource's identifier."""
    return written(one) == written(other)


def written(value: Any) -> str:
    """One text for one meaning: a `Sub` of a single reference is that `Ref`."""
    name = _referred_name(value)
    if name and isinstance(value, dict) and "Fn::GetAtt" not in value:
        return f"Ref {name}"
    if isinstance(value, dict) and "Fn::GetAtt" in value:
        given = value["Fn::GetAtt"]
        parts = given if isinstance(given, list) else str(given).split(".", 1)
        # A group's GroupId and its Ref are the same identifier.
        return f"Ref {parts[0]}" if parts[1:] == ["GroupId"] else f"GetAtt {'.'.join(map(str, parts))}"
    return json.dumps(value, sort_keys=True, default=str)


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def shown(value: Any) -> str:
    """A value in a message: a reference by its name."""
    name = _referred_name(value)
    if name:
        return name
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _referred_name(value: Any) -> str | None:
    if not isinstance(value, dict) or len(value) != 1:
        return None
    match value:
        case {"Ref": str(name)}:
            return name
        case {"Fn::GetAtt": [str(name), *_]}:
            return name
        case {"Fn::GetAtt": str(text)}:
            return text.partition(".")[0]
        case {"Fn::Sub": str(text)} if text.startswith("${") and text.endswith("}") and text.count("${") == 1:
            return text[2:-1].partition(".")[0]
    return None


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
