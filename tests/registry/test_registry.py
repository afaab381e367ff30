"""Images are pushed and pulled as `docker push` does it, and functions are made of them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import zstandard

from lambay import cli
from tests.functions.conftest import ACCOUNT, REGION, ROLE
from tests.functions.server import Server
from tests.runtime import oci

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Client:
    """A registry client of its own, with the password that ECR gave."""

    def __init__(self, server: Server, token: str) -> None:
        self.url = server.url
        self.token = token

    async def __call__(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        return await asyncio.to_thread(self._send, method, path, body, headers)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            given["Authorization"] = f"Basic {self.token}"
        request = urllib.request.Request(self.url + path, body, given, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()

    async def push_blob(self, name: str, content: bytes) -> str:
        """As docker does it: begin, one PATCH, PUT with the digest."""
        status, headers, _ = await self("POST", f"/v2/{name}/blobs/uploads/", b"")
        assert status == 202
        half = len(content) // 2
        for part in (content[:half], content[half:]):
            status, headers, _ = await self("PATCH", headers["location"], part)
            assert status == 202
        digest = digest_of(content)
        status, headers, _ = await self("PUT", f"{headers['location']}?digest={digest}", b"")
        assert (status, headers["docker-content-digest"]) == (201, digest)
        return digest

    async def push(self, name: str, tag: str, *, architecture: str = "amd64", text: bytes = b"x") -> str:
        """An image of one layer with a file; its manifest's digest."""
        tar = oci.layer({"file": text})
        config = oci.configuration([tar], architecture=architecture, Cmd=["own"])
        layer = gzip.compress(tar, mtime=0)
        parts = []
        for kind, content in (("container.image.v1+json", config), ("image.rootfs.diff.tar.gzip", layer)):
            parts.append(
                {
                    "mediaType": f"application/vnd.docker.{kind}",
                    "size": len(content),
                    "digest": await self.push_blob(name, content),
                }
            )
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
        body = json.dumps(manifest).encode()
        status, headers, text = await self("PUT", f"/v2/{name}/manifests/{tag}", body, Content_Type=MANIFEST)
        assert status == 201, text
        return headers["docker-content-digest"]


async def client(server: Server, repository: str) -> Client:
    """For a new repository."""
    await server("ecr", "create_repository", repositoryName=repository)
    (given,) = (await server("ecr", "get_authorization_token"))["authorizationData"]
    assert given["proxyEndpoint"] == server.url
    assert base64.b64decode(given["authorizationToken"]).startswith(b"AWS:")
    return Client(server, given["authorizationToken"])


async def test_an_image_that_was_pushed_is_pulled_and_known_to_ecr(server: Server) -> None:
    docker = await client(server, "team/app")
    digest = await docker.push("team/app", "v1")
    (shown,) = (await server("ecr", "describe_images", repositoryName="team/app"))["imageDetails"]
    assert (shown["imageDigest"], shown["imageTags"]) == (digest, ["v1"])
    for reference in ("v1", digest):
        status, headers, body = await docker("GET", f"/v2/team/app/manifests/{reference}")
        assert (status, headers["content-type"], digest_of(body)) == (200, MANIFEST, digest)
    layer = json.loads(body)["layers"][0]["digest"]
    content = (await docker("GET", f"/v2/team/app/blobs/{layer}"))[2]
    assert digest_of(content) == layer
    status, headers, _ = await docker("HEAD", f"/v2/team/app/blobs/{layer}")
    assert (status, headers["content-length"]) == (200, str(len(content)))
    status, _, body = await docker("GET", "/v2/team/app/tags/list")
    assert json.loads(body) == {"name": "team/app", "tags": ["v1"]}


async def test_the_same_image_can_be_pushed_again_and_a_tag_moves(server: Server) -> None:
    docker = await client(server, "moving")
    first = await docker.push("moving", "latest")
    assert await docker.push("moving", "latest") == first
    second = await docker.push("moving", "latest", text=b"another")
    status, headers, _ = await docker("HEAD", "/v2/moving/manifests/latest")
    assert (status, headers["docker-content-digest"]) == (200, second)


async def test_a_blob_of_another_repository_is_mounted(server: Server) -> None:
    docker = await client(server, "mounted")
    digest = await docker.push_blob("mounted", b"shared")
    await server("ecr", "create_repository", repositoryName="mounting")
    status, headers, _ = await docker("POST", f"/v2/mounting/blobs/uploads/?mount={digest}&from=mounted", b"")
    assert (status, headers["docker-content-digest"]) == (201, digest)
    status, _, _ = await docker("POST", f"/v2/mounting/blobs/uploads/?mount=sha256:{'0' * 64}&from=x", b"")
    assert status == 202


