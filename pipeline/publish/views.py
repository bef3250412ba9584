"""What readers of the live state get: one pool, what has changed, everything at one instant."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.alerts.types import Alert
from pipeline.clock import Speed
from pipeline.config.prices import PoolPrice
from pipeline.config.settings import PoolSettings
from pipeline.engine.types import ReplicaUse, Scorecard, TenantDemand
from pipeline.forecast.outlook import Outlook
from pipeline.forecast.types import Forecast, Score
from pipeline.publish.counters import Counters
from pipeline.publish.health import PipelineHealth
from pipeline.windows.types import ClosedWindow, PoolKey
from sizing.types import Recommendation

__all__ = ["Changes", "PoolView", "Progress", "Snapshot"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Something long that comes before live operation: what it is, the share done (0 to 1), seconds left (None: not
    known yet).
    """

    task: str
    share: float
    remaining_seconds: float | None = None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class PoolView:
    """One pool as it looks at one instant; whatever has expired is left out.

    ``forecasts`` is ordered by signal and horizon, ``outlooks`` by signal and grain, ``tenants`` by who sends most.
    ``expired`` is advice that has run out: never to be followed, only to tell "expired" from "unknown". ``valid_until``
    (epoch seconds) is when the next part of the view expires.
    """

    key: PoolKey
    settings: PoolSettings | None
    window: ClosedWindow | None
    forecasts: tuple[Forecast, ...]
    scores: tuple[Score, ...]
    recommendation: Recommendation | None
    expired: Recommendation | None
    alerts: tuple[Alert, ...]
    outlooks: tuple[Outlook, ...] = ()
    tenants: tuple[TenantDemand, ...] = ()
    scorecards: tuple[Scorecard, ...] = ()
    uses: tuple[ReplicaUse, ...] = ()
    price: PoolPrice | None = None
    valid_until: float = math.inf


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since a version: the pools' views as of ``now`` (epoch seconds), and the names of all pools.

    ``as_of`` (the end of the newest closed window) and ``counters`` (None: not asked for) are of the same version.
    """

    version: int
    now: float
    views: tuple[PoolView, ...]
    keys: frozenset[PoolKey]
    as_of: int | None = None
    counters: Counters | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one instant (``now``, epoch seconds). ``as_of`` is the end of the newest closed window,
    ``advised_at`` the time of the newest step or revision: advice may be newer than the window.

    ``speed`` is that of simulated time (None: the machine's own time), ``progress`` what goes on before live operation.
    """

    now: float
    as_of: int | None
    advised_at: int | None
    config_hash: str
    health: PipelineHealth
    pools: tuple[PoolView, ...]
    alerts: tuple[Alert, ...]
    counters: Counters
    pool_count: int
    speed: Speed | None = None
    progress: Progress | None = None
