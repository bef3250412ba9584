"""GuideLLM: ``benchmarks.json`` (or YAML) of versions 0.2 to 0.8, and the flat records of older ones.

Where the load kind and the counts are, by version (vllm-project/guidellm, read at tags v0.2.1, v0.4.0, v0.6.0 and at
main of 2026-08): ``args.strategy`` and ``request_totals`` or ``run_stats.requests_made`` before 0.4,
``config.strategy`` and ``metrics.request_totals`` since.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sizing.calibration.loadtests.fields import at, count, first, items, number, quantiles, scaled, text
from sizing.calibration.loadtests.types import LoadKind, Stage, Subject
from sizing.errors import InvalidInput

__all__ = ["GuideLlm"]

#: What tells the flat records of older versions.
_FLAT_KEY = "Successful Request latency mean"
_CLOSED = ("synchronous", "concurrent", "throughput")


class GuideLlm:
    """Reader of GuideLLM reports: one stage per benchmark."""

    name = "guidellm"

    def detect(self, report: Any) -> bool:
        """As ``Reader.detect``."""
        return (isinstance(report, Mapping) and "benchmarks" in report) or _is_flat(report)

    def stages(self, report: Any) -> tuple[Sequence[Stage], Subject, str | None]:
        """As ``Reader.stages``."""
        if _is_flat(report):
            named = re.search(r'"backend_model": "([^"]{1,200})"', str(at(report[0], "Worker")))
            subject = Subject(model=named[1] if named else None)
            return [_flat_stage(i, record) for i, record in enumerate(report, 1)], subject, None
        if not isinstance(report, Mapping) or "benchmarks" not in report:
            raise InvalidInput("not a GuideLLM report: it has no 'benchmarks'")
        found = items(report["benchmarks"])
        if found and "metrics" not in (found[0] if isinstance(found[0], Mapping) else {}):
            raise InvalidInput(
                "this is not a report of GuideLLM 0.2 to 0.8 (its benchmarks have no 'metrics', as in 0.1); run a "
                "newer version and import its benchmarks.json"
            )
        return (
            [_stage(i, benchmark) for i, benchmark in enumerate(found, 1)],
            Subject(model=_model(report, found)),
            text(at(report, "metadata", "guidellm_version")),
        )


def _model(report: Any, benchmarks: Sequence[Any]) -> str | None:
    """Return the model that the backend was asked for."""
    head = benchmarks[0] if benchmarks else None
    places = (
        at(head, "config", "backend", "model"),
        at(report, "config", "spec", "backend", "model"),
        at(report, "args", "model"),
        at(head, "worker", "backend_model"),
        at(head, "benchmarker", "backend", "model"),
    )
    return next((name for place in places if (name := text(place))), None)


def _stage(position: int, benchmark: Any) -> Stage:
    def metric(name: str, unit: float = 1.0) -> tuple[float | None, float | None]:
        found = at(benchmark, "metrics", name, "successful")
        return scaled(number(at(found, "mean")), unit), scaled(number(at(found, "median")), unit)

    strategy = at(benchmark, "config", "strategy") or at(benchmark, "args", "strategy")
    strategy = strategy or at(benchmark, "scheduler", "strategy")
    kind = text(at(strategy, "type_")) or text(at(strategy, "kind"))
    closed = None if kind is None else LoadKind.CLOSED if kind in _CLOSED else LoadKind.OPEN
    totals = (
        at(benchmark, "metrics", "request_totals")
        or at(benchmark, "request_totals")
        or at(benchmark, "scheduler_metrics", "requests_made")
        or at(benchmark, "run_stats", "requests_made")
    )
    ttft = at(benchmark, "metrics", "time_to_first_token_ms", "successful")
    return Stage(
        f"benchmark {position}",
        input_tokens=metric("prompt_token_count")[0],
        output_tokens=metric("output_token_count")[0],
        e2e_seconds=metric("request_latency"),
        ttft_seconds=metric("time_to_first_token_ms", 1e-3),
        rate=metric("requests_per_second")[0],
        concurrency=metric("request_concurrency")[0],
        kind=closed,
        offered_rate=number(at(strategy, "rate")) if closed is LoadKind.OPEN else None,
        completed=count(at(totals, "successful")),
        incomplete=count(at(totals, "incomplete")) or 0.0,
        failed=count(at(totals, "errored")) or 0.0,
        duration_seconds=number(at(benchmark, "duration")) or _elapsed(benchmark),
        ttft_quantiles=(
            *quantiles(ttft, {0.0: "min"}, 1e-3),
            *quantiles(at(ttft, "percentiles"), {0.1: "p10", 0.9: "p90"}, 1e-3),
        ),
        ttft_deviation_seconds=scaled(count(at(ttft, "std_dev")), 1e-3),
    )


def _elapsed(benchmark: Any) -> float | None:
    start, end = number(at(benchmark, "start_time")), number(at(benchmark, "end_time"))
    return end - start if start is not None and end is not None and end > start else None


def _is_flat(report: Any) -> bool:
    return isinstance(report, list) and bool(report) and isinstance(report[0], Mapping) and _FLAT_KEY in report[0]


def _flat_stage(position: int, record: Any) -> Stage:
    def metric(name: str, statistic: str = "mean", unit: float = 1.0) -> float | None:
        return scaled(number(at(record, f"Successful {name} {statistic}")), unit)

    name = str(at(record, "Name"))[:80]
    offered = re.fullmatch(r"\w+@(\d+(?:\.\d+)?)", name)
    closed = name in ("synchronous", "throughput") or name.startswith("concurrent")
    return Stage(
        f"record {position}",
        input_tokens=metric("Prompt token count"),
        output_tokens=metric("Output token count"),
        e2e_seconds=(metric("Request latency"), metric("Request latency", "median")),
        ttft_seconds=(
            metric("Time to first token ms", unit=1e-3),
            metric("Time to first token ms", "median", unit=1e-3),
        ),
        rate=first(metric("Requests per second"), metric("Requests per second", "median")),
        concurrency=metric("Request concurrency"),
        kind=LoadKind.CLOSED if closed else LoadKind.OPEN,
        offered_rate=float(offered[1]) if offered and not closed else None,
        completed=count(at(record, "Successful Requests")),
        incomplete=count(at(record, "Incomplete Requests")) or 0.0,
        failed=count(at(record, "Errored Requests")) or 0.0,
        duration_seconds=number(at(record, "Duration")),
    )
