"""The engine: closed windows in, forecasts, recommendations and alerts out.

The only way from windows to advice. Live control, restart, replay and backtest all call ``Advisor.step``; it reads no
clock and does no I/O, so the same windows give the same advice, bit for bit.
"""

from __future__ import annotations

import hashlib
import pickle

from pipeline.advise.model import Alert, StepInput, StepOutput, TenantDemand
from pipeline.advise.pool import PoolAdvisor
from pipeline.errors import CodecError
from pipeline.forecast.known_calendar import KnownCalendar
from pipeline.forecast.model import Forecast, Score
from pipeline.forecast.outlook import Outlook
from pipeline.settings import Settings
from pipeline.windows.model import ClosedWindow, PoolKey
from sizing.catalog import Catalog
from sizing.errors import SizingError
from sizing.model import Recommendation

__all__ = ["Advisor"]

#: Bumped whenever a snapshot of an older version cannot be continued bit for bit.
STATE_VERSION = 12

#: A pool that no step has named for so long, in seconds of event time, is forgotten; it begins anew if it comes back.
FORGET_SECONDS = 7 * 86_400


class Advisor:
    """All pools of one controller. ``catalog`` resolves profiles and accelerators; None: the built-in one."""

    def __init__(self, settings: Settings, catalog: Catalog | None = None) -> None:
        self._settings = settings
        self.catalog = catalog
        self._config_hash = settings.config_hash()
        self._equipment = _equipment(settings, catalog or Catalog())
        self._configured = {PoolKey(p.model, p.pool): p for p in settings.pools}
        self._pools: dict[PoolKey, PoolAdvisor] = {}
        self._named_at: dict[PoolKey, int] = {}  # the newest step of each pool
        self.calendar = KnownCalendar()
        self._reach = float(max(settings.forecast.horizons_seconds))
        self.as_of: int | None = None

    def step(self, inputs: StepInput) -> StepOutput:
        """Learn the windows that closed at ``inputs.as_of`` and say what follows from them.

        Steps must come in order of time; pools may come and go, and are forgotten a week after they went.

        Raises:
            ValueError: the step is not after the last one, or a window does not end at ``as_of``.
        """
        if self.as_of is not None and inputs.as_of <= self.as_of:
            raise ValueError(f"step {inputs.as_of} does not follow {self.as_of}")
        windows: list[ClosedWindow] = []
        forecasts: list[Forecast] = []
        scores: list[Score] = []
        recommendations: list[Recommendation] = []
        alerts: list[Alert] = []
        outlooks: list[Outlook] = []
        tenants: list[TenantDemand] = []
        self.calendar.apply(inputs.calendar, inputs.as_of)
        near = self.calendar.near(inputs.as_of, self._reach)
        for window in sorted(inputs.windows, key=lambda w: w.key):
            if window.end != inputs.as_of:
                raise ValueError(f"window of {window.key} ends at {window.end}, not at {inputs.as_of}")
            self._named_at[window.key] = inputs.as_of
            outcome = self._pool(window.key).step(window, [r for r in near if r.scope.includes(*window.key)])
            windows.append(outcome.window)
            forecasts.extend(outcome.forecasts)
            scores.extend(outcome.scores)
            alerts.extend(outcome.alerts)
            outlooks.extend(outcome.outlooks)
            tenants.extend(outcome.tenants)
            if outcome.recommendation is not None:
                recommendations.append(outcome.recommendation)
        self._forget_gone(inputs.as_of)
        self.as_of = inputs.as_of
        return StepOutput(
            as_of=inputs.as_of,
            windows=tuple(windows),
            forecasts=tuple(forecasts),
            scores=tuple(scores),
            recommendations=tuple(recommendations),
            alerts=tuple(alerts),
            calendar=inputs.calendar,
            outlooks=tuple(outlooks),
            tenants=tuple(tenants),
        )

    def _pool(self, key: PoolKey) -> PoolAdvisor:
        pool = self._pools.get(key)
        if pool is None:
            pool = PoolAdvisor(key, self._configured.get(key), self._settings, self._config_hash, self.catalog)
            self._pools[key] = pool
        return pool

    def _forget_gone(self, as_of: int) -> None:
        for key in [key for key, at in self._named_at.items() if at + FORGET_SECONDS <= as_of]:
            del self._named_at[key], self._pools[key]

    def snapshot(self) -> bytes:
        """The whole state; only ever read back from the store that this process owns."""
        made_for = (STATE_VERSION, self._config_hash, self._equipment)
        return pickle.dumps((*made_for, self.as_of, self._pools, self._named_at, self.calendar), protocol=5)

    @classmethod
    def restore(cls, settings: Settings, blob: bytes, catalog: Catalog | None = None) -> Advisor:
        """Continue from ``snapshot``.

        Raises:
            CodecError: the snapshot is damaged, of another version, or made under other settings or for other models
                and accelerators; the caller then replays the closed windows instead.
        """
        advisor = cls(settings, catalog)
        try:
            version, *rest = pickle.loads(blob)
        except Exception as error:
            raise CodecError(f"the snapshot cannot be read: {error}") from error
        if version != STATE_VERSION:
            raise CodecError(f"the snapshot has version {version}, this program {STATE_VERSION}")
        config_hash, equipment, *state = rest
        if config_hash != advisor._config_hash:
            raise CodecError("the snapshot was made under other settings")
        if equipment != advisor._equipment:
            raise CodecError("the snapshot was made for other models or accelerators of the same names")
        advisor.as_of, advisor._pools, advisor._named_at, advisor.calendar = state
        return advisor


def _equipment(settings: Settings, catalog: Catalog) -> str:
    """A digest of what the pools' profiles and accelerators stand for: the plans in a snapshot were made with it."""
    found = []
    for pool in settings.pools:
        try:
            found.append(repr((catalog.model(pool.profile), catalog.gpu(pool.accelerator))))
        except SizingError as error:
            found.append(str(error))
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:12]
