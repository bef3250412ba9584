"""Ten minutes of steady load with one burst: python -m benchmarks.stream.soak [--minutes 10] [--rate 2000] [--burst 10]

The two stages run as an operator runs them; their resident memory, the lag and the events stored are sampled. Half-way
the rate is ``--burst`` times as high for half a minute: what the aggregator cannot take at once waits in Kafka and not
in memory (partitions are paused when ``stream.queued_batches`` wait), and the lag returns to nothing afterwards.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stream.machine import describe
from benchmarks.stream.pipelined import feeding, get, lives, pipeline_settings, rss_bytes, supervised
from benchmarks.stream.report import load_results, save_results
from benchmarks.stream.servers import BROKERS, broker

SAMPLE_SECONDS = 5.0
BURST_SECONDS = 30.0
KEYS = 200
START_SECONDS = 120.0


def soak(kind: str, minutes: float, rate: float, factor: float, horizon: int) -> dict[str, Any]:
    """Samples of one soak: seconds, RSS of both stages in bytes, events stored, events fed."""
    samples: list[dict[str, float]] = []
    seconds = minutes * 60
    with tempfile.TemporaryDirectory(prefix="tokentide-soak-") as name, broker(kind) as bootstrap:
        folder = Path(name)
        # A short dedupe horizon is full early in the soak: memory that still grows afterwards would be a leak.
        settings = pipeline_settings(bootstrap, folder, stream={"dedupe_horizon_records": horizon})
        log, fed_log = folder / "log", folder / "fed"
        burst = (factor, seconds / 2, BURST_SECONDS)
        with supervised(settings, log):
            deadline = time.monotonic() + START_SECONDS
            while get(settings, "/v1/status") is None:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the pipeline does not start: {log.read_text()[-2000:]}")
                time.sleep(0.5)
            with feeding(settings, rate, KEYS, fed_log, *burst):
                began = time.monotonic()
                while time.monotonic() - began < seconds:
                    time.sleep(SAMPLE_SECONDS)
                    status = get(settings, "/v1/status") or {}
                    fed = (fed_log.read_text().split() or ["0"])[-1]
                    samples.append(
                        {
                            "at": time.monotonic() - began,
                            "aggregate_rss": rss_bytes(lives(log, "aggregate")[-1]),
                            "control_rss": rss_bytes(lives(log, "control")[-1]),
                            "stored": status.get("ledger", {}).get("events", 0),
                            "fed": int(fed) if fed.isdigit() else 0,
                        }
                    )
        restarts = {name: len(lives(log, name)) - 1 for name in ("aggregate", "control")}
        errors = [line for line in log.read_text().splitlines() if " ERROR " in line]
    for line in errors[-20:]:
        print(line, file=sys.stderr)
    return {
        "broker": kind,
        "minutes": minutes,
        "rate": rate,
        "factor": factor,
        "horizon": horizon,
        "samples": samples,
        "restarts": restarts,
    }


def slope_mb_per_minute(samples: list[dict[str, float]], name: str, since: float) -> float:
    """Least-squares growth of a stage's memory from second ``since`` on."""
    late = [s for s in samples if s["at"] >= since]
    if len(late) < 3:
        return float("nan")
    at = np.array([s["at"] for s in late]) / 60
    return float(np.polyfit(at, np.array([s[name] for s in late]) / 1e6, 1)[0])


def section(found: dict[str, Any]) -> str:
    """The table for the results file."""
    samples = found["samples"]
    step = max(1, len(samples) // 14)
    burst_at = found["minutes"] * 30
    settled = burst_at + BURST_SECONDS + 60
    lines = [
        f"`python -m benchmarks.stream.soak` on {BROKERS[found['broker']]}: {found['rate']:,.0f} events/s over {KEYS} "
        f"pools for {found['minutes']:g} minutes, {found['factor']:g} × that for {BURST_SECONDS:g} s from second "
        f"{burst_at:.0f} on; `stream.dedupe_horizon_records = {found['horizon']}`.",
        "",
        "| second | fed | not yet stored | RSS aggregate MB | RSS control MB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {s['at']:.0f} | {s['fed']:,} | {max(0, s['fed'] - s['stored']):,} | {s['aggregate_rss'] / 1e6:.0f} "
        f"| {s['control_rss'] / 1e6:.0f} |"
        for s in [*samples[::step], samples[-1]]
    ]
    lines += [
        "",
        f"Largest RSS: aggregate {max(s['aggregate_rss'] for s in samples) / 1e6:.0f} MB, control "
        f"{max(s['control_rss'] for s in samples) / 1e6:.0f} MB; largest backlog "
        f"{max(s['fed'] - s['stored'] for s in samples):,} events. Growth from a minute after the burst to the end: "
        f"aggregate {slope_mb_per_minute(samples, 'aggregate_rss', settled):+.1f} MB/min, control "
        f"{slope_mb_per_minute(samples, 'control_rss', settled):+.1f} MB/min. Restarts by the supervisor: aggregate "
        f"{found['restarts']['aggregate']}, control {found['restarts']['control']}.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream.soak", description=__doc__)
    parser.add_argument("--broker", choices=list(BROKERS), default="embedded")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=2_000.0)
    parser.add_argument("--burst", type=float, default=10.0)
    parser.add_argument("--horizon", type=int, default=10_000, help="stream.dedupe_horizon_records")
    parser.add_argument("--dry", action="store_true", help="print, but leave the results files alone")
    options = parser.parse_args()
    found = soak(options.broker, options.minutes, options.rate, options.burst, options.horizon)
    text = section(found)
    print(text)
    if not options.dry:
        results = load_results()
        results.setdefault("sections", {})["Soak"] = {"where": describe(), "markdown": text, "rows": found["samples"]}
        save_results(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
