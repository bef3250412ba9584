"""The read of the HTTP API about the stock that the pools share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pipeline.config.settings import Settings
from pipeline.publish.history_reads import ReadQueue
from pipeline.publish.http.answer import json_answer
from pipeline.publish.http.route import Route
from pipeline.publish.problem import ProblemError
from pipeline.publish.state import LiveState
from pipeline.publish.views import Snapshot
from sizing.catalog import Catalog
from sizing.errors import SizingError

if TYPE_CHECKING:
    from pipeline.publish.fleet_planner import FleetPlanner

__all__ = ["FleetReads", "fleet_planner"]


def fleet_planner(settings: Settings, catalog: Catalog) -> FleetPlanner | None:
    """Return what splits the advice over ``fleet.stock``; None where that is not set.

    Raises:
        InputError: the file cannot be read or understood.
    """
    from pipeline.config.stock_file import shared_stock

    shared = shared_stock(settings, catalog)
    if shared is None:
        return None
    from pipeline.publish.fleet_planner import FleetPlanner

    return FleetPlanner(shared, settings.pools, catalog)


class FleetReads:
    """The handler over a LiveState. Plans are made in the threads of the reads, one at a time for all who ask."""

    def __init__(self, live: LiveState, queue: ReadQueue) -> None:
        self._live = live
        self._queue = queue
        self._planning: asyncio.Task[dict[str, Any]] | None = None

    def routes(self) -> list[Route]:
        """Return the entries of the route table."""
        summary = "The advised replicas of all pools, split over the GPUs that they share (`fleet.stock`)."
        described = "the cheapest split; where the stock or the budget does not do, who goes short"
        answer = {"$ref": "#/components/schemas/FleetSplit"}
        return [Route("/v1/fleet", "fleet", summary, self.fleet, answer, problems=(404, 503), described=described)]

    async def fleet(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The split of the newest advice."""
        planner = self._live.fleet
        if planner is None:
            raise ProblemError(404, "fleet.stock is not set: the pools share no stock (docs/fleet.md)")
        at = self._live.snapshot()
        data = planner.kept(planner.key(view for view in at.pools if view.settings is not None))
        if data is None:
            if self._planning is None or self._planning.done():
                self._planning = asyncio.ensure_future(self._queue.run(lambda: self._plan(planner, at)))
            try:
                data = await asyncio.shield(self._planning)
            except SizingError as error:
                raise ProblemError(503, f"no plan was found: {error}") from error
        return json_answer({"now": at.now, "as_of": at.as_of, **data})

    @staticmethod
    def _plan(planner: FleetPlanner, at: Snapshot) -> dict[str, Any]:
        return planner.plan(at.pools, at.now if at.as_of is None else float(at.as_of))
