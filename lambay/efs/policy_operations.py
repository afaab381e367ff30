"""A file system's policy, life cycle configuration and backup policy; the account's preferences."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from lambay.aws import AWSError, Call
from lambay.efs.errors import bad_request
from lambay.efs.lifecycle_rules import check_transitions
from lambay.efs.policies import check_policy, locks_out
from lambay.efs.records import AccountPreferences, owned_by
from lambay.efs.resources import Resources

_PREFERENCES = "preferences"


class PolicyOperations(Resources):
    async def put_file_system_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        file_system = self._available_file_system(call, input["FileSystemId"])
        policy = check_policy(input["Policy"], file_system.arn)
        bypass = input.get("BypassPolicyLockoutSafetyCheck", False)
        if not bypass and locks_out(policy, call.principal, file_system.arn):
            raise AWSError(
                "InvalidPolicyException",
                "The policy would prevent you from making future PutFileSystemPolicy requests on the file "
                "system; BypassPolicyLockoutSafetyCheck allows it.",
            )
        await self._save(replace(file_system, policy=input["Policy"]))
        return {"FileSystemId": file_system.id, "Policy": input["Policy"]}

    async def describe_file_system_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        file_system = self._file_system(call, input["FileSystemId"])
        if file_system.policy is None:
            raise AWSError("PolicyNotFound", f"File system '{file_system.id}' has no policy.")
        return {"FileSystemId": file_system.id, "Policy": file_system.policy}

    async def delete_file_system_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        file_system = self._available_file_system(call, input["FileSystemId"])
        await self._save(replace(file_system, policy=None))
        return {}

    async def put_lifecycle_configuration(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        file_system = self._available_file_system(call, input["FileSystemId"])
        transitions = check_transitions(
            input["LifecyclePolicies"], file_system.throughput_mode, file_system.performance_mode
        )
        await self._save(replace(file_system, lifecycle=transitions))
        return _lifecycle(transitions)

    async def describe_lifecycle_configuration(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        return _lifecycle(self._file_system(call, input["FileSystemId"]).lifecycle)

    async def put_backup_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        file_system = self._available_file_system(call, input["FileSystemId"])
        wanted = input["BackupPolicy"]["Status"]
        if wanted not in ("ENABLED", "DISABLED"):
            raise bad_request(f"BackupPolicy.Status: give ENABLED or DISABLED, not {wanted}.")
        await self._save(replace(file_system, backup=wanted == "ENABLED"))
        return {"BackupPolicy": {"Status": "ENABLING" if wanted == "ENABLED" else "DISABLING"}}

    async def describe_backup_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        file_system = self._file_system(call, input["FileSystemId"])
        if file_system.backup is None:
            raise AWSError("PolicyNotFound", f"File system '{file_system.id}' has no backup policy.")
        return {"BackupPolicy": {"Status": "ENABLED" if file_system.backup else "DISABLED"}}

    async def put_account_preferences(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        wanted = input["ResourceIdType"]
        if wanted != "LONG_ID":
            raise bad_request(f"ResourceIdType: {wanted} is not available any more; give LONG_ID.")
        preferences = AccountPreferences(wanted)
        await self._commit(self._preferences.put(owned_by(call, _PREFERENCES), preferences))
        return _preference(preferences)

    async def describe_account_preferences(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stored = self._preferences.get(owned_by(call, _PREFERENCES))
        return _preference(stored or AccountPreferences("LONG_ID"))


def _preference(preferences: AccountPreferences) -> dict[str, Any]:
    return {
        "ResourceIdPreference": {
            "ResourceIdType": preferences.resource_id_type,
            "Resources": ["FILE_SYSTEM", "MOUNT_TARGET"],
        }
    }


def _lifecycle(transitions: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    return {"LifecyclePolicies": [{transition: after} for transition, after in transitions]}
