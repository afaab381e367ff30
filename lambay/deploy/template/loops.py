"""Fn::ForEach of the language extensions: unrolled before anything else is looked at.

See the CloudFormation User Guide, "Fn::ForEach".
"""

from __future__ import annotations

import re
from typing import Any

from lambay.deploy.template.errors import faulty
from lambay.deploy.template.functions import Scope, resolve, text

_PREFIX = "Fn::ForEach::"
_NOT_ALNUM = re.compile(r"[^A-Za-z0-9]")


def unroll(value: Any, scope: Scope) -> Any:
    """`value` with every loop in it written out; collections are resolved in `scope`."""
    if isinstance(value, list):
        return [unroll(item, scope) for item in value]
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] = {}
    for key, item in value.items():
        if key.startswith(_PREFIX):
            for name, content in _loop(key, item, scope).items():
                if name in made:
                    raise faulty(f"{key} makes the key {name} a second time")
                made[name] = content
        else:
            made[key] = unroll(item, scope)
    return made


def _loop(key: str, given: Any, scope: Scope) -> dict[str, Any]:
    if not isinstance(given, list) or len(given) != 3 or not isinstance(given[2], dict):
        raise faulty(f"{key}: Fn::ForEach needs an identifier, a collection and an output map")
    identifier, collection, output = given
    if not isinstance(identifier, str):
        raise faulty(f"{key}: the identifier must be text")
    values = resolve(collection, scope)
    if isinstance(values, list):
        flat: list[str] = []
        for item in values:
            flat.extend(map(text, item)) if isinstance(item, list) else flat.append(text(item))
        values = flat
    if not isinstance(values, list):
        raise faulty(f"{key}: the collection must be a list that is known before anything is made")
    made: dict[str, Any] = {}
    for value in values:
        # Loops within may run over what this one stands for.
        for name, content in unroll(_put(output, identifier, value), scope).items():
            if name in made:
                raise faulty(f"{key} makes the key {name} a second time")
            made[name] = content
    return made


def _put(template: Any, identifier: str, value: str) -> Any:
    """`template` with `${identifier}`, `&{identifier}` and `{"Ref": identifier}` replaced."""
    if isinstance(template, str):
        made = template.replace("${" + identifier + "}", value)
        return made.replace("&{" + identifier + "}", _NOT_ALNUM.sub("", value))
    if isinstance(template, list):
        return [_put(item, identifier, value) for item in template]
    if isinstance(template, dict):
        if template == {"Ref": identifier}:
            return value
        return {_put(key, identifier, value): _put(item, identifier, value) for key, item in template.items()}
    return template
