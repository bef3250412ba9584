"""A live state of a thousand pools, as ``/metrics`` would show it."""

from __future__ import annotations

from pipeline.advise.engine import Advisor
from pipeline.advise.model import StepInput
from pipeline.clock import ManualClock
from pipeline.publish.exporter import Exporter
from pipeline.publish.state import LiveState
from pipeline.settings import PoolSettings, Settings
from pipeline.windows.model import ClosedWindow

__all__ = ["thousand_pools"]

START = 1_760_486_400
MINUTES = 6


def thousand_pools() -> Exporter:
    """Let the engine advise a thousand pools for a few minutes; every pool then has forecasts and advice."""
    pools = tuple(
        PoolSettings(
            model="meta-llama/Llama-3.1-8B-Instruct", pool=f"pool-{i:04d}", profile="llama-3.1-8b", accelerator="L40S"
        )
        for i in range(1_000)
    )
    live = LiveState(ManualClock(START + MINUTES * 60 + 65.0), pools, "bench")
    advisor = Advisor(Settings(pools=pools))
    for at in range(START + 60, START + 60 * MINUTES + 1, 60):
        live.update(advisor.step(StepInput(at, tuple(_window(pool, at, i) for i, pool in enumerate(pools)))))
    return Exporter(live)


def _window(pool: PoolSettings, at: int, index: int) -> ClosedWindow:
    requests = 300 + (index * 7 + at // 60 * 13) % 100
    return ClosedWindow(
        start=at - 60,
        grain_seconds=60,
        model=pool.model,
        pool=pool.pool,
        requests=requests,
        ok=requests,
        rejected=0,
        input_tokens=requests * 900,
        cached_input_tokens=requests * 200,
        output_tokens=requests * 240,
        input_tokens_squared=requests * 1_000_000,
        output_tokens_squared=requests * 90_000,
        input_output_product=requests * 216_000,
        kv_token_milliseconds=requests * 6_000_000,
        inflight_milliseconds=requests * 6_500,
        preemptions=0,
        current_replicas=4,
        ready_replicas=4,
    )
