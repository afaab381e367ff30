"""KMS keys as EFS and Lambda use them: whether one can be used now, and why not."""

from __future__ import annotations

from lambay.aws import Arn, AWSError, Neighbours
from lambay.identity.service_access import ServiceAccess

ENABLED = "Enabled"
MISSING = "missing"


class Keys:
    """Remembers states until KMS changes: they are asked for at every mount of an encrypted file system."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self._known: dict[str, str] = {}
        self._generation = 0

    def changed(self, account: str, region: str) -> None:
        """Keys, their states or grants have changed."""
        self._known.clear()
        self._generation += 1

    async def state(self, key: str) -> str:
        """KMS's word for the state of the key of this ARN (`Enabled`, `Disabled`, …), or `missing`."""
        known = self._known.get(key)
        if known is not None:
            return known
        generation = self._generation
        named = Arn.parse(key)
        try:
            answer = await self._neighbours.call(
                "kms", "DescribeKey", {"KeyId": key}, account=named.account, region=named.region
            )
        except AWSError as error:
            if error.code != "NotFoundException":
                raise
            state = MISSING
        else:
            state = str(answer["KeyMetadata"]["KeyState"])
        if generation == self._generation:
            self._known[key] = state
        return state

    async def granted(self, key: str, principal_arn: str, operation: str) -> bool:
        """Whether a grant lets the principal do `operation` (`Decrypt`) with the key, whatever policies say."""
        named = Arn.parse(key)
        answer = await self._neighbours.call(
            "kms", "ListGrants", {"KeyId": key}, account=named.account, region=named.region
        )
        return any(
            grant["GranteePrincipal"] == principal_arn and operation in grant["Operations"]
            for grant in answer["Grants"]
        )


class EnvironmentKeys:
    """The keys of functions' environment variables, which Lambda decrypts as the function's role.

    Developer Guide, "Securing Lambda environment variables"; the errors are those of Invoke.
    """

    def __init__(self, keys: Keys, access: ServiceAccess) -> None:
        self._keys = keys
        self._access = access

    async def check(self, key: str, role_arn: str, *, region: str) -> None:
        """Raises AWSError unless the role can decrypt with the key now."""
        state = await self._keys.state(key)
        if state == MISSING:
            raise _undecrypted("KMSNotFoundException", "the KMS key was not found", key)
        if state == "Disabled":
            raise _undecrypted("KMSDisabledException", "the KMS key used is disabled", key)
        if state != ENABLED:
            raise _undecrypted(
                "KMSInvalidStateException", "the KMS key used is in an invalid state for Decrypt", key
            )
        if await self._keys.granted(key, role_arn, "Decrypt"):
            return
        lacking = await self._access.lacking(role_arn, "kms:Decrypt", key, region=region)
        if lacking:
            raise _undecrypted(
                "KMSAccessDeniedException",
                "KMS access was denied",
                key,
                f" KMS Exception: AccessDeniedException KMS Message: {lacking}",
            )


def _undecrypted(code: str, why: str, key: str, more: str = "") -> AWSError:
    return AWSError(
        code,
        f"Lambda was unable to decrypt the environment variables because {why}. Please check the function's KMS "
        f"key settings.{more} ({key})",
        Type="Server",
    )
