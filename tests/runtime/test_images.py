"""Container images: unpacked as they are meant, refused where they are not, and run as functions."""

from __future__ import annotations

import gzip
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lambay.runtime import EnvironmentSpec, FileSystemMount, interpreters, packages
from lambay.runtime.images import Image, ImageUnusable, unpack
from lambay.runtime.languages import OWN_PYTHON

from .arrange import Bench
from .oci import hardlink, layer, layout, program, python_root, saved


def tree(directory: Path) -> dict[str, str]:
    """Every path below, and what it is."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        if stat.S_ISCHR(status.st_mode):
            kind = "whiteout"
        elif path.is_symlink():
            kind = f"-> {os.readlink(path)}"
        else:
            kind = "directory" if path.is_dir() else path.read_bytes().decode(errors="replace")
        found[str(path.relative_to(directory))] = kind
    return found


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_a_layout_is_unpacked_layer_by_layer(tmp_path: Path, compression: str) -> None:
    lower = layer(
        {"etc": None, "etc/a": b"a", "bin/sh": b"sh", "link": "bin/sh", "hard": hardlink("hard", "bin/sh")}
    )
    upper = layer({"./etc/.wh.a": b"", "./etc/b": b"b"})
    config = {"Entrypoint": ["/run"], "Cmd": ["x"], "WorkingDir": "/etc", "Env": ["A=1", "B=x=y"]}

    image = unpack(layout(tmp_path / "image", [lower, upper], compression, **config), tmp_path / "layers")

    assert tree(image.layers[0]) == {
        "bin": "directory",
        "bin/sh": "sh",
        "etc": "directory",
        "etc/a": "a",
        "hard": "sh",
        "link": "-> bin/sh",
    }
    assert tree(image.layers[1]) == {"etc": "directory", "etc/a": "whiteout", "etc/b": "b"}
    assert os.stat(image.layers[0] / "hard").st_nlink == 2
    assert (image.entry_point, image.command, image.working_directory) == (("/run",), ("x",), "/etc")
    assert image.environment == (("A", "1"), ("B", "x=y"))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_an_archive_of_docker_save_is_unpacked(tmp_path: Path, compress: Any) -> None:
    archive = saved(tmp_path / "image.tar", [layer({"a": b"a"}), layer({"b": b"b"})], Cmd=["c"])
    archive.write_bytes(compress(archive.read_bytes()))

    image = unpack(archive, tmp_path / "layers")

    assert [tree(each) for each in image.layers] == [{"a": "a"}, {"b": "b"}]
    assert image.command == ("c",)


def test_an_archived_layout_is_unpacked(tmp_path: Path) -> None:
    made = layout(tmp_path / "image", [layer({"a": b"a"})])
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        archive.add(made, ".")

    assert tree(unpack(tmp_path / "image.tar", tmp_path / "layers").layers[0]) == {"a": "a"}


def test_images_share_their_layers(tmp_path: Path) -> None:
    common = layer({"a": b"a"})
    first = unpack(layout(tmp_path / "1", [common, layer({"b": b"b"})]), tmp_path / "layers")
    second = unpack(saved(tmp_path / "2.tar", [common, layer({"c": b"c"})]), tmp_path / "layers")

    assert first.layers[0] == second.layers[0]
    assert len(list((tmp_path / "layers").iterdir())) == 3


def test_later_entries_win_and_set_user_id_bits_are_dropped(tmp_path: Path) -> None:
    loud = tarfile.TarInfo("tool")
    loud.mode = 0o6700
    image = unpack(
        layout(tmp_path / "1", [layer({"a": b"1", "./a": b"2", "tool": loud})]), tmp_path / "layers"
    )

    assert (image.layers[0] / "a").read_text() == "2"
    assert stat.S_IMODE((image.layers[0] / "tool").stat().st_mode) == 0o744


def test_an_opaque_directory_is_marked(tmp_path: Path) -> None:
    image = unpack(
        layout(tmp_path / "1", [layer({"d/.wh..wh..opq": b"", "d/new": b"n"})]), tmp_path / "layers"
    )

    assert os.getxattr(image.layers[0] / "d", "trusted.overlay.opaque") == b"y"


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ({"../out": b"x"}, "leads out of the image"),
        ({"a/../../out": b"x"}, "leads out of the image"),
        ({"etc": "/", "etc/out": b"x"}, "goes through 'etc', which is no directory"),
        ({"etc": "../..", "etc/out": None}, "no directory"),
        ({"out": hardlink("out", "../../secret")}, "leads out of the image"),
        ({"etc": "/", "out": hardlink("out", "etc/secret")}, "no directory"),
        ({"out": hardlink("out", "nowhere")}, "which its layer lacks"),
        ({".wh...": b""}, "leads out of the image"),
        ({"d/.wh..": b""}, "leads out of the image"),
        ({"d/.wh.": b""}, "leads out of the image"),
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, entries: dict[str, Any], complaint: str) -> None:
    (tmp_path / "secret").write_text("secret")
    made = layout(tmp_path / "image", [layer(entries)])
    before = tree(tmp_path)

    with pytest.raises((ImageUnusable, OSError), match=complaint):
        unpack(made, tmp_path / "layers")

    after = tree(tmp_path)
    assert after.pop("layers") == "directory"
    assert after == before


def test_an_absolute_name_is_the_images(tmp_path: Path) -> None:
    image = unpack(layout(tmp_path / "1", [layer({"/etc/lambay-test-out": b"x"})]), tmp_path / "layers")

    assert tree(image.layers[0]) == {"etc": "directory", "etc/lambay-test-out": "x"}
    assert not Path("/etc/lambay-test-out").exists()


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    made = layout(tmp_path / "image", [layer({})], architecture="s390x")

    with pytest.raises(ImageUnusable, match="the image is for linux/s390x, this host is linux/"):
        unpack(made, tmp_path / "layers")


def test_the_image_for_this_host_is_taken_from_an_index(tmp_path: Path) -> None:
    made = layout(tmp_path / "image", [layer({"a": b"a"})])
    index = json.loads((made / "index.json").read_text())
    from lambay.runtime.images.image import HOST_ARCHITECTURE

    own = {**index["manifests"][0], "platform": {"os": "linux", "architecture": HOST_ARCHITECTURE}}
    other = {**own, "digest": f"sha256:{'0' * 64}", "platform": {"os": "linux", "architecture": "s390x"}}
    (made / "index.json").write_text(json.dumps({"manifests": [other, own]}))
    image = unpack(made, tmp_path / "layers")
    (made / "index.json").write_text(json.dumps({"manifests": [other]}))

    assert tree(image.layers[0]) == {"a": "a"}
    with pytest.raises(ImageUnusable, match="the image is for linux/s390x"):
        unpack(made, tmp_path / "layers")


def test_broken_images_are_told_by_what_is_broken(tmp_path: Path) -> None:
    made = layout(tmp_path / "image", [layer({"a": b"a"})])
    index = json.loads((made / "index.json").read_text())
    manifest = made / "blobs/sha256" / index["manifests"][0]["digest"].removeprefix("sha256:")
    packed = (
        made
        / "blobs/sha256"
        / json.loads(manifest.read_text())["layers"][0]["digest"].removeprefix("sha256:")
    )
    whole = packed.read_bytes()
    complaints = {
        gzip.compress(layer({"a": b"b"})): "the layer sha256:.* has the digest",
        whole[:-10]: "cannot be decompressed|has the digest|not an archive",
        b"\x1f\x8bnonsense": "cannot be decompressed",
        b"nonsense" * 100: "not an archive",
    }

    for content, complaint in complaints.items():
        packed.write_bytes(content)
        with pytest.raises(ImageUnusable, match=complaint):
            unpack(made, tmp_path / "layers")
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(ImageUnusable, match=r"the blob sha256:.* has the digest"):
        unpack(made, tmp_path / "layers")
    assert list((tmp_path / "layers").iterdir()) == []
    (tmp_path / "file").write_bytes(b"nonsense")
    with pytest.raises(ImageUnusable, match="not an archive of an image"):
        unpack(tmp_path / "file", tmp_path / "layers")


def test_an_image_config_overrides() -> None:
    image = Image((), ("/e",), ("c",), "/w")

    assert image.overridden() == image
    assert image.overridden(command=["d"]) == Image((), ("/e",), ("d",), "/w")
    assert image.overridden(entry_point=["/f"]) == Image((), ("/f",), (), "/w")
    assert image.overridden(working_directory="/x").working_directory == "/x"


@pytest.fixture(scope="module")
def runtime_program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return program(tmp_path_factory.mktemp("program"))


def of_image(bench: Bench, image: Image, **changes: Any) -> EnvironmentSpec:
    return bench.function("", image=image, runtime="", handler="", **changes)


def image_of(bench: Bench, *layers: bytes, **config: Any) -> Image:
    number = len(list(bench.directory.glob("image-*")))
    return unpack(layout(bench.directory / f"image-{number}", layers, **config), bench.directory / "layers")


async def test_an_image_is_a_functions_root(bench: Bench, runtime_program: bytes) -> None:
    lower = layer(
        {"opt/own/runtime": runtime_program, "etc/passwd": b"ada:x:7:7::/:/bin/sh\n", "etc/gone": b"x"}
    )
    upper = layer({"etc/.wh.gone": b"", "etc/motd": b"hello"})
    config = {
        "Entrypoint": ["runtime", "-e"],
        "Cmd": ["app.handler"],
        "WorkingDir": "/etc",
        "Env": ["PATH=/opt/own", "STAGE=image", "OWN=1"],
    }
    image = image_of(bench, lower, upper, **config)
    backing = bench.directory / "fs"
    backing.mkdir()
    (backing / "note").write_text("shared")
    mount = FileSystemMount("fs-1", "/mnt/shared", backing=backing)
    spec = of_image(bench, image, variables={"STAGE": "mine"}, file_system=mount)
    files = ["/etc/motd", "/etc/gone", "/etc/passwd", "/mnt/shared/note", "/usr/bin/env", "/proc/self/comm"]

    found = await bench.answer(spec, [*files, str(bench.directory), "/etc/shadow", "/etc/hosts"])
    again = await bench.answer(spec, files)

    assert found["files"]["/etc/motd"] == "hello"
    assert found["files"]["/etc/gone"] is None
    assert found["files"]["/etc/passwd"].startswith("ada:x:7:7::/:/bin/sh sbx_user1051:x:")
    assert found["files"]["/mnt/shared/note"] == "shared"
    assert [found["files"][name] for name in ("/usr/bin/env", str(bench.directory), "/etc/shadow")] == [
        None
    ] * 3
    assert "127.0.0.1 localhost" in found["files"]["/etc/hosts"]
    assert found["files"]["/proc/self/comm"] == "runtime "
    assert (found["cwd"], found["arguments"]) == ("/etc", ["runtime", "-e", "app.handler"])
    assert found["uid"] >= 0x40000000
    environment = found["environment"]
    assert (environment["STAGE"], environment["OWN"], environment["_HANDLER"]) == ("mine", "1", "app.handler")
    assert "AWS_EXECUTION_ENV" not in environment
    assert environment["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001"
    assert again["files"]["/etc/motd"] == "hello"
    assert "INIT_START" not in await bench.log(spec)


async def test_an_image_with_awslambdaric(bench: Bench) -> None:
    """As the Developer Guide makes one of a Python base image: "Using a non-AWS base image"."""
    interpreter = interpreters.find(OWN_PYTHON)
    packaged = packages.built(OWN_PYTHON)
    assert interpreter is not None
    assert packaged is not None
    source = b"""
