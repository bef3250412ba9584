"""What to provision for in one pool: the rules that compete, with what they need to know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.engine.decisions.decision_experts import Asking, Decision, DecisionExperts, Learning
from pipeline.engine.decisions.registry import decision_rules
from pipeline.engine.decisions.rule import AROUND_SEASON
from pipeline.forecast.context import SeriesContext
from pipeline.forecast.types import LEVELS, Signal
from pipeline.windows.types import ClosedWindow
from sizing.types import Provision

__all__ = ["PoolDecisions", "provision"]

#: Windows learned before forecasts compete with other rules.
_TRUSTED_WINDOWS = 5
_SIGNALS = tuple(Signal)


class PoolDecisions:
    """Rules over all signals of one pool. Pickles, and continues identically afterwards.

    Args:
        kinds: of the rules, see ``pipeline.engine.decisions.registry``.
        season_steps: windows per season.
        level: the demand quantile of the pool.
    """

    def __init__(self, kinds: Sequence[str], season_steps: int, level: float) -> None:
        self._experts = DecisionExperts(decision_rules(kinds), len(Signal), season_steps, level)

    def learning(self, window: ClosedWindow, rates: Mapping[str, float | None]) -> Learning:
        """Ask to judge the rules by the rates of a window; None: not known."""
        return Learning(self._experts, window.end // window.grain_seconds, [rates[signal] for signal in _SIGNALS])

    def asking(
        self,
        window: ClosedWindow,
        lead_seconds: float,
        observed: Mapping[str, float | None],
        quantiles: Mapping[Signal, Sequence[float]],
        contexts: Mapping[Signal, SeriesContext],
        learned: int,
    ) -> Asking | None:
        """Ask what the rules say after a window; None where what is ``observed`` is not known.

        Args:
            window: the newest one.
            lead_seconds: from its end until a replica that is ordered now serves.
            observed: what is live of each signal; without all of them nothing is said.
            quantiles: of the forecasts at the lead time.
            contexts: the history of signals, where it is kept.
            learned: windows that the forecasts have learned.
        """
        live = [value for signal in _SIGNALS if (value := observed.get(signal)) is not None]
        if len(live) < len(_SIGNALS):
            return None
        ahead = 1 + int(lead_seconds // window.grain_seconds)
        before = _UNKNOWN[0]
        if any(context.has_season for context in contexts.values()):
            around = (
                contexts[one].season_before(ahead, AROUND_SEASON).tolist() if one in contexts else ()
                for one in _SIGNALS
            )
            before = np.array([max(values, default=math.nan) for values in around])
        trusted = learned > _TRUSTED_WINDOWS
        return Asking(
            self._experts,
            window.end // window.grain_seconds,
            ahead,
            live,
            np.array([quantiles[signal] for signal in _SIGNALS]).T if trusted else _UNKNOWN,
            before,
        )


def provision(decision: Decision | None) -> Provision | None:
    """What a decision on all signals comes to; None: there is none."""
    if decision is None:
        return None
    requests, prefill, decode, kv = decision.demand.tolist()
    return Provision(requests, prefill, decode, kv, decision.weights)


_UNKNOWN = np.full((len(LEVELS), len(Signal)), np.nan)
