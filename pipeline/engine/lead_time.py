"""The lead time of one pool: from the end of the newest window to a replica that is ordered on its advice serving."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.engine.start_ups import StartUps
from pipeline.windows.types import ClosedWindow

__all__ = ["LeadTime", "lead_time"]


@dataclass(frozen=True, slots=True)
class LeadTime:
    """``seconds`` is what is planned with. The measured parts are None where they are not known.

    ``start_up_seconds`` is the 0.9 quantile of the observed start-ups, ``window_age_seconds`` how old the newest
    window is when it is advised on.
    """

    seconds: float
    configured_seconds: float
    start_ups: int
    start_up_seconds: float | None
    window_age_seconds: float | None

    def evidence(self) -> dict[str, float]:
        """The numbers behind it, as a recommendation carries them; what is not known is left out."""
        told = {
            "lead_time_seconds": self.seconds,
            "configured_lead_time_seconds": self.configured_seconds,
            "start_ups_observed": float(self.start_ups),
        }
        if self.start_up_seconds is not None:
            told["start_up_p90_seconds"] = self.start_up_seconds
        if self.window_age_seconds is not None:
            told["window_age_seconds"] = self.window_age_seconds
        return told


def lead_time(start_ups: StartUps, window: ClosedWindow, configured_seconds: float, floor_seconds: float) -> LeadTime:
    """Return the measured start-up plus the age of the window, at least ``floor_seconds``; else the configured value.

    Measured means that enough start-ups were seen and that the age of the window is known.
    """
    start_up, age = start_ups.quantile(), window.closed_after_seconds
    seconds = configured_seconds if start_up is None or age is None else max(floor_seconds, start_up + age)
    return LeadTime(seconds, configured_seconds, len(start_ups.seconds), start_up, age)
