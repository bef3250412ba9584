"""Unknown models: their share, and the configured pool that each looks like."""

from __future__ import annotations

import pytest

from pipeline.windows.rollup import CLOSED_MEASURES, closed_window
from pipeline.windows.types import ClosedWindow, PoolKey
from pipeline.windows.unknown_models import MAX_NAMED, UnknownModels, similar_pool

POOLS = [PoolKey("llama-3.1-8b-instruct", "chat"), PoolKey("qwen3-32b", "code"), PoolKey("qwen3-8b", "default")]


def window(model: str, pool: str, requests: int, start: int = 0) -> ClosedWindow:
    return closed_window(start, 60, model, pool, [requests] + [0] * (len(CLOSED_MEASURES) - 1))


@pytest.mark.parametrize(
    ("model", "pool", "looks_like"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "default", "llama-3.1-8b-instruct"),
        ("openai/llama-3.1-8b-instruct:latest", "gateway", "llama-3.1-8b-instruct"),
        ("sql-lora", "chat", "llama-3.1-8b-instruct"),
        ("Qwen/Qwen3-32B", "chat", "qwen3-32b"),
        ("whisper-large", "speech", None),
        ("whisper-large", "default", None),  # `default` is where events that name no pool are: it says nothing
        ("", "", None),
    ],
)
def test_the_pool_that_a_model_looks_like(model: str, pool: str, looks_like: str | None) -> None:
    found = similar_pool(PoolKey(model, pool), POOLS)
    assert (found and found.model) == looks_like


def test_shares_are_of_all_requests_and_fade() -> None:
    models = UnknownModels(POOLS)
    assert models.report() is None
    models.take(60, [window("sql-lora", "chat", 60), window("llama-3.1-8b-instruct", "chat", 40)])
    report = models.report()
    assert report is not None
    assert report.requests_ratio == pytest.approx(0.6)
    assert report.models[0].similar == POOLS[0]
    for step in range(2, 200):
        models.take(60 * step, [window("llama-3.1-8b-instruct", "chat", 100)])
    report = models.report()
    assert report is not None
    assert (report.requests_ratio, report.models) == (0.0, ())


def test_thousands_of_names_are_told_of_as_ten_and_no_pools_say_nothing() -> None:
    models = UnknownModels(POOLS)
    models.take(60, [window(f"m{i}" * 50, "p", 1 + i % 7) for i in range(3_000)])
    report = models.report()
    assert report is not None
    assert report.requests_ratio == 1.0
    assert len(report.models) == MAX_NAMED
    nobody = UnknownModels([])
    nobody.take(60, [window("m", "p", 5)])
    assert nobody.report() is None
