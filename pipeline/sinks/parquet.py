"""Keeps recommendations, alerts and forecasts as Parquet, one folder per table and UTC day.

``FOLDER/TABLE/date=YYYY-MM-DD/FIRST-LAST-N.parquet``, FIRST and LAST being the first and last step (epoch seconds) in
the file, N a number that keeps files of one step apart. A file is written beside its place and renamed when it is
whole. Best effort: rows that wait when the process is killed are missing; ``tokentide export`` writes the complete
history from the store.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.engine.types import StepOutput
from pipeline.errors import ConfigError
from pipeline.publish.json import to_data
from pipeline.sinks.base import SinkContext
from pipeline.sinks.options import Options, checked

__all__ = ["ParquetOptions", "ParquetSink", "parquet_sink"]

_log = logging.getLogger(__name__)

_Table = Literal["recommendations", "alerts", "forecasts"]


class ParquetOptions(Options):
    """Options of ``[[sinks]] kind = "parquet"``."""

    folder: Path
    tables: tuple[_Table, ...] = ("recommendations", "alerts")
    #: A file holds this much event time.
    file_seconds: Annotated[int, Field(ge=60, le=86_400)] = 3_600
    #: Rows that may wait for a file; beyond it the file is written early.
    most_rows: Annotated[int, Field(gt=0, le=10_000_000)] = 200_000


class ParquetSink:
    """Best effort: what cannot be written is logged, counted and given up; the controller goes on."""

    def __init__(self, context: SinkContext) -> None:
        self._options = checked(ParquetOptions, context.options, "sinks.parquet")
        self._rows: dict[str, list[dict[str, Any]]] = {table: [] for table in self._options.tables}
        self._first: int | None = None
        self._last = 0
        self._files = 0
        self.dropped = 0

    async def start(self) -> None:
        """Make the folder.

        Raises:
            ConfigError: the folder cannot be made.
        """
        try:
            self._options.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"sinks.parquet.folder: cannot make {self._options.folder}: {error.strerror}") from error

    async def publish(self, output: StepOutput, *, finished: bool = True) -> None:  # noqa: ARG002
        """Keep the rows of a step; write a file when its time is over."""
        if self._first is not None and self._is_next_file(output.as_of):
            await self._write()
        if self._first is None:
            self._first = output.as_of
        self._last = output.as_of
        for table, rows in self._rows.items():
            rows += [_flat(to_data(item)) for item in getattr(output, table)]
        if sum(map(len, self._rows.values())) >= self._options.most_rows:
            await self._write()

    def _is_next_file(self, as_of: int) -> bool:
        seconds = self._options.file_seconds
        assert self._first is not None
        return as_of // seconds != self._first // seconds

    async def stop(self) -> None:
        """Write what waits."""
        if self._first is not None:
            await self._write()

    async def _write(self) -> None:
        rows, self._rows = self._rows, {table: [] for table in self._options.tables}
        first, self._first = self._first, None
        self._files += 1
        assert first is not None
        for table, found in rows.items():
            if not found:
                continue
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._write_file, table, first, found)
            except Exception as error:
                self.dropped += len(found)
                _log.error("%d rows of %s were not written to %s: %s", len(found), table, self._options.folder, error)

    def _write_file(self, table: str, first: int, rows: list[dict[str, Any]]) -> None:
        import duckdb
        import pandas as pd

        day = datetime.fromtimestamp(first, UTC).strftime("%Y-%m-%d")
        folder = self._options.folder / table / f"date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{first}-{self._last}-{self._files}.parquet"
        partial = path.with_suffix(".partial")
        frame = pd.DataFrame(rows)  # read by name below
        with duckdb.connect() as connection:
            connection.register("rows", frame)
            connection.execute(f"COPY rows TO '{str(partial).replace(chr(39), chr(39) * 2)}' (FORMAT parquet)")
        partial.rename(path)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Nested values as JSON text: one column for each field, whatever a later version adds inside."""
    return {
        name: json.dumps(value, separators=(",", ":")) if isinstance(value, (dict, list)) else value
        for name, value in row.items()
    }


def parquet_sink(context: SinkContext) -> ParquetSink:
    """Make a Parquet sink.

    Raises:
        ConfigError: an option is unknown, missing or wrong.
    """
    return ParquetSink(context)
