"""The addresses that only the board asks: its overview, the page of a pool, past forecasts, the stream of the status.

They change with the board and are no part of the API. All but past forecasts are answered from memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from pipeline.forecast.types import Signal
from pipeline.publish.board.overview import Overview
from pipeline.publish.board.pool_page import past_forecasts, pool_page
from pipeline.publish.board.stream import StatusStream
from pipeline.publish.http.side_thread import SideThread
from pipeline.publish.json import to_json
from pipeline.publish.problem import ProblemError
from pipeline.publish.reader import Reader
from pipeline.publish.recent_demand import SPANS
from pipeline.publish.state import LiveState
from pipeline.publish.status import bridged_keys
from pipeline.publish.views import PoolView

__all__ = ["BoardData"]

#: How far back past forecasts go, and the horizons that may be asked for.
PAST_SECONDS = 3 * 3600.0
MAX_HORIZON_SECONDS = 86_400


class BoardData:
    """Answers the board. ``read`` runs a query of the store beside others, in turn; the overview is written in
    ``aside``; ``status`` is the JSON of ``/v1/status``.
    """

    def __init__(
        self,
        live: LiveState,
        reader: Reader,
        read: Callable[[Callable[[], bytes]], Awaitable[bytes]],
        aside: SideThread,
        status: Callable[[], bytes],
    ) -> None:
        self._live = live
        self._reader = reader
        self._read = read
        self._aside = aside
        self._overview = Overview(live)
        self.stream = StatusStream(live, status)

    async def overview(self, request: web.Request) -> web.StreamResponse:
        """Answer with a row for every pool; ``span`` is how far back its demand goes."""
        span = request.query.get("span", "3h")
        if span not in SPANS:
            raise ProblemError(400, f"span must be one of {', '.join(SPANS)}")
        return _json(await self._aside.run(lambda: self._overview.render(span)))

    async def pool(self, request: web.Request) -> web.StreamResponse:
        """Answer with all that is known of one pool now."""
        view, now = self._view(request), self._live.now()
        bridged = view.key in bridged_keys(self._live.health().event_notes)
        page = pool_page(view, now, self._live.calendar(*view.key), bridged=bridged)
        return _json(to_json({"now": now, **page}))

    async def past(self, request: web.Request) -> web.StreamResponse:
        """Answer with what was forecast ``horizon_seconds`` ahead for the newest hours."""
        view = self._view(request)
        signal = request.query.get("signal", Signal.REQUESTS.value)
        if signal not in {s.value for s in Signal}:
            raise ProblemError(400, f"signal must be one of {', '.join(s.value for s in Signal)}")
        text = request.query.get("horizon_seconds", "900")
        if not (text.isascii() and text.isdigit() and len(text) <= 6 and 0 < int(text) <= MAX_HORIZON_SECONDS):
            raise ProblemError(400, f"horizon_seconds must be a whole number from 1 to {MAX_HORIZON_SECONDS}")
        horizon, key = int(text), view.key
        until = float(self._live.as_of() or self._live.now())

        def query() -> bytes:
            rows = self._reader.forecasts_at(key.model, key.pool, signal, horizon, until - PAST_SECONDS, until)
            return to_json({"signal": signal, "horizon_seconds": horizon, "forecasts": past_forecasts(rows)})

        return _json(await self._read(query))

    def _view(self, request: web.Request) -> PoolView:
        model, pool = request.match_info["model"], request.match_info["pool"]
        view = self._live.pool(model, pool)
        if view is None:
            raise ProblemError(404, f"no pool {pool[:256]!r} of model {model[:256]!r}")
        return view


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})
