"""A sink of your own: appends recommendations to a file, one JSON object a line.

[[sinks]]
kind = "jsonl"
path = "/var/log/tokentide/recommendations.jsonl"
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from pipeline.engine.types import StepOutput
from pipeline.publish.json import to_json
from pipeline.sinks.base import SinkContext
from pipeline.sinks.options import Options, checked

__all__ = ["JsonlSink", "jsonl_sink"]


class JsonlOptions(Options):
    """The keys of the table beside ``kind``; unknown ones are refused."""

    path: Path


class JsonlSink:
    """Appends, and flushes after every step."""

    def __init__(self, context: SinkContext) -> None:
        self._path = checked(JsonlOptions, context.options, "sinks.jsonl").path
        self._file: TextIO | None = None
        self.dropped = 0

    async def start(self) -> None:
        """Open the file."""
        self._file = self._path.open("a", encoding="utf-8")

    async def publish(self, output: StepOutput, *, finished: bool = True) -> None:  # noqa: ARG002
        """Write the recommendations of one step."""
        assert self._file is not None
        for recommendation in output.recommendations:
            self._file.write(to_json(recommendation).decode() + "\n")
        self._file.flush()

    async def stop(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def jsonl_sink(context: SinkContext) -> JsonlSink:
    """What the entry point names."""
    return JsonlSink(context)
