"""Making, reading, changing and deleting functions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec

from lambay.aws import Call
from lambay.functions import images
from lambay.functions.code_signing import check_signature
from lambay.functions.configuration import configured
from lambay.functions.errors import conflict, denied, invalid, missing, stale_revision
from lambay.functions.layers import shared_with
from lambay.functions.lifecycle import CREATING, CREATING_CODE, check_not_updating
from lambay.functions.names import FunctionName, is_version, parse
from lambay.functions.packages import package, stored_bytes
from lambay.functions.pagination import page, paged
from lambay.functions.publishing import published
from lambay.functions.records import (
    LATEST,
    Build,
    Code,
    Configuration,
    Function,
    LayerReference,
    Version,
    revision,
)
from lambay.functions.rendering import function_configuration, listed_configuration, version_arn
from lambay.functions.room import Operations
from lambay.functions.runtimes import check_architecture
from lambay.functions.tags import check_tags

_LAYERS_LIMIT = 262_144_000


class DefinitionOperations(Operations):
    """CreateFunction and the operations on the result."""

    _images: images.Images | None

    async def create_function(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        if name.qualifier is not None or "." in name.name:
            raise invalid(
                f"FunctionName: {input['FunctionName']} names a version or alias; give the function's name."
            )
        code_signing = input.get("CodeSigningConfigArn", "")
        check_signature(self._resources, code_signing)
        tags = check_tags({}, input.get("Tags") or {})
        configuration = configured(
            input, name=name.name, account=name.account, region=name.region, current=None
        )
        async with self._resources.exclusive(name.key):
            if name.key in self._resources.functions:
                raise conflict(f"Function already exist: {name.name}")
            configuration = await self._checked(configuration, input, name, None)
            async with self._package(input["Code"], call, configuration) as code:
                _check_unzipped(code, configuration)
                latest = Version(
                    account=name.account,
                    region=name.region,
                    name=name.name,
                    version=LATEST,
                    configuration=configuration,
                    code=code,
                    revision_id=revision(),
                    build=revision(),
                    last_modified=self._room.clock.now(),
                    state_reason=CREATING,
                    state_reason_code=CREATING_CODE,
                )
                function = Function(
                    account=name.account,
                    region=name.region,
                    name=name.name,
                    tags=tags,
                    code_signing=code_signing,
                )
                await self._resources.commit(
                    self._resources.functions.put(function.key, function),
                    self._resources.versions.put(latest.key, latest),
                )
                shown = await self._publish(latest) if input.get("Publish") else latest
        self._room.lifecycle.settle(name.key)
        # The ARN is the function's even where a version was published.
        return function_configuration(shown) | {"FunctionArn": version_arn(latest)}

    async def get_function(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call, input.get("Qualifier"))
        version = self._resources.version(name)
        function = self._resources.function(name)
        shown: dict[str, Any] = {
            "Configuration": function_configuration(version, name.qualifier),
            "Code": self._code_shown(version, call),
        }
        if function.tags:
            shown["Tags"] = dict(function.tags)
        if function.reserved_concurrency is not None:
            shown["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved_concurrency}
        return shown

    async def get_function_configuration(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call, input.get("Qualifier"))
        return function_configuration(self._resources.version(name), name.qualifier)

    async def list_functions(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """`MasterRegion` concerns Lambda@Edge replicas, of which there are none here."""
        every_version = input.get("FunctionVersion") == "ALL"
        if input.get("MasterRegion") not in (None, "ALL", call.region):
            return {"Functions": []}
        found: list[Version] = []
        for function in self._resources.of_account(call.account, call.region):
            versions = self._resources.versions_of(function.key)
            found.extend(versions if every_version else versions[:1])
        taken, marker = page(found, input, key=_listing_key)
        shown = [
            listed_configuration(version, version.version if every_version else None) for version in taken
        ]
        return paged("Functions", shown, marker)

    async def update_function_code(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        _refuse_qualifier(name)
        self._resources.latest(name)
        if input.get("PublishTo"):
            raise invalid(
                "PublishTo: Lambda Managed Instances are not available in Lambay. Remove PublishTo."
            )
        async with self._resources.exclusive(name.key):
            latest = self._changeable(name, input)
            check_signature(self._resources, self._resources.function(name).code_signing)
            configuration = latest.configuration
            if input.get("Architectures"):
                configuration = msgspec.structs.replace(configuration, architecture=input["Architectures"][0])
                check_architecture(configuration.architecture)
            async with self._package(input, call, configuration) as code:
                _check_unzipped(code, configuration)
                if input.get("DryRun"):
                    self._room.lifecycle.retire()
                    return function_configuration(
                        msgspec.structs.replace(latest, configuration=configuration, code=code)
                    )
                updated = self._updated(latest, configuration=configuration, code=code)
                await self._resources.commit(self._resources.versions.put(updated.key, updated))
                shown = await self._publish(updated, pending=True) if input.get("Publish") else updated
        self._room.lifecycle.settle(name.key)
        return function_configuration(shown)

    async def update_function_configuration(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        _refuse_qualifier(name)
        self._resources.latest(name)
        async with self._resources.exclusive(name.key):
            latest = self._changeable(name, input)
            changed = configured(
                input, name=name.name, account=name.account, region=name.region, current=latest.configuration
            )
            self._check_pinned(latest, changed.runtime)
            changed = await self._checked(changed, input, name, latest.configuration)
            _check_unzipped(latest.code, changed)
            updated = self._updated(latest, configuration=changed)
            await self._resources.commit(self._resources.versions.put(updated.key, updated))
        self._room.lifecycle.settle(name.key)
        return function_configuration(updated)

    def _check_pinned(self, latest: Version, runtime: str) -> None:
        """Raises InvalidParameterValueException for another runtime than the one whose version is kept."""
        managed = self._resources.runtime_managements.get(latest.key)
        if managed is not None and managed.update_on == "Manual" and runtime != latest.configuration.runtime:
            raise invalid(
                "Cannot change runtime identifier when runtime management configuration is set to 'Manual'. Change "
                "the runtime management configuration to 'Auto' or 'FunctionUpdate', then retry."
            )

    async def delete_function(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call, input.get("Qualifier"))
        if name.qualifier == LATEST:
            raise invalid("$LATEST version cannot be deleted without deleting the function.")
        if name.qualifier is not None and not is_version(name.qualifier):
            raise invalid("Deletion of aliases is not currently supported.")
        async with self._resources.exclusive(name.key):
            self._resources.function(FunctionName(name.account, name.region, name.name, None))
            if name.qualifier is None:
                await self._delete_all(name)
            else:
                await self._delete_version(name, name.qualifier)
        return {"StatusCode": 204}

    async def _delete_all(self, name: FunctionName) -> None:
        resources = self._resources
        versions = resources.versions_of(name.key)
        under = f"{name.key}/"
        changes = [resources.functions.remove(name.key)]
        changes += [resources.versions.remove(version.key) for version in versions]
        changes += [resources.aliases.remove(alias.key) for alias in resources.aliases.under(under)]
        for collection in (
            resources.policies,
            resources.event_invokes,
            resources.runtime_managements,
            resources.provisioned,
            resources.urls,
        ):
            changes += [collection.remove(key) for key, _ in collection.items() if key.startswith(under)]
        await resources.commit(*changes)
        await self._room.queue.forget(name.key)
        self._room.lifecycle.retire(*versions)

    async def _delete_version(self, name: FunctionName, number: str) -> None:
        """Deleting a version that isn't there succeeds, as in Lambda."""
        resources = self._resources
        version = resources.versions.get(f"{name.key}/{number}")
        if version is None:
            return
        pointing = [
            alias.name
            for alias in resources.aliases.under(f"{name.key}/")
            if number == alias.version or number in alias.weights
        ]
        if pointing:
            raise conflict(
                "Unable to delete version because the following aliases reference it: "
                f"[{', '.join(pointing)}]"
            )
        key = version.key
        changes = [resources.versions.remove(key)]
        for collection in (
            resources.policies,
            resources.event_invokes,
            resources.runtime_managements,
            resources.provisioned,
        ):
            if key in collection:
                changes.append(collection.remove(key))
        await resources.commit(*changes)
        self._room.lifecycle.retire(version)

    def _changeable(self, name: FunctionName, input: Mapping[str, Any]) -> Version:
        """`$LATEST` under the lock. Raises where it is gone, being changed, or not what the caller saw."""
        latest = self._resources.latest(name)
        check_not_updating(latest, name)
        if input.get("RevisionId") not in (None, latest.revision_id):
            raise stale_revision()
        return latest

    def _updated(self, latest: Version, **changes: Any) -> Version:
        previous = latest.previous or Build(
            id=latest.build, configuration=latest.configuration, code=latest.code
        )
        return msgspec.structs.replace(
            latest,
            **changes,
            previous=None if latest.state == "Failed" else previous,
            revision_id=revision(),
            build=revision(),
            last_modified=self._room.clock.now(),
            update_status="InProgress",
            update_reason=CREATING,
            update_reason_code=CREATING_CODE,
        )

    async def _publish(self, latest: Version, *, pending: bool = False) -> Version:
        """Publish within a creation or update: the version is Pending until that has ended."""
        function = self._resources.functions[latest.function_key]
        version, changes = published(self._resources, function, latest)
        if pending and changes:
            version = msgspec.structs.replace(
                version,
                state="Pending",
                state_reason=CREATING,
                state_reason_code=CREATING_CODE,
                update_status=None,
                update_reason="",
                update_reason_code="",
            )
            changes[0] = self._resources.versions.put(version.key, version)
        await self._resources.commit(*changes)
        return version

    async def _checked(
        self,
        configuration: Configuration,
        input: Mapping[str, Any],
        name: FunctionName,
        current: Configuration | None,
    ) -> Configuration:
        """The configuration with what other services and layers add to it, after their checks."""
        account, region = name.account, name.region
        requirements = self._room.requirements
        if configuration.runtime and (current is None or configuration.runtime != current.runtime):
            await self._room.runtimes.check(configuration.runtime)
        check_architecture(configuration.architecture)
        if current is None or configuration.role != current.role:
            await requirements.check_role(configuration.role, name.arn, region)
        if current is None or (configuration.kms_key_arn, configuration.role) != (
            current.kms_key_arn,
            current.role,
        ):
            await requirements.check_key(configuration.kms_key_arn, configuration.role, account, region)
        if input.get("Layers") is not None:
            layers = self._layers(input["Layers"], name)
            configuration = msgspec.structs.replace(configuration, layers=layers)
        if current is None or (configuration.vpc, configuration.file_systems) != (
            current.vpc,
            current.file_systems,
        ):
            configuration = await requirements.placed(configuration, account, region)
        if current is None or (configuration.role, configuration.vpc, configuration.dead_letter_arn) != (
            current.role,
            current.vpc,
            current.dead_letter_arn,
        ):
            await requirements.check_rights(configuration, region)
        return configuration

    def _layers(self, arns: list[str], name: FunctionName) -> tuple[LayerReference, ...]:
        """Raises InvalidParameterValueException or AccessDeniedException for layers that can't be used."""
        references: dict[str, LayerReference] = {}
        for arn in arns:
            parts = arn.split(":")
            if len(parts) != 8:
                raise invalid(f"Layer version {arn} does not exist.")
            layer_arn = ":".join(parts[:7])
            if parts[3] != name.region:
                raise invalid(
                    "Layers are not in the same region as the function. "
                    f"Layers are expected to be in region {name.region}."
                )
            if layer_arn in references:
                raise invalid(
                    "Two different versions of the same layer are not allowed to be referenced in the same "
                    "function. "
                    f"{references[layer_arn].arn} and {arn} are versions of the same layer."
                )
            version = self._resources.layer_versions.get(
                f"{parts[4]}/{parts[3]}/{parts[6]}/{int(parts[7]):010d}"
            )
            if version is None and parts[4] == name.account:
                raise invalid(f"Layer version {arn} does not exist.")
            if version is None or (parts[4] != name.account and not shared_with(version, name.account)):
                raise denied(
                    f"User: arn:aws:iam::{name.account}:root is not authorized to perform: "
                    "lambda:GetLayerVersion on "
                    f"resource: {arn} because no resource-based policy allows the lambda:GetLayerVersion "
                    "action"
                )
            references[layer_arn] = LayerReference(arn=arn, code=version.code)
        return tuple(references.values())

    def _code_shown(self, version: Version, call: Call) -> dict[str, Any]:
        code = version.code
        if code.image_uri:
            shown = {"ImageUri": code.image_uri, "ResolvedImageUri": code.resolved_uri}
            return {"RepositoryType": "S3" if code.image_uri.startswith("s3:") else "ECR", **shown}
        return {"RepositoryType": "S3", "Location": self._room.locations.of(code, call)}

    def _package(
        self, source: Mapping[str, Any], call: Call, configuration: Configuration
    ) -> AbstractAsyncContextManager[Code]:
        if configuration.package_type == "Image":
            if self._images is None:
                raise invalid("PackageType: this Lambay has no container images. Give Zip.")
            return _kept(images.image(source, call, self._images.registry))
        stored = stored_bytes(self._resources, call.account, call.region)
        return package(source, call, self._room.code, self._room.neighbours, stored=stored)


@asynccontextmanager
async def _kept(resolving: Awaitable[Code]) -> AsyncIterator[Code]:
    """The registry keeps for a while what it was asked for: until its function is written down, and longer."""
    yield await resolving


def _check_unzipped(code: Code, configuration: Configuration) -> None:
    total = code.unzipped_size + sum(layer.code.unzipped_size for layer in configuration.layers)
    if configuration.layers and total > _LAYERS_LIMIT:
        raise invalid(
            f"Function code combined with layers exceeds the maximum allowed size of {_LAYERS_LIMIT} bytes. "
            f"The actual size is {total} bytes."
        )


def _refuse_qualifier(name: FunctionName) -> None:
    if name.qualifier is not None and name.qualifier != LATEST:
        raise missing(f"Function not found: {name.given_arn}")


def _listing_key(version: Version) -> str:
    number = "" if version.version == LATEST else f"{int(version.version):010d}"
    return f"{version.name}\0{number}"
