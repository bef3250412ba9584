"""What reading events costs: each codec against bare parsing of the same bytes, and the native path against a commit.

    python -m benchmarks.codecs [--before COMMIT] [--results FILE]

CPU microseconds per record in one process, garbage collection off, the best of several rounds that take turns.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.codecs.records import NOW, collector_batches, native_records, otlp_records, records_of

ROOT = Path(__file__).parents[2]
ROUNDS = 7
NATIVE_ROUNDS = 3  # each in a process of its own


def cpu_microseconds(run: Callable[[], object], records: int) -> float:
    """CPU microseconds per record of one call."""
    gc.collect()
    gc.disable()
    started = time.process_time()
    run()
    spent = time.process_time() - started
    gc.enable()
    return spent / records * 1e6


def fold_native(size: int, shapes: int) -> float:
    """One batch of native records through ``PartitionAggregator.fold``; runs in any version of the tree."""
    try:
        from pipeline.events.validation import EventLimits
        from pipeline.windows.partition_folder import PartitionAggregator
    except ImportError:  # the layout of the tree that is compared with
        from pipeline.events.check import EventLimits
        from pipeline.windows.aggregate import PartitionAggregator

    values = native_records(20_000, size, shapes)
    offsets, stamps = range(len(values)), [-1] * len(values)
    best = 1e9
    for _ in range(12):
        aggregator = PartitionAggregator("t", 0, "p", EventLimits(max_age_seconds=1e9), 100_000)
        fold = partial(aggregator.fold, values, offsets, stamps, 0, len(values), NOW)
        best = min(best, cpu_microseconds(fold, len(values)))
    return best


def native_ratios(before: str) -> list[str]:
    """Lines that compare this tree with a commit, both in processes of their own that take turns."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", before, "pipeline", "sizing"], cwd=ROOT, check=True, capture_output=True
        )
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        (Path(folder) / "benchmarks").symlink_to(ROOT / "benchmarks")
        for size, shapes in ((250, 1), (250, 40), (1_000, 1)):
            best = {"before": 1e9, "now": 1e9}
            for _ in range(NATIVE_ROUNDS):
                for name, tree in (("before", folder), ("now", str(ROOT))):
                    command = [sys.executable, "-m", "benchmarks.codecs", "--fold", str(size), str(shapes)]
                    environment = os.environ | {"PYTHONPATH": tree}
                    done = subprocess.run(
                        command, cwd=tree, env=environment, check=True, capture_output=True, text=True
                    )
                    best[name] = min(best[name], float(done.stdout))
            how = "one shape" if shapes == 1 else f"{shapes} shapes, so that records are decoded one by one"
            ratio = best["before"] / best["now"]
            lines.append(f"| native, {size} bytes, {how} | {best['before']:.2f} | {best['now']:.2f} | {ratio:.2f} |")
    return lines


def codec_ratios() -> list[str]:
    """Lines that compare each codec, from bytes to checked columns, with bare parsing of the same bytes."""
    try:
        from pipeline.events.batch_decoder import decode_batch
        from pipeline.events.codecs.registry import codec_for
        from pipeline.events.validation import EventLimits
    except ImportError:  # the layout of the tree that is compared with
        from pipeline.events.batch import decode_batch
        from pipeline.events.check import EventLimits

        from pipeline.events.codecs.registry import codec_for

    limits = EventLimits(max_age_seconds=1e9)
    json_bytes, proto_bytes = otlp_records(1_000)
    collected = {
        f"otlp_proto, {requests} requests a record": collector_batches(count, requests)
        for count, requests in ((1_000, 1), (10, 200))
    }
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    def values_of(value: bytes) -> list[object]:
        return [
            getattr(a.value, kind)
            for group in TracesData.FromString(value).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
            for a in span.attributes
            if (kind := a.value.WhichOneof("value"))
        ]

    cases: list[tuple[str, str, list[bytes], Callable[[bytes], object]]] = [
        ("otlp_json", "msgspec.json.decode", json_bytes, msgspec.json.decode),
        ("auto on otlp_json", "msgspec.json.decode", json_bytes, msgspec.json.decode),
        ("otlp_proto", "TracesData.FromString", proto_bytes, TracesData.FromString),
        ("otlp_proto", "FromString and every attribute read", proto_bytes, values_of),
        *((name, "TracesData.FromString", values, TracesData.FromString) for name, values in collected.items()),
        *((name, "msgspec.json.decode", records_of(name, 1_000), msgspec.json.decode) for name in FOREIGN),
    ]
    lines = []
    for name, bare_name, values, bare in cases:
        codec = codec_for(name.split()[0].strip(","), None, {"model": "m"} if name == "sglang" else None)
        stamps = [-1] * len(values)
        columns, refused, _ = decode_batch(values, stamps, NOW, limits, codec=codec)
        assert not refused, (name, refused[:1])
        assert len(columns) >= len(values), name
        requests = len(columns)
        bare_best = ours_best = 1e9
        for _ in range(ROUNDS):
            bare_best = min(bare_best, cpu_microseconds(lambda: [bare(v) for v in values], requests))  # noqa: B023
            run = lambda: decode_batch(values, stamps, NOW, limits, codec=codec)  # noqa: B023, E731
            ours_best = min(ours_best, cpu_microseconds(run, requests))
        size = sum(map(len, values)) // requests
        lines.append(
            f"| {name} ({size} bytes) | {bare_name} | {bare_best:.1f} | {ours_best:.1f} | {bare_best / ours_best:.2f} |"
        )
    return lines


FOREIGN = ("litellm", "envoy_ai_gateway", "sglang", "dynamo", "openai_usage")


def main() -> int:
    """Measure and print; ``--results`` also writes the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codecs", description=__doc__)
    parser.add_argument("--before", default="ed94919", help="commit that the native path is compared with")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--fold", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fold:
        print(fold_native(*options.fold))
        return 0
    import google.protobuf

    versions = f"Python {platform.python_version()}, msgspec {msgspec.__version__}, NumPy {np.__version__}, protobuf "
    text = "\n".join(
        [
            "# What reading events costs",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} shared cores, {platform.machine()}, {versions}"
            f"{google.protobuf.__version__}. Printed by `python -m benchmarks.codecs`.",
            "",
            f"CPU microseconds and bytes per request, best of {ROUNDS} rounds that take turns; batches of 1,000",
            "records, of 10 where each has 200 requests. Codecs: from bytes to checked columns; the ratio is bare",
            "parsing over the codec (1: as fast as parsing alone). A request in OTLP is one GenAI span and one HTTP",
            "span. They differ in ids, times and input tokens; those of `requests a record` also in model, pool,",
            "lengths and latencies, and have the conversation in an attribute.",
            "",
            "| codec | bare parsing | bare µs | codec µs | ratio |",
            "|---|---|---|---|---|",
            *codec_ratios(),
            "",
            f"The native path, from bytes to a delta, against commit {options.before} in the same run (above 1: faster",
            "than before):",
            "",
            "| records | before µs | now µs | ratio |",
            "|---|---|---|---|",
            *native_ratios(options.before),
            "",
        ]
    )
    print(text)
    if options.results:
        options.results.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
