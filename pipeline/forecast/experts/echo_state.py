"""A small recurrent network with fixed random weights whose read-out is learned online."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.delay import NEVER, stamp, which
from pipeline.forecast.experts.base import Expert
from pipeline.forecast.experts.recursion import DelayedRegression

__all__ = ["EchoState"]

_UNITS = 24
_RADIUS = 0.9
_LEAK = 0.3
_LIMIT = 20.0


class EchoState(Expert):
    """Echo-state network (Jaeger and Haas 2004, "Harnessing nonlinearity", Science 304).

    Input is the shared lags relative to today's level; the read-out predicts the change from the last value to each
    target, by recursive least squares on the state of the label's own origin (``recursion``). The random weights come
    from the seed and are not part of the pickled state.

    Args:
        context: the series.
        seed: of the random weights.
        forgetting: weight of the past per window, in (0, 1).
    """

    def __init__(self, context: SeriesContext, seed: int = 7, forgetting: float = 0.9995) -> None:
        super().__init__(context)
        self._seed = seed
        self._inputs, self._within = _weights(seed, context.lags.size)
        self._state: Floats = np.zeros(_UNITS)
        self._regression = DelayedRegression((forgetting,), context.steps.size, _UNITS + 1)
        rows = int(context.steps[-1]) + 1
        self._past: NDArray[np.float16] = np.zeros((rows, _UNITS + 1), dtype=np.float16)
        self._origin: NDArray[np.float32] = np.zeros((rows, 2), dtype=np.float32)
        self._issued: NDArray[np.uint32] = np.full(rows, NEVER, dtype=np.uint32)
        self._now: Floats = np.zeros((1, _UNITS + 1))
        self._scale, self._last = 1.0, 0.0

    def __getstate__(self) -> dict[str, Any]:
        """The random weights are made again."""
        state = self.__dict__.copy()
        del state["_inputs"], state["_within"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the random weights again."""
        self.__dict__.update(state)
        self._inputs, self._within = _weights(self._seed, self.context.lags.size)

    @property
    def name(self) -> str:
        """The name within a pool."""
        return "echo_state"

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        context = self.context
        if y is not None:
            self._learn_matured(y)
        told = stamp(context.index)
        row = told % len(self._past)
        self._issued[row] = NEVER
        if context.seen == 0:
            return
        self._scale = max(context.level, 0.01 * context.recent_max, TINY)
        moved = np.minimum(context.lags / self._scale, _LIMIT)
        self._last = float(moved[0])
        moved -= self._last
        moved[0] = self._last - 1.0
        driven = np.tanh(
            np.add.reduce(self._inputs * moved, axis=1) + np.add.reduce(self._within * self._state, axis=1)
        )
        self._state += _LEAK * (driven - self._state)
        self._now[0, :-1], self._now[0, -1] = self._state, 0.1
        if y is None:
            return
        self._past[row] = self._now[0]
        self._regression.absorb(self._now)
        self._origin[row, 0], self._origin[row, 1] = self._scale, self._last
        self._issued[row] = told

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        ahead = (self._regression.predict(self._now)[0] + self._last) * self._scale
        return np.asarray(np.minimum(np.maximum(ahead, 0.0), self.context.clip))

    def _learn_matured(self, y: float) -> None:
        issued = (self.context.index - self.context.steps) & 0x7FFFFFFF
        rows = issued % len(self._past)
        matured = self._issued.take(rows) == issued
        if not matured.any():
            return
        at = which(matured)
        rows = rows[at]
        past, origin = self._past[rows].astype(np.float64), self._origin[rows].astype(np.float64)
        target = np.minimum(y / np.maximum(origin[:, 0], TINY), _LIMIT) - origin[:, 1]
        self._regression.learn(at, past[None], target[None])


def _weights(seed: int, inputs: int) -> tuple[Floats, Floats]:
    """Input weights ``(units, inputs)`` and recurrent weights ``(units, units)`` of spectral radius below one."""
    random = np.random.default_rng(seed)
    into = random.uniform(-0.5, 0.5, (_UNITS, inputs))
    within = random.uniform(-1.0, 1.0, (_UNITS, _UNITS)) * (random.random((_UNITS, _UNITS)) < 0.2)
    # The largest row sum bounds the spectral radius and needs no eigenvalues, which differ between libraries.
    within *= _RADIUS / np.maximum(np.abs(within).sum(axis=1), TINY)[:, None]
    return into, within
