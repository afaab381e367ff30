"""Container images made by tests: archives and layouts, written from what each layer holds."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

from lambay.runtime.images.image import HOST_ARCHITECTURE
from lambay.runtime.interpreters import Interpreter

# A runtime in one static program: tells how it was started, and what of the files named in the event it finds.
PROGRAM = r"""
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
extern char **environ;
static char in[65536], out[65536];
static int ask(const char *request, int size) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9001)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection, (void *)&to, sizeof to)) exit(3);
    if (write(connection, request, size) != size) exit(4);
    int got = 0, more;
    memset(in, 0, sizeof in);
    while ((more = read(connection, in + got, sizeof in - 1 - got)) > 0) {
        got += more;
        char *end = strstr(in, "\r\n\r\n"), *length = strcasestr(in, "content-length:");
        if (end && length && got >= end + 4 - in + atoi(length + 15)) break;
    }
    close(connection);
    return got;
}
int main(int argc, char **argv) {
    for (;;) {
        const char *next = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n";
        ask(next, strlen(next));
        char id[64] = {0}, *found = strcasestr(in, "lambda-runtime-aws-request-id: ");
        memcpy(id, found + 31, 36);
        char *event = strstr(in, "\r\n\r\n") + 4, cwd[4096], body[32768];
        int size = sprintf(body, "{\"cwd\":\"%s\",\"uid\":%d,\"arguments\":[", getcwd(cwd, sizeof cwd), getuid());
        for (int i = 0; i < argc; i++) size += sprintf(body + size, "%s\"%s\"", i ? "," : "", argv[i]);
        size += sprintf(body + size, "],\"environment\":{");
        for (char **each = environ, *sep = ""; *each; each++, sep = ",") {
            char *value = strchr(*each, '=');
            size += sprintf(body + size, "%s\"%.*s\":\"%s\"", sep, (int)(value - *each), *each, value + 1);
        }
        size += sprintf(body + size, "},\"files\":{");
        char *sep = "";
        for (char *name = strtok(event, "[], \""); name; name = strtok(NULL, "[], \"")) {
            char content[256] = {0};
            int file = open(name, O_RDONLY), got = file < 0 ? -1 : (int)read(file, content, 255);
            for (char *at = content; *at; at++) if (*at == '\n' || *at == '"') *at = ' ';
            size += sprintf(body + size, got < 0 && file < 0 ? "%s\"%s\":null" : "%s\"%s\":\"%s\"", sep, name, content);
            sep = ",";
            if (file >= 0) close(file);
        }
        size += sprintf(body + size, "}}");
        int all = sprintf(out, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\n"
                          "Content-Length: %d\r\n\r\n%s", id, size, body);
        ask(out, all);
    }
}
"""


def program(directory: Path) -> bytes:
    """The compiled PROGRAM."""
    source, binary = directory / "runtime.c", directory / "runtime"
    source.write_text(PROGRAM)
    subprocess.run(
        ["cc", "-D_GNU_SOURCE", "-O1", "-static", "-w", "-o", str(binary), str(source)], check=True
    )
    return binary.read_bytes()


Entry = bytes | str | tarfile.TarInfo | None
"""A file's content; a symbolic link's target; an entry as it stands; a directory."""


def layer(entries: Mapping[str, Entry]) -> bytes:
    """A layer's tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            elif content is None:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def hardlink(name: str, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.LNKTYPE, target
    return entry


def configuration(layers: Sequence[bytes], **config: Any) -> bytes:
    architecture = config.pop("architecture", HOST_ARCHITECTURE)
    diff_ids = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in layers]
    document = {
        "architecture": architecture,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    return json.dumps({**document, "config": config}).encode()


def layout(directory: Path, layers: Sequence[bytes], compression: str = "gzip", **config: Any) -> Path:
    """An OCI image layout below `directory`."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, kind: str, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content), **more}

    compress = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress, "none": bytes}[
        compression
    ]
    packed = [
        blob(compress(content), f"application/vnd.oci.image.layer.v1.tar+{compression}") for content in layers
    ]
    made = blob(configuration(layers, **config), "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "config": made, "layers": packed}
    described = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    return directory


def saved(path: Path, layers: Sequence[bytes], **config: Any) -> Path:
    """What `docker save` wrote before it wrote layouts."""
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["x:y"], "Layers": names}]).encode()
    entries = {"config.json": configuration(layers, **config), "manifest.json": manifest}
    path.write_bytes(layer({**entries, **dict(zip(names, layers, strict=True))}))
    return path


def python_root(interpreter: Interpreter, packages: Path) -> bytes:
    """A layer with what a slim image has: an interpreter, its library, what it links to, awslambdaric of `packages`."""
    prefix, library = interpreter.prefix, f"lib/{interpreter.runtime}"
    extensions = (prefix / library / "lib-dynload").glob("*.so")
    linked = subprocess.run(
        ["ldd", interpreter.executable, *extensions, *packages.glob("*.so")], capture_output=True, text=True
    ).stdout
    libraries = {word for word in linked.split() if word.startswith("/") and not word.endswith(":")}

    def slim(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        left_out = (
            "test",
            "tests",
            "site-packages",
            "__pycache__",
            "idlelib",
            "ensurepip",
            "lib2to3",
            "tkinter",
        )
        return None if Path(entry.name).name in left_out or "/config-" in entry.name else entry

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(interpreter.executable, f"usr/local/bin/{interpreter.runtime}")
        archive.add(prefix / library, f"usr/local/{library}", filter=slim)
        # The runtime client and what it needs; the SDK is large and of no concern here.
        for pattern in ("awslambdaric*", "runtime_client*", "simplejson", "snapshot_restore_py"):
            for package in packages.glob(pattern):
                archive.add(package, f"usr/local/{library}/site-packages/{package.name}")
        for shared in prefix.glob("lib/libpython3*.so*"):
            archive.add(shared, f"usr/local/lib/{shared.name}")
        for name in sorted(libraries):
            archive.add(Path(name).resolve(), name.lstrip("/"))
    return file.getvalue()
