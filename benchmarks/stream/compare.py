"""Runs every reader on one topic, each in a process of its own, one after another, and checks what it counted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from benchmarks.stream.topic import create, fill
from benchmarks.stream.workload import PARTITIONS, Totals, Workload

__all__ = ["READERS", "START", "Reader", "compare", "run_reader"]

#: Event time of the first event: fixed, so that a run can be repeated to the last digit.
START = 1_790_000_000.0
READER_SECONDS = 280.0


@dataclass(frozen=True)
class Reader:
    """One way to read the topic; ``slow`` ones get the short topic (they need seconds for what others do in one)."""

    title: str
    module: str
    slow: bool = False
    options: dict[str, Any] = field(default_factory=dict)


READERS = {
    "confluent": Reader("bare confluent-kafka: consume, decode, group", "confluent_columns"),
    "aiokafka": Reader("bare aiokafka in columns: consume, decode, group", "aiokafka_columns"),
    "faust": Reader("plain Faust, event by event", "plain_faust", slow=True),
    "faust_take": Reader("plain Faust, `take(5000)`", "plain_faust", slow=True, options={"take": True}),
    "quixstreams": Reader("quixstreams, tumbling window", "quix", slow=True),
    "bytewax": Reader("bytewax, `fold_window`", "wax"),
    "tokentide": Reader("**Tokentide's aggregator, all it does**", "tokentide"),
}


def run_reader(reader: Reader, bootstrap: str, topic: str, events: int, **options: Any) -> dict[str, Any]:
    """Run one reader in a process of its own; returns what it printed.

    Raises:
        RuntimeError: it failed or did not end in time.
    """
    task = {
        "bootstrap": bootstrap,
        "topic": topic,
        "events": events,
        "name": f"bench-{reader.module}-{uuid.uuid4().hex[:8]}",
        "options": reader.options | options,
    }
    command = [sys.executable, "-m", f"benchmarks.stream.readers.{reader.module}", json.dumps(task)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=READER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{reader.module} did not end within {READER_SECONDS:g} s") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{reader.module} failed with {done.returncode}: {done.stderr.strip()[-1500:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def wrong_totals(found: dict[str, Any], truth: Totals) -> dict[str, tuple[int, int]]:
    """Totals that differ from the truth: name → (counted, true)."""
    true = truth.as_dict()
    return {name: (value, true[name]) for name, value in found.items() if name in true and value != true[name]}


def compare(
    bootstrap: str, names: list[str], *, events: int, slow_events: int, keys: int, bytes_each: int, rounds: int
) -> list[dict[str, Any]]:
    """Fill a long and a short topic, run the readers ``rounds`` times, return one row per run in order."""
    topics = {}
    for slow, count in ((False, events), (True, slow_events)):
        if any(READERS[name].slow == slow for name in names):
            topic = f"events-{bytes_each}-{keys}-{count}-{uuid.uuid4().hex[:6]}"
            workload = Workload(count, keys, bytes_each, START)
            create(bootstrap, [topic])
            began = time.monotonic()
            fill(bootstrap, topic, workload.records())
            print(f"{topic}: {count:,} events in {time.monotonic() - began:.0f} s", file=sys.stderr)
            topics[slow] = topic, workload, workload.totals()
    rows = []
    for turn in range(1, rounds + 1):
        for name in names:
            reader = READERS[name]
            topic, workload, truth = topics[reader.slow]
            options = {}
            if name == "tokentide":
                own = uuid.uuid4().hex[:6]
                options = {
                    "deltas_topic": f"deltas-{own}",
                    "dead_letters_topic": f"letters-{own}",
                    "partitions": PARTITIONS,
                }
                create(bootstrap, options["deltas_topic"].split() + options["dead_letters_topic"].split())
            found = run_reader(reader, bootstrap, topic, workload.events, **options)
            wrong = wrong_totals(found["totals"], truth)
            row = {
                "reader": name,
                "round": turn,
                "events": workload.events,
                "events_per_second": workload.events / found["wall_seconds"],
                "cpu_us_per_event": found["cpu_seconds"] / workload.events * 1e6,
                **found,
                "wrong": wrong,
            }
            rows.append(row)
            print(
                f"{turn} {name:12} {row['events_per_second']:>10,.0f} events/s {row['cpu_us_per_event']:7.2f} µs CPU "
                f"{found['peak_rss_bytes'] / 1e6:6.0f} MB {wrong or 'totals right'}",
                file=sys.stderr,
            )
    return rows
