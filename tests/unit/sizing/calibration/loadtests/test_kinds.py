"""One report of every kind, with numbers of our own, and what it must come to."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from sizing.calibration.loadtests import READERS, LoadKind, read_report
from sizing.calibration.loadtests.text import parse_report
from sizing.calibration.measurement import ObservedPoint
from sizing.errors import InvalidInput


def only(report: Any, **options: Any) -> ObservedPoint:
    (point,) = read_report(report, **options).points
    return point


def spread(mean: float, median: float | None = None, **more: float) -> dict[str, float]:
    return {"mean": mean, "median": mean if median is None else median, **more}


STAGE: dict[str, Any] = {
    "benchmark_time_seconds": 31.0,
    "load_summary": {"count": 90, "send_duration": 30.0, "requested_rate": 3.0, "achieved_rate": 3.0},
    "successes": {
        "count": 90,
        "latency": {"request_latency": spread(1.2), "time_to_first_token": spread(0.21)},
        "throughput": {"requests_per_sec": 90 / 31},
        "prompt_tokens": {"total": 9000.0, "cached": 3600.0, "mean": 100.0},
        "output_len": {"mean": 40.0},  # tokenised again by the client
        "output_tokens": {"mean": 34.0},
    },
    "failures": {"count": 0},
}
PHASE: dict[str, Any] = {"name": "profiling", "kind": "profiling", "type": "concurrency", "concurrency": 8}
AIPERF: dict[str, Any] = {
    "schema_version": "1.4",
    "aiperf_version": "0.13.0",
    "request_throughput": {"unit": "requests/sec", "avg": 5.0},
    "request_latency": {"unit": "ms", "avg": 1200.0},
    "request_count": {"unit": "requests", "avg": 90.0},
    "time_to_first_token": {"unit": "ms", "avg": 210.0, "p50": 205.0},
    "input_sequence_length": {"unit": "tokens", "avg": 95.0},
    "output_sequence_length": {"unit": "tokens", "avg": 40.0},
    "usage_prompt_tokens": {"unit": "tokens", "avg": 100.0},
    "usage_completion_tokens": {"unit": "tokens", "avg": 34.0},
    "input_config": {"models": {"items": [{"name": "our-model"}]}, "phases": [PHASE]},
}
GENAI: dict[str, Any] = {
    "request_throughput": {"unit": "requests/sec", "avg": 5.0},
    "request_latency": {"unit": "ms", "avg": 1200.0},
    "time_to_first_token": {"unit": "ms", "avg": 210.0},
    "input_sequence_length": {"unit": "tokens", "avg": 100.0},
    "output_sequence_length": {"unit": "tokens", "avg": 34.0},
    "input_config": {"model": ["our-model"], "backend": "tensorrtllm", "service_kind": "openai", "concurrency": 8},
}
SGLANG: dict[str, Any] = {
    "backend": "sglang",
    "request_rate": 5.0,
    "max_concurrency": 64,
    "duration": 20.0,
    "completed": 98,
    "total_input_tokens": 9800,
    "total_output_tokens": 3332,
    "total_output_tokens_retokenized": 3000,
    "request_throughput": 4.9,
    "mean_e2e_latency_ms": 1210.0,
    "mean_ttft_ms": 210.0,
    "median_ttft_ms": 200.0,
    "std_ttft_ms": 40.0,
    "mean_tpot_ms": 30.0,
}
VLLM: dict[str, Any] = {
    "backend": "openai",
    "model_id": "our-model",
    "num_prompts": 300,
    "request_rate": 10.0,
    "max_concurrency": None,
    "duration": 36.0,
    "completed": 300,
    "total_input_tokens": 30_000,
    "total_output_tokens": 10_200,
    "request_throughput": 8.33,
    "mean_ttft_ms": 210.0,
    "median_ttft_ms": 205.0,
    "std_ttft_ms": 30.0,
    "mean_tpot_ms": 30.0,
}
LLMPERF: dict[str, Any] = {
    "version": "2023-08-31",
    "model": "our-model",
    "num_concurrent_requests": 8,
    "results_ttft_s_mean": 0.21,
    "results_end_to_end_latency_s_mean": 1.2,
    "results_number_input_tokens_mean": 100.0,
    "results_number_output_tokens_mean": 34.0,
    "results_num_completed_requests_per_min": 300.0,
    "results_num_completed_requests": 90,
    "results_number_errors": 0,
}
INFERENCEX: dict[str, Any] = {
    "hw": "h200", "conc": 8, "model": "our/model-8B", "framework": "sglang", "precision": "fp8", "tp": 2,
    "isl": 100, "osl": 34, "mean_ttft": 0.5, "median_ttft": 0.21, "mean_tpot": 0.05, "median_tpot": 0.03,
    "median_e2el": 1.2,
}  # fmt: skip
LLMD = """
version: '0.2'
scenario:
  stack:
  - standardized: {kind: generic, tool: router}
  - standardized:
      kind: inference_engine
      tool: vllm
      model: {name: our/model-8B}
      accelerator: {model: NVIDIA-H100-80GB-HBM3, parallelism: {tp: 2}}
  load:
    standardized: {tool: inference-perf, stage: 3, rate_qps: 3, concurrency: .inf}
