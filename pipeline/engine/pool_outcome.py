"""What one step says about one pool."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.alerts.types import Alert
from pipeline.engine.types import ReplicaUse, Scorecard, TenantDemand
from pipeline.forecast.outlook import Outlook
from pipeline.forecast.types import Forecast, Score
from pipeline.windows.types import ClosedWindow
from sizing.types import Recommendation

__all__ = ["PoolOutcome"]


@dataclass(frozen=True, slots=True)
class PoolOutcome:
    """What one step says about one pool; ``window`` is the one learned, marked as a gap where it was one."""

    window: ClosedWindow
    forecasts: tuple[Forecast, ...]
    scores: tuple[Score, ...]
    recommendation: Recommendation | None
    alerts: tuple[Alert, ...]
    outlooks: tuple[Outlook, ...] = ()
    tenants: tuple[TenantDemand, ...] = ()
    scorecards: tuple[Scorecard, ...] = ()
    uses: tuple[ReplicaUse, ...] = ()
