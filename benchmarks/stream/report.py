"""Results as Markdown and JSON; parts that were not measured again stay as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.stream.compare import READERS
from benchmarks.stream.machine import describe
from benchmarks.stream.servers import BROKERS
from benchmarks.stream.workload import EVENTS_PER_SECOND, PARTITIONS

__all__ = ["BARS", "best", "load_results", "ratios", "record", "save_results", "write"]

FOLDER = Path(__file__).parent
JSON_FILE = FOLDER / "results.json"

#: Tokentide against each rival: at least so many times as fast (bare aiokafka: at least this share).
BARS = {"faust": 25.0, "quixstreams": 4.0, "bytewax": 2.5, "aiokafka": 0.6}


def best(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The quickest run of each reader by wall, with the least CPU per event of its runs."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(row["reader"] for row in rows):
        own = [row for row in rows if row["reader"] == name]
        found[name] = max(own, key=lambda row: row["events_per_second"]) | {
            "cpu_us_per_event": min(row["cpu_us_per_event"] for row in own)
        }
    return found


def ratios(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How many times as fast Tokentide is as each rival: by wall and by CPU."""
    quickest = best(rows)
    if "tokentide" not in quickest:
        return {}
    own = quickest["tokentide"]
    return {
        name: {
            "wall": own["events_per_second"] / row["events_per_second"],
            "cpu": row["cpu_us_per_event"] / own["cpu_us_per_event"],
        }
        for name, row in quickest.items()
        if name != "tokentide"
    }


def record(kind: str, size: int, keys: int, rows: list[dict[str, Any]]) -> str:
    """One broker and event size as a Markdown section."""
    factors = ratios(rows)
    events = sorted({row["events"] for row in rows})
    lines = [
        f"### {BROKERS[kind]}, events of {size} bytes, {keys:,} keys",
        "",
        f"{' and '.join(f'{n:,}' for n in events)} events (the slow readers get the shorter topic), {PARTITIONS} "
        f"partitions, {max(row['round'] for row in rows)} rounds, best of each.",
        "",
        "| reader | events/s | CPU µs/event | peak RSS MB | totals | Tokentide, wall | Tokentide, CPU | bar |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in best(rows).items():
        wrong = [other["wrong"] for other in rows if other["reader"] == name and other["wrong"]]
        totals = "right" if not wrong else "; ".join(f"{k} {a:,} of {b:,}" for k, (a, b) in wrong[0].items())
        factor = factors.get(name)
        compared = f"{factor['wall']:.2f} × | {factor['cpu']:.2f} ×" if factor else "| "
        bar = f"≥ {BARS[name]:g} ×" if name in BARS else ""
        lines.append(
            f"| {READERS[name].title} | {row['events_per_second']:,.0f} | {row['cpu_us_per_event']:.2f} "
            f"| {row['peak_rss_bytes'] / 1e6:,.0f} | {totals} | {compared} | {bar} |"
        )
    return "\n".join(lines) + "\n"


def load_results() -> dict[str, Any]:
    """What the JSON file holds; an empty frame when there is none yet."""
    if JSON_FILE.exists():
        found: dict[str, Any] = json.loads(JSON_FILE.read_text(encoding="utf-8"))
        return found
    return {}


def save_results(results: dict[str, Any]) -> None:
    """Write the JSON file and render the Markdown from it."""
    JSON_FILE.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (FOLDER / "results.md").write_text(_render(results), encoding="utf-8")


def write(part: str, kind: str, size: int, keys: int, rows: list[dict[str, Any]]) -> None:
    """Replace one part of the comparison in the results files."""
    results = load_results()
    results.setdefault("compare", {})[part] = {
        "where": describe(),
        "broker": kind,
        "bytes": size,
        "keys": keys,
        "ratios": ratios(rows),
        "rows": rows,
    }
    save_results(results)


def _render(results: dict[str, Any]) -> str:
    lines = [
        "# Streaming: measured",
        "",
        "Written by the commands in [the benchmarks' README](../README.md); the raw figures are in `results.json`. "
        "What they mean and where the time goes: [docs/performance.md](../../docs/performance.md).",
        "",
    ]
    if "compare" in results:
        lines += [
            "## Readers compared",
            "",
            "`python -m benchmarks.stream`: each reader in a process of its own, on the same topic, one after another. "
            "The clock runs from the first record in hand to the last one counted; CPU is that of all threads. The "
            "rivals count events and two sums per (pool, 10-second window); Tokentide decodes and validates every "
            "field, recognises duplicates, folds 17 measures and 6 histograms, writes the deltas and waits for the "
            f"broker. The fleet finishes {EVENTS_PER_SECOND:,} requests per second of event time. “Tokentide, wall” "
            "and “CPU” say how many times as fast Tokentide is, and how many times less CPU it needs.",
            "",
        ]
        for part in results["compare"].values():
            lines += [record(part["broker"], part["bytes"], part["keys"], part["rows"]), _where(part["where"]), ""]
    for title, text in results.get("sections", {}).items():
        lines += [f"## {title}", "", text["markdown"].strip(), "", _where(text["where"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _where(where: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items() if number != "not installed")
    return (
        f"{where['date']}, {where['cores']} cores ({where['machine']}, shared with other work), Python "
        f"{where['python']}; {versions}."
    )
