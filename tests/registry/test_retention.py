"""What is pushed is kept as long as an image or a function needs it, and goes then."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest

from tests.functions.conftest import ACCOUNT
from tests.functions.server import TRUST, Server
from tests.registry.test_registry import HOST, client

ROLE = f"arn:aws:iam::{ACCOUNT}:role/function"


@pytest.fixture
async def server(tmp_path: Path):  # type: ignore[no-untyped-def]
    server = await started(tmp_path)
    yield server
    await server.stop()


async def started(data_dir: Path) -> Server:
    server = Server(data_dir)
    await server.start()
    if not (await server("iam", "list_roles"))["Roles"]:
        await server("iam", "create_role", RoleName="function", AssumeRolePolicyDocument=json.dumps(TRUST))
    return server


def kept(data_dir: Path) -> dict[str, set[str]]:
    """The names of blobs and of unpacked layers."""
    images = data_dir / "images"
    return {
        "blobs": {path.name for path in (images / "blobs/sha256").iterdir()},
        "layers": {path.name for path in (images / "layers").glob("*")},
    }


async def made_of(server: Server, uri: str) -> None:
    await server.create(
        "f", Role=ROLE, PackageType="Image", Code={"ImageUri": uri}, Runtime=None, Handler=None
    )


async def swept(server: Server) -> None:
    """An hour later."""
    await server.functions._room.lifecycle.idle()
    server.clock.advance(timedelta(hours=1, seconds=1))
    await server.registry.collect()


async def test_a_deleted_image_goes_and_what_it_shares_stays(server: Server, tmp_path: Path) -> None:
    docker = await client(server, "app")
    first = await docker.push("app", "v1", text=b"one")
    before = kept(tmp_path)["blobs"]
    second = await docker.push("app", "v2", text=b"two")

    await server("ecr", "batch_delete_image", repositoryName="app", imageIds=[{"imageDigest": second}])
    await swept(server)

    assert kept(tmp_path)["blobs"] == before
    assert first.removeprefix("sha256:") in before


async def test_an_image_stays_as_long_as_it_has_a_tag(server: Server, tmp_path: Path) -> None:
    docker = await client(server, "app")
    for tag in ("v1", "v2"):
        await docker.push("app", tag)
    before = kept(tmp_path)["blobs"]

    await server("ecr", "batch_delete_image", repositoryName="app", imageIds=[{"imageTag": "v1"}])
    await swept(server)

    assert kept(tmp_path)["blobs"] == before


async def test_a_function_keeps_its_image(server: Server, tmp_path: Path) -> None:
    docker = await client(server, "app")
    await docker.push("app", "v1")
    await made_of(server, f"{HOST}/app:v1")
    before = kept(tmp_path)
    assert before["layers"]

    await server("ecr", "delete_repository", repositoryName="app", force=True)
    await swept(server)
    assert kept(tmp_path) == before

    await server("lambda", "delete_function", FunctionName="f")
    await swept(server)
    assert kept(tmp_path) == {"blobs": set(), "layers": set()}
    assert list((tmp_path / "images/layouts").iterdir()) == []


async def test_a_function_keeps_its_image_over_a_restart(tmp_path: Path) -> None:
    server = await started(tmp_path)
    try:
        docker = await client(server, "app")
        await docker.push("app", "v1")
        await made_of(server, f"{HOST}/app:v1")
        before = kept(tmp_path)
    finally:
        await server.stop()
    # As if the machine had lost its power while an image was unpacked, and another removed.
    (tmp_path / "images/layers/.half").mkdir()
    server = await started(tmp_path)
    try:
        await server("ecr", "delete_repository", repositoryName="app", force=True)
        await swept(server)
        assert kept(tmp_path) == before
    finally:
        await server.stop()


async def test_the_former_image_goes_when_the_code_is_updated(server: Server, tmp_path: Path) -> None:
    docker = await client(server, "app")
    await docker.push("app", "v1", text=b"one")
    await made_of(server, f"{HOST}/app:v1")
    former = kept(tmp_path)["layers"]
    await docker.push("app", "v2", text=b"two")

    await server("lambda", "update_function_code", FunctionName="f", ImageUri=f"{HOST}/app:v2")
    lifecycle = server.functions._room.lifecycle
    await lifecycle.idle()
    both = kept(tmp_path)["layers"]
    draining = list(lifecycle._draining)
    server.clock.advance(timedelta(minutes=1))
    await asyncio.gather(*draining)
    await lifecycle.idle()

    assert kept(tmp_path)["layers"] == both - former
    assert len(both) == 2


async def test_a_part_that_is_pushed_waits_an_hour_for_its_manifest(server: Server, tmp_path: Path) -> None:
    docker = await client(server, "app")
    digest = await docker.push_blob("app", b"a part")
    await server.registry.collect()
    assert kept(tmp_path)["blobs"] == {digest.removeprefix("sha256:")}

    server.clock.advance(timedelta(minutes=59))
    # A client asks whether it has to push it, and will not.
    assert (await docker("HEAD", f"/v2/app/blobs/{digest}"))[0] == 200
    server.clock.advance(timedelta(minutes=59))
    await server.registry.collect()
    assert kept(tmp_path)["blobs"] == {digest.removeprefix("sha256:")}

    server.clock.advance(timedelta(minutes=2))
    await server.registry.collect()
    assert kept(tmp_path)["blobs"] == set()
    assert (await docker("HEAD", f"/v2/app/blobs/{digest}"))[0] == 404


async def test_what_is_deleted_goes_by_itself(server: Server, tmp_path: Path) -> None:
    docker = await client(server, "app")
    image = await docker.push("app", "v1")
    await server("ecr", "batch_delete_image", repositoryName="app", imageIds=[{"imageDigest": image}])

    async with asyncio.timeout(60):
        while kept(tmp_path)["blobs"]:
            server.clock.advance(timedelta(hours=1))
            await asyncio.sleep(0.01)
