"""Intrinsic functions: a template's value to a plain one, in a `Scope` that knows what names stand for.

Pure: what a scope cannot know yet is `UNKNOWN`, which makes everything built of it unknown. See the
CloudFormation User Guide, "Intrinsic function reference" and "AWS::LanguageExtensions transform".
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from lambay.deploy.template.errors import faulty, invalid, malformed


class _Unknown:
    """A value that is known only after something has been made."""

    def __repr__(self) -> str:
        return "(known after apply)"


class _NoValue:
    """`AWS::NoValue`: takes the property away that it is given for."""

    def __repr__(self) -> str:
        return "AWS::NoValue"


UNKNOWN = _Unknown()
NO_VALUE = _NoValue()

_VARIABLE = re.compile(r"\$\{([^!${}][^${}]*)\}")
_LITERAL = re.compile(r"\$\{!([^${}]*)\}")
_CONDITIONS = frozenset(("Fn::And", "Fn::Equals", "Fn::Not", "Fn::Or", "Condition"))


class Scope(Protocol):
    """What names stand for at the moment of resolving."""

    def ref(self, name: str) -> Any:
        """Of a parameter, a pseudo parameter or a resource. Raises AWSError where there is none."""

    def attribute(self, resource: str, attribute: str) -> Any:
        """Of a resource."""

    def condition(self, name: str) -> bool:
        """Raises AWSError where there is none."""

    def mapping(self, name: str) -> Mapping[str, Any] | None: ...

    def exported(self, name: str) -> Any:
        """Raises AWSError where no stack exports it."""

    def zones(self, region: str) -> Sequence[str]:
        """The Availability Zones' names, sorted."""


def resolve(value: Any, scope: Scope) -> Any:
    """`value` with every function in it carried out and what is `AWS::NoValue` left out."""
    if isinstance(value, dict):
        name = function_name(value)
        if name is not None:
            return _FUNCTIONS[name](value[name], scope)
        made = {key: resolve(item, scope) for key, item in value.items()}
        return {key: item for key, item in made.items() if item is not NO_VALUE}
    if isinstance(value, list):
        return [item for item in (resolve(item, scope) for item in value) if item is not NO_VALUE]
    return value


def function_name(value: Mapping[str, Any]) -> str | None:
    """The function that this object calls; None for an ordinary one. Raises AWSError for an unknown one."""
    if len(value) != 1:
        return None
    (name,) = value
    if name in _FUNCTIONS:
        return str(name) if name != "Condition" or isinstance(value[name], str) else None
    if name.startswith("Fn::") and not name.startswith("Fn::ForEach::"):
        raise faulty(f"Unrecognized function {name}")
    return None


def holds(value: Any, scope: Scope) -> bool:
    """A condition's definition, or its use. Raises AWSError where it is none."""
    if isinstance(value, bool):
        return value
    if isinstance(value, dict) and len(value) == 1:
        (name,) = value
        if name in _CONDITIONS:
            return bool(_FUNCTIONS[name](value[name], scope))
    if isinstance(value, str) and value in ("true", "false"):
        return value == "true"
    raise malformed(
        "Every Conditions member must be a condition function: Fn::And, Fn::Equals, Fn::Not or Fn::Or."
    )


