"""Spans: what is done, from when to when, inside what else. Whoever does it tells, where somebody traces.

The words are OpenTelemetry's; its library is known to `lambay.observe.tracing` alone. The current span goes along
with the task, as a context variable does.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Attributes = Mapping[str, str | int | float | bool]


class Span(Protocol):
    """Something under way. Nothing here raises or blocks."""

    def rename(self, name: str) -> None: ...

    def note(self, attributes: Attributes) -> None: ...

    def fail(self, kind: str) -> None:
        """It went wrong: `kind` is an error's code or type."""
        ...


class Tracer(Protocol):
    """Who is told. A span is the current one within its block; an exception that leaves the block fails it."""

    def request(self, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
        """A request from outside, as a part of the trace that its `traceparent` names (W3C Trace Context)."""
        ...

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[Span]:
        """A part of the current span, or a trace of its own where there is none or that has ended."""
        ...

    def current(self) -> Span:
        """What runs now; where nothing does, what is noted on it is lost."""
        ...


class _Untold:
    def rename(self, name: str) -> None:
        return

    def note(self, attributes: Attributes) -> None:
        return

    def fail(self, kind: str) -> None:
        return


_UNTOLD = nullcontext[Span](_Untold())


def span(tracer: Tracer | None, name: str, attributes: Attributes) -> AbstractContextManager[Span]:
    """A span of `tracer`; without one, nothing."""
    return _UNTOLD if tracer is None else tracer.span(name, attributes)
