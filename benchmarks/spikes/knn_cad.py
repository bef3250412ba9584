"""KNN-CAD as it was entered for the Numenta benchmark: a rival, and the check of ``nab.py`` against published scores.

Written anew from Burnaev and Ishimtsev, "Conformalized density- and distance-based anomaly detection in time-series
data" (2016, arXiv:1608.04585) and the settings of the entry (numenta/NAB, ``nab/detectors/knncad``): vectors of 19
rows, the 27 nearest in the metric of the second moments, ranks among as many scores as the probation has rows, and a
rest of a fifth of it after an alert.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque

import numpy as np
from nab import Bools, Floats

_ROWS, _NEAREST, _ALERT_RANK = 19, 27, 0.9965


def alerts(values: Floats) -> Bools:
    """Rows where the entry's score reaches 1, the threshold that the benchmark chose for it."""
    probation = int(min(math.floor(0.15 * len(values)), 750))
    vectors = np.lib.stride_tricks.sliding_window_view(values, _ROWS)
    found = np.zeros(len(values), dtype=np.bool_)
    training = deque(vectors[: probation - _ROWS])
    later: deque[Floats] = deque()
    ranks: deque[float] = deque()
    metric = np.eye(_ROWS)
    rest = -1
    for row in range(probation, len(values) + 1):
        known = np.array(training)
        if row % probation in (0, probation // 2):
            with contextlib.suppress(np.linalg.LinAlgError):  # as the entry does: the old metric stays
                metric = np.linalg.inv(known.T @ known)
        if not ranks:
            ranks.extend(_distance(known, vector, metric, _NEAREST + 1) for vector in known)
        vector = vectors[row - _ROWS]
        score = _distance(known, vector, metric, _NEAREST)
        rank = float(np.mean(np.array(ranks) < score))
        if row >= 2 * probation:
            training.popleft()
            training.append(later.popleft())
        later.append(vector)
        ranks.popleft()
        ranks.append(score)
        if rest > 0:
            rest -= 1
            continue
        found[row - 1] = rank >= 1.0
        if rank >= _ALERT_RANK:
            rest = probation // 5
    return found


def _distance(known: Floats, vector: Floats, metric: Floats, nearest: int) -> float:
    apart = known - vector
    squares = ((apart @ metric) * apart).sum(axis=1)
    return float(np.partition(squares, nearest)[:nearest].sum())
