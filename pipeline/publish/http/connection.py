"""The server's side of one connection, and how many there may be: a stranger must not use up what the process needs."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from pipeline.publish.problem import problem_response

__all__ = ["MAX_CONNECTIONS", "Connection", "most_connections"]

#: Open at a time. Each has a file descriptor, of which the store and Kafka need some, too.
MAX_CONNECTIONS = 1_000
#: A client that takes nothing of its answer for so long is let go: the answer lies in memory meanwhile.
STALLED_SECONDS = 20.0
_FULL_BODY = b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"too many connections"}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_FULL_BODY), _FULL_BODY)
)


def most_connections() -> int:
    """Return how many connections may be open at a time: half of the file descriptors of the process at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 2)


class Connection(web.RequestHandler):
    """aiohttp's connection, with a problem document for what is no HTTP, and without a line in the log for each.

    Where there are ``most`` others already, the one that has been open longest without a request under way makes room;
    where all are busy, this one is refused. Without an answer under way aiohttp closes a connection by itself.
    """

    def __init__(self, manager: web.Server, *, most: int, **named: Any) -> None:
        super().__init__(manager, **named)
        self._most = most
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, if there is room."""
        super().connection_made(transport)
        assert self._manager is not None  # it goes only after the connection
        others = [other for other in self._manager.connections if other is not self]
        if len(others) < self._most:
            return
        idle = next((other for other in others if other._current_request is None), None)
        if idle is not None:
            idle.force_close()
        else:
            assert isinstance(transport, asyncio.Transport)
            transport.write(_FULL)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone."""
        self._forget()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """More of an answer waits than the client takes."""
        super().pause_writing()
        self._look(None)

    def resume_writing(self) -> None:
        """The client has taken nearly all of it."""
        self._forget()
        super().resume_writing()

    def _look(self, waited: int | None) -> None:
        transport = self.transport
        if transport is None:
            return
        waits = transport.get_write_buffer_size()
        if waited is not None and waits >= waited:
            transport.abort()
            return
        self._watch = self._loop.call_later(STALLED_SECONDS, self._look, waits)

    def _forget(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what is no HTTP, or could not be answered."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        if request.writer is not None and request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        too_long = isinstance(exc, LineTooLong)
        response = problem_response(
            status, "the request line or a header is too long" if too_long else "the request is not valid HTTP"
        )
        response.force_close()
        return response
