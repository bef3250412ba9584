"""What the router in front of the simulated fleet counts: requests that have come, run and wait."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.demo.service import ServedRequests
from pipeline.windows.types import PoolKey

__all__ = ["RouterCount"]

Floats = NDArray[np.float64]


class RouterCount:
    """Requests by pool since the simulated requests began, at any time of the newest block that was served."""

    def __init__(self) -> None:
        self._ended: dict[PoolKey, int] = {}  # requests that are not kept any more
        self._kept: dict[PoolKey, tuple[Floats, Floats, Floats]] = {}  # when they arrived, began to run, ended

    def take(self, key: PoolKey, served: ServedRequests, start: float) -> None:
        """Note the requests of a pool's next block, which begins at ``start`` (epoch seconds)."""
        arrived, ended = served.arrived_at, served.completed_at
        newer = arrived, arrived + np.nan_to_num(served.queue_seconds), ended
        if key in self._kept:
            known = self._kept[key]
            lasts = known[2] > start
            self._ended[key] = self._ended.get(key, 0) + int(np.count_nonzero(~lasts))
            newer = (
                np.concatenate([known[0][lasts], newer[0]]),
                np.concatenate([known[1][lasts], newer[1]]),
                np.concatenate([known[2][lasts], newer[2]]),
            )
        self._kept[key] = newer

    def told(self, key: PoolKey, at: float) -> dict[str, int]:
        """Return the members of a replica status of ``at`` (epoch seconds) that tell of requests."""
        if key not in self._kept:
            return {"requests_total": 0, "running_requests": 0, "queued_requests": 0}
        arrived, began, ended = self._kept[key]
        come = arrived <= at
        lasts = come & (ended > at)
        queued = int(np.count_nonzero(lasts & (began > at)))
        return {
            "requests_total": self._ended.get(key, 0) + int(np.count_nonzero(come)),
            "running_requests": int(np.count_nonzero(lasts)) - queued,
            "queued_requests": queued,
        }
