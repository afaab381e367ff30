"""moto's KMS made to take ARNs wherever AWS does, and to refuse what a key's state forbids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lambay.neighbours.adapt import adapter

_BY_ID = (
    "disable_key",
    "enable_key",
    "schedule_key_deletion",
    "cancel_key_deletion",
    "update_key_description",
    "put_key_policy",
)
# AWS KMS Developer Guide, "Key states of AWS KMS keys".
_USES = ("encrypt", "generate_data_key", "sign", "verify")


@adapter("moto.kms.models")
def _arns(module: Any) -> None:
    for name in _BY_ID:
        if hasattr(module.KmsBackend, name):
            setattr(module.KmsBackend, name, _by_id(getattr(module.KmsBackend, name)))


def _by_id(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, key_id: str, *args: Any, **given: Any) -> Any:
        return method(self, self.get_key_id(key_id), *args, **given)

    return call


@adapter("moto.kms.models")
def _states(module: Any) -> None:
    decrypt = module.KmsBackend.decrypt

    def decrypt_if_usable(self: Any, *args: Any, **given: Any) -> Any:
        plaintext, arn = decrypt(self, *args, **given)
        _check(self.keys[self.get_key_id(arn)])
        return plaintext, arn

    module.KmsBackend.decrypt = decrypt_if_usable
    for name in _USES:
        if hasattr(module.KmsBackend, name):
            setattr(module.KmsBackend, name, _if_usable(getattr(module.KmsBackend, name)))


def _if_usable(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, key_id: str, *args: Any, **given: Any) -> Any:
        key = self.keys.get(self.any_id_to_key_id(key_id))
        if key is not None:
            _check(key)
        return method(self, key_id, *args, **given)

    return call


def _check(key: Any) -> None:
    """Raises moto's error for a key that is disabled or about to be deleted."""
    from moto.core.exceptions import JsonRESTError

    if key.key_state == "Disabled":
        raise JsonRESTError("DisabledException", f"{key.arn} is disabled.")
    if key.key_state != "Enabled":
        state = {"PendingDeletion": "pending deletion", "PendingImport": "pending import"}.get(
            key.key_state, key.key_state
        )
        raise JsonRESTError("KMSInvalidStateException", f"{key.arn} is {state}.")
