"""llmperf (ray-project): ``…_summary.json`` of ``token_benchmark_ray.py``, flat or nested; always a closed loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sizing.calibration.loadtests.fields import at, count, number, scaled, text
from sizing.calibration.loadtests.types import LoadKind, Stage, Subject
from sizing.errors import InvalidInput

__all__ = ["LlmPerf"]


class LlmPerf:
    """Reader of llmperf summaries: one stage."""

    name = "llmperf"

    def detect(self, report: Any) -> bool:
        """As ``Reader.detect``."""
        head = report[0] if isinstance(report, list) and report else report
        return isinstance(head, Mapping) and (
            ("num_concurrent_requests" in head and ("results" in head or "results_ttft_s_mean" in head))
            or {"ttft_s", "end_to_end_latency_s"} <= set(head)
        )

    def stages(self, report: Any) -> tuple[Sequence[Stage], Subject, str | None]:
        """As ``Reader.stages``."""
        if isinstance(report, list) or (isinstance(report, Mapping) and "ttft_s" in report):
            raise InvalidInput("this is llmperf's list of single requests; import the …_summary.json beside it")
        if not isinstance(report, Mapping) or not self.detect(report):
            raise InvalidInput("not an llmperf summary: it has no 'num_concurrent_requests' with results")

        def result(*names: str) -> Any:
            nested = at(report, "results", *names)
            return nested if nested is not None else report.get("_".join(("results", *names)))

        def metric(name: str) -> tuple[float | None, float | None]:
            return number(result(name, "mean")), number(result(name, "quantiles", "p50"))

        per_minute = number(result("num_completed_requests_per_min"))
        stage = Stage(
            "the run",
            input_tokens=metric("number_input_tokens")[0],
            output_tokens=metric("number_output_tokens")[0],
            e2e_seconds=metric("end_to_end_latency_s"),
            ttft_seconds=metric("ttft_s"),
            rate=scaled(per_minute, 1 / 60),
            kind=LoadKind.CLOSED,
            concurrency_limit=number(report.get("num_concurrent_requests")),
            completed=number(result("num_completed_requests")),
            failed=count(result("number_errors")) or 0.0,
        )
        return [stage], Subject(model=text(report.get("model"))), text(report.get("version"))
