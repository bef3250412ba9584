"""The ASGI middleware of the emitters, for any OpenAI-compatible server and for vLLM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.examples.support import SCHEMA, Collected, finished, stat_logger


def exchange(
    app: Any,
    asked: dict[str, Any],
    *,
    path: str = "/v1/chat/completions",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    leaves: bool = False,
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": json.dumps(asked).encode(), "more_body": False}]
    if leaves:
        waiting.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    asyncio.run(app(scope, receive, send))
    return sent


def answering(status: int, chunks: list[bytes], kind: bytes = b"application/json", *, reads: int = 1) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(reads):
            await receive()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        for number, chunk in enumerate(chunks):
            await send({"type": "http.response.body", "body": chunk, "more_body": number < len(chunks) - 1})

    return app


USAGE = b'{"usage": {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}}}'


def test_an_answer_with_usage_is_an_event_with_tokens(emitter: Callable[[str], Any]) -> None:
    sink = Collected()
    app = emitter("asgi").TokentideMiddleware(answering(200, [USAGE]), sink)
    exchange(app, {"model": "llama", "messages": [{"content": "secret"}]})
    (event,) = sink.events
    assert not list(SCHEMA.iter_errors(event))
    assert (event["input_tokens"], event["output_tokens"], event["cached_input_tokens"]) == (12, 3, 8)
    assert event["status"] == "ok"
    assert "ttft_seconds" not in event  # not streamed
    assert "secret" not in json.dumps(event)


def test_a_streamed_answer_has_a_ttft_and_the_usage_of_its_last_chunk(emitter: Callable[[str], Any]) -> None:
    sink = Collected()
    chunks = [b'data: {"choices": [1]}\n\n', b'data: {"choices": [], "usage": {"prompt_tokens": 5,', b"", b""]
    chunks[2:] = [b' "completion_tokens": 2}}\n\ndata: [DONE]\n\n', b""]
    app = emitter("asgi").TokentideMiddleware(answering(200, chunks, b"text/event-stream; charset=utf-8"), sink)
    exchange(app, {"model": "llama", "stream": True})
    (event,) = sink.events
    assert (event["input_tokens"], event["output_tokens"], event["stream"]) == (5, 2, True)
    assert 0 <= event["ttft_seconds"] <= event["e2e_seconds"]


def test_a_stream_without_usage_has_unknown_tokens_not_zero(emitter: Callable[[str], Any]) -> None:
    sink = Collected()
    app = emitter("asgi").TokentideMiddleware(answering(200, [b"data: {}\n\n", b""], b"text/event-stream"), sink)
    exchange(app, {"model": "llama", "stream": True})
    assert "input_tokens" not in sink.events[0]
    assert "output_tokens" not in sink.events[0]


@pytest.mark.parametrize(
    ("code", "status"),
    [(429, "rejected"), (503, "rejected"), (504, "timeout"), (500, "error"), (400, None), (404, None)],
)
def test_refusals_are_demand_and_client_mistakes_are_not(
    emitter: Callable[[str], Any], code: int, status: str | None
) -> None:
    sink = Collected()
    exchange(emitter("asgi").TokentideMiddleware(answering(code, [b"{}"]), sink), {"model": "llama"})
    assert [event["status"] for event in sink.events] == ([] if status is None else [status])
    assert all("input_tokens" not in event for event in sink.events)


def test_a_client_that_leaves_is_cancelled(emitter: Callable[[str], Any]) -> None:
    sink = Collected()
    app = emitter("asgi").TokentideMiddleware(answering(200, [b"{}"], reads=2), sink)
    exchange(app, {"model": "llama"}, leaves=True)
    assert [event["status"] for event in sink.events] == ["cancelled"]


def test_an_application_that_raises_is_an_error_and_still_raises(emitter: Callable[[str], Any]) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("engine died")

    sink = Collected()
    with pytest.raises(RuntimeError):
        exchange(emitter("asgi").TokentideMiddleware(broken, sink), {"model": "llama"})
    assert [event["status"] for event in sink.events] == ["error"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": 3}', b"\xff\xfe"])
def test_an_odd_body_passes_and_is_not_emitted(emitter: Callable[[str], Any], body: bytes) -> None:
    sink = Collected()
    inner = answering(200, [USAGE])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
    asyncio.run(emitter("asgi").TokentideMiddleware(app, sink)(scope, receive, send))
    assert len(sent) == 2
    assert sink.events == []


def test_other_paths_pass_untouched(emitter: Callable[[str], Any]) -> None:
    sink = Collected()
    exchange(emitter("asgi").TokentideMiddleware(answering(200, [USAGE]), sink), {"model": "m"}, path="/v1/models")
    assert sink.events == []


def test_vllm_middleware_leaves_finished_requests_to_the_stat_logger(
    emitter: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Collected()
    sink.config.tenant_header = "x-tenant"
    logger = stat_logger(emitter, sink, monkeypatch)

    async def engine(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        key = dict(scope["headers"])[b"x-request-id"].decode()
        stats = SimpleNamespace(finished_requests=[finished(request_id=f"chatcmpl-{key}")], iteration_timestamp=5.0)
        logger.record(None, stats)
        await answering(200, [USAGE], reads=0)(scope, receive, send)

    app = emitter("vllm_asgi").TokentideMiddleware(engine, sink)
    exchange(app, {"model": "my-lora", "stream": False}, headers=((b"x-tenant", b"acme"),))
    (event,) = sink.events
    assert (event["source"], event["tenant"], event["variant"]) == ("vllm.stat_logger", "acme", "my-lora")
    assert event["model"] == "llama"
    assert len(emitter("requests_in_flight").REQUESTS) == 0


def test_vllm_middleware_emits_refusals_under_the_served_name(
    emitter: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Collected()
    stat_logger(emitter, sink, monkeypatch)
    app = emitter("vllm_asgi").TokentideMiddleware(answering(429, [b"{}"]), sink)
    exchange(app, {"model": "my-lora"})
    exchange(emitter("vllm_asgi").TokentideMiddleware(answering(404, [b"{}"]), sink), {"model": "nope"})
    assert [(event["model"], event["status"]) for event in sink.events] == [("llama", "rejected")]
