"""Load-test reports as observed points: parsed JSON in, ``ObservedPoint`` out; no file is read here.

Read: GuideLLM (``benchmarks.json``, metadata version 2, GuideLLM 0.8, and the flat records of older versions), aiperf
(``profile_export_aiperf.json``), inference-perf (``stage_N_lifecycle_metrics.json``) and vLLM's ``vllm bench serve
--save-result``. TPOT is worked out as (E2E - TTFT) / (output tokens - 1) wherever E2E is there, because reports define
it in different ways: inference-perf's own is about half of that. Only successful requests count. A stage whose
completions fall behind the rate that it offered never settled: its TTFT grows with the length of the test and is left
out, its TPOT is that of a full batch and stays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sizing.errors import InvalidInput
from sizing.observed import ObservedPoint, check_point

__all__ = ["aiperf_points", "guidellm_points", "inference_perf_points", "load_test_points", "vllm_bench_points"]

#: An open loop that completes less than this share of what it offers is overloaded.
_SETTLED_SHARE = 0.95
#: What tells the flat records of older GuideLLM versions.
_FLAT_KEY = "Successful Request latency mean"


def load_test_points(report: Any, *, replicas: int = 1) -> list[ObservedPoint]:
    """Return the points of a report of any known kind, told apart by its keys; loads divided by ``replicas``.

    Raises:
        InvalidInput: the report is of no known kind, or holds no usable stage; the text says why.
    """
    if isinstance(report, Mapping):
        if "benchmarks" in report:
            return guidellm_points(report, replicas=replicas)
        if "load_summary" in report:
            return inference_perf_points(report, replicas=replicas)
        if "time_to_first_token" in report and "request_latency" in report:
            return aiperf_points(report, replicas=replicas)
        if "total_input_tokens" in report and "request_throughput" in report:
            return vllm_bench_points(report, replicas=replicas)
    if _is_flat(report):
        return guidellm_points(report, replicas=replicas)
    raise InvalidInput(
        "not a load-test report: expected GuideLLM (benchmarks), aiperf (time_to_first_token), inference-perf "
        "(load_summary) or vllm bench serve (request_throughput) JSON"
    )


def guidellm_points(report: Any, *, replicas: int = 1) -> list[ObservedPoint]:
    """Return one point per benchmark of a GuideLLM report.

    Means, or medians where a mean cannot be (one request without a first-token time stamp spoils it).

    Raises:
        InvalidInput: it is no GuideLLM report, or holds no usable benchmark.
    """
    if _is_flat(report):
        return _flat_guidellm_points(report, replicas)
    _require(report, "benchmarks", "GuideLLM")
    points: list[ObservedPoint] = []
    problems: list[str] = []
    benchmarks = report.get("benchmarks")
    for number, benchmark in enumerate(benchmarks if isinstance(benchmarks, Sequence) else [], 1):

        def metric(name: str, benchmark: Any = benchmark) -> tuple[float | None, float | None]:
            found = _at(benchmark, "metrics", name, "successful")
            return _number(_at(found, "mean")), _number(_at(found, "median"))

        e2e, ttft = metric("request_latency"), metric("time_to_first_token_ms")
        kind = _at(benchmark, "config", "strategy", "type_")
        _add(
            points,
            problems,
            f"benchmark {number}",
            replicas,
            input_tokens=metric("prompt_token_count")[0],
            output_tokens=metric("output_token_count")[0],
            e2e=[_scaled(e2e[0], 1.0), _scaled(e2e[1], 1.0)],
            ttft=[_scaled(ttft[0], 1e-3), _scaled(ttft[1], 1e-3)],
            rate=metric("requests_per_second")[0],
            concurrency=metric("request_concurrency")[0],
            closed=kind in ("synchronous", "concurrent", "throughput"),
            offered=_number(_at(benchmark, "config", "strategy", "rate")),
            duration=_number(_at(benchmark, "duration")),
        )
    return _result(points, problems, "GuideLLM")


def _is_flat(report: Any) -> bool:
    return isinstance(report, list) and bool(report) and isinstance(report[0], Mapping) and _FLAT_KEY in report[0]


def _flat_guidellm_points(records: Sequence[Any], replicas: int) -> list[ObservedPoint]:
    points: list[ObservedPoint] = []
    problems: list[str] = []
    for number, record in enumerate(records, 1):

        def metric(name: str, statistic: str = "mean", record: Any = record) -> float | None:
            return _number(_at(record, f"Successful {name} {statistic}"))

        name = str(_at(record, "Name"))[:80]
        offered = re.fullmatch(r"\w+@(\d+(?:\.\d+)?)", name)
        first, middle = metric("Time to first token ms"), metric("Time to first token ms", "median")
        _add(
            points,
            problems,
            f"record {number}",
            replicas,
            input_tokens=metric("Prompt token count"),
            output_tokens=metric("Output token count"),
            e2e=[metric("Request latency"), metric("Request latency", "median")],
            ttft=[_scaled(first, 1e-3), _scaled(middle, 1e-3)],
            rate=metric("Requests per second") or metric("Requests per second", "median"),
            concurrency=metric("Request concurrency"),
            closed=name in ("synchronous", "throughput") or name.startswith("concurrent"),
            offered=float(offered[1]) if offered else None,
            duration=_number(_at(record, "Duration")),
        )
    return _result(points, problems, "GuideLLM")


def aiperf_points(report: Any, *, replicas: int = 1) -> list[ObservedPoint]:
    """Return the point of an aiperf run.

    Raises:
        InvalidInput: it is no aiperf report, or not a usable one.
    """
    _require(report, "request_latency", "aiperf")

    def metric(name: str, field: str = "avg") -> float | None:
        value = _number(_at(report, name, field))
        return _scaled(value, {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}.get(str(_at(report, name, "unit")), 1.0))

    load = _at(report, "input_config", "loadgen")
    concurrency = _number(_at(load, "concurrency"))
    points: list[ObservedPoint] = []
    problems: list[str] = []
    _add(
        points,
        problems,
        "the run",
        replicas,
        input_tokens=metric("input_sequence_length"),
        output_tokens=metric("output_sequence_length"),
        e2e=[metric("request_latency"), metric("request_latency", "p50")],
        ttft=[metric("time_to_first_token"), metric("time_to_first_token", "p50")],
        rate=metric("request_throughput"),
        concurrency=None,
        closed=concurrency is not None and _number(_at(load, "request_rate")) is None,
        offered=_number(_at(load, "request_rate")),
        duration=metric("benchmark_duration"),
    )
    return _result(points, problems, "aiperf")


def inference_perf_points(report: Any, *, replicas: int = 1) -> list[ObservedPoint]:
    """Return the point of one inference-perf stage (or of a whole summary).

    Raises:
        InvalidInput: it is no inference-perf report, or not a usable one.
    """
    _require(report, "load_summary", "inference-perf")
    latency = _at(report, "successes", "latency")

    def metric(name: str, field: str) -> float | None:
        return _number(_at(latency, name, field))

    points: list[ObservedPoint] = []
    problems: list[str] = []
    _add(
        points,
        problems,
        "the stage",
        replicas,
        input_tokens=_number(_at(report, "successes", "prompt_len", "mean")),
        output_tokens=_number(_at(report, "successes", "output_len", "mean")),
        e2e=[metric("request_latency", "mean"), metric("request_latency", "median")],
        ttft=[metric("time_to_first_token", "mean"), metric("time_to_first_token", "median")],
        rate=_number(_at(report, "successes", "throughput", "requests_per_sec")),
        concurrency=None,
        closed=False,
        offered=_number(_at(report, "load_summary", "requested_rate")),
        duration=_number(_at(report, "load_summary", "send_duration")),
    )
    return _result(points, problems, "inference-perf")


def vllm_bench_points(report: Any, *, replicas: int = 1) -> list[ObservedPoint]:
    """Return the point of a ``vllm bench serve`` run; by its TPOT (defined as ours) where E2E is missing.

    Raises:
        InvalidInput: it is no such report, or not a usable one.
    """
    _require(report, "request_throughput", "vllm bench serve")

    def mean(total: str) -> float | None:
        tokens, completed = _number(report.get(total)), _number(report.get("completed"))
        return tokens / completed if tokens is not None and completed else None

    def metric(name: str) -> float | None:
        return _scaled(_number(report.get(name)), 1e-3)

    output, ttft = mean("total_output_tokens"), metric("mean_ttft_ms")
    e2e = [metric("mean_e2el_ms"), metric("median_e2el_ms")]
    tpot = metric("mean_tpot_ms")
    if e2e == [None, None] and output is not None and ttft is not None and tpot is not None:
        e2e = [ttft + tpot * (output - 1.0)]
    points: list[ObservedPoint] = []
    problems: list[str] = []
    _add(
        points,
        problems,
        "the run",
        replicas,
        input_tokens=mean("total_input_tokens"),
        output_tokens=output,
        e2e=e2e,
        ttft=[ttft, metric("median_ttft_ms")],
        rate=_number(report.get("request_throughput")),
        concurrency=None,
        # "inf" (written as a string or as Infinity): everything at once, or as fast as max_concurrency lets it.
        closed=_number(report.get("request_rate")) is None,
        offered=_number(report.get("request_rate")),
        duration=_number(report.get("duration")),
    )
    return _result(points, problems, "vllm bench serve")


def _require(report: Any, key: str, kind: str) -> None:
    if not isinstance(report, Mapping) or key not in report:
        raise InvalidInput(f"not a {kind} report: it has no {key!r}")


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _number(value: Any) -> float | None:
    """Return a finite positive number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if 0 < number < math.inf else None


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value * unit


