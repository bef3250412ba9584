"""``vllm bench serve --save-result`` and ``sglang.bench_serving``: one program's two descendants.

One run is one mapping; files with several runs (``--append-result``, sglang's JSONL) hold one per line. TPOT is the
tool's own mean, which both define as (E2E - TTFT) / (output tokens - 1). sglang's ``backend`` is the server that was
tested, vLLM's the API that the client spoke.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sizing.calibration.loadtests.fields import at, count, first, number, scaled, text
from sizing.calibration.loadtests.types import LoadKind, Stage, Subject
from sizing.errors import InvalidInput

__all__ = ["SglangBench", "VllmBench"]

_SERVERS = {
    "sglang": "sglang",
    "vllm": "vllm",
    "trt": "tensorrt-llm",
    "tensorrt-llm": "tensorrt-llm",
    "trtllm": "tensorrt-llm",
}

#: Tokens accepted per step of a speculative decoder (sglang; vllm bench serve).
_ACCEPTED = ("accept_length", "spec_decode_acceptance_length")


class VllmBench:
    """Reader of ``vllm bench serve`` results: one stage per run."""

    name = "vllm"

    def detect(self, report: Any) -> bool:
        """As ``Reader.detect``."""
        return _is_run(_runs(report)[0]) and not _is_sglang(_runs(report)[0])

    def stages(self, report: Any) -> tuple[Sequence[Stage], Subject, str | None]:
        """As ``Reader.stages``."""
        return _read(report, "vllm bench serve")


class SglangBench:
    """Reader of ``sglang.bench_serving`` results: one stage per run."""

    name = "sglang"

    def detect(self, report: Any) -> bool:
        """As ``Reader.detect``."""
        return _is_run(_runs(report)[0]) and _is_sglang(_runs(report)[0])

    def stages(self, report: Any) -> tuple[Sequence[Stage], Subject, str | None]:
        """As ``Reader.stages``."""
        return _read(report, "sglang.bench_serving")


def _runs(report: Any) -> list[Any]:
    return report if isinstance(report, list) and report else [report]


def _is_run(run: Any) -> bool:
    return isinstance(run, Mapping) and "total_input_tokens" in run and "request_throughput" in run


def _is_sglang(run: Any) -> bool:
    return "mean_e2e_latency_ms" in run or "total_output_tokens_retokenized" in run


def _read(report: Any, kind: str) -> tuple[Sequence[Stage], Subject, str | None]:
    runs = _runs(report)
    if not all(isinstance(run, Mapping) and "request_throughput" in run for run in runs):
        raise InvalidInput(f"not a {kind} report: it has no 'request_throughput'")
    subjects = {_subject(run) for run in runs}
    if len(subjects) > 1:
        raise InvalidInput(
            f"this file has {kind} runs of {len(subjects)} models or servers; import the runs of each by itself"
        )
    return [_stage(i, run, len(runs)) for i, run in enumerate(runs, 1)], subjects.pop(), None


def _subject(run: Any) -> Subject:
    backend = str(at(run, "backend")).lower().partition("-oai")[0]
    # "vllm" and "openai" of vllm bench serve are ways to speak to any server.
    engine = _SERVERS.get(backend) if _is_sglang(run) or backend != "vllm" else None
    model = text(at(run, "model_id")) or text(at(run, "model")) or text(at(run, "server_info", "model_path"))
    return Subject(model=model, engine=engine)


def _stage(position: int, run: Any, runs: int) -> Stage:
    completed = number(run.get("completed"))
    name = "the run" if runs == 1 else f"run {position}"
    if text(run.get("ramp_up_strategy")) is not None:
        raise InvalidInput(f"{name}: --ramp-up-strategy sent at many rates; a mean over them measures no load")

    def mean(total: str) -> float | None:
        tokens = number(run.get(total))
        return tokens / completed if tokens is not None and completed else None

    def metric(name: str) -> float | None:
        # Results that were made smaller drop the unit from the name and hold seconds.
        found = scaled(number(run.get(f"{name}_ms")), 1e-3)
        return found if found is not None else number(run.get(name))

    def either(statistic: str) -> float | None:
        found = metric(f"{statistic}_e2el")
        return found if found is not None else metric(f"{statistic}_e2e_latency")

    rate, limit = number(run.get("request_rate")), number(run.get("max_concurrency"))
    prompts = number(run.get("num_prompts"))
    failed = count(run.get("failed"))
    if failed is None:
        failed = max(prompts - completed, 0.0) if prompts and completed else 0.0
    return Stage(
        name,
        input_tokens=mean("total_input_tokens"),
        output_tokens=mean("total_output_tokens"),
        e2e_seconds=(either("mean"), either("median")),
        ttft_seconds=(metric("mean_ttft"), metric("median_ttft")),
        tpot_seconds=first(metric("mean_tpot"), metric("median_tpot")),
        rate=number(run.get("request_throughput")),
        # "inf" (as a string or Infinity): everything at once, or as fast as max_concurrency lets it.
        kind=LoadKind.CLOSED if rate is None else LoadKind.OPEN,
        offered_rate=rate,
        concurrency_limit=limit,
        completed=completed,
        failed=failed,
        duration_seconds=number(run.get("duration")),
        ttft_deviation_seconds=scaled(count(run.get("std_ttft_ms")), 1e-3),
        speculative=any((number(run.get(key)) or 0.0) > 1.0 for key in _ACCEPTED),
    )
