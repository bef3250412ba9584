from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.calibration.loadtest import (
    aiperf_points,
    guidellm_points,
    inference_perf_points,
    load_test_points,
    vllm_bench_points,
)
from sizing.errors import InvalidInput

#: What tells the flat records of older GuideLLM versions.
FLAT = "Successful Request latency mean"
DATA = Path(__file__).resolve().parents[5] / "shared" / "data" / "sizing"

# Shapes as the tools write them; numbers made for the test.
VLLM = {
    "backend": "vllm",
    "request_rate": "inf",
    "max_concurrency": 16,
    "duration": 100.0,
    "completed": 400,
    "total_input_tokens": 400_000,
    "total_output_tokens": 80_000,
    "request_throughput": 4.0,
    "mean_ttft_ms": 100.0,
    "median_ttft_ms": 90.0,
    "mean_tpot_ms": 10.0,
}
AIPERF = {
    "schema_version": "1.0",
    "input_config": {"loadgen": {"concurrency": 16}},
    "request_throughput": {"unit": "requests/sec", "avg": 4.0},
    "input_sequence_length": {"unit": "tokens", "avg": 1000.0},
    "output_sequence_length": {"unit": "tokens", "avg": 200.0},
    "time_to_first_token": {"unit": "ms", "avg": 100.0, "p50": 90.0},
    "inter_token_latency": {"unit": "ms", "avg": 10.0},
    "request_latency": {"unit": "ms", "avg": 2090.0, "p50": 2080.0},
}
INFERENCE_PERF = {
    "load_summary": {"requested_rate": 4.0},
    "successes": {
        "count": 400,
        "latency": {
            "request_latency": {"mean": 2.09, "median": 2.08},
            "time_to_first_token": {"mean": 0.1, "median": 0.09},
            "time_per_output_token": {"mean": 0.005},
        },
        "throughput": {"requests_per_sec": 4.0},
        "prompt_len": {"mean": 1000.0},
        "output_len": {"mean": 200.0},
    },
}


def statistics(mean: float, median: float | None = None) -> dict[str, Any]:
    return {"successful": {"mean": mean, "median": mean if median is None else median}}


GUIDELLM = {
    "metadata": {"version": 2},
    "benchmarks": [
        {
            "config": {"strategy": {"type_": "concurrent"}},
            "metrics": {
                "requests_per_second": statistics(4.0),
                "request_concurrency": statistics(8.4),
                "request_latency": statistics(2.09),
                "prompt_token_count": statistics(1000.0),
                "output_token_count": statistics(200.0),
                "time_to_first_token_ms": statistics(100.0, 90.0),
            },
        }
    ],
}
REPORTS = {"vllm": VLLM, "aiperf": AIPERF, "inference-perf": INFERENCE_PERF, "guidellm": GUIDELLM}


@pytest.mark.parametrize("name", REPORTS)
def test_the_same_run_reads_the_same_from_every_tool(name: str) -> None:
    (point,) = load_test_points(REPORTS[name])
    assert point.input_tokens == 1000
    assert point.output_tokens == 200
    assert point.ttft_seconds == pytest.approx(0.1)
    assert point.tpot_seconds == pytest.approx(0.01)
    assert point.requests_per_second == pytest.approx(4.0)
    assert point.concurrency == pytest.approx(4.0 * 2.09)
    assert point.closed_loop == (name != "inference-perf")
    (half,) = load_test_points(REPORTS[name], replicas=2)
    assert half.requests_per_second == pytest.approx(2.0)
    assert half.concurrency == pytest.approx(2.0 * 2.09)


def test_open_loops_are_told_from_closed_ones() -> None:
    assert not load_test_points({**VLLM, "request_rate": 4.0})[0].closed_loop
    assert load_test_points({**VLLM, "request_rate": math.inf})[0].closed_loop
    rated = {**AIPERF, "input_config": {"loadgen": {"concurrency": 16, "request_rate": 4.0}}}
    assert not load_test_points(rated)[0].closed_loop


def test_a_mean_that_cannot_be_gives_way_to_the_median() -> None:
    """One request without a first-token time stamp makes GuideLLM's mean TTFT minus the Unix time."""
    spoilt = copy.deepcopy(GUIDELLM)
    spoilt["benchmarks"][0]["metrics"]["time_to_first_token_ms"] = statistics(-1e8, 90.0)  # type: ignore[index]
    (point,) = load_test_points(spoilt)
    assert point.ttft_seconds == pytest.approx(0.09)
    assert point.tpot_seconds == pytest.approx(2.0 / 199)


def test_a_stage_without_successes_is_left_out() -> None:
    mixed = copy.deepcopy(GUIDELLM)
    mixed["benchmarks"].append({"metrics": {"request_latency": {"successful": None}}})  # type: ignore[attr-defined]
    assert len(load_test_points(mixed)) == 1
    with pytest.raises(InvalidInput, match="no usable measurement in the inference-perf report"):
        load_test_points({"load_summary": {"requested_rate": 2.0}, "successes": {"count": 0, "latency": None}})