import os, sys
COUNT = 0
def handler(event, context):
    global COUNT
    COUNT += 1
    print("seen", event)
    if event == "fail":
        raise ValueError("no")
    return {
        "count": COUNT, "cwd": os.getcwd(), "name": context.function_name, "stage": os.environ["STAGE"],
        "own": os.environ["OWN"], "uid": os.getuid(), "executable": sys.executable, "root": sorted(os.listdir("/")),
        "left": context.get_remaining_time_in_millis() > 0, "script": os.path.basename(sys.argv[0]),
    }
"""
    python = f"/usr/local/bin/{OWN_PYTHON}"
    image = unpack(
        layout(
            bench.directory / "image",
            [python_root(interpreter, packaged), layer({"function/app.py": source, "tmp": None})],
            "none",
            Entrypoint=[python, "-m", "awslambdaric"],
            Cmd=["app.handler"],
            WorkingDir="/function",
            User="root",
            Env=["STAGE=image", "OWN=$HOME"],
        ),
        bench.directory / "layers",
    )
    spec = of_image(bench, image, variables={"STAGE": "mine"}, timeout_s=60)

    first = await bench.answer(spec)
    failed = await bench.invoke(spec, "fail")
    third = await bench.answer(spec)

    assert (first["count"], third["count"]) == (1, 3)
    # Of ENV no shell makes anything; the function's own variables win; USER has no effect.
    assert (first["stage"], first["own"], first["cwd"]) == ("mine", "$HOME", "/function")
    assert (first["name"], first["executable"], first["left"]) == (spec.function_name, python, True)
    assert first["uid"] >= 0x40000000
    # Nothing of the host's.
    assert {"function", "mnt", "usr"} <= set(first["root"])
    assert not {"boot", "sys"} & set(first["root"])
    error = json.loads(failed.payload)
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no")
    assert "seen None" in await bench.log(spec)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (
            {"Entrypoint": ["/nowhere"]},
            ("Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/nowhere]"),
        ),
        ({}, ("Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): []")),
        (
            {"Entrypoint": ["/runtime"], "WorkingDir": "/nowhere"},
            ("Runtime.InvalidWorkingDir", "chdir /nowhere: no such file or directory"),
        ),
    ],
)
async def test_an_image_that_cannot_start_says_why(
    bench: Bench, config: dict[str, Any], complaint: tuple[str, str]
) -> None:
    spec = of_image(bench, image_of(bench, layer({"runtime": b"\x7fELF"}), **config))

    outcome = await bench.invoke(spec)

    error = json.loads(outcome.payload)
    assert (error["errorType"], error["errorMessage"]) == complaint


async def test_links_in_an_image_do_not_lead_to_the_host(bench: Bench, runtime_program: bytes) -> None:
    secret = bench.directory / "secret"
    secret.write_text("of-the-host")
    entries = {"runtime": runtime_program, "leak": str(secret), "tmp": "/var", "var": None, "etc": None}
    spec = of_image(
        bench, image_of(bench, layer({**entries, "etc/passwd": str(secret)}), Entrypoint=["/runtime"])
    )

    outcome = await bench.invoke(spec, ["/leak", "/etc/passwd"])

    assert outcome.error is None
    assert b"of-the-host" not in outcome.payload


async def test_an_image_of_very_many_layers_runs(bench: Bench, runtime_program: bytes) -> None:
    layers = [layer({f"file-{number}": b"%d" % number}) for number in range(100)]
    image = image_of(bench, *layers, layer({"runtime": runtime_program}), Entrypoint=["/runtime"])

    found = await bench.answer(of_image(bench, image), ["/file-0", "/file-99"])

    assert found["files"] == {"/file-0": "0", "/file-99": "99"}
