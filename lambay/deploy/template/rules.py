"""Rules: assertions over parameters, checked before a stack is touched.

See the CloudFormation User Guide, "CloudFormation template Rules syntax".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lambay.deploy.template.errors import invalid, malformed
from lambay.deploy.template.functions import Scope, holds, resolve, text


def check(section: Any, scope: Scope, attribute: Callable[[str, str], list[str]]) -> None:
    """Raises AWSError ValidationError with the description of the first assertion that does not hold.

    `attribute(parameter, name)` gives `Fn::ValueOf`: an attribute of the things that a parameter names; and, with a
    parameter type and no name, `Fn::RefAll`: all values of that type that there are.
    """
    if not isinstance(section, dict):
        raise malformed("Rules must be an object.")
    for name, rule in section.items():
        if not isinstance(rule, dict) or not isinstance(rule.get("Assertions"), list):
            raise malformed(f"[/Rules/{name}] Every Rules object must contain an Assertions member.")
        if "RuleCondition" in rule and not _true(rule["RuleCondition"], scope, attribute):
            continue
        for assertion in rule["Assertions"]:
            if not _true(assertion.get("Assert"), scope, attribute):
                said = assertion.get("AssertDescription", "an assertion does not hold")
                raise invalid(f"Template error: Rule {name} failed: {said}")


def _true(value: Any, scope: Scope, attribute: Callable[[str, str], list[str]]) -> bool:
    if isinstance(value, dict) and len(value) == 1:
        ((function, given),) = value.items()
        if function == "Fn::Contains":
            return _value(given[1], scope, attribute)[0] in _value(given[0], scope, attribute)
        if function == "Fn::EachMemberIn":
            return set(_value(given[0], scope, attribute)) <= set(_value(given[1], scope, attribute))
        if function == "Fn::EachMemberEquals":
            return set(_value(given[0], scope, attribute)) <= set(_value(given[1], scope, attribute)[:1])
        if function == "Fn::And":
            return all(_true(item, scope, attribute) for item in given)
        if function == "Fn::Or":
            return any(_true(item, scope, attribute) for item in given)
        if function == "Fn::Not":
            return not _true(given[0], scope, attribute)
        if function == "Fn::Equals":
            return _value(given[0], scope, attribute) == _value(given[1], scope, attribute)
    return holds(value, scope)


def _value(value: Any, scope: Scope, attribute: Callable[[str, str], list[str]]) -> list[str]:
    if isinstance(value, dict) and len(value) == 1:
        ((function, given),) = value.items()
        if function in ("Fn::ValueOf", "Fn::ValueOfAll"):
            return attribute(text(given[0]), text(given[1]))
        if function == "Fn::RefAll":
            return attribute(text(given), "")
    found = resolve(value, scope)
    return [text(item) for item in found] if isinstance(found, list) else [text(found)]
