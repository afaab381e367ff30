"""Local paths in a template become objects in S3, as `aws cloudformation package` and `sam build` do it.

CodeUri, Code, ContentUri and Content that name a directory or file beside the template are zipped; a Python
function's requirements.txt and a Node.js function's package.json are installed into the package. Nested templates
are packaged themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lambay.aws import AWSError
from lambay.cli.endpoint import CommandError
from lambay.deploy.template.reading import read

Put = Callable[[str, bytes], tuple[str, str]]
"""Stores content under a name unless it is there; gives bucket and key."""

_LEFT_OUT = frozenset({".git", ".venv", "__pycache__", ".aws-sam", ".pytest_cache", ".DS_Store"})
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
# Type, property, and how the place is written there.
_CODE = (
    ("AWS::Serverless::Function", "CodeUri", "url"),
    ("AWS::Serverless::LayerVersion", "ContentUri", "url"),
    ("AWS::Lambda::Function", "Code", "parts"),
    ("AWS::Lambda::LayerVersion", "Content", "parts"),
)
_NESTED = (("AWS::CloudFormation::Stack", "TemplateURL"), ("AWS::Serverless::Application", "Location"))


def package(template: Path, put: Put, endpoint: str) -> str:
    """The template as JSON text with all that it names locally put away. Raises CommandError."""
    try:
        text = template.read_text()
        body = read(text).body
    except OSError as error:
        raise CommandError(f"{template}: {error.strerror}") from None
    except AWSError as error:
        raise CommandError(f"{template}: {error.message}") from None
    common = _mapping(_mapping(body.get("Globals")).get("Function"))
    for name, resource in _mapping(body.get("Resources")).items():
        resource = _mapping(resource)
        properties = resource.get("Properties")
        kind = resource.get("Type")
        if not isinstance(properties, dict):
            continue
        for type_, property_, form in _CODE:
            if kind == type_:
                given = properties.get(property_)
                if (
                    given is None
                    and kind == "AWS::Serverless::Function"
                    and not _elsewhere(properties, common)
                ):
                    given = common.get(property_, ".")
                path = _local(template, name, property_, given)
                if path is not None:
                    runtime = str(properties.get("Runtime") or common.get("Runtime") or "")
                    bucket, key = put("zip", _zipped(path, runtime, name))
                    properties[property_] = (
                        f"s3://{bucket}/{key}" if form == "url" else {"S3Bucket": bucket, "S3Key": key}
                    )
        for type_, property_ in _NESTED:
            if kind == type_:
                path = _local(template, name, property_, properties.get(property_))
                if path is not None:
                    bucket, key = put("template", package(path, put, endpoint).encode())
                    properties[property_] = f"{endpoint.rstrip('/')}/{bucket}/{key}"
    common.pop("CodeUri", None)
    return json.dumps(body)


def bucket(s3: Any, account: str, region: str) -> Put:
    """Puts into the account's own bucket for such packages, which is made when it is missing."""
    name = f"lambay-deploy-{account}-{region}"
    seen: set[str] = set()

    def put(suffix: str, content: bytes) -> tuple[str, str]:
        from botocore.exceptions import ClientError

        if not seen:
            where = (
                {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            )
            with contextlib.suppress(
                s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists
            ):
                s3.create_bucket(Bucket=name, **where)
        key = f"{hashlib.sha256(content).hexdigest()}.{suffix}"
        if key not in seen:
            try:
                s3.head_object(Bucket=name, Key=key)
            except ClientError:
                s3.put_object(Bucket=name, Key=key, Body=content)
            seen.add(key)
        return name, key

    return put


def _elsewhere(properties: Mapping[str, Any], common: Mapping[str, Any]) -> bool:
    """The code is inline, or an image."""
    return any(name in properties or name in common for name in ("InlineCode", "ImageUri")) or "Image" in (
        properties.get("PackageType"),
        common.get("PackageType"),
    )


def _local(template: Path, name: str, property_: str, given: Any) -> Path | None:
    """The path that `given` names beside the template, None where it is no local path."""
    if not isinstance(given, str) or "://" in given:
        return None
    path = (template.parent / given).resolve()
    if not path.exists():
        raise CommandError(f"{template}: {name}.{property_}: there is no {given} beside the template")
    return path


def _zipped(path: Path, runtime: str, name: str) -> bytes:
    """The same bytes for the same content, so that what has not changed is not put again."""
    if path.is_file():
        if zipfile.is_zipfile(path):
            return path.read_bytes()
        return _archive([(path.name, path)])
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(scratch) / "package"
        if runtime.startswith("python") and (path / "requirements.txt").is_file():
            _install_requirements(path / "requirements.txt", runtime, built, name)
        elif runtime.startswith("nodejs") and (path / "package.json").is_file():
            _install_modules(path, built, name)
        entries = dict(_files(built)) if built.exists() else {}
        entries |= dict(_files(path))
        return _archive(sorted(entries.items()))


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for directory, directories, names in os.walk(root):
        directories[:] = sorted(set(directories) - _LEFT_OUT)
        for name in sorted(set(names) - _LEFT_OUT):
            path = Path(directory) / name
            yield str(path.relative_to(root)), path


def _archive(entries: list[tuple[str, Path]]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in entries:
            if not path.is_file():
                continue
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
            archive.writestr(info, path.read_bytes())
    return made.getvalue()


def _install_requirements(requirements: Path, runtime: str, into: Path, name: str) -> None:
    version = runtime.removeprefix("python")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--root-user-action=ignore", "--target", str(into), "-r", str(requirements)]
    if version != f"{sys.version_info.major}.{sys.version_info.minor}":
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", version]
    _run(command, f"{name}: requirements.txt")


def _install_modules(source: Path, into: Path, name: str) -> None:
    wanted = json.loads((source / "package.json").read_text())
    if not wanted.get("dependencies") or (source / "node_modules").exists():
        return
    into.mkdir()
    for pins in ("package.json", "package-lock.json", ".npmrc"):
        if (source / pins).is_file():
            shutil.copy(source / pins, into / pins)
    verb = "ci" if (source / "package-lock.json").is_file() else "install"
    _run(
        ["npm", verb, "--omit=dev", "--no-audit", "--no-fund", "--prefix", str(into)], f"{name}: package.json"
    )


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise CommandError(f"{what}: {command[0]} is not installed") from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines() or [
            f"{command[0]} ended with {done.returncode}"
        ]
        raise CommandError(f"{what}: {words[-1]}")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
