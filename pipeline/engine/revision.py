"""What the reports of a fleet say between two windows that the newest step did not know.

A step leaves what it rested on (``Basis``). A revision takes the counts of the reports since, and asks the rules and
the controller again where they may lead to more replicas; a check of some numbers says first whether they may.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from pipeline.config.settings import PoolSettings
from pipeline.engine.decisions.announced import at_least_forecast
from pipeline.engine.decisions.decision_experts import Asking, consider
from pipeline.engine.decisions.pool_decisions import provision
from pipeline.engine.start_ups import StartUps
from pipeline.engine.types import Reading
from pipeline.forecast.types import Signal
from pipeline.windows.fleet import FleetReport
from sizing.scaling.live_queue import LiveQueue, ServingFleet
from sizing.scaling.raises import Saturated
from sizing.scaling.situation import Situation
from sizing.types import Demand

__all__ = ["Basis", "Inputs", "counted_since", "newer_inputs", "revised_demand", "saturated"]

#: The share of a window that counts have to span, and the standard deviations by which they may exceed its rate by
#: chance. Rules are judged by whole windows: what comes in a quarter of one is often not what comes in all of it.
_LEAST_SHARE, _CHANCE = 2 / 3, 2.0


@dataclass(frozen=True, slots=True)
class Basis:
    """What the advice of the step at ``end`` (epoch seconds) rests on.

    ``demand`` is None where it was not known, ``asking`` where no rules were asked; ``announced``: at least the
    forecast is provisioned for. ``fleet`` is the report that the step knew. ``counts``: the router's count is believed.
    """

    end: int
    demand: Demand | None
    situation: Situation
    asking: Asking | None
    announced: bool
    fleet: FleetReport | None
    counts: bool


class Inputs(NamedTuple):
    """What a controller is asked with between two steps; see ``ReplicaController.revise``."""

    demand: Demand | None
    situation: Situation
    counted: bool
    saturated: Saturated | None


def newer_inputs(
    reading: Reading,
    basis: Basis | None,
    as_of: int,
    until: float,
    pool: PoolSettings,
    start_ups: StartUps,
    queue: LiveQueue,
    desired: int | None,
) -> Inputs | None:
    """Return what a reading of a pool says that its last step did not know; None: nothing that may raise its advice.

    Args:
        reading: with reports of ``until`` (epoch seconds) at most; later ones are not believed.
        basis: of the last step; None: there was none.
        as_of: the time of the revision, epoch seconds of event time.
        until: see ``reading``.
        pool: with its lead time and its cost ratio.
        start_ups: of the pool, which learn nothing here.
        queue: that of the controller of the pool.
        desired: replicas that are advised; None: none were yet.
    """
    if not _is_newer(reading, basis, until):
        return None
    full = saturated(reading) if basis is None else None
    rate = None if basis is None else counted_since(basis, reading.fleet)
    if rate is None and full is None and not _may_wait(basis, reading, queue, desired):
        return None
    demand = None if basis is None else basis.demand
    if basis is not None and rate is not None:
        demand = revised_demand(basis, rate, pool.policy().demand_quantile)
    situation = _live_situation(basis, reading, start_ups, pool.lead_time_seconds, as_of)
    return Inputs(demand, situation, rate is not None, full)


def _is_newer(reading: Reading, basis: Basis | None, until: float) -> bool:
    """Whether a reading is a report that the step did not know, of ``until`` at most."""
    fleet = reading.fleet
    if fleet is None or reading.current_replicas is None or not fleet.reported_at <= until:
        return False
    known = None if basis is None else basis.fleet
    return known is None or fleet.reported_at > known.reported_at


def counted_since(basis: Basis, fleet: FleetReport | None) -> float | None:
    """Return the requests/s that came at least since the step, but for chance; None: they are not more than it knew.

    With n arrivals counted, of a dispersion d, two standard deviations less are taken, n − 2·√(d·n).
    """
    demand, counted = basis.demand, None if fleet is None else fleet.counted
    known = None if demand is None else demand.observed_requests_per_second
    if demand is None or known is None or counted is None or counted.after is None or not basis.counts:
        return None
    before = None if basis.fleet is None else basis.fleet.counted
    more, seconds = counted.after, counted.after_seconds
    if before is not None and before.after is not None:
        more, seconds = more - before.after, seconds - before.after_seconds
    least = _LEAST_SHARE * basis.situation.window_seconds
    if more <= 0 or not max(least, 1.0) <= seconds < math.inf:
        return None
    rate = (more - _CHANCE * math.sqrt(demand.dispersion * more)) / seconds
    return rate if rate > known else None


def revised_demand(basis: Basis, rate: float, level: float) -> Demand:
    """Return the demand of a step with ``rate`` requests/s as observed, and what its rules provision for by it.

    Requests are taken to be what they were: every signal grows as their rate does. ``level`` is the demand quantile.
    """
    demand, asking = basis.demand, basis.asking
    assert demand is not None
    assert demand.observed_requests_per_second is not None
    provisioned = demand.provision
    if asking is not None and demand.observed_requests_per_second > 0:
        growth = rate / demand.observed_requests_per_second
        said = provision(consider(asking._replace(observed=[value * growth for value in asking.observed])))
        if basis.announced:
            quantiles = (
                demand.requests_per_second,
                demand.prefill_tokens_per_second,
                demand.decode_tokens_per_second,
                demand.kv_tokens,
            )
            known = {signal: values for signal, values in zip(Signal, quantiles, strict=True) if values is not None}
            said = at_least_forecast(said, known, level)
        provisioned = said
    return replace(demand, observed_requests_per_second=rate, provision=provisioned)


def _may_wait(basis: Basis | None, reading: Reading, queue: LiveQueue, desired: int | None) -> bool:
    """Whether requests that wait may need more than is ``desired``: whether they would if no replica were starting."""
    queued = None if reading.fleet is None else reading.fleet.queued_requests
    serving = reading.current_replicas if reading.ready_replicas is None else reading.ready_replicas
    if basis is None or not queued or serving is None:
        return False
    known = basis.situation.arrivals_per_second(basis.demand)
    newest = _newest_per_second(reading, basis)
    rates = [rate for rate in (known, newest) if rate is not None]
    if not rates:
        return False
    fleet = ServingFleet(serving, (), basis.situation.start_up_seconds or 0.0)
    needed = queue.needed_now(queued, fleet, max(rates))
    return needed is not None and needed > (desired or 0)


def _newest_per_second(reading: Reading, basis: Basis | None) -> float | None:
    counted = None if reading.fleet is None or basis is None or not basis.counts else reading.fleet.counted
    if counted is None or counted.newest is None or not counted.newest_seconds > 0:
        return None
    return counted.newest / counted.newest_seconds


def _live_situation(
    basis: Basis | None, reading: Reading, start_ups: StartUps, start_up_seconds: float, as_of: int
) -> Situation:
    """Return the situation of a step with what is live in the fleet now; nothing is learned of start-ups."""
    fleet, situation = reading.fleet, Situation() if basis is None else basis.situation
    assert fleet is not None
    start_ups = copy.deepcopy(start_ups)
    start_ups.add(fleet.counts)
    start_up = situation.start_up_seconds if situation.start_up_seconds is not None else start_up_seconds
    counted = fleet.counted if basis is not None and basis.counts else None
    known_after = 0.0
    if basis is not None and counted is not None and counted.after is not None:
        # Counts reach from the end of the window to the newest report.
        known_after = basis.end + counted.after_seconds - as_of
    return replace(
        situation,
        ready=reading.ready_replicas,
        queued_requests=fleet.queued_requests,
        starting_seconds=start_ups.starting_seconds(start_up),
        start_up_seconds=start_up,
        newest_requests_per_second=_newest_per_second(reading, basis),
        known_after_seconds=max(known_after, 0.0),
    )


def saturated(reading: Reading) -> Saturated | None:
    """Return a fleet that is full, by a queue that is older than the newest reports; None: that is not known.

    More requests wait than have come in the seconds of the newest count: some waited at the report before already.
    """
    fleet = reading.fleet
    if fleet is None or fleet.counted is None or fleet.counted.newest is None or not reading.ready_replicas:
        return None
    if not fleet.queued_requests or not fleet.running_requests or fleet.counted.newest_seconds <= 0:
        return None
    if not 0 <= fleet.counted.newest < fleet.queued_requests:
        return None
    return Saturated(reading.ready_replicas, fleet.running_requests, fleet.queued_requests)
