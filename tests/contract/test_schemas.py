"""The JSON Schemas and the code say the same: fields, bounds, what is taken and what is not."""

import json
import re
from dataclasses import asdict, fields
from datetime import datetime
from functools import cache

import jsonschema
import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.config import resources
from pipeline.errors import CodecError, EventRejected
from pipeline.events.batch_decoder import decode_batch
from pipeline.events.codecs import native
from pipeline.events.request_event import STATUSES, RequestEvent
from pipeline.events.validation import EventLimits, check
from pipeline.publish.json import to_json
from pipeline.windows import delta as delta_codec
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.rollup import rollup
from pipeline.windows.types import HISTOGRAMS, MEASURES, ClosedWindow, Delta

NOW = 1_767_225_700.0


VERSIONS = {"window-delta": 2}


def schema(name):
    file = f"schemas/{name}.v{VERSIONS.get(name, 1)}.schema.json"
    loaded = json.loads(resources.find(file).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


@cache
def validator(name):
    return jsonschema.Draft202012Validator(schema(name))


EXAMPLES = sorted(resources.find("schemas/examples").glob("request-*.json"))
MINIMAL = json.loads(resources.find("schemas/examples/request-minimal.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_are_taken_by_both(path):
    body = path.read_bytes()
    validator("request").validate(json.loads(body))
    columns, rejections, _ = decode_batch([body], [-1], NOW, EventLimits())
    assert rejections == []
    assert len(columns) == 1
    validator("request").validate(json.loads(native.encode(native.decode(body).event)))


def decided(body):
    """The event that the code makes of a body, judged at the time of the examples."""
    converted = native.decode(json.dumps(body).encode())
    return check(converted.event, NOW, EventLimits())._replace(unknown=converted.unknown)


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": None},
        {"event_id": ""},
        {"model": 5},
        {"model": "m" * 257},
        {"model": "a\nb"},
        {"model": "a\u202eb"},
        {"pool": "a\u2028b"},
        {"input_tokens": -1},
        {"input_tokens": 1.5},
        {"input_tokens": "7"},
        {"input_tokens": True},
        {"input_tokens": 10_000_001},
        {"status": "fine"},
        {"status": None},
        {"schema": "tokentide.request.completed.v2"},
        {"e2e_seconds": -0.6},
        {"e2e_seconds": 86_401},
        {"e2e_seconds": None},
        {"pool": ""},
        {"pool": 7},
        {"completed_at": {}},
    ],
    ids=str,
)
def test_both_refuse(change):
    body = MINIMAL | change
    assert not validator("request").is_valid(body)
    with pytest.raises(EventRejected):
        decided(body)


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        ({"ttft_seconds": "fast"}, "ttft_seconds"),
        ({"ttft_seconds": -0.003}, "ttft_seconds"),
        ({"queue_seconds": 1e6}, "queue_seconds"),
        ({"http_status": -1}, "http_status"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"cached_input_tokens": "many"}, "cached_input_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"tenant": {"id": 7}}, "tenant"),
        ({"tenant": "t" * 257}, None),
        ({"request_id": "r" * 400}, None),
        ({"priority": 0}, None),
        ({"http_status": "200"}, None),
        ({"ttft_seconds": "0.25"}, None),
        ({"stream": 1}, None),
        ({"finish_reason": ["stop"]}, None),
        ({"e2e_seconds": -0.002}, None),
    ],
    ids=str,
)
def test_the_schema_asks_for_more_than_the_code_needs(change, unknown):
    body = MINIMAL | change
    assert not validator("request").is_valid(body)
    converted = decided(body)
    assert converted.event.input_tokens == MINIMAL["input_tokens"]
    assert converted.unknown == (() if unknown is None else (unknown,))


