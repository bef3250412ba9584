"""Real vLLM and LiteLLM through the emitters, Kafka and the pipeline: windows equal what the client saw."""

from __future__ import annotations

import json
import time
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.real.conftest import MODEL, POOL, eventually, get

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]


@dataclass
class Seen:
    """What a client saw of one request."""

    input_tokens: int
    output_tokens: int
    ttft_seconds: float
    e2e_seconds: float

    @property
    def tpot_seconds(self) -> float:
        return (self.e2e_seconds - self.ttft_seconds) / (self.output_tokens - 1)


def ask(url: str, number: int, *, key: str = "none", model: str = MODEL, tokens: int = 24) -> Seen:
    """Send one streamed chat request and read its usage."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "capacity " * (5 + 7 * (number % 9))}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}", "x-tenant": f"team-{number % 2}"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    began = time.perf_counter()
    first, usage = None, None
    with urllib.request.urlopen(request, timeout=600) as answer:
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            if first is None and chunk.get("choices"):
                first = time.perf_counter()
            usage = chunk.get("usage") or usage
    assert first is not None
    assert usage is not None
    return Seen(usage["prompt_tokens"], usage["completion_tokens"], first - began, time.perf_counter() - began)


def counted(url: str, pool: str) -> list[dict[str, Any]]:
    now = time.time()
    start, end = int(now - 3600) // 10 * 10, int(now) // 10 * 10 + 10
    query = f"start={start}&end={end}&grain_seconds=10"
    try:
        return list(get(f"{url}/v1/windows/{MODEL}/{pool}?{query}")["windows"])
    except HTTPError as error:
        if error.code == 404:
            return []
        raise


def total(windows: list[dict[str, Any]], name: str) -> int:
    return sum(window[name] or 0 for window in windows)


def mean(windows: list[dict[str, Any]], name: str) -> float:
    """A mean latency over windows, weighted by their requests."""
    known = [(window[name], window["requests"]) for window in windows if window[name] is not None]
    return sum(value * n for value, n in known) / sum(n for _, n in known)


def test_vllm_windows_equal_what_the_client_saw(vllm: str, pipeline: str) -> None:
    seen = [ask(vllm, number) for number in range(40)]
    windows = eventually(
        "all windows", lambda: (found := counted(pipeline, POOL)) and total(found, "requests") >= len(seen) and found
    )
    assert total(windows, "requests") == len(seen)
    assert total(windows, "input_tokens") == sum(one.input_tokens for one in seen)
    assert total(windows, "output_tokens") == sum(one.output_tokens for one in seen)
    # The engine measures without HTTP, which adds milliseconds to the first token and nothing between tokens.
    for name, http_seconds in (("ttft_seconds", 0.02), ("tpot_seconds", 0.001)):
        client = sum(getattr(one, name) for one in seen) / len(seen)
        assert mean(windows, name) == pytest.approx(client, rel=0.05, abs=http_seconds), name


def test_litellm_windows_equal_what_the_client_saw(litellm: str, pipeline: str) -> None:
    seen = [ask(litellm, number, key="sk-test") for number in range(12)]
    with pytest.raises(HTTPError):
        ask(litellm, 0, key="sk-test", model="limited")
    windows = eventually(
        "all windows",
        lambda: (found := counted(pipeline, "gateway")) and total(found, "requests") >= len(seen) and found,
    )
    assert total(windows, "requests") == len(seen)
    assert total(windows, "input_tokens") == sum(one.input_tokens for one in seen)
    assert total(windows, "output_tokens") == sum(one.output_tokens for one in seen)
