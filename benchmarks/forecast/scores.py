"""Scores of issued quantiles, and what two runs differ by, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from traces import Trace

from pipeline.forecast.types import LEVELS

__all__ = ["PINBALL", "Pool", "Run", "compare", "score"]

PINBALL = (0.5, 0.9, 0.95, 0.99)
MEDIAN, Q95, Q99 = (LEVELS.index(level) for level in (0.5, 0.95, 0.99))
_ROUNDS = 1000


@dataclass(frozen=True)
class Run:
    """What one tool issued: quantiles (origins, horizons, levels) at window numbers ``origins``, and its cost."""

    origins: np.ndarray
    issued: np.ndarray
    microseconds: float

    def at(self, origins: np.ndarray) -> Run:
        """The part that was issued at ``origins``."""
        return Run(origins, self.issued[np.searchsorted(self.origins, origins)], self.microseconds)


@dataclass(frozen=True)
class Pool:
    """What the product's own forecaster issued, what its experts said, what it costs."""

    run: Run
    experts: np.ndarray
    names: tuple[str, ...]
    state_bytes: int


def _matured(run: Run, values: np.ndarray, trace: Trace, horizon: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, their values and the quantiles issued for them, after the warm-up."""
    step = trace.steps[horizon]
    usable = (run.origins >= trace.first) & (run.origins + step < len(values))
    targets = run.origins[usable] + step
    return targets, values[targets], run.issued[usable, horizon]


def score(run: Run, values: np.ndarray, trace: Trace, horizon: int) -> dict[str, float]:
    """Scores of one horizon; pinball losses over mean demand. A level that was never issued has a loss of None."""
    targets, actual, quantiles = _matured(run, values, trace, horizon)
    with np.errstate(all="ignore"):
        error = np.abs(actual - quantiles[:, MEDIAN])
        back = targets - trace.day
        seasonal = np.abs(values[targets] - values[np.maximum(back, 0)])[back >= 0].mean()
        row = {"wape": float(error.sum() / actual.sum()), "mase": float(error.mean() / seasonal)}
        for level in PINBALL:
            over = actual - quantiles[:, LEVELS.index(level)]
            loss = np.maximum(level * over, (level - 1.0) * over)
            row[f"pinball_{level:g}"] = float(loss.sum() / actual.sum())
    covered = actual <= quantiles[:, Q95]
    top = actual >= np.quantile(actual, 0.9)
    return {
        **row,
        "coverage_95": float(covered.mean()),
        "coverage_95_top_decile": float(covered[top].mean()),
        "coverage_99_top_decile": float((actual <= quantiles[:, Q99])[top].mean()),
        "microseconds": run.microseconds,
    }


def compare(ours: Run, theirs: Run, values: np.ndarray, trace: Trace, horizon: int) -> tuple[float, float, float]:
    """Our WAPE minus theirs at their origins, and a 95 % interval from a bootstrap over whole days (fixed seed)."""
    targets, actual, rival = _matured(theirs, values, trace, horizon)
    own = _matured(ours.at(theirs.origins), values, trace, horizon)[2]
    days = (targets - targets[0]) // trace.day
    with np.errstate(all="ignore"):
        gain = np.abs(actual - own[:, MEDIAN]) - np.minimum(np.abs(actual - rival[:, MEDIAN]), 1e12)
    by_day, demand = np.bincount(days, gain), np.bincount(days, actual)
    picks = np.random.default_rng(0).integers(0, len(by_day), (_ROUNDS, len(by_day)))
    totals = np.maximum(demand[picks].sum(axis=1), 1e-12)
    low, high = np.quantile(by_day[picks].sum(axis=1) / totals, (0.025, 0.975))
    return float(gain.sum() / actual.sum()), float(low), float(high)