def unknown(value: Any) -> bool:
    """Whether anything in `value` is not known yet."""
    if isinstance(value, dict):
        return any(unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(unknown(item) for item in value)
    return value is UNKNOWN


def text(value: Any) -> str:
    """A scalar as CloudFormation writes it into text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def substitutes(template: str) -> list[str]:
    """The names within `${}` of Fn::Sub's text."""
    return [found.strip() for found in _VARIABLE.findall(template)]


def _texts(values: Any, function: str, scope: Scope) -> Any:
    given = resolve(values, scope)
    if given is UNKNOWN:
        return UNKNOWN
    if not isinstance(given, list):
        raise faulty(
            f"every {function} object requires two parameters, (1) a string delimiter and (2) a list of "
            "strings to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined."
        )
    return UNKNOWN if unknown(given) else given


def _ref(name: Any, scope: Scope) -> Any:
    if isinstance(name, dict):
        name = resolve(name, scope)
    if not isinstance(name, str):
        raise malformed("every Ref object must have a single String value.")
    return scope.ref(name)


def _get_att(given: Any, scope: Scope) -> Any:
    parts = list(given.partition(".")[::2]) if isinstance(given, str) else given
    if not isinstance(parts, list) or len(parts) < 2 or not isinstance(parts[0], str):
        raise faulty(
            "every Fn::GetAtt object requires two non-empty parameters, the resource name and the resource attribute"
        )
    resource = parts[0]
    attribute = resolve(parts[1], scope) if len(parts) == 2 else ".".join(map(str, parts[1:]))
    if attribute is UNKNOWN:
        return UNKNOWN
    return scope.attribute(resource, text(attribute))


def _sub(given: Any, scope: Scope) -> Any:
    template, variables = given, {}
    if isinstance(given, list):
        if len(given) != 2 or not isinstance(given[1], dict):
            raise faulty(
                "One or more Fn::Sub intrinsic functions don't specify expected arguments. Specify a string as "
                "first argument, and an optional second argument to specify a mapping of values to replace in "
                "the string"
            )
        template, variables = given
    if not isinstance(template, str):
        raise faulty(
            "One or more Fn::Sub intrinsic functions don't specify expected arguments. Specify a string as "
            "first argument, and an optional second argument to specify a mapping of values to replace in "
            "the string"
        )
    missing = False

    def put(found: re.Match[str]) -> str:
        nonlocal missing
        name = found[1].strip()
        if name in variables:
            value = resolve(variables[name], scope)
        elif "." in name:
            value = scope.attribute(*name.split(".", 1))
        else:
            value = scope.ref(name)
        if value is UNKNOWN:
            missing = True
            return ""
        if isinstance(value, list):
            value = ",".join(map(text, value))
        if isinstance(value, dict) or value is NO_VALUE:
            raise faulty(f"variable {name} in Fn::Sub expression does not resolve to a string")
        return text(value)

    made = _VARIABLE.sub(put, template)
    return UNKNOWN if missing else _LITERAL.sub(r"${\1}", made)


def _join(given: Any, scope: Scope) -> Any:
    if not isinstance(given, list) or len(given) != 2:
        return _texts(None, "Fn::Join", scope)
    delimiter, values = resolve(given[0], scope), _texts(given[1], "Fn::Join", scope)
    if values is UNKNOWN or delimiter is UNKNOWN:
        return UNKNOWN
    if any(isinstance(value, (dict, list)) for value in values):
        raise faulty("every value of a Fn::Join object's list must be a string")
    return text(delimiter).join(map(text, values))


def _select(given: Any, scope: Scope) -> Any:
    if not isinstance(given, list) or len(given) != 2:
        raise faulty("Fn::Select requires a list argument with two elements: an integer index and a list")
    index, values = resolve(given[0], scope), resolve(given[1], scope)
    if index is UNKNOWN or values is UNKNOWN:
        return UNKNOWN
    if isinstance(values, str):
        values = values.split(",")
    if not isinstance(values, list):
        raise faulty("Fn::Select requires a list argument with two elements: an integer index and a list")
    try:
        position = int(text(index))
    except ValueError:
        raise faulty(f"Fn::Select cannot select an element with the index {text(index)}") from None
    if not 0 <= position < len(values):
        raise faulty(f"Fn::Select cannot select nonexistent value at index {position}")
    return values[position]


def _split(given: Any, scope: Scope) -> Any:
    if not isinstance(given, list) or len(given) != 2:
        raise faulty(
            "every Fn::Split object requires two parameters, (1) a string delimiter and (2) a string to be split or a "
            "function that returns a string to be split."
        )
    delimiter, value = resolve(given[0], scope), resolve(given[1], scope)
    if delimiter is UNKNOWN or value is UNKNOWN:
        return UNKNOWN
    if not isinstance(delimiter, str) or not delimiter or isinstance(value, (dict, list)):
        raise faulty(
            "every Fn::Split object requires two parameters, (1) a string delimiter and (2) a string to be split or a "
            "function that returns a string to be split."
        )
    return text(value).split(delimiter)


def _find_in_map(given: Any, scope: Scope) -> Any:
    if not isinstance(given, list) or len(given) not in (3, 4):
        raise faulty(
            "every Fn::FindInMap object requires three parameters, the map name, map key and the attribute for "
            "return value"
        )
    keys = [resolve(item, scope) for item in given[:3]]
    if unknown(keys):
        return UNKNOWN
    name, top, second = map(text, keys)
    mapping = scope.mapping(name)
    found = mapping.get(top, {}) if mapping is not None else {}
    if isinstance(found, dict) and second in found:
        return resolve(found[second], scope)
    if len(given) == 4 and isinstance(given[3], dict) and "DefaultValue" in given[3]:
        return resolve(given[3]["DefaultValue"], scope)
    if mapping is None:
        raise faulty(f"Mapping named '{name}' is not present in the 'Mappings' section of template.")
    raise faulty(f"Unable to get mapping for {name}::{top}::{second}")


def _if(given: Any, scope: Scope) -> Any:
    if not isinstance(given, list) or len(given) != 3:
        raise faulty("Fn::If requires a list argument with three elements")
    condition = given[0]
    true = scope.condition(condition) if isinstance(condition, str) else holds(condition, scope)
    return resolve(given[1] if true else given[2], scope)


def _equals(given: Any, scope: Scope) -> bool:
    if not isinstance(given, list) or len(given) != 2:
        raise faulty("Fn::Equals requires a list argument with two elements")
    left, right = (resolve(item, scope) for item in given)
    plain = (dict, list)
    if isinstance(left, plain) or isinstance(right, plain):
        return bool(left == right)
    return text(left) == text(right)


def _several(name: str, given: Any) -> list[Any]:
    if not isinstance(given, list) or not 2 <= len(given) <= 10:
        raise malformed(
            f"every {name} object requires a list of at least 2 and at most 10 boolean parameters."
        )
    return given


def _and(given: Any, scope: Scope) -> bool:
    return all(holds(item, scope) for item in _several("Fn::And", given))


def _or(given: Any, scope: Scope) -> bool:
    return any(holds(item, scope) for item in _several("Fn::Or", given))


def _not(given: Any, scope: Scope) -> bool:
    if not isinstance(given, list) or len(given) != 1:
        raise malformed("Fn::Not requires a list argument with one boolean parameter.")
    return not holds(given[0], scope)


def _base64(given: Any, scope: Scope) -> Any:
    value = resolve(given, scope)
    if value is UNKNOWN:
        return UNKNOWN
    if isinstance(value, (dict, list)):
        raise faulty("every Fn::Base64 object must have a String-typed value.")
    return base64.b64encode(text(value).encode()).decode()


def _cidr(given: Any, scope: Scope) -> Any:
    values = resolve(given, scope)
    if unknown(values):
        return UNKNOWN
    if not isinstance(values, list) or len(values) not in (2, 3):
        raise faulty("every Fn::Cidr object requires two or three parameters: ipBlock, count and cidrBits")
    try:
        network = ipaddress.ip_network(text(values[0]), strict=False)
        count = int(text(values[1]))
        bits = int(text(values[2])) if len(values) == 3 else 8
    except ValueError as error:
        raise faulty(f"Fn::Cidr: {error}") from None
    prefix = network.max_prefixlen - bits
    if not 1 <= count <= 256 or not network.prefixlen <= prefix <= network.max_prefixlen:
        raise faulty(f"Fn::Cidr: {count} blocks with {bits} bits cannot be cut from {network}")
    if count > 2 ** (prefix - network.prefixlen):
        raise faulty(f"Fn::Cidr: {network} has no room for {count} blocks with {bits} bits")
    blocks = network.subnets(new_prefix=prefix)
    return [str(next(blocks)) for _ in range(count)]


def _get_azs(given: Any, scope: Scope) -> Any:
    region = resolve(given, scope)
    if region is UNKNOWN:
        return UNKNOWN
    if not isinstance(region, str):
        raise faulty("every Fn::GetAZs object requires a region name or an empty string")
    return list(scope.zones(region or text(scope.ref("AWS::Region"))))


def _import_value(given: Any, scope: Scope) -> Any:
    name = resolve(given, scope)
    return UNKNOWN if name is UNKNOWN else scope.exported(text(name))


def _length(given: Any, scope: Scope) -> Any:
    value = resolve(given, scope)
    if value is UNKNOWN:
        return UNKNOWN
    if not isinstance(value, list):
        raise faulty("Fn::Length requires a list")
    return len(value)


def _to_json_string(given: Any, scope: Scope) -> Any:
    value = resolve(given, scope)
    if unknown(value):
        return UNKNOWN
    if not isinstance(value, (dict, list)):
        raise faulty("Fn::ToJsonString requires an object or an array")
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _transform(_given: Any, _scope: Scope) -> Any:
    raise invalid("Fn::Transform: the macro was not carried out.")


def _condition(given: Any, scope: Scope) -> bool:
    if not isinstance(given, str):
        raise malformed("every Condition object must have a single String value.")
    return scope.condition(given)


_FUNCTIONS: dict[str, Callable[[Any, Scope], Any]] = {
    "Ref": _ref,
    "Condition": _condition,
    "Fn::And": _and,
    "Fn::Base64": _base64,
    "Fn::Cidr": _cidr,
    "Fn::Equals": _equals,
    "Fn::FindInMap": _find_in_map,
    "Fn::GetAZs": _get_azs,
    "Fn::GetAtt": _get_att,
    "Fn::If": _if,
    "Fn::ImportValue": _import_value,
    "Fn::Join": _join,
    "Fn::Length": _length,
    "Fn::Not": _not,
    "Fn::Or": _or,
    "Fn::Select": _select,
    "Fn::Split": _split,
    "Fn::Sub": _sub,
    "Fn::ToJsonString": _to_json_string,
    "Fn::Transform": _transform,
}
