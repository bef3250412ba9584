"""The reads of the HTTP API that ask the store: windows, past advice, alerts.

A reader must not hurt the controller, whose process this is: an answer has a bounded size, reads take a bounded share
of the processor, and only a few of them wait at a time; others get 503 with ``Retry-After``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from aiohttp import web

from pipeline.clock import Clock
from pipeline.publish.http.allowance import Allowance
from pipeline.publish.http.answer import tagged, timed_answer
from pipeline.publish.http.page import TIME_CURSOR, list_schema, page_members, time_place
from pipeline.publish.http.parameter import seconds, whole
from pipeline.publish.http.route import Route
from pipeline.publish.json import plain_json, to_json
from pipeline.publish.live_reads import view_of
from pipeline.publish.problem import ProblemError
from pipeline.publish.reader import Reader
from pipeline.publish.rows import alert_data, recommendation_data, window_data
from pipeline.publish.state import LiveState

__all__ = ["HistoryReads", "ReadQueue"]

T = TypeVar("T")

READ_THREADS = 2
MAX_READS = 16  # that run or wait at a time
RETRY_SECONDS = 1  # after a read that was refused
#: Of a core, that reads take over time; the rest of the interpreter is the engine's.
READ_SHARE = 0.5
READ_BURST_SECONDS = 2.0  # of processor time, before that share is held

MAX_POINTS = 5_000  # windows that one query looks at
MAX_ROWS = 1_000  # of past advice or alerts in one answer
#: How far back ``/v1/windows`` and ``/v1/alerts`` look when not told.
DEFAULT_LOOKBACK_SECONDS = 3 * 3600.0
ALERT_LOOKBACK_SECONDS = 24 * 3600.0

START = seconds("start", "default three hours before end")
END = seconds("end", "default now")
GRAIN = whole("grain_seconds", 10, 86_400, multiple_of=10, description="a multiple of 10; default that of the windows")
WINDOW_LIMIT = whole("limit", 1, MAX_POINTS, MAX_POINTS, description="windows in one answer")
WINDOW_CURSOR = seconds("cursor", "the next_cursor of the page before")
ADVICE_LIMIT = whole("limit", 1, MAX_ROWS, 100, description="entries in one answer")
SINCE = seconds("since", "default 24 hours ago")
ALERT_LIMIT = whole("limit", 1, MAX_ROWS, MAX_ROWS, description="entries in one answer")


class ReadQueue:
    """Runs queries of the store in threads, a bounded number at a time."""

    def __init__(self) -> None:
        self.threads: Executor | None = None
        self.allowance = Allowance(READ_SHARE, READ_BURST_SECONDS)
        self._reads = 0  # that run or wait

    async def run(self, query: Callable[[], T]) -> T:
        """Return what ``query`` does; a long encoding belongs into it, too, and so into the thread.

        Raises:
            ProblemError: 503, too many others read.
        """
        if self._reads >= MAX_READS:
            raise ProblemError(503, f"{MAX_READS} reads of history are waiting already", retry_after=RETRY_SECONDS)
        self._reads += 1
        future = asyncio.get_running_loop().run_in_executor(self.threads, self.allowance.run, query)
        future.add_done_callback(self._over)  # also when the client has gone, but its query goes on
        return await asyncio.shield(future)

    def _over(self, future: asyncio.Future[Any]) -> None:
        self._reads -= 1
        if not future.cancelled():
            future.exception()  # seen, also where nobody waits for it any more


class HistoryReads:
    """Handlers over the store."""

    def __init__(self, live: LiveState, reader: Reader | None, clock: Clock, queue: ReadQueue) -> None:
        self._live = live
        self._maybe_reader = reader
        self._clock = clock
        self._queue = queue

    def routes(self) -> list[Route]:
        """Return the entries of the route table."""
        model_and_pool = {"model": {"type": "string"}, "pool": {"type": "string"}}
        return [
            Route("/v1/recommendations/{model}/{pool}/history", "recommendationHistory",
                  "Past advice of one pool, newest first; never to be followed.", self.recommendations,
                  list_schema("recommendations", {"$ref": "#/components/schemas/Recommendation"}),
                  (ADVICE_LIMIT, TIME_CURSOR), (400, 404, 503)),
            Route("/v1/windows/{model}/{pool}", "windows", "Windows of one pool in [start, end), oldest first.",
                  self.windows,
                  list_schema("windows", {"$ref": "#/components/schemas/Window"}, **model_and_pool,
                              grain_seconds={"type": "integer"}),
                  (START, END, GRAIN, WINDOW_LIMIT, WINDOW_CURSOR), (400, 404, 503),
                  described=f"windows; none where end is not after start. A page spans {MAX_POINTS} windows at most, "
                            "whether they hold something or not: go on while `truncated` is true"),
            Route("/v1/alerts", "alerts", "Alerts raised or ended since a time, newest first.", self.alerts,
                  list_schema("alerts", {"$ref": "#/components/schemas/Alert"}, now={"type": "number"}),
                  (SINCE, ALERT_LIMIT, TIME_CURSOR), (400, 503)),
        ]  # fmt: skip

    @property
    def _reader(self) -> Reader:
        assert self._maybe_reader is not None  # a table that is only described serves nothing
        return self._maybe_reader

    async def recommendations(self, request: web.Request) -> web.Response:
        """Past advice of one pool."""
        view = view_of(self._live, request)
        limit, cursor = ADVICE_LIMIT.read(request) or MAX_ROWS, TIME_CURSOR.read(request)
        before = None if cursor is None else (cursor[0], _generation(cursor[1]))

        def query() -> bytes:
            rows = list(self._reader.recommendations(view.key.model, view.key.pool, limit + 1, before))
            told = [recommendation_data(row) for row in rows[:limit]]
            cut = time_place(told[-1]["issued_at"], str(told[-1]["generation"])) if len(rows) > limit else None
            return plain_json({"recommendations": told, **page_members(cut)})

        return tagged(await self._queue.run(query))

    async def windows(self, request: web.Request) -> web.Response:
        """Windows of one pool."""
        view = view_of(self._live, request)
        usual = view.window.grain_seconds if view.window else 60
        grain, limit = GRAIN.read(request) or usual, WINDOW_LIMIT.read(request) or MAX_POINTS
        end = _or(END.read(request), self._clock.now())
        start = _or(START.read(request), max(0.0, end - DEFAULT_LOOKBACK_SECONDS))
        after = WINDOW_CURSOR.read(request)
        key, as_of = view.key, self._live.as_of()
        start = start if after is None else max(start, after + grain)

        def query() -> bytes:
            first, until, more = self._piece(start, end, grain)
            asked = (key.model, key.pool, first, until, grain)
            rows, told = self._reader.one_state(partial(self._windows, *asked)) if first < until else ([], {})
            finished = as_of
            if finished is not None and view.window is not None and grain == view.window.grain_seconds:
                # A step may have been recorded since the request came.
                finished = max([finished, *(row["end"] for row in rows if row.get("closed"))])
            windows = [window_data(row, key, grain, finished, told.get(row["start"])) for row in rows[:limit]]
            last = windows[-1]["start"] if len(rows) > limit else until - grain if more else None
            cut = None if last is None else str(float(last))
            named = {"model": key.model, "pool": key.pool, "grain_seconds": grain}
            return plain_json({**named, "windows": windows, **page_members(cut)})

        return tagged(await self._queue.run(query))

    def _windows(self, *asked: Any) -> tuple[list[Mapping[str, Any]], Mapping[int, Mapping[str, Any]]]:
        rows = list(self._reader.history(*asked))
        return rows, self._reader.latencies(*asked) if rows else {}

    def _piece(self, start: float, end: float, grain: int) -> tuple[float, float, bool]:
        """The first ``MAX_POINTS`` windows of a range, as far as any are kept, and whether more come after them."""
        if (end - start) / grain <= MAX_POINTS:
            return start, end, False
        kept = self._reader.history_span()
        if kept is None:
            return start, start, False
        start = max(-(-start // grain), kept[0] // grain) * grain
        end = min(end, kept[1])
        until = start + MAX_POINTS * grain
        return start, min(end, until), until < end

    async def alerts(self, request: web.Request) -> web.Response:
        """Alerts since a time."""
        now = self._clock.now()
        since = _or(SINCE.read(request), max(0.0, now - ALERT_LOOKBACK_SECONDS))
        limit, before = ALERT_LIMIT.read(request) or MAX_ROWS, TIME_CURSOR.read(request)
        # An episode that began before ``since`` and still lasts belongs to the answer, too.
        lasting = {a.alert_id: a for a in self._live.alerts() if a.ended_at is None}

        def query() -> bytes:
            found = {alert["alert_id"]: alert for alert in (alert_data(row) for row in self._reader.alerts(since))}
            # What has ended since the request came is told as the store has it.
            ended = {name: alert for name, alert in found.items() if alert.get("ended_at") is not None}
            alerts = list((found | {name: alert_data(a) for name, a in lasting.items()} | ended).values())
            alerts.sort(key=_place, reverse=True)
            if before is not None:
                alerts = [alert for alert in alerts if _place(alert) < before]
            cut = time_place(*_place(alerts[limit - 1])) if len(alerts) > limit else None
            return to_json({"alerts": alerts[:limit], **page_members(cut)})

        return timed_answer(now, await self._queue.run(query))


def _place(alert: Any) -> tuple[float, str]:
    return alert.get("raised_at") or 0.0, alert["alert_id"]


def _generation(told: str) -> int:
    """The second part of a cursor of past advice; what is no generation stands before all of them."""
    return int(told) if told.isascii() and told.isdigit() and len(told) <= 18 else 0


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
