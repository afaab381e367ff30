"""The account's limits and use, a function's recursion and runtime updates."""

from __future__ import annotations

from typing import Any

import msgspec

from lambay.aws import Call
from lambay.functions.code import UNZIPPED_LIMIT, ZIPPED_LIMIT
from lambay.functions.errors import invalid
from lambay.functions.names import FunctionName, parse, unqualified
from lambay.functions.packages import STORAGE_LIMIT, stored_bytes
from lambay.functions.records import RuntimeManagement
from lambay.functions.room import Operations
from lambay.runtime import runtime_version_arn


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
        if update_on == "Manual" and not wanted:
            raise invalid("RuntimeVersionArn: UpdateRuntimeOn Manual needs the runtime version to stay with.")
        if update_on != "Manual" and wanted:
            raise invalid(
                f"RuntimeVersionArn: a runtime version goes with UpdateRuntimeOn Manual, not {update_on}."
            )
        if wanted and wanted != here:
            raise invalid(
                f"RuntimeVersionArn: {wanted} is not a runtime version of this host, which has {here}."
            )
        config = RuntimeManagement(update_on=update_on, runtime_version_arn=wanted)
        await self._resources.commit(self._resources.runtime_managements.put(version.key, config))
        return _runtime_management(name, config)

    async def get_runtime_management_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call, input.get("Qualifier"))
        version = self._resources.version(name)
        config = self._resources.runtime_managements.get(version.key) or RuntimeManagement(update_on="Auto")
        return _runtime_management(name, config)


def _runtime_management(name: FunctionName, config: RuntimeManagement) -> dict[str, Any]:
    shown: dict[str, Any] = {"UpdateRuntimeOn": config.update_on, "FunctionArn": name.given_arn}
    if config.runtime_version_arn:
        shown["RuntimeVersionArn"] = config.runtime_version_arn
    return shown
