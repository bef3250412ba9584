"""Where the CPU of a controller goes, and how long windows wait for their advice."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from pipeline.engine.types import StepOutput
from pipeline.sinks.kafka import KafkaSink
from pipeline.stream.controller.controller import Controller


class Meter:
    """CPU of the threads of a controller by what they do, and when windows were closed and advice published."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = defaultdict(float)
        self.closed_to_published: list[float] = []
        self.due_to_published: list[float] = []
        self.due_at = 0.0
        self._closed_at: float | None = None  # None: what is published was closed by an earlier process

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*args)
            finally:
                self.cpu[name] += time.thread_time() - began

        return call

    def watch(self, controller: Controller, results: KafkaSink) -> None:
        """Measure a controller from now on."""
        closer, store, exporter = controller._closer, controller._store, controller._exporter
        for owner, names in (
            (closer, ("begin", "read", "advise", "due_state", "keep", "revise", "record_revision")),
            (store, ("apply",)),
            (exporter, ("refresh", "prepare")),
        ):
            for name in names:
                setattr(owner, name, self.timed(name, getattr(owner, name)))
        for name in ("close", "record"):
            setattr(closer, name, self.timed(name, self._noting_the_end(getattr(closer, name))))
        publish = results.publish

        async def published(output: StepOutput, *, finished: bool = True) -> None:
            began = time.thread_time()
            await publish(output, finished=finished)
            self.cpu["publish"] += (
                time.thread_time() - began
            )  # of the loop's thread, also of what else it did meanwhile
            now = time.monotonic()
            if self._closed_at is not None:
                self.closed_to_published += [now - self._closed_at] * len(output.windows)
            self.due_to_published += [now - self.due_at] * len(output.windows)

        results.publish = published  # type: ignore[method-assign]

    def _noting_the_end(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            result = function(*args)
            self._closed_at = time.monotonic()
            return result

        return call
