"""Records as other software writes them, and the events that they are."""

import json
from pathlib import Path

import pytest

from pipeline.events.batch_decoder import decode_batch
from pipeline.events.codecs.registry import BUILT_IN, codec_for
from pipeline.events.inspect import inspect_record
from pipeline.events.validation import EventLimits
from pipeline.testing import check_codec

FOLDER = Path(__file__).parents[3] / "data" / "codecs"
GOLDEN = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
NOW = 1_767_225_700.0
SECRETS = ("SECRET", "192.0.2.1")


def record(golden):
    return json.dumps(golden["record"]).encode()


def inspected(golden, codec):
    return inspect_record(record(golden), codec_for(codec, None, golden.get("defaults")), EventLimits(), NOW)


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("how", ["named", "auto"])
def test_record_is_read_as_expected(name, how):
    golden, expect = GOLDEN[name], GOLDEN[name]["expect"]
    found = inspected(golden, golden["codec"] if how == "named" else "auto")
    assert found.verdict == expect["verdict"], found
    assert found.codec == golden["codec"] or (how == "auto" and golden.get("defaults"))
    if expect["verdict"] == "refused":
        assert (found.reason, expect["detail"] in found.detail) == (expect["reason"], True), found.detail
        return
    assert found.unknown == expect["unknown"]
    assert len(found.events) == len(expect["events"])
    for event, wanted in zip(found.events, expect["events"], strict=True):
        assert {key: event.get(key) for key in wanted} == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("name", GOLDEN)
def test_private_text_stays_behind(name):
    found = inspected(GOLDEN[name], GOLDEN[name]["codec"])
    written = json.dumps([found.events, found.detail])
    assert not any(secret in written for secret in SECRETS)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_batch_path_agrees_with_the_single_one(name):
    golden = GOLDEN[name]
    single = inspected(golden, golden["codec"])
    codec = codec_for(golden["codec"], None, golden.get("defaults"))
    value = record(golden)
    columns, rejections, notes = decode_batch([b"{", value, value], [-1] * 3, NOW, EventLimits(), codec=codec)
    assert [r.position for r in rejections] == ([0, 1, 2] if single.verdict == "refused" else [0])
    assert notes.ignored == ([1, 2] if single.verdict == "ignored" else [])
    assert columns.index.tolist() == [1] * len(single.events) + [2] * len(single.events)
    known = [event["input_tokens"] for event in single.events]
    assert columns.input_tokens.tolist() == [-1 if tokens is None else tokens for tokens in known] * 2


@pytest.mark.parametrize("codec", [name for name in BUILT_IN if name != "otlp_proto"])
def test_built_in_codecs_keep_the_contract(codec):
    samples = [record(g) for g in GOLDEN.values() if g["codec"] == codec and g["expect"]["verdict"] == "accepted"]
    samples = [s for s in samples if codec != "sglang"] or [
        record(g | {"record": g["record"] | {"model": "m"}}) for g in GOLDEN.values() if g["codec"] == codec
    ]
    check_codec(codec_for(codec), samples, private=SECRETS)
