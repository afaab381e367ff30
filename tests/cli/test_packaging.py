"""Local paths of a template become objects, the same object for the same content."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lambay.cli.deployment import stack_name
from lambay.cli.endpoint import CommandError
from lambay.cli.packaging import package


class Bucket:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def __call__(self, suffix: str, content: bytes) -> tuple[str, str]:
        key = f"{hashlib.sha256(content).hexdigest()}.{suffix}"
        self.objects[key] = content
        return "artifacts", key

    def names(self, key: str) -> list[str]:
        return zipfile.ZipFile(io.BytesIO(self.objects[key])).namelist()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "src" / "inner").mkdir(parents=True)
    (tmp_path / "src" / "app.py").write_text("handler = print\n")
    (tmp_path / "src" / "inner" / "more.py").write_text("")
    (tmp_path / "src" / "__pycache__").mkdir()
    (tmp_path / "src" / "__pycache__" / "app.pyc").write_text("")
    (tmp_path / "src" / "run").write_text("#!/bin/sh\n")
    (tmp_path / "src" / "run").chmod(0o755)
    return tmp_path


def packaged(place: Path, resources: dict[str, Any], **rest: Any) -> tuple[dict[str, Any], Bucket]:
    template = place / "template.yaml"
    template.write_text(json.dumps({"Resources": resources, **rest}))
    bucket = Bucket()
    return json.loads(package(template, bucket, "http://server:1"))["Resources"], bucket


def test_a_functions_directory_is_zipped_without_what_python_leaves_behind(place: Path) -> None:
    made, bucket = packaged(place, {"F": {"Type": "AWS::Lambda::Function", "Properties": {"Code": "src"}}})

    code = made["F"]["Properties"]["Code"]
    assert code["S3Bucket"] == "artifacts"
    assert bucket.names(code["S3Key"]) == ["app.py", "inner/more.py", "run"]
    archive = zipfile.ZipFile(io.BytesIO(bucket.objects[code["S3Key"]]))
    assert archive.getinfo("run").external_attr >> 16 == 0o755


def test_the_same_content_is_the_same_object_whenever_it_was_written(place: Path) -> None:
    resources = {"F": {"Type": "AWS::Lambda::Function", "Properties": {"Code": "src"}}}
    first, _ = packaged(place, resources)
    os.utime(place / "src" / "app.py", (1, 1))

    assert packaged(place, resources)[0] == first
    (place / "src" / "app.py").write_text("handler = len\n")
    assert packaged(place, resources)[0] != first


def test_a_serverless_functions_code_may_come_from_globals_or_be_the_templates_own_directory(
    place: Path,
) -> None:
    function = {"Type": "AWS::Serverless::Function", "Properties": {"Handler": "app.handler"}}
    made, bucket = packaged(place, {"F": function}, Globals={"Function": {"CodeUri": "src"}})
    assert bucket.names(made["F"]["Properties"]["CodeUri"].rpartition("/")[2])[0] == "app.py"

    made, bucket = packaged(place, {"F": function})
    assert "src/app.py" in bucket.names(made["F"]["Properties"]["CodeUri"].rpartition("/")[2])


@pytest.mark.parametrize(
    ("type_", "given"),
    [
        ("AWS::Lambda::Function", {"Code": {"ZipFile": "handler = print"}}),
        ("AWS::Serverless::Function", {"InlineCode": "handler = print"}),
        ("AWS::Serverless::Function", {"CodeUri": "s3://bucket/key"}),
        ("AWS::Serverless::Function", {"ImageUri": "x:latest", "PackageType": "Image"}),
    ],
)
def test_what_is_not_local_stays(place: Path, type_: str, given: dict[str, Any]) -> None:
    made, bucket = packaged(place, {"F": {"Type": type_, "Properties": dict(given)}})

    assert made["F"]["Properties"] == given
    assert bucket.objects == {}


def test_a_file_that_is_an_archive_goes_as_it_is(place: Path) -> None:
    with zipfile.ZipFile(place / "layer.zip", "w") as archive:
        archive.writestr("python/x.py", "")
    made, bucket = packaged(
        place, {"L": {"Type": "AWS::Lambda::LayerVersion", "Properties": {"Content": "layer.zip"}}}
    )

    assert bucket.objects[made["L"]["Properties"]["Content"]["S3Key"]] == (place / "layer.zip").read_bytes()


def test_nested_templates_are_packaged_themselves(place: Path) -> None:
    (place / "inner.yaml").write_text(
        "Resources: {F: {Type: AWS::Lambda::Function, Properties: {Code: src}}}"
    )
    made, bucket = packaged(
        place, {"S": {"Type": "AWS::CloudFormation::Stack", "Properties": {"TemplateURL": "inner.yaml"}}}
    )

    url = made["S"]["Properties"]["TemplateURL"]
    assert url.startswith("http://server:1/artifacts/")
    inner = json.loads(bucket.objects[url.rpartition("/")[2]])
    assert inner["Resources"]["F"]["Properties"]["Code"]["S3Bucket"] == "artifacts"


def test_a_path_that_is_not_there_is_named(place: Path) -> None:
    with pytest.raises(CommandError, match=r"F\.Code: there is no sources beside"):
        packaged(place, {"F": {"Type": "AWS::Lambda::Function", "Properties": {"Code": "sources"}}})


def test_requirements_that_cannot_be_had_are_told(place: Path) -> None:
    (place / "src" / "requirements.txt").write_text("no such == requirement\n")
    function = {"Type": "AWS::Lambda::Function", "Properties": {"Code": "src", "Runtime": "python3.11"}}
    with pytest.raises(CommandError, match=r"F: requirements\.txt: "):
        packaged(place, {"F": function})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("shop/template.yaml", "shop"),
        ("shop/orders.yaml", "orders"),
        ("my shop_2/main.json", "my-shop-2"),
        ("9/app.yaml", "stack-9"),
    ],
)
def test_a_stack_is_named_after_its_templates_place(tmp_path: Path, path: str, name: str) -> None:
    assert stack_name(tmp_path / path, None) == name
    assert stack_name(tmp_path / path, "given") == "given"