async def test_a_layer_is_on_disk_before_all_of_it_has_come(server: Server) -> None:
    docker = await client(server, "slow")
    _, headers, _ = await docker("POST", "/v2/slow/blobs/uploads/", b"")
    where = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    content = os.urandom(3 << 20)
    writer.write(
        f"PATCH {headers['location']} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {docker.token}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n".encode()
        + content[: 2 << 20]
    )
    await writer.drain()
    half = 0
    async with asyncio.timeout(60):
        while half < 1 << 20:
            status, told, _ = await docker("GET", headers["location"])
            assert status == 204
            half = int(told["range"].partition("-")[2]) + 1
    assert half < len(content)
    writer.write(content[2 << 20 :])
    assert (await reader.readline()).split()[1] == b"202"
    writer.close()
    digest = digest_of(content)
    assert (await docker("PUT", f"{headers['location']}?digest={digest}", b""))[0] == 201
    assert (await docker("GET", f"/v2/slow/blobs/{digest}"))[2] == content


async def test_a_layer_whose_client_goes_away_is_taken_up_where_it_ended(server: Server) -> None:
    docker = await client(server, "torn")
    _, headers, _ = await docker("POST", "/v2/torn/blobs/uploads/", b"")
    where = urlsplit(server.url)
    _, writer = await asyncio.open_connection(where.hostname, where.port)
    content = os.urandom(5 << 20)
    writer.write(
        f"PATCH {headers['location']} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {docker.token}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n".encode()
        + content[: 2 << 20]
    )
    await writer.drain()
    writer.close()
    status = 416
    async with asyncio.timeout(60):
        while status == 416:
            _, told, _ = await docker("GET", headers["location"])
            last = int(told["range"].partition("-")[2])
            start = last + 1 if last else 0
            chunk = {"Content_Range": f"{start}-{len(content) - 1}"}
            status, _, _ = await docker("PATCH", headers["location"], content[start:], **chunk)
    digest = digest_of(content)
    assert (await docker("PUT", f"{headers['location']}?digest={digest}", b""))[0] == 201
    assert (await docker("PUT", f"{headers['location']}?digest={digest}", b""))[0] == 404


async def test_who_has_no_password_is_told_how_to_get_one(server: Server) -> None:
    stranger = Client(server, "")
    status, headers, body = await stranger("GET", "/v2/")
    assert (status, json.loads(body)["errors"][0]["code"]) == (401, "UNAUTHORIZED")
    assert headers["www-authenticate"].startswith("Basic realm=")
    wrong = Client(server, base64.b64encode(b"AWS:guess").decode())
    assert (await wrong("GET", "/v2/"))[0] == 401


