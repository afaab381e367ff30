"""A container image: pushed as docker does it, run by the sandbox, with a file system mounted."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lambay import cli
from tests.e2e.arrange import Deployer, Lambay, unique
from tests.runtime import oci

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None, reason="needs a C compiler for the image's program"
)

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def push(lambay: Lambay, repository: str, layers: list[bytes], **config: object) -> str:
    """The ImageUri of an image of these layers (tars)."""
    (login,) = lambay.boto("ecr").get_authorization_token()["authorizationData"]
    where = urlsplit(login["proxyEndpoint"])
    connection = http.client.HTTPConnection(str(where.hostname), where.port)
    given = {"Authorization": f"Basic {login['authorizationToken']}"}

    def send(method: str, path: str, body: bytes, **headers: str) -> http.client.HTTPResponse:
        connection.request(method, path, body, given | headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status < 300, text
        return answer

    def part(content: bytes, kind: str) -> dict[str, object]:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        begun = send("POST", f"/v2/{repository}/blobs/uploads/", b"")
        location = str(begun.getheader("location"))
        send("PATCH", location, content)
        send("PUT", f"{location}?digest={digest}", b"")
        return {"mediaType": f"application/vnd.docker.{kind}", "size": len(content), "digest": digest}

    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": part(oci.configuration(layers, **config), "container.image.v1+json"),
        "layers": [part(gzip.compress(layer), "image.rootfs.diff.tar.gzip") for layer in layers],
    }
    content_type = {"Content-Type": MANIFEST}
    send("PUT", f"/v2/{repository}/manifests/v1", json.dumps(manifest).encode(), **content_type)
    return f"000000000000.dkr.ecr.us-east-1.amazonaws.com/{repository}:v1"


def test_an_image_is_pushed_and_run_with_its_file_system(own_lambay: Lambay, tmp_path: Path) -> None:
    lambay, deploy = own_lambay, Deployer(own_lambay)
    repository = unique("app")
    lambay.boto("ecr").create_repository(repositoryName=repository)
    layers = [oci.layer({"app": oci.program(tmp_path)}), oci.layer({"etc": None, "etc/app": b"of the image"})]
    uri = push(lambay, repository, layers, Entrypoint=["/app"], Cmd=["own"], WorkingDir="/etc")
    file_system = deploy.file_system()
    function = deploy.function(
        "",
        deploy.access_point(file_system),
        Code={"ImageUri": uri},
        PackageType="Image",
        ImageConfig={"Command": ["another", "command"]},
        Runtime=None,
        Handler=None,
    )
    first = deploy.invoke(function, ["/etc/app", "/mnt/efs/none"])
    assert first["arguments"] == ["/app", "another", "command"]
    assert first["cwd"] == "/etc"
    assert first["files"] == {"/etc/app": "of the image", "/mnt/efs/none": None}
    assert first["environment"]["AWS_LAMBDA_FUNCTION_NAME"] == function
    (lambay.data_dir / "file-systems" / file_system / "data" / "note").write_text("of the file system")
    again = deploy.invoke(function, ["/mnt/efs/note"])
    assert again["files"] == {"/mnt/efs/note": "of the file system"}
    # What was pushed outlives a kill.
    lambay.kill()
    lambay.start()
    assert Deployer(lambay).invoke(function, ["/etc/app"])["files"] == {"/etc/app": "of the image"}


def test_an_archive_is_run_from_s3_and_when_it_was_pushed_without_docker(
    lambay: Lambay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy, repository = Deployer(lambay), unique("archive")
    archive = oci.saved(
        tmp_path / "app.tar", [oci.layer({"app": oci.program(tmp_path)})], Entrypoint=["/app"]
    )
    assert cli.main(["image", "push", str(archive), f"{repository}:v1", "--endpoint", lambay.endpoint]) == 0
    pushed = capsys.readouterr().out.strip()
    s3 = lambay.boto("s3")
    s3.create_bucket(Bucket=repository)
    s3.put_object(Bucket=repository, Key="app.tar.gz", Body=gzip.compress(archive.read_bytes(), 1))
    for uri in (pushed, f"s3://{repository}/app.tar.gz"):
        function = deploy.function(
            "", Code={"ImageUri": uri}, PackageType="Image", Runtime=None, Handler=None
        )
        assert deploy.invoke(function, [])["arguments"] == ["/app"]
