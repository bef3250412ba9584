"""The HTTP API: health, metrics, recommendations, forecasts, windows, alerts, and the live board.

One route table makes the server and the OpenAPI document (``/v1/openapi.json``; ``schemas/openapi.yaml`` is a copy).
Live values come from ``LiveState``, history from the store through a small thread pool, so that a slow query never
blocks the event loop. Errors are RFC 9457 problem documents.

A reader must not hurt the controller, whose process this is: an answer has a bounded size, only a few reads of history
wait at a time (others get 503 with ``Retry-After``), and ``/metrics`` and what is said of all pools are written in
threads of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from pipeline.clock import Clock, ManualClock
from pipeline.config.settings import PublishSettings
from pipeline.publish import board
from pipeline.publish.deferral_reads import DeferralReads
from pipeline.publish.exporter import CONTENT_TYPE, Exporter
from pipeline.publish.feedback_api import SendRecord, feedback_route
from pipeline.publish.fleet_reads import FleetReads
from pipeline.publish.history_reads import READ_THREADS, HistoryReads, ReadQueue
from pipeline.publish.http.answer import Compressor, json_answer, takes_gzip
from pipeline.publish.http.cors import cross_origin
from pipeline.publish.http.openapi import document
from pipeline.publish.http.route import Route, add_routes
from pipeline.publish.http.side_thread import SideThread
from pipeline.publish.http.tokens import Tokens, guard
from pipeline.publish.json import to_json
from pipeline.publish.live_reads import LiveReads
from pipeline.publish.money_reads import MoneyReads
from pipeline.publish.problem import ProblemError, secure
from pipeline.publish.prometheus.handlers import PrometheusApi
from pipeline.publish.reader import Reader
from pipeline.publish.state import LiveState
from pipeline.publish.status import status_data
from pipeline.short_turns import take_short_turns

__all__ = ["create_app", "described", "route_table", "status_data"]

_MAX_BODY_BYTES = 64_000


def create_app(
    live: LiveState,
    reader: Reader,
    settings: PublishSettings,
    clock: Clock,
    exporter: Exporter | None = None,
    send_feedback: SendRecord | None = None,
) -> web.Application:
    """Build the application; the caller runs it on ``settings.host`` and ``settings.port``.

    ``exporter`` writes the metrics of ``live``; None: one that nobody prepares ahead of a scrape. ``send_feedback``
    writes marks of alerts to the calendar topic; None: they are refused. With
    ``settings.bearer_token`` or ``settings.tokens_file`` every route except the two probes asks for a token.

    Raises:
        ConfigError: ``settings.tokens_file`` cannot be read.
    """
    compressor, queue, aside = Compressor(), ReadQueue(), SideThread()
    service = _Service(live, exporter or Exporter(live), compressor, queue, aside)
    secret = settings.bearer_token
    tokens = Tokens(None if secret is None else secret.get_secret_value(), settings.tokens_file)
    origins = [cross_origin(settings.cors_origins)] if settings.cors_origins else []
    middlewares = [*origins, secure, guard(tokens), compressor.middleware]
    app = web.Application(middlewares=middlewares, client_max_size=_MAX_BODY_BYTES)
    status = lambda: to_json(status_data(live.snapshot(with_pools=False)))  # noqa: E731
    data = board.BoardData(live, reader, queue.run, aside, status)
    app.cleanup_ctx.extend([service.threads, data.stream.sender])
    mark = feedback_route(clock, send_feedback)
    add_routes(app, service.routes([*route_table(live, reader, clock, queue, aside), mark]))
    reports = board.Reports(settings.reports_folder, queue.run)
    app.add_routes(board.routes(service.exporter.rules, data, reports))
    return app


def route_table(
    live: LiveState, reader: Reader | None, clock: Clock, queue: ReadQueue, aside: SideThread
) -> list[Route]:
    """Return the reads of the API, in the order in which a path is looked for: the more special first.

    ``reader`` is None where the table is only described.
    """
    live_reads, history = LiveReads(live, clock, aside), HistoryReads(live, reader, clock, queue)
    prometheus = PrometheusApi(live, reader, clock, queue)
    planned = [*MoneyReads(live).routes(), *FleetReads(live).routes(), *DeferralReads(live).routes()]
    return [*live_reads.routes(), *planned, *history.routes(), *live_reads.pool_routes(), *prometheus.routes()]


def described() -> list[Route]:
    """Return the table of an API that has nothing to say: what the OpenAPI document is made of."""
    clock, queue, aside = ManualClock(0.0), ReadQueue(), SideThread()
    live = LiveState(clock)
    service = _Service(live, Exporter(live), Compressor(), queue, aside)
    return service.routes([*route_table(live, None, clock, queue, aside), feedback_route(clock, None)])


class _Service:
    """Probes, metrics, the document, and the threads of the server."""

    def __init__(
        self, live: LiveState, exporter: Exporter, compressor: Compressor, queue: ReadQueue, aside: SideThread
    ) -> None:
        self.exporter = exporter
        self._live = live
        self._compressor = compressor
        self._queue = queue
        self._aside = aside
        self._scrapes: ThreadPoolExecutor | None = None

    def routes(self, reads: list[Route]) -> list[Route]:
        """Return the whole table: the service's own entries, and ``reads``."""
        own = [
            Route("/healthz", "healthz", "The process is alive.", self.healthz, _word("ok"), role=None),
            Route("/readyz", "readyz", "Partitions are assigned, state is restored, the store is writable.",
                  self.readyz, _word("ready"), problems=(503,), role=None),
            Route("/metrics", "metrics", "Prometheus text format 0.0.4; docs/metrics.md lists the metrics.",
                  self.metrics, media_type="text/plain"),
            Route("/v1/openapi.json", "openapi", "This document.", self.openapi, {"type": "object"}),
        ]  # fmt: skip
        self._document = document([*own, *reads])
        return [*own, *reads]

    async def threads(self, app: web.Application) -> AsyncIterator[None]:  # noqa: ARG002
        """Own the threads that read the store, write metrics and lists, and compress, while the application runs."""
        reads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="tokentide-api", initializer=take_short_turns)
        # As the event loop: a storm of reads of history must not hold up a scrape.
        self._scrapes = ThreadPoolExecutor(1, thread_name_prefix="tokentide-metrics", initializer=take_short_turns)
        packing = ThreadPoolExecutor(1, thread_name_prefix="tokentide-gzip")
        listing = ThreadPoolExecutor(1, thread_name_prefix="tokentide-lists", initializer=take_short_turns)
        self._queue.threads, self._compressor.executor, self._aside.thread = reads, packing, listing
        yield
        self._queue.allowance.end()
        for threads in (reads, self._scrapes, packing, listing):
            threads.shutdown(wait=True, cancel_futures=True)
        self._queue.threads = self._compressor.executor = self._scrapes = self._aside.thread = None

    async def healthz(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The process is alive."""
        return json_answer({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Whether the pipeline is ready."""
        health = self._live.health()
        if not health.ready:
            raise ProblemError(503, health.detail or "not ready yet")
        return json_answer({"status": "ready"})

    async def metrics(self, request: web.Request) -> web.Response:
        """The exposition."""
        headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
        write = self.exporter.render
        if takes_gzip(request):
            write, headers["Content-Encoding"] = self.exporter.render_packed, "gzip"
        body = await asyncio.get_running_loop().run_in_executor(self._scrapes, write)
        return web.Response(body=body, headers=headers)

    async def openapi(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The OpenAPI document."""
        return json_answer(self._document)


def _word(status: str) -> dict[str, object]:
    return {"type": "object", "required": ["status"], "properties": {"status": {"const": status}}}
