"""`Template`: the sections, checked for their form with CloudFormation's own texts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lambay.deploy.template import graph, parameters
from lambay.deploy.template.errors import faulty, invalid, malformed
from lambay.deploy.template.functions import Scope, holds, resolve, text
from lambay.deploy.template.parameters import Parameter
from lambay.deploy.template.reading import Document

PSEUDO = (
    "AWS::AccountId",
    "AWS::NoValue",
    "AWS::NotificationARNs",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
)
_SECTIONS = frozenset(
    (
        "AWSTemplateFormatVersion",
        "Conditions",
        "Description",
        "Hooks",
        "Mappings",
        "Metadata",
        "Outputs",
        "Parameters",
        "Resources",
        "Rules",
        "Transform",
        "Globals",
    )
)
_RESOURCE = frozenset(
    (
        "Condition",
        "CreationPolicy",
        "DeletionPolicy",
        "DependsOn",
        "Description",
        "Metadata",
        "Properties",
        "Type",
        "UpdatePolicy",
        "UpdateReplacePolicy",
        "Version",
        "Connectors",
        "IgnoreGlobals",
    )
)
_POLICIES = ("Delete", "Retain", "RetainExceptOnCreate", "Snapshot")
_IAM_NAMED = {
    "AWS::IAM::Group": "GroupName",
    "AWS::IAM::InstanceProfile": "InstanceProfileName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::Role": "RoleName",
    "AWS::IAM::User": "UserName",
}
_IAM = frozenset((*_IAM_NAMED, "AWS::IAM::AccessKey", "AWS::IAM::Policy", "AWS::IAM::UserToGroupAddition"))


@dataclass(frozen=True)
class Resource:
    """A resource as the template declares it: properties unresolved."""

    name: str
    type: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    metadata: Any = None
    condition: str | None = None
    depends_on: tuple[str, ...] = ()
    deletion_policy: str = "Delete"
    update_replace_policy: str = "Delete"
    creation_policy: Mapping[str, Any] | None = None
    update_policy: Mapping[str, Any] | None = None

    @cached_property
    def references(self) -> frozenset[str]:
        """All names that it refers to or depends on."""
        named = graph.references([self.properties, dict(self.update_policy or {})])
        return frozenset(name for name, _ in named) | frozenset(self.depends_on)


@dataclass(frozen=True)
class Output:
    name: str
    value: Any
    description: str = ""
    export: Any = None
    condition: str | None = None


@dataclass(frozen=True)
class Template:
    """A template after its macros: what the engine deploys."""

    document: Document
    description: str
    parameters: Mapping[str, Parameter]
    mappings: Mapping[str, Mapping[str, Any]]
    conditions: Mapping[str, Any]
    resources: Mapping[str, Resource]
    outputs: Mapping[str, Output]
    rules: Mapping[str, Any]
    metadata: Any
    transforms: tuple[str, ...]

    def dependencies(self, present: Collection[str]) -> dict[str, frozenset[str]]:
        """For each resource of `present`, those of them that it waits for."""
        return {
            name: self.resources[name].references & set(present) - {name}
            for name in self.resources
            if name in present
        }

    def present(self, scope: Scope) -> list[str]:
        """The resources whose condition holds, each after what it waits for."""
        there = [
            name
            for name, resource in self.resources.items()
            if resource.condition is None or scope.condition(resource.condition)
        ]
        return graph.order(self.dependencies(there))


def parse(document: Document, scope: Scope | None = None) -> Template:
    """Raises AWSError ValidationError where the template's form is wrong."""
    body = document.body
    strangers = sorted(set(body) - _SECTIONS)
    if strangers:
        raise invalid(f"Invalid template property or properties [{', '.join(strangers)}]")
    version = body.get("AWSTemplateFormatVersion")
    if version is not None and text(version) != "2010-09-09":
        raise malformed(f"{text(version)} is not a supported value for AWSTemplateFormatVersion.")
    description = body.get("Description")
    if description is not None and not isinstance(description, str):
        raise malformed("Description must be a string.")
    section = body.get("Resources")
    if not isinstance(section, dict) or not section:
        raise malformed("At least one Resources member must be defined.")
    if len(section) > 500:
        raise malformed(f"Number of resources, {len(section)}, is greater than maximum allowed, 500")
    _no_nulls(body, "")
    made = Template(
        document=document,
        description=description or "",
        parameters=parameters.declared(body.get("Parameters") or {}),
        mappings=_mappings(body.get("Mappings") or {}),
        conditions=_object(body.get("Conditions") or {}, "Conditions"),
        resources={name: _resource(name, item, scope) for name, item in section.items()},
        outputs={
            name: _output(name, item) for name, item in _object(body.get("Outputs") or {}, "Outputs").items()
        },
        rules=_object(body.get("Rules") or {}, "Rules"),
        metadata=body.get("Metadata"),
        transforms=transforms(body),
    )
    _check_names(made)
    graph.order(made.dependencies(made.resources))
    return made


