"""The router of one pool: asks for its metrics and says how many requests have come, run and wait."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.fleet.router.count import PoolRequests, RequestCount
from pipeline.fleet.router.options import RouterOptions
from pipeline.fleet.router.pages import RouterPages
from pipeline.fleet.router.selector import Selector

__all__ = ["Router"]


class Router:
    """Counts the requests of one pool by the metrics of its routers."""

    def __init__(self, options: RouterOptions) -> None:
        self._options = options
        self._count = RequestCount(Selector.of(options.total))
        self._running = None if options.running is None else Selector.of(options.running)
        self._at = 0.0
        self._queued = None if options.queued is None else Selector.of(options.queued)

    async def look(self, pages: RouterPages) -> PoolRequests | None:
        """Return what the routers said when ``pages`` were fetched; None: a look at newer pages came first.

        Raises:
            CodecError: one of them cannot be asked or understood, or counts no request of this pool.
        """
        at, found = await pages.of(self._options.urls, self._options.token_file)
        if at < self._at:
            return None
        self._at = at
        running, queued = _in_all(self._running, found), _in_all(self._queued, found)
        return PoolRequests(at, self._count.look(found), running, queued)


def _in_all(gauge: Selector | None, pages: Mapping[str, str]) -> int | None:
    """The sum of a gauge over all routers; None: none tells it."""
    samples = [] if gauge is None else [sample for page in pages.values() for sample in gauge.samples(page)]
    return int(sum(sample.value for sample in samples)) if samples else None
