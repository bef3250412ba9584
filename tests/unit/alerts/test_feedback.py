"""Marks of alerts as records of the calendar topic."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.episodes import Condition, Episode
from pipeline.alerts.feedback import ALERT_ID_PATTERN, AlertFeedback, Verdict, feedback_in, feedback_record, is_feedback
from pipeline.alerts.types import AlertKind
from pipeline.forecast.calendar.effects import CalendarRecord, parse_record, to_fields
from pipeline.windows.types import PoolKey

NAMES = st.text(st.characters(exclude_characters="|", exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


@given(NAMES, NAMES, st.integers(0, 10**10), st.sampled_from(Verdict))
def test_a_mark_survives_the_way_over_the_topic(model, pool, raised_at, verdict):
    alert = Episode(PoolKey(model, pool), AlertKind.SPIKE_OBSERVED, 1).step(
        float(raised_at), Condition(float(raised_at), "warning", 2.0, None, "")
    )
    record = feedback_record(alert.alert_id, verdict, raised_at + 5.0)
    again = parse_record(to_fields(record))
    assert again == record
    assert is_feedback(again)
    assert feedback_in(again) == AlertFeedback(model, pool, float(raised_at), verdict)


@pytest.mark.parametrize(
    ("alert_id", "verdict", "word"),
    [
        ("spike_observed|m|p|60", "great", "false or useful"),
        ("telemetry_gap|m|p|60", "false", "only alerts of kind spike_observed"),
        ("spike_observed|m|60", "false", "not the alert_id"),
        ("spike_observed|m|p|x", "false", "not the alert_id"),
        ("spike_observed|m|p|" + "9" * 13, "false", "not the alert_id"),
        ("spike_observed|m|p|6000", "false", "before it"),
        ("spike_observed|" + "m" * 300 + "|p|60", "false", "256 characters"),
        ("", "false", "only alerts"),
    ],
)
def test_what_is_no_mark_is_refused(alert_id, verdict, word):
    with pytest.raises(ValueError, match=word):
        feedback_record(alert_id, verdict, 600.0)


@pytest.mark.parametrize(
    ("identity", "kind"),
    [("x", "launch"), ("x", "alert_feedback:false"), ("alert_feedback|x", "alert_feedback:false"),
     ("alert_feedback|spike_observed|m|p|60", "alert_feedback:maybe")],
)  # fmt: skip
def test_other_records_are_none(identity, kind):
    assert feedback_in(CalendarRecord(identity, kind, 0.0, 1.0)) is None


@pytest.mark.parametrize(
    ("alert_id", "fits"),
    [
        ("spike_observed|a|b|chat|60", True),
        ("spike_observed|m\n|p|0", True),
        ("spike_observed|m|p|123456789012", True),
        ("spike_observed|m|p|" + "9" * 13, False),
        ("spike_observed|m|p|60\n", False),
        ("spike_observed||p|60", False),
        ("spike_observed|m||60", False),
        ("telemetry_gap|m|p|60", False),
    ],
)
def test_the_pattern_takes_what_a_mark_takes(alert_id, fits):
    assert (re.search(ALERT_ID_PATTERN, alert_id) is not None) == fits
    refused = contextlib.nullcontext() if fits else pytest.raises(ValueError, match="alert")
    with refused:
        feedback_record(alert_id, "false", 1e12 - 2)
