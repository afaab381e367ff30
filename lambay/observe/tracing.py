"""Spans to an OpenTelemetry collector, by OTLP over HTTP; imported only where there is one.

OpenTelemetry specification, "Trace SDK" and "OTLP Exporter". Spans wait in a bounded queue for a thread of their own:
a collector that is slow or away costs spans, never a request. They carry the machine's own time, which is the
collector's, not that of `clock`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lambay import __version__
from lambay.aws import AWSError
from lambay.spans import Attributes

FLUSH_SECONDS = 5.0
_PATH = "/v1/traces"

_log = logging.getLogger("lambay.observe")


class Traces:
    """The `spans.Tracer` of a server with the setting `otlp_endpoint`.

    `instance` tells servers apart. The variables of the OpenTelemetry SDK hold for the rest: headers, certificates,
    sampling, the service's name.
    """

    def __init__(self, endpoint: str, instance: str) -> None:
        endpoint = endpoint.rstrip("/")
        self._exporter = OTLPSpanExporter(endpoint if endpoint.endswith(_PATH) else endpoint + _PATH)
        resource = Resource.create(
            {
                "service.name": os.environ.get("OTEL_SERVICE_NAME", "lambay"),
                "service.version": __version__,
                "service.instance.id": instance,
            }
        )
        # The house stops it, in its order.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("lambay", __version__)
        self._propagation = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Iterator[_Span]:
        context = self._propagation.extract(headers, context=Context())
        with self._current(self._tracer.start_span("request", context, SpanKind.SERVER)) as span:
            yield span

    @contextmanager
    def span(self, name: str, attributes: Attributes) -> Iterator[_Span]:
        context = Context() if _over(trace.get_current_span()) else None
        with self._current(self._tracer.start_span(name, context, attributes=attributes)) as span:
            yield span

    def current(self) -> _Span:
        return _Span(trace.get_current_span())

    async def stop(self) -> None:
        """Send what is waiting, within `FLUSH_SECONDS`; what could not be sent by then is lost."""
        flushing = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        flushing.start()
        await asyncio.to_thread(flushing.join, FLUSH_SECONDS)
        if flushing.is_alive():
            _log.warning("the last traces could not be sent within %.0f seconds", FLUSH_SECONDS)
            # Repeats no more; the library has no types here.
            self._exporter.shutdown()  # type: ignore[no-untyped-call]

    @contextmanager
    def _current(self, started: trace.Span) -> Iterator[_Span]:
        span = _Span(started)
        with trace.use_span(started, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except AWSError as error:
                span.fail(error.code)
                raise
            except BaseException as error:
                span.fail(type(error).__name__)
                raise


class _Span:
    """`spans.Span` on OpenTelemetry's."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))


def _over(span: trace.Span) -> bool:
    """Whether it has ended: a task that a request began may live on for days."""
    return span.get_span_context().trace_flags.sampled and not span.is_recording()
