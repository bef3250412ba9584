"""Which rule to provision by: every rule is an expert over decisions, weighed by what its decisions have cost.

A rule says the demand to provision for at the lead time. When that time has come, demand that came is known: what was
missing costs ``level``, what was too much 1 − ``level`` (the newsvendor's cost, whose best decision is the quantile
``level``; Arrow, Harris and Marschak 1951). Rules are aggregated by ``pipeline.forecast.expert_pool.ExpertWeights``, as
forecasts are: on matured costs alone, forgetting, each signal on its own. The cost is convex, so the weighted mean of
decisions costs no more than the weighted mean of their costs.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.decisions.rule import RECENT, DecisionRule, DemandView
from pipeline.forecast.context import TINY, Floats, Ints
from pipeline.forecast.expert_pool import ExpertWeights, Singles

__all__ = ["Asking", "Decision", "DecisionExperts", "Learning", "consider", "decide_together", "learn_together"]

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
    demand: Singles  # (signals, 1)
    apart: Singles  # (signals, experts)


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
        self._rules, self.names = tuple(rules), _names(rules)
        self._weights = ExpertWeights(
            _Rows(signals, season_steps), len(self.names), level=level, clip=_CLIP, trust=_TRUST_WINDOWS
        )
        self._pending: list[_Pending] = []
        self._recent: Floats = np.zeros((0, signals))

    def __getstate__(self) -> dict[str, Any]:
        """The rules, which keep no state, are packed: pools that are read share them again."""
        state = self.__dict__ | {"_rules": pickle.dumps(self._rules)}
        del state["names"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpack the rules."""
        self.__dict__.update(state)
        self._rules, self.names = _unpacked(state["_rules"])

    @property
    def alike(self) -> Hashable:
        """Equal for those that may learn and decide together."""
        return self._weights.season_steps, len(self.names), self._recent.shape[1]

    def learn(self, index: int, rates: Sequence[float | None]) -> None:
        """Judge the rules by window ``index``; None of any signal: its demand is not known, and nothing is learned.

        Decisions whose time has passed without a window are forgotten.
        """
        learn_together([Learning(self, index, rates)])

    def decide(
        self, index: int, ahead: int, observed: Sequence[float], quantiles: Floats, season_before: Floats
    ) -> Decision | None:
        """Say what to provision for ``ahead`` windows after window ``index``; see ``Asking``."""
        return decide_together([Asking(self, index, ahead, observed, quantiles, season_before)])[0]

    def _label(self, index: int, rates: Sequence[float | None]) -> tuple[Singles, Singles] | None:
        """What was missing of the decision for window ``index``, and each rule's distance from it; None: nothing."""
        known = [rate for rate in rates if rate is not None]
        if len(known) < len(rates) or not all(map(math.isfinite, known)):
            return None
        observed = np.array(known)
        self._recent = np.concatenate((self._recent[1 - RECENT :], observed[None]))
        while self._pending and self._pending[0].target <= index:
            due = self._pending.pop(0)
            if due.target == index:
                return observed.astype(np.float32)[:, None] - due.demand, due.apart
        return None

    def _demands(self, asked: Asking) -> Floats | None:
        """What every rule says, ``(rules, signals)``, NaN where it does not know; None before the first window."""
        if not len(self._recent):
            return None
        recent = self._recent.copy()
        recent[-1] = asked.observed
        view = DemandView(recent, asked.quantiles, asked.season_before, asked.ahead)
        return np.concatenate([rule.demands(view) for rule in self._rules])

    def _decided(self, target: int, demand: Singles, apart: Singles) -> None:
        """Wait for the time of a decision, in place of those for the same time or later ones."""
        while self._pending and self._pending[-1].target >= target:
            self._pending.pop()  # the lead time has become shorter
        self._pending.append(_Pending(target, demand, apart))
        del self._pending[:-_MOST_PENDING]


def _names(rules: Sequence[DecisionRule]) -> tuple[str, ...]:
    return tuple(name for rule in rules for name in rule.names)


@lru_cache(maxsize=64)
def _unpacked(packed: bytes) -> tuple[tuple[DecisionRule, ...], tuple[str, ...]]:
    """Rules that were packed, and the names of their variants; only ever read back from the state of a pool."""
    rules = pickle.loads(packed)
    return rules, _names(rules)


