"""The recurring profile of the season, scaled to today's level."""

from __future__ import annotations

from pipeline.forecast.context import Floats
from pipeline.forecast.experts.base import Expert

__all__ = ["ProfileLevel"]


class ProfileLevel(Expert):
    """Denoised seasonal profile at the target times today's level over the profile (``forecast.profile``).

    As steady as a moving average on noise, yet it steps with a spike that recurs at the same time of day.
    """

    __slots__ = ("context",)

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "profile_level"

    @property
    def awake(self) -> bool:
        """See ``Expert.awake``."""
        return self.context.has_profile

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        return self.context.profile_forecast
