"""What a query comes to: its series, each with a value (NaN: none) at every time of a grid.

As in Prometheus, the newest sample before a time is the value at that time, no longer than the lookback: five minutes,
or a window where that is shorter, so that nothing is drawn beyond what is known. A query at one time draws nothing:
there a window holds for the whole lookback, unless the next one is known to be a gap, so that the present has a value
while the newest window is open. A forecast path holds from its first target time to its last one, in between as a
straight line.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.outlook import Grain
from pipeline.publish.prometheus.errors import too_much
from pipeline.publish.prometheus.promql import Aggregation, Arithmetic, Node, Number, Selector
from pipeline.publish.prometheus.series import BANDS, LATEST, Series, label_sets
from pipeline.publish.reader import Reader
from pipeline.publish.state import LiveState
from pipeline.store.series import Grid
from pipeline.windows.types import PoolKey

__all__ = ["MAX_SAMPLES", "Vector", "evaluate", "horizons_seconds", "known_pools"]

MAX_SAMPLES = 250_000  # values in one answer, over all series

Floats = NDArray[np.float64]
#: A series: its labels, and its values on the grid.
Values = tuple[dict[str, str], Floats]
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Vector:
    """Series by their labels, with their values on the grid; a scalar has no series, but ``number``."""

    series: list[Values]
    number: float | None = None


def known_pools(live: LiveState, reader: Reader) -> list[PoolKey]:
    """Return the pools that are known now or have been seen before, sorted."""
    return sorted({*live.keys(), *(PoolKey(*key) for key in reader.pools())})


def horizons_seconds(live: LiveState) -> list[int]:
    """Return the horizons at which pools are forecast, by the first pool that is."""
    for key in sorted(live.keys()):
        for view in live.views([key]):
            if view.forecasts:
                return sorted({forecast.horizon_seconds for forecast in view.forecasts})
    return []


def evaluate(node: Node, grid: Grid, live: LiveState, reader: Reader) -> Vector:
    """Return the value of a query on a grid.

    Raises:
        QueryError: it selects too much, or a matcher cannot be read.
    """
    if isinstance(node, Number):
        return Vector([], node.value)
    if isinstance(node, Selector):
        return Vector(_select(node, grid, live, reader))
    if isinstance(node, Arithmetic):
        return _arithmetic(node.op, *(evaluate(side, grid, live, reader) for side in (node.left, node.right)))
    return Vector(_aggregate(node, evaluate(node.of, grid, live, reader).series))


def _select(node: Selector, grid: Grid, live: LiveState, reader: Reader) -> list[Values]:
    chosen = label_sets(node.matchers, known_pools(live, reader), horizons_seconds(live), reader.full_matches)
    points = len(grid.times)
    if len(chosen) * points > MAX_SAMPLES:
        raise too_much(
            f"{len(chosen)} series at {points} times are more than {MAX_SAMPLES} samples; narrow the query by labels, "
            "or take a longer step"
        )
    moved = Grid(grid.start - node.offset_seconds, grid.end - node.offset_seconds, grid.step)
    values = [_paths(chosen, moved, live, reader), _samples(chosen, moved, reader)]
    found = []
    for number, series in enumerate(chosen):
        told = next((part[number] for part in values if number in part), None)
        if told is not None and not np.isnan(told).all():
            found.append((series.metric, told))
    return found


def _samples(chosen: Sequence[Series], grid: Grid, reader: Reader) -> dict[int, Floats]:
    """Values of series that the store has as samples, by their place in ``chosen``."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for number, series in enumerate(chosen):
        if series.family.source != "path":
            band = series.labels.get("band", "")
            groups.setdefault((series.family.source, series.measure, band), []).append(number)
    found: dict[int, Floats] = {}
    for (source, measure, band), numbers in groups.items():
        pools = {chosen[number].pool for number in numbers}
        horizons = {number: int(chosen[number].labels.get("horizon_seconds", "0")) for number in numbers}
        more = (sorted(set(horizons.values())), f"q{band[1:]}") if source == "lead" else None
        told = reader.samples(source, measure, pools, grid, more)
        for number in numbers:
            samples = told.get((*chosen[number].pool, horizons[number]))
            if samples is not None:
                found[number] = samples.on(grid)
    return found


