"""Rows laid out as regular series: summed, averaged or differenced per window."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.replay.table import Table

__all__ = ["DemandSeries", "Grid"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: More windows than this per series is a wrong time column or grain, not demand (19 years of minutes).
MAX_WINDOWS = 10_000_000
#: More series than this is a wrong group column.
MAX_SERIES = 10_000
#: A count window that holds less than this share of its instants is a gap: its sum would be too low.
_LEAST_SHARE = 0.9
#: More count windows than this share that are such gaps are worth a notice.
_NOTABLE_SHARE = 0.01
#: Samples of a gauge or counter that lie further apart than this many usual distances leave a hole between them …
_HOLE_STEPS = 1.5
#: … unless it is shorter than this share of a window.
_HOLE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class DemandSeries:
    """One regular series: ``values[i]`` belongs to [start + i·step, start + (i + 1)·step); NaN is a gap.

    Values are sums over a window (counts, events, increases of a counter) or means (gauges). ``start`` is epoch seconds
    (a whole multiple of ``step_seconds``) and ``rows`` counts the rows that were read.
    """

    name: str
    start: float
    step_seconds: int
    values: NDArray[np.float64]
    rows: int

    def ends(self) -> NDArray[np.float64]:
        """Return the end of every window, epoch seconds."""
        return self.start + self.step_seconds * np.arange(1, len(self.values) + 1, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table and the windows that its rows are laid into.

    ``seconds`` and ``group`` are SQL for a row's time and group. Every method raises ``InputError`` where there are too
    many groups or windows, or none that is covered.
    """

    table: Table
    seconds: str
    group: str
    step: int
    zeros_are_gaps: bool
    notice: Callable[[str], None]

    def sums(self, value: str, native_step: float | None) -> list[DemandSeries]:
        """Sum rows by group and window: counts with the table's own step, or events (None)."""
        is_counts = value != "1.0"
        # Distinct instants tell how much of a count window is covered; for requests they would only cost memory.
        instants_of = f"count(DISTINCT {self.seconds}) FILTER (WHERE {value} IS NOT NULL)" if is_counts else "count(*)"
        found = self.table.numpy(
            f"""SELECT {self.group} AS g, floor({self.seconds} / {self.step})::BIGINT AS w,
                       coalesce(sum({value})::DOUBLE, 'nan'::DOUBLE) AS v, count(*) AS n, {instants_of} AS k
                FROM source GROUP BY g, w ORDER BY g, w"""
        )
        windows, values, rows, instants = (np.asarray(found[c]) for c in ("w", "v", "n", "k"))
        if np.isinf(values.astype(np.float64)).any():
            raise InputError(f"{self.table.name}: the values of one window add up to more than a number can hold")
        # All series of a request table span the table: silence before a group's first request is silence, too.
        whole = (int(windows.min()), int(windows.max()))
        full_rows = max(round(self.step / native_step), 1) if native_step else None
        series: list[DemandSeries] = []
        short, laid_out = 0, 0
        for name, low, high in self._groups(np.asarray(found["g"], dtype=object)):
            w, v = windows[low:high], values[low:high].astype(np.float64)
            first, last = (int(w[0]), int(w[-1])) if is_counts else whole
            laid = self._empty(first, last, np.nan if is_counts else 0.0)
            laid[w - first] = v
            if full_rows is not None and full_rows > 1:
                bad = instants[low:high] < _LEAST_SHARE * full_rows
                laid[(w - first)[bad]] = np.nan
                short += int(bad[1:-1].sum())
            laid_out += len(laid)
            self._append(series, name, first, laid, int(rows[low:high].sum()), is_counts)
        if short > _NOTABLE_SHARE * laid_out:
            self.notice(
                f"{self.table.name}: {short} of {laid_out} windows hold fewer than 90 % of the rows that belong "
                "into them and are gaps; if the rows are samples of a rate or a level, read them with --kind gauge"
            )
        return self._some(series)

    def means(self, value: str, native_step: float | None) -> list[DemandSeries]:
        """Average the samples of a gauge by group and window; samples of one instant add up first.

        A window between two samples without one of its own (scrapes are jittered) takes the sample before it.
        """
        found = self.table.numpy(
            f"""SELECT g, floor(t / {self.step})::BIGINT AS w, avg(v) AS v, arg_max(v, t) AS newest, min(t) AS a,
                       max(t) AS b, sum(n) AS n
                FROM (SELECT {self.group} AS g, {self.seconds} AS t, sum({value})::DOUBLE AS v, count(*) AS n
                      FROM source WHERE {value} IS NOT NULL GROUP BY ALL)
                GROUP BY g, w ORDER BY g, w"""
        )
        windows = np.asarray(found["w"])
        values, newest, begins, ends = (np.asarray(found[c], dtype=np.float64) for c in ("v", "newest", "a", "b"))
        hole = self._hole(native_step)
        series: list[DemandSeries] = []
        for name, low, high in self._groups(np.asarray(found["g"], dtype=object)):
            w = windows[low:high]
            first = int(w[0])
            laid = self._empty(first, int(w[-1]), np.nan)
            laid[w - first] = values[low:high]
            for i in np.flatnonzero((np.diff(w) > 1) & (begins[low + 1 : high] - ends[low : high - 1] <= hole)):
                laid[w[i] + 1 - first : w[i + 1] - first] = newest[low + i]
            self._append(series, name, first, laid, int(np.asarray(found["n"])[low:high].sum()), True)
        return self._some(series)

    def increases(self, value: str, native_step: float | None, identity: str) -> list[DemandSeries]:
        """Difference counters by ``identity`` (SQL) and sum the increases by group and window.

        A value below the one before it is a restart from zero. Between two samples the counter is taken to rise evenly;
        a window that a hole between samples reaches into is a gap.
        """
        found = self.table.numpy(
            f"""SELECT {self.group} AS g, {identity} AS i, {self.seconds} AS t, max({value})::DOUBLE AS v
                FROM source WHERE {value} IS NOT NULL GROUP BY ALL ORDER BY g, i, t"""
        )
        groups, identities = (np.asarray(found[c], dtype=object) for c in ("g", "i"))
        times, totals = (np.asarray(found[c], dtype=np.float64) for c in ("t", "v"))
        hole = self._hole(native_step)
        series: list[DemandSeries] = []
        for name, low, high in self._groups(groups):
            parts = []
            for _, start, end in self._groups(identities[low:high]):
                parts.append(self._increase(times[low + start : low + end], totals[low + start : low + end], hole))
            known = [(first, laid) for first, laid in parts if len(laid)]
            if not known:
                continue
            begin, end = min(f for f, _ in known), max(f + len(laid) for f, laid in known)
            whole = self._empty(begin, end - 1, 0.0)
            missing = np.ones(len(whole), dtype=bool)
            for first, laid in known:
                place = slice(first - begin, first - begin + len(laid))
                whole[place] += np.nan_to_num(laid)
                missing[place] &= np.isnan(laid)
            whole[missing] = np.nan
            self._append(series, name, begin, whole, high - low, True)
        return self._some(series)

    def _increase(self, times: Floats, totals: Floats, hole: float) -> tuple[int, Floats]:
        """Return the first whole window of one counter, and its increases."""
        first, last = math.ceil(times[0] / self.step), math.floor(times[-1] / self.step)
        if last <= first:
            return first, np.array([])
        self._empty(first, last, 0.0)  # refuses what is too long
        rises = np.diff(totals)
        rises = np.where(rises < 0, totals[1:], rises)
        edges = np.arange(first, last + 1, dtype=np.float64) * self.step
        increases = np.diff(np.interp(edges, times, np.concatenate([[0.0], np.cumsum(rises)])))
        for k in np.flatnonzero(np.diff(times) > hole):
            low, high = times[k] / self.step - first, times[k + 1] / self.step - first
            increases[max(math.floor(low), 0) : max(math.ceil(high), 0)] = np.nan
        return first, increases

    def _hole(self, native_step: float | None) -> float:
        return max(_HOLE_STEPS * (native_step or 0.0), _HOLE_SHARE * self.step)

    def _groups(self, groups: NDArray[np.object_]) -> Iterator[tuple[str, int, int]]:
        """Yield name, first and end of each run of equal names."""
        cuts = np.flatnonzero(groups[1:] != groups[:-1]) + 1
        bounds = [0, *cuts.tolist(), len(groups)] if len(groups) else []
        if len(bounds) - 1 > MAX_SERIES:
            raise InputError(f"{self.table.name}: {len(bounds) - 1} groups, more than {MAX_SERIES}: a wrong column?")
        for low, high in itertools.pairwise(bounds):
            yield str(groups[low]), low, high

    def _empty(self, first: int, last: int, fill: float) -> Floats:
        if last - first >= MAX_WINDOWS:
            raise InputError(
                f"{self.table.name}: {last - first + 1} windows of {self.step} s between the first time and the "
                f"last: a wrong time in the file?"
            )
        return np.full(last - first + 1, fill)

    def _append(
        self, series: list[DemandSeries], name: str, first: int, laid: Floats, rows: int, can_be_gaps: bool
    ) -> None:
        if can_be_gaps and self.zeros_are_gaps:
            laid[laid == 0.0] = np.nan
        known = np.flatnonzero(~np.isnan(laid))
        if len(known):
            values, start = laid[known[0] : known[-1] + 1], float((first + int(known[0])) * self.step)
            series.append(DemandSeries(name, start, self.step, values, rows))

    def _some(self, series: list[DemandSeries]) -> list[DemandSeries]:
        if not series:
            raise InputError(f"{self.table.name}: no window of {self.step} s is covered by rows")
        return series
