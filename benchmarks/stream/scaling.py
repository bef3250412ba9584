"""Does cost grow linearly? python -m benchmarks.stream.scaling [--keys 100,1000,10000] [--aggregators 1,2,4]

The aggregator alone at several numbers of keys, and several aggregators in one group at 1,000 keys; CPU seconds per
event are compared, since a machine of few cores cannot show more than its cores by the clock.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import uuid
from typing import Any

from benchmarks.stream.compare import READERS, START, run_reader, wrong_totals
from benchmarks.stream.machine import describe
from benchmarks.stream.report import load_results, save_results
from benchmarks.stream.servers import BROKERS, broker
from benchmarks.stream.topic import create, fill
from benchmarks.stream.workload import PARTITIONS, Workload

_PATIENCE_SECONDS = 240.0


def _own_topics(bootstrap: str) -> dict[str, Any]:
    own = uuid.uuid4().hex[:6]
    names = {"deltas_topic": f"deltas-{own}", "dead_letters_topic": f"letters-{own}"}
    create(bootstrap, names.values())
    return {**names, "partitions": PARTITIONS}


def by_keys(bootstrap: str, keys: int, events: int) -> dict[str, Any]:
    """One aggregator on a topic of ``keys`` pools."""
    topic = f"keys-{keys}"
    workload = Workload(events, keys, 250, START)
    create(bootstrap, [topic])
    fill(bootstrap, topic, workload.records())
    found = run_reader(READERS["tokentide"], bootstrap, topic, events, **_own_topics(bootstrap))
    wrong = wrong_totals(found["totals"], workload.totals())
    return {
        "keys": keys,
        "cpu_us_per_event": found["cpu_seconds"] / events * 1e6,
        "events_per_second": events / found["wall_seconds"],
        "rss_mb": found["peak_rss_bytes"] / 1e6,
        "delta_bytes_per_event": found["totals"]["delta_bytes"] / events,
        "right": not wrong,
    }


def by_aggregators(bootstrap: str, count: int, topic: str, events: int) -> dict[str, Any]:
    """``count`` aggregators of one group share the partitions; they start together and end when all is read."""
    options = {**_own_topics(bootstrap), "share": True}
    name = f"bench-share-{uuid.uuid4().hex[:8]}"
    members = []
    for i in range(count):
        task = {
            "bootstrap": bootstrap,
            "topic": topic,
            "events": events,
            "name": name,
            "options": {**options, "instance": f"m{i}"},
        }
        command = [sys.executable, "-m", "benchmarks.stream.readers.tokentide", json.dumps(task)]
        members.append(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        )

    def ask(member: Any, word: str) -> dict[str, Any]:
        member.stdin.write(word + "\n")
        member.stdin.flush()
        found: dict[str, Any] = json.loads(member.stdout.readline())
        return found

    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while sum(ask(member, "how far")["records"] for member in members) < events:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{count} aggregators did not read {events:,} events in time")
            time.sleep(0.1)
        results = [ask(member, "stop") for member in members]
    finally:
        for member in members:
            member.kill()
            member.wait()
    counted = sum(result["totals"]["events"] for result in results)
    return {
        "aggregators": count,
        "cpu_us_per_event": sum(result.get("cpu_seconds", 0.0) for result in results) / events * 1e6,
        "events_per_second": events / max(result.get("wall_seconds", 0.0) for result in results),
        "rss_mb": max(result.get("peak_rss_bytes", 0.0) for result in results) / 1e6,
        "shares": [result["totals"]["events"] for result in results],
        "right": counted == events,
    }


def section(keyed: list[dict[str, Any]], shared: list[dict[str, Any]], events: int, kind: str) -> str:
    """The tables for the results file."""
    lines = [
        f"`python -m benchmarks.stream.scaling` on {BROKERS[kind]}: {events:,} events of 250 bytes.",
        "",
        "| keys | CPU µs/event | events/s | peak RSS MB | delta bytes/event | totals |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['keys']:,} | {r['cpu_us_per_event']:.2f} | {r['events_per_second']:,.0f} | {r['rss_mb']:,.0f} "
        f"| {r['delta_bytes_per_event']:.0f} | {'right' if r['right'] else 'WRONG'} |"
        for r in keyed
    ]
    lines += [
        "",
        "Several aggregators in one group, 1,000 keys; CPU is that of all together, events/s that of the slowest:",
        "",
        "| aggregators | CPU µs/event, all | events/s | peak RSS MB each | events of each | sum |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['aggregators']} | {r['cpu_us_per_event']:.2f} | {r['events_per_second']:,.0f} | {r['rss_mb']:,.0f} "
        f"| {', '.join(f'{n:,}' for n in r['shares'])} | {'right' if r['right'] else 'WRONG'} |"
        for r in shared
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write; the status is 1 when a total is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream.scaling", description=__doc__)
    parser.add_argument("--broker", choices=list(BROKERS), default="embedded")
    parser.add_argument("--keys", default="100,1000,10000")
    parser.add_argument("--aggregators", default="1,2,4")
    parser.add_argument("--events", type=int, default=360_000)
    parser.add_argument("--dry", action="store_true", help="print, but leave the results files alone")
    options = parser.parse_args()
    with broker(options.broker) as bootstrap:
        keyed = [by_keys(bootstrap, int(keys), options.events) for keys in options.keys.split(",")]
        workload = Workload(options.events, 1_000, 250, START)
        create(bootstrap, ["shared"])
        fill(bootstrap, "shared", workload.records())
        shared = [
            by_aggregators(bootstrap, int(count), "shared", options.events) for count in options.aggregators.split(",")
        ]
    text = section(keyed, shared, options.events, options.broker)
    print(text)
    if not options.dry:
        results = load_results()
        sections = results.setdefault("sections", {})
        sections["Scaling"] = {"where": describe(), "markdown": text, "rows": [*keyed, *shared]}
        save_results(results)
    return 0 if all(row["right"] for row in [*keyed, *shared]) else 1


if __name__ == "__main__":
    sys.exit(main())
