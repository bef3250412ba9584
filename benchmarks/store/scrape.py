"""A live state of a thousand pools, as ``/metrics`` would show it."""

from __future__ import annotations

from pipeline.clock import ManualClock
from pipeline.config.settings import PoolSettings, Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.publish.exporter import Exporter
from pipeline.publish.state import LiveState
from pipeline.testing import closed_window
from pipeline.windows.types import ClosedWindow

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
    return closed_window(
        at - 60,
        requests,
        model=pool.model,
        pool=pool.pool,
        input_tokens=900,
        output_tokens=240,
        e2e_milliseconds=6_500,
        current_replicas=4,
        ready_replicas=4,
    )
