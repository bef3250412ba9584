"""Totals since this process started, by pool: what the counters of ``/metrics`` show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.alerts.types import Alert
from pipeline.windows.types import REST, ClosedWindow, PoolKey
from sizing.types import Recommendation

__all__ = ["Counters", "Totals"]


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since this process started; keys are the metric's labels after (model, pool)."""

    requests: Mapping[tuple[str, str, str], int]
    tokens: Mapping[tuple[str, str, str], int]
    recommendation_changes: Mapping[tuple[str, str, str, str], int]
    revisions: Mapping[tuple[str, str], int]
    alerts: Mapping[tuple[str, str, str], int]
    unnamed_values: Mapping[tuple[str, str, str], int]
    steps: int


class Totals:
    """Counts what steps say; its owner sees to it that one thread at a time does."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._tokens: Counter[tuple[str, str, str]] = Counter()
        self._changes: Counter[tuple[str, str, str, str]] = Counter()
        self._revisions: Counter[tuple[str, str]] = Counter()
        self._alerts: Counter[tuple[str, str, str]] = Counter()
        self._unnamed_values: Counter[tuple[str, str, str]] = Counter()
        self._steps = 0

    def step(self) -> None:
        """Count one step."""
        self._steps += 1

    def take_window(self, window: ClosedWindow) -> None:
        """Count what a window holds; a gap holds nothing."""
        if window.gap:
            return
        key = (window.model, window.pool)
        rest = window.requests - window.ok - window.rejected
        for status, count in (("ok", window.ok), ("rejected", window.rejected), ("other", rest)):
            self._requests[*key, status] += max(0, count)
        uncached = window.input_tokens - window.cached_input_tokens
        for kind, count in (
            ("input", uncached),
            ("cached_input", window.cached_input_tokens),
            ("output", window.output_tokens),
        ):
            self._tokens[*key, kind] += max(0, count)
        for told in window.breakdown:
            named = sum(part.value != REST for part in told.parts)
            self._unnamed_values[*key, told.dimension] += max(0, told.values - named)

    def take_change(self, advice: Recommendation) -> None:
        """Count advice that differs from the one before it."""
        self._changes[advice.model, advice.pool, advice.direction, str(advice.reason)] += 1
        self._revisions[advice.model, advice.pool] += 0  # told from the first advice on: a rate needs a beginning

    def take_revision(self, advice: Recommendation) -> None:
        """Count advice that was raised between two steps."""
        self._revisions[advice.model, advice.pool] += 1

    def take_alert(self, alert: Alert) -> None:
        """Count an episode that was not known before."""
        self._alerts[alert.model, alert.pool, str(alert.kind)] += 1

    def forget(self, pools: Collection[PoolKey]) -> None:
        """Drop the totals of pools that went away."""
        counters: tuple[Counter[Any], ...] = (
            self._requests,
            self._tokens,
            self._changes,
            self._revisions,
            self._alerts,
            self._unnamed_values,
        )
        for counter in counters:
            for labels in [labels for labels in counter if PoolKey(*labels[:2]) in pools]:
                del counter[labels]

    def read(self) -> Counters:
        """Return the totals (copies)."""
        return Counters(
            dict(self._requests),
            dict(self._tokens),
            dict(self._changes),
            dict(self._revisions),
            dict(self._alerts),
            dict(self._unnamed_values),
            self._steps,
        )
