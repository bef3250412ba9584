"""Whether a closed window can be believed, before any arithmetic is done with it.

A window that is skipped does less harm than a missing value that is taken for a zero: with any problem found here
advice is held, and never lowered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from pipeline.forecast.rates import LEAST_COMPLETENESS, counted_seconds
from pipeline.windows.rollup import CLOSED_MEASURES
from pipeline.windows.types import ClosedWindow

__all__ = ["CHECKS", "MISSING", "InputHealth", "Judgement"]

_measures = attrgetter(*CLOSED_MEASURES)
#: The names of all checks.
CHECKS = ("completeness", "counters", "replica_reports", "in_flight", "server_coverage", "tokens")
#: The checks that tell of events, or of their tokens, that have not come.
MISSING = frozenset({"server_coverage", "in_flight", "tokens"})

#: Windows that say how many servers, requests and requests in flight are usual.
_REMEMBERED = 15
#: Servers that are missing count from this share of the usual ones on, and when a silent one would have sent so many
#: requests: for Poisson arrivals the chance that it is idle is then e⁻¹⁰ = 5·10⁻⁵.
_LEAST_SERVERS_SHARE, _LEAST_EXPECTED = 0.8, 10.0
#: By Little's law requests in flight = rate × latency. Events must account for this share of what the fleet says it
#: has in flight, where that is so many that chance does not explain it.
_LEAST_IN_FLIGHT_SHARE, _LEAST_IN_FLIGHT = 0.5, 20
#: No events are missing where the rate is at least this share of the usual one.
_LEAST_RATE_SHARE = 0.8
#: A fleet that has not reported for so long is one that does not report.
_FORGOTTEN_SECONDS = 86_400.0


class Judgement(NamedTuple):
    """What was found about one window.

    ``whole``: it follows one that was seen; else telemetry may have begun in the middle of it. ``problems`` say in
    words, by the name of the check, why it cannot be believed. ``learnable``: its counts may be learned from.
    """

    whole: bool
    problems: dict[str, str]
    learnable: bool


@dataclass(slots=True)
class InputHealth:
    """Judges the windows of one pool in order of time. Pickles, and continues identically afterwards.

    What is missing for ``accept_seconds`` is learned without, as silence is: fleets do shrink, and reports do count
    what events do not.
    """

    accept_seconds: float
    servers: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    reads: bool = False  # input tokens have been seen: they are told
    writes: bool = False  # output tokens have been seen: they are told, and the pool does not only embed
    end: int | None = None
    gap: bool = False  # the newest window was one, or events were missing in it
    missing_since: int | None = None

    def judge(
        self,
        window: ClosedWindow,
        desired: int | None,
        in_flight_before: int | None = None,
        *,
        silent: bool = False,
        counted: float | None = None,
        reported_at: float | None = None,
    ) -> Judgement:
        """Judge one window and learn from it.

        ``desired`` are the replicas that were advised last: a fleet that has been told to shrink names fewer servers.
        ``in_flight_before`` are the requests in flight by the report of the step before; None: not known.
        ``silent``: it is known that no request came, so that no server has anything to tell.
        ``counted`` requests came by the fleet's own count, where that is believed: what is in flight beside those that
        events tell of waits since before the window. None: not known.
        ``reported_at`` is when the fleet reported last before this window (epoch seconds); None: it never has. A fleet
        whose reports are gone is one whose newest report is old.
        Gaps are told elsewhere; here they have no problems, and teach nothing.
        """
        whole = self.end == window.start and not self.gap
        self.end, self.gap = window.end, window.gap
        if window.gap:
            return Judgement(whole, {}, learnable=False)
        usual = sorted(self.rates)[len(self.rates) // 2] if self.rates else None
        told_of_all = counted is not None and 0 < _LEAST_RATE_SHARE * counted <= window.requests
        in_flight = None if told_of_all else _in_flight(window, in_flight_before, usual)
        checks = (_incomplete(window), _impossible(window), _fleet(window, reported_at), in_flight)
        problems = dict(told for told in checks if told is not None)
        missing_servers = None if silent else self._silence(window, desired)
        if window.ok >= _LEAST_EXPECTED and (
            (self.writes and window.output_tokens == 0) or (self.reads and window.input_tokens == 0)
        ):
            problems["tokens"] = f"{window.ok:,} requests were served without input or output tokens"
        if missing_servers is not None:
            problems["server_coverage"] = missing_servers
        self.gap = missing = bool(MISSING & problems.keys())
        self.reads = self.reads or window.input_tokens > 0
        self.writes = self.writes or window.output_tokens > 0
        if not missing:
            self.missing_since = None
        elif self.missing_since is None:
            self.missing_since = window.start
        accepted = self.missing_since is not None and window.end - self.missing_since > self.accept_seconds
        if accepted and missing_servers is not None:
            del problems["server_coverage"]
            self.servers.clear()
            self.requests.clear()
        if not silent and "server_coverage" not in problems and window.servers is not None:
            self.servers.append(window.servers)
            self.requests.append(window.requests)
            del self.servers[:-_REMEMBERED], self.requests[:-_REMEMBERED]
        learnable = "counters" not in problems and (accepted or not missing)
        if learnable and not silent:
            self.rates.append(window.requests / counted_seconds(window))
            del self.rates[:-_REMEMBERED]
        return Judgement(whole, problems, learnable)

    def _silence(self, window: ClosedWindow, desired: int | None) -> str | None:
        if window.servers is None or not self.servers:
            return None
        usual = max(self.servers)
        # A fleet that has become smaller, or was told to, has fewer servers for a reason.
        known = (window.ready_replicas, window.current_replicas, desired)
        expected = min(usual, next((count for count in known if count is not None), usual))
        most = max(self.requests)
        if window.servers >= _LEAST_SERVERS_SHARE * expected or most < _LEAST_EXPECTED * usual:
            return None
        if window.requests >= _LEAST_SERVERS_SHARE * most:
            return None  # the others have taken over what the missing ones served
        return f"{window.servers} of {expected} servers sent events"


def _incomplete(window: ClosedWindow) -> tuple[str, str] | None:
    if window.completeness >= LEAST_COMPLETENESS:
        return None
    return "completeness", f"{window.completeness:.0%} of the window had been reported when it closed"


def _impossible(window: ClosedWindow) -> tuple[str, str] | None:
    sums = (*_measures(window), window.completeness)
    # A sum that is finite has no term that is not.
    usual = min(sums) >= 0 and sum(sums) < math.inf
    if not usual and not all(0 <= value < math.inf for value in sums):
        return "counters", "a count is negative or no number"
    return None


def _fleet(window: ClosedWindow, before: float | None) -> tuple[str, str] | None:
    reported_at = before if window.fleet is None else window.fleet.reported_at
    if reported_at is not None and window.current_replicas is None:
        age = max(window.end - reported_at, 0.0)
        if age < _FORGOTTEN_SECONDS:
            return "replica_reports", f"the newest report of the fleet was {age:,.0f} s ago"
    if window.current_replicas == 0 and window.ok > 0:
        return "replica_reports", f"{window.ok:,} requests were served by a fleet that reports no replica"
    return None


def _in_flight(window: ClosedWindow, before: int | None, usual: float | None) -> tuple[str, str] | None:
    """Tell events that are missing from overload, in which requests are in flight that no event can tell of yet.

    Events are missing where they account for too few of the requests that were in flight already when they happened,
    and demand seems to fall all the same. ``usual`` is the usual rate, requests/s.
    """
    fleet = window.fleet
    if fleet is None or fleet.running_requests is None or window.current_replicas is None:
        return None
    reported = fleet.running_requests + (fleet.queued_requests or 0)
    reported = reported if before is None else min(reported, before)
    seconds = counted_seconds(window)
    counted = window.inflight_milliseconds / 1000 / seconds
    if reported < _LEAST_IN_FLIGHT or counted >= _LEAST_IN_FLIGHT_SHARE * reported:
        return None
    if usual is not None and window.requests / seconds >= _LEAST_RATE_SHARE * usual:
        return None
    return "in_flight", f"events account for {counted:,.0f} of {reported:,} requests in flight"