class Learning(NamedTuple):
    """Rules to judge by window number ``window``, whose rates are ``rates``; see ``DecisionExperts.learn``."""

    experts: DecisionExperts
    window: int
    rates: Sequence[float | None]


class Asking(NamedTuple):
    """Rules that are asked what to provision for ``ahead`` windows after window number ``window``.

    ``window`` is the newest one. ``ahead``, at least one, are the windows until the lead time is over. ``observed``
    is, of each signal, what is live now; at least what the newest window says. ``quantiles`` ``(levels, signals)`` are
    those of the forecast at the lead time; NaN: not to be trusted yet. ``season_before``: see ``DemandView``.
    """

    experts: DecisionExperts
    window: int
    ahead: int
    observed: Sequence[float]
    quantiles: Floats
    season_before: Floats


def learn_together(asked: Sequence[Learning]) -> list[None]:
    """Judge the rules of several pools, which are ``alike``."""
    found = [(one.experts._weights, label) for one in asked if (label := one.experts._label(one.window, one.rates))]
    if found:
        members = [weights for weights, _ in found]
        together = _together(members)
        miss, apart = (np.concatenate(parts) for parts in zip(*(label for _, label in found), strict=True))
        together.learn(miss, apart, np.ones(len(miss), dtype=np.bool_))
        together.give(members)
    return [None] * len(asked)


def decide_together(asked: Sequence[Asking]) -> list[Decision | None]:
    """Say what to provision for in several pools, whose rules are ``alike``; None before the first window of one."""
    demands = [one.experts._demands(one) for one in asked]
    known = [(one, said) for one, said in zip(asked, demands, strict=True) if said is not None]
    if not known:
        return [None] * len(asked)
    members = [one.experts._weights for one, _ in known]
    together = members[0] if len(members) == 1 else ExpertWeights.asked(members, _rows_of(members))
    said = np.concatenate([said for _, said in known], axis=1).T
    awake = np.isfinite(said)
    np.copyto(said, 0.0, where=~awake)
    demand, apart = together.combine(said, awake)
    signals = len(said) // len(known)
    weights = together.weights[::signals]
    best = weights.argsort(axis=1, kind="stable")[:, : -1 - _TOLD : -1].tolist()
    most = [[shares[rule] for rule in rules] for rules, shares in zip(best, weights.tolist(), strict=True)]
    waiting, waiting_apart = demand.astype(np.float32)[:, None], apart.astype(np.float32)
    found: dict[int, Decision] = {}
    for at, ((one, _), rules, shares) in enumerate(zip(known, best, most, strict=True)):
        rows, experts = slice(at * signals, (at + 1) * signals), one.experts
        experts._decided(one.window + one.ahead, waiting[rows].copy(), waiting_apart[rows].copy())
        names = experts.names
        found[id(one)] = Decision(demand[rows], tuple((names[r], s) for r, s in zip(rules, shares, strict=True)))
    return [found.get(id(one)) for one in asked]


def consider(asked: Asking) -> Decision | None:
    """Say what to provision for, as ``decide_together`` does; it is no decision, and nothing will be learned of it."""
    demands = asked.experts._demands(asked)
    if demands is None:
        return None
    said = demands.T
    awake = np.isfinite(said)
    members = [asked.experts._weights]
    apart = ExpertWeights.asked(members, _rows_of(members))
    demand, _ = apart.combine(np.where(awake, said, 0.0), awake)
    shares, names = apart.weights[0], asked.experts.names
    best = shares.argsort(kind="stable")[: -1 - _TOLD : -1].tolist()
    return Decision(demand, tuple((names[rule], float(shares[rule])) for rule in best))


def _together(members: Sequence[ExpertWeights]) -> ExpertWeights:
    """The weights of alike rules as those of one pool of all their signals."""
    return members[0] if len(members) == 1 else ExpertWeights.joined(members, _rows_of(members))


def _rows_of(members: Sequence[ExpertWeights]) -> _Rows:
    return _rows(len(members) * len(members[0].quarantined), members[0].season_steps)


@lru_cache(maxsize=256)
def _rows(signals: int, season_steps: int) -> _Rows:
    return _Rows(signals, season_steps)
