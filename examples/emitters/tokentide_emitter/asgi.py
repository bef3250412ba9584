"""ASGI middleware for OpenAI-compatible servers: one event per request, tokens from ``usage``.

    from tokentide_emitter.asgi import TokentideMiddleware
    app.add_middleware(TokentideMiddleware)            # Starlette, FastAPI

A streamed answer carries ``usage`` only with ``stream_options.include_usage``; without it the tokens are unknown, and
what is unknown is left out, never written as 0. Prompts and answers are looked at in memory only for these fields.
"""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tokentide_emitter.event import EventIds, finished_event, http_outcome
from tokentide_emitter.requests_in_flight import RequestInFlight
from tokentide_emitter.sink import KafkaSink, shared_sink

__all__ = ["OPERATIONS", "TokentideMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Paths whose requests are inference, by their end.
OPERATIONS = {
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/responses": "responses",
    "/messages": "chat",
}
#: A body beyond this is not parsed: its fields stay unknown.
_MOST_BODY_BYTES = 4 << 20
#: The end of a stream that is kept to find ``usage`` in.
_TAIL_BYTES = 64 << 10


class TokentideMiddleware:
    """Watches requests to completion endpoints; everything else passes untouched.

    ``model_of`` (optional) maps the model that a client named to the one whose demand it is, or None to emit nothing:
    without it any name that a client makes up would open a pool of its own, so unknown models (404) are not emitted.
    """

    source = "asgi"

    def __init__(
        self, app: Any, sink: KafkaSink | None = None, model_of: Callable[[str], str | None] | None = None
    ) -> None:
        self.app = app
        self._sink = sink
        self._model_of = model_of or (lambda name: name)
        self._ids = EventIds()
        self._server = socket.gethostname()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        operation = _operation(scope)
        sink = self._sink or shared_sink()
        if operation is None or sink is None:
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope.get("headers", ())}
        key = headers.get(b"x-request-id", b"").decode("latin-1") or uuid.uuid4().hex
        if b"x-request-id" not in headers:
            scope = {**scope, "headers": [*scope.get("headers", ()), (b"x-request-id", key.encode())]}
        request = RequestInFlight(key, time.time(), operation)
        if sink.config.tenant_header:
            request.tenant = headers.get(sink.config.tenant_header.encode(), b"").decode("latin-1") or None
        await _Exchange(self, sink, request).run(scope, receive, send)

    def began(self, request: RequestInFlight) -> None:
        """Called when the body of a request is known; for subclasses."""

    def ended(self, sink: KafkaSink, request: RequestInFlight, fields: dict[str, Any]) -> None:
        """Called once when a request ended, with the event fields that the exchange showed."""
        model = self._model_of(request.model) if request.model else None
        if model is None or fields["status"] is None:
            return
        labels = {"pool": sink.config.pool, "server_id": self._server, "source": self.source, **sink.config.labels}
        described = {
            "event_id": self._ids(),
            "request_id": request.key,
            "model": model,
            "operation": request.operation,
            "stream": request.stream,
            "tenant": request.tenant,
            "arrived_at": request.arrived_at,
        }
        sink.put(finished_event({**described, **fields}, labels))


class _Exchange:
    """One request and its answer, as they pass."""

    def __init__(self, middleware: TokentideMiddleware, sink: KafkaSink, request: RequestInFlight) -> None:
        self._middleware, self._sink, self._request = middleware, sink, request
        self._body = b""
        self._begun = False
        self._status: int | None = None
        self._event_stream = False
        self._tail = b""
        self._first_at: float | None = None
        self._answered = False
        self._left = False

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                self._take_body(message)
            elif message["type"] == "http.disconnect" and not self._answered:
                self._left = True
            return message

        async def sent(message: Message) -> None:
            self._watch(message)
            await send(message)

        raised = True
        try:
            await self._middleware.app(scope, received, sent)
            raised = False
        finally:
            self._middleware.ended(self._sink, self._request, self._fields(raised))

    def _take_body(self, message: Message) -> None:
        if len(self._body) <= _MOST_BODY_BYTES:
            self._body += message.get("body", b"")
        if message.get("more_body") or self._begun:
            return
        self._begun = True
        asked = _object(self._body) if len(self._body) <= _MOST_BODY_BYTES else {}
        self._body = b""
        model = asked.get("model")
        self._request.model = model if isinstance(model, str) else None
        self._request.stream = bool(asked.get("stream"))
        self._middleware.began(self._request)

    def _watch(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            kinds = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
            self._event_stream = bool(kinds) and kinds[0].startswith(b"text/event-stream")
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if self._first_at is None and b"data:" in body:
                self._first_at = time.time()
            kept = _TAIL_BYTES if self._event_stream else _MOST_BODY_BYTES
            self._tail = (self._tail + body)[-kept:]
            self._answered = not message.get("more_body", False)

    def _fields(self, raised: bool) -> dict[str, Any]:
        now = time.time()
        left = self._left or not self._answered
        status = http_outcome(self._status) if self._status is not None else "error"
        if status == "ok" and raised:
            status = "error"
        if status in ("ok", "error") and left and self._status is not None and self._status < 400:
            status = "cancelled"
        arrived = self._request.arrived_at
        streamed = self._event_stream and self._first_at is not None
        return {
            "completed_at": now,
            "e2e_seconds": now - arrived,
            "ttft_seconds": self._first_at - arrived if streamed and self._first_at is not None else None,
            "http_status": self._status,
            "status": status,
            **_usage(self._tail, self._event_stream),
        }


def _operation(scope: Scope) -> str | None:
    if scope.get("type") != "http" or scope.get("method") != "POST":
        return None
    path = scope.get("path", "").rstrip("/")
    return next((name for end, name in OPERATIONS.items() if path.endswith(end)), None)


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _usage(answer: bytes, event_stream: bool) -> dict[str, Any]:
    """Return the token counts that an answer, or the last chunk of a streamed one that has them, states."""
    if event_stream:
        chunks = (_object(line[5:].strip()) for line in reversed(answer.split(b"\n")) if line.startswith(b"data:"))
        found = next((chunk for chunk in chunks if isinstance(_usage_object(chunk), dict)), {})
    else:
        found = _object(answer)
    usage = _usage_object(found)
    if not isinstance(usage, dict):
        return {}
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    output = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    counts = {
        "input_tokens": usage.get("prompt_tokens", usage.get("input_tokens")),
        "output_tokens": usage.get("completion_tokens", usage.get("output_tokens")),
        "cached_input_tokens": details.get("cached_tokens") if isinstance(details, dict) else None,
        "reasoning_output_tokens": output.get("reasoning_tokens") if isinstance(output, dict) else None,
    }
    return {name: value for name, value in counts.items() if type(value) is int and value >= 0}


def _usage_object(chunk: dict[str, Any]) -> Any:
    """Completions have ``usage`` at the top, streamed responses in the ``response`` of their last event."""
    inner = chunk.get("response")
    return chunk.get("usage") or (inner.get("usage") if isinstance(inner, dict) else None)
