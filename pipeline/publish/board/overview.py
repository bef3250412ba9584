"""One row per pool for the board's overview: what it has, what it will need, when it runs out, and how it is doing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.forecast.outlook import Grain
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.types import LEVELS, Forecast, Signal
from pipeline.publish.json import to_json
from pipeline.publish.recent_demand import RecentRates
from pipeline.publish.run_out import CAPACITY_EVIDENCE, headroom, run_out
from pipeline.publish.state import LiveState
from pipeline.publish.status import bridged_keys
from pipeline.publish.views import PoolView

__all__ = ["Overview", "pool_row"]

#: An answer is used again for so long, however many ask.
_FRESH_SECONDS = 0.5
_DRAWN = (LEVELS.index(0.5), LEVELS.index(0.95))
_ATTAINMENT = "slo_attainment_"


class Overview:
    """Writes the overview, at most twice a second for each span; for one thread."""

    def __init__(self, live: LiveState, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._live = live
        self._elapsed = elapsed
        self._written: dict[str, tuple[float, int | None, bytes]] = {}

    def render(self, span: str) -> bytes:
        """Return the overview as JSON; ``span`` is one of ``recent_demand.SPANS``."""
        now, advised_at = self._elapsed(), self._live.advised_at()
        known = self._written.get(span)
        if known is not None and known[1] == advised_at and now - known[0] < _FRESH_SECONDS:
            return known[2]
        body = self._write(span)
        self._written[span] = (now, advised_at, body)
        return body

    def _write(self, span: str) -> bytes:
        snapshot, recent = self._live.snapshot(), self._live.recent_demand(span)
        bridged = bridged_keys(self._live.health().event_notes)
        rows = [
            pool_row(view, recent.get(view.key), daily=span == "24h", bridged=view.key in bridged)
            for view in snapshot.pools
        ]
        shared = self._live.fleet is not None
        return to_json(
            {
                "now": snapshot.now,
                "as_of": snapshot.as_of,
                "advised_at": snapshot.advised_at,
                "span": span,
                "stock_shared": shared,
                "pools": rows,
            }
        )


def pool_row(view: PoolView, recent: RecentRates | None, *, daily: bool, bridged: bool) -> dict[str, Any]:
    """Return what the overview says of one pool; ``daily``: its forecast goes a day ahead, not an hour.

    ``bridged``: its demand is from a bridge alone (``pipeline.publish.status.bridged_keys``).
    Times are epoch seconds, rates requests per second, None is unknown. ``state`` is that of the advice, ``expired`` or
    ``none``.
    """
    advice, window = view.recommendation, view.window
    told = advice or view.expired
    evidence = advice.evidence if advice is not None else {}
    current = advice.current if advice is not None else None if window is None else window.current_replicas
    each = evidence.get(CAPACITY_EVIDENCE[Signal.REQUESTS])
    found, spare = run_out(view), headroom(evidence, current)
    return {
        "model": view.key.model,
        "pool": view.key.pool,
        "configured": view.settings is not None,
        "bridged": bridged,
        "accelerator": None if told is None else told.accelerator,
        "accelerators_per_replica": None if told is None else told.accelerators_per_replica,
        "state": str(advice.state) if advice is not None else "expired" if view.expired is not None else "none",
        "current": current,
        "desired": None if advice is None else advice.desired,
        "lower": None if advice is None else advice.lower,
        "upper": None if advice is None else advice.upper,
        "direction": None if advice is None else advice.direction,
        "reason": None if advice is None else str(advice.reason),
        "constraint": None if advice is None or advice.constraint is None else str(advice.constraint),
        "lead_time_seconds": evidence.get("lead_time_seconds"),
        "clamped_by": [] if advice is None else list(advice.clamped_by),
        "message": "" if advice is None else advice.message,
        "generation": None if advice is None else advice.generation,
        "issued_at": None if advice is None else advice.issued_at,
        "expires_at": None if told is None else told.expires_at,
        "headroom": None if spare is None else asdict(spare),
        "run_out": None if found is None else asdict(found),
        "slo_attainment_ratio": {
            name.removeprefix(_ATTAINMENT).removesuffix("_ratio"): value
            for name, value in evidence.items()
            if name.startswith(_ATTAINMENT) and name.endswith("_ratio")
        },
        "alerts": [
            {"alert_id": a.alert_id, "kind": a.kind, "severity": a.severity, "onset_at": a.onset_at}
            for a in view.alerts
        ],
        "window_end": None if window is None else window.end,
        "requests_per_second": None if window is None else signal_rates(window)[Signal.REQUESTS],
        "capacity_requests_per_second": None if not each or current is None else _short(each * current),
        "advised_requests_per_second": None if not each or advice is None else _short(each * advice.desired),
        "demand": None
        if recent is None
        else {
            "start": recent.start,
            "step_seconds": recent.step_seconds,
            "requests_per_second": [None if rate is None else _short(rate) for rate in recent.requests_per_second],
        },
        "forecast": _drawn(_ahead(view, daily=daily)),
    }


def _ahead(view: PoolView, *, daily: bool) -> list[Forecast]:
    minutes = [f for f in view.forecasts if f.series.signal == Signal.REQUESTS]
    if not daily:
        return minutes
    hours = [
        forecast
        for outlook in view.outlooks
        if outlook.grain == Grain.HOUR and outlook.series.signal == Signal.REQUESTS
        for forecast in outlook.forecasts
        if forecast.horizon_seconds <= 86_400
    ]
    last = max((f.target_at for f in minutes), default=-math.inf)
    return minutes + [f for f in hours if f.target_at > last]


def _drawn(forecasts: Sequence[Forecast]) -> list[list[float]]:
    """[time, median, 0.95 quantile] by time."""
    points = [[f.target_at, *(_short(f.quantiles[level]) for level in _DRAWN)] for f in forecasts]
    return sorted(points)


def _short(value: float) -> float:
    """Four significant digits: more cannot be seen in a line 40 pixels high."""
    return float(f"{value:.4g}")
