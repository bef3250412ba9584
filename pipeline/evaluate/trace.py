"""Traces of requests: one row per request, or counts per bin with lengths drawn from another trace.

Every fault of a file is told with its line: a trace is the one thing that the whole evaluation rests on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.replay.table import Table, quoted
from pipeline.replay.trace import COUNT_COLUMNS, INPUT_COLUMNS, OUTPUT_COLUMNS, TIME_COLUMNS, Trace
from sizing.simulate import Requests

__all__ = ["MAX_REQUESTS", "RequestTrace", "read_trace"]

Floats = NDArray[np.float64]

#: More requests than this do not fit into memory beside their simulation.
MAX_REQUESTS = 5_000_000
#: Of minutes, a hundred days are 144,000 windows; longer traces are most often a mistake in their times.
_MAX_SECONDS = 100 * 86_400.0
_MAX_TOKENS = 10_000_000


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """Requests in order of arrival, in the trace's own time; it ends at ``end_seconds`` (of the last bin, with counts,
    also where that is empty).

    ``name`` is the file's; ``drawn`` says that arrivals and lengths within bins were drawn.
    """

    name: str
    requests: Requests
    end_seconds: float
    drawn: bool = False


def read_trace(
    path: Path, *, lengths: Path | tuple[int, int] | None = None, limit: int | None = None, seed: int = 0
) -> RequestTrace:
    """Read a trace.

    Args:
        path: CSV or Parquet with columns ``arrived_at`` (seconds, epoch seconds or times), ``input_tokens`` and
            ``output_tokens`` (and the names that public traces use), or with a time and a count of requests per bin.
        lengths: for counts: a per-request trace that lengths are drawn from, or (input, output) tokens of all requests.
        limit: read so many requests and no more.
        seed: of what is drawn.

    Raises:
        InputError: the file cannot be read, is empty, has too many rows or times out of order, or a value is not
            finite, negative or too large; the text names the first line.
    """
    with Table(path) as table:
        time = next((name for name in ("arrived_at", *TIME_COLUMNS) if name in table.types), None)
        prompt = next((name for name in INPUT_COLUMNS if name in table.types), None)
        output = next((name for name in OUTPUT_COLUMNS if name in table.types), None)
        count = next((name for name in COUNT_COLUMNS if name in table.types), None)
        wanted = [name for name in (time, prompt, output) if name is not None]
        table.require(wanted or ["arrived_at", "input_tokens", "output_tokens"])
        if time is None:
            raise InputError(f"{table.name} has no column arrived_at; it has: {', '.join(table.types)}")
        if prompt is not None and output is not None:
            return _requests(table, time, prompt, output, limit)
        if count is None:
            missing = "input_tokens" if prompt is None else "output_tokens"
            raise InputError(f"{table.name} has no column {missing}; it has: {', '.join(table.types)}")
        columns = table.numpy(f"SELECT {_seconds(table, time)} AS t, {table.number(count)} AS n FROM source")
        _check(table, time, _floats(columns["t"]), least=0.0, most=np.inf, ordered=True)
        counts = _floats(columns["n"])
        _check(table, count, counts, least=0.0, most=MAX_REQUESTS)
        total = counts.sum()
        if total < 1 or (total if limit is None else min(total, limit)) > MAX_REQUESTS:
            raise InputError(
                f"{table.name} counts {total:,.0f} requests; 1 to {MAX_REQUESTS:,} are evaluated; of more, evaluate a "
                "part (--limit)"
            )
        end = float(columns["t"][-1])
    limit = limit if limit is not None and limit < total else None
    return _counts(path, (time, count), lengths, limit, seed, end)


def _seconds(table: Table, column: str) -> str:
    table.refuse_finer_times(column)
    return table.seconds(column)


def _requests(table: Table, time: str, prompt: str, output: str, limit: int | None) -> RequestTrace:
    scale = 1e-3 if time.endswith("_ms") and table.is_epoch(time) else 1.0
    seconds = table.seconds(time) if scale < 1.0 else _seconds(table, time)
    most = MAX_REQUESTS + 1 if limit is None else min(limit, MAX_REQUESTS)
    columns = table.numpy(
        f"SELECT {seconds} AS t, {table.number(prompt)} AS i, {table.number(output)} AS o FROM source LIMIT {most}"
    )
    times, inputs, outputs = (_floats(columns[name]) for name in "tio")
    if len(times) > MAX_REQUESTS:
        raise InputError(f"{table.name} has more than {MAX_REQUESTS:,} rows; evaluate a part of it (--limit)")
    _check(table, time, times, least=0.0, most=np.inf, ordered=True)
    for name, values in ((prompt, inputs), (output, outputs)):
        _check(table, name, values, least=0.0, most=_MAX_TOKENS)
    times = times * scale
    _check_span(table.name, times)
    # A request without a prompt or an answer still costs a step: the engine works on one token at least.
    requests = Requests.of(times, np.maximum(inputs, 1), np.maximum(outputs, 1))
    return RequestTrace(table.name, requests, float(times[-1]))


def _counts(
    path: Path,
    columns: tuple[str, str],
    lengths: Path | tuple[int, int] | None,
    limit: int | None,
    seed: int,
    last_bin: float,
) -> RequestTrace:
    """Requests of counts; ``columns`` are those of the times and the counts, ``last_bin`` is the last time."""
    if lengths is None:
        raise InputError(
            f"{path.name} holds counts: name a per-request trace to draw token lengths from (--lengths FILE), or the "
            "tokens of every request (--lengths 4000/1000)"
        )
    drawn_from = (np.array([lengths[0]]), np.array([lengths[1]])) if isinstance(lengths, tuple) else lengths
    trace = Trace.open(path, lengths=drawn_from, time_column=columns[0], count_column=columns[1])
    parts, total = [], 0
    for part in trace.arrivals(seed):
        parts.append(part)
        total += len(part[0])
        if limit is not None and total >= limit:
            break
    times, inputs, outputs = (np.concatenate(column)[:limit] for column in zip(*parts, strict=True))
    assert trace.bin_seconds is not None
    if limit is None:
        last_bin *= trace.time_unit_seconds
    else:  # the bin of the last request that is taken
        bins = math.floor((float(times[-1]) - trace.first_at) / trace.bin_seconds)
        last_bin = trace.first_at + bins * trace.bin_seconds
    end = max(last_bin + trace.bin_seconds, float(times[-1]))
    _check_span(path.name, np.array([times[0], end]))
    requests = Requests.of(times, np.maximum(inputs, 1), np.maximum(outputs, 1))
    return RequestTrace(path.name, requests, end, drawn=True)


def _check_span(name: str, times: Floats) -> None:
    days = (times[-1] - times[0]) / 86_400
    if days * 86_400 > _MAX_SECONDS:
        raise InputError(
            f"{name} spans {days:,.0f} days, more than the {_MAX_SECONDS / 86_400:g} that are evaluated; are its times "
            "in seconds?"
        )


def _floats(column: NDArray[np.generic]) -> Floats:
    if isinstance(column, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(column.astype(np.float64), np.nan))
    return column.astype(np.float64)


def _check(
    table: Table,
    column: str,
    values: Floats,
    *,
    least: float,
    most: float,
    ordered: bool = False,
) -> None:
    """Refuse the first value that cannot be, with its line."""
    bad = ~((values >= least) & (values <= most) & np.isfinite(values))
    found = np.flatnonzero(bad)
    if found.size:
        raise InputError(
            f"{_line(table, int(found[0]))}: {column} is {_cell(table, column, int(found[0]))}{_hint(most)}"
        )
    if ordered:
        back = np.flatnonzero(np.diff(values) < 0)
        if back.size:
            row = int(back[0]) + 1
            raise InputError(
                f"{_line(table, row)}: {column} {_cell(table, column, row)} is before that of the line above it; sort "
                "the trace by its times"
            )


def _hint(most: float) -> str:
    if most == np.inf:
        return ", which is not a time of at least 0"
    return f", which is not a number between 0 and {most:,.0f}"


def _line(table: Table, row: int) -> str:
    """Name a row (from 0): the line of a text file, whose header is line 1; the row of a Parquet file."""
    if table.name.lower().endswith(".parquet"):
        return f"{table.name}, row {row + 1}"
    return f"{table.name}, line {row + 2}"


def _cell(table: Table, column: str, row: int) -> str:
    found = table.one(f"SELECT {quoted(column)}::VARCHAR FROM source LIMIT 1 OFFSET {row}")
    return "empty" if found is None or found[0] is None else repr(str(found[0])[:60])
