"""The reads of the HTTP API about work that may wait."""

from __future__ import annotations

from itertools import islice

from aiohttp import web

from pipeline.publish.deferral import MOST_DEADLINE_SECONDS, WaitingWork, pool_deferral_data
from pipeline.publish.http.answer import json_answer
from pipeline.publish.http.page import NAME_CURSOR, list_schema, name_place, page_members
from pipeline.publish.http.parameter import whole
from pipeline.publish.http.route import Route
from pipeline.publish.live_reads import LIMIT, MAX_POOLS, view_of
from pipeline.publish.problem import ProblemError
from pipeline.publish.state import LiveState

__all__ = ["DeferralReads"]

_REQUESTS = whole("requests", 1, 10**9, description="requests that wait, of the pool's mean lengths")
_DEADLINE = whole(
    "deadline_seconds",
    1,
    MOST_DEADLINE_SECONDS,
    MOST_DEADLINE_SECONDS,
    description="from the lease's start to when the last of `requests` must have started",
)


class DeferralReads:
    """Handlers over a LiveState."""

    def __init__(self, live: LiveState) -> None:
        self._live = live

    def routes(self) -> list[Route]:
        """Return the entries of the route table."""
        lease = {"$ref": "#/components/schemas/DeferralLease"}
        now = {"type": "number"}
        return [
            Route("/v1/deferral", "deferral", "How much work that may wait may start now, of each configured pool.",
                  self.deferral, list_schema("leases", lease, now=now), (LIMIT, NAME_CURSOR), (400,)),
            Route("/v1/deferral/{model}/{pool}", "poolDeferral",
                  "How much work that may wait may start now in one pool, and what capacity its deadline asks for.",
                  self.of_pool, lease, (_REQUESTS, _DEADLINE), (400, 404)),
        ]  # fmt: skip

    async def deferral(self, request: web.Request) -> web.Response:
        """What may start in each pool."""
        limit, after = LIMIT.read(request) or MAX_POOLS, NAME_CURSOR.read(request)
        at = self._live.snapshot()
        later = (v for v in at.pools if v.settings is not None and (after is None or tuple(v.key) > after))
        page = list(islice(later, limit + 1))
        cut = name_place(*page[limit - 1].key) if len(page) > limit else None
        return json_answer(
            {"now": at.now, "leases": [pool_deferral_data(view) for view in page[:limit]], **page_members(cut)}
        )

    async def of_pool(self, request: web.Request) -> web.Response:
        """What may start in one pool of work that the caller states."""
        view = view_of(self._live, request)
        if view.settings is None:
            raise ProblemError(404, f"{'/'.join(view.key)} is not one of the configured pools")
        requests, deadline = _REQUESTS.read(request), _DEADLINE.read(request)
        work = None if requests is None or deadline is None else WaitingWork(requests, deadline)
        return json_answer(pool_deferral_data(view, work))
