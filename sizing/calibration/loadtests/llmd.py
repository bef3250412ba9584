"""llm-d benchmark reports (YAML or JSON), schema versions 0.1 and 0.2: one stage of whichever tool made the load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sizing.calibration.loadtests.fields import at, count, first, items, number, quantiles, scaled, text, time_unit
from sizing.calibration.loadtests.types import LoadKind, Stage, Subject
from sizing.errors import InvalidInput

__all__ = ["LlmdReport"]


class LlmdReport:
    """Reader of llm-d benchmark reports: one stage."""

    name = "llm-d"

    def detect(self, report: Any) -> bool:
        """As ``Reader.detect``."""
        return isinstance(report, Mapping) and "scenario" in report and bool({"results", "metrics"} & set(report))

    def stages(self, report: Any) -> tuple[Sequence[Stage], Subject, str | None]:
        """As ``Reader.stages``."""
        if not isinstance(report, Mapping) or not self.detect(report):
            raise InvalidInput("not an llm-d benchmark report: it has no 'scenario' with 'results'")
        version = str(report.get("version"))[:10]
        if not version.startswith(("0.1", "0.2")):
            raise InvalidInput(
                f"this is an llm-d benchmark report of version {version}; versions 0.1 and 0.2 are read: convert it "
                "with llm-d-benchmark's benchmark-report, or import the load tool's own report"
            )
        if version.startswith("0.1"):
            return [_stage(report.get("metrics"), None)], _first_subject(report), version
        aggregate = at(report, "results", "request_performance", "aggregate")
        return [_stage(aggregate, at(report, "scenario", "load", "standardized"))], _second_subject(report), version


def _first_subject(report: Any) -> Subject:
    scenario = report.get("scenario")
    return Subject(
        model=text(at(scenario, "model", "name")),
        engine=text(at(scenario, "platform", "engine", 0, "name")),
        gpu=text(at(scenario, "host", "accelerator", 0, "model")),
        tensor_parallel=_whole(at(scenario, "host", "accelerator", 0, "parallelism", "tp")),
    )


def _second_subject(report: Any) -> Subject:
    parts = (at(part, "standardized") for part in items(at(report, "scenario", "stack")))
    engine = next((part for part in parts if at(part, "kind") == "inference_engine"), None)
    tool = (text(at(engine, "tool")) or "").lower()
    return Subject(
        model=text(at(engine, "model", "name")),
        engine=tool if tool in ("vllm", "sglang", "tensorrt-llm") else None,
        gpu=text(at(engine, "accelerator", "model")),
        tensor_parallel=_whole(at(engine, "accelerator", "parallelism", "tp")),
    )


def _whole(value: Any) -> int | None:
    found = number(value)
    return int(found) if found else None


def _stage(aggregate: Any, load: Any) -> Stage:
    requests, latency = at(aggregate, "requests"), at(aggregate, "latency")

    def metric(name: str) -> tuple[float | None, float | None]:
        unit = time_unit(at(latency, name), "units", name)
        return scaled(number(at(latency, name, "mean")), unit), scaled(number(at(latency, name, "p50")), unit)

    ttft = at(latency, "time_to_first_token")
    offered, limit = number(at(load, "rate_qps")), number(at(load, "concurrency"))
    total, failed = count(at(requests, "total")), count(at(requests, "failures")) or 0.0
    incomplete = count(at(requests, "incomplete")) or 0.0
    kind = LoadKind.OPEN if offered is not None else LoadKind.CLOSED if limit is not None else None
    rate = at(aggregate, "throughput", "request_rate")
    return Stage(
        "the report",
        input_tokens=number(at(requests, "input_length", "mean")),
        output_tokens=number(at(requests, "output_length", "mean")),
        e2e_seconds=metric("request_latency"),
        ttft_seconds=metric("time_to_first_token"),
        rate=first(number(at(rate, "mean")), number(at(aggregate, "throughput", "requests_per_sec"))),
        kind=kind,
        offered_rate=offered,
        concurrency_limit=limit,
        completed=None if total is None else max(total - failed - incomplete, 0.0),
        incomplete=incomplete,
        failed=failed,
        ttft_quantiles=quantiles(
            ttft, {0.0: "min", 0.1: "p10", 0.9: "p90"}, time_unit(ttft, "units", "time_to_first_token")
        ),
    )