def _paths(chosen: Sequence[Series], grid: Grid, live: LiveState, reader: Reader) -> dict[int, Floats]:
    """Values of forecast paths, by their place in ``chosen``."""
    paths = {number: series for number, series in enumerate(chosen) if series.family.source == "path"}
    found: dict[int, Floats] = {}
    times = grid.times
    newest = _newest({series.pool for series in paths.values() if series.labels["as_of"] == LATEST}, live)
    then: dict[tuple[str, str], Any] = {}
    for number, series in paths.items():
        as_of, grain = series.labels["as_of"], series.labels["grain"]
        if as_of == LATEST:
            path = newest.get((series.pool, series.measure, grain))
        elif grain == Grain.MINUTE:
            if (series.measure, as_of) not in then:
                pools = {other.pool for other in paths.values() if other.labels["as_of"] == as_of}
                then[series.measure, as_of] = reader.forecast_paths(series.measure, pools, float(as_of))
            path = then[series.measure, as_of].get(tuple(series.pool))
        else:
            path = None  # only forecasts of windows are kept
        if path:
            level = BANDS.index(series.labels["band"])
            targets = np.array([target for target, _ in path])
            values = np.array([quantiles[level] for _, quantiles in path])
            found[number] = np.interp(times, targets, values, left=_NAN, right=_NAN)
    return found


def _newest(pools: Iterable[PoolKey], live: LiveState) -> dict[tuple[PoolKey, str, str], list[tuple[float, Any]]]:
    """The newest forecasts of pools, as (target time, quantiles) ascending, by pool, signal and grain."""
    found: dict[tuple[PoolKey, str, str], list[tuple[float, Any]]] = {}
    for view in live.views(pools):
        told = [(Grain.MINUTE.value, forecast) for forecast in view.forecasts]
        told += [(str(outlook.grain), forecast) for outlook in view.outlooks for forecast in outlook.forecasts]
        for grain, forecast in told:
            path = found.setdefault((view.key, str(forecast.series.signal), grain), [])
            bisect.insort(path, (forecast.target_at, forecast.quantiles))
    return found


def _aggregate(node: Aggregation, series: Sequence[tuple[dict[str, str], Floats]]) -> list[Values]:
    groups: dict[tuple[tuple[str, str], ...], list[Floats]] = {}
    for labels, values in series:
        dropped = {"__name__", *node.labels} if node.without else labels.keys() - set(node.labels)
        name = tuple(sorted((label, value) for label, value in labels.items() if label not in dropped))
        groups.setdefault(name, []).append(values)
    found = []
    for name, members in groups.items():
        table = np.stack(members)
        known = ~np.isnan(table)
        count = known.sum(axis=0)
        sums = np.where(known, table, 0.0).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = {
                "sum": sums,
                "count": count.astype(np.float64),
                "avg": sums / count,
                "min": np.where(known, table, np.inf).min(axis=0),
                "max": np.where(known, table, -np.inf).max(axis=0),
            }[node.op]
        found.append((dict(name), np.where(count > 0, value, _NAN)))
    return found


def _arithmetic(op: str, left: Vector, right: Vector) -> Vector:
    """Arithmetic takes the name of a metric away, as in Prometheus."""

    def apply(a: Any, b: Any) -> Any:
        with np.errstate(all="ignore"):
            return {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}[op](a, b)

    if left.number is not None and right.number is not None:
        return Vector([], float(apply(left.number, right.number)))
    found = []
    for labels, values in left.series or right.series:
        told = apply(left.number, values) if left.number is not None else apply(values, right.number)
        found.append(({name: value for name, value in labels.items() if name != "__name__"}, told))
    return Vector(found)
