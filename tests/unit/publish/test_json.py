from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.rule_registry import alert_rules, engine_kinds
from pipeline.alerts.types import AlertKind
from pipeline.config import resources
from pipeline.demo.actuator import FleetActuator
from pipeline.demo.scenario import scenario
from pipeline.engine.types import StepOutput
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.types import LEVELS
from pipeline.publish.json import QUANTILE_NAMES, plain_json, to_data, to_json
from pipeline.publish.rows import alert_data, recommendation_data, window_data
from pipeline.windows.types import PoolKey
from sizing.types import Confidence, Constraint, Reason, RecommendationState


def _schema(name: str) -> dict:
    path = Path(resources.find(f"schemas/{name}.v1.schema.json"))
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


def _valid(data: object, name: str) -> None:
    jsonschema.validate(data, _schema(name))


def test_quantile_names_follow_the_levels():
    assert QUANTILE_NAMES == ("q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99")
    assert len(QUANTILE_NAMES) == len(LEVELS)


@pytest.mark.slow
def test_live_nouns_match_their_schemas(feed):
    view = feed.live.pool("llama-3.1-8b-instruct", "chat")
    _valid(json.loads(to_json(view.recommendation)), "recommendation")
    _valid(json.loads(to_json(replace(view.recommendation, current=None, constraint=None))), "recommendation")
    for forecast in view.forecasts:
        _valid(json.loads(to_json(forecast)), "forecast")


def test_alerts_match_their_schema(feed):
    feed.step(20)
    (alert,) = feed.live.snapshot().alerts
    data = json.loads(to_json(alert))
    _valid(data, "alert")
    assert data["active"] is False
    _valid(json.loads(to_json(replace(alert, ended_at=None, probability=0.5))), "alert")


@pytest.mark.parametrize("name", ["reason", "state", "confidence", "constraint"])
def test_schemas_know_every_word_of_the_model(name):
    kinds = {"reason": Reason, "state": RecommendationState, "confidence": Confidence, "constraint": Constraint}
    allowed = {word for word in _schema("recommendation")["properties"][name]["enum"] if word is not None}
    assert allowed == {word.value for word in kinds[name]}


def test_the_alert_schema_knows_every_kind():
    builtin, others = _schema("alert")["properties"]["kind"]["anyOf"]
    assert builtin["enum"] == [rule.name for rule in engine_kinds(alert_rules())]
    assert set(AlertKind) <= set(builtin["enum"])
    assert re.fullmatch(others["pattern"], "requests_refused")


@pytest.mark.parametrize("change", [{"desired": -1}, {"direction": "sideways"}, {"schema": "other"}, {"model": ""}])
def test_the_recommendation_schema_refuses(feed, change):
    data = to_data(feed.live.pool("llama-3.1-8b-instruct", "chat").recommendation)
    with pytest.raises(jsonschema.ValidationError):
        _valid(data | change, "recommendation")


def test_the_replica_status_of_the_simulated_fleet_matches_its_schema():
    statuses = FleetActuator(scenario("demo", live_start=1_700_000_000.0)).status(1_700_000_000.0)
    assert statuses
    for status in statuses:
        _valid(status, "replica-status")
        with pytest.raises(jsonschema.ValidationError):
            _valid({k: v for k, v in status.items() if k != "current"}, "replica-status")


def test_numbers_that_are_not_finite_become_null(feed):
    advice = feed.live.pool("llama-3.1-8b-instruct", "chat").recommendation
    data = json.loads(to_json(replace(advice, evidence={"a": float("inf"), "b": float("nan"), "c": 1.0})))
    assert data["evidence"] == {"a": None, "b": None, "c": 1.0}


def test_hostile_text_is_encoded():
    assert json.loads(to_json({"model": 'a"\n\x00</script>\ud800'}))["model"].startswith('a"\n\x00</script>')


def test_numpy_scalars_and_sets_are_plain():
    assert to_data({"n": np.int64(3), "x": np.float64("nan"), "s": frozenset(["a"])}) == {"n": 3, "x": None, "s": ["a"]}


def test_what_has_no_shape_is_an_error():
    with pytest.raises(TypeError, match="object"):
        to_json(object())


