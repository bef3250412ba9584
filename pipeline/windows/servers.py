"""How many servers a window's requests name: a histogram whose buckets are hashed server ids.

Like all histograms it merges by addition over aggregators and base windows, and n says how many requests a server sent.
Servers whose ids fall into one bucket are counted as one; linear counting makes up for that (Whang, Vander-Zanden,
Taylor, "A linear-time probabilistic counting algorithm for database applications", ACM TODS 15, 1990).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.histogram import MAX_BUCKET, MIN_BUCKET

__all__ = ["SERVERS", "server_buckets", "server_count"]

#: Name of the histogram.
SERVERS = "servers"
_BUCKETS = MAX_BUCKET - MIN_BUCKET + 1
#: Servers must be known of this share of the requests to be counted.
_LEAST_NAMED = 0.9


def server_buckets(servers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the buckets of hashed server ids (not negative), same shape."""
    return servers % _BUCKETS + MIN_BUCKET


def server_count(named: Mapping[int, int], requests: int) -> int | None:
    """Return how many servers the requests of a window name, from {bucket: n}; None: too few name one.

    >>> server_count({-1046: 5, 7: 4}, requests=9), server_count({7: 4}, requests=9)
    (2, None)
    """
    if requests <= 0 or sum(named.values()) < _LEAST_NAMED * requests:
        return None
    seen = min(len(named), _BUCKETS - 1)
    return round(-_BUCKETS * math.log1p(-seen / _BUCKETS))
