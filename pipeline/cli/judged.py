"""The rows that ``tokentide spikes detect`` writes: collected on disk, in order, and moved into place at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np

from pipeline.errors import InputError

__all__ = ["JudgedRows"]

#: So many rows are held in memory before they go to disk; many short series would else be many small writes.
_HELD = 100_000


class JudgedRows:
    """A CSV or Parquet file that gets its rows series by series. Use as a context manager.

    Rows wait in a database beside the file, not in objects of this process; nobody sees half a file.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0
        self._held: list[tuple[str, Sequence[float], Sequence[float | None], Sequence[int]]] = []
        self._waiting = 0

    def __enter__(self) -> JudgedRows:
        try:
            self._folder = tempfile.TemporaryDirectory(prefix=f".{self.path.name}.", dir=self.path.parent)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._connection = duckdb.connect(str(Path(self._folder.name, "rows")))
        self._run("CREATE TABLE rows (series VARCHAR, timestamp TIMESTAMP, score DOUBLE, alert INTEGER)")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()
        self._folder.cleanup()

    def add(self, series: str, times: Sequence[float], scores: Sequence[float | None], alerts: Sequence[int]) -> None:
        """Append the rows of one series: epoch seconds, scores (None: not judged), alerts (0 or 1)."""
        self._held.append((series, times, scores, alerts))
        self._waiting += len(times)
        if self._waiting >= _HELD:
            self._flush()

    def finish(self) -> None:
        """Write the file with the columns series, timestamp, score, alert."""
        self._flush()
        part = Path(self._folder.name, self.path.name)
        target = str(part).replace("'", "''")
        kind = "FORMAT parquet" if self.path.suffix.lower() == ".parquet" else "FORMAT csv, HEADER"
        self._run(f"COPY rows TO '{target}' ({kind})")
        try:
            os.replace(part, self.path)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _flush(self) -> None:
        if not self._waiting:
            return
        names, times, scores, alerts = zip(*self._held, strict=True)
        seconds = np.concatenate([np.asarray(part, dtype=np.float64) for part in times])
        columns: dict[str, Any] = {
            "series": np.repeat(np.array(names, dtype=object), [len(part) for part in times]),
            "timestamp": np.round(seconds * 1e6).astype("datetime64[us]"),
            "score": np.array([np.nan if s is None else s for part in scores for s in part], dtype=np.float64),
            "alert": np.concatenate([np.asarray(part, dtype=np.int32) for part in alerts]),
        }
        self._connection.register("held", columns)
        self._run(
            "INSERT INTO rows "
            "SELECT series, timestamp, CASE WHEN isnan(score) THEN NULL ELSE score END, alert FROM held"
        )
        self._connection.unregister("held")
        self.written += self._waiting
        self._held, self._waiting = [], 0

    def _run(self, query: str) -> None:
        try:
            self._connection.execute(query)
        except duckdb.Error as error:
            raise InputError(f"cannot write {self.path}: {str(error).splitlines()[0]}") from error
