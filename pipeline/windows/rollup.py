"""Base rows to the windows that forecasts are made on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipeline.windows.breakdown import PART_MEASURES, breakdown, value_of
from pipeline.windows.types import BASE_SECONDS, MEASURES, ClosedWindow, DeltaRows, WindowKey

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
    "input_tokens_unknown",
    "output_tokens_unknown",
)
_COLUMNS = tuple(MEASURES.index(name) for name in CLOSED_MEASURES)
_PART_COLUMNS = tuple(CLOSED_MEASURES.index(name) for name in PART_MEASURES)


def closed_window(start: int, grain_seconds: int, model: str, pool: str, sums: Sequence[int]) -> ClosedWindow:
    """Return a closed window from its sums in the order of ``CLOSED_MEASURES``."""
    named = dict(zip(CLOSED_MEASURES, map(int, sums), strict=True))
    return ClosedWindow(start=start, grain_seconds=grain_seconds, model=model, pool=pool, **named)  # type: ignore[arg-type]


def rollup(
    parts: Iterable[tuple[Sequence[WindowKey], DeltaRows]], grain_seconds: int, dimensions: Sequence[str] = ()
) -> list[ClosedWindow]:
    """Add base rows up to one window per (start, model, pool), sorted in that order.

    ``grain_seconds`` is a multiple of ``BASE_SECONDS``; windows are aligned to the epoch. Dimensions are summed; those
    that are named are told in the windows' breakdowns.

    Raises:
        ValueError: the grain is no multiple of the base window.
    """
    if grain_seconds <= 0 or grain_seconds % BASE_SECONDS:
        raise ValueError(f"grain_seconds must be a multiple of {BASE_SECONDS}, not {grain_seconds}")
    cells: dict[tuple[int, str, str], dict[str, list[int]]] = {}
    for keys, rows in parts:
        picked = [rows.measures[i] for i in _COLUMNS]
        for window, key, *values in zip(rows.window, rows.key, *picked, strict=True):
            model, pool, dims = keys[key]
            sums = cells.setdefault((window - window % grain_seconds, model, pool), {})
            known = dims if dimensions else ""
            sums[known] = _added(sums[known], values) if known in sums else values
    return [_window(*cell, grain_seconds, cells[cell], dimensions) for cell in sorted(cells)]


def _window(
    start: int, model: str, pool: str, grain_seconds: int, by_dims: dict[str, list[int]], dimensions: Sequence[str]
) -> ClosedWindow:
    total = [0] * len(CLOSED_MEASURES)
    for values in by_dims.values():
        total = _added(total, values)
    window = closed_window(start, grain_seconds, model, pool, total)
    found = []
    for dimension in dimensions:
        by_value: dict[str, list[int]] = {}
        for dims, values in by_dims.items():
            value, own = value_of(dims, dimension), [values[i] for i in _PART_COLUMNS]
            by_value[value] = _added(by_value[value], own) if value in by_value else own
        by_value.pop("", None)
        found.append(breakdown(dimension, by_value, window))
    return replace(window, breakdown=tuple(found))


def _added(one: list[int], other: list[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]
