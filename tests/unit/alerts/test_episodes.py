from dataclasses import replace

from pipeline.alerts.episodes import Condition, Episode
from pipeline.alerts.types import AlertKind
from pipeline.windows.types import PoolKey


def condition(severity="warning"):
    return Condition(onset_at=100.0, severity=severity, ratio=2.0, probability=None, message="up")


def episode():
    return Episode(PoolKey("m", "p"), AlertKind.SPIKE_OBSERVED, calm_steps=3)


def test_told_once_at_the_start_and_once_at_the_end():
    e = episode()
    told = [e.step(60.0 * i, c) for i, c in enumerate([None, condition(), condition(), None, None, None, None])]
    assert [bool(t) for t in told] == [False, True, False, False, False, True, False]
    assert told[1].ended_at is None
    assert told[5].ended_at == 300.0
    assert told[5].alert_id == told[1].alert_id


def test_a_wavering_value_is_one_episode():
    e = episode()
    told = [e.step(60.0 * i, condition() if i % 2 else None) for i in range(20)]
    assert sum(t is not None for t in told) == 1


def test_told_again_only_when_it_worsens():
    e = episode()
    first = e.step(0.0, condition())
    worse = e.step(60.0, condition("critical"))
    assert worse.alert_id == first.alert_id
    assert worse.severity == "critical"
    assert e.step(120.0, condition("warning")) is None


def test_the_next_episode_has_its_own_id():
    e = episode()
    first = e.step(0.0, condition())
    for i in range(3):
        e.step(60.0 * (i + 1), None)
    assert e.step(600.0, condition()).alert_id != first.alert_id


def test_the_end_carries_the_peak_and_its_time():
    e = episode()
    ratios = [1.5, 3.25, 2.0]
    for i, ratio in enumerate(ratios):
        e.step(60.0 * i, Condition(onset_at=0.0, severity="warning", ratio=ratio, probability=None, message="up"))
    told = [e.step(180.0 + 60.0 * i, None) for i in range(3)]
    assert told[:2] == [None, None]
    assert told[2].ratio == 3.25
    assert told[2].message == "up; peak 3.25 at 00:01 UTC; over"
    assert told[2].raised_at == 0.0
    assert told[2].ended_at == 300.0


def test_a_condition_without_a_ratio_ends_as_it_began():
    e = episode()
    e.step(0.0, Condition(onset_at=0.0, severity="warning", ratio=None, probability=None, message="missing"))
    told = [e.step(60.0 * (i + 1), None) for i in range(3)]
    assert told[2].ratio is None
    assert told[2].message == "missing"


def test_told_again_when_much_worse_whatever_the_severity():
    e = episode()
    first = e.step(0.0, condition("critical"))
    worse = replace(condition("warning"), ratio=9.0, message="up again", worse=True)
    again = e.step(60.0, worse)
    assert (again.alert_id, again.severity, again.ratio) == (first.alert_id, "critical", 9.0)
    assert again.message == "up again"
    assert e.step(120.0, replace(worse, worse=False)) is None
