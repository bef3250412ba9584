"""Marks of alerts in the engine: they move the threshold, change no forecast, and a restart takes them along."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.alerts.feedback import feedback_record
from pipeline.alerts.types import AlertKind
from pipeline.config.settings import load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.forecast.calendar.effects import to_fields
from pipeline.forecast.calendar.known import CalendarChange
from pipeline.stream.controller.calendar_topic import CalendarBook
from pipeline.testing import closed_window

START = 1_700_000_040


def course():
    random = np.random.default_rng(2)
    rates = [10.0] * 60 + [30.0] * 3 + [10.0] * 20
    return [
        StepInput(START + 60 * (at + 1), (closed_window(START + 60 * at, int(random.poisson(60 * rate))),))
        for at, rate in enumerate(rates)
    ]


def marked(inputs, at, alert_id, verdict):
    record = feedback_record(alert_id, verdict, float(inputs[at].as_of))
    return [*inputs[:at], replace(inputs[at], calendar=(CalendarChange(record),)), *inputs[at + 1 :]]


def thresholds(advisor):
    (pool,) = advisor._pools.values()
    return [detector._budget.threshold for detector in pool._spikes._watch._detectors.values()]


@pytest.mark.slow
def test_a_mark_moves_the_threshold_alone_and_a_restart_changes_nothing():
    inputs = course()
    plain = Advisor(load())
    said = [plain.step(each) for each in inputs]
    (alert_id,) = {a.alert_id for o in said for a in o.alerts if a.kind is AlertKind.SPIKE_OBSERVED}
    found = {}
    for verdict in ("false", "useful"):
        course_of = marked(inputs, 75, alert_id, verdict)
        advisor = Advisor(load())
        outputs = [advisor.step(each) for each in course_of[:76]]
        advisor = Advisor.restore(load(), advisor.snapshot())
        outputs += [advisor.step(each) for each in course_of[76:]]
        found[verdict] = thresholds(advisor)
        assert [o.forecasts for o in outputs] == [o.forecasts for o in said]
        whole = Advisor(load())
        assert [whole.step(each) for each in course_of] == outputs
        assert thresholds(whole) == found[verdict]
    # So great a spike takes nothing of the budget unless it is marked.
    assert sum(found["false"]) > sum(thresholds(plain)) == sum(found["useful"])


@pytest.mark.slow
def test_a_mark_with_the_time_of_another_clock_moves_the_threshold_in_the_next_step():
    inputs, now = course(), [0.0]
    book, advisor, plain = CalendarBook(now=lambda: now[0]), Advisor(load()), Advisor(load())
    raised = None
    for each in inputs[:76]:
        now[0] = each.as_of + 5.0
        said = advisor.step(replace(each, calendar=book.changes(advisor.calendar, each.as_of)))
        plain.step(each)
        raised = next((a.alert_id for a in said.alerts if a.kind is AlertKind.SPIKE_OBSERVED), raised)
    assert thresholds(advisor) == thresholds(plain)
    record = feedback_record(raised, "false", 2e9)  # the simulated present is years before the wall's
    book.take(record.id.encode(), json.dumps(to_fields(record)).encode())
    step = inputs[76]
    now[0] = step.as_of + 5.0
    advisor.step(replace(step, calendar=book.changes(advisor.calendar, step.as_of)))
    plain.step(step)
    assert sum(thresholds(advisor)) > sum(thresholds(plain))
