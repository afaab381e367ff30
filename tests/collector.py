"""An OpenTelemetry collector for tests: takes OTLP over HTTP, and gives spans back as a tree."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE = 60.0


@dataclass(frozen=True)
class Taken:
    """A span as it came; ids are hexadecimal, `parent` is empty for the first of a trace."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    failed: bool
    began: int
    ended: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.hold: threading.Event | None = None
        self._spans: list[Taken] = []
        self._came = threading.Condition()
        collector = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if collector.hold is not None:
                    collector.hold.wait(PATIENCE)
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, path: str, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._came:
            self.paths.add(path)
            for resource in request.resource_spans:
                of = _attributes(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self._spans.extend(_taken(span, of) for span in scope.spans)
            self._came.notify_all()

    def trace(self, root: str, **attributes: Any) -> list[Taken]:
        """All spans of the trace of the one span `root` with these attributes, once that has come.

        A span is exported when it ends, so what is inside it has come before or along with it.
        """
        with self._came:

            def found() -> list[Taken]:
                return [
                    span
                    for span in self._spans
                    if span.name == root and attributes.items() <= span.attributes.items()
                ]

            assert self._came.wait_for(found, PATIENCE), [span.name for span in self._spans]
            (one,) = found()
            return [span for span in self._spans if span.trace == one.trace]

    def names(self) -> list[str]:
        """Of the spans that have come so far."""
        with self._came:
            return [span.name for span in self._spans]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def tree(spans: list[Taken]) -> dict[str, Any]:
    """Names within names, as the spans are within each other."""

    def below(parent: str) -> dict[str, Any]:
        return {span.name: below(span.id) for span in spans if span.parent == parent}

    ids = {span.id for span in spans}
    (top,) = {span.parent for span in spans if span.parent not in ids}
    return below(top)


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    try:
        yield collector
    finally:
        collector.stop()


def _taken(span: Any, resource: dict[str, Any]) -> Taken:
    return Taken(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        resource=resource,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
