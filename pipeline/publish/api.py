"""The read-only HTTP API: health, metrics, recommendations, forecasts, windows, alerts, and the live board.

The contract is ``schemas/openapi.yaml``. Live values come from ``LiveState``, history from the store through a small
thread pool, so that a slow query never blocks the event loop. Errors are RFC 9457 problem documents.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware

import pipeline
from pipeline.advise.model import TenantDemand
from pipeline.clock import Clock
from pipeline.forecast.model import Signal
from pipeline.forecast.outlook import Grain
from pipeline.publish import board
from pipeline.publish.exporter import CONTENT_TYPE, Exporter
from pipeline.publish.json import to_json
from pipeline.publish.problem import ProblemError, require_token, secure
from pipeline.publish.rows import alert_data, recommendation_data, window_data
from pipeline.publish.state import LiveState, PoolView, Snapshot
from pipeline.settings import PublishSettings

__all__ = ["Reader", "create_app", "status_data"]

T = TypeVar("T")

#: Most points that one query may ask for.
MAX_POINTS = 20_000
#: Most rows of history or alerts in one answer.
MAX_ROWS = 1_000
#: How far back ``/v1/windows`` and ``/v1/alerts`` look when not told.
DEFAULT_LOOKBACK_SECONDS = 3 * 3600.0
ALERT_LOOKBACK_SECONDS = 24 * 3600.0
#: Longest time that a consumer may reuse a recommendation without asking again.
MAX_AGE_SECONDS = 5
READ_THREADS = 2


class Reader(Protocol):
    """What the API asks of the store; called from worker threads. Rows are plain dicts or the store's nouns."""

    def history(
        self, model: str, pool: str, start: float, end: float, grain_seconds: int
    ) -> Sequence[Mapping[str, Any]]:
        """Return the windows in [start, end) at a grain, oldest first: start, end, sums, closed, gap, replicas."""
        ...

    def recommendations(self, model: str, pool: str, limit: int) -> Sequence[Any]:
        """Return the newest recommendations of a pool."""
        ...

    def alerts(self, since: float) -> Sequence[Any]:
        """Return the alerts raised or ended since ``since`` (epoch seconds)."""
        ...


def create_app(live: LiveState, reader: Reader, settings: PublishSettings, clock: Clock) -> web.Application:
    """Build the application; the caller runs it on ``settings.host`` and ``settings.port``.

    With ``settings.bearer_token`` every route except the two probes asks for it.
    """
    middlewares: list[Middleware] = [secure]
    if settings.bearer_token is not None:
        middlewares.append(require_token(settings.bearer_token.get_secret_value()))
    app = web.Application(middlewares=middlewares, client_max_size=1024)
    api = _Api(live, reader, clock)
    app.cleanup_ctx.append(api.threads)
    app.add_routes(
        [
            web.get("/healthz", api.healthz),
            web.get("/readyz", api.readyz),
            web.get("/metrics", api.metrics),
            web.get("/v1/status", api.status),
            web.get("/v1/pools", api.pools),
            web.get("/v1/recommendations", api.recommendations),
            web.get("/v1/recommendations/{model:.+}/{pool:[^/]+}/history", api.recommendation_history),
            web.get("/v1/recommendations/{model:.+}/{pool:[^/]+}", api.recommendation),
            web.get("/v1/forecasts/{model:.+}/{pool:[^/]+}", api.forecasts),
            web.get("/v1/windows/{model:.+}/{pool:[^/]+}", api.windows),
            web.get("/v1/alerts", api.alerts),
            *board.routes(),
        ]
    )
    return app