async def test_what_is_not_there_and_what_is_not_true_is_refused(server: Server) -> None:
    docker = await client(server, "strict")
    cases: list[tuple[str, str, bytes | None, int, str]] = [
        ("GET", "/v2/none/tags/list", None, 404, "NAME_UNKNOWN"),
        ("POST", "/v2/none/blobs/uploads/", b"", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/strict/manifests/none", None, 404, "MANIFEST_UNKNOWN"),
        ("GET", f"/v2/strict/blobs/sha256:{'0' * 64}", None, 404, "BLOB_UNKNOWN"),
        ("PATCH", f"/v2/strict/blobs/uploads/{'0' * 32}", b"x", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PUT", "/v2/strict/manifests/v1", b"{}", 400, "MANIFEST_INVALID"),
        ("POST", f"/v2/strict/blobs/uploads/?digest=sha256:{'0' * 64}", b"x", 400, "DIGEST_INVALID"),
        ("GET", "/v2/strict/unknown", None, 404, "UNSUPPORTED"),
    ]
    for method, path, body, status, code in cases:
        found, _, text = await docker(method, path, body)
        assert (found, json.loads(text)["errors"][0]["code"]) == (status, code), path
    lacking = {"config": {"digest": f"sha256:{'1' * 64}"}, "layers": []}
    found, _, text = await docker("PUT", "/v2/strict/manifests/v1", json.dumps(lacking).encode())
    assert json.loads(text)["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"


async def test_a_function_of_an_image(server: Server) -> None:
    docker = await client(server, "functions")
    digest = await docker.push("functions", "v1")
    uri = f"{HOST}/functions:v1"
    config = {"Command": ["app.handler"], "WorkingDirectory": "/srv"}
    made = await server(
        "lambda",
        "create_function",
        FunctionName="imaged",
        Role=ROLE,
        PackageType="Image",
        Code={"ImageUri": uri},
        ImageConfig=config,
    )
    assert (made["PackageType"], made["CodeSize"], made["CodeSha256"]) == ("Image", 0, digest[7:])
    assert "Runtime" not in made
    assert "Handler" not in made
    assert made["ImageConfigResponse"] == {"ImageConfig": config}
    waiter = server.clients["lambda"].get_waiter("function_active_v2")
    await asyncio.to_thread(waiter.wait, FunctionName="imaged", WaiterConfig={"Delay": 0.05})
    code = (await server("lambda", "get_function", FunctionName="imaged"))["Code"]
    assert code == {
        "RepositoryType": "ECR",
        "ImageUri": uri,
        "ResolvedImageUri": f"{HOST}/functions@{digest}",
    }
    # A tag that moves changes nothing until the function's code is updated.
    await server("lambda", "invoke", FunctionName="imaged")
    spec = server.fleet.runs[-1][0]
    assert spec.image is not None
    assert (spec.image.command, spec.image.working_directory) == (("app.handler",), "/srv")
    assert [(layer / "file").read_bytes() for layer in spec.image.layers] == [b"x"]
    moved = await docker.push("functions", "v1", text=b"new")
    published = await server("lambda", "publish_version", FunctionName="imaged")
    assert published["CodeSha256"] == digest[7:]
    updated = await server("lambda", "update_function_code", FunctionName="imaged", ImageUri=uri)
    assert updated["CodeSha256"] == moved[7:]


@pytest.mark.parametrize(
    ("input", "text"),
    [
        (
            {"Code": {"ImageUri": f"{HOST}/none:v1"}},
            f"Source image {HOST}/none:v1 does not exist. Provide a valid source image.",
        ),
        ({"Code": {"ImageUri": "nginx"}}, "Source image nginx is not valid. Provide a valid source image."),
        (
            {"Code": {"ZipFile": b"x"}},
            "Please provide ImageUri when updating a function with packageType Image.",
        ),
        (
            {"Runtime": "python3.12"},
            "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image.",
        ),
        ({"PackageType": "Zip", "Runtime": "python3.12", "Handler": "a.b"}, "Please don't provide ImageUri"),
        ({"Architectures": ["arm64"]}, "arm64 functions can't run on this host"),
        ({"Code": {"ImageUri": f"{HOST}/refused:arm"}}, "arm64 functions can't run on this host"),
        (
            {"Code": {"ImageUri": f"{HOST.replace(REGION, 'eu-west-1')}/refused:arm"}},
            "does not have permission to access the ECR image",
        ),
    ],
)
async def test_images_that_no_function_can_have(server: Server, input: dict[str, Any], text: str) -> None:
    known = (await server("ecr", "describe_repositories"))["repositories"]
    if not any(repository["repositoryName"] == "refused" for repository in known):
        docker = await client(server, "refused")
        await docker.push("refused", "arm", architecture="arm64")
        await docker.push("refused", "v1")
    given = {
        "FunctionName": "never",
        "Role": ROLE,
        "PackageType": "Image",
        "Code": {"ImageUri": f"{HOST}/refused:v1"},
    }
    error = await server.refused("lambda", "create_function", **{**given, **input})
    assert text in error["Error"]["Message"]


async def test_an_image_that_is_none_fails_the_function(server: Server) -> None:
    docker = await client(server, "broken")
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": []}}).encode()
    parts = [
        {
            "mediaType": kind,
            "size": len(content),
            "digest": await docker.push_blob("broken", content),
        }
        for kind, content in (
            ("application/vnd.docker.container.image.v1+json", config),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", b"no archive"),
        )
    ]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
    await docker("PUT", "/v2/broken/manifests/v1", json.dumps(manifest).encode(), Content_Type=MANIFEST)
    await server(
        "lambda",
        "create_function",
        FunctionName="broken-image",
        Role=ROLE,
        PackageType="Image",
        Code={"ImageUri": f"{HOST}/broken:v1"},
    )
    async with asyncio.timeout(60):
        shown: dict[str, Any] = {"State": "Pending"}
        while shown["State"] == "Pending":
            shown = await server("lambda", "get_function_configuration", FunctionName="broken-image")
    assert (shown["State"], shown["StateReasonCode"]) == ("Failed", "InvalidImage")


@pytest.mark.parametrize("kind", ["saved", "layout", "gzip", "zstd"])
async def test_a_function_of_an_archive_in_s3(server: Server, tmp_path: Path, kind: str) -> None:
    layers = [oci.layer({"file": kind.encode()}), oci.layer({"other": b"y"})]
    if kind == "saved":
        archive = oci.saved(tmp_path / "image.tar", layers, Cmd=["own"]).read_bytes()
    else:
        archive = archived(oci.layout(tmp_path / "layout", layers, Cmd=["own"]))
    archive = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}.get(kind, bytes)(archive)
    bucket, function = f"images-{kind}", f"of-s3-{kind}"
    await server("s3", "create_bucket", Bucket=bucket)
    await server("s3", "put_object", Bucket=bucket, Key="an/app.tar", Body=archive)
    uri = f"s3://{bucket}/an/app.tar"
    made = await server(
        "lambda",
        "create_function",
        FunctionName=function,
        Role=ROLE,
        PackageType="Image",
        Code={"ImageUri": uri},
    )
    waiter = server.clients["lambda"].get_waiter("function_active_v2")
    await asyncio.to_thread(waiter.wait, FunctionName=function, WaiterConfig={"Delay": 0.05})
    # It is the image of that moment, whatever becomes of the object.
    await server("s3", "delete_object", Bucket=bucket, Key="an/app.tar")
    code = (await server("lambda", "get_function", FunctionName=function))["Code"]
    assert code == {
        "RepositoryType": "S3",
        "ImageUri": uri,
        "ResolvedImageUri": f"{uri}@sha256:{made['CodeSha256']}",
    }
    await server("lambda", "invoke", FunctionName=function)
    image = server.fleet.runs[-1][0].image
    assert image is not None
    assert image.command == ("own",)
    assert (image.layers[0] / "file").read_bytes() == kind.encode()
    assert (image.layers[1] / "other").read_bytes() == b"y"


def archived(layout: Path) -> bytes:
    found = {
        str(path.relative_to(layout)): path.read_bytes()
        for path in sorted(layout.rglob("*"))
        if path.is_file()
    }
    return oci.layer(found)


async def test_archives_in_s3_that_no_function_can_have(server: Server, tmp_path: Path) -> None:
    await server("s3", "create_bucket", Bucket="no-images")
    layout = oci.layout(tmp_path / "layout", [oci.layer({"file": b"x"})])
    for blob in (layout / "blobs/sha256").iterdir():
        if blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.write_bytes(b"another")
    for key, body in (("text", b"no archive"), ("false", archived(layout))):
        await server("s3", "put_object", Bucket="no-images", Key=key, Body=body)
    given = {"FunctionName": "never", "Role": ROLE, "PackageType": "Image"}
    for key, text in (("none", "NoSuchKey"), ("text", "not an archive"), ("false", "has the digest")):
        code = {"ImageUri": f"s3://no-images/{key}"}
        error = await server.refused("lambda", "create_function", **given, Code=code)
        assert error["Error"]["Code"] == "InvalidParameterValueException"
        assert text in error["Error"]["Message"]


async def test_an_archive_in_s3_is_read_with_the_rights_of_the_caller(server: Server) -> None:
    await server("s3", "create_bucket", Bucket="secret-images")
    await server("s3", "put_object", Bucket="secret-images", Key="app", Body=b"x")
    await server("iam", "create_user", UserName="maker")
    statement = {"Effect": "Allow", "Action": ["lambda:*", "iam:PassRole"], "Resource": "*"}
    rights = {"Version": "2012-10-17", "Statement": [statement]}
    await server(
        "iam", "put_user_policy", UserName="maker", PolicyName="p", PolicyDocument=json.dumps(rights)
    )
    key = (await server("iam", "create_access_key", UserName="maker"))["AccessKey"]
    maker = boto3.client(
        "lambda",
        endpoint_url=server.url,
        region_name=REGION,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )
    with pytest.raises(maker.exceptions.ClientError) as caught:
        await asyncio.to_thread(
            maker.create_function,
            FunctionName="never",
            Role=ROLE,
            PackageType="Image",
            Code={"ImageUri": "s3://secret-images/app"},
        )
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    assert "S3 Error Code: AccessDenied" in caught.value.response["Error"]["Message"]


@pytest.mark.parametrize("kind", ["saved", "layout"])
async def test_an_archive_is_pushed_without_docker(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    layers = [oci.layer({"file": kind.encode()})]
    made = (oci.saved if kind == "saved" else oci.layout)(tmp_path / kind, layers, Cmd=["own"])
    repository = f"pushed/{kind}"
    for tag in ("v1", "v2"):
        arguments = ["image", "push", str(made), f"{repository}:{tag}", "--endpoint", server.url]
        assert await asyncio.to_thread(cli.main, arguments) == 0
        assert capsys.readouterr().out == f"{HOST}/{repository}:{tag}\n"
    await server(
        "lambda",
        "create_function",
        FunctionName=f"pushed-{kind}",
        Role=ROLE,
        PackageType="Image",
        Code={"ImageUri": f"{HOST}/{repository}:v2"},
    )
    waiter = server.clients["lambda"].get_waiter("function_active_v2")
    await asyncio.to_thread(waiter.wait, FunctionName=f"pushed-{kind}", WaiterConfig={"Delay": 0.05})


async def test_what_is_no_archive_is_not_pushed(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_bytes(b"no archive")
    for archive, repository, text in (
        ("text", "never", "not an archive"),
        ("none", "never", "No such file"),
        ("text", "Never!", "is not REPOSITORY"),
    ):
        arguments = ["image", "push", str(tmp_path / archive), repository, "--endpoint", server.url]
        assert await asyncio.to_thread(cli.main, arguments) == 1
        assert text in capsys.readouterr().err
