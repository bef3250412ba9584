"""Conformance of sinks: what ``pipeline.sinks.base.Sink`` promises, checked on any implementation."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections.abc import Callable

from pipeline.engine.types import StepOutput
from pipeline.sinks.base import Sink

__all__ = ["check_sink"]


def check_sink(make: Callable[[], Sink], outputs: list[StepOutput]) -> None:
    """Run a sink through its life: stop without start, start, steps, a step published again, an empty step, stop twice.

    ``make`` returns a new sink whose destination is reachable; ``outputs`` are steps in order of time.

    Raises:
        AssertionError: the sink broke a promise; the text says which.
    """
    asyncio.run(_check(make, outputs))


async def _check(make: Callable[[], Sink], outputs: list[StepOutput]) -> None:
    await make().stop()
    sink = make()
    assert sink.dropped == 0, "a new sink has dropped nothing"
    before = copy.deepcopy(outputs)
    await sink.start()
    for output in outputs:
        part = StepOutput(output.as_of, forecasts=output.forecasts)
        await sink.publish(part, finished=False)
        await sink.publish(dataclasses.replace(output, forecasts=()), finished=True)
    if outputs:
        await sink.publish(outputs[-1])  # after a restart the last step comes again
        await sink.publish(StepOutput(as_of=outputs[-1].as_of + 60))
    assert outputs == before, "publish must not change the output"
    await sink.stop()
    await sink.stop()
    assert sink.dropped == 0, "a reachable destination loses nothing"
