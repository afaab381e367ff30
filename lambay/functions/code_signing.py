"""Code signing configurations, and what they mean where nobody signs.

Lambay has no AWS Signer, so that every package is an unsigned one: a configuration that enforces refuses every
deployment, one that warns lets it pass, as Lambda does with unsigned packages.
"""

from __future__ import annotations

import secrets
import string
from typing import Any

import msgspec

from lambay.aws import AWSError, Call, arn
from lambay.functions.errors import code_signing_not_found, conflict, function_not_found
from lambay.functions.names import FunctionName, parse
from lambay.functions.pagination import page, paged
from lambay.functions.records import CodeSigning, Function
from lambay.functions.rendering import timestamp
from lambay.functions.resources import Resources
from lambay.functions.room import Operations
from lambay.functions.tags import check_tags

_LETTERS = string.ascii_lowercase + string.digits


class CodeSigningOperations(Operations):
    """See "Using code signing to verify code integrity with Lambda" in the Developer Guide."""

    async def create_code_signing_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        number = "csc-" + "".join(secrets.choice(_LETTERS) for _ in range(17))
        config = CodeSigning(
            arn=arn("lambda", call.region, call.account, f"code-signing-config:{number}"),
            publishers=tuple(input["AllowedPublishers"]["SigningProfileVersionArns"]),
            on_untrusted=(input.get("CodeSigningPolicies") or {}).get(
                "UntrustedArtifactOnDeployment", "Warn"
            ),
            description=input.get("Description", ""),
            last_modified=self._room.clock.now(),
            tags=check_tags({}, input.get("Tags") or {}),
        )
        await self._resources.commit(self._resources.code_signings.put(config.arn, config))
        return {"CodeSigningConfig": _shown(config)}

    async def get_code_signing_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        return {"CodeSigningConfig": _shown(self._code_signing(call, input))}

    async def update_code_signing_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        config = self._code_signing(call, input)
        changes: dict[str, Any] = {}
        if input.get("Description") is not None:
            changes["description"] = input["Description"]
        if input.get("AllowedPublishers"):
            changes["publishers"] = tuple(input["AllowedPublishers"]["SigningProfileVersionArns"])
        if policy := (input.get("CodeSigningPolicies") or {}).get("UntrustedArtifactOnDeployment"):
            changes["on_untrusted"] = policy
        if changes:
            config = msgspec.structs.replace(config, **changes, last_modified=self._room.clock.now())
            await self._resources.commit(self._resources.code_signings.put(config.arn, config))
        return {"CodeSigningConfig": _shown(config)}

    async def delete_code_signing_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        config = self._code_signing(call, input)
        if self._signed_functions(config):
            raise conflict("Cannot delete a code signing configuration that is in use by a function.")
        await self._resources.commit(self._resources.code_signings.remove(config.arn))
        return {}

    async def list_code_signing_configs(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        place = arn("lambda", call.region, call.account, "code-signing-config:")
        taken, marker = page(self._resources.code_signings.under(place), input, key=lambda config: config.arn)
        return paged("CodeSigningConfigs", [_shown(config) for config in taken], marker)

    async def list_functions_by_code_signing_config(
        self, call: Call, input: dict[str, Any]
    ) -> dict[str, Any]:
        using = self._signed_functions(self._code_signing(call, input))
        taken, marker = page(using, input, key=lambda function: function.name)
        arns = [FunctionName(one.account, one.region, one.name, None).arn for one in taken]
        return paged("FunctionArns", arns, marker)

    async def put_function_code_signing_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        wanted = input["CodeSigningConfigArn"]
        if wanted not in self._resources.code_signings:
            raise code_signing_not_found(wanted)
        await self._put_code_signing(call, input, wanted)
        return {"CodeSigningConfigArn": wanted, "FunctionName": parse(input["FunctionName"], call).name}

    async def get_function_code_signing_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        function = self._signable(call, input)
        if not function.code_signing:
            return {}
        return {"CodeSigningConfigArn": function.code_signing, "FunctionName": function.name}

    async def delete_function_code_signing_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        await self._put_code_signing(call, input, "")
        return {}

    async def _put_code_signing(self, call: Call, input: dict[str, Any], wanted: str) -> None:
        key = self._signable(call, input).key
        async with self._resources.exclusive(key):
            changed = msgspec.structs.replace(self._signable(call, input), code_signing=wanted)
            await self._resources.commit(self._resources.functions.put(key, changed))

    def _signable(self, call: Call, input: dict[str, Any]) -> Function:
        name = parse(input["FunctionName"], call)
        found = self._resources.functions.get(name.key)
        if found is None:
            raise function_not_found(name.arn)
        return found

    def _signed_functions(self, config: CodeSigning) -> list[Function]:
        return [function for function in self._resources.functions if function.code_signing == config.arn]

    def _code_signing(self, call: Call, input: dict[str, Any]) -> CodeSigning:
        wanted = input["CodeSigningConfigArn"]
        found = self._resources.code_signings.get(wanted)
        if found is None or wanted.split(":")[3:5] != [call.region, call.account]:
            raise AWSError(
                "ResourceNotFoundException",
                f"The Lambda code signing configuration {wanted} can not be found.",
            )
        return found


def check_signature(resources: Resources, config_arn: str) -> None:
    """For a deployment under a configuration, empty for none.

    Raises CodeSigningConfigNotFoundException, or CodeVerificationFailedException where it enforces.
    """
    if not config_arn:
        return
    config = resources.code_signings.get(config_arn)
    if config is None:
        raise code_signing_not_found(config_arn)
    if config.on_untrusted == "Enforce":
        raise AWSError(
            "CodeVerificationFailedException",
            "Lambda cannot deploy the function. The function or layer might be signed using a signature that the "
            "client is not configured to accept. Check the provided signature for unsigned.",
            Type="User",
        )


def _shown(config: CodeSigning) -> dict[str, Any]:
    return {
        "CodeSigningConfigId": config.arn.rpartition(":")[2],
        "CodeSigningConfigArn": config.arn,
        "Description": config.description,
        "AllowedPublishers": {"SigningProfileVersionArns": list(config.publishers)},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": config.on_untrusted},
        "LastModified": timestamp(config.last_modified),
    }
