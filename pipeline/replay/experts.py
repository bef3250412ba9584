"""What each expert of a backtest's pool would have said by itself, and how good that was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.experts.base import Expert

if TYPE_CHECKING:
    from pipeline.replay.backtest import SeriesBacktest

__all__ = ["DEFAULT", "ExpertForecasts", "ExpertScore", "expert_columns", "expert_rows", "expert_scores"]

#: The setting under which no expert's own forecasts are kept.
DEFAULT = ("default",)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ExpertScore:
    """One expert alone: WAPE over ``scored`` targets of one series and horizon; None: it never had a forecast."""

    series: str
    horizon_seconds: int
    expert: str
    scored: int
    wape: float | None


class ExpertForecasts:
    """Medians by expert: ``of(name)`` has the shape (windows, horizons); NaN where the expert had no forecast."""

    def __init__(self, windows: int, horizons: int) -> None:
        self._shape = (windows, horizons)
        self._values: dict[str, NDArray[np.float32]] = {}

    @classmethod
    def none(cls, windows: int, horizons: int) -> ExpertForecasts:
        """Return forecasts of nobody yet."""
        return cls(windows, horizons)

    @property
    def names(self) -> tuple[str, ...]:
        """The experts, in the order of the pool."""
        return tuple(self._values)

    def begin(self, names: Sequence[str]) -> None:
        """Make room for the experts of a pool."""
        for name in names:
            self._values.setdefault(name, np.full(self._shape, np.nan, dtype=np.float32))

    def take(self, window: int, horizons: Sequence[int], experts: Sequence[Expert], step_seconds: int) -> None:
        """Keep what experts that are awake forecast after ``window``, as sums over a window."""
        for expert in experts:
            if expert.awake:
                self._values[expert.name][window, list(horizons)] = expert.forecast() * step_seconds

    def of(self, name: str) -> NDArray[np.float32]:
        """Return the forecasts of one expert."""
        return self._values[name]


def expert_scores(item: SeriesBacktest) -> list[ExpertScore]:
    """Score each expert of a series by itself, on the targets of the pool's own scores."""
    if item.experts is None:
        return []
    found = []
    for horizon, seconds in enumerate(item.horizons_seconds):
        origins, actual = item.matured(horizon, after_warmup=True)
        for name in item.experts.names:
            said = item.experts.of(name)[origins, horizon].astype(np.float64)
            known = ~np.isnan(said)
            total = float(np.abs(actual[known]).sum())
            wape = float(np.abs(actual[known] - said[known]).sum()) / total if total > 0 else None
            found.append(ExpertScore(item.series.name, seconds, name, int(known.sum()), wape))
    return found


def expert_columns(scores: Sequence[ExpertScore]) -> tuple[str, ...]:
    """Return the header of ``expert_rows``: a column for each expert."""
    return ("series", "ahead, s", *dict.fromkeys(score.expert for score in scores))


def expert_rows(scores: Sequence[ExpertScore]) -> list[tuple[str, ...]]:
    """Return each expert's WAPE as text, one row per series and horizon."""
    names = list(dict.fromkeys(score.expert for score in scores))
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for score in scores:
        text = "–" if score.wape is None else f"{score.wape:.2%}"
        rows.setdefault((score.series, score.horizon_seconds), {})[score.expert] = text
    return [(series, str(seconds), *(row.get(name, "–") for name in names)) for (series, seconds), row in rows.items()]
