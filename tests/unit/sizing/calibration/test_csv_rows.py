from __future__ import annotations

import pytest

from sizing.calibration.csv_rows import OBSERVATION_COLUMNS, calibration_for, observation_row, review
from sizing.calibration.measurement import ObservedPoint
from sizing.calibration.table import calibrations, observed_point, predict_point
from sizing.errors import InvalidInput
from sizing.replica.memory import resolve
from sizing.types import Deployment

DEPLOYMENT = Deployment("llama-3.1-8b", "h100", precision="fp8", kv_precision="fp8")
OPEN = ObservedPoint(1000, 200, 0.01, 0.1, requests_per_second=4.0, concurrency=8.4)
CLOSED = ObservedPoint(1000, 200, 0.01, None, requests_per_second=4.0, concurrency=16.0, closed_loop=True)


def test_a_row_reads_back_as_the_point_with_the_load_that_was_held() -> None:
    row = observation_row(DEPLOYMENT, OPEN, "a", "run.json")
    assert tuple(row) == OBSERVATION_COLUMNS
    again = observed_point(row)
    assert (again.requests_per_second, again.concurrency, again.closed_loop) == (4.0, None, False)
    assert (again.tpot_seconds, again.ttft_seconds) == (pytest.approx(0.01), pytest.approx(0.1))
    closed = observed_point(observation_row(DEPLOYMENT, CLOSED, "b", "run.json"))
    assert (closed.requests_per_second, closed.concurrency, closed.closed_loop) == (None, 16.0, True)
    assert closed.ttft_seconds is None


def test_a_deployment_finds_its_own_measurements_whatever_its_scheduler_limits() -> None:
    learned = calibrations([observation_row(DEPLOYMENT, OPEN, "a", "x")])
    same = resolve(
        Deployment("meta-llama/llama-3.1-8b", "H100-SXM", precision="FP8", kv_precision="fp8", max_num_seqs=9)
    )
    assert calibration_for(same, learned) is not None
    for other in (Deployment("llama-3.1-8b", "h100"), Deployment("llama-3.1-8b", "h200", precision="fp8")):
        assert calibration_for(resolve(other), learned) is None


def slow_rows() -> list[dict[str, object]]:
    """Measurements of a deployment that takes 1.3 times as long as predicted."""
    rows = []
    for rate in (2.0, 6.0, 10.0):
        asked = {"model": "llama-3.1-8b", "gpu": "h100", "isl": 1000, "osl": 200, "request_rate": rate}
        predicted = predict_point(asked)
        rows.append(asked | {"id": str(rate), "tpot_ms": predicted["tpot_ms_p50"] * 1.3, "ttft_ms": ""})
    return rows


def test_a_review_leaves_each_row_out_of_what_is_learned() -> None:
    (group,) = review(slow_rows()).values()
    for found in group:
        assert found.tpot_ms == pytest.approx(1.3 * found.before_tpot_ms)
        assert abs(found.left_out_tpot_ms / found.tpot_ms - 1) < 0.15
        assert found.ttft_ms is None
    (alone,) = review(slow_rows()[:1]).values()
    assert alone[0].left_out_tpot_ms is None


def test_two_deployments_are_reviewed_apart() -> None:
    rows = slow_rows()
    rows[1] |= {"gpu": "h200"}
    groups = review(rows)
    assert [len(group) for group in groups.values()] == [2, 1]


def test_points_that_cannot_be() -> None:
    with pytest.raises(InvalidInput):
        observation_row(DEPLOYMENT, ObservedPoint(1000, 200, -0.01, requests_per_second=1.0), "a", "x")
    with pytest.raises(InvalidInput, match="observed row"):
        review([{"model": "llama-3.1-8b", "gpu": "h100", "isl": 1, "osl": 1, "request_rate": 1, "tpot_ms": "x"}])