@pytest.mark.parametrize(
    "change",
    [
        {"input_tokens": None, "output_tokens": None},
        {"output_tokens": 233.0},
        {"pool": None},
        {"schema": None},
        {"event_id": 17},
        {"model": "llama 3.1\u00a08b"},
        {"model": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645-7b"},
        {"arrived_at": None},
        {"completed_at": "2026-01-01T00:00:02.5Z"},
    ],
    ids=str,
)
def test_both_take(change):
    body = MINIMAL | change
    validator("request").validate(body)
    assert decided(body).unknown == ()


def test_a_whole_number_may_be_written_with_an_exponent():
    body = json.dumps(MINIMAL | {"output_tokens": 7777}).replace("7777", "1e3").encode()
    assert native.decode(body).event.output_tokens == 1_000


@pytest.mark.parametrize("missing", ["event_id", "model", "status", "completed_at"])
def test_both_miss(missing):
    body = {k: v for k, v in MINIMAL.items() if k != missing}
    assert not validator("request").is_valid(body)
    with pytest.raises(EventRejected, match="missing_field"):
        decided(body)


@cache
def refused(pattern):
    """Characters that a pattern does not take; looked for once for all properties that share it."""
    taken = re.compile(pattern)
    return [chr(c) for c in range(0x3000) if not taken.search(chr(c))]


def from_schema(stated):
    """Values that a property of the request schema allows; only what the schema says is used."""
    if "enum" in stated:
        return st.sampled_from(stated["enum"])
    if "anyOf" in stated:
        return st.one_of(*map(from_schema, stated["anyOf"]))
    kinds = stated["type"] if isinstance(stated["type"], list) else [stated["type"]]
    low, high = stated.get("minimum"), stated.get("maximum")
    characters = st.characters(exclude_categories=["Cs"], exclude_characters=refused(stated.get("pattern", "")))
    text = st.text(characters, min_size=stated.get("minLength", 0), max_size=min(stated.get("maxLength", 40), 40))
    if stated.get("format") == "date-time":
        text = st.datetimes(datetime(2025, 12, 30), datetime(2026, 1, 1)).map(lambda t: t.isoformat() + "Z")
    whole = st.integers(low if low is not None else -(10**6), high if high is not None else 10**6)
    strategies = {
        "null": st.none(),
        "boolean": st.booleans(),
        "integer": whole | whole.map(float),
        "number": st.floats(low if low is not None else NOW - 100_000, high if high is not None else NOW),
        "string": text,
    }
    return st.one_of(*(strategies[kind] for kind in kinds))


def known(stated):
    """The same without null."""
    if "anyOf" in stated:
        return {"anyOf": [option for option in stated["anyOf"] if option["type"] != "null"]}
    return stated | {"type": [kind for kind in stated["type"] if kind != "null"]}


PROPERTIES = schema("request")["properties"]
REQUIRED = schema("request")["required"]
PLACED = st.sampled_from(schema("request")["anyOf"]).flatmap(
    lambda branch: st.fixed_dictionaries({name: from_schema(known(PROPERTIES[name])) for name in branch["required"]})
)
GENERATED = st.builds(
    dict.__or__,
    st.fixed_dictionaries(
        {name: from_schema(PROPERTIES[name]) for name in REQUIRED},
        optional={n: from_schema(stated) for n, stated in PROPERTIES.items() if n not in REQUIRED},
    ),
    PLACED,
)
#: What no schema can say: how a field relates to another one, or to the clock.
BEYOND_A_SCHEMA = {"inconsistent", "from_future", "too_old", "implausible"}


def outcome(body):
    """Why a body is refused (None: it is not), and its fields that are unusable."""
    try:
        return None, decided(body).unknown
    except EventRejected as error:
        return error.reason, ()


@settings(max_examples=100, deadline=None)
@given(GENERATED)
def test_what_the_schema_allows_the_code_takes(body):
    assume(validator("request").is_valid(body))
    reason, unknown = outcome(body)
    assert reason is None or reason in BEYOND_A_SCHEMA
    assert unknown == ()


@settings(max_examples=100, deadline=None)
@given(GENERATED, st.sampled_from(sorted(PROPERTIES)), st.sampled_from([None, "", "x", -1, 1.5, True, [], {}, "7"]))
def test_what_the_code_refuses_the_schema_refuses(body, name, value):
    changed = body | {name: value}
    try:
        native.decode(json.dumps(changed).encode())
    except EventRejected:
        assert not validator("request").is_valid(changed)


def test_fields_and_bounds_are_the_types():
    properties = schema("request")["properties"]
    types = {field.name: field.type for field in msgspec.inspect.type_info(RequestEvent).fields}
    assert set(properties) == set(types)
    assert tuple(properties["status"]["enum"]) == STATUSES
    for name, kind in types.items():
        for option in getattr(kind, "types", (kind,)):
            stated = properties[name]
            if isinstance(option, msgspec.inspect.IntType) or (
                isinstance(option, msgspec.inspect.FloatType) and option.ge is not None
            ):
                assert (stated["minimum"], stated["maximum"]) == (option.ge, option.le), name
            elif isinstance(option, msgspec.inspect.StrType) and option.max_length is not None:
                assert stated["maxLength"] == option.max_length, name
                assert stated.get("minLength") == option.min_length, name


def make_delta():
    agg = PartitionAggregator("requests", 0, "p", EventLimits(), 10)
    values = [*(path.read_bytes() for path in EXAMPLES), b"{"]
    return agg.fold(values, range(len(values)), [-1] * len(values), 0, len(values), NOW)[0]


def test_deltas():
    delta = make_delta()
    assert delta.events == len(EXAMPLES)
    check_delta = validator("window-delta")
    check_delta.validate(json.loads(delta_codec.encode(delta)))
    check_delta.validate(
        json.loads(delta_codec.encode(PartitionAggregator("t", 0, "p", EventLimits(), 1).heartbeat(0)))
    )
    stated = schema("window-delta")
    assert set(stated["properties"]) == set(Delta.__struct_fields__)
    measures = stated["properties"]["rows"]["properties"]["measures"]
    assert measures["minItems"] == measures["maxItems"] == len(MEASURES)
    assert ", ".join(MEASURES) in measures["description"]
    assert ", ".join(HISTOGRAMS) in stated["properties"]["histograms"]["properties"]["metric"]["description"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "x"),
        ("from_offset", -1),
        ("base_delta_offset", -2),
        ("keys", [["m"]]),
        ("rows", {}),
        ("base_seconds", 60),
    ],
)
def test_both_refuse_a_bad_delta(field, value):
    body = json.loads(delta_codec.encode(make_delta())) | {field: value}
    assert not validator("window-delta").is_valid(body)
    with pytest.raises(CodecError):
        delta_codec.decode(json.dumps(body).encode())


def test_windows():
    delta = make_delta()
    check_window = validator("window")
    windows = rollup([(delta.keys, delta.rows)], 60)
    assert windows
    for window in windows:
        check_window.validate(json.loads(to_json(window)))
        assert not check_window.is_valid(asdict(window) | {"completeness": 0})
        assert not check_window.is_valid(asdict(window) | {"requests": -1})
    assert {f.name for f in fields(ClosedWindow)} <= set(schema("window")["properties"])
