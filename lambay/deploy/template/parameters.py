"""A template's parameters and the values given for them. See the User Guide, "Parameters" syntax.

SSM parameter types hold a parameter's name until `fetched` puts its value in; that and whether a VPC exists is
looked up by whoever calls (`Lookup`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambay.aws import AWSError
from lambay.deploy.template.errors import invalid, malformed
from lambay.deploy.template.functions import text

_SSM = re.compile(r"AWS::SSM::Parameter::Value<(.+)>")
_LIST = re.compile(r"List<(.+)>")
_PLAIN = frozenset(("String", "Number", "CommaDelimitedList", "AWS::SSM::Parameter::Name"))
# AWS-specific types: the EC2 (or other) operation that lists them, its list and the member that names one.
LOOKUPS: dict[str, tuple[str, str, str, str]] = {
    "AWS::EC2::AvailabilityZone::Name": ("ec2", "DescribeAvailabilityZones", "AvailabilityZones", "ZoneName"),
    "AWS::EC2::Image::Id": ("ec2", "DescribeImages", "Images", "ImageId"),
    "AWS::EC2::Instance::Id": ("ec2", "DescribeInstances", "Reservations", "Instances"),
    "AWS::EC2::KeyPair::KeyName": ("ec2", "DescribeKeyPairs", "KeyPairs", "KeyName"),
    "AWS::EC2::SecurityGroup::GroupName": ("ec2", "DescribeSecurityGroups", "SecurityGroups", "GroupName"),
    "AWS::EC2::SecurityGroup::Id": ("ec2", "DescribeSecurityGroups", "SecurityGroups", "GroupId"),
    "AWS::EC2::Subnet::Id": ("ec2", "DescribeSubnets", "Subnets", "SubnetId"),
    "AWS::EC2::Volume::Id": ("ec2", "DescribeVolumes", "Volumes", "VolumeId"),
    "AWS::EC2::VPC::Id": ("ec2", "DescribeVpcs", "Vpcs", "VpcId"),
    "AWS::Route53::HostedZone::Id": ("route53", "ListHostedZones", "HostedZones", "Id"),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    type: str
    default: str | None = None
    allowed: tuple[str, ...] | None = None
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_value: float | None = None
    max_value: float | None = None
    no_echo: bool = False
    description: str = ""
    constraint: str | None = None

    @property
    def ssm(self) -> str | None:
        """The type of what the named SSM parameter holds; None for other types."""
        found = _SSM.fullmatch(self.type)
        return found[1] if found else None

    @property
    def looked_up(self) -> str | None:
        """The AWS-specific type whose values have to exist."""
        inner = _LIST.fullmatch(self.type)
        kind = inner[1] if inner else self.type
        return kind if kind in LOOKUPS else None

    def value(self, given: str) -> Any:
        """What Ref gives of the text `given`: text, or a list of texts."""
        kind = self.ssm or self.type
        if kind == "CommaDelimitedList" or _LIST.fullmatch(kind):
            return [item.strip() for item in given.split(",")] if given else []
        return given

    def check(self, given: str) -> None:
        """Raises AWSError ValidationError where `given` breaks a constraint."""
        values = self.value(given)
        for value in values if isinstance(values, list) else [values]:
            self._check_one(value)

    def _check_one(self, value: str) -> None:
        def fail(otherwise: str) -> AWSError:
            said = f"failed to satisfy constraint: {self.constraint}" if self.constraint else otherwise
            return invalid(
                f"Parameter '{self.name}' {said}"
                if self.constraint
                else f"Parameter '{self.name}' {otherwise}"
            )

        if self.type in ("Number", "List<Number>"):
            try:
                number = float(value)
            except ValueError:
                raise invalid(f"Parameter '{self.name}' must be a number.") from None
            if self.min_value is not None and number < self.min_value:
                raise fail(f"must be a number not less than {text(self.min_value)}")
            if self.max_value is not None and number > self.max_value:
                raise fail(f"must be a number not greater than {text(self.max_value)}")
        if self.allowed is not None and value not in self.allowed:
            raise (
                fail(f"must be one of AllowedValues: [{', '.join(self.allowed)}]")
                if not self.constraint
                else fail("")
            )
        if self.type != "Number":
            if self.min_length is not None and len(value) < self.min_length:
                raise fail(f"must contain at least {self.min_length} characters")
            if self.max_length is not None and len(value) > self.max_length:
                raise fail(f"must contain at most {self.max_length} characters")
            if self.pattern is not None and not re.fullmatch(self.pattern, value):
                raise fail(f"must match pattern {self.pattern}")


@dataclass(frozen=True, slots=True)
class Given:
    """A stack's parameters: what was given (`texts`), what Ref gives (`values`), what SSM held (`fetched`)."""

    texts: Mapping[str, str] = field(default_factory=dict)
    fetched: Mapping[str, str] = field(default_factory=dict)

    def value(self, parameter: Parameter) -> Any:
        return parameter.value(self.fetched.get(parameter.name, self.texts[parameter.name]))


