"""inference-perf: ``stage_N_lifecycle_metrics.json`` of versions 0.1 to 0.7.

Since 0.7 lengths are ``prompt_tokens`` and ``output_tokens`` (the server's usage) beside ``output_len`` (tokenised
again by the client); before there were ``prompt_len`` and ``output_len`` only. In a ``concurrent`` load
``concurrency`` is the level and ``requested_rate`` the *number* of requests. The summary over stages of different load
measures no load at all, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sizing.calibration.loadtests.fields import at, count, first, number, quantiles
from sizing.calibration.loadtests.types import LoadKind, Stage, Subject
from sizing.errors import InvalidInput

__all__ = ["InferencePerf"]

_LEVELS = {0.0: "min", 0.1: "p10", 0.5: "median", 0.9: "p90"}


class InferencePerf:
    """Reader of inference-perf's stage reports: one stage."""

    name = "inference-perf"

    def detect(self, report: Any) -> bool:
        """As ``Reader.detect``."""
        return (isinstance(report, Mapping) and "load_summary" in report) or _is_per_request(report)

    def stages(self, report: Any) -> tuple[Sequence[Stage], Subject, str | None]:
        """As ``Reader.stages``."""
        if _is_per_request(report):
            raise InvalidInput(
                "this is inference-perf's list of single requests (per_request_lifecycle_metrics.json); "
                "import its stage_<n>_lifecycle_metrics.json files"
            )
        if not isinstance(report, Mapping) or "load_summary" not in report:
            raise InvalidInput("not an inference-perf report: it has no 'load_summary'")
        load = at(report, "load_summary")
        if not {"requested_rate", "send_duration", "concurrency"} & set(load if isinstance(load, Mapping) else ()):
            raise InvalidInput(
                "this is inference-perf's summary over all stages, a mean over different loads; "
                "import its stage_<n>_lifecycle_metrics.json files"
            )
        return [_stage(report)], Subject(), None


def _is_per_request(report: Any) -> bool:
    head = at(report, 0) if isinstance(report, list) else None
    return (
        isinstance(head, Mapping) and {"start_time", "end_time"} <= set(head) and bool({"info", "request"} & set(head))
    )


def _stage(report: Any) -> Stage:
    latency, successes, load = (at(report, "successes", "latency"), at(report, "successes"), at(report, "load_summary"))

    def metric(name: str) -> tuple[float | None, float | None]:
        return number(at(latency, name, "mean")), number(at(latency, name, "median"))

    closed = number(at(load, "concurrency"))
    ttft = at(latency, "time_to_first_token")
    prompt, cached = number(at(successes, "prompt_tokens", "total")), number(at(successes, "prompt_tokens", "cached"))
    return Stage(
        "the stage",
        input_tokens=first(number(at(successes, "prompt_tokens", "mean")), number(at(successes, "prompt_len", "mean"))),
        output_tokens=first(
            number(at(successes, "output_tokens", "mean")), number(at(successes, "output_len", "mean"))
        ),
        e2e_seconds=metric("request_latency"),
        ttft_seconds=metric("time_to_first_token"),
        rate=number(at(successes, "throughput", "requests_per_sec")),
        kind=LoadKind.OPEN if closed is None else LoadKind.CLOSED,
        offered_rate=number(at(load, "requested_rate")) if closed is None else None,
        concurrency_limit=closed,
        completed=count(at(successes, "count")),
        failed=count(at(report, "failures", "count")) or 0.0,
        duration_seconds=number(at(report, "benchmark_time_seconds")),
        sending_seconds=number(at(load, "send_duration")),
        ttft_quantiles=quantiles(ttft, _LEVELS),
        delay_quantiles=quantiles(at(load, "schedule_delay"), _LEVELS),
        cached_share=min(cached / prompt, 1.0) if cached and prompt else None,
    )
