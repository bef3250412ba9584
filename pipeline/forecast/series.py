"""One series, all horizons: learn a closed window, issue quantiles."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.context import SeriesContext
from pipeline.forecast.exogenous.known import NOTHING, Exogenous
from pipeline.forecast.expert_pool import ExpertPool
from pipeline.forecast.experts import Expert, default_experts
from pipeline.forecast.series_group import MAX_VALUE, SeriesGroup
from pipeline.forecast.types import Forecast, Score, SeriesKey

__all__ = ["MAX_VALUE", "GroupMember", "SeriesForecaster"]


class SeriesForecaster:
    """Online quantile forecasts of one series on a grid of windows of ``grain_seconds``: a ``SeriesGroup`` of one.

    Deterministic and picklable: the same windows give the same forecasts, also when it was pickled in between.

    Args:
        series: what is forecast; copied into every forecast.
        horizons_seconds: how far ahead, ascending multiples of the grain.
        grain_seconds: width of a window.
        season_seconds: the cycle to learn (a day), a multiple of the grain.
        experts: makes the experts over a context; the first must be the last value.
        suspect_silence: whether a busy series that reads exactly zero is suspected of missing telemetry; not where the
            caller can tell, by the count of requests, and says None.
        signal_count: number of signals from outside that every step is given.

    Raises:
        ValueError: horizons, grain and season do not fit together.
    """

    def __init__(
        self,
        series: SeriesKey,
        horizons_seconds: Sequence[int],
        grain_seconds: float,
        season_seconds: float = 86_400,
        experts: Callable[[SeriesContext], Sequence[Expert]] = default_experts,
        *,
        suspect_silence: bool = True,
        signal_count: int = 0,
    ) -> None:
        self._group = SeriesGroup(
            (series,),
            horizons_seconds,
            grain_seconds,
            season_seconds,
            experts,
            suspect_silence=suspect_silence,
            signal_count=signal_count,
        )

    @classmethod
    def of(cls, group: SeriesGroup) -> SeriesForecaster:
        """Return a forecaster of a group of one."""
        found = cls.__new__(cls)
        found._group = group
        return found

    @property
    def series(self) -> SeriesKey:
        """What is forecast."""
        return self._group.series[0]

    @property
    def horizons_seconds(self) -> tuple[int, ...]:
        """How far ahead."""
        return self._group.horizons_seconds

    @property
    def grain_seconds(self) -> float:
        """Width of a window."""
        return self._group.grain_seconds

    @property
    def context(self) -> SeriesContext:
        """What the experts look at."""
        return self._group.contexts[0]

    @property
    def pool(self) -> ExpertPool:
        """The experts and their weights."""
        return self._group.pool

    @property
    def age_seconds(self) -> float:
        """How long no value has come, in seconds of event time; 0 when the newest window had one."""
        return self.context.age * self.grain_seconds

    @property
    def silent(self) -> bool:
        """Whether the newest window is a zero that is suspected of being missing telemetry (``forecast.silence``)."""
        return any(guard.silent for guard in self._group.silence)

    def step(
        self,
        end: float,
        value: float | None,
        calendar: Sequence[CalendarRecord] = (),
        exogenous: Exogenous = NOTHING,
    ) -> tuple[Forecast, ...]:
        """Learn the window that ended at ``end`` (epoch seconds) and issue forecasts for all horizons.

        ``value`` is a rate over the window; None, not finite, negative or above ``MAX_VALUE`` is a gap: nothing is
        learned or scored, the bands widen. Before the first value there is nothing to say: ``()``. ``calendar`` are the
        events that are known now, ``exogenous`` is what is known from outside at ``end``; see ``SeriesGroup.step``.

        Raises:
            ValueError: ``end`` is not finite or not after the previous one.
        """
        return self._group.step(end, (value,), calendar, (exogenous,))[0]

    def scores(self) -> tuple[Score, ...]:
        """How good the matured forecasts have been, per horizon, over about two seasons."""
        return self._group.scores()

    def regret(self) -> tuple[float | None, ...]:
        """Per horizon, ``Score.regret``."""
        return self.pool.regret()

    def apart(self) -> SeriesForecaster:
        """Return a copy."""
        return copy.deepcopy(self)


class GroupMember:
    """One series of a ``SeriesGroup`` as a forecaster; its step is the step of the whole group.

    Args:
        group: the series that are stepped together.
        at: which of them this is.
    """

    def __init__(self, group: SeriesGroup, at: int) -> None:
        self._group = group
        self._at = at
        self._beside: tuple[Sequence[float | None], Sequence[Exogenous]] = ((), ())
        #: What the newest step said of every series of the group.
        self.told: tuple[tuple[Forecast, ...], ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Between two steps nothing else is needed."""
        return {"_group": self._group, "_at": self._at, "_beside": ((), ()), "told": ()}

    def expect(self, values: Sequence[float | None], exogenous: Sequence[Exogenous]) -> None:
        """Say what ``SeriesGroup.step`` is to be given next."""
        self._beside = values, exogenous

    def step(
        self,
        end: float,
        value: float | None,
        calendar: Sequence[CalendarRecord] = (),
        exogenous: Exogenous = NOTHING,
    ) -> tuple[Forecast, ...]:
        """Step the group with what was ``expect``ed, which holds ``value`` and ``exogenous``; see ``SeriesGroup.step``.

        Raises:
            ValueError: ``end`` is not finite or not after the previous one.
        """
        del value, exogenous
        values, outside = self._beside
        self.told = self._group.step(end, values, calendar, outside)
        return self.told[self._at]

    def regret(self) -> tuple[float | None, ...]:
        """Per horizon, ``Score.regret``."""
        count = len(self._group.horizons_seconds)
        return self._group.pool.regret()[self._at * count : (self._at + 1) * count]

    def apart(self) -> SeriesForecaster:
        """Return a copy of the series as a forecaster of its own."""
        return SeriesForecaster.of(self._group.apart(self._at))
