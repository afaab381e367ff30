"""KMS keys by every name, and what their states forbid."""

from __future__ import annotations

from pathlib import Path

import pytest

from .clients import connect, opened


@pytest.mark.parametrize("name", ["id", "ARN", "alias"])
async def test_a_key_is_used_by_any_of_its_names(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path) as neighbours:
        kms = connect(neighbours, "kms")
        made = (await kms.create_key())["KeyMetadata"]
        await kms.create_alias(AliasName="alias/a", TargetKeyId=made["KeyId"])
        key = {"id": made["KeyId"], "ARN": made["Arn"], "alias": "alias/a"}[name]
        sealed = (await kms.encrypt(KeyId=key, Plaintext=b"x"))["CiphertextBlob"]
        assert (await kms.decrypt(CiphertextBlob=sealed))["Plaintext"] == b"x"


async def test_a_key_that_is_disabled_or_doomed_is_not_used(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        kms = connect(neighbours, "kms")
        key = (await kms.create_key())["KeyMetadata"]["Arn"]
        sealed = (await kms.encrypt(KeyId=key, Plaintext=b"x"))["CiphertextBlob"]
        uses = (
            lambda: kms.encrypt(KeyId=key, Plaintext=b"x"),
            lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256"),
            lambda: kms.decrypt(CiphertextBlob=sealed),
        )
        await kms.disable_key(KeyId=key)
        for use in uses:
            with pytest.raises(kms.boto.exceptions.DisabledException, match=f"{key} is disabled"):
                await use()
        await kms.enable_key(KeyId=key)
        assert (await kms.decrypt(CiphertextBlob=sealed))["Plaintext"] == b"x"
        await kms.schedule_key_deletion(KeyId=key)
        for use in uses:
            with pytest.raises(kms.boto.exceptions.KMSInvalidStateException, match="is pending deletion"):
                await use()
        await kms.cancel_key_deletion(KeyId=key)
        await kms.enable_key(KeyId=key)
        assert (await kms.decrypt(CiphertextBlob=sealed))["Plaintext"] == b"x"
