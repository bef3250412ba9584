"""Hours and days ahead of several series: closed windows rolled up, learned, and said again every hour."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.forecast.hour_model import HOUR, HOUR_HORIZONS, HourModel, PeriodMean
from pipeline.forecast.outlook_record import Grain, Outlook
from pipeline.forecast.series_group import MAX_VALUE
from pipeline.forecast.types import SeriesKey
from pipeline.packing import pack, unpack

__all__ = ["HOUR_HORIZONS", "Grain", "Outlook", "OutlookForecaster"]


class OutlookForecaster:
    """Hourly and daily outlooks of series whose windows close together. Deterministic, pure, picklable, bounded.

    What learns the hours does so once an hour; between, it is kept as its compressed pickle, a fraction of its size.

    Args:
        series: what is forecast, at least one.
        delay_seconds: how long after an hour it is learned, in event time; spreads the work of many pools.
    """

    def __init__(self, series: Sequence[SeriesKey], delay_seconds: float = 0.0) -> None:
        self._delay = delay_seconds
        self._hours = tuple(PeriodMean() for _ in series)
        self._hour_of: int | None = None
        self._waiting: list[tuple[int, tuple[float | None, ...]]] = []
        self._model = pack(HourModel(series))
        #: The newest outlooks of every series; ``()`` before the first.
        self.outlooks: tuple[tuple[Outlook, ...], ...] = ((),) * len(series)

    def step(self, end: float, values: Sequence[float | None], seconds: float) -> bool:
        """Learn the windows of ``seconds`` that ended at ``end`` (epoch seconds); ``values`` are rates, None a gap.

        Windows come in order of time. Returns whether ``outlooks`` is new, which it is once for every hour.
        """
        middle = end - 0.5 * seconds
        hour = int(middle // HOUR)
        if self._hour_of is not None and hour > self._hour_of:
            self._close(self._hour_of)
        if self._hour_of is None or hour >= self._hour_of:
            self._hour_of = hour
            for mean, value in zip(self._hours, values, strict=True):
                if value is not None and 0.0 <= value <= MAX_VALUE:
                    mean.add(hour, value, seconds)
        if end >= (hour + 1) * HOUR:
            self._close(hour)
            self._hour_of = hour + 1
        if not self._waiting or end < self._due(self._waiting[0][0]):
            return False
        model: HourModel = unpack(self._model)
        fresh = False
        while self._waiting and end >= self._due(self._waiting[0][0]):
            self.outlooks = model.learn(*self._waiting.pop(0))
            fresh = fresh or any(self.outlooks)
        self._model = pack(model)
        return fresh

    def _due(self, hour: int) -> float:
        return (hour + 1) * HOUR + self._delay

    def _close(self, hour: int) -> None:
        self._waiting.append((hour, tuple(mean.mean(hour, HOUR) for mean in self._hours)))
