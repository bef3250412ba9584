"""aiperf (``profile_export_aiperf.json`` and ``.csv``) and its predecessor genai-perf.

Both name metrics alike. The load kind is in ``input_config``: ``phases[]`` with ``type``, ``concurrency`` and ``rate``
(aiperf 0.13), ``loadgen`` (aiperf before), ``perf_analyzer.stimulus`` or plain ``concurrency`` and ``request_rate``
(genai-perf); a CSV has none. Token counts are the server's (``usage_*_tokens``) where the report has them: lengths that
the client makes by tokenising text again differ by 10 % and more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sizing.calibration.loadtests.fields import at, count, first, items, number, quantiles, scaled, text, time_unit
from sizing.calibration.loadtests.types import LoadKind, Stage, Subject
from sizing.errors import InvalidInput

__all__ = ["AiPerf", "GenAiPerf"]

_LEVELS = {0.0: "min", 0.1: "p10", 0.9: "p90"}
_WARMUP = ("warmup", "warm_up", "ramp_up")


class AiPerf:
    """Reader of aiperf reports: one stage."""

    name = "aiperf"

    def detect(self, report: Any) -> bool:
        """As ``Reader.detect``."""
        return _has_metrics(report) and not _is_genai(report)

    def stages(self, report: Any) -> tuple[Sequence[Stage], Subject, str | None]:
        """As ``Reader.stages``."""
        if not _has_metrics(report):
            raise InvalidInput("not an aiperf report: it has no 'request_latency'")
        return [_stage(report, *_aiperf_load(report))], _subject(report), text(at(report, "aiperf_version"))


class GenAiPerf:
    """Reader of genai-perf reports: one stage."""

    name = "genai-perf"

    def detect(self, report: Any) -> bool:
        """As ``Reader.detect``."""
        return _has_metrics(report) and _is_genai(report)

    def stages(self, report: Any) -> tuple[Sequence[Stage], Subject, str | None]:
        """As ``Reader.stages``."""
        if not _has_metrics(report):
            raise InvalidInput("not a genai-perf report: it has no 'request_latency'")
        return [_stage(report, *_genai_load(report))], _subject(report), None


def _has_metrics(report: Any) -> bool:
    return isinstance(report, Mapping) and "request_latency" in report and "request_throughput" in report


def _is_genai(report: Any) -> bool:
    if any(key in report for key in ("aiperf_version", "schema_version", "benchmark_id")):
        return False
    config = at(report, "input_config")
    if not isinstance(config, Mapping):
        # The CSVs: genai-perf names the request rate "(per sec)", aiperf "(requests/sec)".
        return bool(at(report, "request_throughput", "unit") == "per sec")
    genai = ("perf_analyzer", "formatted_model_name", "service_kind", "subcommand", "model_names", "concurrency")
    return "loadgen" not in config and "phases" not in config and any(key in config for key in genai)


def _subject(report: Any) -> Subject:
    config = at(report, "input_config")
    places = (
        at(config, "models", "items", 0, "name"),
        at(config, "models", 0, "name"),
        at(config, "endpoint", "model_names", 0),
        at(config, "model_names", 0),
        at(config, "model", 0),
        at(config, "model"),
    )
    backend = text(at(config, "backend")) or text(at(config, "endpoint", "backend"))
    engine = {"tensorrtllm": "tensorrt-llm", "vllm": "vllm"}.get((backend or "").lower())
    return Subject(model=next((name for place in places if (name := text(place))), None), engine=engine)


def _aiperf_load(report: Any) -> tuple[LoadKind | None, float | None, float | None]:
    """Return the load kind, the offered rate and the limit on requests in flight."""
    config = at(report, "input_config")
    if not isinstance(config, Mapping):
        return None, None, None
    if "phases" in config:
        phases = [
            phase
            for phase in items(config["phases"])
            if isinstance(phase, Mapping) and not {str(phase.get(k)).lower() for k in ("name", "kind")} & set(_WARMUP)
        ]
        if len(phases) > 1:
            raise InvalidInput(
                f"this aiperf report is a mean over {len(phases)} phases of different load; "
                "run one aiperf profile per load and import each report"
            )
        return _load_of(phases[0] if phases else {}, "rate")
    return _load_of(at(config, "loadgen") or {}, "request_rate")


def _load_of(load: Any, rate_key: str) -> tuple[LoadKind | None, float | None, float | None]:
    rate = first(number(at(load, rate_key)), number(at(load, "request_rate")))
    concurrency, kind = number(at(load, "concurrency")), str(at(load, "type")).lower()
    if rate is not None and kind != "concurrency":
        return LoadKind.OPEN, rate, concurrency
    if concurrency is not None or kind == "concurrency":
        return LoadKind.CLOSED, None, concurrency
    return None, None, None


def _genai_load(report: Any) -> tuple[LoadKind | None, float | None, float | None]:
    config = at(report, "input_config")
    for place in (at(config, "perf_analyzer", "stimulus"), at(config, "perf_analyzer"), at(config, "stimulus"), config):
        found = _load_of(place, "request_rate")
        if found[0] is not None:
            return found
    return None, None, None


def _stage(report: Any, kind: LoadKind | None, offered: float | None, limit: float | None) -> Stage:
    def metric(name: str, field: str = "avg") -> float | None:
        return count(at(report, name, field))

    def positive(name: str, field: str = "avg") -> float | None:
        return number(at(report, name, field))

    def seconds(name: str, field: str = "avg") -> float | None:
        return scaled(positive(name, field), time_unit(report.get(name), "unit", name))

    if "time_to_first_token" not in report:
        raise InvalidInput("the run: no time to first token; test with --streaming")
    completed = first(metric("completed_request_count"), metric("request_count"), _count_of(report))
    ttft = report["time_to_first_token"]
    cached, prompt = metric("usage_prompt_cache_read_tokens"), positive("usage_prompt_tokens")
    cut = report.get("was_cancelled") is True or report.get("is_complete") is False
    return Stage(
        "the run, cut short" if cut else "the run",
        input_tokens=first(positive("usage_prompt_tokens"), positive("input_sequence_length")),
        output_tokens=first(positive("usage_completion_tokens"), positive("output_sequence_length")),
        e2e_seconds=(seconds("request_latency"), seconds("request_latency", "p50")),
        ttft_seconds=(seconds("time_to_first_token"), seconds("time_to_first_token", "p50")),
        rate=scaled(positive("request_throughput"), _per_second(at(report, "request_throughput", "unit"))),
        kind=kind,
        offered_rate=offered,
        concurrency_limit=limit,
        completed=completed,
        incomplete=metric("incomplete_request_count") or 0.0,
        failed=metric("error_request_count") or 0.0,
        duration_seconds=seconds("benchmark_duration"),
        ttft_quantiles=quantiles(ttft, _LEVELS, time_unit(ttft, "unit", "time_to_first_token")),
        ttft_deviation_seconds=scaled(
            metric("time_to_first_token", "std"), time_unit(ttft, "unit", "time_to_first_token")
        ),
        cached_share=min(cached / prompt, 1.0) if cached and prompt else None,
    )


def _per_second(unit: Any) -> float:
    """What a rate in a unit such as requests/sec is multiplied by to be per second.

    Raises:
        InvalidInput: the unit is no rate that is read.
    """
    named = str(unit or "").strip().lower().replace("per ", "/").rpartition("/")[2].strip()
    if named in ("", "s", "sec", "second", "seconds"):
        return 1.0
    if named in ("m", "min", "minute", "minutes"):
        return 1.0 / 60.0
    if named in ("h", "hour", "hours"):
        return 1.0 / 3600.0
    raise InvalidInput(f"request_throughput is in {str(unit)[:40]!r}, no rate that is read: requests/sec, requests/min")


def _count_of(report: Any) -> float | None:
    return count(at(report, "request_latency", "count"))
