"""How many of its own standard deviations a set-up's step times are off, after a few points of it were observed.

Errors of TPOT are from concurrency alone, every set-up with at least 8 rows, points at random; the prior knows no row
of the architecture. ``table`` is a part of ``run.py``'s results.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from held_out import observed_row, table_row
from measurements import Row
from numpy.typing import NDArray

from sizing.calibration.global_fit import Learned
from sizing.calibration.intervals import OWN_STEP_80, OWN_STEP_90
from sizing.calibration.table import calibrations, predict_point
from sizing.errors import DoesNotFit
from sizing.replica.step_time import StepCoefficients

__all__ = ["deviations", "quantile", "table"]

COUNTS = (1, 2, 3, 5, 8)
LEAST_ROWS = 8
#: As intervals without own points: three percent more than 80, and so many of every architecture within 90 %.
LEVEL_80, LEAST_INSIDE_90 = 0.83, 0.85


def deviations(
    rows: Sequence[Row], held_out: Mapping[str, Learned], count: int
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Absolute log errors over the standard deviation that the calibration says, and the architecture of each."""
    random = np.random.default_rng(7)
    setups: defaultdict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        setups[row.setup].append(row)
    found: list[float] = []
    names: list[str] = []
    for members in setups.values():
        if len(members) < max(LEAST_ROWS, count + 3):
            continue
        chosen = {int(index) for index in random.choice(len(members), count, replace=False)}
        prior = StepCoefficients(learned=held_out[members[0].model])
        try:
            learned = calibrations([observed_row(members[index]) for index in sorted(chosen)], coefficients=prior)
        except DoesNotFit:
            continue
        for index, row in enumerate(members):
            if index in chosen:
                continue
            answer = predict_point(table_row(row), coefficients=prior, calibrations=learned)
            if answer["error"] is None:
                deviation = math.log(answer["tpot_ms_upper"] / answer["tpot_ms_p50"]) / OWN_STEP_90
                found.append(abs(math.log(row.tpot_seconds * 1e3 / answer["tpot_ms_p50"])) / deviation)
                names.append(row.model)
    return np.array(found), np.array(names)


def quantile(values: NDArray[np.float64], names: NDArray[np.str_], level: float) -> float:
    """A quantile of the values, every architecture weighing the same."""
    weights = np.array([1.0 / np.count_nonzero(names == name) for name in names])
    order = np.argsort(values)
    position = np.cumsum(weights[order]) / weights.sum()
    return float(values[order[min(int(np.searchsorted(position, level)), values.size - 1)]])


def table(rows: Sequence[Row], held_out: Mapping[str, Learned]) -> list[str]:
    """What the constants are without each architecture, and how much of it they hold after 1, 2, 5 and 8 points."""
    parts = {count: deviations(rows, held_out, count) for count in COUNTS}
    values, names = (np.concatenate([part[index] for part in parts.values()]) for index in (0, 1))
    lines = [
        "",
        "## Widths after own points",
        "",
        "Standard deviations of a set-up's own calibration that hold 80 % and 90 % of the errors of its other rows, "
        f"from all architectures but one, and what they hold of it after 1 to 8 random points. In use: "
        f"{OWN_STEP_80:g} and {OWN_STEP_90:g}.",
        "",
        "| architecture left out | for 80 % | for 90 % | "
        + " | ".join(f"after {count}: in 80 %, in 90 %" for count in COUNTS)
        + " |",
        "|---|---|---|" + "---|" * len(COUNTS),
    ]
    for name in [*np.unique(names), None]:
        others = names != name if name is not None else np.ones(names.size, dtype=np.bool_)
        eighty = quantile(values[others], names[others], LEVEL_80)
        ninety = max(float(np.quantile(values[names == other], LEAST_INSIDE_90)) for other in np.unique(names[others]))
        ninety = max(ninety, quantile(values[others], names[others], 0.9))
        cells = []
        for count_values, count_names in parts.values():
            own = count_values[count_names == name] if name is not None else count_values
            cells.append(f"{np.mean(own <= eighty):.1%}, {np.mean(own <= ninety):.1%}")
        lines.append(f"| {name or 'none'} | {eighty:.2f} | {ninety:.2f} | {' | '.join(cells)} |")
    return lines
