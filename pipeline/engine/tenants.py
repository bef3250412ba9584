"""The tenants of one pool: who sends most, and what each of them will send."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.settings import Settings
from pipeline.engine.types import TenantDemand
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.exogenous.known import NOTHING, Exogenous
from pipeline.forecast.experts.registry import expert_factory
from pipeline.forecast.rates import counted_seconds
from pipeline.forecast.series import GroupMember
from pipeline.forecast.tenants import TenantForecaster
from pipeline.forecast.types import Forecast, Score, SeriesKey, Signal
from pipeline.windows.types import REST, ClosedWindow, PoolKey

__all__ = ["PoolTenants"]

DIMENSION = "tenant"
#: Share of the pool's rate below which the rest is what rounding leaves of the differences, and no request.
_ROUNDING = 1e-12


class PoolTenants:
    """Forecasts a pool's request rate by tenant. Pickles, and continues identically afterwards.

    ``total`` forecasts the request rate of all tenants.
    """

    def __init__(self, key: PoolKey, settings: Settings, total: GroupMember) -> None:
        self._key = key
        self._forecaster = TenantForecaster(
            SeriesKey(key.model, key.pool, Signal.REQUESTS),
            settings.forecast.horizons_seconds,
            settings.windows.grain_seconds,
            settings.forecast.tenant_series,
            settings.forecast.season_seconds,
            expert_factory(settings.forecast.experts),
            len(settings.forecast.signals),
            total,
        )
        #: The newest window by tenant: those with a series, and the rest.
        self.told: tuple[TenantDemand, ...] = ()

    @staticmethod
    def wanted(settings: Settings) -> bool:
        """Whether pools have forecasts by tenant under these settings."""
        return settings.forecast.tenant_series > 0 and DIMENSION in settings.windows.dimensions

    def step(
        self,
        window: ClosedWindow,
        rate: float | None,
        calendar: Sequence[CalendarRecord],
        exogenous: Exogenous = NOTHING,
    ) -> tuple[Forecast, ...]:
        """Learn a closed window, whose request rate is ``rate`` (None: a gap); return the forecasts of the total."""
        named = _named(window)
        said = self._forecaster.step(float(window.end), rate, named, calendar, exogenous)
        unnamed = rate
        told = []
        for tenant, forecasts in said.parts.items():
            own = None if rate is None or named is None else named.get(tenant, 0.0)
            if tenant == REST:
                own = unnamed if unnamed is None or rate is None or unnamed > _ROUNDING * rate else 0.0
            elif own is None:
                unnamed = None
            elif unnamed is not None:
                unnamed = max(0.0, unnamed - own)
            share = own / rate if own is not None and rate else None
            told.append(TenantDemand(*self._key, tenant, own, share, forecasts))
        self.told = tuple(told)
        return said.total

    def scores(self) -> tuple[Score, ...]:
        """How good the matured forecasts of the total have been."""
        return self._forecaster.scores()


def _named(window: ClosedWindow) -> dict[str, float] | None:
    """Request rates of the tenants that a window names; None: it was not broken down by tenant."""
    if window.requests == 0:
        return {}
    seconds = counted_seconds(window)
    return next(
        (
            {part.value: part.requests / seconds for part in told.parts if part.value != REST}
            for told in window.breakdown
            if told.dimension == DIMENSION
        ),
        None,
    )
