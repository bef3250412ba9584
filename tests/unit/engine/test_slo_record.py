"""Attainment of the latency objective over spans, against a plain sum."""

from __future__ import annotations

import pickle
import random

import pytest

from pipeline.engine.slo_record import SPANS, SloRecord
from pipeline.testing import closed_window
from pipeline.windows.service import Service, ServiceCounts

START = 1_700_006_400 // 86_400 * 86_400


def test_attainment_is_that_of_the_requests_of_the_span() -> None:
    draws, subject, all_counts = random.Random(1), SloRecord(), []
    for minute in range(3 * 1440 + 30):
        start = START + 60 * minute
        met, missed, unknown = draws.randrange(90, 100), draws.randrange(10), draws.randrange(5)
        gap = minute % 50 == 7
        counts = ServiceCounts(met, missed, 0, 0, unknown, 0, 0)
        subject.learn(closed_window(start, 100, gap=gap, service=Service(counts=counts)))
        if not gap:
            all_counts.append((start, met, met + missed))
        if minute == 2_000:
            subject = pickle.loads(pickle.dumps(subject))
    end = START + 60 * (3 * 1440 + 30)
    told = subject.attainment(end)
    for name, seconds in SPANS.items():
        grain = 60 if seconds <= 3_600 else 3_600 if seconds <= 259_200 else 86_400
        within = [c for c in all_counts if c[0] // grain * grain >= end - seconds]
        assert told[name] == sum(met for _, met, _ in within) / sum(judged for *_, judged in within)
    assert len(subject._sums) <= 61 + 73 + 31
    assert subject.attainment(end + 7_200).keys() == {"6h", "1d", "3d", "30d"}


def test_what_judged_nothing_says_nothing() -> None:
    subject = SloRecord()
    subject.learn(closed_window(START, 10))
    subject.learn(closed_window(START + 60, 10, service=Service(counts=ServiceCounts(0, 0, 0, 0, 10, 0, 0))))
    assert subject.attainment(START + 120) == {}
    assert subject.shortfall(START + 120, 0.95) == 1.0


@pytest.mark.parametrize(
    ("met", "told"), [(1000, 0.0), (980, 0.0), (975, 0.0), (965, 0.4), (950, 1.0), (600, 1.0), (0, 1.0)]
)
def test_the_shortfall_is_none_at_half_of_what_may_miss_and_whole_at_the_percentile(met: int, told: float) -> None:
    subject = SloRecord()
    subject.learn(closed_window(START, 1000, service=Service(counts=ServiceCounts(met, 1000 - met, 0, 0, 0, 0, 0))))
    assert subject.shortfall(START + 60, 0.95) == pytest.approx(told)


def test_the_shortfall_forgets_what_was_missed_longer_ago_than_six_hours() -> None:
    subject = SloRecord()
    for minute, met in ((0, 500), (1, 500), (600, 1000), (601, 1000)):
        counts = ServiceCounts(met, 1000 - met, 0, 0, 0, 0, 0)
        subject.learn(closed_window(START + 60 * minute, 1000, service=Service(counts=counts)))
    assert subject.shortfall(START + 120, 0.95) == 1.0
    assert subject.shortfall(START + 60 * 602, 0.95) == 0.0
