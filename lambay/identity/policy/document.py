"""Policy documents, parsed and checked once.

IAM User Guide, "IAM JSON policy elements reference" and "Grammar of the IAM JSON policy language".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from lambay.identity.policy.conditions import Condition, parse_conditions
from lambay.identity.policy.errors import MalformedPolicy
from lambay.identity.policy.named import PrincipalElement, parse_principal
from lambay.identity.policy.patterns import Context, Matcher, Reach, parse, parse_resource

VERSIONS = ("2008-10-17", "2012-10-17")

_ACTIONS_REMEMBERED = 1024
_POLICY_ELEMENTS = ("Version", "Id", "Statement")
_STATEMENT_ELEMENTS = (
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; `number` counts from 1.

    `actions` and `resources` are as written. Without Resource, a resource-based policy's statement is about
    the resource that it is attached to.
    """

    number: int
    sid: str
    effect: Literal["Allow", "Deny"]
    principal: PrincipalElement | None
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...]
    action_matcher: Matcher
    action_listed: bool
    resource_matcher: Matcher
    resource_listed: bool

    def covers(self, action: str) -> bool:
        return self.action_matcher.matches(action, {}) is self.action_listed

    def applies(self, resource: str | None, context: Context) -> bool:
        """Whether resource and conditions match, whatever the action and whoever the principal is.

        None is a resource of which nobody knows which it is: what allows some resource may allow it, and only
        what denies all denies it.
        """
        if resource is None:
            if self.effect == "Deny" and not (self.resource_listed and self.resource_matcher.everything):
                return False
        # With a variable that has no value the matcher answers None: neither Resource nor NotResource.
        elif self.resource_matcher.matches(resource, context) is not self.resource_listed:
            return False
        # A plain loop: this is the innermost of every request.
        for condition in self.conditions:  # noqa: SIM110
            if not condition.met(context):
                return False
        return True

    def __str__(self) -> str:
        return f"statement {self.sid!r}" if self.sid else f"statement {self.number}"


class Covering(NamedTuple):
    """A policy's statements about one action."""

    allows: tuple[Statement, ...]
    denies: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy; `name` says which one to people: its ARN, or an inline policy's name."""

    name: str
    version: str
    statements: tuple[Statement, ...]
    _by_action: dict[str, Covering] = field(default_factory=dict, compare=False, repr=False)

    def covering(self, action: str) -> Covering:
        """The statements about `action`. They are remembered: actions are few and asked for often."""
        found = self._by_action.get(action)
        if found is None:
            covering = [each for each in self.statements if each.covers(action)]
            found = Covering(
                allows=tuple(each for each in covering if each.effect == "Allow"),
                denies=tuple(each for each in covering if each.effect == "Deny"),
            )
            if len(self._by_action) >= _ACTIONS_REMEMBERED:
                self._by_action.clear()
            self._by_action[action] = found
        return found

    @classmethod
    def parse(
        cls,
        document: str | Mapping[str, Any],
        *,
        name: str = "",
        attached_to: Literal["identity", "resource"] = "identity",
    ) -> Policy:
        """The policy of `document`, JSON text or what was read from it.

        A policy attached to an identity (also boundaries and session policies) names resources and no
        principals; one attached to a resource (also role trust policies) names principals, and resources if
        it likes. Raises MalformedPolicy naming the element.
        """
        read = _object(document)
        for element in read:
            if element not in _POLICY_ELEMENTS:
                raise MalformedPolicy(f"{element!r} is not one of {', '.join(_POLICY_ELEMENTS)}.")
        version = read.get("Version", VERSIONS[0])
        if version not in VERSIONS:
            raise MalformedPolicy(f"Version: {version!r} is not {' or '.join(VERSIONS)}.")
        if "Statement" not in read:
            raise MalformedPolicy("Statement is required.")
        given = read["Statement"]
        listed = given if isinstance(given, list) else [given]
        statements = tuple(
            _statement(number, each, version != VERSIONS[0], attached_to)
            for number, each in enumerate(listed, start=1)
        )
        return cls(name, version, statements)


def _object(document: str | Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(document, str):
        return document
    try:
        # Numbers stay as they are written: 1.10 is not 1.1 for StringEquals.
        read = json.loads(document, object_pairs_hook=_once, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise MalformedPolicy(f"The policy is not valid JSON: {error}") from None
    if not isinstance(read, dict):
        raise MalformedPolicy("The policy must be a JSON object.")
    return read


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice in one object")
    return found


def _statement(
    number: int, given: Any, variables: bool, attached_to: Literal["identity", "resource"]
) -> Statement:
    at = f"Statement {number}"
    if not isinstance(given, dict):
        raise MalformedPolicy(f"{at} must be a JSON object.")
    for element in given:
        if element not in _STATEMENT_ELEMENTS:
            raise MalformedPolicy(f"{at}: {element!r} is not one of {', '.join(_STATEMENT_ELEMENTS)}.")
    sid = given.get("Sid", "")
    if not isinstance(sid, str):
        raise MalformedPolicy(f"{at}.Sid must be a string.")
    effect = given.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise MalformedPolicy(f"{at}.Effect must be Allow or Deny, not {effect!r}.")
    actions, action_listed = _listed(given, "Action", at)
    for action in actions:
        if action != "*" and ":" not in action:
            raise MalformedPolicy(f"{at}.Action: {action!r} must be * or SERVICE:ACTION.")
    if attached_to == "resource" and "Resource" not in given and "NotResource" not in given:
        given = {**given, "Resource": "*"}
    resources, resource_listed = _listed(given, "Resource", at)
    return Statement(
        number=number,
        sid=sid,
        effect=effect,
        principal=_principal(given, at, attached_to),
        actions=actions,
        resources=resources,
        conditions=parse_conditions(given.get("Condition", {}), f"{at}.Condition", variables=variables),
        action_matcher=Matcher.of(
            (parse(action, wildcards=True, variables=False) for action in actions), fold=True
        ),
        action_listed=action_listed,
        resource_matcher=Matcher.of(
            (parse_resource(resource, variables=variables) for resource in resources), Reach.RESOURCE
        ),
        resource_listed=resource_listed,
    )


def _principal(
    given: Mapping[str, Any], at: str, attached_to: Literal["identity", "resource"]
) -> PrincipalElement | None:
    named = "Principal" in given
    excluding = "NotPrincipal" in given
    if attached_to == "identity":
        if named or excluding:
            raise MalformedPolicy(f"{at}: a policy of an identity names no Principal.")
        return None
    if named == excluding:
        raise MalformedPolicy(f"{at} needs exactly one of Principal and NotPrincipal.")
    if named:
        return parse_principal(given["Principal"], f"{at}.Principal", "Principal")
    return parse_principal(given["NotPrincipal"], f"{at}.NotPrincipal", "NotPrincipal")


def _listed(given: Mapping[str, Any], element: str, at: str) -> tuple[tuple[str, ...], bool]:
    """The texts of `element` or of its Not-counterpart, and whether it is the former."""
    if (element in given) == (f"Not{element}" in given):
        raise MalformedPolicy(f"{at} needs exactly one of {element} and Not{element}.")
    positive = element in given
    name = element if positive else f"Not{element}"
    value = given[name]
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise MalformedPolicy(f"{at}.{name} must be a string or a list of strings.")
    return tuple(texts), positive
