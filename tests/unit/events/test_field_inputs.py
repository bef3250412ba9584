"""Inputs that real systems sent, each with the behaviour that is right (skipped where the files are missing)."""

import json
import re
from pathlib import Path

import pytest

from pipeline.events.codecs.registry import codec_named
from pipeline.events.inspect import inspect_record
from pipeline.events.validation import EventLimits
from pipeline.windows.partition_folder import PartitionAggregator

FIELD = Path(__file__).parents[4] / "shared" / "field"
NOW = 1_795_984_400.0
pytestmark = pytest.mark.skipif(not FIELD.is_dir(), reason="../shared/field is missing")


def lines():
    for path in sorted((FIELD / "telemetry").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            if "expect" in case and "name" in case:
                yield pytest.param(case, id=f"{path.stem}: {case['name']}")


def inspected(value, codec="auto"):
    return inspect_record(value, codec_named(codec), EventLimits(), NOW)


@pytest.mark.parametrize("case", list(lines()) if FIELD.is_dir() else [])
def test_native_events(case):
    value = case["raw"] if "raw" in case else json.dumps(case["record"])
    found, expect = inspected(value.encode()), case["expect"]
    if expect.startswith("refused") and "or refused" not in expect:
        assert found.verdict == "refused"
    else:
        assert (found.verdict, len(found.events)) == ("accepted", 1), found.detail
    for name, wanted in re.findall(r"(\w+_tokens)=(\d+)", expect):
        assert found.events[0][name] == int(wanted)
    for words in ("looks like milliseconds", "no offset from UTC; add Z", "output_tokens"):
        if words in expect and found.verdict == "refused":
            assert words in found.detail
    if "; tokens unknown" in expect:
        assert "output_tokens" in found.unknown
    if "ttft unknown" in expect or "ttft 0 or unknown" in expect:
        assert found.events[0]["ttft_seconds"] is None
        assert "ttft_seconds" in found.unknown
    if "e2e 0" in expect:
        assert found.events[0]["e2e_seconds"] == 0.0
    if "priority '0'" in expect:
        assert found.events[0]["priority"] == "0"
    if "pool 'default'" in expect:
        assert found.events[0]["pool"] == "default"


def foreign(name):
    return json.dumps(json.loads((FIELD / "telemetry" / name).read_text())["record"]).encode()


def test_formats_of_other_software():
    litellm = inspected(foreign("foreign-litellm-slp-success.json")).events[0]
    wanted = {"model": "llama-3.1-8b-instruct", "status": "ok", "input_tokens": 1040, "output_tokens": 233}
    assert {name: litellm[name] for name in wanted} == wanted
    assert litellm["cached_input_tokens"] == 512
    assert litellm["ttft_seconds"] == pytest.approx(0.3, abs=1e-6)
    envoy = inspected(foreign("foreign-envoy-aigw-ok.json")).events[0]
    assert {name: envoy[name] for name in wanted} == wanted
    assert envoy["e2e_seconds"] == 6.4
    assert "text inside `log`" in inspected(foreign("foreign-fluentbit-wrapped.json")).detail
    answer = inspected(foreign("foreign-openai-chat-completion-object.json"))
    assert (answer.verdict, answer.codec) == ("refused", "openai_usage")
    assert "duration" in answer.detail


def test_spans_of_a_real_collector():
    ok = inspected((FIELD / "otlp" / "otlp_json-chat-ok.json").read_bytes())
    (event,) = ok.events
    assert event["event_id"] == "fc227e1370145d391451c9f19dd3e8d3-fe0b1665950640e5"
    assert (event["status"], event["input_tokens"], event["output_tokens"]) == ("ok", 1840, 233)
    assert (event["cached_input_tokens"], event["ttft_seconds"], event["pool"]) == (512, 0.31, "chat")
    limited = inspected((FIELD / "otlp" / "otlp_json-rate-limited.json").read_bytes())
    assert [e["status"] for e in limited.events] == ["rejected"]
    assert limited.unknown == ["input_tokens", "output_tokens"]


def test_logged_payloads_of_a_real_litellm():
    lines = (FIELD / "emitters" / "litellm-standard-logging-payload.jsonl").read_bytes().splitlines()
    found = [inspected(line) for line in lines]
    assert [f.verdict for f in found] == ["accepted"] * len(lines)
    assert {f.events[0]["status"] for f in found} == {"ok", "error", "rejected", "cancelled"}


def test_reused_ids_cost_no_demand():
    for path in sorted((FIELD / "telemetry").glob("ids-*.jsonl")):
        records = path.read_bytes().splitlines()[1:]
        aggregator = PartitionAggregator("t", 0, "p", EventLimits(), 1_000)
        values = [*records, *records]
        delta, dead = aggregator.fold(values, range(len(values)), [-1] * len(values), 0, len(values), NOW)
        assert (delta.events, delta.duplicates, dead) == (len(set(records)), 2 * len(records) - len(set(records)), [])
        assert delta.reused_ids > 0


@pytest.mark.parametrize("unit", [1, 10**6, 10**9])  # record-timestamps.md: seconds, microseconds, nanoseconds
def test_record_timestamps_in_another_unit_are_ignored(unit):
    accepted = [case.values[0] for case in lines() if case.id.startswith("times: lower-case")]
    values = [json.dumps(case["record"]).encode() for case in accepted]
    aggregator = PartitionAggregator("t", 0, "p", EventLimits(), 1_000)
    delta, dead = aggregator.fold(values, range(1), [int(NOW * unit)], 0, 1, NOW)
    assert (delta.events, dead, delta.unknown["record_timestamp"]) == (1, [], 1)
