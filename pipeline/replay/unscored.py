"""Why a backtest has nothing to say about a series: a table of dashes does not tell."""

from __future__ import annotations

import numpy as np

from pipeline.forecast.series import MAX_VALUE
from pipeline.replay.backtest import BacktestResult, SeriesBacktest

__all__ = ["unscored"]


def unscored(result: BacktestResult) -> list[str]:
    """Return one line per series and reason for which horizons have no score; empty where every one has."""
    lines = []
    scores = iter(result.scores)
    for item in result.series:
        reasons: dict[str, list[int]] = {}
        # Scores come by series, then by horizon.
        for number, seconds in enumerate(item.horizons_seconds):
            score = next(scores)
            if score.scored == 0:
                reasons.setdefault(_why(item, number), []).append(seconds)
            elif score.wape is None:
                reasons.setdefault("demand is zero in every window that could be scored", []).append(seconds)
        lines += [
            f"series {item.series.name}: no score {', '.join(f'{seconds} s' for seconds in horizons)} ahead: {reason}"
            for reason, horizons in reasons.items()
        ]
    return lines


def _why(item: SeriesBacktest, horizon: int) -> str:
    """Why no forecast at horizon number ``horizon`` could be scored."""
    windows, step = len(item.series.values), item.series.step_seconds
    known = f"{windows} window{'s' if windows != 1 else ''} of {step} s"
    if np.isnan(item.quantiles[:, horizon, 0]).all():
        return f"no forecast was issued: every value is above {MAX_VALUE:g} per second, which is taken as missing"
    if windows <= item.horizons_seconds[horizon] // step:
        return f"{known} do not reach that far" if windows != 1 else f"{known} does not reach that far"
    origins, _ = item.matured(horizon, after_warmup=False)
    if not len(origins[~np.isnan(item.series.values[origins])]):
        return "the file has no two known windows that far apart"
    return f"the warm-up of {item.warmup_windows} windows leaves nothing of {known}"
