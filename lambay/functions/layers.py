"""Layers: versions of packages that functions share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from lambay.aws import Arn, Call, arn
from lambay.functions.code import code_sha256
from lambay.functions.errors import denied, invalid, missing
from lambay.functions.packages import package, stored_bytes
from lambay.functions.pagination import page, paged
from lambay.functions.policies import statement, statement_text, with_statement, without_statement
from lambay.functions.records import Layer, LayerVersion
from lambay.functions.rendering import policy_document, timestamp
from lambay.functions.room import Operations

_READER = "GetLayerPolicy"
_NAME = re.compile(r"[a-zA-Z0-9\-_]+")


@dataclass(frozen=True, slots=True)
class LayerName:
    account: str
    region: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.name}"

    @property
    def arn(self) -> str:
        return arn("lambda", self.region, self.account, f"layer:{self.name}")


class LayerOperations(Operations):
    """See "Managing Lambda dependencies with layers" in the Developer Guide."""

    async def publish_layer_version(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = _named(call, input["LayerName"])
        if name.account != call.account:
            raise denied(
                f"User: {call.principal.arn} is not authorized to perform: lambda:PublishLayerVersion"
            )
        resources = self._resources
        stored = stored_bytes(resources, call.account, call.region)
        packed = package(input["Content"], call, self._room.code, self._room.neighbours, stored=stored)
        async with packed as code, resources.exclusive(f"layer {name.key}"):
            layer = resources.layers.get(name.key) or Layer(name.account, name.region, name.name)
            version = LayerVersion(
                account=name.account,
                region=name.region,
                name=name.name,
                version=layer.next_version,
                code=code,
                created=self._room.clock.now(),
                description=input.get("Description", ""),
                license_info=input.get("LicenseInfo", ""),
                runtimes=_given(input, "CompatibleRuntimes"),
                architectures=_given(input, "CompatibleArchitectures"),
            )
            counted = msgspec.structs.replace(layer, next_version=layer.next_version + 1)
            await resources.commit(
                resources.layers.put(counted.key, counted), resources.layer_versions.put(version.key, version)
            )
        return self._whole(version, call)

    async def get_layer_version(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = _named(call, input["LayerName"])
        return self._whole(self._readable(call, name, _checked_number(input["VersionNumber"])), call)

    async def get_layer_version_by_arn(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        layer, _, number = input["Arn"].rpartition(":")
        if not number.isdecimal():
            raise missing("The resource you requested does not exist.")
        return self._whole(self._readable(call, _named(call, layer), int(number)), call)

    async def list_layers(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        newest: dict[str, LayerVersion] = {}
        for version in self._resources.layer_versions.under(f"{call.account}/{call.region}/"):
            if _compatible(version, input):
                newest[version.name] = version
        taken, marker = page(list(newest.values()), input, key=lambda version: version.name)
        shown = [
            {
                "LayerName": version.name,
                "LayerArn": _layer_arn(version),
                "LatestMatchingVersion": _listed(version),
            }
            for version in taken
        ]
        return paged("Layers", shown, marker)

    async def list_layer_versions(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Newest first."""
        name = _named(call, input["LayerName"])
        found = [
            version
            for version in self._resources.layer_versions.under(f"{name.key}/")
            if _compatible(version, input)
        ]
        taken, marker = page(found[::-1], input, key=lambda version: f"{10**10 - version.version:011d}")
        return paged("LayerVersions", [_listed(version) for version in taken], marker)

    async def delete_layer_version(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Functions that use the version keep it. Deleting one that isn't there succeeds, as in Lambda."""
        name = _named(call, input["LayerName"])
        key = _key(name, _checked_number(input["VersionNumber"]))
        if name.account == call.account and key in self._resources.layer_versions:
            await self._resources.commit(self._resources.layer_versions.remove(key))
            self._room.lifecycle.retire()
        return {}

    async def add_layer_version_permission(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = _named(call, input["LayerName"])
        async with self._resources.exclusive(f"layer {name.key}"):
            version = self._owned(call, name, input["VersionNumber"])
            added = statement(input, _version_arn(version))
            policy = with_statement(version.policy, added, input.get("RevisionId"), reader=_READER)
            changed = msgspec.structs.replace(version, policy=policy)
            await self._resources.commit(self._resources.layer_versions.put(changed.key, changed))
        return {"Statement": statement_text(added), "RevisionId": policy.revision_id}

    async def remove_layer_version_permission(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = _named(call, input["LayerName"])
        async with self._resources.exclusive(f"layer {name.key}"):
            version = self._owned(call, name, input["VersionNumber"])
            if version.policy is None:
                raise missing("No policy is associated with the given resource.")
            left = without_statement(
                version.policy, input["StatementId"], input.get("RevisionId"), reader=_READER
            )
            changed = msgspec.structs.replace(version, policy=left)
            await self._resources.commit(self._resources.layer_versions.put(changed.key, changed))
        return {}

    async def get_layer_version_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        version = self._owned(call, _named(call, input["LayerName"]), input["VersionNumber"])
        if version.policy is None:
            raise missing("No policy is associated with the given resource.")
        return {"Policy": policy_document(version.policy), "RevisionId": version.policy.revision_id}

    def _readable(self, call: Call, name: LayerName, number: int) -> LayerVersion:
        """Raises ResourceNotFoundException or, for another account's unshared one, AccessDeniedException."""
        version = self._resources.layer_versions.get(_key(name, number))
        if name.account != call.account and (version is None or not shared_with(version, call.account)):
            raise denied(
                f"User: {call.principal.arn} is not authorized to perform: lambda:GetLayerVersion on "
                "resource: "
                f"{name.arn}:{number} because no resource-based policy allows the lambda:GetLayerVersion "
                "action"
            )
        if version is None:
            raise missing("The resource you requested does not exist.")
        return version

    def _owned(self, call: Call, name: LayerName, number: int) -> LayerVersion:
        version = self._resources.layer_versions.get(_key(name, _checked_number(number)))
        if version is None or name.account != call.account:
            raise missing(f"Layer version {name.arn}:{number} does not exist.")
        return version

    def _whole(self, version: LayerVersion, call: Call) -> dict[str, Any]:
        return {
            **_listed(version),
            "LayerArn": _layer_arn(version),
            "Description": version.description,
            "Content": {
                "Location": self._room.locations.of(version.code, call),
                "CodeSha256": code_sha256(version.code),
                "CodeSize": version.code.size,
            },
        }


def shared_with(version: LayerVersion, account: str) -> bool:
    """Whether the version's own policy lets another account read it.

    A statement for an organization never matches: there are no organizations here.
    """
    for known in version.policy.statements if version.policy is not None else ():
        named = known["Principal"]
        if "Condition" not in known and (named == "*" or named == {"AWS": f"arn:aws:iam::{account}:root"}):
            return True
    return False


def _named(call: Call, text: str) -> LayerName:
    """A layer by name or by ARN. Raises InvalidParameterValueException and ResourceNotFoundException."""
    if not text.startswith("arn:"):
        if _NAME.fullmatch(text) is None:
            raise invalid(f"LayerName: {text!r} may have letters, digits, hyphens and underscores only.")
        return LayerName(call.account, call.region, text)
    parts = Arn.parse(text)
    kind, _, name = parts.resource.partition(":")
    if kind != "layer" or _NAME.fullmatch(name) is None:
        raise invalid(f"LayerName: {text} is not the ARN of a layer.")
    if parts.region != call.region:
        raise missing("The resource you requested does not exist.")
    return LayerName(parts.account, parts.region, name)


def _checked_number(number: int) -> int:
    if number < 1:
        raise invalid("Layer Version Cannot be less than 1")
    return number


def _key(name: LayerName, number: int) -> str:
    return f"{name.key}/{number:010d}"


def _given(input: dict[str, Any], member: str) -> tuple[str, ...] | None:
    return tuple(input[member]) if input.get(member) is not None else None


def _compatible(version: LayerVersion, input: dict[str, Any]) -> bool:
    runtime, architecture = input.get("CompatibleRuntime"), input.get("CompatibleArchitecture")
    return (not runtime or runtime in (version.runtimes or ())) and (
        not architecture or architecture in (version.architectures or ())
    )


def _layer_arn(version: LayerVersion) -> str:
    return LayerName(version.account, version.region, version.name).arn


def _version_arn(version: LayerVersion) -> str:
    return f"{_layer_arn(version)}:{version.version}"


def _listed(version: LayerVersion) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "LayerVersionArn": _version_arn(version),
        "Version": version.version,
        "CreatedDate": timestamp(version.created),
    }
    if version.description:
        shown["Description"] = version.description
    if version.license_info:
        shown["LicenseInfo"] = version.license_info
    if version.runtimes is not None:
        shown["CompatibleRuntimes"] = list(version.runtimes)
    if version.architectures is not None:
        shown["CompatibleArchitectures"] = list(version.architectures)
    return shown
