"""Reserved concurrency."""

from __future__ import annotations

from typing import Any

import msgspec

from lambay.aws import Call
from lambay.functions.errors import function_not_found, invalid
from lambay.functions.names import FunctionName, unqualified
from lambay.functions.records import LATEST, Function
from lambay.functions.room import Operations


class ConcurrencyOperations(Operations):
    """See "Configuring reserved concurrency for a function" in the Developer Guide."""

    async def put_function_concurrency(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = unqualified(input["FunctionName"], call)
        wanted = input["ReservedConcurrentExecutions"]
        async with self._resources.exclusive(name.key):
            function = self._function(name)
            provisioned = sum(config.wanted for config in self._resources.provisioned.under(f"{name.key}/"))
            if wanted < provisioned:
                raise invalid(
                    f" ReservedConcurrentExecutions  {wanted} should not be lower than function's total "
                    f"provisioned concurrency [{provisioned}]."
                )
            left = self._room.admission.unreserved(f"{name.account}/{name.region}")
            taken = (
                function.reserved_concurrency if function.reserved_concurrency is not None else provisioned
            )
            minimum = self._room.admission.unreserved_minimum
            if left + taken - wanted < minimum:
                raise invalid(
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    f"UnreservedConcurrentExecution below its minimum value of [{minimum}]."
                )
            await self._reserve(function, wanted)
        return {"ReservedConcurrentExecutions": wanted}

    async def get_function_concurrency(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        function = self._function(unqualified(input["FunctionName"], call))
        if function.reserved_concurrency is None:
            return {}
        return {"ReservedConcurrentExecutions": function.reserved_concurrency}

    async def delete_function_concurrency(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = unqualified(input["FunctionName"], call)
        async with self._resources.exclusive(name.key):
            await self._reserve(self._function(name), None)
        return {}

    async def _reserve(self, function: Function, wanted: int | None) -> None:
        changed = msgspec.structs.replace(function, reserved_concurrency=wanted)
        await self._resources.commit(self._resources.functions.put(changed.key, changed))

    def _function(self, name: FunctionName) -> Function:
        """Raises ResourceNotFoundException, which here names `$LATEST`."""
        found = self._resources.functions.get(name.key)
        if found is None:
            raise function_not_found(name.qualified(LATEST))
        return found
