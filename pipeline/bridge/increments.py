"""Counters to increments: what a server has done between two scrapes. No I/O, no clock.

A counter that is below its earlier value was reset, and all of it is new (as Prometheus' ``increase`` counts); so is
all of a server whose process has started since. The first scrape of a target is a baseline and says nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.bridge.readings import MAX_SERIES, Reading, Series

__all__ = ["MAX_GAP_SECONDS", "Increments", "TargetState", "advance"]

#: After a longer time without a scrape there is no telling when the requests came: they are left out.
MAX_GAP_SECONDS = 3_600.0
#: More requests between two scrapes are taken for a fault of the counters.
MAX_REQUESTS = 10_000_000.0
#: Starts of one process, as it tells them, differ by less.
_SAME_START_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class TargetState:
    """What is remembered of a target: the newest scrape (epoch seconds), and the values that have been counted."""

    at: float
    started: float | None
    values: Mapping[Series, float]


@dataclass(frozen=True, slots=True)
class Increments:
    """What was added in [since, until) (epoch seconds) over all series, by quantity and part as ``Series`` has them."""

    since: float
    until: float
    sums: Mapping[str, Mapping[str, float]]

    def of(self, quantity: str, part: str = "") -> float | None:
        """The increment of one part of a quantity; None: the server does not tell it."""
        return self.sums.get(quantity, {}).get(part)

    @property
    def requests(self) -> float:
        """Finished requests of every status."""
        return _requests(self.sums)


def advance(state: TargetState | None, reading: Reading, at: float) -> tuple[TargetState, Increments | None, float]:
    """Take one scrape of a target at ``at`` (epoch seconds).

    Returns:
        The new state; the increments, where requests have finished (else what was added to the other counters stays for
        the scrape at which they have); and the requests that are left out, because the last scrape is too long ago or
        their number is absurd.
    """
    if state is None:
        return TargetState(at, reading.started, reading.values), None, 0.0
    if at <= state.at:  # the clock was set back: what was added is counted at a later scrape
        return state, None, 0.0
    restarted = (
        state.started is not None
        and reading.started is not None
        and abs(reading.started - state.started) > _SAME_START_SECONDS
    )
    before: Mapping[Series, float] = {} if restarted else state.values
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for series, value in reading.values.items():
        quantity, part, _ = series
        earlier = before.get(series, 0.0)
        sums[quantity][part] += value - earlier if value >= earlier else value
    requests = _requests(sums)
    if at - state.at > MAX_GAP_SECONDS or requests > MAX_REQUESTS:
        return TargetState(at, reading.started, reading.values), None, requests
    if requests < 1.0:
        return TargetState(at, reading.started, before), None, 0.0
    values = {**before, **reading.values}  # a series that is missing once is still known when it comes back
    if len(values) > MAX_SERIES:
        values = dict(reading.values)
    increments = Increments(state.at, at, {quantity: dict(parts) for quantity, parts in sums.items()})
    return TargetState(at, reading.started, values), increments, 0.0


def _requests(sums: Mapping[str, Mapping[str, float]]) -> float:
    return sum(parts.get("", 0.0) for quantity, parts in sums.items() if quantity.startswith("requests."))
