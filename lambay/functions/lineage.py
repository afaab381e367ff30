"""Recursive loops: how often a function was invoked in one chain of requests.

The chain is told by the trace header's `Lineage=HASH:COUNT|…`, which the SDKs inside a function send along with
what they ask of AWS and the services pass on with messages and events. See "Use Lambda recursive loop detection
to prevent infinite loops" in the Developer Guide. Pure: a header in, a header out.
"""

from __future__ import annotations

import functools
import hashlib
import random
import time
import urllib.parse
from collections.abc import Iterable

from lambay.aws import AWSError

MOST_INVOCATIONS = 16
"""How often one chain of requests may invoke a function."""

_MOST_FUNCTIONS = 32
_FIELD = "Lineage"


@functools.lru_cache(4096)
def _mark(function_arn: str) -> str:
    return hashlib.sha256(function_arn.encode()).hexdigest()[:8]


def continued(trace: str | None, function_arn: str) -> tuple[str, int]:
    """The header for an invocation of this function (its unqualified ARN), and the how many-eth of the chain it is."""
    mark = _mark(function_arn)
    if not trace:
        return f"{_root()};{_FIELD}={mark}:1", 1
    fields = _fields(trace)
    counts = dict(_counts(fields.pop(_FIELD, "")))
    count = counts.pop(mark, 0) + 1
    # The function goes to the end: the chain forgets those that it met longest ago.
    kept = [*counts.items(), (mark, count)][-_MOST_FUNCTIONS:]
    head = ";".join(f"{name}={value}" for name, value in fields.items()) if "Root" in fields else _root()
    return f"{head};{_FIELD}=" + "|".join(f"{each}:{number}" for each, number in kept), count


def longest(traces: Iterable[str], function_arn: str) -> str | None:
    """Of a batch's headers the one whose chain has invoked this function most often."""
    mark = _mark(function_arn)
    return max(
        traces, key=lambda trace: dict(_counts(_fields(trace).get(_FIELD, ""))).get(mark, 0), default=None
    )


def check(count: int) -> None:
    """Raises RecursiveInvocationException where a chain has gone on for too long."""
    if count > MOST_INVOCATIONS:
        raise AWSError(
            "RecursiveInvocationException",
            "Lambda has detected your function being invoked in a recursive loop with other Amazon Web "
            "Services resources and stopped your function's invocation.",
            Type="User",
        )


def _fields(trace: str) -> dict[str, str]:
    parts = (part.partition("=") for part in urllib.parse.unquote(trace).split(";"))
    return {name.strip(): value.strip() for name, found, value in parts if found}


def _counts(lineage: str) -> Iterable[tuple[str, int]]:
    for entry in lineage.split("|"):
        mark, _, count = entry.rpartition(":")
        if mark and count.isdecimal():
            yield mark, int(count)


def _root() -> str:
    """An unsampled trace of its own; see the X-Ray Developer Guide, "Tracing header"."""
    root = f"Root=1-{int(time.time()):08x}-{random.getrandbits(96):024x}"
    return f"{root};Parent={random.getrandbits(64):016x};Sampled=0"
