"""Folds event columns into partial window rows and sparse histograms: integers only, so any order adds up the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.events.columns import EventColumns
from pipeline.events.request_event import STATUSES
from pipeline.windows import histogram
from pipeline.windows.servers import SERVERS, server_buckets
from pipeline.windows.service import SERVICE, Objectives, outcomes
from pipeline.windows.types import (
    BASE_SECONDS,
    HISTOGRAMS,
    MEASURES,
    DeltaRows,
    HistogramColumns,
    HistogramRows,
    Histograms,
    WindowKey,
)

__all__ = ["empty_histograms", "empty_rows", "fold", "fold_to_columns", "take_rows"]

Ints = NDArray[np.int64]

_OK = STATUSES.index("ok")
_BUCKET_BITS = 16
_BUCKET_SPAN = 1 << _BUCKET_BITS


def fold(
    columns: EventColumns, objectives: Objectives | None = None
) -> tuple[list[WindowKey], DeltaRows, HistogramRows]:
    """Fold accepted events into rows per (base window of the arrival, key), ascending in window.

    Returns the keys in use, the rows, and the histograms of those rows. Each histogram takes the events that know the
    value; ``output_tokens``, ``ttft_seconds`` and ``tpot_seconds`` take those served to the end only: the others were
    cut short, or waited until they were given up. ``objectives`` are the latencies that pools owe.
    """
    keys, rows, histograms = fold_to_columns(columns, objectives)
    return keys, rows, histograms.to_rows()


def fold_to_columns(
    columns: EventColumns, objectives: Objectives | None = None
) -> tuple[list[WindowKey], DeltaRows, HistogramColumns]:
    """Fold as ``fold`` does, with the histograms as arrays."""
    if not len(columns):
        return [], empty_rows(), HistogramColumns(*np.zeros((4, 0), np.int32))
    used, key = _groups(columns.key)
    keys = [WindowKey(*columns.keys[i]) for i in used.tolist()]
    window = np.floor(columns.arrived_at / BASE_SECONDS).astype(np.int64)
    origin = int(window.min())
    cell, row = _groups((window - origin) * len(keys) + key)
    # NumPy sorts 16-bit integers in linear time.
    order = np.argsort(row.astype(np.uint16) if len(cell) <= 1 << 16 else row, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(row))[:-1]))
    completed_ms = np.rint(columns.completed_at * 1000.0).astype(np.int64)
    rows = DeltaRows(
        window=((cell // len(keys) + origin) * BASE_SECONDS).tolist(),
        key=(cell % len(keys)).tolist(),
        measures=_measures(columns, order, starts).tolist(),
        max_completed_ms=np.maximum.reduceat(completed_ms[order], starts).tolist(),
    )
    return keys, rows, _histograms(columns, row, objectives or {})


def _groups(codes: Ints) -> tuple[Ints, Ints]:
    """Return the distinct codes (not negative), ascending, and the place of each element among them."""
    if int(codes.max()) > 8 * len(codes) + 1_024:
        found, place = np.unique(codes, return_inverse=True)
        return found, place
    present = np.bincount(codes) > 0
    place = np.cumsum(present) - 1
    return np.flatnonzero(present), place[codes]


def empty_rows() -> DeltaRows:
    """Return no rows."""
    return DeltaRows(window=[], key=[], measures=[[] for _ in MEASURES], max_completed_ms=[])


def empty_histograms() -> HistogramRows:
    """Return no histogram counts."""
    return HistogramRows(row=[], metric=[], bucket=[], n=[])


def take_rows(rows: DeltaRows, histograms: Histograms, wanted: Sequence[int]) -> tuple[DeltaRows, Histograms]:
    """Return the rows at the positions ``wanted`` and their histograms."""
    if len(wanted) == len(rows.window):
        return rows, histograms
    if isinstance(histograms, HistogramColumns):
        histograms = histograms.to_rows()
    new_row = {old: new for new, old in enumerate(wanted)}
    cells = [i for i, row in enumerate(histograms.row) if row in new_row]
    return (
        DeltaRows(
            window=[rows.window[i] for i in wanted],
            key=[rows.key[i] for i in wanted],
            measures=[[column[i] for i in wanted] for column in rows.measures],
            max_completed_ms=[rows.max_completed_ms[i] for i in wanted],
        ),
        HistogramRows(
            row=[new_row[histograms.row[i]] for i in cells],
            metric=[histograms.metric[i] for i in cells],
            bucket=[histograms.bucket[i] for i in cells],
            n=[histograms.n[i] for i in cells],
        ),
    )


def _measures(columns: EventColumns, order: Ints, starts: Ints) -> Ints:
    """Return the sums of ``MEASURES`` over groups of events: shape (len(MEASURES), groups), int64.

    Group i is ``order[starts[i]:starts[i + 1]]``. Unknown token counts add nothing to the sums. Contributions are
    capped so that a whole batch adds up inside 64 bits; the cap (2⁶² over the number of events) lies far above anything
    but nonsense.
    """
    n = len(columns)
    e2e_ms = np.rint(columns.e2e * 1000.0).astype(np.int64)
    queue_ms = np.rint(np.nan_to_num(columns.queue) * 1000.0).astype(np.int64)
    tokens_in, tokens_out = np.maximum(columns.input_tokens, 0), np.maximum(columns.output_tokens, 0)
    contributions: dict[str, NDArray[Any]] = {
        "requests": np.ones(n, np.bool_),
        **{name: columns.status == code for code, name in enumerate(STATUSES)},
        "input_tokens": tokens_in,
        "cached_input_tokens": np.maximum(columns.cached_input_tokens, 0),
        "cached_known": columns.cached_input_tokens >= 0,
        "output_tokens": tokens_out,
        "reasoning_output_tokens": np.maximum(columns.reasoning_output_tokens, 0),
        "input_tokens_squared": tokens_in * tokens_in,
        "output_tokens_squared": tokens_out * tokens_out,
        "input_output_product": tokens_in * tokens_out,
        "kv_token_milliseconds": (2 * tokens_in + tokens_out) * np.maximum(e2e_ms - queue_ms, 0) // 2,
        "inflight_milliseconds": e2e_ms,
        "preemptions": np.maximum(columns.preemptions, 0),
        "input_tokens_unknown": columns.input_tokens < 0,
        "output_tokens_unknown": columns.output_tokens < 0,
    }
    cap = (1 << 62) // max(n, 1)
    events = np.diff(starts, append=n)
    sums = np.zeros((len(MEASURES), len(starts)), np.int64)
    for measure, name in enumerate(MEASURES):
        values = contributions[name]
        if values.dtype == np.bool_ and values.all():
            sums[measure] = events
        elif values.any():  # most batches have no unknown counts, no preemptions and one or two statuses
            sums[measure] = np.add.reduceat(np.minimum(values, cap)[order], starts, dtype=np.int64)
    return sums


def _histograms(columns: EventColumns, row: Ints, objectives: Objectives) -> HistogramColumns:
    """Count (row, metric, bucket) cells; ``row`` is the window row of each event."""
    served = columns.status == _OK
    outcome = outcomes(columns, objectives)
    known_values = {
        "input_tokens": (columns.input_tokens, columns.input_tokens >= 0),
        "output_tokens": (columns.output_tokens, served & (columns.output_tokens >= 0)),
        "ttft_seconds": (columns.ttft, served & ~np.isnan(columns.ttft)),
        "tpot_seconds": (columns.tpot, served & ~np.isnan(columns.tpot)),
        "queue_seconds": (columns.queue, ~np.isnan(columns.queue)),
        "e2e_seconds": (columns.e2e, None),
        SERVERS: (server_buckets(columns.server), columns.server >= 0),
        SERVICE: (outcome, outcome >= 0),
    }
    values: list[NDArray[np.float64]] = []
    buckets: list[Ints] = []  # of those that have no values, which come last
    at: list[Ints] = []
    for metric, name in enumerate(HISTOGRAMS):
        x, known = known_values[name]
        where = row * len(HISTOGRAMS) + metric
        if known is not None and not known.all():
            x, where = x[known], where[known]
        at.append(where)
        if name in (SERVERS, SERVICE):
            buckets.append(x.astype(np.int64, copy=False))
        else:
            values.append(x.astype(np.float64, copy=False))
    code = np.concatenate(at) * _BUCKET_SPAN
    code += np.concatenate((histogram.bucket(np.concatenate(values)), *buckets))
    code -= histogram.ZERO_BUCKET
    if (int(row.max()) + 1) * len(HISTOGRAMS) * _BUCKET_SPAN < 1 << 31:
        code = code.astype(np.int32)  # sorts twice as fast
    code.sort()
    starts = np.flatnonzero(np.concatenate(([True], code[1:] != code[:-1])))
    cell = code[starts]
    place, bucket = cell >> _BUCKET_BITS, (cell & (_BUCKET_SPAN - 1)) + histogram.ZERO_BUCKET
    return HistogramColumns(
        row=(place // len(HISTOGRAMS)).astype(np.int32),
        metric=(place % len(HISTOGRAMS)).astype(np.int32),
        bucket=bucket.astype(np.int32),
        n=np.diff(starts, append=len(code)).astype(np.int32),
    )
