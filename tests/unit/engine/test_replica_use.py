"""Replica-hours by span: what is counted, what is left out, and that a restart changes nothing."""

import pickle

import pytest

from pipeline.engine.replica_use import ReplicaUseRecord
from pipeline.testing import closed_window
from pipeline.windows.types import PoolKey
from sizing.types import Confidence, Reason, Recommendation, RecommendationState

START = 1_700_006_400 // 86_400 * 86_400
CAPACITY = {"capacity_requests_per_second_per_replica": 2.0}


def advice(desired, current, evidence=None):
    return Recommendation(
        recommendation_id="m|p|1",
        model="m",
        pool="p",
        generation=1,
        issued_at=0.0,
        expires_at=300.0,
        horizon_seconds=60.0,
        accelerator="H100",
        accelerators_per_replica=1,
        desired=desired,
        lower=desired,
        upper=desired,
        min_replicas=1,
        max_replicas=64,
        current=current,
        direction="hold",
        reason=Reason.WITHIN_BAND,
        message="",
        constraint=None,
        clamped_by=(),
        state=RecommendationState.FRESH,
        confidence=Confidence.CALIBRATED,
        confidence_ratio=1.0,
        evidence=CAPACITY if evidence is None else evidence,
        config_hash="",
    )


def minute(number, requests=60, gap=False):
    return closed_window(
        START + 60 * number, requests, model="m", pool="p", input_tokens=100, output_tokens=10, gap=gap
    )


def test_what_was_advised_and_what_ran_are_counted_apart():
    record = ReplicaUseRecord(PoolKey("m", "p"))
    record.step(minute(0), None)  # no advice
    record.step(minute(1), advice(2, 2, {}))  # not known yet what a replica carries
    record.step(minute(2), advice(2, 3))
    record.step(minute(3, gap=True), advice(9, 9))  # its demand is not known
    record.step(minute(4), advice(4, None))  # the fleet did not report
    record.step(minute(5), advice(2, 3, {}))  # a plan of before stands
    record = pickle.loads(pickle.dumps(record))
    hour, day, month = record.told(START + 360)
    assert (hour.span, day.span, month.span) == ("1h", "1d", "30d")
    assert hour.advised.hours == pytest.approx(3 / 60)
    assert hour.advised.replica_hours == pytest.approx(8 / 60)
    assert hour.advised.capacity_requests == pytest.approx(8 * 60 * 2.0)
    assert (hour.advised.requests, hour.advised.input_tokens) == (180, 3 * minute(0).input_tokens)
    assert hour.ran is not None
    assert hour.ran.replica_hours == pytest.approx(6 / 60)
    assert hour.ran.requests == 120
    assert hour.advised_while_ran_replica_hours == pytest.approx(4 / 60)
    assert (hour.peak_replicas, month.peak_replicas) == (None, 4)


def test_a_peak_is_forgotten_after_thirty_days():
    record = ReplicaUseRecord(PoolKey("m", "p"))
    record.step(minute(0), advice(9, 9))
    record.step(minute(30 * 1440 - 1), advice(2, 2))
    assert record.told(START + 30 * 86_400)[-1].peak_replicas == 9
    record.step(minute(31 * 1440), advice(2, 2))
    assert record.told(START + 31 * 86_400 + 60)[-1].peak_replicas == 2
