"""AppSpec files of Lambda deployments, in JSON or YAML, given in the request or in a bucket.

See "AppSpec File example for an AWS Lambda deployment" in the CodeDeploy User Guide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import yaml

from lambay.aws import AWSError
from lambay.deployments.records import AFTER, BEFORE, AppSpec

_HOOKS = (BEFORE, AFTER)


def content(location: Mapping[str, Any]) -> str | None:
    """A RevisionLocation's own text, or None where it is in a bucket.

    Raises InvalidRevisionException and RevisionRequiredException.
    """
    kind = location.get("revisionType")
    member = {"String": "string", "AppSpecContent": "appSpecContent", "S3": "s3Location"}.get(str(kind))
    if member is None:
        raise invalid(f"revisionType: {kind} is not String, AppSpecContent or S3, which functions have.")
    given = location.get(member)
    if not given:
        raise invalid(f"{member}: it is needed where revisionType is {kind}.")
    if kind == "S3":
        if given.get("bundleType") not in ("YAML", "JSON"):
            raise invalid(f"s3Location: bundleType {given.get('bundleType')} is not YAML or JSON.")
        if not given.get("bucket") or not given.get("key"):
            raise invalid("s3Location: bucket and key are needed.")
        return None
    text = str(given.get("content") or "")
    digest = given.get("sha256")
    if digest and digest.lower() != hashlib.sha256(text.encode()).hexdigest():
        raise invalid("sha256: it is not the digest of the content.")
    return text


def parse(text: str) -> AppSpec:
    """Raises InvalidRevisionException that names what is missing."""
    try:
        whole = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise invalid(f"The AppSpec file is neither JSON nor YAML: {error}") from None
    if not isinstance(whole, dict) or str(whole.get("version")) not in ("0.0", "0"):
        raise invalid("The AppSpec file's version is not 0.0.")
    resources = whole.get("Resources") or whole.get("resources")
    if not isinstance(resources, list) or len(resources) != 1 or not isinstance(resources[0], dict):
        raise invalid("The AppSpec file's Resources is not a list of one function.")
    ((name, resource),) = resources[0].items() if len(resources[0]) == 1 else ((None, None),)
    if not isinstance(resource, dict) or _member(resource, "Type") != "AWS::Lambda::Function":
        raise invalid("The AppSpec file's resource has not the Type AWS::Lambda::Function.")
    properties = _member(resource, "Properties")
    if not isinstance(properties, dict):
        raise invalid(f"The AppSpec file's resource {name} has no Properties.")
    found = {
        field: str(_member(properties, field) or "")
        for field in ("Name", "Alias", "CurrentVersion", "TargetVersion")
    }
    lacking = [field for field, value in found.items() if not value]
    if lacking:
        raise invalid(f"The AppSpec file's resource {name} has no {', '.join(lacking)}.")
    return AppSpec(
        function=found["Name"],
        alias=found["Alias"],
        current=found["CurrentVersion"],
        target=found["TargetVersion"],
        hooks=_hooks(whole.get("Hooks") or whole.get("hooks") or []),
    )


def rendered(spec: AppSpec) -> dict[str, Any]:
    """The AppSpec as the content of a revision."""
    properties = {
        "Name": spec.function,
        "Alias": spec.alias,
        "CurrentVersion": spec.current,
        "TargetVersion": spec.target,
    }
    resource = {"Type": "AWS::Lambda::Function", "Properties": properties}
    whole: dict[str, Any] = {"version": 0.0, "Resources": [{spec.function.rsplit(":", 1)[-1]: resource}]}
    if spec.hooks:
        whole["Hooks"] = [{event: function} for event, function in spec.hooks.items()]
    return whole


def _member(given: Mapping[str, Any], name: str) -> Any:
    """Members may begin with a small letter, as those of JSON files often do."""
    return given.get(name, given.get(name[0].lower() + name[1:]))


def _hooks(given: Any) -> dict[str, str]:
    hooks: dict[str, str] = {}
    for entry in given if isinstance(given, list) else [None]:
        if not isinstance(entry, dict):
            raise invalid("The AppSpec file's Hooks is not a list of lifecycle events.")
        for event, function in entry.items():
            if event not in _HOOKS:
                raise invalid(f"The AppSpec file's hook {event} is not {' or '.join(_HOOKS)}.")
            hooks[event] = str(function)
    return hooks


def invalid(message: str) -> AWSError:
    return AWSError("InvalidRevisionException", message)
