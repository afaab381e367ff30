"""The account's limits and use, a function's recursion and runtime updates."""

from __future__ import annotations

from typing import Any

import msgspec

from lambay.aws import Call
from lambay.functions.code import UNZIPPED_LIMIT, ZIPPED_LIMIT
from lambay.functions.errors import invalid
from lambay.functions.names import FunctionName, parse, unqualified
from lambay.functions.packages import STORAGE_LIMIT, stored_bytes
from lambay.functions.records import LATEST, RuntimeManagement
from lambay.functions.room import Operations
from lambay.functions.runtimes import runtime_version_arn


class SettingsOperations(Operations):
    """GetAccountSettings and the small settings of functions."""

    async def get_account_settings(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        return {
            "AccountLimit": {
                "TotalCodeSize": STORAGE_LIMIT,
                "CodeSizeUnzipped": UNZIPPED_LIMIT,
                "CodeSizeZipped": ZIPPED_LIMIT,
                "ConcurrentExecutions": self._room.admission.account_limit,
                "UnreservedConcurrentExecutions": self._room.admission.unreserved(
                    f"{call.account}/{call.region}"
                ),
            },
            "AccountUsage": {
                "TotalCodeSize": stored_bytes(self._resources, call.account, call.region),
                "FunctionCount": len(self._resources.of_account(call.account, call.region)),
            },
        }

    async def put_function_recursion_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = unqualified(input["FunctionName"], call)
        async with self._resources.exclusive(name.key):
            function = msgspec.structs.replace(
                self._resources.function(name), recursive_loop=input["RecursiveLoop"]
            )
            await self._resources.commit(self._resources.functions.put(function.key, function))
        return {"RecursiveLoop": function.recursive_loop}

    async def get_function_recursion_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        return {
            "RecursiveLoop": self._resources.function(unqualified(input["FunctionName"], call)).recursive_loop
        }

    async def put_runtime_management_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """A function can be pinned to the host's own build of its runtime and to no other."""
        name = parse(input["FunctionName"], call, input.get("Qualifier"))
        version = self._resources.version(name)
        update_on, wanted = input["UpdateRuntimeOn"], input.get("RuntimeVersionArn") or ""
        if not version.configuration.runtime:
            raise invalid("Runtime management is not supported for functions with package type Image.")
        here = runtime_version_arn(name.region, version.configuration.runtime)
        if (update_on == "Manual") != bool(wanted):
            raise invalid("RuntimeVersionArn: give it with UpdateRuntimeOn Manual and only then.")
        if wanted and wanted != here:
            raise invalid(
                f"RuntimeVersionArn: {wanted} is not a runtime version of this host, which has {here}."
            )
        config = RuntimeManagement(update_on=update_on, runtime_version_arn=wanted)
        await self._resources.commit(self._resources.runtime_managements.put(_key(name), config))
        return self._runtime_management(name, config)

    async def get_runtime_management_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call, input.get("Qualifier"))
        self._resources.version(name)
        config = self._resources.runtime_managements.get(_key(name)) or RuntimeManagement(update_on="Auto")
        return self._runtime_management(name, config)

    def _runtime_management(self, name: FunctionName, config: RuntimeManagement) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "UpdateRuntimeOn": config.update_on,
            "FunctionArn": name.qualified(name.qualifier or LATEST),
        }
        if config.runtime_version_arn:
            shown["RuntimeVersionArn"] = config.runtime_version_arn
        return shown


def _key(name: FunctionName) -> str:
    return f"{name.key}/{name.qualifier or LATEST}"