class _Api:
    def __init__(self, live: LiveState, reader: Reader, clock: Clock) -> None:
        self._live = live
        self._reader = reader
        self._clock = clock
        self._exporter = Exporter(live)
        self._threads: ThreadPoolExecutor | None = None

    async def threads(self, app: web.Application) -> AsyncIterator[None]:  # noqa: ARG002
        """Own the threads that read the store, for as long as the application runs."""
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="tokentide-api")
        yield
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._threads = None

    async def _read(self, query: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, query)

    async def healthz(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return _json({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:  # noqa: ARG002
        health = self._live.health()
        if not health.ready:
            raise ProblemError(503, health.detail or "not ready yet")
        return _json({"status": "ready"})

    async def metrics(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.Response(body=await self._read(self._exporter.render), headers={"Content-Type": CONTENT_TYPE})

    async def status(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return _json(status_data(self._live.snapshot()))

    async def pools(self, request: web.Request) -> web.Response:  # noqa: ARG002
        snapshot = self._live.snapshot()
        return _json(
            {"now": snapshot.now, "as_of": snapshot.as_of, "pools": [_pool_data(view) for view in snapshot.pools]}
        )

    async def recommendations(self, request: web.Request) -> web.Response:  # noqa: ARG002
        snapshot = self._live.snapshot()
        valid = [view.recommendation for view in snapshot.pools if view.recommendation is not None]
        return _json({"now": snapshot.now, "as_of": snapshot.as_of, "recommendations": valid})

    async def recommendation(self, request: web.Request) -> web.Response:
        view = self._view(request)
        advice = view.recommendation
        if advice is None and view.expired is not None:
            raise ProblemError(
                410, f"the advice for {view.key.model}/{view.key.pool} expired at {view.expired.expires_at}"
            )
        if advice is None:
            raise ProblemError(404, f"no advice for {'/'.join(view.key)} yet")
        # The generation alone would hide a renewed expiry from a consumer that revalidates.
        etag = f'"{advice.generation}-{advice.issued_at:.0f}"'
        remaining = int(max(0.0, min(advice.expires_at - self._clock.now(), MAX_AGE_SECONDS)))
        headers = {"ETag": etag, "Cache-Control": f"private, max-age={remaining}"}
        if etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        return _json(advice, headers)

    async def recommendation_history(self, request: web.Request) -> web.Response:
        view = self._view(request)
        limit = _whole(request, "limit", 100, 1, MAX_ROWS)
        rows = await self._read(lambda: self._reader.recommendations(view.key.model, view.key.pool, limit))
        return _json({"recommendations": [recommendation_data(row) for row in rows[:limit]]})

    async def forecasts(self, request: web.Request) -> web.Response:
        view = self._view(request)
        signal = request.query.get("signal")
        if signal is not None and signal not in {s.value for s in Signal}:
            raise ProblemError(400, f"signal must be one of {', '.join(s.value for s in Signal)}")
        grain = request.query.get("grain", Grain.MINUTE)
        if grain not in {g.value for g in Grain}:
            raise ProblemError(400, f"grain must be one of {', '.join(g.value for g in Grain)}")
        tenant = request.query.get("tenant")
        if tenant is not None:
            return _json(_tenant_data(view, signal, grain, tenant))
        if grain != Grain.MINUTE:
            return _json(_outlook_data(view, signal, grain))
        forecasts = [f for f in view.forecasts if signal in (None, str(f.series.signal))]
        scores = [s for s in view.scores if signal in (None, str(s.series.signal))]
        return _json(
            {
                "model": view.key.model,
                "pool": view.key.pool,
                "grain": Grain.MINUTE,
                "issued_at": max((f.issued_at for f in forecasts), default=None),
                "forecasts": forecasts,
                "scores": scores,
                "tenants": [_tenant(told) for told in view.tenants],
            }
        )

    async def windows(self, request: web.Request) -> web.Response:
        view = self._view(request)
        grain = _whole(request, "grain_seconds", view.window.grain_seconds if view.window else 60, 10, 86_400)
        if grain % 10:
            raise ProblemError(400, "grain_seconds must be a multiple of 10")
        end = _time(request, "end", self._clock.now())
        start = _time(request, "start", max(0.0, end - DEFAULT_LOOKBACK_SECONDS))
        if start >= end:
            raise ProblemError(400, "start must be before end")
        if (end - start) / grain > MAX_POINTS:
            raise ProblemError(400, f"more than {MAX_POINTS} windows; ask for a shorter range or a coarser grain")
        key, as_of = view.key, self._live.as_of()
        rows = await self._read(lambda: self._reader.history(key.model, key.pool, start, end, grain))
        windows = [window_data(row, key.model, key.pool, grain, as_of) for row in rows]
        return _json({"model": key.model, "pool": key.pool, "grain_seconds": grain, "windows": windows})

    async def alerts(self, request: web.Request) -> web.Response:
        now = self._clock.now()
        since = _time(request, "since", max(0.0, now - ALERT_LOOKBACK_SECONDS))
        rows = await self._read(lambda: self._reader.alerts(since))
        found = {alert["alert_id"]: alert for alert in (alert_data(row) for row in rows)}
        # An episode that began before ``since`` and still lasts belongs to the answer, too.
        found |= {a.alert_id: alert_data(a) for a in self._live.snapshot().alerts if a.ended_at is None}
        alerts = list(found.values())
        alerts.sort(key=lambda alert: alert.get("raised_at") or 0.0, reverse=True)
        return _json({"now": now, "alerts": alerts[:MAX_ROWS]})

    def _view(self, request: web.Request) -> PoolView:
        model, pool = request.match_info["model"], request.match_info["pool"]
        view = self._live.pool(model, pool)
        if view is None:
            raise ProblemError(404, f"no pool {pool[:256]!r} of model {model[:256]!r}")
        return view


def status_data(snapshot: Snapshot) -> dict[str, Any]:
    """Return the state of the pipeline as plain data: event time, ledger, lag, stages."""
    health = snapshot.health
    lag = None if health.watermark is None else max(0.0, snapshot.now - health.watermark)
    return {
        "version": pipeline.__version__,
        "now": snapshot.now,
        "as_of": snapshot.as_of,
        "config_hash": snapshot.config_hash,
        "ready": health.ready,
        "detail": health.detail,
        "watermark": health.watermark,
        "watermark_lag_seconds": lag,
        "ledger": {
            "records": health.records,
            "events": health.events,
            "duplicates": health.duplicates,
            "dead_letters": dict(health.dead_letters),
            "dead_letters_total": health.dead_letters_total,
            "late": health.late,
            "lost": health.lost,
            "unknown_model_events": health.unknown_model_events,
        },
        "deltas": {"applied": health.deltas_applied, "dropped": health.deltas_dropped, "gaps": health.delta_gaps},
        "lag_records": [
            {"topic": topic, "partition": partition, "records": records}
            for (topic, partition), records in sorted(health.lag_records.items())
        ],
        "last_success": dict(health.last_success),
        "store_write_seconds": health.store_write_seconds,
        "pools": len(snapshot.pools),
        "active_alerts": sum(alert.ended_at is None for alert in snapshot.alerts),
        "steps": snapshot.counters.steps,
        "step_errors": snapshot.counters.step_errors,
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
        raise ProblemError(400, "tenants are forecast at the grain of minutes only")
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


def _json(data: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    response = web.Response(body=to_json(data), content_type="application/json", headers=headers)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _time(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 <= value < 1e11):
        raise ProblemError(400, f"{name} must be epoch seconds")
    return value


def _whole(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
        raise ProblemError(400, f"{name} must be a whole number from {low} to {high}")
    return int(text)
