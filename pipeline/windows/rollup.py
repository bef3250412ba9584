"""Base rows to the windows that forecasts are made on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.windows.model import BASE_SECONDS, MEASURES, ClosedWindow, DeltaRows, WindowKey

__all__ = ["CLOSED_MEASURES", "closed_window", "rollup"]

#: The measures that a closed window carries, in the order of its fields.
CLOSED_MEASURES = (
    "requests",
    "ok",
    "rejected",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "input_tokens_squared",
    "output_tokens_squared",
    "input_output_product",
    "kv_token_milliseconds",
    "inflight_milliseconds",
    "preemptions",
)
_COLUMNS = tuple(MEASURES.index(name) for name in CLOSED_MEASURES)


def closed_window(start: int, grain_seconds: int, model: str, pool: str, sums: Sequence[int]) -> ClosedWindow:
    """Return a closed window from its sums in the order of ``CLOSED_MEASURES``."""
    named = dict(zip(CLOSED_MEASURES, map(int, sums), strict=True))
    return ClosedWindow(start=start, grain_seconds=grain_seconds, model=model, pool=pool, **named)  # type: ignore[arg-type]


def rollup(parts: Iterable[tuple[Sequence[WindowKey], DeltaRows]], grain_seconds: int) -> list[ClosedWindow]:
    """Add base rows up to one window per (start, model, pool), dimensions summed, sorted in that order.

    ``grain_seconds`` is a multiple of ``BASE_SECONDS``; windows are aligned to the epoch.

    Raises:
        ValueError: the grain is no multiple of the base window.
    """
    if grain_seconds <= 0 or grain_seconds % BASE_SECONDS:
        raise ValueError(f"grain_seconds must be a multiple of {BASE_SECONDS}, not {grain_seconds}")
    sums: dict[tuple[int, str, str], list[int]] = {}
    for keys, rows in parts:
        picked = [rows.measures[i] for i in _COLUMNS]
        for window, key, *values in zip(rows.window, rows.key, *picked, strict=True):
            model, pool, _ = keys[key]
            cell = (window - window % grain_seconds, model, pool)
            total = sums.get(cell)
            sums[cell] = values if total is None else [a + b for a, b in zip(total, values, strict=True)]
    return [
        closed_window(start, grain_seconds, model, pool, sums[start, model, pool])
        for start, model, pool in sorted(sums)
    ]
