"""Aliases, each for one version or, by weight, for two."""

from __future__ import annotations

from typing import Any

import msgspec

from lambay.aws import Call
from lambay.functions.errors import conflict, function_not_found, invalid, missing, stale_revision, validation
from lambay.functions.names import FunctionName, is_version, parse
from lambay.functions.pagination import page, paged
from lambay.functions.records import LATEST, Alias, revision
from lambay.functions.rendering import alias_configuration
from lambay.functions.room import Operations


class AliasOperations(Operations):
    """See "Create an alias for a Lambda function" in the Developer Guide."""

    async def create_alias(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        if is_version(input["Name"]):
            raise validation(
                input["Name"],
                "name",
                "Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)",
            )
        version = input["FunctionVersion"]
        self._check_version(name, version)
        weights = self._weights(name, version, input.get("RoutingConfig"))
        async with self._resources.exclusive(name.key):
            self._check_version(name, version)
            if self._resources.alias(name, input["Name"]) is not None:
                raise conflict(f"Alias already exists: {name.qualified(input['Name'])}")
            alias = Alias(
                account=name.account,
                region=name.region,
                function=name.name,
                name=input["Name"],
                version=version,
                description=input.get("Description", ""),
                weights=weights,
                revision_id=revision(),
            )
            await self._resources.commit(self._resources.aliases.put(alias.key, alias))
        return alias_configuration(alias)

    async def get_alias(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        alias = self._resources.alias(name, input["Name"])
        if alias is None:
            raise missing(f"Cannot find alias arn: {name.qualified(input['Name'])}")
        return alias_configuration(alias)

    async def update_alias(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        async with self._resources.exclusive(name.key):
            alias = self._resources.alias(name, input["Name"])
            if alias is None:
                raise missing(f"Alias not found: {name.qualified(input['Name'])}")
            if input.get("RevisionId") not in (None, alias.revision_id):
                raise stale_revision()
            version = input.get("FunctionVersion") or alias.version
            self._check_version(name, version)
            weights = alias.weights
            if input.get("RoutingConfig") is not None:
                weights = self._weights(name, version, input["RoutingConfig"])
            elif weights:
                self._weights(name, version, {"AdditionalVersionWeights": weights})
            changed = msgspec.structs.replace(
                alias,
                version=version,
                weights=weights,
                description=input.get("Description", alias.description),
                revision_id=revision(),
            )
            await self._resources.commit(self._resources.aliases.put(changed.key, changed))
        return alias_configuration(changed)

    async def delete_alias(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Deleting an alias that isn't there succeeds, as in Lambda."""
        name = parse(input["FunctionName"], call)
        async with self._resources.exclusive(name.key):
            alias = self._resources.alias(name, input["Name"])
            if alias is None:
                return {}
            changes = [self._resources.aliases.remove(alias.key)]
            resources = self._resources
            for collection in (
                resources.policies,
                resources.event_invokes,
                resources.provisioned,
                resources.urls,
            ):
                if alias.key in collection:
                    changes.append(collection.remove(alias.key))
            await self._resources.commit(*changes)
        return {}

    async def list_aliases(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        self._resources.latest(name)
        found = self._resources.aliases.under(f"{name.key}/")
        if version := input.get("FunctionVersion"):
            found = [alias for alias in found if alias.version == version or version in alias.weights]
        taken, marker = page(found, input, key=lambda alias: alias.name)
        return paged("Aliases", [alias_configuration(alias) for alias in taken], marker)

    def _check_version(self, name: FunctionName, version: str) -> None:
        if f"{name.key}/{version}" not in self._resources.versions:
            raise function_not_found(name.qualified(version))

    def _weights(self, name: FunctionName, version: str, routing: dict[str, Any] | None) -> dict[str, float]:
        """The second version's share. Raises InvalidParameterValueException or ResourceNotFoundException."""
        weights: dict[str, float] = dict((routing or {}).get("AdditionalVersionWeights") or {})
        if len(weights) > 1:
            raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
        for other, weight in weights.items():
            if other == version:
                raise invalid(
                    f"Invalid function version {other}. Function version {other} is already included in "
                    "routing "
                    "configuration."
                )
            if version == LATEST:
                raise invalid("$LATEST is not supported for an alias pointing to more than 1 version")
            if not 0.0 <= weight <= 1.0:
                raise validation(
                    f"{{{other}={weight}}}",
                    "routingConfig.additionalVersionWeights",
                    "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, "
                    "Member must have value greater than or equal to 0.0, Member must not be null]",
                )
            self._check_version(name, other)
        return weights
