"""The reads of the HTTP API that are answered from memory: state, pools, advice, forecasts."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from pipeline.clock import Clock
from pipeline.engine.types import TenantDemand
from pipeline.forecast.outlook import Grain
from pipeline.forecast.types import Signal
from pipeline.publish.http.answer import Ready, Timed, json_answer
from pipeline.publish.http.kept_answers import KeptAnswers
from pipeline.publish.http.page import NAME_CURSOR, list_schema, name_place, page_members
from pipeline.publish.http.parameter import choice, text, whole
from pipeline.publish.http.route import Route
from pipeline.publish.http.side_thread import SideThread
from pipeline.publish.json import to_json
from pipeline.publish.kept_views import KeptViews
from pipeline.publish.problem import ProblemError
from pipeline.publish.state import LiveState
from pipeline.publish.status import bridged_keys, status_data
from pipeline.publish.views import PoolView
from pipeline.windows.types import PoolKey

__all__ = ["LiveReads", "view_of"]

MAX_POOLS = 1_000  # in one answer
#: Longest time that a consumer may reuse a recommendation without asking again.
MAX_AGE_SECONDS = 5
#: Answers about single pools, and pages of lists, that are kept; each kind so many bytes.
KEPT_BYTES = 8_000_000

LIMIT = whole("limit", 1, MAX_POOLS, MAX_POOLS, description="entries in one answer")
SIGNAL = choice("signal", [signal.value for signal in Signal])
GRAIN = choice(
    "grain",
    [grain.value for grain in Grain],
    Grain.MINUTE.value,
    "What a value is the mean of: a window (to an hour ahead; default), an hour (to 14 days ahead), a UTC day (to 90 "
    "days ahead). Hours and days have no scores.",
)
TENANT = text(
    "tenant",
    "A tenant that is forecast apart (`forecast.tenant_series`), or `*` for all others: its request rate, at the grain "
    "of minutes. Without it the forecasts are those of the pool, and `tenants` says who is forecast apart.",
)

_NOW: dict[str, Any] = {"type": "number"}
_AS_OF: dict[str, Any] = {"type": ["number", "null"], "description": "end of the newest closed window"}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


class _Parts(NamedTuple):
    """What the lists say of one pool, encoded; None: nothing."""

    pool: bytes  # without its closing brace
    advice: bytes | None
    cards: bytes | None  # joined by commas


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _Known:
    """All pools by name, as they were at a version of the LiveState, until when something of them expires."""

    version: int
    as_of: int | None
    valid_until: float
    pools: list[tuple[PoolKey, _Parts]]


class _Written(NamedTuple):
    """A page of a list, and what it was written of."""

    known: _Known
    page: Timed
    now: float  # when the pools were looked at


def view_of(live: LiveState, request: web.Request) -> PoolView:
    """Return the pool that the path of a request names.

    Raises:
        ProblemError: 404, there is no such pool.
    """
    model, pool = request.match_info["model"], request.match_info["pool"]
    view = live.pool(model, pool)
    if view is None:
        raise ProblemError(404, f"no pool {pool[:256]!r} of model {model[:256]!r}")
    return view


class LiveReads:
    """Handlers over a LiveState. What the lists say of a pool is encoded once for each change of it, in ``aside``.

    Answers are kept until something of them changes or expires: most reads are a look at what was sent before.
    """

    def __init__(self, live: LiveState, clock: Clock, aside: SideThread) -> None:
        self._live = live
        self._clock = clock
        self._aside = aside
        self._parts = KeptViews(live, _parts)
        self._known = _Known(-1, None, 0.0, [])  # replaced as a whole
        self._answers: KeptAnswers[Ready] = KeptAnswers(KEPT_BYTES)
        self._pages: KeptAnswers[Timed] = KeptAnswers(KEPT_BYTES)

    def routes(self) -> list[Route]:
        """Return the entries of the route table."""
        return [
            Route("/v1/status", "status", "How the pipeline does: event time, ledger of records, lag, stages.",
                  self.status, _ref("Status")),
            Route("/v1/pools", "pools", "Every known pool with its newest window, its valid advice and active alerts.",
                  self.pools, list_schema("pools", _ref("Pool"), now=_NOW, as_of=_AS_OF),
                  (LIMIT, NAME_CURSOR), (400,)),
            Route("/v1/recommendations", "recommendations", "All valid advice; what has expired is left out.",
                  self.recommendations, list_schema("recommendations", _ref("Recommendation"), now=_NOW, as_of=_AS_OF),
                  (LIMIT, NAME_CURSOR), (400,)),
            Route("/v1/scorecards", "scorecards", "How good past advice was, by pool and span, once its time had come.",
                  self.scorecards, list_schema("scorecards", _ref("Scorecard"), now=_NOW, as_of=_AS_OF),
                  (LIMIT, NAME_CURSOR), (400,),
                  described="one entry for each pool and span with scored advice; `limit` counts pools"),
        ]  # fmt: skip

    def pool_routes(self) -> list[Route]:
        """Return the entries of the route table about one pool; those of its history go before them."""
        return [
            Route("/v1/recommendations/{model}/{pool}", "recommendation", "The valid advice for one pool.",
                  self.recommendation, _ref("Recommendation"), problems=(404, 410),
                  described="advice; the ETag is made of its generation and issue time"),
            Route("/v1/forecasts/{model}/{pool}", "forecasts",
                  "The newest forecasts of one pool, and how good they have been; empty when they are stale.",
                  self.forecasts, _ref("Forecasts"), (SIGNAL, GRAIN, TENANT), (400, 404)),
        ]  # fmt: skip

    async def status(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """How the pipeline does."""
        return json_answer(status_data(self._live.snapshot(with_pools=False)))

    async def pools(self, request: web.Request) -> web.Response:
        """Every known pool."""
        bridged = frozenset(bridged_keys(self._live.health().event_notes))
        ends = b',"bridged":false}', b',"bridged":true}'
        return await self._listed(request, "pools", lambda key, parts: parts.pool + ends[key in bridged], bridged)

    async def recommendations(self, request: web.Request) -> web.Response:
        """All valid advice."""
        return await self._listed(request, "recommendations", lambda _, parts: parts.advice)

    async def scorecards(self, request: web.Request) -> web.Response:
        """How good past advice was."""
        return await self._listed(request, "scorecards", lambda _, parts: parts.cards)

    async def recommendation(self, request: web.Request) -> web.Response:
        """The valid advice for one pool."""
        view = view_of(self._live, request)
        advice = view.recommendation
        if advice is None and view.expired is not None:
            raise ProblemError(
                410, f"the advice for {view.key.model}/{view.key.pool} expired at {view.expired.expires_at}"
            )
        if advice is None:
            raise ProblemError(404, f"no advice for {'/'.join(view.key)} yet")
        asked = "advice", view.key
        ready = self._answers.get(asked, view)
        if ready is None:
            # The generation alone would hide a renewed expiry from a consumer that revalidates.
            ready = Ready.of(to_json(advice), f"{advice.generation}-{advice.issued_at:.0f}")
            self._answers.keep(asked, view, ready, ready.size)
        remaining = int(max(0.0, min(advice.expires_at - self._clock.now(), MAX_AGE_SECONDS)))
        return ready.answer(request, cache_control=f"private, max-age={remaining}")

    async def forecasts(self, request: web.Request) -> web.Response:
        """The newest forecasts of one pool."""
        view = view_of(self._live, request)
        signal, grain, tenant = SIGNAL.read(request), GRAIN.read(request) or Grain.MINUTE.value, TENANT.read(request)
        asked = "forecasts", view.key, signal, grain, tenant
        ready = self._answers.get(asked, view)
        if ready is None:
            ready = Ready.of(to_json(_forecast_data(view, signal, grain, tenant)))
            self._answers.keep(asked, view, ready, ready.size)
        return ready.answer(request)

    async def _listed(
        self,
        request: web.Request,
        name: str,
        of_pool: Callable[[PoolKey, _Parts], bytes | None],
        told: frozenset[PoolKey] = frozenset(),
    ) -> web.Response:
        """One page of what ``of_pool`` says of the pools, by their names; None: the pool is left out.

        ``told`` is what it depends on beside the pools.
        """
        asked = name, LIMIT.read(request) or MAX_POOLS, NAME_CURSOR.read(request), told
        known, now = self._known, self._live.now()
        page: Timed | None = None
        if known.version == self._live.version and now < known.valid_until:
            page = self._pages.get(asked, known)
        if page is None:
            name, limit, after, _ = asked
            written = await self._aside.run(partial(self._page, name, limit, after, of_pool))
            page, now = written.page, written.now
            self._pages.keep(asked, written.known, page, page.size)
        return page.answer(request, now)

    def _page(
        self,
        name: str,
        limit: int,
        after: tuple[str, str] | None,
        of_pool: Callable[[PoolKey, _Parts], bytes | None],
    ) -> _Written:
        """Write a page."""
        known = self._refreshed()
        pools = known.pools
        first = 0 if after is None else bisect.bisect_right(pools, PoolKey(*after), key=lambda entry: entry[0])
        said = ((key, of_pool(key, parts)) for key, parts in islice(pools, first, None))
        page = list(islice(((key, body) for key, body in said if body is not None), limit + 1))
        found = [body for _, body in page[:limit]]
        cut = name_place(*page[limit - 1][0]) if len(page) > limit else None
        head = msgspec.json.encode({"as_of": known.as_of, **page_members(cut)})
        page_of = Timed.of(head[:-1] + f',"{name}":['.encode() + b",".join(found) + b"]}")
        return _Written(known, page_of, self._parts.looked_at)

    def _refreshed(self) -> _Known:
        known, parts = self._known, self._parts
        changed = parts.refresh()
        if changed or known.version != parts.version:
            pools = sorted(parts.made.items(), key=lambda entry: entry[0]) if changed else known.pools
            self._known = _Known(parts.version, parts.as_of, parts.valid_until, pools)
        return self._known


def _parts(view: PoolView) -> _Parts:
    cards = [to_json(asdict(card)) for card in view.scorecards]
    advice = view.recommendation
    return _Parts(
        to_json(_pool_data(view))[:-1], None if advice is None else to_json(advice), b",".join(cards) if cards else None
    )


def _forecast_data(view: PoolView, signal: str | None, grain: str, tenant: str | None) -> dict[str, Any]:
    """Return the forecasts of a pool, or of one tenant of it."""
    if tenant is not None:
        return _tenant_data(view, signal, grain, tenant)
    if grain != Grain.MINUTE:
        return _outlook_data(view, signal, grain)
    forecasts = [f for f in view.forecasts if signal in (None, str(f.series.signal))]
    return {
        "model": view.key.model,
        "pool": view.key.pool,
        "grain": Grain.MINUTE,
        "issued_at": max((f.issued_at for f in forecasts), default=None),
        "forecasts": forecasts,
        "scores": [s for s in view.scores if signal in (None, str(s.series.signal))],
        "tenants": [_tenant(told) for told in view.tenants],
    }


def _outlook_data(view: PoolView, signal: str | None, grain: str) -> dict[str, Any]:
    """Return what is said of hours or days; growth scenarios and the busiest hour per signal."""
    said = [o for o in view.outlooks if o.grain == grain and signal in (None, str(o.series.signal))]
    return {
        "model": view.key.model,
        "pool": view.key.pool,
        "grain": grain,
        "issued_at": max((o.issued_at for o in said), default=None),
        "forecasts": [forecast for outlook in said for forecast in outlook.forecasts],
        "scores": [],
        "growth": {str(o.series.signal): o.growth for o in said if o.growth},
        "peak_ratio": {str(o.series.signal): o.peak_ratio for o in said},
    }


def _tenant_data(view: PoolView, signal: str | None, grain: str, tenant: str) -> dict[str, Any]:
    """Return the forecasts of one tenant of a pool."""
    if grain != Grain.MINUTE:
        raise ProblemError(404, "tenants are forecast at the grain of minutes only")
    told = next((told for told in view.tenants if told.tenant == tenant), None)
    if told is None:
        raise ProblemError(404, f"tenant {tenant[:256]!r} of {'/'.join(view.key)} is not forecast apart")
    forecasts = [f for f in told.forecasts if signal in (None, str(f.series.signal))]
    return {
        "model": view.key.model,
        "pool": view.key.pool,
        "grain": grain,
        "issued_at": max((f.issued_at for f in forecasts), default=None),
        "forecasts": forecasts,
        "scores": [],
        "tenants": [_tenant(told)],
    }


def _tenant(told: TenantDemand) -> dict[str, Any]:
    return {"tenant": told.tenant, "requests_per_second": told.requests_per_second, "share": told.share}


def _pool_data(view: PoolView) -> dict[str, Any]:
    settings = view.settings
    return {
        "model": view.key.model,
        "pool": view.key.pool,
        "configured": settings is not None,
        "accelerator": settings.accelerator if settings else None,
        "accelerators_per_replica": settings.deployment().gpus if settings else None,
        "ttft_seconds": settings.ttft_seconds if settings else None,
        "tpot_seconds": settings.tpot_seconds if settings else None,
        "window": view.window,
        "recommendation": view.recommendation,
        "expired_at": view.expired.expires_at if view.expired else None,
        "alerts": view.alerts,
    }
