"""What a report is that no reader reads, and what to import instead: one line for the user."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sizing.calibration.loadtests.fields import at

__all__ = ["unreadable", "unreadable_text"]

_NO_TOKENS = "which has no token counts; run one of the tools named in docs/sizing.md"
#: Keys that tell a report, and what to say of it. The first whose keys are all there counts.
_KNOWN: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("experiments", "version"),
        "perf_analyzer's export of single requests; import genai-perf's profile_export_genai_perf.json",
    ),
    (
        ("service_kind",),
        "perf_analyzer's export of single requests; import genai-perf's profile_export_genai_perf.json",
    ),
    (("http_req_duration",), f"a k6 result, {_NO_TOKENS}"),
    (("type", "metric", "data"), f"a k6 result, {_NO_TOKENS}"),
    (("root_group", "metrics"), f"a k6 result, {_NO_TOKENS}"),
    (("avg_latency", "latencies"), "`vllm bench latency`, which has no TTFT; run `vllm bench serve --save-result`"),
    (
        ("elapsed_time", "num_requests", "tokens_per_second"),
        "`vllm bench throughput`, which has no latencies; run `vllm bench serve --save-result`",
    ),
    (
        ("request_info", "performance"),
        "trtllm-bench's report, a run inside the engine without a server; run `trtllm-serve` and its benchmark_serving",
    ),
    (
        ("run_name", "batch_size", "latency"),
        "sglang's bench_one_batch, a batch without a load; run `python -m sglang.bench_serving`",
    ),
    (
        ("results", "summary", "config"),
        "llm-load-test's output; run one of the tools named in docs/sizing.md",
    ),
    (
        ("aggregated_metrics", "individual_request_metrics"),
        "genai-bench's result; run one of the tools named in docs/sizing.md",
    ),
    (("num_requests", "response_times"), f"a locust result, {_NO_TOKENS}"),
    (("latencies", "bytes_in"), f"a vegeta result, {_NO_TOKENS}"),
    (("latencyPercentiles", "summary"), f"an oha result, {_NO_TOKENS}"),
    (("n_prompt", "n_gen", "avg_ts"), "llama-bench's result, which has no load; run a load test against llama-server"),
)
#: Beginnings of reports that are no JSON.
_TEXTS: tuple[tuple[str, str], ...] = (
    (
        r"=+\s*\n\s*MLPerf Results Summary",
        "MLPerf's summary of a scenario; run one of the tools named in docs/sizing.md",
    ),
    (r"Running .* test @ ", f"wrk's output, {_NO_TOKENS}"),
    (r"Type,Name,Request Count|Method,Name,", f"a locust result, {_NO_TOKENS}"),
    (r"Summary:\s*\n\s*(Total|Success rate):", f"the output of hey or oha, {_NO_TOKENS}"),
    (r"This is ApacheBench", f"ApacheBench's output, {_NO_TOKENS}"),
    (r"=+ Serving Benchmark Result", "what bench_serving prints; run it with --save-result (sglang: --output-file)"),
    (r"<(!DOCTYPE|html)", "an HTML page; import the JSON that the tool wrote beside it"),
)


def unreadable(report: Any, tools: Sequence[str]) -> str:
    """Return one line on a report that no reader recognises: what it is, if known, and what to import instead."""
    head = report[0] if isinstance(report, list) and report else report
    keys = {str(key) for key in head} if isinstance(head, Mapping) else set()
    if at(head, "metadata", "benchmark_phase") is not None:
        return "this is aiperf's list of single requests; import profile_export_aiperf.json"
    for names, text in _KNOWN:
        if keys.issuperset(names):
            return f"this is {text}"
    shown = f"; its keys: {', '.join(sorted(key[:30] for key in keys)[:6])}" if keys else ""
    return f"not a load-test report: none of {', '.join(tools)} recognises it{shown}"


def unreadable_text(text: str) -> str | None:
    """Return what a text is that is no JSON; None where that is not known."""
    if not text.strip():
        return "the file is empty"
    known = next((what for pattern, what in _TEXTS if re.match(rf"\s*(?:{pattern})", text[:2_000])), None)
    return None if known is None else f"this is {known}"
