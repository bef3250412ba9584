"""Adds up what the routers of a pool have counted, and notices where the sum says less than it seems. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pipeline.errors import CodecError
from pipeline.fleet.router.selector import Selector

__all__ = ["PoolRequests", "RequestCount"]

_Series = tuple[str, tuple[tuple[str, str], ...]]  # address, labels
_START = Selector("process_start_time_seconds", {})


class PoolRequests(NamedTuple):
    """Requests of a whole pool by its routers: those that have come since any beginning, that run and that wait.

    ``at`` is when that was so, epoch seconds. None: not known.
    """

    at: float | None = None
    total: int | None = None
    running: int | None = None
    queued: int | None = None


class RequestCount:
    """The requests that have come to one pool, by counters of its routers that come, go and begin anew.

    The sum of plain counters falls when a router goes, and may stand still while one goes and another comes. Here every
    series is followed for itself: what the total grows by has come for certain, and where a series has ended or begun
    anew the total is not told at that look, since nobody knows what came to it last.
    """

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self._values: dict[_Series, float] = {}
        self._started: dict[str, float] = {}
        self._total = 0.0

    def look(self, pages: Mapping[str, str]) -> int | None:
        """Return the total by the metrics of every router, by address; None: it cannot be told this time.

        Raises:
            CodecError: a sample cannot be understood, and the count goes on with the next look; or no series is meant.
        """
        values: dict[_Series, float] = {}
        started: dict[str, float] = {}
        for address, page in pages.items():
            for sample in self._selector.samples(page):
                values[address, tuple(sorted(sample.labels.items()))] = sample.value
            started.update((address, sample.value) for sample in _START.samples(page)[:1])
        whole = self._values.keys() <= values.keys()
        for series, value in values.items():
            before = self._values.get(series, 0.0)
            restarted = started.get(series[0]) != self._started.get(series[0], started.get(series[0]))
            if value < before or restarted:
                whole, before = False, 0.0
            self._total += value - before
        self._values, self._started = values, started
        if not values:
            raise CodecError(f"no series of {self._selector.name} counts requests of this pool")
        return int(self._total) if whole else None
