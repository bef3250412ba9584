"""The state of the pipeline as server-sent events, so that the board shows a step as soon as it is published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from aiohttp import web

from pipeline.publish.problem import SECURITY_HEADERS, ProblemError
from pipeline.publish.state import LiveState

__all__ = ["StatusStream"]

MAX_LISTENERS = 64
#: The status is sent at least this often, and a new step is looked for so often.
STATUS_SECONDS = 1.0
LOOK_SECONDS = 0.2
#: A listener that takes nothing for so long is let go.
SLOW_SECONDS = 20.0
RETRY_SECONDS = 5


class StatusStream:
    """Sends ``status`` (the JSON of ``/v1/status``) to every listener each second, and at once after new advice.

    The status is made once for all listeners, and not at all while there are none. A listener that lags gets the newest
    status only.
    """

    def __init__(self, live: LiveState, status: Callable[[], bytes]) -> None:
        self._live = live
        self._status = status
        self._listeners: set[asyncio.Queue[bytes | None]] = set()

    async def sender(self, app: web.Application) -> AsyncIterator[None]:
        """Send for as long as the application runs (a cleanup context)."""
        app.on_shutdown.append(self._close)
        task = asyncio.create_task(self._send())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one listener until it goes, or the server stops.

        Raises:
            ProblemError: 503, there are too many listeners.
        """
        if len(self._listeners) >= MAX_LISTENERS:
            raise ProblemError(503, f"{MAX_LISTENERS} boards listen already", retry_after=RETRY_SECONDS)
        response = web.StreamResponse(
            headers={
                **SECURITY_HEADERS,  # when the handler returns, it is too late for them
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
            }
        )
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._listeners.add(queue)
        try:
            queue.put_nowait(self._event())
            await response.prepare(request)
            while (event := await queue.get()) is not None:
                await asyncio.wait_for(response.write(event), SLOW_SECONDS)
        except (ConnectionError, TimeoutError):
            pass  # it went, or takes nothing
        finally:
            self._listeners.discard(queue)
        return response

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        sent_at, sent = 0.0, None
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            advised_at = self._live.advised_at()
            if not self._listeners or (advised_at == sent and loop.time() - sent_at < STATUS_SECONDS):
                continue
            sent_at, sent = loop.time(), advised_at
            event = self._event()
            for queue in self._listeners:
                _replace(queue, event)

    def _event(self) -> bytes:
        return b"event: status\ndata: " + self._status() + b"\n\n"

    async def _close(self, app: web.Application) -> None:  # noqa: ARG002
        for queue in self._listeners:
            _replace(queue, None)


def _replace(queue: asyncio.Queue[bytes | None], item: bytes | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(item)