def transforms(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The macros that a template names for itself as a whole."""
    given = body.get("Transform")
    listed = given if isinstance(given, list) else [given] if given is not None else []
    return tuple(item["Name"] if isinstance(item, dict) and "Name" in item else text(item) for item in listed)


def _no_nulls(value: Any, path: str) -> None:
    if value is None:
        raise malformed(f"[{path}] 'null' values are not allowed in templates")
    if isinstance(value, dict):
        for key, item in value.items():
            if (
                path == ""
                and item is None
                and key in ("Conditions", "Mappings", "Outputs", "Parameters", "Metadata")
            ):
                continue
            _no_nulls(item, f"{path}/{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _no_nulls(item, f"{path}/{number}")


def _object(section: Any, name: str) -> dict[str, Any]:
    if not isinstance(section, dict):
        raise malformed(f"{name} must be an object.")
    return section


def _mappings(section: Any) -> dict[str, Mapping[str, Any]]:
    for name, mapping in _object(section, "Mappings").items():
        if not isinstance(mapping, dict) or not mapping:
            raise malformed(f"Every Mappings member {name} must be a map")
        for key, attributes in mapping.items():
            if not isinstance(attributes, dict):
                raise malformed(f"Every Mappings member {name}/{key} must be a map")
    return dict(section)


def _resource(name: str, body: Any, scope: Scope | None) -> Resource:
    if not name.isalnum() or not name.isascii():
        raise malformed(f"Resource name {name} is non alphanumeric.")
    if not isinstance(body, dict):
        raise malformed(f"[/Resources/{name}] Every Resources object must be an object.")
    kind = body.get("Type")
    if not isinstance(kind, str):
        raise malformed(f"[/Resources/{name}] Every Resources object must contain a Type member.")
    strangers = sorted(set(body) - _RESOURCE)
    if strangers:
        raise invalid(f"Invalid template resource property '{strangers[0]}'")
    properties = body.get("Properties", {})
    if not isinstance(properties, dict):
        raise malformed(f"[/Resources/{name}/Properties] 'Properties' must be an object.")
    depends_on = body.get("DependsOn", [])
    names = [depends_on] if isinstance(depends_on, str) else depends_on
    if not isinstance(names, list) or not all(isinstance(item, str) for item in names):
        raise malformed("Every DependsOn value must be a string.")
    deletion = _policy("DeletionPolicy", body, scope)
    return Resource(
        name=name,
        type=kind,
        properties=properties,
        metadata=body.get("Metadata"),
        condition=body.get("Condition"),
        depends_on=tuple(names),
        deletion_policy=deletion or "Delete",
        update_replace_policy=_policy("UpdateReplacePolicy", body, scope) or "Delete",
        creation_policy=body.get("CreationPolicy"),
        update_policy=body.get("UpdatePolicy"),
    )


def _policy(kind: str, body: Mapping[str, Any], scope: Scope | None) -> str | None:
    value = body.get(kind)
    if value is None:
        return None
    if isinstance(value, dict) and scope is not None:
        value = resolve(value, scope)
    if isinstance(value, dict):
        # Known once the parameters are; the form is right.
        return "Delete"
    if value not in _POLICIES or (kind == "UpdateReplacePolicy" and value == "RetainExceptOnCreate"):
        raise malformed(f"Unrecognized {kind} {text(value)}")
    return str(value)


def _output(name: str, body: Any) -> Output:
    if not name.isalnum() or not name.isascii():
        raise malformed(f"Output name {name} is non alphanumeric.")
    if not isinstance(body, dict) or "Value" not in body:
        raise malformed(f"[/Outputs/{name}] Every Outputs member must contain a Value object")
    strangers = sorted(set(body) - {"Condition", "Description", "Export", "Value"})
    if strangers:
        raise invalid(f"Invalid template output property '{strangers[0]}'")
    export = body.get("Export")
    if export is not None and (not isinstance(export, dict) or "Name" not in export):
        raise malformed(f"[/Outputs/{name}/Export] must contain a Name")
    return Output(
        name,
        body["Value"],
        text(body.get("Description")),
        export["Name"] if export else None,
        body.get("Condition"),
    )


def _check_names(template: Template) -> None:
    """Every reference leads somewhere."""
    known = {*template.resources, *template.parameters, *PSEUDO}
    lost: list[str] = []
    for resource in template.resources.values():
        for name, attribute in graph.references([resource.properties, resource.metadata]):
            if attribute is not None and name not in template.resources:
                raise faulty(f"instance of Fn::GetAtt references undefined resource {name}")
            if name not in known and name not in lost:
                lost.append(name)
        lost.extend(
            name for name in resource.depends_on if name not in template.resources and name not in lost
        )
        if resource.condition is not None and resource.condition not in template.conditions:
            raise malformed(
                f"Unresolved condition dependency {resource.condition} in the Resources block of the template"
            )
    if lost:
        raise malformed(
            f"Unresolved resource dependencies [{', '.join(lost)}] in the Resources block of the template"
        )
    for output in template.outputs.values():
        for name, attribute in graph.references([output.value, output.export]):
            if attribute is not None and name not in template.resources:
                raise faulty(f"instance of Fn::GetAtt references undefined resource {name}")
            if name not in known:
                raise malformed(
                    f"Unresolved resource dependencies [{name}] in the Outputs block of the template"
                )
        if output.condition is not None and output.condition not in template.conditions:
            raise malformed(
                f"Unresolved condition dependency {output.condition} in the Outputs block of the template"
            )
    for body in template.conditions.values():
        for used, attribute in graph.references(body):
            if attribute is not None or used in template.resources or used not in known:
                raise malformed(
                    f"Unresolved dependencies [{used}]. Cannot reference resources in the Conditions block "
                    f"of the template"
                )


def capabilities(template: Template) -> tuple[tuple[str, ...], list[str]]:
    """What a caller must acknowledge, and the resources for which."""
    iam = [resource for resource in template.resources.values() if resource.type in _IAM]
    named = [
        resource
        for resource in iam
        if resource.type in _IAM_NAMED and _IAM_NAMED[resource.type] in resource.properties
    ]
    if named:
        return ("CAPABILITY_NAMED_IAM",), [resource.name for resource in iam]
    return (("CAPABILITY_IAM",) if iam else ()), [resource.name for resource in iam]


class Conditions:
    """The Conditions section, each evaluated once. Raises AWSError where they refer to each other in a circle."""

    def __init__(self, definitions: Mapping[str, Any], scope: Callable[[], Scope]) -> None:
        self._definitions = definitions
        self._scope = scope
        self._known: dict[str, bool] = {}
        self._open: list[str] = []

    def __call__(self, name: str) -> bool:
        if name not in self._known:
            if name not in self._definitions:
                raise malformed(f"Unresolved condition dependency {name}")
            if name in self._open:
                raise malformed(f"Circular dependency between conditions: [{', '.join(sorted(self._open))}]")
            self._open.append(name)
            try:
                self._known[name] = holds(self._definitions[name], self._scope())
            finally:
                self._open.pop()
        return self._known[name]
