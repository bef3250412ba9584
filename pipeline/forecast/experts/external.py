"""The forecasts of another program, weighted by their record like every other expert's."""

from __future__ import annotations

import numpy as np

from pipeline.forecast.context import Floats
from pipeline.forecast.experts.base import Expert

__all__ = ["ExternalExpert"]

#: Others are clipped at twice the season's maximum; who knows of a launch may say more.
_CLIP_RATIO = 5.0


class ExternalExpert(Expert):
    """The median that another program (a foundation model, a team's own) has forecast for each target.

    Where the forecasts come from is told by ``forecast.external``; ``pipeline.forecast.exogenous.known`` says which of
    them count. Sleeps while any horizon lacks one. Keeps no state.
    """

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "external"

    @property
    def awake(self) -> bool:
        """See ``Expert.awake``."""
        return self.context.external is not None

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        context = self.context
        if context.external is None:
            return context.flat_last()
        return np.minimum(context.external, _CLIP_RATIO * context.clip)