results:
  request_performance:
    aggregate:
      requests: {total: 90, failures: 0, input_length: {mean: 100.0}, output_length: {mean: 34.0}}
      throughput: {request_rate: {units: queries/s, mean: 2.95}}
      latency:
        time_to_first_token: {units: ms, mean: 210.0}
        request_latency: {units: s, mean: 1.2}
"""
CSV = """Metric,avg,min,max,p99,p50
Time To First Token (ms),"1,210.00",249.48,"3,485.23","3,457.97",640.07
Request Latency (ms),"6,160.00","5,371.47","9,608.72","9,436.13","5,690.23"
Output Sequence Length (tokens),166.00,164.00,187.00,186.22,174.00
Input Sequence Length (tokens),"3,000.00","2,999.00","3,001.00","3,001.00","3,000.00"

Metric,Value
Output Token Throughput (per sec),258.75
Request Throughput (per sec),1.48
"""


def guidellm(version: str) -> dict[str, Any]:
    """A closed loop of 8 as three generations of GuideLLM write it."""
    metrics: dict[str, Any] = {
        "requests_per_second": {"successful": spread(5.0)},
        "request_concurrency": {"successful": spread(6.0)},
        "request_latency": {"successful": spread(1.2)},
        "prompt_token_count": {"successful": spread(100.0)},
        "output_token_count": {"successful": spread(34.0)},
        "time_to_first_token_ms": {"successful": spread(210.0)},
    }
    strategy, totals = {"type_": "concurrent", "streams": 8}, {"successful": 90, "errored": 0, "incomplete": 0}
    if version == "0.2":
        worker = {"backend_model": "our-model"}
        benchmark = {"args": {"strategy": strategy}, "run_stats": {"requests_made": totals}, "worker": worker}
    else:
        metrics["request_totals"] = totals
        benchmark = {"config": {"strategy": strategy, "backend": {"model": "our-model"}}}
    metadata = {"version": 1 if version == "0.2" else 2, "guidellm_version": version}
    return {"metadata": metadata, "benchmarks": [{**benchmark, "duration": 18.0, "metrics": metrics}]}


KINDS: dict[str, tuple[str, Any, LoadKind]] = {
    "inference-perf stage": ("inference-perf", STAGE, LoadKind.OPEN),
    "aiperf phases": ("aiperf", AIPERF, LoadKind.CLOSED),
    "genai-perf": ("genai-perf", GENAI, LoadKind.CLOSED),
    "sglang": ("sglang", SGLANG, LoadKind.OPEN),
    "vllm": ("vllm", VLLM, LoadKind.OPEN),
    "llmperf": ("llmperf", LLMPERF, LoadKind.CLOSED),
    "inferencex": ("inferencex", INFERENCEX, LoadKind.CLOSED),
    "llm-d": ("llm-d", parse_report(LLMD, "br.yaml"), LoadKind.OPEN),
    "guidellm 0.2": ("guidellm", guidellm("0.2"), LoadKind.CLOSED),
    "guidellm 0.8": ("guidellm", guidellm("0.8"), LoadKind.CLOSED),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_recognised_by_one_reader_and_read_alike(kind: str) -> None:
    tool, report, load = KINDS[kind]
    assert [reader.name for reader in READERS if reader.detect(report)] == [tool]
    test = read_report(report)
    (point,) = test.points
    assert test.tool == tool
    assert point.input_tokens == pytest.approx(100.0)
    assert point.output_tokens == pytest.approx(34.0)
    assert point.ttft_seconds == pytest.approx(0.21)
    assert point.tpot_seconds == pytest.approx(0.03)
    assert point.closed_loop == (load is LoadKind.CLOSED)
    assert only(report, replicas=2).concurrency == pytest.approx((point.concurrency or 0.0) / 2)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("aiperf phases", ("our-model", None, None)),
        ("genai-perf", ("our-model", "tensorrt-llm", None)),
        ("sglang", (None, "sglang", None)),
        ("vllm", ("our-model", None, None)),
        ("inferencex", ("our/model-8B", "sglang", 2)),
        ("llm-d", ("our/model-8B", "vllm", 2)),
        ("guidellm 0.2", ("our-model", None, None)),
        ("guidellm 0.8", ("our-model", None, None)),
    ],
)
def test_what_was_tested_is_read_from_the_report(kind: str, named: tuple[str | None, str | None, int | None]) -> None:
    subject = read_report(KINDS[kind][1]).subject
    assert (subject.model, subject.engine, subject.tensor_parallel) == named


def test_the_level_of_a_concurrent_inference_perf_stage_is_not_its_requested_rate() -> None:
    """``requested_rate`` is then the number of requests."""
    stage = copy.deepcopy(STAGE)
    stage["load_summary"] |= {"requested_rate": 90.0, "concurrency": 4}
    point = only(stage)
    assert point.closed_loop
    assert point.ttft_seconds == pytest.approx(0.21)
    assert point.cached_share == pytest.approx(0.4)
    assert only(stage, cached_share=0.0).cached_share == 0.0


def test_older_inference_perf_has_lengths_by_the_client() -> None:
    stage = copy.deepcopy(STAGE)
    stage["successes"]["prompt_len"] = stage["successes"].pop("prompt_tokens")
    del stage["successes"]["output_tokens"]
    assert only(stage).output_tokens == 40.0


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (
            {"load_summary": {"count": 9}, "successes": STAGE["successes"]},
            "import its stage_<n>_lifecycle_metrics.json",
        ),
        ([{"start_time": 1.0, "end_time": 2.0, "info": {}}], "import its stage_<n>_lifecycle_metrics.json"),
        ([{"ttft_s": 0.1, "end_to_end_latency_s": 1.0}], "import the …_summary.json"),
        ([{**INFERENCEX}, {**INFERENCEX, "hw": "b200"}], "runs of 2 deployments"),
        ({"version": "0.9", "scenario": {}, "results": {}}, "of version 0.9; versions 0.1 and 0.2 are read"),
        ({"experiments": [], "version": "1.0"}, "import genai-perf's profile_export_genai_perf.json"),
        ([{"metadata": {"benchmark_phase": "profiling"}, "metrics": {}}], "import profile_export_aiperf.json"),
        ({"avg_latency": 1.0, "latencies": []}, "vllm bench latency"),
        ({"elapsed_time": 1.0, "num_requests": 3, "tokens_per_second": 4.0}, "vllm bench throughput"),
        ({"http_req_duration": {}}, "k6 result"),
        ({"root_group": {}, "metrics": {"http_req_duration": {}}}, "k6 result"),
        ({"engine": {}, "world_info": {}, "request_info": {}, "performance": {}}, "trtllm-bench's report"),
        ({"run_name": "default", "batch_size": 1, "latency": 2.0}, "bench_one_batch"),
        ({"results": [], "config": {}, "summary": {}}, "llm-load-test's output"),
        ([{"method": "POST", "num_requests": 5, "response_times": {}}], "locust result"),
        ([{"n_prompt": 512, "n_gen": 0, "avg_ts": 100.0}], "llama-bench's result"),
        ({"benchmarks": [{"mode": "sweep", "rate": 1.0, "results": []}]}, "GuideLLM 0.2 to 0.8"),
        ({**INFERENCEX, "disagg": True}, "separate prefill and decode workers"),
        ([VLLM, {**VLLM, "model_id": "another/model"}], "runs of 2 models or servers"),
        ({**VLLM, "ramp_up_strategy": "linear", "ramp_up_start_rps": 1, "ramp_up_end_rps": 9}, "many rates"),
        ({**AIPERF, "request_latency": {"avg": 1.0, "unit": "fortnights"}}, "request_latency is in 'fortnights'"),
        ({**AIPERF, "time_to_first_token": {"avg": 1.0}}, "time_to_first_token is in 'none'"),
        ({"answer": 42}, "its keys: answer"),
        ({**AIPERF, "input_config": {"phases": [PHASE, PHASE]}}, "a mean over 2 phases"),
        ({k: v for k, v in AIPERF.items() if k != "time_to_first_token"}, "--streaming"),
    ],
)
def test_what_has_to_be_converted_is_refused_by_name(report: Any, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_report(report)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["poisson", "constant", "gamma"])
def test_an_aiperf_phase_at_a_rate_is_an_open_loop(kind: str) -> None:
    warmup = {"name": "warmup", "kind": "warmup", "type": "concurrency", "concurrency": 2}
    phases = [warmup, {"name": "profiling", "type": kind, "rate": 5.1, "concurrency": 500}]
    point = only({**AIPERF, "input_config": {"phases": phases}})
    assert not point.closed_loop
    assert point.ttft_seconds == pytest.approx(0.21)
    older = only({**AIPERF, "input_config": {"loadgen": {"concurrency": 8}}})
    assert older.closed_loop


@pytest.mark.parametrize(
    ("config", "closed"),
    [
        ({"perf_analyzer": {"stimulus": {"concurrency": 8}}, "model_names": ["m"]}, True),
        ({"perf_analyzer": {"stimulus": {"request_rate": 5.0}}, "model_names": ["m"]}, False),
        ({"service_kind": "openai", "concurrency": None, "request_rate": 5.0}, False),
    ],
)
def test_the_load_of_genai_perf_by_version(config: dict[str, Any], closed: bool) -> None:
    assert only({**GENAI, "input_config": config}).closed_loop == closed


def test_a_csv_of_metrics_says_nothing_about_the_load() -> None:
    test = read_report(parse_report(CSV, "profile_export_genai_perf.csv"))
    (point,) = test.points
    assert test.tool == "genai-perf"
    assert point.requests_per_second == pytest.approx(1.48)
    assert point.ttft_seconds == pytest.approx(1.21)
    assert point.tpot_seconds == pytest.approx(0.030)
    assert (point.input_tokens, point.output_tokens) == (3000.0, 166.0)
    assert any("--load closed" in note for note in test.notes)
    closed = read_report(parse_report(CSV, "x.csv"), kind=LoadKind.CLOSED)
    assert closed.points[0].closed_loop
    assert not closed.notes
    aiperf = CSV.replace("(per sec)", "(requests/sec)").replace("To First", "to First")
    assert read_report(parse_report(aiperf, "x.csv")).tool == "aiperf"


@pytest.mark.parametrize("version", ["0.2", "0.8"])
def test_a_guidellm_run_that_was_cut_by_time(version: str) -> None:
    """A Poisson run of 12 s in which 27 of 56 requests had no answer: TTFT is of those that were lucky."""
    cut = guidellm(version)
    (benchmark,) = cut["benchmarks"]
    place = benchmark["args"] if version == "0.2" else benchmark["config"]
    place["strategy"] = {"type_": "poisson", "rate": 4.6}
    totals = {"successful": 29, "errored": 0, "incomplete": 27}
    if version == "0.2":
        benchmark["run_stats"]["requests_made"] = totals
    else:
        benchmark["metrics"]["request_totals"] = totals
    test = read_report(cut)
    assert test.points[0].ttft_seconds is None
    assert test.points[0].tpot_seconds == pytest.approx(0.03)
    assert "27 of 56 requests were unfinished" in test.notes[0]


def test_units_that_cannot_be_right_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"a TPOT of 0\.03 ms is implausible"):
        read_report(parse_report(LLMD.replace("{units: s, mean: 1.2}", "{units: ms, mean: 211.0}"), "br.yaml"))


def test_several_runs_one_a_line_are_several_points() -> None:
    faster = {**SGLANG, "request_rate": 7.0, "request_throughput": 6.9, "mean_tpot_ms": 35.0}
    text = json.dumps(SGLANG) + "\n" + json.dumps(faster) + "\n"
    points = read_report(parse_report(text, "runs.jsonl")).points
    assert [round(point.tpot_seconds * 1e3) for point in points] == [30, 35]


def test_a_limit_that_is_always_reached_makes_a_closed_loop() -> None:
    bound = {**SGLANG, "request_rate": 50.0, "max_concurrency": 6}
    assert only(bound).closed_loop
    assert only(bound).ttft_seconds is not None


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("{", "a.json", "not JSON"),
        ("{}\n{", "a.jsonl", "not JSON: Extra data"),
        ("", "a.json", "the file is empty"),
        (" \n", "a.csv", "the file is empty"),
        ('{"a": 1}\n' * 10_001, "a.jsonl", "10,001 JSON documents"),
        ("=====\nMLPerf Results Summary\n", "mlperf_log_summary.txt", "MLPerf"),
        ("Running 30s test @ http://x\n", "a.txt", "wrk's output"),
        ("Type,Name,Request Count,Failure Count\n", "a_stats.csv", "locust result"),
        ("<!DOCTYPE html>", "benchmarks.html", "an HTML page"),
        ("a: [", "a.yaml", "not YAML"),
        ("Run Id,Benchmark\n1,2\n", "a.csv", "GuideLLM's CSV"),
        ("x,y\n1,2\n", "a.csv", "not a CSV of aiperf or genai-perf"),
        ('Metric,avg\n"x', "a.csv", "not CSV"),
        ("[" * 100_000, "a.json", "nested too deeply"),
        ("[" * 100_000, "a.yaml", "nested too deeply"),
        ("\n".join(" " * i + "a:" for i in range(900)), "a.yaml", "nested too deeply"),
    ],
)
def test_text_that_is_no_report(text: str, name: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_report(text, name)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_cached_share_is_a_share(share: float) -> None:
    with pytest.raises(InvalidInput, match="cached_share"):
        read_report(STAGE, cached_share=share)


def test_a_tool_that_is_not_known() -> None:
    with pytest.raises(InvalidInput, match="unknown load-test tool 'ab'; known: guidellm"):
        read_report(STAGE, tool="ab")


@pytest.mark.parametrize(
    "report",
    [
        {**SGLANG, "accept_length": 2.7},
        {**VLLM, "spec_decode_acceptance_length": 1.8},
        {**INFERENCEX, "spec_decoding": "mtp"},
    ],
)
def test_speculative_decoding_is_told(report: Any) -> None:
    assert any("speculative decoding" in note for note in read_report(report).notes)


@pytest.mark.parametrize("report", [SGLANG, {**SGLANG, "accept_length": None}, {**INFERENCEX, "spec_decoding": "none"}])
def test_no_speculative_decoding_is_told_where_there_is_none(report: Any) -> None:
    assert not any("speculative" in note for note in read_report(report).notes)


@pytest.mark.parametrize(("unit", "factor"), [("sec", 1e3), ("milliseconds", 1.0), ("µs", 1e-3)])
def test_times_are_read_in_the_unit_that_they_name(unit: str, factor: float) -> None:
    changed = {
        key: {name: value if name in ("unit", "count") else value / factor for name, value in AIPERF[key].items()}
        | {"unit": unit}
        for key in ("request_latency", "time_to_first_token")
    }
    assert only({**AIPERF, **changed}).ttft_seconds == pytest.approx(only(AIPERF).ttft_seconds)
