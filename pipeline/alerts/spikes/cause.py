"""What kind of spike or drop it is: which measure moved, against what it was before, and the evidence for it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pipeline.alerts.feedback import Verdict
from pipeline.alerts.spikes.attribution import PartChange, UsualParts
from pipeline.alerts.spikes.detector import Direction, SpikeDetector, SpikeState, rest_after_alert
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.types import Forecast, Signal
from pipeline.windows.types import ClosedWindow

__all__ = ["Cause", "CauseKind", "ObservedDrop", "ObservedSpike", "SpikeWatch"]

#: A measure that grew at least this much counts as risen.
_ROSE = 1.3
#: Share of requests that were refused or failed from which a rise looks like clients trying again.
_RETRY_SHARE = 0.1
_HALF_LIFE_SECONDS = 1800.0
_BEFORE_SECONDS, _AFTER_SECONDS = 3600.0, 3 * 3600.0
#: Signals that are watched for spikes; each has its share of the wanted false alerts.
_WATCHED = (Signal.REQUESTS, Signal.PREFILL_TOKENS, Signal.DECODE_TOKENS)


class CauseKind(StrEnum):
    """What rose. Append only."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input tokens"
    OUTPUT_TOKENS = "output tokens"
    RETRIES = "retries"
    CALENDAR_EVENT = "calendar event"
    TENANT = "tenant"
    REGION = "region"


#: Dimensions that are kinds of their own, the narrower before the wider; others are told in the evidence alone.
_DIMENSIONS = {"tenant": CauseKind.TENANT, "region": CauseKind.REGION}


@dataclass(frozen=True, slots=True)
class Cause:
    """The kind of a spike and its evidence as a phrase."""

    kind: CauseKind
    evidence: str


@dataclass(frozen=True, slots=True)
class ObservedSpike:
    """A running episode: the state of the signal that stands out most, the signal, and the cause."""

    signal: Signal
    state: SpikeState
    cause: Cause


@dataclass(frozen=True, slots=True)
class ObservedDrop:
    """A running fall of the request rate, and the evidence for it."""

    state: SpikeState
    evidence: str


@dataclass(frozen=True, slots=True)
class _Profile:
    """What a window's requests look like."""

    requests_per_second: float
    input_tokens: float
    output_tokens: float
    refused_share: float
    cached_share: float


class SpikeWatch:
    """Watches the demand signals of one pool and says what kind of spike it sees.

    Requests, prefill tokens and decode tokens each have a detector with a third of the wanted false alerts, so longer
    prompts at an unchanged request rate are found as well. The cause is told from how the window differs from a slow
    mean of the windows before the episode: requests or tokens per request, whichever grew more; retries where the
    refused and failed requests grew along; a tenant or a region where the windows are broken down by it and most of the
    rise came from one.

    Of requests falls are watched, too, within the same budget: tokens fall with them.
    """

    def __init__(self, false_alerts_per_day: float, grain_seconds: float) -> None:
        share = false_alerts_per_day / len(_WATCHED)
        # The rest is that of the pool: with a share of its alerts each signal would rest as many times as long.
        rest = rest_after_alert(false_alerts_per_day)
        self._detectors = {
            signal: SpikeDetector(
                share,
                grain_seconds,
                direction=Direction.BOTH if signal is Signal.REQUESTS else Direction.UP,
                rest_seconds=rest,
            )
            for signal in _WATCHED
        }
        #: The fall of requests that runs after the newest window.
        self.drop: ObservedDrop | None = None
        self._keep = 0.5 ** (grain_seconds / _HALF_LIFE_SECONDS)
        self._usual: _Profile | None = None
        self._parts = UsualParts(self._keep)
        self._cause: Cause | None = None
        self._signal = Signal.REQUESTS

    def mark(self, raised_at: float, verdict: Verdict) -> None:
        """Take what an operator says of the alert raised at ``raised_at``: for every signal that raised it."""
        for detector in self._detectors.values():
            detector.mark(raised_at, verdict)

    def observe(
        self,
        window: ClosedWindow,
        rates: dict[str, float | None],
        expected: dict[Signal, tuple[Forecast, ...]],
        events: Sequence[CalendarRecord] = (),
    ) -> ObservedSpike | None:
        """Judge one closed window; ``expected`` are the forecasts issued one step before, by signal.

        Returns the rise that runs; ``drop`` has the fall.
        """
        end = float(window.end)
        states = {}
        for signal, detector in self._detectors.items():
            states[signal] = detector.observe(end, rates[signal], expected.get(signal, ()))
        profile = None if rates[Signal.REQUESTS] is None else _profile(window, rates[Signal.REQUESTS] or 0.0)
        self._watch_drop(window, states[Signal.REQUESTS], profile, _acting(events, end))
        active = {signal: state for signal, state in states.items() if state.active and not state.falls}
        if not active:
            if profile is not None and self.drop is None:
                self._usual = _usual(self._usual, profile, self._keep, empty=not window.requests)
                self._parts.learn(window)
            self._cause = None
            return None
        if self._cause is None or self._signal not in active:
            self._signal = max(active, key=lambda signal: active[signal].ratio or 0.0)
        if profile is not None:
            # By requests where they rose, which says it plainest; else by what stands out.
            risen = [signal for signal in (Signal.REQUESTS, self._signal) if signal in active]
            rises = next(filter(None, (self._parts.explain(window, signal) for signal in risen)), ())
            self._cause = _cause(self._usual, profile, self._signal, _acting(events, end), rises)
        if self._cause is None:
            return None
        return ObservedSpike(self._signal, active[self._signal], self._cause)

    def _watch_drop(
        self, window: ClosedWindow, state: SpikeState, profile: _Profile | None, event: CalendarRecord | None
    ) -> None:
        if not (state.active and state.falls):
            self.drop = None
            return
        evidence = "" if self.drop is None else self.drop.evidence
        if profile is not None:
            falls = self._parts.explain(window, Signal.REQUESTS, falls=True)
            evidence = _drop_evidence(self._usual, profile, event, falls)
        self.drop = ObservedDrop(state, evidence)


