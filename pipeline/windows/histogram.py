"""Mergeable log-bucket histograms: the arithmetic of DDSketch on sparse integer counts.

A value x > 0 falls into bucket ceil(ln x / ln γ), which stands for 2·γ^b / (γ + 1); with γ = 1.02 no value is off by
more than (γ − 1) / (γ + 1) = 0.99 %. Counts merge by addition, in any order, exactly.

Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
PVLDB 12 (2019), section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["GAMMA", "MAX_BUCKET", "MIN_BUCKET", "ZERO_BUCKET", "bucket", "quantile", "value", "values"]

GAMMA = 1.02
_LOG_GAMMA = math.log(GAMMA)

#: Bucket of zero (and of anything below ``_TINY``).
ZERO_BUCKET = -10_000
_TINY = 1e-9
MIN_BUCKET = math.ceil(math.log(_TINY) / _LOG_GAMMA)
#: Largest bucket that is accepted back: a value of about 4e17.
MAX_BUCKET = 2_048


def bucket(x: ArrayLike) -> NDArray[np.int64]:
    """Return the buckets of finite non-negative numbers, same shape.

    >>> bucket([0.0, 1.0, 100.0]).tolist()
    [-10000, 0, 233]
    """
    array = np.asarray(x, np.float64)
    positive = array >= _TINY
    logs = np.ceil(np.log(np.where(positive, array, 1.0)) / _LOG_GAMMA)
    return np.where(positive, np.minimum(logs, MAX_BUCKET), ZERO_BUCKET).astype(np.int64)


@lru_cache(maxsize=1 << 13)
def value(b: int) -> float:
    """Return the number that bucket ``b`` stands for.

    >>> round(value(233), 1), value(ZERO_BUCKET)
    (99.9, 0.0)
    """
    return 0.0 if b == ZERO_BUCKET else float(2.0 * GAMMA**b / (GAMMA + 1.0))


def values(buckets: ArrayLike) -> NDArray[np.float64]:
    """Return the numbers that many buckets stand for, same shape."""
    array = np.asarray(buckets, np.float64)
    return np.where(array == ZERO_BUCKET, 0.0, 2.0 * GAMMA ** np.maximum(array, MIN_BUCKET) / (GAMMA + 1.0))


def quantile(counts: Mapping[int, int], q: float) -> float | None:
    """Return the ``q`` quantile (0–1, the lower of two neighbours) of merged counts {bucket: n}; None when empty.

    >>> quantile({0: 1, 233: 3}, 0.5) == value(233)
    True
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"q must lie in [0, 1], not {q}")
    total = sum(counts.values())
    if total <= 0:
        return None
    rank = q * (total - 1)
    seen = 0
    for b in sorted(counts):
        seen += counts[b]
        if seen > rank:
            return value(b)
    raise AssertionError("ranks end below the total")
