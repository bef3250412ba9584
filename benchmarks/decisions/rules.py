"""Decision rules on traces of counts: what each would have cost alone, and what the weighted rules have cost.

python -m benchmarks.decisions.rules --traces FOLDER [--results benchmarks/decisions/rules.md] [--match TEXT]

No request is simulated. After every window each rule says the demand to provision for at the lead time; what came then
and was missing costs nine times what was too much (``under_to_over_cost`` 9). The best single rule is chosen with
hindsight, on the whole trace; where a rule knows nothing yet the first rule stands in.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.decisions.decision_experts import DecisionExperts
from pipeline.engine.decisions.registry import KINDS, decision_rules
from pipeline.engine.decisions.rule import AROUND_SEASON, RECENT, DemandView
from pipeline.engine.demand_ahead import demand_ahead
from pipeline.forecast.experts.registry import expert_factory
from pipeline.forecast.series_group import SeriesGroup
from pipeline.forecast.types import LEVELS, SeriesKey

Floats = NDArray[np.float64]

LEVEL = 0.9
LEADS = (60, 180, 300, 600)
DAY = 86_400
#: Forecasts count from the sixth window on, as they do live.
_TRUSTED = 5
#: A trace of fewer windows than this times the lead is too short to learn from: it is listed apart.
_LEAST_WINDOWS = 500


class Trace(NamedTuple):
    """Counts per window of ``grain`` seconds."""

    name: str
    counts: Floats
    grain: int


class Row(NamedTuple):
    """Costs over that of the best single rule, less one."""

    trace: str
    windows: int
    lead_seconds: int
    weighted: float
    best: str
    quantile: float
    first: float


def traces(folder: Path) -> Iterator[Trace]:
    """The public traces, and a synthetic flash crowd."""

    def column(query: str) -> Floats:
        found: Floats = duckdb.sql(query).fetchnumpy()["n"].astype(np.float64)
        return found

    def binned(times: Floats, grain: int) -> Floats:
        bins = int((times[-1] - times[0]) // grain)
        return np.bincount(((times - times[0]) // grain).astype(int), minlength=bins)[:bins].astype(np.float64)

    random = np.random.default_rng(1)
    for which, title in (("conv", "conversation"), ("code", "code")):
        file = f"{folder}/azure_llm_2023/{which}_requests.parquet"
        yield Trace(
            f"Azure 2023 {title}",
            binned(column(f"SELECT epoch_us(timestamp) / 1e6 AS n FROM '{file}' ORDER BY n"), 10),
            10,
        )
    file = f"{folder}/mooncake/synthetic_requests.parquet"
    yield Trace(
        "Mooncake synthetic", binned(column(f"SELECT timestamp_ms / 1e3 AS n FROM '{file}' ORDER BY n"), 10), 10
    )
    seconds = np.arange(7_200.0)
    crowd = 6.0 + 24.0 * np.clip((seconds - 3_600.0) / 60.0, 0.0, 1.0) * (seconds < 4_200.0)
    yield Trace("synthetic flash crowd", random.poisson(crowd).reshape(-1, 60).sum(1).astype(np.float64), 60)
    counts = column(f"SELECT requests AS n FROM '{folder}/azure_llm_2024/conv_10s_counts.parquet' ORDER BY timestamp")
    yield Trace("Azure 2024 conversation", counts.reshape(-1, 6).sum(1), 60)
    counts = column(f"SELECT tokens AS n FROM '{folder}/burstgpt/week1_tokens_1min.parquet' ORDER BY t_s")
    yield Trace("BurstGPT tokens, first week", counts, 60)
    counts = column(f"SELECT conversation AS n FROM '{folder}/burstgpt/hourly.parquet' ORDER BY t_s")[504:672]
    yield Trace("BurstGPT conversation, days 21-27", random.poisson(np.repeat(counts / 60, 60)).astype(np.float64), 60)
    for model in ("m-mid", "m-small"):
        file = f"{folder}/servegen/model_demand_10min.parquet"
        yield Trace(
            f"ServeGen {model}", column(f"SELECT requests AS n FROM '{file}' WHERE model = '{model}' ORDER BY t_s"), 600
        )
    counts = column(f"SELECT requests AS n FROM '{folder}/nasa_http/requests_10s.parquet' ORDER BY t_s")
    yield Trace("NASA, first eight days", counts[: 8 * 8_640].reshape(-1, 6).sum(1), 60)
    counts = column(f"SELECT requests AS n FROM '{folder}/worldcup98/requests_1min.parquet' ORDER BY timestamp")
    yield Trace("World Cup 1998, from day 48", counts[48 * 1_440 : 57 * 1_440], 60)


def told(trace: Trace) -> tuple[Floats, Floats]:
    """The forecasts' quantiles ``(windows, leads, levels)`` and the demand one season before ``(windows, leads)``."""
    horizons = (60, 300, 900, 1_800, 3_600) if trace.grain <= 60 else (600, 1_200, 1_800, 3_600)
    group = SeriesGroup(
        [SeriesKey("m", "p", "requests_per_second")],
        horizons_seconds=horizons,
        grain_seconds=trace.grain,
        season_seconds=DAY,
        experts=expert_factory(("default",)),
        suspect_silence=False,
    )
    quantiles = np.full((len(trace.counts), len(LEADS), len(LEVELS)), np.nan)
    before = np.full((len(trace.counts), len(LEADS)), np.nan)
    for at, count in enumerate(trace.counts.tolist()):
        end = float((at + 1) * trace.grain)
        issued = group.step(end, [count / trace.grain])[0]
        for column, lead in enumerate(LEADS):
            quantiles[at, column] = demand_ahead(issued, (), end, lead, lead + trace.grain).quantiles
            season = group.contexts[0].season_before(1 + lead // trace.grain, AROUND_SEASON)
            before[at, column] = season.max(initial=-np.inf) if season.size else np.nan
    quantiles[:_TRUSTED] = np.nan
    return quantiles, before


def cost(said: Floats, came: Floats) -> float:
    """The newsvendor's cost of decisions."""
    return float(np.sum(LEVEL * np.maximum(came - said, 0.0) + (1.0 - LEVEL) * np.maximum(said - came, 0.0)))


def judge(trace: Trace) -> Iterator[Row]:
    """One row a lead time."""
    rates = trace.counts / trace.grain
    quantiles, before = told(trace)
    rules = decision_rules(tuple(KINDS))
    for column, lead in enumerate(LEADS):
        ahead = 1 + lead // trace.grain
        experts = DecisionExperts(rules, 1, DAY // trace.grain, LEVEL)
        weighted = np.zeros(rates.size)
        alone = np.zeros((rates.size, len(experts.names)))
        for at, rate in enumerate(rates.tolist()):
            experts.learn(at, [rate])
            levels, season = quantiles[at, column][:, None], before[at, column][None]
            decision = experts.decide(at, ahead, [rate], levels, season)
            assert decision is not None
            weighted[at] = decision.demand[0]
            view = DemandView(rates[max(0, at + 1 - RECENT) : at + 1, None], levels, season, ahead)
            alone[at] = np.concatenate([rule.demands(view) for rule in rules])[:, 0]
        alone = np.where(np.isfinite(alone), alone, alone[:, :1])[:-ahead]
        came = rates[ahead:]
        costs = [cost(said, came) for said in alone.T]
        best = int(np.argmin(costs))
        least = costs[best]
        yield Row(
            trace.name,
            rates.size,
            lead,
            cost(weighted[:-ahead], came) / least - 1,
            experts.names[best],
            costs[experts.names.index("forecast_q90")] / least - 1,
            costs[0] / least - 1,
        )


def page(rows: list[Row]) -> str:
    """The results as Markdown."""
    long = [row for row in rows if row.windows >= _LEAST_WINDOWS]
    good = sum(row.weighted <= 0.03 for row in long)
    lines = [
        "# Decisions: weighted rules against the best single one",
        "",
        *(__doc__ or "").split("\n\n", 2)[2].strip().split("\n"),
        "",
        f"{good} of {len(long)} rows of traces with at least {_LEAST_WINDOWS} windows are within 3 % of the best",
        "rule. The other traces are too short to learn from: which of 19 variants is best shows in hindsight alone.",
        "",
        "| trace | windows | lead, min | weighted rules | best rule | p90 of the forecast | observed x 1.3 |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.trace} | {row.windows:,} | {row.lead_seconds // 60} | {row.weighted:+.1%} | {row.best} | "
        f"{row.quantile:+.1%} | {row.first:+.1%} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, help="where the public traces lie")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/decisions/rules.md"))
    parser.add_argument("--match", default="", help="traces whose name holds this alone")
    args = parser.parse_args()
    rows: list[Row] = []
    for trace in traces(args.traces):
        if args.match in trace.name:
            rows += judge(trace)
            print(f"done: {trace.name}", flush=True)
    text = page(rows)
    print(text)
    if not args.match:
        args.results.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