def _profile(window: ClosedWindow, rate: float) -> _Profile:
    requests = max(1, window.requests)
    return _Profile(
        requests_per_second=rate,
        input_tokens=window.input_tokens / requests,
        output_tokens=window.output_tokens / requests,
        refused_share=(window.requests - window.ok) / requests,
        cached_share=window.cached_input_tokens / window.input_tokens if window.input_tokens else 0.0,
    )


def _usual(old: _Profile | None, new: _Profile, keep: float, *, empty: bool) -> _Profile | None:
    """Move the usual on by one window; one without requests says nothing about what requests look like."""
    if not empty:
        return new if old is None else _blend(old, new, keep)
    return None if old is None else replace(old, requests_per_second=keep * old.requests_per_second)


def _blend(old: _Profile, new: _Profile, keep: float) -> _Profile:
    def mix(a: float, b: float) -> float:
        return keep * a + (1.0 - keep) * b

    return _Profile(
        mix(old.requests_per_second, new.requests_per_second),
        mix(old.input_tokens, new.input_tokens),
        mix(old.output_tokens, new.output_tokens),
        mix(old.refused_share, new.refused_share),
        mix(old.cached_share, new.cached_share),
    )


def _cause(
    usual: _Profile | None,
    now: _Profile,
    signal: Signal,
    event: CalendarRecord | None,
    rises: Sequence[PartChange],
) -> Cause:
    if usual is None:
        return Cause(_kind_of(signal), "nothing to compare with yet")
    grew = {
        CauseKind.REQUESTS: _ratio(now.requests_per_second, usual.requests_per_second),
        CauseKind.INPUT_TOKENS: _ratio(now.input_tokens, usual.input_tokens),
        CauseKind.OUTPUT_TOKENS: _ratio(now.output_tokens, usual.output_tokens),
    }
    evidence = "".join(f"{rise}; " for rise in rises) + (
        f"requests x{grew[CauseKind.REQUESTS]:.2f} "
        f"({usual.requests_per_second:,.2f} to {now.requests_per_second:,.2f}/s), "
        f"input tokens per request x{grew[CauseKind.INPUT_TOKENS]:.2f} ({now.input_tokens:,.0f}), "
        f"output tokens per request x{grew[CauseKind.OUTPUT_TOKENS]:.2f} ({now.output_tokens:,.0f})"
    )
    if event is not None:
        return Cause(CauseKind.CALENDAR_EVENT, f"announced event {event.kind!r} ({event.id}); {evidence}")
    if _refused_more(usual, now) and grew[CauseKind.REQUESTS] >= _ROSE:
        return Cause(
            CauseKind.RETRIES,
            f"{now.refused_share:.0%} of the requests were refused or failed (before: {usual.refused_share:.0%}), "
            f"{now.cached_share:.0%} of the input came from the prefix cache (before: {usual.cached_share:.0%}), "
            f"as when clients try again; {evidence}",
        )
    explained = {rise.dimension for rise in rises}
    dimension = next((name for name in _DIMENSIONS if name in explained), None)
    if dimension is not None:
        return Cause(_DIMENSIONS[dimension], evidence)
    tokens = max((CauseKind.INPUT_TOKENS, CauseKind.OUTPUT_TOKENS), key=lambda kind: grew[kind])
    longer = grew[tokens] >= _ROSE and grew[tokens] > grew[CauseKind.REQUESTS]
    return Cause(tokens if longer else CauseKind.REQUESTS, evidence)


def _drop_evidence(
    usual: _Profile | None, now: _Profile, event: CalendarRecord | None, falls: Sequence[PartChange]
) -> str:
    if usual is None:
        return "nothing to compare with yet"
    told = [] if event is None else [f"near the announced event {event.kind!r} ({event.id})"]
    told += map(str, falls)
    if _refused_more(usual, now):
        told.append(
            f"{now.refused_share:.0%} of the requests were refused or failed (before: {usual.refused_share:.0%})"
        )
    ratio = _ratio(now.requests_per_second, usual.requests_per_second)
    told.append(f"requests x{ratio:.2f} ({usual.requests_per_second:,.2f} to {now.requests_per_second:,.2f}/s)")
    return "; ".join(told)


def _refused_more(usual: _Profile, now: _Profile) -> bool:
    return now.refused_share >= max(_RETRY_SHARE, 2.0 * usual.refused_share)


def _kind_of(signal: Signal) -> CauseKind:
    names = {Signal.PREFILL_TOKENS: CauseKind.INPUT_TOKENS, Signal.DECODE_TOKENS: CauseKind.OUTPUT_TOKENS}
    return names.get(signal, CauseKind.REQUESTS)


def _ratio(now: float, before: float) -> float:
    return now / before if before > 0.0 else (math.inf if now > 0.0 else 1.0)


def _acting(events: Sequence[CalendarRecord], at: float) -> CalendarRecord | None:
    near = (e for e in events if e.starts_at - _BEFORE_SECONDS <= at <= e.ends_at + _AFTER_SECONDS)
    return min(near, key=lambda e: abs(e.starts_at - at), default=None)
