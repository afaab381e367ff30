"""Provisioned concurrency: its operations. What keeps environments initialised is in `provisioning`."""

from __future__ import annotations

from typing import Any

from lambay.aws import AWSError, Call, Principal
from lambay.functions.errors import conflict, function_not_found, invalid, missing
from lambay.functions.names import FunctionName, is_version, parse
from lambay.functions.pagination import page, paged
from lambay.functions.provisioning import Provisioning
from lambay.functions.records import LATEST, Provisioned
from lambay.functions.rendering import timestamp
from lambay.functions.room import Operations


class ProvisionedOperations(Operations):
    """See "Configuring provisioned concurrency for a function" in the Developer Guide."""

    _provisioning: Provisioning

    async def put_provisioned_concurrency_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call, input["Qualifier"])
        if name.qualifier == LATEST:
            raise invalid(
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
            )
        self._check_provisionable(name)
        wanted = input["ProvisionedConcurrentExecutions"]
        async with self._resources.exclusive(name.key):
            self._check_provisionable(name)
            self._check_overlap(name)
            self._check_room(name, wanted)
            config = Provisioned(
                account=name.account,
                region=name.region,
                function=name.name,
                qualifier=str(name.qualifier),
                wanted=wanted,
                last_modified=self._room.clock.now(),
            )
            await self._resources.commit(self._resources.provisioned.put(config.key, config))
        return self._provisioned_status(config)

    async def get_provisioned_concurrency_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call, input["Qualifier"])
        if name.qualifier == LATEST:
            raise invalid("The function resource provided must be an alias or a published version.")
        self._check_provisionable(name)
        config = self._resources.provisioned.get(f"{name.key}/{name.qualifier}")
        if config is None:
            raise AWSError(
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
                Type="User",
            )
        return self._provisioned_status(config)

    async def delete_provisioned_concurrency_config(
        self, call: Call, input: dict[str, Any]
    ) -> dict[str, Any]:
        name = parse(input["FunctionName"], call, input["Qualifier"])
        if name.qualifier == LATEST:
            raise invalid("The function resource provided must be an alias or a published version.")
        self._check_provisionable(name)
        key = f"{name.key}/{name.qualifier}"
        if key in self._resources.provisioned:
            await self._resources.commit(self._resources.provisioned.remove(key))
        return {}

    async def list_provisioned_concurrency_configs(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        if name.key not in self._resources.functions:
            raise function_not_found(name.arn)
        configs = self._resources.provisioned.under(f"{name.key}/")
        taken, marker = page(configs, input, key=lambda config: config.qualifier)
        shown = [
            {"FunctionArn": name.qualified(config.qualifier), **self._provisioned_status(config)}
            for config in taken
        ]
        return paged("ProvisionedConcurrencyConfigs", shown, marker)

    async def provision(self, account: str, region: str, function: str, qualifier: str, wanted: int) -> None:
        """Set the provisioned concurrency on behalf of Application Auto Scaling. Raises AWSError."""
        scaler = Principal("service", account, "lambda.application-autoscaling.amazonaws.com", "")
        call = Call("", account, region, scaler, "lambda", "PutProvisionedConcurrencyConfig")
        wish = {
            "FunctionName": function,
            "Qualifier": qualifier,
            "ProvisionedConcurrentExecutions": wanted,
        }
        await self.put_provisioned_concurrency_config(call, wish)

    def _check_provisionable(self, name: FunctionName) -> None:
        """Raises ResourceNotFoundException for an unknown version or alias."""
        key = f"{name.key}/{name.qualifier}"
        if is_version(str(name.qualifier)):
            if key not in self._resources.versions:
                raise function_not_found(name.given_arn)
        elif key not in self._resources.aliases:
            raise missing(f"Cannot find alias arn: {name.given_arn}")

    def _check_overlap(self, name: FunctionName) -> None:
        """A version is provisioned once, by its number or an alias. Raises ResourceConflictException."""
        alias = self._resources.alias(name, str(name.qualifier))
        provisioned = {config.qualifier for config in self._resources.provisioned.under(f"{name.key}/")}
        provisioned.discard(str(name.qualifier))
        pointed = {
            number: other.name
            for other in self._resources.aliases.under(f"{name.key}/")
            if other.name in provisioned
            for number in (other.version, *other.weights)
        }
        versions = [str(name.qualifier)] if alias is None else [alias.version, *alias.weights]
        if alias is None and versions[0] in pointed:
            raise conflict("Version is pointed by a Provisioned Concurrency alias")
        if alias is not None and any(number in provisioned or number in pointed for number in versions):
            raise conflict(
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned "
                "version"
            )

    def _check_room(self, name: FunctionName, wanted: int) -> None:
        """Raises InvalidParameterValueException where function or account has not so much concurrency."""
        function = self._resources.function(name)
        others = sum(
            config.wanted
            for config in self._resources.provisioned.under(f"{name.key}/")
            if config.qualifier != name.qualifier
        )
        if function.reserved_concurrency is not None:
            if others + wanted > function.reserved_concurrency:
                raise invalid(
                    "Requested Provisioned Concurrency should not be greater than the "
                    "reservedConcurrentExecution for function"
                )
            return
        most, minimum = self._room.admission.account_limit, self._room.admission.unreserved_minimum
        if wanted > most:
            raise invalid(
                "Specified ConcurrentExecutions for function is greater than account's unreserved "
                f"concurrency [{most}]."
            )
        current = self._resources.provisioned.get(f"{name.key}/{name.qualifier}")
        left = self._room.admission.unreserved(f"{name.account}/{name.region}")
        if left + (current.wanted if current else 0) - wanted < minimum:
            raise invalid(
                "Specified ConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{minimum}]."
            )

    def _provisioned_status(self, config: Provisioned) -> dict[str, Any]:
        pools = self._provisioning.pools(config)
        statuses = {pool.status for pool in pools}
        status = "FAILED" if "FAILED" in statuses else "READY" if statuses == {"READY"} else "IN_PROGRESS"
        shown: dict[str, Any] = {
            "RequestedProvisionedConcurrentExecutions": config.wanted,
            "AllocatedProvisionedConcurrentExecutions": sum(pool.ready for pool in pools),
            "AvailableProvisionedConcurrentExecutions": sum(max(pool.ready - pool.busy, 0) for pool in pools),
            "Status": status,
            "LastModified": timestamp(config.last_modified),
        }
        if status == "FAILED":
            shown["StatusReason"] = next(pool.failure for pool in pools if pool.failure)
        return shown
