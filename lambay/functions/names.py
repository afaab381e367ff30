"""A function's name in all the forms that the API takes.

A name, a partial ARN (`123456789012:function:NAME`), a full ARN, each with or without `:QUALIFIER`.
See the Lambda API Reference, the FunctionName parameter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lambay.aws import Call, arn
from lambay.functions.errors import denied, invalid, missing, validation

_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
_NAME = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9\-_.]+)(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9\-_]+))?"
)
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class FunctionName:
    """Which function a call is about; `qualifier` is a version, an alias or None where the call gave none."""

    account: str
    region: str
    name: str
    qualifier: str | None

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.name}"

    @property
    def arn(self) -> str:
        """The function's ARN without a qualifier."""
        return arn("lambda", self.region, self.account, f"function:{self.name}")

    def qualified(self, qualifier: str) -> str:
        return f"{self.arn}:{qualifier}"

    @property
    def given_arn(self) -> str:
        """The ARN of what the call named: qualified where it gave a qualifier."""
        return self.arn if self.qualifier is None else self.qualified(self.qualifier)


def function_of(arn: str) -> FunctionName:
    """The function that a function's ARN names, qualified or not."""
    parts = arn.split(":")
    return FunctionName(parts[4], parts[3], parts[6], parts[7] if len(parts) > 7 else None)


def parse(text: str, call: Call, qualifier: str | None = None) -> FunctionName:
    """The function that `text` names for this caller, `qualifier` being the call's own parameter.

    Raises ValidationException for a malformed name, InvalidParameterValueException for a name over 64
    characters or two different qualifiers, ResourceNotFoundException for another Region and
    AccessDeniedException for another account.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise validation(text, "functionName", f"Member must satisfy regular expression pattern: {_PATTERN}")
    name = match["name"]
    if len(name) > _LONGEST_NAME:
        raise invalid(
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {_LONGEST_NAME}"
        )
    if match["region"] not in (None, call.region):
        raise missing(
            f"Functions from '{match['region']}' are not reachable in this region ('{call.region}')"
        )
    derived = match["qualifier"]
    if derived and qualifier and derived != qualifier:
        raise invalid("The derived qualifier from the function name does not match the specified qualifier.")
    parsed = FunctionName(match["account"] or call.account, call.region, name, derived or qualifier)
    if parsed.account != call.account:
        raise denied(
            f"User: {call.principal.arn} is not authorized to perform: lambda:{call.operation} on resource: "
            f"{parsed.given_arn} because no resource-based policy allows the lambda:{call.operation} action"
        )
    return parsed


def unqualified(text: str, call: Call) -> FunctionName:
    """`parse` for operations that act on the function itself.

    Raises InvalidParameterValueException where a version or alias is named.
    """
    parsed = parse(text, call)
    if parsed.qualifier is not None:
        raise invalid(
            "This operation is permitted on Lambda functions only. Aliases and versions do not support this "
            "operation. Please specify either a function name or an unqualified function ARN."
        )
    return parsed


def is_version(qualifier: str) -> bool:
    return qualifier.isdecimal()
