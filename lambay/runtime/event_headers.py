"""What goes along with an event: the Runtime API's headers of "Next invocation"."""

from __future__ import annotations

import secrets
import time

from lambay.runtime.spec import Invocation

# Line ends are white space in JSON, and the end of a header.
_ONE_LINE = {ord("\r"): " ", ord("\n"): " "}


def event_headers(invocation: Invocation, deadline_ms: int, trace_id: str) -> dict[str, str]:
    """`deadline_ms` is milliseconds since the epoch, by the machine's own time."""
    headers = {
        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
        "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
        "Lambda-Runtime-Invoked-Function-Arn": invocation.invoked_arn,
        "Lambda-Runtime-Trace-Id": trace_id,
    }
    if invocation.client_context is not None:
        headers["Lambda-Runtime-Client-Context"] = invocation.client_context.translate(_ONE_LINE)
    if invocation.cognito_identity is not None:
        headers["Lambda-Runtime-Cognito-Identity"] = invocation.cognito_identity.translate(_ONE_LINE)
    return headers


def new_trace_id() -> str:
    """An unsampled X-Ray trace header."""
    root = f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"
    return f"Root={root};Parent={secrets.token_hex(8)};Sampled=0"
