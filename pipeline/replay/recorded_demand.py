"""Demand from what Tokentide itself recorded: the closed windows of a store."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np

from pipeline.errors import InputError, StoreError
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.types import Signal
from pipeline.replay.grid import DemandSeries
from pipeline.store.migrations import connect_read_only
from pipeline.store.steps import closed_since

__all__ = ["read_store"]

_MEMORY_LIMIT = "2GB"
#: A window that is rolled up from less than this share of its recorded windows is a gap.
_LEAST_SHARE = 0.9


def read_store(
    path: Path,
    *,
    step_seconds: int,
    signal: Signal = Signal.REQUESTS,
    model: str | None = None,
    pool: str | None = None,
    start: float | None = None,
    end: float | None = None,
) -> list[DemandSeries]:
    """Read the closed windows of a store into one series per pool (``model/pool``), ordered by name.

    Values are sums over a window, corrected for incomplete windows as the live forecasters see them; telemetry gaps
    are gaps.

    Args:
        path: a store that no controller has open.
        step_seconds: width of a window, a multiple of the store's own.
        signal: which demand.
        model: only this model.
        pool: only this pool.
        start: only windows that begin at or after this time, epoch seconds.
        end: only windows that end at or before this time, epoch seconds.

    Raises:
        InputError: there is no such file, it is no store, the step does not fit, or it has no window asked for.
        StoreError: the file cannot be read, is in use (``StoreLocked``) or of another version.
    """
    rates: dict[tuple[str, str], dict[int, tuple[float, int]]] = {}
    known: set[str] = set()
    connection = connect_read_only(path, _MEMORY_LIMIT)
    try:
        for step in closed_since(connection.cursor(), -1):
            for window in step.windows:
                known.add(f"{window.model}/{window.pool}")
                if model not in (None, window.model) or pool not in (None, window.pool):
                    continue
                if (start is not None and window.start < start) or (end is not None and window.end > end):
                    continue
                if step_seconds % window.grain_seconds:
                    raise InputError(
                        f"{path.name}: --step {step_seconds}s is not a multiple of the store's windows of "
                        f"{window.grain_seconds} s"
                    )
                rate = signal_rates(window)[signal.value]
                place = rates.setdefault((window.model, window.pool), {})
                place[window.start] = (np.nan if rate is None else rate, window.grain_seconds)
    except duckdb.Error as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    finally:
        connection.close()
    series = [
        found
        for (name, own), windows in sorted(rates.items())
        if (found := _rolled_up(f"{name}/{own}", windows, step_seconds)) is not None
    ]
    if not series:
        pools = ", ".join(sorted(known)[:10])
        raise InputError(f"{path.name} has no closed window of that{f'; its pools: {pools}' if pools else ''}")
    return series


def _rolled_up(name: str, windows: dict[int, tuple[float, int]], step: int) -> DemandSeries | None:
    """Return one pool's windows at a coarser step; None where every window is a gap."""
    first, last = min(windows) // step, max(windows) // step
    sums, seconds = np.zeros(last - first + 1), np.zeros(last - first + 1)
    for start, (rate, grain) in windows.items():
        if not np.isnan(rate):
            sums[start // step - first] += rate * grain
            seconds[start // step - first] += grain
    covered = seconds >= _LEAST_SHARE * step
    values = np.where(covered, sums * step / np.where(covered, seconds, 1.0), np.nan)
    inside = np.flatnonzero(covered)
    if not len(inside):
        return None
    begin = int(inside[0])
    return DemandSeries(name, float((first + begin) * step), step, values[begin : int(inside[-1]) + 1], len(windows))
