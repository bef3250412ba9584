from __future__ import annotations

import json

import pytest

from sizing.calibration.table import OUTPUT_COLUMNS, predict_point
from sizing.errors import DoesNotFit, InvalidInput
from sizing.report import render_text, size_report
from sizing.types import Constraint, Deployment, PolicyConfig, Slo, Workload

ROW = {"id": "a", "model": "llama-3.1-8b", "gpu": "h100", "isl": "1024", "osl": "256", "concurrency": "32"}


def test_a_report_is_json_and_adds_up() -> None:
    report = size_report(Deployment("llama-3.3-70b", "h100", tensor_parallel=4), Workload(2000, 300), Slo(), 30.0)
    assert report.replicas is not None
    assert report.gpus == report.replicas * 4
    point = report.operating_point
    assert (report.replicas - 1) * point.requests_per_second < 30.0 <= report.replicas * point.requests_per_second
    memory = report.memory
    assert memory.weight_bytes + memory.reserve_bytes + memory.kv_budget_bytes == pytest.approx(memory.usable_bytes)
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["binding"] == point.constraint.value
    rates = [load.requests_per_second for load in report.curve]
    assert rates == sorted(rates)


def test_the_text_says_everything() -> None:
    report = size_report(
        Deployment("deepseek-v3", "h200", tensor_parallel=8, precision="fp8"), Workload(2000, 500), Slo(), 9
    )
    text = render_text(report)
    for part in ("671.0 B", "70,272 bytes per token", "TTFT ≤ 1 s, TPOT ≤ 50 ms at p95", "9 req/s needs", "Sources"):
        assert part in text
    without = render_text(size_report(Deployment("qwen3-8b", "a100"), Workload(100, 100), Slo(None, None), None))
    assert "needs" not in without.split("Assumptions")[0]
    assert "objective             none" in without


def test_limits_of_the_policy_show() -> None:
    report = size_report(
        Deployment("llama-3.1-8b", "h100"), Workload(100, 100), Slo(), 1.0, PolicyConfig(min_replicas=3)
    )
    assert (report.replicas, report.binding) == (3, Constraint.MIN_REPLICAS)


def test_reports_that_cannot_be() -> None:
    with pytest.raises(DoesNotFit):
        size_report(Deployment("llama-3.3-70b", "h100"), Workload(2000, 300), Slo(), 30.0)
    with pytest.raises(InvalidInput):
        size_report(Deployment("llama-3.1-8b", "h100"), Workload(2000, 300), Slo(), float("nan"))


def test_points_at_a_concurrency_and_at_a_rate() -> None:
    closed = predict_point(ROW)
    assert tuple(closed) == OUTPUT_COLUMNS
    assert closed["error"] is None
    assert closed["fits"] is True
    assert closed["tpot_ms_lower"] < closed["tpot_ms_p50"] <= closed["tpot_ms_p95"] < closed["tpot_ms_upper"]
    # Little's law: clients = rate · (TTFT + decode)
    cycle = closed["ttft_ms_p50"] / 1e3 + 256 * closed["tpot_ms_p50"] / 1e3
    assert closed["tokens_per_second"] / 256 * cycle == pytest.approx(32, rel=0.01)
    opened = predict_point({**ROW, "concurrency": "", "request_rate": closed["tokens_per_second"] / 256})
    assert opened["tokens_per_second"] == pytest.approx(closed["tokens_per_second"])
    assert opened["tpot_ms_p50"] == pytest.approx(closed["tpot_ms_p50"], rel=1e-3)


def test_more_clients_than_places_wait() -> None:
    full = predict_point({**ROW, "concurrency": 5000})
    assert full["limit"] == "kv_memory"
    assert full["ttft_ms_p50"] > 10_000


def test_a_configuration_as_the_model() -> None:
    config = {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
    }
    mine, known = predict_point({**ROW, "model": config}), predict_point(ROW)
    assert mine["tpot_ms_p50"] == pytest.approx(known["tpot_ms_p50"])
    assert (mine["confidence"], known["confidence"]) == ("extrapolated", "interpolated")


@pytest.mark.parametrize(
    "change",
    [
        {"model": ""},
        {"model": "nothing"},
        {"gpu": None},
        {"gpu": "x" * 10_000},
        {"isl": "many"},
        {"isl": "-5"},
        {"osl": "nan"},
        {"osl": "1e30"},
        {"tp": "1.5"},
        {"tp": "0"},
        {"dp": "99999999"},
        {"precision": "fp99"},
        {"concurrency": ""},
        {"concurrency": "0"},
        {"concurrency": "", "request_rate": "100000"},
        {"isl": "5000000"},
        {"model": {"num_hidden_layers": "x"}},
        {"model": 7},
        {"gpus_per_node": "-1"},
    ],
)
def test_rows_that_cannot_be_carry_their_error(change: dict[str, object]) -> None:
    result = predict_point({**ROW, **change})
    assert isinstance(result["error"], str)
    assert len(result["error"]) < 400
    assert result["ttft_ms_p50"] is None
    assert result["confidence"] == "refused"
    assert result["id"] == "a"


def test_a_row_that_does_not_fit_says_so() -> None:
    result = predict_point({**ROW, "model": "llama-3.3-70b"})
    assert (result["fits"], result["limit"]) == (False, "kv_memory")
    assert "GiB" in result["error"]
