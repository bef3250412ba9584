"""Folds event columns into partial window rows and sparse histograms: integers only, so any order adds up the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.events.columns import EventColumns
from pipeline.events.model import STATUSES
from pipeline.windows import histogram
from pipeline.windows.model import BASE_SECONDS, HISTOGRAMS, MEASURES, DeltaRows, HistogramRows, WindowKey

__all__ = ["empty_histograms", "empty_rows", "fold", "measure_matrix", "take_rows"]

Ints = NDArray[np.int64]

_OK = STATUSES.index("ok")
_BUCKET_BITS = 16
_BUCKET_SPAN = 1 << _BUCKET_BITS


def fold(columns: EventColumns) -> tuple[list[WindowKey], DeltaRows, HistogramRows]:
    """Fold accepted events into rows per (base window of the arrival, key), ascending in window.

    Returns the keys in use, the rows, and the histograms of those rows. Each histogram takes the events that know the
    value; ``output_tokens`` takes those served to the end only, since the others' lengths were cut short.
    """
    if not len(columns):
        return [], empty_rows(), empty_histograms()
    used, key = _groups(columns.key)
    keys = [WindowKey(*columns.keys[i]) for i in used.tolist()]
    window = np.floor(columns.arrived_at / BASE_SECONDS).astype(np.int64)
    origin = int(window.min())
    cell, row = _groups((window - origin) * len(keys) + key)
    # NumPy sorts 16-bit integers in linear time.
    order = np.argsort(row.astype(np.uint16) if len(cell) <= 1 << 16 else row, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(row))[:-1]))
    sums = np.add.reduceat(measure_matrix(columns)[:, order], starts, axis=1)
    completed_ms = np.rint(columns.completed_at * 1000.0).astype(np.int64)
    rows = DeltaRows(
        window=((cell // len(keys) + origin) * BASE_SECONDS).tolist(),
        key=(cell % len(keys)).tolist(),
        measures=sums.tolist(),
        max_completed_ms=np.maximum.reduceat(completed_ms[order], starts).tolist(),
    )
    return keys, rows, _histograms(columns, row)


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


def take_rows(rows: DeltaRows, histograms: HistogramRows, wanted: Sequence[int]) -> tuple[DeltaRows, HistogramRows]:
    """Return the rows at the positions ``wanted`` and their histograms."""
    if len(wanted) == len(rows.window):
        return rows, histograms
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


def measure_matrix(columns: EventColumns) -> Ints:
    """Return every event's contribution to ``MEASURES``: shape (len(MEASURES), events), int64.

    Contributions are capped so that a whole batch adds up inside 64 bits; the cap (2⁶² over the number of events) lies
    far above anything but nonsense.
    """
    n = len(columns)
    e2e_ms = np.rint(columns.e2e * 1000.0).astype(np.int64)
    queue_ms = np.rint(np.nan_to_num(columns.queue) * 1000.0).astype(np.int64)
    tokens_in, tokens_out = columns.input_tokens, columns.output_tokens
    columns_of = {
        "requests": np.ones(n, np.int64),
        **{name: (columns.status == code).astype(np.int64) for code, name in enumerate(STATUSES)},
        "input_tokens": tokens_in,
        "cached_input_tokens": np.maximum(columns.cached_input_tokens, 0),
        "cached_known": (columns.cached_input_tokens >= 0).astype(np.int64),
        "output_tokens": tokens_out,
        "reasoning_output_tokens": np.maximum(columns.reasoning_output_tokens, 0),
        "input_tokens_squared": tokens_in * tokens_in,
        "output_tokens_squared": tokens_out * tokens_out,
        "input_output_product": tokens_in * tokens_out,
        "kv_token_milliseconds": (2 * tokens_in + tokens_out) * np.maximum(e2e_ms - queue_ms, 0) // 2,
        "inflight_milliseconds": e2e_ms,
        "preemptions": np.maximum(columns.preemptions, 0),
    }
    matrix: Ints = np.stack([columns_of[name] for name in MEASURES])
    return np.minimum(matrix, (1 << 62) // max(n, 1))


def _histograms(columns: EventColumns, row: Ints) -> HistogramRows:
    """Count (row, metric, bucket) cells; ``row`` is the window row of each event."""
    known_values = {
        "input_tokens": (columns.input_tokens, None),
        "output_tokens": (columns.output_tokens, columns.status == _OK),
        "ttft_seconds": (columns.ttft, ~np.isnan(columns.ttft)),
        "tpot_seconds": (columns.tpot, ~np.isnan(columns.tpot)),
        "queue_seconds": (columns.queue, ~np.isnan(columns.queue)),
        "e2e_seconds": (columns.e2e, None),
    }
    values: list[NDArray[np.float64]] = []
    at: list[Ints] = []
    for metric, name in enumerate(HISTOGRAMS):
        x, known = known_values[name]
        where = row * len(HISTOGRAMS) + metric
        if known is not None and not known.all():
            x, where = x[known], where[known]
        values.append(x.astype(np.float64, copy=False))
        at.append(where)
    code = np.concatenate(at) * _BUCKET_SPAN
    code += histogram.bucket(np.concatenate(values))
    code -= histogram.ZERO_BUCKET
    if (int(row.max()) + 1) * len(HISTOGRAMS) * _BUCKET_SPAN < 1 << 31:
        code = code.astype(np.int32)  # sorts twice as fast
    code.sort()
    starts = np.flatnonzero(np.concatenate(([True], code[1:] != code[:-1])))
    cell = code[starts]
    place, bucket = cell >> _BUCKET_BITS, (cell & (_BUCKET_SPAN - 1)) + histogram.ZERO_BUCKET
    return HistogramRows(
        row=(place // len(HISTOGRAMS)).tolist(),
        metric=(place % len(HISTOGRAMS)).tolist(),
        bucket=bucket.tolist(),
        n=np.diff(starts, append=len(code)).tolist(),
    )
