"""Event produced → visible in /v1/windows: python -m benchmarks.stream.latency [--rates 1000,20000] [--keys 100,1000]

A feeding process emits the given rate over so many pools while the two stages run as an operator runs them. Beside it
one event of the pool ``probe`` is produced ten times a second; the clock of the n-th runs from its ``produce`` until
``GET /v1/windows/…/probe`` counts n requests. The answer is asked for every 20 ms, so that is the resolution.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer

from benchmarks.stream.feed import live_event
from benchmarks.stream.machine import describe
from benchmarks.stream.pipelined import PROBE, feeding, get, pipeline_settings, stage
from benchmarks.stream.report import load_results, save_results
from benchmarks.stream.servers import BROKERS, broker
from pipeline.config.settings import Settings

BAR_SECONDS = 2.0
PROBES_PER_SECOND = 10
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 60.0
#: A busy machine needs so long to start two stages and to form their groups.
START_SECONDS = 180.0


def counted(settings: Settings, since: float) -> int:
    """Requests of the probe pool that /v1/windows shows."""
    path = f"/v1/windows/{PROBE.model}/{PROBE.pool}?grain_seconds=10&start={since - 60:.0f}&end={time.time() + 60:.0f}"
    answer = get(settings, path)
    return sum(window["requests"] for window in answer["windows"]) if answer else 0


class Probe(threading.Thread):
    """Produces one probe event every tenth of a second and remembers when."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self._producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "linger.ms": 0, "acks": "all"})
        self._topic = settings.kafka.requests_topic
        self.sent: list[float] = []
        self.ended = threading.Event()

    def run(self) -> None:
        """Until told to end."""
        rng = random.Random(3)
        while not self.ended.wait(1 / PROBES_PER_SECOND):
            number = len(self.sent)
            value = live_event(number, PROBE.pool, time.time(), rng).replace(b'"live-', b'"probe-')
            self.sent.append(time.monotonic())
            self._producer.produce(self._topic, value, partition=number % 12)
            self._producer.poll(0)
        self._producer.flush(10)


def measure(kind: str, rate: float, keys: int, seconds: float) -> dict[str, Any]:
    """Latencies at one rate over ``keys`` pools, in seconds."""
    with tempfile.TemporaryDirectory(prefix="tokentide-latency-") as name, broker(kind) as bootstrap:
        folder = Path(name)
        settings = pipeline_settings(bootstrap, folder)
        began = time.time()
        log = folder / "log"
        with (
            stage(settings, "aggregate", log),
            stage(settings, "control", log),
            feeding(settings, rate, keys, log),
        ):
            probe = Probe(settings)
            probe.start()
            deadline = time.monotonic() + START_SECONDS
            while counted(settings, began) == 0:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"nothing is visible: {log.read_text()[-2000:]}")
                time.sleep(0.1)
            # What was produced before the stages were up is not latency: wait until they have caught up.
            while counted(settings, began) < len(probe.sent) - PROBES_PER_SECOND and time.monotonic() < deadline:
                time.sleep(0.1)
            seen = first = counted(settings, began)
            latencies: list[float] = []
            end = time.monotonic() + seconds
            asked: list[float] = []
            while time.monotonic() < end or len(latencies) < len(probe.sent) - first:
                if time.monotonic() > end:
                    probe.ended.set()
                if time.monotonic() > end + PATIENCE_SECONDS:
                    break  # what is missing then counts as that late
                at = time.monotonic()
                now_seen = counted(settings, began)
                asked.append(time.monotonic() - at)
                latencies += [time.monotonic() - sent for sent in probe.sent[seen:now_seen]]
                seen = max(seen, now_seen)
                time.sleep(POLL_SECONDS)
            probe.ended.set()
            probe.join(15)
            latencies += [time.monotonic() - sent for sent in probe.sent[seen:]]
            ledger = (get(settings, "/v1/status") or {}).get("ledger", {})
            fed = int(([line for line in log.read_text().splitlines() if line.isdigit()] or ["0"])[-1])
    quantiles = np.quantile(latencies, [0.5, 0.9, 0.99, 1.0])
    return {
        "broker": kind,
        "rate": rate,
        "keys": keys,
        "achieved_rate": fed / (time.time() - began),
        "probes": len(latencies),
        **dict(zip(("p50", "p90", "p99", "max"), map(float, quantiles), strict=True)),
        "answer_p50": float(np.median(asked)),
        "events_stored": ledger.get("events"),
    }


def section(rows: list[dict[str, Any]]) -> str:
    """The table for the results file."""
    lines = [
        f"`python -m benchmarks.stream.latency`: seconds from `produce` to visible in `/v1/windows`, polled every "
        f"{POLL_SECONDS * 1000:.0f} ms; bar p99 ≤ {BAR_SECONDS:g} s.",
        "",
        "| broker | pools | events/s asked (fed) | probes | p50 s | p90 s | p99 s | max s | the query itself, p50 ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {BROKERS[r['broker']]} | {r['keys']:,} | {r['rate']:,.0f} ({r['achieved_rate']:,.0f}) | {r['probes']} "
        f"| {r['p50']:.2f} | {r['p90']:.2f} | {r['p99']:.2f} | {r['max']:.2f} | {r['answer_p50'] * 1000:.0f} |"
        for r in rows
    ]
    return "\n".join(lines)


def keep(row: dict[str, Any]) -> None:
    """Put one row in the results files, in place of an older one of the same case."""
    results = load_results()
    sections = results.setdefault("sections", {})
    case = ("broker", "keys", "rate")
    older = sections.get("Latency", {}).get("rows", [])
    rows = [old for old in older if any(old[name] != row[name] for name in case)] + [row]
    rows.sort(key=lambda found: [found[name] for name in case])
    sections["Latency"] = {"where": describe(), "markdown": section(rows), "rows": rows}
    save_results(results)


def main() -> int:
    """Measure, print, write; the status is 1 when the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream.latency", description=__doc__)
    parser.add_argument("--broker", choices=list(BROKERS), default="embedded")
    parser.add_argument("--rates", default="1000,20000")
    parser.add_argument("--keys", default="100,1000")
    parser.add_argument("--seconds", type=float, default=65.0, help="long enough to see a minute's windows close")
    parser.add_argument("--dry", action="store_true", help="print, but leave the results files alone")
    options = parser.parse_args()
    rows = []
    for keys in options.keys.split(","):
        for rate in options.rates.split(","):
            rows.append(measure(options.broker, float(rate), int(keys), options.seconds))
            print(section(rows[-1:]), flush=True)
            if not options.dry:
                keep(rows[-1])
    return 0 if all(row["p99"] <= BAR_SECONDS for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
