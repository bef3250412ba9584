"""What is said of the hours or days ahead of one series, in a tenth of the memory of its forecasts as objects."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any

from pipeline.forecast.day_model import Growth
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey

__all__ = ["Grain", "Outlook"]


class Grain(StrEnum):
    """What one forecast value is the mean of."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


@lru_cache(maxsize=64)
def _shared(constant: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same tuple for all outlooks that have an equal one."""
    return constant


class Outlook:
    """The newest forecasts of one series at one grain; it never changes.

    ``forecasts`` are of the mean rate over the hour (or the UTC day) that ends at ``target_at``. ``growth`` holds
    scenarios of the day grain. ``peak_ratio`` is the busiest hour of the week over the mean of its day; None until a
    week has been seen. Forecasts and scenarios are made anew, and equal, when they are asked for: every pool keeps
    eight outlooks, which are read far less often than they are said.

    Args:
        series: what is forecast.
        grain: hours or days.
        issued_at: epoch seconds.
        forecasts: of this series, issued at this time.
        growth: scenarios with equally many medians each.
        peak_ratio: see above.

    Raises:
        ValueError: a forecast is of another series or time, or scenarios differ in length.
    """

    __slots__ = ("_growth", "_horizons", "_names", "_quantiles", "grain", "issued_at", "peak_ratio", "series")

    def __init__(
        self,
        series: SeriesKey,
        grain: Grain,
        issued_at: float,
        forecasts: Sequence[Forecast],
        growth: Sequence[Growth] = (),
        peak_ratio: float | None = None,
    ) -> None:
        self.series, self.grain, self.issued_at, self.peak_ratio = series, grain, issued_at, peak_ratio
        if any(one.issued_at != issued_at or one.series != series for one in forecasts):
            raise ValueError(f"an outlook of {series} at {issued_at} holds a forecast of another series or time")
        if len({len(one.medians) for one in growth}) > 1:
            raise ValueError("scenarios of growth differ in how many medians they have")
        self._horizons = _shared(tuple(one.horizon_seconds for one in forecasts))
        self._quantiles = array("d", (value for one in forecasts for value in one.quantiles))
        self._names = _shared(tuple(one.name for one in growth))
        self._growth = array("d", (value for one in growth for value in (one.per_day, *one.medians)))

    @property
    def forecasts(self) -> tuple[Forecast, ...]:
        """By ascending horizon, as given."""
        numbers, width = self._quantiles.tolist(), len(LEVELS)
        return tuple(
            Forecast(self.series, self.issued_at, horizon, tuple(numbers[width * at : width * (at + 1)]))
            for at, horizon in enumerate(self._horizons)
        )

    @property
    def growth(self) -> tuple[Growth, ...]:
        """Scenarios of the day grain."""
        if not self._names:
            return ()
        numbers, width = self._growth.tolist(), len(self._growth) // len(self._names)
        return tuple(
            Growth(name, numbers[width * at], tuple(numbers[width * at + 1 : width * (at + 1)]))
            for at, name in enumerate(self._names)
        )

    def __eq__(self, other: object) -> bool:
        """Whether all that is said is equal."""
        return isinstance(other, Outlook) and self._said() == other._said()

    def __hash__(self) -> int:
        """Equal for equal outlooks."""
        return hash((self.series, self.grain, self.issued_at))

    def __repr__(self) -> str:
        """All that is said."""
        return (
            f"Outlook(series={self.series!r}, grain={self.grain!r}, issued_at={self.issued_at!r}, "
            f"forecasts={self.forecasts!r}, growth={self.growth!r}, peak_ratio={self.peak_ratio!r})"
        )

    def _said(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __getstate__(self) -> dict[str, Any]:
        """All of it; ``__setstate__`` shares what is constant again."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what pools have in common from where all share it."""
        for name, value in state.items():
            setattr(self, name, value)
        self._horizons, self._names = _shared(self._horizons), _shared(self._names)
