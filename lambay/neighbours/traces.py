"""The trace header of the request that this thread runs, which goes along with what the request sets off.

SQS keeps it with a message as `AWSTraceHeader`; see the SQS Developer Guide, "Amazon SQS and AWS X-Ray". A
function's events carry it as well, so that Lambda sees a chain of invocations.
"""

from __future__ import annotations

import threading
from typing import Any

from lambay.neighbours.adapt import adapter

_local = threading.local()


def current() -> str:
    """The header `X-Amzn-Trace-Id`, empty where the request has none."""
    trace: str = getattr(_local, "trace", "")
    return trace


@adapter("moto.core.responses")
def _noted(module: Any) -> None:
    setup = module.BaseResponse.setup_class

    def setup_class(response: Any, *args: Any, **kwargs: Any) -> None:
        setup(response, *args, **kwargs)
        _local.trace = response.headers.get("x-amzn-trace-id", "")

    module.BaseResponse.setup_class = setup_class


@adapter("moto.sqs.models")
def _kept_with_messages(module: Any) -> None:
    send = module.SQSBackend.send_message

    def send_message(
        self: Any, *args: Any, system_attributes: dict[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        attributes = dict(system_attributes or {})
        if current():
            attributes.setdefault("AWSTraceHeader", {"DataType": "String", "StringValue": current()})
        return send(self, *args, system_attributes=attributes or None, **kwargs)

    module.SQSBackend.send_message = send_message
