"""Backtests on public traces, with one set of parameters for all: python -m benchmarks.replay.backtests --traces FOLDER

FOLDER holds the traces as Parquet files: azure_llm_2024/, burstgpt/, servegen/, worldcup98/ (docs/backtesting.md).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pipeline.replay.backtest import run_backtest
from pipeline.replay.policies import evaluate_policies
from pipeline.replay.sources import read_demand

#: name, file, arguments of read_demand, horizons.
CASES = (
    ("az_conv", "azure_llm_2024/conv_10s_counts.parquet", {"value_column": "requests"}, 300, (300, 900, 3600)),
    (
        "burst_tok5",
        "burstgpt/week1_tokens_1min.parquet",
        {"time_column": "t_s", "value_column": "tokens"},
        300,
        (300, 900, 3600),
    ),
    (
        "burst_conv_h",
        "burstgpt/hourly.parquet",
        {"time_column": "t_s", "value_column": "conversation"},
        3600,
        (3600, 10_800, 86_400),
    ),
    (
        "sg",
        "servegen/model_demand_10min.parquet",
        {"time_column": "t_s", "value_column": "requests", "group_column": "model", "zeros_are_gaps": True},
        600,
        (600, 1200, 3600),
    ),
    ("wc", "worldcup98/requests_1min.parquet", {"value_column": "requests"}, 300, (300, 900, 3600)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--only", help="one case")
    arguments = parser.parse_args()
    print(
        "| case | series | ahead s | scored | WAPE % | last | seasonal | q95 pinball % | q95 covers % | in q05–q95 % |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    leads = []
    for name, file, reading, step, horizons in CASES:
        path = arguments.traces / file
        if not path.is_file() or (arguments.only and arguments.only != name):
            continue
        began = time.perf_counter()
        result = run_backtest(read_demand(path, step_seconds=step, **reading), horizons_seconds=horizons)
        seconds = time.perf_counter() - began
        for s in result.scores:
            cells = (s.wape, s.last_value_wape, s.seasonal_naive_wape, s.pinball.get("0.95"))
            shown = " | ".join("–" if c is None else f"{100 * c:.2f}" for c in cells)
            cover = f"{100 * s.coverage['0.95']:.1f} | {100 * (s.coverage_90_interval or 0.0):.1f}"
            print(f"| {name} | {s.series} | {s.horizon_seconds} | {s.scored} | {shown} | {cover} |")
        leads += [(name, o) for o in evaluate_policies(result) if o.policy == "quantile 0.95"]
        windows = sum(len(item.series.values) for item in result.series)
        print(f"| {name} | | | | {1e6 * seconds / windows:.0f} µs per window, {windows} windows | | | | | |")
    print("\n| series | lead s | over % at q95 | unserved % | over % of reactive at equal unserved |")
    print("|---|---|---|---|---|")
    for name, o in leads:
        rival = "–" if o.reactive_over_share is None else f"{100 * o.reactive_over_share:.1f}"
        shares = f"{100 * o.over_share:.1f} | {100 * o.unserved_share:.3f} | {rival}"
        print(f"| {name} {o.series} | {o.lead_seconds} | {shares} |")


if __name__ == "__main__":
    main()
