"""The example of docs/extending/codec.md works as it stands."""

import importlib.util
import json
from pathlib import Path

from pipeline.events.inspect import inspect_record
from pipeline.events.validation import EventLimits
from pipeline.testing import check_codec

FILE = Path(__file__).parents[4] / "examples" / "codecs" / "kong_ai.py"
LINE = {
    "started_at": 1_767_225_600_250,
    "latencies": {"request": 1_500, "kong": 3, "proxy": 1_497},
    "service": {"name": "chat"},
    "request": {"id": "r-1", "headers": {"authorization": "SECRET"}},
    "response": {"status": 200},
    "ai": {
        "proxy": {
            "usage": {"prompt_tokens": 100, "completion_tokens": 20},
            "meta": {"request_model": "m", "response_model": "m"},
            "payload": {"request": "SECRET"},
        }
    },
}


def codec():
    spec = importlib.util.spec_from_file_location("kong_ai", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.KongAiCodec()


def test_the_example_keeps_the_contract():
    check_codec(codec(), [json.dumps(LINE).encode()], private=["SECRET"])


def test_the_example_reads_requests_and_ignores_other_traffic():
    found = inspect_record(json.dumps(LINE).encode(), codec(), EventLimits(), 1_767_225_700.0)
    (event,) = found.events
    assert (event["pool"], event["status"], event["input_tokens"], event["e2e_seconds"]) == ("chat", "ok", 100, 1.5)
    refused = json.dumps(LINE | {"response": {"status": 429}}).encode()
    found = inspect_record(refused, codec(), EventLimits(), 1_767_225_700.0)
    assert (found.events[0]["status"], found.unknown) == ("rejected", ["input_tokens", "output_tokens"])
    other = json.dumps({key: value for key, value in LINE.items() if key != "ai"}).encode()
    assert inspect_record(other, codec(), EventLimits(), 1_767_225_700.0).verdict == "ignored"
