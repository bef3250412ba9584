"""How often the requests of one pool have met its objective, over minutes to a month."""

from __future__ import annotations

from pipeline.engine.span_sums import SpanSums
from pipeline.windows.types import ClosedWindow

__all__ = ["SPANS", "SloRecord"]

#: Spans that attainment is told over, by name, in seconds.
SPANS = {"5m": 300, "30m": 1_800, "1h": 3_600, "6h": 21_600, "1d": 86_400, "3d": 259_200, "30d": 2_592_000}
#: The span that says whether requests miss the objective: long enough for several bursts.
_SHORTFALL_SPAN_SECONDS = SPANS["6h"]
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

    def shortfall(self, end: int, percentile: float) -> float:
        """Return how far requests of the six hours before ``end`` (epoch seconds) missed an objective, from 0 to 1.

        1: no more than ``percentile`` (a share in (0, 1)) were within it, or it is not known. 0: no more than half as
        many missed it as may. Between them it is linear, so that what follows from it does not switch back and forth.
        """
        met, judged = self._sums.over(end, _SHORTFALL_SPAN_SECONDS) if len(self._sums) else (0.0, 0.0)
        if not judged:
            return 1.0
        allowed = 1.0 - percentile
        missed = 1.0 - met / judged
        return min(1.0, max(0.0, 2.0 * missed / allowed - 1.0)) if allowed > 0 else float(missed > 0)
