"""The controller of the benchmark: ``tokentide run --stage control`` with a meter in it, on a store with an evening.

    python -m benchmarks.api.server MEASURED.json [trace]

The settings come from the environment, but for the pools. At the end it writes how long pools waited from closed to
published, and when each step was shown (epoch seconds); with ``trace`` also what its threads have run and waited.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.api.trace import ThreadMeter
from benchmarks.control.meter import Meter
from benchmarks.stream.feed import MODEL
from pipeline.config.catalog import catalog_for
from pipeline.config.settings import PoolSettings, Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput, StepOutput
from pipeline.publish.state import LiveState
from pipeline.sinks.kafka import KafkaSink
from pipeline.store.store import Store
from pipeline.stream.controller import app as controller_module
from pipeline.stream.process.supervisor import run_stage
from pipeline.testing import closed_window
from pipeline.windows.types import ClosedWindow

__all__ = ["MINUTES", "POOLS", "pool_name", "seed", "with_pools"]

POOLS = 200
MINUTES = 360  # of history
ADVISED_MINUTES = 3  # of them, at the end: by the engine, which goes on from there


def pool_name(number: int) -> str:
    """As the feed names its pools."""
    return f"pool-{number:05d}"


def with_pools(settings: Settings) -> Settings:
    """The settings with the benchmark's pools, which are too many for an environment."""
    pools = tuple(
        PoolSettings(model=MODEL, pool=pool_name(i), profile="llama-3.1-8b", accelerator="L40S") for i in range(POOLS)
    )
    return settings.model_copy(update={"pools": pools})


def windows(pools: tuple[PoolSettings, ...], as_of: int) -> tuple[ClosedWindow, ...]:
    """A minute of every pool that ends at ``as_of``."""
    return tuple(
        closed_window(
            as_of - 60,
            300 + (index * 7 + as_of // 60 * 13) % 100,
            model=pool.model,
            pool=pool.pool,
            input_tokens=900,
            output_tokens=240,
            e2e_milliseconds=6_500,
            current_replicas=4,
            ready_replicas=4,
        )
        for index, pool in enumerate(pools)
    )


def seed(settings: Settings, until: int, past_minutes: int = MINUTES) -> None:
    """Fill the store with ``past_minutes`` up to ``until`` (epoch seconds) and the state of the engine then."""
    advisor = Advisor(settings, catalog_for(settings))
    advised = until - 60 * ADVISED_MINUTES
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        minutes = range(until - 60 * (past_minutes - 1), advised + 1, 60)
        store.record_steps([StepOutput(at, windows(settings.pools, at)) for at in minutes])
        for at in range(advised + 60, until + 1, 60):
            store.record_step(advisor.step(StepInput(at, windows(settings.pools, at))))
        states = {key: advisor.pool_snapshot(key) for key in advisor.pools}
        store.save_snapshots(until, advisor.shared_snapshot(), states, until)


def main() -> int:
    """Run the controller until a signal, then write what was measured."""
    meter, shown = Meter(), dict[int, float]()
    make, update = controller_module.controller_app, LiveState.update

    def watched(*args: Any, **named: Any) -> Any:
        app = make(*args, **named)
        sinks = app.controller._sinks._sinks
        meter.watch(app.controller, next(sink for sink in sinks if isinstance(sink, KafkaSink)))
        return app

    def updated(live: LiveState, output: StepOutput, *, finished: bool = True) -> None:
        update(live, output, finished=finished)
        if finished:
            shown[output.as_of] = time.time()

    threads = ThreadMeter()
    if "trace" in sys.argv[2:]:
        threads.start()
    controller_module.controller_app = watched
    LiveState.update = updated  # type: ignore[method-assign]
    status = run_stage(with_pools(load()), "control")
    found = {
        "closed_to_published": meter.closed_to_published,
        "shown": shown,
        "cpu": meter.cpu,
        "threads": threads.samples,
    }
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
