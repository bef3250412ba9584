"""Reports whose figures contradict each other: converted where one unit explains it, refused otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sizing.calibration.loadtests import read_report
from sizing.calibration.loadtests.cross_checks import checked
from sizing.calibration.loadtests.text import parse_report
from sizing.calibration.loadtests.types import LoadKind, Stage
from sizing.errors import InvalidInput

#: 8 clients, 2 requests/s for 100 s; 0.4 s to the first token, 200 tokens at 18 ms.
SOUND = Stage(
    "the run",
    input_tokens=1000.0,
    output_tokens=200.0,
    e2e_seconds=(4.0, 3.9),
    ttft_seconds=(0.4, 0.35),
    tpot_seconds=0.018,
    rate=2.0,
    kind=LoadKind.CLOSED,
    concurrency_limit=8.0,
    completed=200.0,
    duration_seconds=100.0,
    ttft_quantiles=((0.9, 0.6),),
    ttft_deviation_seconds=0.1,
)
VLLM = {
    "total_input_tokens": 200_000,
    "total_output_tokens": 40_000,
    "completed": 200,
    "duration": 100.0,
    "request_throughput": 2.0,
    "request_rate": "inf",
    "max_concurrency": 8,
    "mean_ttft_ms": 400.0,
    "median_ttft_ms": 350.0,
    "mean_tpot_ms": 18.0,
    "mean_e2el_ms": 4000.0,
}
AIPERF = {
    "schema_version": "1.4",
    "input_config": {"loadgen": {"concurrency": 8}},
    "request_throughput": {"unit": "requests/sec", "avg": 2.0},
    "request_latency": {"unit": "ms", "avg": 4000.0},
    "request_count": {"unit": "requests", "avg": 200.0},
    "time_to_first_token": {"unit": "ms", "avg": 400.0},
    "input_sequence_length": {"avg": 1000.0},
    "output_sequence_length": {"avg": 200.0},
    "benchmark_duration": {"unit": "sec", "avg": 100.0},
}
INFERENCEX = {
    "hw": "h200",
    "conc": 32,
    "model": "m",
    "framework": "vllm",
    "isl": 1024,
    "osl": 1024,
    "tp": 4,
    "output_tput_per_gpu": 500.0,
    "median_ttft": 0.3,
    "median_tpot": 0.0155,
    "median_intvty": 64.5,
    "median_e2el": 16.2,
}


def read(report: Any) -> tuple[float | None, float, float | None, tuple[str, ...]]:
    test = read_report(report)
    (point,) = test.points
    return point.ttft_seconds, point.tpot_seconds, point.requests_per_second, test.notes


def test_what_agrees_is_left_as_it_is() -> None:
    assert checked(SOUND) == (SOUND, ())
    assert checked(replace(SOUND, completed=150.0, failed=50.0)) == (replace(SOUND, completed=150.0, failed=50.0), ())
    assert read(VLLM) == (0.4, pytest.approx(0.018), 2.0, ())
    assert read(INFERENCEX) == (0.3, 0.0155, None, ())


def test_a_rate_per_minute_is_told_by_its_requests_and_its_unit() -> None:
    stage, (note,) = checked(replace(SOUND, rate=120.0))
    assert stage.rate == 2.0
    assert note == "the run: the rate of 120 is read as per minute: 200 requests were completed in 100 s"
    fast = {**AIPERF, "request_throughput": {"unit": "requests/min", "avg": 120.0}}
    assert read(AIPERF)[2:] == read(fast)[2:] == (2.0, ())
    unmarked = {**AIPERF, "request_throughput": {"unit": "requests/sec", "avg": 120.0}}
    assert read(unmarked)[2] == 2.0
    assert "read as per minute" in read(unmarked)[3][0]
    with pytest.raises(InvalidInput, match="request_throughput is in 'requests/week'"):
        read({**AIPERF, "request_throughput": {"unit": "requests/week", "avg": 1.0}})


@pytest.mark.parametrize("rate", [0.2, 9.0, 2000.0])
def test_a_rate_that_no_unit_explains_is_refused(rate: float) -> None:
    with pytest.raises(InvalidInput, match=r"but 200 were completed; are its units right\?"):
        checked(replace(SOUND, rate=rate))


def test_seconds_under_the_name_of_milliseconds_are_told_by_what_e2e_leaves() -> None:
    odd = {**VLLM, "mean_ttft_ms": 0.4, "median_ttft_ms": 0.35}
    ttft, tpot, _, notes = read(odd)
    assert (ttft, tpot) == (pytest.approx(0.4), pytest.approx(0.018))
    assert notes == ("the run: TTFT is read as 0.4 s, not ms: the end-to-end latency leaves 0.418 s beside the output",)
    stage, _ = checked(
        replace(SOUND, ttft_seconds=(4e-4, 3.5e-4), ttft_quantiles=((0.9, 6e-4),), ttft_deviation_seconds=1e-4)
    )
    assert stage.ttft_quantiles == ((0.9, pytest.approx(0.6)),)
    assert stage.ttft_deviation_seconds == pytest.approx(0.1)
    without = {name: value for name, value in odd.items() if name != "mean_e2el_ms"}
    ttft, _, _, (note,) = read(without)
    assert ttft == pytest.approx(0.4)
    assert "the requests in flight leave 0.418 s beside the output" in note


def test_a_first_token_sooner_than_any_network_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"a TTFT of 0\.1 ms is implausible"):
        checked(replace(SOUND, ttft_seconds=(1e-4, None)))
    quick = replace(SOUND, ttft_seconds=(0.004, None), e2e_seconds=(3.6, None))
    assert checked(quick) == (quick, ()), "4 ms is what a small model takes, and E2E leaves no more"


def test_latencies_in_milliseconds_are_told_by_the_requests_in_flight() -> None:
    slow = replace(SOUND, e2e_seconds=(4e3, 3.9e3), ttft_seconds=(400.0, 350.0), tpot_seconds=18.0)
    stage, (note,) = checked(slow)
    assert (stage.ttft_seconds, stage.tpot_seconds) == ((pytest.approx(0.4), pytest.approx(0.35)), pytest.approx(0.018))
    assert "8000 requests would have been in flight, and 8 were at most" in note
    with pytest.raises(InvalidInput, match=r"are 80 in flight, but 8 were at most"):
        checked(replace(SOUND, e2e_seconds=(40.0, None), ttft_seconds=(4.0, None), tpot_seconds=0.18))


def test_an_end_to_end_latency_that_its_parts_contradict_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"take 3\.98 s, but the end-to-end latency is 0\.04 s"):
        checked(replace(SOUND, e2e_seconds=(0.04, None)))


@pytest.mark.parametrize("missing", [(), ("median_intvty",), ("output_tput_per_gpu",)])
def test_inferencex_in_milliseconds(missing: tuple[str, ...]) -> None:
    odd = {**INFERENCEX, "median_ttft": 300.0, "median_tpot": 15.5, "median_e2el": 16_200.0}
    for name in missing:
        del odd[name]
    ttft, tpot, _, (note,) = read(odd)
    assert (ttft, tpot) == (pytest.approx(0.3), pytest.approx(0.0155))
    assert "read as milliseconds" in note


def test_inferencex_that_says_nothing_else_is_refused() -> None:
    odd = {**INFERENCEX, "median_ttft": 300.0, "median_tpot": 15.5, "median_e2el": 16_200.0}
    with pytest.raises(InvalidInput, match=r"a TPOT of 15\.5 s is implausible"):
        read({k: v for k, v in odd.items() if k not in ("median_intvty", "output_tput_per_gpu")})


CSV = """Metric,avg,p50
Time to First Token (ms),"1,146.31",640.07
Request Latency (ms),"6,406.20","5,690.23"
Output Sequence Length (tokens),174.45,174.00
Input Sequence Length (tokens),"3,000.05","3,000.00"

