"""Deployment packages on disk: what is refused, what is kept, what is made again."""

from __future__ import annotations

import asyncio
import io
import stat
import threading
import zipfile
from pathlib import Path

import pytest

from lambay.aws import AWSError
from lambay.functions.code import CodeStore, code_sha256
from lambay.functions.records import Code

from .conftest import zipped

BAD = "Could not unzip uploaded file. Please check your file, then try to upload again."


def package(*members: tuple[str, bytes, int]) -> bytes:
    """A zip of (name, content, mode)."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content, mode in members:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            written.writestr(member, content)
    return archive.getvalue()


def link(name: str, target: str) -> tuple[str, bytes, int]:
    return (name, target.encode(), stat.S_IFLNK | 0o777)


async def add(store: CodeStore, archive: bytes) -> Code:
    async with store.adding(archive, direct=True) as code:
        return code


async def test_a_package_is_unpacked_readable_for_everybody(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    code = await add(store, package(("bin/run", b"#!", 0o100700), ("private.py", b"x = 1", 0o100600)))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.path(code).rglob("*")}
    assert modes == {"bin": 0o755, "run": 0o755, "private.py": 0o644}
    assert code.unzipped_size == 7


async def test_the_digest_is_that_of_the_zip(tmp_path: Path) -> None:
    import base64
    import hashlib

    archive = zipped()
    code = await add(CodeStore(tmp_path), archive)
    assert base64.b64decode(code_sha256(code)) == hashlib.sha256(archive).digest()


@pytest.mark.parametrize(
    "members",
    [
        [("../outside", b"", 0o644)],
        [("/etc/passwd", b"", 0o644)],
        [("a/../../outside", b"", 0o644)],
        [link("dir", "/tmp"), ("dir/file", b"", 0o644)],
        [("dir/file", b"", 0o644), link("dir", "/tmp")],
        [link("a", "/tmp"), link("a/b", "x")],
        [("file", b"", 0o644), ("file/below", b"", 0o644)],
        [("x" * 300, b"", 0o644)],
    ],
)
async def test_nothing_is_written_outside(tmp_path: Path, members: list[tuple[str, bytes, int]]) -> None:
    store = CodeStore(tmp_path / "code")
    with pytest.raises(AWSError, match=BAD):
        await add(store, package(*members))
    assert [path.name for path in tmp_path.rglob("*")] == ["code", ".boot"]


async def test_links_within_a_package_are_kept(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    code = await add(store, package(("lib.so.1", b"lib", 0o644), link("lib.so", "lib.so.1")))
    assert (store.path(code) / "lib.so").read_bytes() == b"lib"


@pytest.mark.parametrize("archive", [b"", package()])
async def test_empty_packages_are_refused(tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(AWSError, match="Uploaded file must be a non-empty zip"):
        await add(CodeStore(tmp_path), archive)


async def test_damaged_and_truncated_packages_are_refused(tmp_path: Path) -> None:
    archive = bytearray(zipped({"a.py": "x = 1\n" * 1000}))
    archive[45] ^= 0xFF
    for damaged in (bytes(archive), zipped()[:-10]):
        with pytest.raises(AWSError, match=BAD):
            await add(CodeStore(tmp_path), damaged)


async def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written, written.open("zeros", "w") as file:
        for _ in range(250):
            file.write(bytes(1 << 20))
    with pytest.raises(AWSError, match="Unzipped size must be smaller than 262144000 bytes"):
        await add(CodeStore(tmp_path), archive.getvalue())
    assert [path.name for path in tmp_path.iterdir()] == [".boot"]


async def test_an_oversized_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AWSError, match="Zipped size must be smaller than 52428800 bytes"):
        await add(CodeStore(tmp_path), bytes(52428801))


async def test_what_an_interrupted_write_or_another_boot_left_is_made_again(tmp_path: Path) -> None:
    code = await add(CodeStore(tmp_path), zipped())
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".boot").write_text("another boot")
    (tmp_path / code.digest / "index.py").write_text("")
    store = CodeStore(tmp_path)
    assert (await store.ensure(code) / "index.py").read_text().startswith("def handler")
    assert not (tmp_path / ".partial").exists()


async def test_functions_that_are_made_at_once_after_a_start_do_not_take_each_others_for_leftovers(
    tmp_path: Path,
) -> None:
    packages = [zipped({"app.py": f"number = {number}"}) for number in range(8)]
    for start in range(20):
        store = CodeStore(tmp_path / str(start))
        codes = await asyncio.gather(*(add(store, archive) for archive in packages))
        assert all((store.path(code) / "app.py").exists() for code in codes)


async def test_collect_keeps_what_is_in_use_or_being_added(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    kept = await add(store, zipped({"a": "1"}))
    await add(store, zipped({"a": "2"}))
    async with store.adding(zipped({"a": "3"}), direct=True) as added:
        assert await store.collect(lambda: {kept.digest}) == 1
        assert store.path(added).is_dir()
        assert store.path(kept).is_dir()


async def test_collect_sees_what_is_added_while_it_looks(tmp_path: Path) -> None:
    looking, added = threading.Event(), threading.Event()

    class Slow(CodeStore):
        def _digests(self) -> set[str]:
            looking.set()
            assert added.wait(10)
            return super()._digests()

    store = Slow(tmp_path)
    in_use: set[str] = set()
    collecting = asyncio.create_task(store.collect(lambda: in_use))
    await asyncio.to_thread(looking.wait)
    code = await add(store, zipped())
    added.set()
    in_use.add(code.digest)
    assert await collecting == 0
    assert store.path(code).is_dir()


async def test_a_missing_package_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await CodeStore(tmp_path).ensure(Code(digest="0" * 64, size=1, unzipped_size=1))
