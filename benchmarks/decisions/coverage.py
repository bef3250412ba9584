"""How often the need lay in [lower, upper] of the advice, on the second half of demand traces.

    python -m benchmarks.decisions.coverage TRACES [--traces a,b] [--windows 4000]

Each trace is scaled so that its mean needs about thirty replicas, and stepped through the engine twice: with the
interval's width as it begins, fixed, and with the width that adapts. The fleet has what was advised a window before.
Advice that is held has no interval and is left out. The width is that of the interval over ``desired``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.forecast.traces import load, named
from pipeline.config.settings import PoolSettings, Settings
from pipeline.engine import interval_width
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.testing import closed_window
from sizing.planning.demand_needs import whole
from sizing.types import Recommendation, RecommendationState

TRACES = ("az_1min", "az_5min", "burst_tokens_5min", "nasa_5min", "worldcup_5min", "ingress_01_5min", "balancer_5min")
START = 1_700_006_400 // 86_400 * 86_400
#: Of one replica of the pool, requests/s, about; and the replicas that the mean of a trace is to need.
CARRIED, MEAN_REPLICAS = 20.0, 30.0
POOL = PoolSettings(
    model="m", pool="p", profile="llama-3.1-8b", accelerator="H100", min_replicas=0, max_replicas=10_000
)
_CAPACITY = "capacity_requests_per_second_per_replica"


def measure(rates: NDArray[np.float64], grain: int) -> tuple[float, float]:
    """Return the coverage on the second half of a trace, and the mean width of the interval over ``desired`` there."""
    lead = max(300, grain)
    pool = POOL.model_copy(update={"lead_time_seconds": float(lead)})
    horizons = tuple(sorted({lead, 2 * lead, 3600}))
    settings = Settings(windows={"grain_seconds": grain}, forecast={"horizons_seconds": horizons}, pools=(pool,))
    advisor, replicas = Advisor(settings), int(MEAN_REPLICAS)
    told: list[Recommendation] = []
    demand = rates * CARRIED * MEAN_REPLICAS / rates.mean()
    for at, rate in enumerate(demand):
        window = closed_window(
            START + grain * at,
            round(rate * grain),
            model="m",
            pool="p",
            grain_seconds=grain,
            input_tokens=1000,
            output_tokens=200,
            e2e_milliseconds=4000,
            current_replicas=replicas,
            ready_replicas=replicas,
        )
        output = advisor.step(StepInput(window.end, (window,)))
        for advice in output.recommendations:
            replicas = advice.desired
            if advice.state is RecommendationState.FRESH:
                told.append(advice)
    second = [one for one in told[len(told) // 2 :] if _window_of(one, grain) < len(demand)]
    covered = [
        one.lower <= whole(demand[_window_of(one, grain)] / one.evidence[_CAPACITY]) <= one.upper for one in second
    ]
    return float(np.mean(covered)), float(np.mean([(one.upper - one.lower) / max(one.desired, 1) for one in second]))


def _window_of(advice: Recommendation, grain: int) -> int:
    """Return the number of the window that advice was made for."""
    return int(advice.issued_at + advice.evidence["lead_time_seconds"] - START) // grain


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of the traces")
    parser.add_argument("--traces", default=",".join(TRACES))
    parser.add_argument("--windows", type=int, default=4000, help="at most so many windows of each")
    asked = parser.parse_args()
    print("| trace | windows | fixed: coverage | width | adapting: coverage | width |\n|---|---|---|---|---|---|")
    gain = interval_width.GAIN
    for name in asked.traces.split(","):
        rates, grain = load(asked.folder, name)[: asked.windows], named(name).grain_seconds
        cells = []
        for interval_width.GAIN in (0.0, gain):
            coverage, width = measure(rates, grain)
            cells.append(f"{100 * coverage:.1f} % | {width:.2f}")
        print(f"| {name} | {len(rates)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