@pytest.mark.parametrize(
    "read", [load_test_points, guidellm_points, aiperf_points, inference_perf_points, vllm_bench_points]
)
@pytest.mark.parametrize(
    "report", [None, [], {}, "text", 3, {"benchmarks": None}, {"benchmarks": "x"}, [3], [{}], [{FLAT: None}, 5]]
)
def test_what_is_no_report(read: Any, report: object) -> None:
    with pytest.raises(InvalidInput):
        read(report)


def test_an_overloaded_open_loop_says_nothing_about_first_tokens() -> None:
    """300 requests at 5/s take 60 s to send; served at 4/s the last one waits 15 s, and the mean one 7.5 s."""
    late: dict[str, Any] = copy.deepcopy(INFERENCE_PERF)
    late["load_summary"] = {"requested_rate": 5.0, "send_duration": 60.0}
    late["successes"]["count"] = 300
    late["successes"]["latency"]["time_to_first_token"] = {"mean": 7.6, "median": 7.6, "p10": 1.6, "p90": 13.6}
    late["successes"]["latency"]["request_latency"] = {"mean": 9.59, "median": 9.58}
    (point,) = load_test_points(late)
    assert point.ttft_seconds is None
    assert point.tpot_seconds == pytest.approx(0.01)
    (closed,) = load_test_points({**VLLM, "duration": 100.0})
    assert closed.ttft_seconds is not None


def test_a_short_test_that_was_served_whole_is_settled() -> None:
    """The completed rate is over sending and the tail: 24 requests at 2/s, sent in 12 s, done after 14.7 s."""
    short: dict[str, Any] = copy.deepcopy(INFERENCE_PERF)
    short["load_summary"] = {"requested_rate": 2.0, "send_duration": 12.0}
    short["successes"] |= {"count": 24, "throughput": {"requests_per_sec": 24 / 14.7}}
    (point,) = load_test_points(short)
    assert point.ttft_seconds == pytest.approx(0.1)
    # What was sent while requests were sent is the load, not the average with the tail.
    assert point.requests_per_second == pytest.approx(2.0)


def test_the_flat_records_of_older_guidellm() -> None:
    def record(name: str, rate: float) -> dict[str, Any]:
        return {
            "Name": name,
            "Duration": 100.0,
            FLAT: 2.09,
            "Successful Request latency median": 2.09,
            "Successful Requests per second mean": rate,
            "Successful Prompt token count mean": 1000.0,
            "Successful Output token count mean": 200.0,
            "Successful Time to first token ms mean": -1e8,
            "Successful Time to first token ms median": 100.0,
        }

    records = [record("synchronous", 0.5), record("constant@4.00", 3.95), record("constant@8.00", 4.1)]
    points = load_test_points(records)
    assert points == guidellm_points(records)
    assert [point.closed_loop for point in points] == [True, False, False]
    assert [point.ttft_seconds for point in points] == [pytest.approx(0.1), pytest.approx(0.1), None]
    with pytest.raises(InvalidInput, match="not a vllm"):
        vllm_bench_points(records)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["mean", "avg", "unit", "x"]), inner),
    max_leaves=6,
)


@given(st.sampled_from(sorted(REPORTS)), st.data())
def test_a_damaged_report_is_refused_or_still_makes_sense(name: str, data: st.DataObject) -> None:
    report = copy.deepcopy(REPORTS[name])
    node: Any = report
    while True:
        key = data.draw(st.sampled_from(sorted(node)) if isinstance(node, dict) else st.just(0))
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        node = inner
    node[key] = data.draw(junk)
    try:
        points = load_test_points(report)
    except InvalidInput:
        return
    for point in points:
        assert 0 < point.tpot_seconds < math.inf
        assert 0 < point.input_tokens < 1e8


def test_real_reports() -> None:
    guidellm = DATA / "formats" / "guidellm_report_v2_sample.json"
    stages = DATA / "inference_perf_kubecon" / "vllm" / "results"
    if not guidellm.exists() or not stages.exists():
        pytest.skip("the measured data sets are not beside this checkout")
    points = load_test_points(json.loads(guidellm.read_text()))
    assert [round(point.input_tokens, 1) for point in points] == [71.5, 65.5]
    assert not points[0].closed_loop
    old = load_test_points(json.loads((DATA / "inferno_guidellm" / "guidellm_sample_exp1.json").read_text()))
    assert [point.closed_loop for point in old] == [True, True, *[False] * 8]
    assert old[0].tpot_seconds == pytest.approx(6.68e-3, rel=1e-3)
    (late,) = load_test_points(json.loads((stages / "stage_6_lifecycle_metrics.json").read_text()))
    assert late.ttft_seconds is None
    (stage,) = load_test_points(json.loads((stages / "stage_0_lifecycle_metrics.json").read_text()))
    # The report's own time_per_output_token is 3.5 ms here, half of (E2E - TTFT) / (output - 1).
    assert stage.tpot_seconds == pytest.approx(7.23e-3, rel=1e-3)
