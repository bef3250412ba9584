"""Rows from outside: what is taken, what is refused, and that nothing else can come of hostile input."""

from __future__ import annotations

import json
import math

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import resources
from pipeline.forecast.exogenous.rows import Refusal, RowRefused, SignalValue, parse_row, to_fields

FORECAST = {
    "model": "m", "pool": "chat", "issued_at": 1000, "target_at": 1300, "quantiles": {"0.05": 1, "0.5": 2, "0.95": 4}
}  # fmt: skip
SIGNAL = {"signal": "orders", "at": 1000, "value": -2.5}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"quantiles": {"0.5": math.nan}}, Refusal.OUT_OF_RANGE),
        ({"quantiles": {"0.5": -1}}, Refusal.OUT_OF_RANGE),
        ({"quantiles": {"0.5": 1e300}}, Refusal.OUT_OF_RANGE),
        ({"quantiles": {"0.1": 3, "0.5": 2, "0.9": 4}}, Refusal.NOT_ASCENDING),
        ({"quantiles": {"0.9": 2}}, Refusal.MALFORMED),
        ({"quantiles": {"0": 1, "0.5": 2}}, Refusal.OUT_OF_RANGE),
        ({"quantiles": {"0.5": 1, "0.50": 2}}, Refusal.OUT_OF_RANGE),
        ({"quantiles": {"median": 1}}, Refusal.MALFORMED),
        ({"quantiles": {str(at / 200): 1 for at in range(1, 200)}}, Refusal.MALFORMED),
        ({"quantiles": [1, 2]}, Refusal.MALFORMED),
        ({"quantiles": {"0.5": True}}, Refusal.MALFORMED),
        ({"signal": "cpu"}, Refusal.UNKNOWN_SERIES),
        ({"model": ""}, Refusal.MALFORMED),
        ({"model": "a\nb"}, Refusal.MALFORMED),
        ({"colour": 1}, Refusal.MALFORMED),
        ({"issued_at": None}, Refusal.MALFORMED),
        ({"issued_at": 1e13}, Refusal.OUT_OF_RANGE),
        ({"issued_at": 1300}, Refusal.AFTER_TARGET),
        ({"known_at": 1300}, Refusal.AFTER_TARGET),
        ({"known_at": 900}, Refusal.MALFORMED),
        ({"schema": "tokentide.external_forecast.v9"}, Refusal.MALFORMED),
    ],
)
def test_rows_that_cannot_be_used_are_refused(change: dict[str, object], reason: Refusal) -> None:
    with pytest.raises(RowRefused) as refused:
        parse_row(FORECAST | change)
    assert refused.value.reason is reason


def test_a_record_is_not_known_before_it_was_written() -> None:
    assert parse_row(FORECAST, received_at=1100.0).known_at == 1100.0
    assert parse_row(FORECAST | {"known_at": 1050}, received_at=1100.0).known_at == 1100.0
    assert parse_row(FORECAST | {"issued_at": 1130}, received_at=1100.0).known_at == 1130.0
    for row, received_at, reason in (
        (FORECAST | {"issued_at": 1200}, 1100.0, Refusal.FROM_THE_FUTURE),
        (SIGNAL | {"known_at": 1200}, 1100.0, Refusal.FROM_THE_FUTURE),
        (FORECAST, 1300.0, Refusal.AFTER_TARGET),
    ):
        with pytest.raises(RowRefused) as refused:
            parse_row(row, received_at)
        assert refused.value.reason is reason


def test_the_median_lies_between_the_levels_around_it() -> None:
    assert parse_row(FORECAST).median == 2.0
    assert parse_row(FORECAST | {"quantiles": {"0.4": 1, "0.8": 5}}).median == pytest.approx(2.0)


def test_what_is_taken_conforms_to_the_schema_and_reads_back_the_same() -> None:
    for row, name in ((FORECAST, "external-forecast"), (SIGNAL, "signal-value")):
        schema = json.loads(resources.find(f"schemas/{name}.v1.schema.json").read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        parsed = parse_row(row)
        fields = json.loads(json.dumps(to_fields(parsed)))
        jsonschema.validate(fields, schema)
        jsonschema.validate(row, schema)
        assert parse_row(fields) == parsed
    assert parse_row(SIGNAL) == SignalValue("orders", 1000.0, 1000.0, -2.5)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["0.1", "0.5", "0.9", "nan", "inf", "", "1e400"]), st.floats(), max_size=4),
)  # fmt: skip
FIELDS = ["schema", "model", "pool", "signal", "issued_at", "known_at", "target_at", "quantiles", "at", "value", "x"]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([FORECAST, SIGNAL]),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5),
    st.one_of(st.none(), st.floats(0, 2e9)),
)
def test_hostile_rows_are_taken_or_refused(
    base: dict[str, object], change: dict[str, object], received_at: float | None
) -> None:
    try:
        row = parse_row(base | change, received_at)
    except RowRefused:
        return
    assert parse_row(to_fields(row)) == row
    assert math.isfinite(row.value if isinstance(row, SignalValue) else row.median)
