"""What an expert is: River's two verbs over a shared context."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pipeline.forecast.context import Floats, SeriesContext

__all__ = ["Expert"]


class Expert(ABC):
    """A cheap online forecaster of one series for all horizons at once.

    The owner pushes each window into the shared ``context`` first, then calls ``learn_one`` and ``forecast``. Experts
    are deterministic, picklable and of bounded size.
    """

    # A dict for each of a dozen experts of every series would take more than what they know. Those that declare no
    # slots have one, with ``context`` in it.
    __slots__ = ()
    context: SeriesContext

    def __init__(self, context: SeriesContext) -> None:
        self.context = context  # type: ignore[misc]  # a slot of the subclass, or in its dict

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name, distinct within a pool."""

    @property
    def awake(self) -> bool:
        """Whether the newest forecast is the expert's own; one that only stands in is neither used nor judged."""
        return True

    def learn_one(self, y: float | None) -> None:
        """Learn the window that the context took last; None (a gap) lets time pass without learning.

        Does nothing for experts that live on the context alone.
        """
        del y

    @abstractmethod
    def forecast(self) -> Floats:
        """Forecasts for every horizon of the context, shape ``(horizons,)``: finite and non-negative."""
