"""How often the requests of one pool have met its objective, over minutes to a month."""

from __future__ import annotations

from pipeline.engine.span_sums import SpanSums
from pipeline.windows.types import ClosedWindow

__all__ = ["SPANS", "SloRecord"]

#: Spans that attainment is told over, by name, in seconds.
SPANS = {"5m": 300, "30m": 1_800, "1h": 3_600, "6h": 21_600, "1d": 86_400, "3d": 259_200, "30d": 2_592_000}
#: Told to the minute, the hour and the day.
_GRAINS = ((60, 3_600), (3_600, 259_200), (86_400, 2_592_000))


class SloRecord:
    """Requests within the objective, and those that were judged, by time. Pickles, and continues identically."""

    def __init__(self) -> None:
        self._sums = SpanSums(2, _GRAINS)

    def learn(self, window: ClosedWindow) -> None:
        """Add one closed window; one that judged no request adds nothing."""
        counts = None if window.gap or window.service is None else window.service.counts
        if counts is not None and counts.judged:
            self._sums.add(window.start, (counts.met, counts.judged))
        self._sums.forget(window.end)

    def attainment(self, end: int) -> dict[str, float]:
        """Return the share of requests within the objective before ``end`` (epoch seconds) by span.

        Spans without a judged request are left out.
        """
        told: dict[str, float] = {}
        if not len(self._sums):
            return told
        for name, seconds in SPANS.items():
            met, judged = self._sums.over(end, seconds)
            if judged:
                told[name] = met / judged
        return told
