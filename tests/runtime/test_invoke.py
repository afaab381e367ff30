"""Invocations as a function's author sees them."""

from __future__ import annotations

import json

from .arrange import Bench


async def test_a_function_answers_its_event(bench: Bench) -> None:
    spec = bench.function(
        """
        def handler(event, context):
            return {"doubled": event["n"] * 2, "name": context.function_name}
        """
    )

    outcome = await bench.invoke(spec, {"n": 21})

    assert outcome.error is None, await bench.log(spec)
    assert json.loads(outcome.payload) == {"doubled": 42, "name": spec.function_name}
    assert outcome.init_ms is not None
