"""Serves the console's page, its code and the libraries beside it. All of it is public: secrets are the user's."""

from __future__ import annotations

import base64
import hashlib
import json
from http import HTTPStatus
from pathlib import Path

from lambay.console import packages
from lambay.http import Request, Response

PATH = "/_lambay/console"
_STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Bare names in import statements, and what the browser fetches for them.
_IMPORTS = {
    "aws4fetch": "aws4fetch.js",
    "htm": "htm.js",
    "preact": "preact.js",
    "preact/hooks": "preact-hooks.js",
    "uplot": "uplot.js",
}
_NOT_INSTALLED = (
    b"<!doctype html><title>Lambay</title><p>The console's libraries are not installed: run <code>make setup</code>, "
    b"or <code>python -m lambay.console</code> where npm is."
)


class Console:
    """GET /_lambay/console, and below it `static/NAME` (ours) and `library/NAME` (pinned packages)."""

    def __init__(self) -> None:
        self._files = {f"static/{path.name}": path for path in _STATIC.iterdir()}
        libraries = packages.directory() / "node_modules"
        self._files |= {f"library/{name}": libraries / path for name, path in packages.LIBRARIES.items()}
        imports = {name: f"{PATH}/library/{file}" for name, file in _IMPORTS.items()}
        self._import_map = json.dumps({"imports": imports})
        self._start = (_STATIC / "start.js").read_text()
        inline = " ".join(map(_source, (self._import_map, self._start)))
        self._headers = {
            "cache-control": "no-cache",
            "content-security-policy": (
                f"default-src 'none'; script-src 'self' {inline}; style-src 'self'; "
                "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                "frame-ancestors 'none'"
            ),
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }

    async def handle(self, request: Request) -> Response:
        """A page, a module or a library; 404 for anything else."""
        name = request.path.removeprefix(PATH).strip("/")
        if not name:
            return self._page()
        path = self._files.get(name)
        if path is None or not path.is_file():
            return Response(HTTPStatus.NOT_FOUND, {"content-type": "text/plain"}, b"there is no such file\n")
        content = path.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {**self._headers, "content-type": _TYPES[path.suffix.replace(".mjs", ".js")], "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(HTTPStatus.NOT_MODIFIED, headers)
        return Response(HTTPStatus.OK, headers, content)

    def _page(self) -> Response:
        headers = {**self._headers, "content-type": _TYPES[".html"]}
        if not packages.built():
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, headers, _NOT_INSTALLED)
        page = (_STATIC / "console.html").read_text()
        page = page.replace("{{import map}}", self._import_map).replace("{{start}}", self._start)
        return Response(HTTPStatus.OK, headers, page.encode())


def _source(script: str) -> str:
    """How a Content-Security-Policy admits a script within the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
