"""Alerts as episodes: one alert from onset to end, told again only when something changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pipeline.alerts.types import Alert
from pipeline.windows.types import PoolKey

__all__ = ["SEVERITIES", "Condition", "Episode"]

#: Severities of alerts, and their order.
SEVERITIES = {"info": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True, slots=True)
class Condition:
    """What one step sees of one kind of trouble; ``worse``: much worse than what was told, whatever the severity;
    ``falls``: the lower ``ratio``, the worse.
    """

    onset_at: float
    severity: str
    ratio: float | None
    probability: float | None
    message: str
    worse: bool = False
    falls: bool = False


class Episode:
    """One kind of alert of one pool.

    It begins with the first step that sees the condition and ends after ``calm_steps`` steps without it, so that a
    value wavering around a threshold makes one alert, not many. While it lasts it is told again when it worsens. The
    alert that ends it carries the greatest ratio of the episode (of a fall the least) and says when that was.
    """

    def __init__(self, key: PoolKey, kind: str, calm_steps: int) -> None:
        self.key = key
        self.kind = kind
        self.calm_steps = calm_steps
        self.current: Alert | None = None
        self._calm = 0
        self._peak: tuple[float, float] | None = None
        self._falls = False

    def step(self, now: float, condition: Condition | None) -> Alert | None:
        """Take what this step sees; return the alert if it began, worsened or ended, else None."""
        if condition is None:
            return self._without(now)
        self._calm = 0
        if self.current is None:
            self._peak = None
        self._falls = condition.falls
        if condition.ratio is not None and (
            self._peak is None or (condition.ratio < self._peak[0] if self._falls else condition.ratio > self._peak[0])
        ):
            self._peak = (condition.ratio, now)
        if self.current is None:
            self.current = Alert(
                alert_id=f"{self.kind}|{self.key.model}|{self.key.pool}|{int(now)}",
                kind=self.kind,
                model=self.key.model,
                pool=self.key.pool,
                raised_at=now,
                onset_at=condition.onset_at,
                ended_at=None,
                severity=condition.severity,
                ratio=condition.ratio,
                probability=condition.probability,
                message=condition.message,
            )
            return self.current
        rise = SEVERITIES[condition.severity] - SEVERITIES[self.current.severity]
        if rise <= 0 and not condition.worse:
            return None
        self.current = replace(
            self.current,
            severity=condition.severity if rise > 0 else self.current.severity,
            ratio=condition.ratio,
            probability=condition.probability,
            message=condition.message,
        )
        return self.current

    def _without(self, now: float) -> Alert | None:
        if self.current is None:
            return None
        self._calm += 1
        if self._calm < self.calm_steps:
            return None
        ended = replace(self.current, ended_at=now)
        if self._peak is not None:
            ratio, at = self._peak
            farthest = "lowest" if self._falls else "peak"
            clock = datetime.fromtimestamp(at, UTC).strftime("%H:%M")
            ended = replace(ended, ratio=ratio, message=f"{ended.message}; {farthest} {ratio:.2f} at {clock} UTC; over")
        self.current = None
        self._calm = 0
        return ended
