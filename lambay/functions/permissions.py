"""Resource policies of functions, versions and aliases."""

from __future__ import annotations

from typing import Any

from lambay.aws import Call
from lambay.functions.errors import invalid, missing, stale_revision
from lambay.functions.names import FunctionName, parse
from lambay.functions.policies import (
    parsed,
    statement,
    statement_text,
    with_statement,
    without_statement,
)
from lambay.functions.records import LATEST, Policy, revision
from lambay.functions.rendering import policy_document
from lambay.functions.room import Operations

_READER = "GetPolicy"


class PermissionOperations(Operations):
    """See "Working with resource-based IAM policies in Lambda" in the Developer Guide."""

    async def add_permission(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = self._named(call, input)
        if name.qualifier == LATEST:
            raise invalid("We currently do not support adding policies for $LATEST.")
        self._resources.check_qualifier(name)
        added = statement(input, name.given_arn)
        async with self._resources.exclusive(name.key):
            self._resources.check_qualifier(name)
            key = _key(name)
            policy = with_statement(
                self._resources.policies.get(key), added, input.get("RevisionId"), reader=_READER
            )
            await self._resources.commit(self._resources.policies.put(key, policy))
        return {"Statement": statement_text(added)}

    async def remove_permission(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = self._named(call, input)
        if name.key not in self._resources.functions:
            raise missing(f"No policy found for: {name.arn}")
        self._resources.check_qualifier(name)
        async with self._resources.exclusive(name.key):
            key = _key(name)
            policy = self._resources.policies.get(key)
            if policy is None:
                raise missing("No policy is associated with the given resource.")
            left = without_statement(policy, input["StatementId"], input.get("RevisionId"), reader=_READER)
            collection = self._resources.policies
            await self._resources.commit(collection.put(key, left) if left else collection.remove(key))
        return {}

    async def get_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        policy = self._resources.policies.get(_key(self._named(call, input)))
        if policy is None:
            raise missing("The resource you requested does not exist.")
        return {"Policy": policy_document(policy), "RevisionId": policy.revision_id}

    async def put_resource_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Replaces the whole policy, permissions that were added one by one included."""
        name = self._policy_holder(call, input)
        self._resources.check_qualifier(name)
        statements = parsed(input["Policy"], name.given_arn)
        async with self._resources.exclusive(name.key):
            self._resources.check_qualifier(name)
            self._check_policy_revision(name, input)
            policy = Policy(revision_id=revision(), statements=statements)
            await self._resources.commit(self._resources.policies.put(_key(name), policy))
        return {"Policy": policy_document(policy), "RevisionId": policy.revision_id}

    async def get_resource_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        policy = self._resources.policies.get(_key(self._policy_holder(call, input)))
        if policy is None:
            raise missing("The resource you requested does not exist.")
        return {"Policy": policy_document(policy), "RevisionId": policy.revision_id}

    async def delete_resource_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = self._policy_holder(call, input)
        async with self._resources.exclusive(name.key):
            if _key(name) not in self._resources.policies:
                raise missing("The resource you requested does not exist.")
            self._check_policy_revision(name, input)
            await self._resources.commit(self._resources.policies.remove(_key(name)))
        return {}

    def _policy_holder(self, call: Call, input: dict[str, Any]) -> FunctionName:
        if ":function:" not in input["ResourceArn"]:
            raise missing("The resource you requested does not exist.")
        name = parse(input["ResourceArn"], call)
        if name.qualifier == LATEST:
            raise invalid("We currently do not support adding policies for $LATEST.")
        return name

    def _check_policy_revision(self, name: FunctionName, input: dict[str, Any]) -> None:
        policy = self._resources.policies.get(_key(name))
        expected = input.get("RevisionId")
        if expected is not None and (policy is None or policy.revision_id != expected):
            raise stale_revision(_READER)

    def resource_policy(self, arn: str) -> str | None:
        """The policy, JSON text, of a function's, version's, alias's or layer version's ARN, for whoever
        evaluates access.
        """
        parts = arn.split(":")
        if len(parts) == 8 and parts[2] == "lambda" and parts[5] == "layer" and parts[7].isdecimal():
            key = f"{parts[4]}/{parts[3]}/{parts[6]}/{int(parts[7]):010d}"
            layer = self._resources.layer_versions.get(key)
            return policy_document(layer.policy) if layer is not None and layer.policy is not None else None
        if len(parts) not in (7, 8) or parts[2] != "lambda" or parts[5] != "function":
            return None
        policy = self._resources.policies.get(f"{parts[4]}/{parts[3]}/{parts[6]}/{':'.join(parts[7:])}")
        return policy_document(policy) if policy is not None else None

    def _named(self, call: Call, input: dict[str, Any]) -> FunctionName:
        return parse(input["FunctionName"], call, input.get("Qualifier"))


def _key(name: FunctionName) -> str:
    """Policies belong to what was named: the function's own has no qualifier."""
    return f"{name.key}/{name.qualifier or ''}"
