"""What is known of one pool, and how it looks at one instant: whatever has expired by then is not shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.alerts.types import Alert
from pipeline.config.prices import PoolPrice
from pipeline.config.settings import PoolSettings
from pipeline.engine.types import ReplicaUse, Scorecard, TenantDemand
from pipeline.forecast.outlook import Outlook
from pipeline.forecast.types import Forecast, Score
from pipeline.publish.recent_demand import RecentDemand
from pipeline.publish.views import PoolView
from pipeline.windows.types import REST, ClosedWindow, PoolKey
from sizing.types import Recommendation

__all__ = ["PoolState"]

DEFAULT_TTL_SECONDS = 300.0  # that forecasts and windows of a pool without settings stay visible


@dataclass(slots=True)
class PoolState:
    """Mutable state of one pool; guarded by the lock of its LiveState. Outlooks and tenants: with their step's end."""

    settings: PoolSettings | None
    version: int = 0
    window: ClosedWindow | None = None
    forecasts: dict[tuple[str, int], Forecast] = field(default_factory=dict)
    scores: dict[tuple[str, int], Score] = field(default_factory=dict)
    outlooks: dict[tuple[str, str], tuple[float, Outlook]] = field(default_factory=dict)
    tenants: tuple[float, tuple[TenantDemand, ...]] = (0.0, ())
    recommendation: Recommendation | None = None
    scorecards: dict[str, Scorecard] = field(default_factory=dict)
    recent: RecentDemand = field(default_factory=RecentDemand)
    uses: dict[str, ReplicaUse] = field(default_factory=dict)
    price: PoolPrice | None = None
    seen: tuple[float, PoolView] | None = None  # how it looked last, and when; None: it has changed since

    @property
    def ttl_seconds(self) -> float:
        """How long forecasts and windows are shown."""
        return self.settings.ttl_seconds if self.settings else DEFAULT_TTL_SECONDS

    def seen_at(self, now: float) -> PoolView | None:
        """Return how the pool looked last if it looks the same at ``now`` (epoch seconds); None: it may not."""
        if self.seen is None:
            return None
        at, view = self.seen
        return view if at <= now < view.valid_until else None

    def view(self, key: PoolKey, now: float, alerts: Sequence[Alert]) -> PoolView:
        """Return how the pool looks at ``now`` (epoch seconds) with the alerts that last; it is remembered."""
        oldest = now - self.ttl_seconds
        advice = self.recommendation
        valid = advice is not None and advice.expires_at > now
        forecasts = [f for _, f in sorted(self.forecasts.items()) if f.issued_at > oldest]
        made_at = [f.issued_at for f in forecasts] + [at for at, _ in self.outlooks.values()] + [self.tenants[0]]
        if self.window is not None:
            made_at.append(float(self.window.end))
        expiries = [at + self.ttl_seconds for at in made_at if at > oldest]
        if advice is not None and valid:
            expiries.append(advice.expires_at)
        view = PoolView(
            key=key,
            settings=self.settings,
            window=self.window if self.window is not None and self.window.end > oldest else None,
            forecasts=tuple(forecasts),
            scores=tuple(score for _, score in sorted(self.scores.items())) if forecasts else (),
            recommendation=advice if valid else None,
            expired=None if valid else advice,
            alerts=tuple(alerts),
            outlooks=tuple(outlook for _, (at, outlook) in sorted(self.outlooks.items()) if at > oldest),
            tenants=_heaviest_first(self.tenants[1]) if self.tenants[0] > oldest else (),
            scorecards=tuple(self.scorecards.values()),
            uses=tuple(self.uses.values()),
            price=self.price,
            valid_until=min(expiries, default=math.inf),
        )
        self.seen = (now, view)
        return view


def _heaviest_first(tenants: tuple[TenantDemand, ...]) -> tuple[TenantDemand, ...]:
    """The rest comes last."""
    return tuple(
        sorted(tenants, key=lambda told: (told.tenant == REST, -(told.requests_per_second or 0.0), told.tenant))
    )
