"""Events from any JSON by a mapping."""

import json

import pytest

from pipeline.errors import ConfigError
from pipeline.events.codecs.registry import codec_for
from pipeline.events.inspect import inspect_record
from pipeline.events.validation import EventLimits

NOW = 1_767_225_700.0
MAPPING = {
    "event_id": "request.uuid",
    "model": "request.model",
    "pool": {"constant": "chat"},
    "arrived_at": {"path": "$.ts", "unit": "ms"},
    "e2e_seconds": {"path": "timing.total", "unit": "us"},
    "ttft_seconds": {"path": "timing.steps[1]", "unit": "ms"},
    "input_tokens": "gen_ai.usage.input",
    "output_tokens": {"path": "usage.out", "default": 0},
    "status": {"path": "result", "values": {"success": "ok", "throttled": "rejected"}, "otherwise": "error"},
}
RECORD = {
    "request": {"uuid": "u-1", "model": "m", "prompt": "SECRET"},
    "ts": 1_767_225_600_250,
    "timing": {"total": 1_500_000, "steps": [1, 250]},
    "gen_ai.usage.input": "77",
    "usage": {},
    "result": "success",
}


def inspected(mapping, **changes):
    value = json.dumps(RECORD | changes).encode()
    return inspect_record(value, codec_for("mapping", mapping), EventLimits(), NOW)


def test_paths_units_constants_and_values():
    found = inspected(MAPPING | {"input_tokens": "tokens"}, tokens=77)
    assert found.verdict == "accepted", found
    (event,) = found.events
    wanted = {
        "event_id": "u-1",
        "model": "m",
        "pool": "chat",
        "arrived_at": 1_767_225_600.25,
        "e2e_seconds": 1.5,
        "ttft_seconds": 0.25,
        "input_tokens": 77,
        "output_tokens": 0,
        "status": "ok",
        "source": "mapping",
    }
    assert {name: event[name] for name in wanted} == wanted
    assert "SECRET" not in json.dumps(found.events)


def test_a_name_with_dots_is_found_as_it_is_or_nested():
    flat, nested = {"gen_ai.usage.input": 7}, {"gen_ai.usage.input": None, "gen_ai": {"usage": {"input": 8}}}
    assert inspected(MAPPING, **flat).events[0]["input_tokens"] == 7
    assert inspected(MAPPING, **nested).events[0]["input_tokens"] in (8, None)


@pytest.mark.parametrize(("result", "status"), [("throttled", "rejected"), ("boom", "error"), ("success", "ok")])
def test_values_are_translated(result, status):
    assert inspected(MAPPING | {"input_tokens": "t"}, result=result).events[0]["status"] == status


def test_without_an_id_identical_records_are_the_same_event():
    mapping = {name: source for name, source in MAPPING.items() if name != "event_id"} | {"input_tokens": "t"}
    one, again, other = inspected(mapping), inspected(mapping), inspected(mapping, ts=1_767_225_600_251)
    ids = [found.events[0]["event_id"] for found in (one, again, other)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens_in": "x"}, "tokens_in: not a field"),
        ({"model": {"path": "a", "constant": "b"}}, "either a path or a constant"),
        ({"model": {}}, "either a path or a constant"),
        ({"e2e_seconds": {"path": "a", "unit": "h"}}, "unit is 'h'"),
        ({"input_tokens": {"path": "a", "unit": "ms"}}, "has no unit"),
        ({"model": {"path": "a", "units": "s"}}, "unknown keys units"),
        ({"model": 7}, "model"),
        ({"model": "..."}, "not a path"),
    ],
)
def test_what_cannot_work_is_said_at_the_start(change, words):
    with pytest.raises(ConfigError, match=words):
        codec_for("mapping", MAPPING | change)


@pytest.mark.parametrize("missing", ["model", "arrived_at"])
def test_what_every_event_needs_is_asked_for(missing):
    with pytest.raises(ConfigError, match="needed"):
        codec_for("mapping", {name: source for name, source in MAPPING.items() if name != missing})


def test_defaults_of_a_source_fill_in_what_records_do_not_have():
    bare = {"event_id": "a", "arrived_at": NOW - 5, "e2e_seconds": 1.0, "status": "ok"}
    codec = codec_for("auto", None, {"model": "m", "pool": "p"})
    found = inspect_record(json.dumps(bare).encode(), codec, EventLimits(), NOW)
    assert (found.events[0]["model"], found.events[0]["pool"]) == ("m", "p")
    named = inspect_record(json.dumps(bare | {"model": "x"}).encode(), codec, EventLimits(), NOW)
    assert named.events[0]["model"] == "x"


def test_text_of_an_access_log_gives_counts_and_placeholders_are_unknown():
    mapping = MAPPING | {"input_tokens": "in", "output_tokens": "out"}
    for in_, out, wanted in (("77", "5.0", (77, 5)), ("-", "", (None, None)), (-1, "-1", (None, None))):
        found = inspected(mapping, **{"in": in_, "out": out})
        (event,) = found.events
        assert (event["input_tokens"], event["output_tokens"]) == wanted
    assert "input_tokens is text" in inspected(mapping, **{"in": "many", "out": 1}).detail
    assert "output_tokens is 2.5" in inspected(mapping, **{"in": 1, "out": "2.5"}).detail


@pytest.mark.parametrize(
    ("result", "status"), [(True, "ok"), (False, "error"), (200, "ok"), (200.0, "ok"), ("429", "rejected")]
)
def test_values_name_truth_and_numbers_as_json_writes_them(result, status):
    values = {"true": "ok", "false": "error", "200": "ok", "429": "rejected"}
    mapping = MAPPING | {"input_tokens": "ts", "status": {"path": "result", "values": values}}
    mapping |= {"input_tokens": {"constant": 1}}
    assert inspected(mapping, result=result).events[0]["status"] == status


def test_a_time_that_is_none_is_named_with_what_it_is():
    mapping = MAPPING | {"input_tokens": {"constant": 1}}
    assert "no offset from UTC; add Z" in inspected(mapping, ts="2026-01-01T00:00:00").detail
    assert "arrived_at is 'soon'" in inspected(mapping, ts="soon").detail
    assert "missing required field `model`" in inspected(mapping, request={"uuid": "u", "model": "-"}).detail