def _add(
    points: list[ObservedPoint],
    problems: list[str],
    name: str,
    replicas: int,
    *,
    input_tokens: float | None,
    output_tokens: float | None,
    e2e: Sequence[float | None],
    ttft: Sequence[float | None],
    rate: float | None,
    concurrency: float | None,
    closed: bool,
    offered: float | None,
    duration: float | None,
) -> None:
    """Append the point of one stage, or why it gives none; ``e2e`` and ``ttft``: first choice first, in seconds."""
    if input_tokens is None or output_tokens is None or output_tokens <= 1:
        problems.append(f"{name}: no prompt and output lengths above one token")
        return
    pairs = [(a, b) for a, b in zip(e2e, ttft, strict=False) if a is not None and b is not None and b < a]
    if not pairs:
        problems.append(f"{name}: no end-to-end latency above its time to first token")
        return
    if rate is None and concurrency is None:
        problems.append(f"{name}: neither a completed rate nor a concurrency")
        return
    total, first = pairs[0]
    # What is still running at the end has not completed: a share E2E / (duration + E2E) of a settled test.
    settled = _SETTLED_SHARE * (1.0 if duration is None else duration / (duration + total))
    overloaded = not closed and rate is not None and offered is not None and rate < settled * offered
    if rate is not None:
        concurrency = rate * total  # Little's law: reports sample concurrency, if they have it at all
    point = ObservedPoint(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        tpot_seconds=(total - first) / (output_tokens - 1.0),
        ttft_seconds=None if overloaded else first,
        requests_per_second=None if rate is None else rate / replicas,
        concurrency=None if concurrency is None else concurrency / replicas,
        closed_loop=closed,
    )
    try:
        check_point(point)
    except InvalidInput as error:
        problems.append(f"{name}: {error}")
        return
    points.append(point)


def _result(points: list[ObservedPoint], problems: list[str], kind: str) -> list[ObservedPoint]:
    if not points:
        raise InvalidInput(f"no usable measurement in the {kind} report: {'; '.join(problems) or 'it is empty'}")
    return points
