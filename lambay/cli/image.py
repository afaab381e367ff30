"""`lambay image push`: put an image's archive into the server's registry, without docker."""

from __future__ import annotations

import argparse
import http.client
import os
import re
import ssl
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from lambay.cli.endpoint import CommandError, add_endpoint, client

_REPOSITORY = re.compile(
    r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::(?P<tag>[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}))?"
)
_PATIENCE_S = 960


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("image", help="put container images into the registry", description=__doc__)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    push = actions.add_parser("push", help="push an archive; prints the ImageUri for a function")
    push.add_argument(
        "archive",
        type=Path,
        help="from `docker save`, or an OCI image layout: archive (.gz, .zst) or directory",
    )
    push.add_argument("repository", metavar="REPOSITORY[:TAG]", help="made if it is missing; tag: latest")
    add_endpoint(push)
    push.set_defaults(run=_push)


def _push(options: argparse.Namespace) -> int:
    named = _REPOSITORY.fullmatch(options.repository)
    if named is None:
        raise CommandError(f"{options.repository!r} is not REPOSITORY or REPOSITORY:TAG")
    from lambay.runtime.images import ImageUnusable, parts

    name, tag = named["name"], named["tag"] or "latest"
    try:
        with parts(options.archive) as image:
            ecr = client(options, "ecr")
            uri = _repository(ecr, name)
            (login,) = ecr.get_authorization_token()["authorizationData"]
            registry = _Registry(options.endpoint, login["authorizationToken"], name)
            for blob in image.blobs:
                if not registry.has(blob.digest):
                    with blob.open() as content:
                        registry.upload(content, blob.size, blob.digest)
            registry.put(tag, image.manifest, image.media_type)
    except ImageUnusable as error:
        raise CommandError(f"{options.archive}: {error}") from None
    except http.client.HTTPException as error:
        raise CommandError(f"{options.endpoint}: {error!r}") from None
    except OSError as error:
        raise CommandError(f"{error.filename or options.endpoint}: {error.strerror or error}") from None
    print(f"{uri}:{tag}")
    return 0


def _repository(ecr: Any, name: str) -> str:
    """Its URI, once it is there."""
    try:
        found = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
    except ecr.exceptions.RepositoryNotFoundException:
        found = ecr.create_repository(repositoryName=name)["repository"]
    return str(found["repositoryUri"])


class _Registry:
    """One repository by the OCI distribution API, on one connection."""

    def __init__(self, endpoint: str, token: str, name: str) -> None:
        where = urlsplit(endpoint)
        self._connection: http.client.HTTPConnection
        if where.scheme == "https":
            trust = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
            self._connection = http.client.HTTPSConnection(
                str(where.hostname), where.port, timeout=_PATIENCE_S, context=trust
            )
        else:
            self._connection = http.client.HTTPConnection(
                str(where.hostname), where.port, timeout=_PATIENCE_S
            )
        self._headers = {"Authorization": f"Basic {token}"}
        self._path = f"/v2/{name}"

    def has(self, digest: str) -> bool:
        return self._send("HEAD", f"{self._path}/blobs/{digest}", None, {}, (200, 404)).status == 200

    def upload(self, content: IO[bytes], size: int, digest: str) -> None:
        begun = self._send("POST", f"{self._path}/blobs/uploads/", b"", {}, (202,))
        kind = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        self._send("PUT", f"{begun.getheader('location')}?digest={digest}", content, kind, (201,))

    def put(self, tag: str, manifest: bytes, media_type: str) -> None:
        kind = {"Content-Type": media_type}
        self._send("PUT", f"{self._path}/manifests/{tag}", manifest, kind, (201,))

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | IO[bytes] | None,
        headers: dict[str, str],
        expected: tuple[int, ...],
    ) -> http.client.HTTPResponse:
        """Raises CommandError for another status."""
        self._connection.request(method, path, body, self._headers | headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status not in expected:
            raise CommandError(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        return answer
