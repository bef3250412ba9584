"""The LiteLLM callback of the emitters."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.examples.support import ROOT, SCHEMA


def payload(**fields: Any) -> dict[str, Any]:
    usual = {
        "id": "resp_" + "x" * 400,
        "litellm_call_id": "call-1",
        "call_type": "acompletion",
        "cache_hit": None,
        "stream": None,
        "status": "success",
        "custom_llm_provider": "hosted_vllm",
        "startTime": 1_795_983_643.6,
        "endTime": 1_795_983_646.6,
        "completionStartTime": 1_795_983_646.6,
        "model": "hosted_vllm/llama",
        "model_group": "llama",
        "prompt_tokens": 185,
        "completion_tokens": 13,
        "messages": "secret prompt",
        "metadata": {
            "usage_object": {"prompt_tokens_details": {"cached_tokens": 128}},
            "user_api_key_team_alias": "acme",
        },
    }
    return usual | fields


def test_a_litellm_call_becomes_an_event_without_private_text(emitter: Callable[[str], Any]) -> None:
    fields = emitter("litellm_callback").event_fields(payload())
    event = emitter("event").finished_event(fields, {"pool": "chat"})
    assert not list(SCHEMA.iter_errors(event))
    assert (event["input_tokens"], event["output_tokens"], event["cached_input_tokens"]) == (185, 13, 128)
    assert event["tenant"] == "acme"
    assert "ttft_seconds" not in event
    assert "secret" not in json.dumps(event)


def test_a_streamed_litellm_call_has_a_ttft(emitter: Callable[[str], Any]) -> None:
    fields = emitter("litellm_callback").event_fields(payload(stream=True, completionStartTime=1_795_983_644.1))
    assert fields["ttft_seconds"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"error_information": {"error_code": "499", "error_class": "ClientDisconnected"}}, "cancelled"),
        ({"status": "failure", "error_information": {"error_code": "429"}}, "rejected"),
        ({"status": "failure", "error_information": {"error_code": "500"}}, "error"),
        ({"status": "failure", "error_information": {"error_code": "400"}}, "error"),
        ({"status": "failure", "error_information": {"error_code": "", "error_class": "APITimeoutError"}}, "timeout"),
        ({"status": "failure", "error_information": None}, "error"),
    ],
)
def test_litellm_outcomes(emitter: Callable[[str], Any], fields: dict[str, Any], status: str) -> None:
    assert emitter("litellm_callback").event_fields(payload(**fields))["status"] == status


def test_failed_litellm_calls_have_unknown_tokens_and_ids_of_their_own(emitter: Callable[[str], Any]) -> None:
    of = emitter("litellm_callback").event_fields
    failed, served = of(payload(status="failure", prompt_tokens=0, completion_tokens=0)), of(payload())
    assert failed["input_tokens"] is None
    assert failed["output_tokens"] is None
    assert failed["event_id"] != served["event_id"]  # a fallback shares the call id


def test_an_answer_from_litellms_cache_is_no_load(emitter: Callable[[str], Any]) -> None:
    assert emitter("litellm_callback").event_fields(payload(cache_hit=True)) is None


def test_recorded_litellm_payloads_become_valid_events(emitter: Callable[[str], Any]) -> None:
    recorded = ROOT.parent / "shared/field/emitters/litellm-standard-logging-payload.jsonl"
    if not recorded.exists():
        pytest.skip("recorded payloads are not here: shared/field/emitters/litellm-standard-logging-payload.jsonl")
    statuses = []
    for line in recorded.read_text().splitlines():
        event = emitter("event").finished_event(
            emitter("litellm_callback").event_fields(json.loads(line)), {"pool": "p"}
        )
        assert not list(SCHEMA.iter_errors(event)) or event["status"] != "ok"
        statuses.append(event["status"])
    assert statuses == ["ok", "ok", "error", "rejected", "ok", "ok", "cancelled"]
