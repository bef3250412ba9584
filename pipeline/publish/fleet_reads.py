"""The read of the HTTP API about the stock that the pools share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from pipeline.config.settings import Settings
from pipeline.publish.http.answer import json_answer
from pipeline.publish.http.route import Route
from pipeline.publish.problem import ProblemError
from pipeline.publish.state import LiveState
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
    """The handler over a LiveState: the split is there already, and the same for all who ask."""

    def __init__(self, live: LiveState) -> None:
        self._live = live

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
        try:
            data = planner.data(at.pools, at.now if at.as_of is None else float(at.as_of))
        except SizingError as error:
            raise ProblemError(503, f"no plan was found: {error}") from error
        return json_answer({"now": at.now, "as_of": at.as_of, **data})
