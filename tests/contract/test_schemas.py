"""The JSON Schemas and the code say the same: fields, bounds, what is taken and what is not."""

import json
from dataclasses import asdict, fields

import jsonschema
import msgspec
import pytest

from pipeline import resources
from pipeline.errors import CodecError, EventRejected
from pipeline.events.batch import decode_batch
from pipeline.events.check import EventLimits, check
from pipeline.events.codecs import native
from pipeline.events.model import STATUSES, RequestEvent
from pipeline.publish.json import to_json
from pipeline.windows import delta as delta_codec
from pipeline.windows.aggregate import PartitionAggregator
from pipeline.windows.model import HISTOGRAMS, MEASURES, ClosedWindow, Delta
from pipeline.windows.rollup import rollup

NOW = 1_767_225_700.0


def schema(name):
    loaded = json.loads(resources.find(f"schemas/{name}.v1.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def validator(name):
    return jsonschema.Draft202012Validator(schema(name))


EXAMPLES = sorted(resources.find("schemas/examples").glob("request-*.json"))
MINIMAL = json.loads(resources.find("schemas/examples/request-minimal.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_are_taken_by_both(path):
    body = path.read_bytes()
    validator("request").validate(json.loads(body))
    columns, rejections = decode_batch([body], [-1], NOW, EventLimits())
    assert rejections == []
    assert len(columns) == 1
    validator("request").validate(json.loads(native.encode(native.decode(body))))


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": None},
        {"event_id": ""},
        {"model": 5},
        {"model": "m" * 257},
        {"model": "a\nb"},
        {"input_tokens": -1},
        {"input_tokens": 1.5},
        {"input_tokens": "7"},
        {"input_tokens": 10_000_001},
        {"output_tokens": None},
        {"status": "fine"},
        {"schema": "tokentide.request.completed.v2"},
        {"e2e_seconds": -0.1},
        {"e2e_seconds": 86_401},
        {"ttft_seconds": "fast"},
        {"http_status": -1},
        {"stream": "yes"},
        {"tenant": "t" * 257},
        {"pool": ""},
        {"completed_at": {}},
    ],
    ids=str,
)
def test_both_refuse(change):
    body = MINIMAL | change
    assert not validator("request").is_valid(body)
    with pytest.raises(EventRejected):
        check(native.decode(json.dumps(body).encode()), NOW, EventLimits())


@pytest.mark.parametrize("missing", ["event_id", "model", "input_tokens", "output_tokens", "status", "completed_at"])
def test_both_miss(missing):
    body = {k: v for k, v in MINIMAL.items() if k != missing}
    assert not validator("request").is_valid(body)
    with pytest.raises(EventRejected, match="missing_field"):
        check(native.decode(json.dumps(body).encode()), NOW, EventLimits())


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
