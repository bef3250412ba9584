"""What tests of the emitters share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[3]
EMITTERS = ROOT / "examples" / "emitters"
SCHEMA = Draft202012Validator(json.loads((ROOT / "schemas" / "request.v1.schema.json").read_text()))


class Collected:
    """A sink that keeps events."""

    def __init__(self, **config: Any) -> None:
        self.config = SimpleNamespace(pool="chat", labels={}, tenant_header=None, **config)
        self.events: list[dict[str, Any]] = []

    def put(self, event: dict[str, Any]) -> None:
        self.events.append(event)


def finished(**fields: Any) -> SimpleNamespace:
    usual = {
        "finish_reason": "stop",
        "request_id": "chatcmpl-abc",
        "e2e_latency": 2.0,
        "decode_time": 1.5,
        "queued_time": 0.1,
        "prefill_time": 0.3,
        "num_prompt_tokens": 100,
        "num_generation_tokens": 16,
        "num_cached_tokens": 64,
        "num_preemptions": 0,
        "max_tokens_param": 512,
    }
    return SimpleNamespace(**usual | fields)


def stat_logger(emitter: Callable[[str], Any], sink: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = emitter("vllm_stats")
    monkeypatch.setattr(module, "shared_sink", lambda: sink)
    config = SimpleNamespace(
        model_config=SimpleNamespace(served_model_name=["llama", "llama-alias"], model="x"),
        parallel_config=SimpleNamespace(world_size=2),
    )
    return module.TokentideStatLogger(config)
