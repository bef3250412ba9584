"""What demand is now, by what is newer than the events of the newest window."""

from __future__ import annotations

from pipeline.engine.fleet_count import CountedDemand
from pipeline.engine.in_flight import LiveDemand
from pipeline.windows.types import ClosedWindow
from sizing.types import Demand, Workload

__all__ = ["counted_demand", "live_rate"]


def live_rate(rate: float | None, live: LiveDemand, window: ClosedWindow, saturation: float) -> float | None:
    """Return the rate of a window, or what came since by the fleet's own count or by the growth in flight, requests/s.

    What ends meanwhile is what came, but no more than replicas that are saturated serve.

    Args:
        rate: of the window, by its events; None: not known.
        live: what is newer.
        window: the newest one.
        saturation: requests/s that one replica serves at most; 0: not known.
    """
    if rate is None:
        return None
    since = live.counted.after_per_second
    now = rate if since is None else max(rate, since)
    if live.growth_per_second <= 0.0:
        return now
    served = rate
    if saturation and window.ready_replicas:
        served = min(rate, saturation * window.ready_replicas)
    return max(now, served + live.growth_per_second)


def counted_demand(
    window: ClosedWindow,
    counted: CountedDemand,
    workload: Workload | None,
    dispersion: float,
    horizon_seconds: float,
) -> Demand | None:
    """Return what the fleet itself counts while its events are missing; None: that is not known.

    It may raise advice that is held. ``workload`` is what requests were like so far (None: not known), ``dispersion``
    the index of dispersion of their arrivals, ``horizon_seconds`` the lead time.
    """
    if counted.in_window is None or workload is None:
        return None
    rate = max(counted.in_window / window.grain_seconds, counted.after_per_second or 0.0)
    return Demand(
        levels=(0.5,),
        requests_per_second=(rate,),
        workload=workload,
        horizon_seconds=horizon_seconds,
        observed_requests_per_second=rate,
        dispersion=dispersion,
        note="by the fleet's own count",
    )
