"""The results of the benchmark as a page of tables."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.decisions.standing import standing_text

_HEAD = """# Decisions: every policy in a closed loop

`python -m benchmarks.decisions --traces FOLDER`; each cell is what `tokentide evaluate` does, with the trace, the pool
and the world of `benchmarks/decisions/cases.py`. Requests, fleet and policies are simulated; nothing here ran on GPUs.

Rules that need a number by hand have it from a load test in the very world that they run in; Tokentide has its
configuration and the telemetry alone, in windows of a minute, which close 62 s after their end. Every rule has its
documented defaults; `oracle` knows what is to come and starts replicas no faster. Attainment counts all requests;
replicas are paid from their order on. Regret is against the oracle, in replica-hours: too many, and nine times too few.
"""

_COLUMNS = (
    "policy",
    "within SLO",
    "mean replicas",
    "replica-hours",
    "max",
    "TTFT p50, s",
    "TTFT p99, s",
    "TPOT p95, ms",
    "unserved",
    "changes",
    "regret",
)


def write_table(results: Path, page: Path) -> None:
    """Write the page for the lines of the results."""
    if not results.exists():
        return
    lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    dates = sorted({line["date"] for line in lines})
    versions = ", ".join(f"{name} {value}" for name, value in lines[-1]["versions"].items())
    parts = [_HEAD, f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}; one core of {os.cpu_count()}; {versions}.\n"]
    parts += [_summary(lines), standing_text(lines), _bars(lines)]
    parts += [_cell(line) for line in lines]
    page.write_text("\n".join(parts), encoding="utf-8")


def _summary(lines: list[dict[str, Any]]) -> str:
    rows = ["## Summary\n", "| cell | Tokentide | oracle | the least that attains as much |", "|---|---|---|---|"]
    for line in lines:
        by_name = {policy["policy"]: policy for policy in line["policies"]}
        ours = by_name["tokentide"]
        rivals = [p for p in line["policies"] if p["policy"] not in ("tokentide", "oracle")]
        as_good = [p for p in rivals if p["slo_attainment"] >= ours["slo_attainment"] - 0.001]
        best = min(as_good, key=lambda p: p["replica_hours"], default=None)
        told = "none" if best is None else f"{best['policy']}: {_short(best)}"
        rows.append(f"| {line['cell']} | {_short(ours)} | {_short(by_name['oracle'])} | {told} |")
    return "\n".join(rows) + "\n"


def _bars(lines: list[dict[str, Any]]) -> str:
    """What was aimed at, and whether it is reached."""
    by_cell = {line["cell"]: {policy["policy"]: policy for policy in line["policies"]} for line in lines}
    rows = ["## Aims\n", "| cell | aim | Tokentide | reached |", "|---|---|---|---|"]
    for cell, aim, reached in _AIMS:
        if cell in by_cell:
            policies = by_cell[cell]
            told = "yes" if reached(policies["tokentide"], policies) else "**no**"
            rows.append(f"| {cell} | {aim} | {_with_ttft(policies['tokentide'])} | {told} |")
    return "\n".join(rows) + "\n"


def _no_worse(ours: dict[str, Any], policies: dict[str, dict[str, Any]]) -> bool:
    rivals = (p for name, p in policies.items() if name not in ("tokentide", "oracle"))
    return all(
        p["slo_attainment"] <= ours["slo_attainment"] + 0.001
        for p in rivals
        if p["replica_hours"] <= ours["replica_hours"] * 1.03
    )


_AIMS = (
    (
        "llm-d ramp, start-up 100 s",
        "at least 99.5 % with at most 5.6 mean replicas",
        lambda ours, _: ours["slo_attainment"] >= 0.995 and ours["mean_replicas"] <= 5.6,
    ),
    (
        "llm-d ramp again, start-up 100 s, 1.4x slower, max 14",
        "at least 98 % with at most 8 % more replica-hours than the oracle",
        lambda ours, policies: (
            ours["slo_attainment"] >= 0.98 and ours["replica_hours"] <= 1.08 * policies["oracle"]["replica_hours"]
        ),
    ),
    (
        "llm-d 8192/256, start-up 100 s",
        "llm-d's token-aware rule on GPUs: TTFT p50 0.62 s, p99 43.8 s, 3 replicas at most",
        lambda ours, _: (
            ours["ttft_p50_seconds"] <= 0.62 and ours["ttft_p99_seconds"] <= 43.8 and ours["max_replicas"] <= 3
        ),
    ),
    ("llm-d ramp, start-up 300 s", "no rule attains more with as few replica-hours", _no_worse),
)


def _short(policy: dict[str, Any]) -> str:
    return f"{policy['slo_attainment']:.1%} with {policy['mean_replicas']:.2f}"


def _with_ttft(policy: dict[str, Any]) -> str:
    p50, p99, most = policy["ttft_p50_seconds"], policy["ttft_p99_seconds"], policy["max_replicas"]
    return f"{_short(policy)}; TTFT p50 {p50:.2f} s, p99 {p99:.1f} s; {most} replicas at most"


def _cell(line: dict[str, Any]) -> str:
    trace, test = line["trace"], line["load_test"]
    world = "as the model believes" if line["world"] is None else json.dumps(line["world"])
    rows = [
        f"## {line['cell']}\n",
        f"{trace['requests']:,} requests in {trace['seconds'] / 3_600:.2f} h, {trace['input_tokens_mean']:,.0f} tokens "
        f"in and {trace['output_tokens_mean']:,.0f} out on average; {_objectives(line['pool'])}; "
        f"{line['pool']['min_replicas']} to {line['pool']['max_replicas']} "
        f"replicas of {test['requests_per_second']:.2f} requests/s by the load test. World: {world}. "
        f"{line['cpu_seconds']:g} CPU seconds.\n",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
    ]
    rows += [f"| {' | '.join(_row(policy))} |" for policy in line["policies"]]
    return "\n".join([*rows, f"\n{line['verdict']}\n"])


def _objectives(pool: dict[str, Any]) -> str:
    told = [
        f"{name} {pool[key]:g} s"
        for name, key in (("TTFT", "ttft_seconds"), ("TPOT", "tpot_seconds"))
        if pool[key] is not None
    ]
    return f"{' and '.join(told)} at p{pool['slo_percentile'] * 100:g}"


def _row(policy: dict[str, Any]) -> list[str]:
    def text(name: str, form: str, by: float = 1.0) -> str:
        return "–" if policy[name] is None else format(policy[name] * by, form)

    return [
        policy["policy"],
        text("slo_attainment", ".2%"),
        text("mean_replicas", ".2f"),
        text("replica_hours", ".2f"),
        str(policy["max_replicas"]),
        text("ttft_p50_seconds", ".2f"),
        text("ttft_p99_seconds", ".1f"),
        text("tpot_p95_seconds", ".0f", 1e3),
        str(policy["unserved_requests"]),
        str(policy["scale_events"]),
        text("regret", ".2f"),
    ]