Metric,Value
Request Throughput (requests/sec),0.90
"""


def test_decimal_commas_are_read_as_such() -> None:
    german = CSV.translate(str.maketrans({",": ";", '"': None})).replace("1;146.31", "1.146,31")
    german = german.replace("6;406.20;5;690.23", "6.406,20;5.690,23").replace("3;000.05;3;000.00", "3.000,05;3.000,00")
    for value in ("640.07", "174.45", "174.00", "0.90"):
        german = german.replace(value, value.replace(".", ","))
    expected = read(parse_report(CSV, "x.csv"))
    assert expected[0] == pytest.approx(1.14631)
    assert read(parse_report(german, "x.csv")) == expected
    with pytest.raises(InvalidInput, match=r"'1,146\.31' has a decimal point and '174,45' a decimal comma"):
        parse_report(CSV.replace("174.45", '"174,45"'), "x.csv")


def test_whole_numbers_with_thousands_are_no_fractions() -> None:
    found = parse_report('Metric,avg\nRequest Latency (ms),"6,406"\nTime to First Token (ms),812\n', "x.csv")
    assert found["request_latency"]["avg"] == 6406.0


def test_a_refused_run_leaves_the_others() -> None:
    good, bad = VLLM, {**VLLM, "request_throughput": 20.0}
    test = read_report(parse_report(json.dumps(good) + "\n" + json.dumps(bad) + "\n", "runs.jsonl"))
    assert len(test.points) == 1
    assert test.notes[-1].startswith(
        "left out: run 2: 20 requests/s for 100 s are 2000 requests, but 200 were completed"
    )
