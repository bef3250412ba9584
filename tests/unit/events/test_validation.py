"""The rules for whole events."""

import math

import pytest

from pipeline.errors import EventRejected
from pipeline.events.request_event import RequestEvent
from pipeline.events.validation import EventLimits, check, parse_time, reference_seconds

NOW = 1_767_225_600.0
LIMITS = EventLimits(max_age_seconds=3_600.0, max_ahead_seconds=60.0)


def event(**changes):
    values = {
        "event_id": "a",
        "model": "m",
        "input_tokens": 10,
        "output_tokens": 5,
        "status": "ok",
        "arrived_at": NOW - 2,
        "completed_at": NOW,
    }
    return RequestEvent(**{**values, **changes})


@pytest.mark.parametrize(
    "times",
    [
        {"arrived_at": NOW - 2, "completed_at": NOW},
        {"arrived_at": NOW - 2, "completed_at": None, "e2e_seconds": 2.0},
        {"arrived_at": None, "completed_at": NOW, "e2e_seconds": 2.0},
        {"arrived_at": "2025-12-31T23:59:58Z", "completed_at": "2026-01-01T01:00:00+01:00"},
    ],
)
def test_two_of_three_times_suffice(times):
    settled = check(event(**times), NOW, LIMITS).event
    assert (settled.arrived_at, settled.completed_at, settled.e2e_seconds) == (NOW - 2, NOW, 2.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"completed_at": None}, "missing_field"),
        ({"arrived_at": None, "completed_at": None, "e2e_seconds": 1.0}, "missing_field"),
        ({"arrived_at": "yesterday"}, "malformed"),
        ({"arrived_at": "2026-01-01T00:00:00"}, "malformed"),  # no offset
        ({"arrived_at": math.nan}, "not_finite"),
        ({"completed_at": math.inf}, "not_finite"),
        ({"completed_at": None, "e2e_seconds": math.inf}, "not_finite"),
        ({"completed_at": None, "e2e_seconds": -0.6}, "negative"),
        ({"input_tokens": -1}, "negative"),
        ({"e2e_seconds": 30.0}, "inconsistent"),  # 2 s lie between the two times
        ({"output_tokens": 10_000_001}, "implausible"),
        ({"model": "m" * 257}, "implausible"),
        ({"model": "m\n"}, "implausible"),
        ({"event_id": "a\x00"}, "implausible"),
        ({"model": ""}, "missing_field"),
        ({"status": "fine"}, "unknown_status"),
        ({"cached_input_tokens": 11}, "inconsistent"),
        ({"arrived_at": NOW + 1, "completed_at": NOW}, "inconsistent"),
        ({"arrived_at": 0.0}, "too_old"),  # 1970
        ({"arrived_at": -1e300}, "too_old"),
        ({"arrived_at": -5.0}, "too_old"),
        ({"arrived_at": NOW, "completed_at": 3_786_912_000.0}, "from_future"),  # 2090
        ({"arrived_at": 1e300, "completed_at": 1e300}, "from_future"),
    ],
)
def test_reasons(changes, reason):
    with pytest.raises(EventRejected) as caught:
        check(event(**changes), NOW, LIMITS)
    assert caught.value.reason == reason


def test_limits_are_inclusive():
    assert check(event(arrived_at=NOW - 3_600), NOW, LIMITS)
    assert check(event(arrived_at=NOW, completed_at=NOW + 60), NOW, LIMITS)


def test_nothing_arrives_before_1970_whatever_the_record_says():
    assert check(event(arrived_at=0.0, completed_at=1.0), 2.0, LIMITS).event.arrived_at == 0.0
    for arrived in (-5.0, -1e-9, "1969-12-31T23:59:59Z"):
        with pytest.raises(EventRejected, match="before 1970") as caught:
            check(event(arrived_at=arrived, completed_at=1.0), 2.0, LIMITS)
        assert caught.value.reason == "implausible"


def test_a_latency_beyond_a_day_is_implausible_whatever_the_age_limit():
    with pytest.raises(EventRejected, match="implausible"):
        check(event(arrived_at=NOW - 90_000), NOW, EventLimits())


def test_reference_is_the_records_time_unless_it_lies_in_the_future():
    assert reference_seconds(int((NOW - 50) * 1000), NOW) == NOW - 50
    assert reference_seconds(int((NOW + 50) * 1000), NOW) == NOW
    assert reference_seconds(-1, NOW) == NOW


def test_parse_time_keeps_fractions():
    assert parse_time("1970-01-01T00:00:01.25Z") == 1.25
    assert parse_time(2.5) == 2.5
    assert parse_time(None) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arrived_at": (NOW - 2) * 1e3}, "looks like milliseconds"),
        ({"completed_at": NOW * 1e3}, "1767225600000 looks like milliseconds"),
        ({"completed_at": NOW * 1e9, "e2e_seconds": 2.0}, "looks like nanoseconds"),
        ({"e2e_seconds": 2_000.0}, "2000 looks like milliseconds"),
        ({"arrived_at": NOW - 30, "e2e_seconds": 0.03}, "0.03 looks like seconds divided by 1000"),
        ({"arrived_at": NOW / 1e3, "completed_at": None, "e2e_seconds": 1.0}, "looks like seconds divided by 1000"),
        ({"arrived_at": 4_052.5, "completed_at": 4_054.0}, "looks like seconds since the host or process started"),
        ({"arrived_at": 0.0, "completed_at": 0.0}, "looks like a time that was never set"),
        ({"cached_input_tokens": 500}, "exceed input_tokens 10, which have to include them"),
    ],
)
def test_a_contradiction_names_the_suspected_unit(changes, words):
    with pytest.raises(EventRejected) as caught:
        check(event(**changes), NOW, LIMITS)
    assert words in caught.value.detail