def declared(section: Any) -> dict[str, Parameter]:
    """The Parameters section. Raises AWSError ValidationError."""
    if not isinstance(section, dict):
        raise malformed("Parameters must be an object.")
    return {name: _declared(name, body) for name, body in section.items()}


def _declared(name: str, body: Any) -> Parameter:
    if not name.isalnum() or not name.isascii():
        raise malformed(f"Parameter name {name} is non alphanumeric.")
    if not isinstance(body, dict):
        raise malformed(f"[/Parameters/{name}] Every Parameters object must be an object.")
    kind = body.get("Type")
    if not isinstance(kind, str):
        raise malformed(f"[/Parameters/{name}] Every Parameters object must contain a Type member.")
    if not _known(kind):
        raise malformed(f"Unrecognized parameter type: {kind}")
    unknown = sorted(set(body) - _MEMBERS)
    if unknown:
        raise malformed(f"Invalid template parameter property '{unknown[0]}'")
    allowed = body.get("AllowedValues")
    if allowed is not None and not isinstance(allowed, list):
        raise malformed(f"[/Parameters/{name}/AllowedValues] 'null' values are not allowed in templates")
    pattern = body.get("AllowedPattern")
    if pattern is not None:
        try:
            re.compile(str(pattern))
        except re.error as error:
            raise malformed(
                f"[/Parameters/{name}/AllowedPattern] {pattern!r} is no pattern: {error}"
            ) from None
    default = body.get("Default")
    if isinstance(default, (dict, list)):
        raise malformed("Every Default member must be a string.")
    try:
        made = Parameter(
            name=name,
            type=kind,
            default=None if default is None else text(default),
            allowed=None if allowed is None else tuple(map(text, allowed)),
            pattern=None if pattern is None else str(pattern),
            min_length=_whole(body.get("MinLength")),
            max_length=_whole(body.get("MaxLength")),
            min_value=_number(body.get("MinValue")),
            max_value=_number(body.get("MaxValue")),
            no_echo=text(body.get("NoEcho", False)) == "true",
            description=text(body.get("Description")),
            constraint=body.get("ConstraintDescription"),
        )
    except ValueError:
        raise malformed(f"[/Parameters/{name}] a limit is not a number.") from None
    if made.default is not None and made.ssm is None:
        made.check(made.default)
    return made


_MEMBERS = frozenset(
    (
        "AllowedPattern",
        "AllowedValues",
        "ConstraintDescription",
        "Default",
        "Description",
        "MaxLength",
        "MaxValue",
        "MinLength",
        "MinValue",
        "NoEcho",
        "Type",
    )
)


def _known(kind: str) -> bool:
    found = _SSM.fullmatch(kind)
    if found:
        kind = found[1]
    inner = _LIST.fullmatch(kind)
    if inner:
        return inner[1] in LOOKUPS or inner[1] in ("Number", "String")
    return kind in _PLAIN or kind in LOOKUPS


def _whole(value: Any) -> int | None:
    return None if value is None else int(text(value))


def _number(value: Any) -> float | None:
    return None if value is None else float(text(value))


def given(
    parameters: Mapping[str, Parameter],
    input: Sequence[Mapping[str, Any]],
    previous: Mapping[str, str] | None,
) -> dict[str, str]:
    """The text of each parameter: given, the previous one, or the default.

    `input` is the API's Parameters. Raises AWSError ValidationError.
    """
    texts: dict[str, str] = {}
    for item in input:
        name = item["ParameterKey"]
        if name in parameters or previous is None:
            if item.get("UsePreviousValue"):
                if previous is None:
                    raise invalid(
                        f"Invalid input for parameter key {name}. Cannot specify usePreviousValue as true for "
                        "a parameter key not in the previous template"
                    )
                if name not in previous:
                    raise invalid(
                        f"Invalid input for parameter key {name}. Cannot specify usePreviousValue as true for "
                        "a parameter key not in the previous template"
                    )
                texts[name] = previous[name]
            elif "ParameterValue" not in item:
                raise invalid(f"Parameter {name}: ParameterValue or UsePreviousValue is required")
            else:
                texts[name] = item["ParameterValue"]
        else:
            texts[name] = item.get("ParameterValue", "")
    strangers = sorted(set(texts) - set(parameters))
    if strangers:
        raise invalid(f"Parameters: [{', '.join(strangers)}] do not exist in the template")
    for name, parameter in parameters.items():
        if name not in texts and parameter.default is not None:
            texts[name] = parameter.default
    missing = [name for name in parameters if name not in texts]
    if missing:
        raise invalid(f"Parameters: [{', '.join(missing)}] must have values")
    for name, value in texts.items():
        if parameters[name].ssm is None:
            parameters[name].check(value)
    return texts
