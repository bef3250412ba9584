"""Observed demand times a headroom: the rule of the Kubernetes HPA and of KEDA."""

from __future__ import annotations

import numpy as np

from pipeline.engine.decisions.rule import DemandView
from pipeline.forecast.context import Floats

__all__ = ["Observed"]


class Observed:
    """The newest window times each of ``headrooms``."""

    def __init__(self, headrooms: tuple[float, ...]) -> None:
        self.names = tuple(f"observed_x{headroom:g}" for headroom in headrooms)
        self._headrooms = np.array(headrooms)[:, None]

    def demands(self, view: DemandView) -> Floats:
        """Return what was observed of each signal, times the headrooms."""
        found: Floats = self._headrooms * view.observed
        return found