def test_a_whole_step_is_encoded(feed):
    view = feed.live.pool("llama-3.1-8b-instruct", "chat")
    step = StepOutput(feed.as_of, (view.window,), view.forecasts, view.scores, (view.recommendation,))
    data = json.loads(to_json(step))
    assert data["as_of"] == feed.as_of
    assert data["windows"][0]["rates"]["requests_per_second"] == pytest.approx(
        signal_rates(view.window)["requests_per_second"]
    )
    assert len(data["forecasts"]) == 20


def test_rates_are_corrected_for_completeness_and_null_in_a_gap(feed):
    window = replace(feed.live.pool("llama-3.1-8b-instruct", "chat").window, requests=60, completeness=0.5)
    assert signal_rates(window)["requests_per_second"] == pytest.approx(2.0)
    assert signal_rates(replace(window, completeness=1e-9))["requests_per_second"] == pytest.approx(5.0)
    assert set(signal_rates(replace(window, gap=True)).values()) == {None}
    assert signal_rates(replace(window, cached_input_tokens=10**12))["prefill_tokens_per_second"] == 0


def test_store_rows_look_like_live_nouns(feed):
    advice = feed.live.pool("llama-3.1-8b-instruct", "chat").recommendation
    row = json.loads(to_json(advice))
    assert recommendation_data(row) == to_data(advice)
    assert recommendation_data({"of": "an older version"}) == {"of": "an older version"}
    alert = {"alert_id": "a", "kind": "spike_observed", "model": "m", "pool": "p", "raised_at": 1.0, "onset_at": 1.0}
    alert |= {"ended_at": None, "severity": "info", "ratio": None, "probability": None, "message": ""}
    assert alert_data(alert)["active"] is True


def test_a_window_that_is_still_filling_has_no_rates():
    row = {"start": 600, "end": 660, "requests": 120, "closed": 1, "gap": False}
    assert window_data(row, PoolKey("m", "p"), 60, 660)["rates"]["requests_per_second"] == 2.0
    assert window_data(row, PoolKey("m", "p"), 60, 600)["rates"]["requests_per_second"] is None
    assert window_data(row | {"closed": 0}, PoolKey("m", "p"), 60, None)["rates"]["requests_per_second"] is None
    assert window_data(row | {"gap": True}, PoolKey("m", "p"), 60, 660)["rates"]["requests_per_second"] is None


def plainly(obj: object) -> object:
    """What ``to_data`` says, which knows every kind of number and text, as JSON."""
    return json.loads(json.dumps(to_data(obj), allow_nan=False, ensure_ascii=False).encode("utf-8", "replace"))


def test_the_fast_way_and_the_plain_one_say_the_same(feed):
    feed.step(20)
    snapshot = feed.live.snapshot()
    for view in snapshot.pools:
        nouns = [view.window, view.recommendation, *view.forecasts, *view.scores, *view.outlooks, *snapshot.alerts]
        for noun in nouns:
            assert json.loads(to_json(noun)) == plainly(noun)
        assert json.loads(to_json({"x": (nouns, {"y": nouns})})) == plainly({"x": (nouns, {"y": nouns})})


@pytest.mark.parametrize(
    "change",
    [
        {"model": "a\ud800b"},
        {"input_tokens_squared": 2**80},
        {"completeness": float("nan")},
        {"ttft_seconds": np.float64(0.25)},
        {"requests": np.int64(7)},
    ],
)
def test_windows_with_what_json_cannot_say_plainly(feed, change):
    window = replace(feed.live.pool("llama-3.1-8b-instruct", "chat").window, **change)
    data = json.loads(to_json(window))
    assert data == plainly(window)
    assert data["schema"] == "tokentide.window.v1"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(AlertKind)),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
        max_leaves=20,
    )
)
def test_any_plain_data_comes_out_the_same_both_ways(data):
    assert json.loads(to_json(data)) == plainly(data)


@pytest.mark.parametrize("value", [1, 2.5, None, True, math.nan, math.inf, 2**70, "a\ud800b", "é", [1, {"a": -0.0}]])
def test_plain_data_has_the_same_json_either_way(value):
    data = {"rows": [{"value": value}] * 2}
    assert plain_json(data) == to_json(data)
