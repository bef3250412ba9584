"""What the weights of experts need to know of the series that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import Ints

__all__ = ["Rows", "Singles"]

Singles = NDArray[np.float32]


class Rows(Protocol):
    """Horizons of several series one below another; see ``pipeline.forecast.series_rows.SeriesRows``."""

    @property
    def steps(self) -> Ints:
        """Horizons in windows, of every row."""
        ...

    @property
    def horizons(self) -> int:
        """How many each series has."""
        ...

    @property
    def season_steps(self) -> int:
        """Windows per season."""
        ...

    def tiny(self) -> Singles:
        """What the unit of losses is never smaller than, of every row."""
        ...

    def repeat(self, values: Sequence[float], dtype: Any = ...) -> Any:
        """One value per series, repeated for its rows."""
        ...

    def any(self, flags: NDArray[np.bool_]) -> list[bool]:
        """Whether any row of each series has its flag set."""
        ...
