"""Every service of moto that is installed here can be written down and read back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from lambay.neighbours import snapshot

from .clients import ACCOUNT, REGION, connect, opened


async def test_the_state_of_every_service_pickles(tmp_path: Path) -> None:
    def work(_: Any) -> tuple[list[str], list[str]]:
        from moto.backend_index import backend_url_patterns
        from moto.backends import get_backend

        kept, failed = [], []
        for module in sorted({module for module, _ in backend_url_patterns} - {"moto_api._internal"}):
            try:
                registry = get_backend(module)
            except ModuleNotFoundError:
                continue
            account = registry[ACCOUNT]
            account[next(region for region in (REGION, "aws", "us-east-1") if region in account)]
            try:
                file = io.BytesIO()
                snapshot._Pickler(file).dump(snapshot._state_of(registry))
                snapshot._Unpickler(io.BytesIO(file.getvalue())).load()
                kept.append(module)
            except Exception as error:
                failed.append(f"{module}: {error}")
        return kept, failed

    async with opened(tmp_path) as neighbours:
        kept, failed = await neighbours.run(work)
    assert failed == []
    assert len(kept) > 150


async def test_what_cannot_be_written_leaves_the_journal_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(_: Any) -> None:
        from moto.ssm.models import ssm_backends

        ssm_backends[ACCOUNT][REGION].generator = (n for n in ())

    async with opened(tmp_path) as neighbours:
        vpc = await connect(neighbours, "ec2").create_vpc(CidrBlock="10.0.0.0/16")
        await neighbours.run(spoil)
        await neighbours.snapshot()
        assert "ssm: cannot pickle 'generator' object" in caplog.text
        assert neighbours.status().snapshot == 0
    async with opened(tmp_path) as neighbours:
        await connect(neighbours, "ec2").describe_vpcs(VpcIds=[vpc["Vpc"]["VpcId"]])


async def test_objects_that_services_share_stay_shared(tmp_path: Path) -> None:
    def one_backend(_: Any) -> bool:
        from moto.autoscaling.models import autoscaling_backends
        from moto.ec2.models import ec2_backends

        return autoscaling_backends[ACCOUNT][REGION].ec2_backend is ec2_backends[ACCOUNT][REGION]

    async with opened(tmp_path) as neighbours:
        assert await neighbours.run(one_backend)
        await neighbours.snapshot()
    async with opened(tmp_path) as neighbours:
        assert await neighbours.run(one_backend)
