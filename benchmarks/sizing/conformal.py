"""Split-conformal intervals of measured over predicted times, by distance and kind of deployment."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sizing.calibration.intervals import IntervalBins

Floats = NDArray[np.float64]
Names = NDArray[np.str_]

#: Upper ends of the bins of distance, but the last.
DISTANCES = (1.0, 2.0)
#: An architecture with fewer rows in a bin weighs by its rows there: one row is not a family.
FEW_ROWS = 10
#: Rows that a bin needs for an interval of its own, and the interval where even the first one has too few.
ENOUGH, UNTOLD = 20, (0.4, 2.5)
#: Weight of rows of another kind in the interval of a kind: they keep it from what one architecture happens to show.
OTHER_KINDS = 0.1


def conformal(
    distances: Floats,
    ratios: Floats,
    architectures: Names,
    level: float,
    *,
    symmetric: bool,
    kinds: Names | None = None,
) -> IntervalBins:
    """Split-conformal bounds of measured over predicted per bin of distance, in the first bin by kind too.

    Finite-sample quantiles (Vovk, Gammerman and Shafer 2005), every architecture weighing the same, but for those with
    few rows in a bin: what is asked is a new architecture, not a new row of a known one. Bins grow wider with distance:
    farther never claims to be surer. With ``symmetric``, bins that fewer than three architectures tell of are as wide
    upwards as downwards: they do not tell on which side the next one lies. ``kinds`` of the rows: the interval of each
    is that of all rows of the first bin, those of other kinds weighing ``OTHER_KINDS`` (weighted conformal prediction,
    Tibshirani and others 2019). What is far is of no kind.
    """
    lower: list[float] = []
    upper: list[float] = []
    near: list[tuple[str, float, float]] = []
    ends = (*DISTANCES, math.inf)
    for begin, end in zip((-1.0, *DISTANCES), ends, strict=True):
        chosen = np.flatnonzero((distances > begin) & (distances <= end))
        own = ratios[chosen], architectures[chosen], level
        few = symmetric and _families(own[1]) < 3
        if not lower and kinds is not None and chosen.size >= ENOUGH:
            for kind in np.unique(kinds[chosen]):
                weights = np.where(kinds[chosen] == kind, 1.0, OTHER_KINDS)
                near.append((str(kind), *_widened(_bounds(*own, weights), few)))
        at_hand = _bounds(*own) if chosen.size >= ENOUGH else (lower[-1], upper[-1]) if lower else UNTOLD
        low, high = _widened((min([at_hand[0], *lower]), max([at_hand[1], *upper])), few)
        if lower:
            low = min([low, *(bound for _, bound, _ in near)])
            high = max([high, *(bound for _, _, bound in near)])
        lower.append(low)
        upper.append(high)
    rounded = tuple((kind, round(low, 3), round(high, 3)) for kind, low, high in near)
    return IntervalBins(ends, tuple(round(v, 3) for v in lower), tuple(round(v, 3) for v in upper), rounded)


def _counts(architectures: Names) -> dict[str, int]:
    return {str(name): int(np.count_nonzero(architectures == name)) for name in np.unique(architectures)}


def _families(architectures: Names) -> int:
    return sum(count >= FEW_ROWS for count in _counts(architectures).values())


def _bounds(ratios: Floats, architectures: Names, level: float, weights: Floats | None = None) -> tuple[float, float]:
    """Weighted quantiles of the ratios, where the new row takes its share of the probability, too."""
    tail, counts = (1 - level) / 2, _counts(architectures)
    alike = np.array([1.0 / max(counts[str(name)], FEW_ROWS) for name in architectures])
    order = np.argsort(ratios)
    each = (alike if weights is None else alike * weights)[order]
    position = np.cumsum(each) / (each.sum() * (1 + 1 / ratios.size))
    low = ratios[order[max(int(np.searchsorted(position, tail)) - 1, 0)]]
    high = ratios[order[min(int(np.searchsorted(position, 1 - tail)), ratios.size - 1)]]
    return float(low), float(high)


def _widened(bounds: tuple[float, float], both_ways: bool) -> tuple[float, float]:
    low, high = bounds
    return (min(low, 1 / high), max(high, 1 / low)) if both_ways else (low, high)
