"""Which tenant, region or other value of a dimension a rise, or a fall, came from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.forecast.rates import counted_seconds
from pipeline.forecast.types import Signal
from pipeline.windows.types import REST, Breakdown, ClosedWindow, Part

__all__ = ["UNITS", "PartChange", "UsualParts"]

#: The signals that are told apart by value, and their units in words.
UNITS = {
    Signal.REQUESTS: "requests/s",
    Signal.PREFILL_TOKENS: "uncached input tokens/s",
    Signal.DECODE_TOKENS: "output tokens/s",
}
#: A value explains a rise or a fall from this share of it on ...
_EXPLAINS = 0.6
#: ... unless it is nearly all there is: then the change is simply one of the pool.
_NEARLY_ALL = 0.95
#: Values that are remembered per dimension, at least those of one window.
_REMEMBERED = 64

_Rates = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PartChange:
    """A value that most of a rise or a fall came from: its rate before and now in ``unit``, and its share of it."""

    dimension: str
    value: str
    before: float
    now: float
    unit: str
    share: float

    def __str__(self) -> str:
        """What an operator reads."""
        digits = 1 if max(self.before, self.now) < 1_000.0 else 0
        change = "fall" if self.now < self.before else "rise"
        return (
            f"{self.dimension} {self.value}: {self.before:.{digits}f} to {self.now:.{digits}f} {self.unit}, "
            f"{min(1.0, self.share):.0%} of the {change}"
        )


@dataclass(slots=True)
class _Usual:
    """Slow means of one dimension: of the whole, and by value; rates in the order of ``UNITS``."""

    whole: _Rates
    values: dict[str, _Rates] = field(default_factory=dict)

    def blend(self, whole: _Rates, values: Mapping[str, _Rates], keep: float) -> None:
        self.whole = _mix(self.whole, whole, keep)
        nothing = (0.0,) * len(whole)
        mixed = {
            value: _mix(self.values.get(value, nothing), values.get(value, nothing), keep)
            for value in sorted(self.values.keys() | values.keys())
        }
        self.values = dict(sorted(mixed.items(), key=lambda item: (-self._weight(item[1]), item[0]))[:_REMEMBERED])

    def _weight(self, rates: _Rates) -> float:
        return sum(rate / whole for rate, whole in zip(rates, self.whole, strict=True) if whole > 0.0)


class UsualParts:
    """Remembers what the values of each dimension usually come to, and tells which of them a rise came from.

    A value that a window does not name counts as 0 in it: it is at most the least that is named. Bounded: the values of
    a window and 64 per dimension.

    Args:
        keep: share of the mean that one window leaves.
    """

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._usual: dict[str, _Usual] = {}

    def learn(self, window: ClosedWindow) -> None:
        """Take in an ordinary window."""
        if not window.breakdown:
            return
        whole, seconds = _whole(window), counted_seconds(window)
        for told in window.breakdown:
            values = {part.value: _rates(part, seconds) for part in told.parts if part.value != REST}
            usual = self._usual.get(told.dimension)
            if usual is None:
                self._usual[told.dimension] = _Usual(whole, values)
            else:
                usual.blend(whole, values, self._keep)

    def explain(self, window: ClosedWindow, signal: Signal, *, falls: bool = False) -> tuple[PartChange, ...]:
        """Return, per dimension, the value that the rise of ``signal`` (or its fall) came from, where one stands out.

        It has 60 % of the change or more, and at least half of what was left to it beyond its usual share: a tenant
        with 70 % of the demand must have 85 % of the change.
        """
        found = (self._of(told, window, signal, falls=falls) for told in window.breakdown)
        return tuple(change for change in found if change is not None)

    def _of(self, told: Breakdown, window: ClosedWindow, signal: Signal, *, falls: bool) -> PartChange | None:
        usual = self._usual.get(told.dimension)
        if usual is None:
            return None
        at, seconds, sign = tuple(UNITS).index(signal), counted_seconds(window), -1.0 if falls else 1.0
        whole = usual.whole[at]
        change = sign * (_whole(window)[at] - whole)
        if change <= 0.0 or whole <= 0.0:
            return None
        rates = {part.value: _rates(part, seconds)[at] for part in told.parts if part.value != REST}
        before = {value: usual.values[value][at] if value in usual.values else 0.0 for value in rates}
        if falls:  # what has vanished is in no part
            before |= {value: known[at] for value, known in usual.values.items()}
        moved = {value: sign * (rates.get(value, 0.0) - was) for value, was in before.items()}
        value = max(moved, key=lambda name: (moved[name], name), default=None)
        if value is None:
            return None
        share, usually = moved[value] / change, before[value] / whole
        if share < max(_EXPLAINS, (1.0 + usually) / 2.0) or usually > _NEARLY_ALL:
            return None
        return PartChange(told.dimension, value, before[value], rates.get(value, 0.0), UNITS[signal], share)


def _whole(window: ClosedWindow) -> _Rates:
    sums = Part("", window.requests, window.input_tokens, window.cached_input_tokens, window.output_tokens)
    return _rates(sums, counted_seconds(window))


def _rates(part: Part, seconds: float) -> _Rates:
    uncached = max(0, part.input_tokens - part.cached_input_tokens)
    return part.requests / seconds, uncached / seconds, part.output_tokens / seconds


def _mix(old: _Rates, new: _Rates, keep: float) -> _Rates:
    return tuple(keep * a + (1.0 - keep) * b for a, b in zip(old, new, strict=True))
