"""Which rule to provision by: every rule is an expert over decisions, weighed by what its decisions have cost.

A rule says the demand to provision for at the lead time. When that time has come, demand that came is known: what was
missing costs ``level``, what was too much 1 − ``level`` (the newsvendor's cost, whose best decision is the quantile
``level``; Arrow, Harris and Marschak 1951). Rules are aggregated by ``pipeline.forecast.expert_pool.ExpertWeights``, as
forecasts are: on matured costs alone, forgetting, each signal on its own. The cost is convex, so the weighted mean of
decisions costs no more than the weighted mean of their costs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.decisions.rule import RECENT, DecisionRule, DemandView
from pipeline.forecast.context import TINY, Floats, Ints
from pipeline.forecast.expert_pool import ExpertWeights

__all__ = ["Decision", "DecisionExperts"]

#: Decisions that wait for their time; of a lead time of more windows none is learned from.
_MOST_PENDING = 512
#: Bound of a cost in units of the first rule's usual one: costs are rare and high where demand jumps.
_CLIP = 25.0
#: Labels that it takes to forget the trust in the first rule.
_TRUST_WINDOWS = 24.0


#: Rules whose weights are told.
_TOLD = 3


class Decision(NamedTuple):
    """``demand`` ``(signals,)`` to provision for; ``weights`` of the rules that say most about the first signal."""

    demand: Floats
    weights: tuple[tuple[str, float], ...]


class _Rows:
    """One horizon, the lead time, of every signal."""

    horizons = 1

    def __init__(self, signals: int, season_steps: int) -> None:
        self.season_steps = season_steps
        self.steps: Ints = np.ones(signals, dtype=np.int64)
        self._tiny: NDArray[np.float32] = np.full(signals, TINY, dtype=np.float32)

    def tiny(self) -> NDArray[np.float32]:
        """What units are never smaller than."""
        return self._tiny

    def repeat(self, values: Sequence[float], dtype: Any = np.float64) -> Any:
        """One value per signal."""
        return np.array(values, dtype=dtype)

    def any(self, flags: NDArray[np.bool_]) -> list[bool]:
        """Whether the row of each signal has its flag set."""
        found: list[bool] = flags.tolist()
        return found


class _Pending(NamedTuple):
    target: int
    demand: NDArray[np.float32]  # (signals, 1)
    apart: NDArray[np.float32]  # (signals, experts)


class DecisionExperts:
    """The rules of one pool and what they have cost. Pickles, and continues identically afterwards.

    Args:
        rules: at least one; the first variant of the first one is always known, and trusted until something was
            learned.
        signals: how many there are.
        season_steps: windows per season.
        level: the quantile that is wanted, in (0, 1).
    """

    def __init__(self, rules: Sequence[DecisionRule], signals: int, season_steps: int, level: float) -> None:
        self._rules = tuple(rules)
        self.names = tuple(name for rule in rules for name in rule.names)
        self._weights = ExpertWeights(
            _Rows(signals, season_steps), len(self.names), level=level, clip=_CLIP, trust=_TRUST_WINDOWS
        )
        self._pending: deque[_Pending] = deque(maxlen=_MOST_PENDING)
        self._recent: Floats = np.zeros((0, signals))
        self._all: NDArray[np.bool_] = np.ones(signals, dtype=np.bool_)

    def learn(self, index: int, rates: Sequence[float | None]) -> None:
        """Judge the rules by window ``index``; None of any signal: its demand is not known, and nothing is learned.

        Decisions whose time has passed without a window are forgotten.
        """
        known = [rate for rate in rates if rate is not None]
        if len(known) < len(rates) or not all(map(math.isfinite, known)):
            return
        observed = np.array(known)
        self._recent = np.concatenate((self._recent[1 - RECENT :], observed[None]))
        while self._pending and self._pending[0].target <= index:
            due = self._pending.popleft()
            if due.target == index:
                miss = observed.astype(np.float32)[:, None] - due.demand
                self._weights.learn(miss, due.apart, self._all)

    def decide(
        self, index: int, ahead: int, observed: Sequence[float], quantiles: Floats, season_before: Floats
    ) -> Decision | None:
        """Say what to provision for ``ahead`` windows after window ``index``; None before the first window.

        Args:
            index: the newest window.
            ahead: windows until the lead time is over, at least one.
            observed: of each signal, what is live now; at least what the newest window says.
            quantiles: of the forecast at the lead time, ``(levels, signals)``; NaN: not to be trusted yet.
            season_before: see ``DemandView``.
        """
        if not len(self._recent):
            return None
        recent = self._recent.copy()
        recent[-1] = observed
        view = DemandView(recent, quantiles, season_before, ahead)
        said = np.concatenate([rule.demands(view) for rule in self._rules]).T
        awake = np.isfinite(said)
        np.copyto(said, 0.0, where=~awake)
        demand, apart = self._weights.combine(said, awake)
        while self._pending and self._pending[-1].target >= index + ahead:
            self._pending.pop()  # the lead time has become shorter
        self._pending.append(_Pending(index + ahead, demand.astype(np.float32)[:, None], apart.astype(np.float32)))
        weights = self._weights.weights[0]
        best = weights.argsort(kind="stable")[: -1 - _TOLD : -1].tolist()
        return Decision(demand, tuple((self.names[at], float(weights[at])) for at in best))
