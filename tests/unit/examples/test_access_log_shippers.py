"""Vector and Fluent Bit are not run here: their configurations are read, and records as they write them are decoded."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.events.codecs.base import RawRecord
from pipeline.events.codecs.registry import codec_for

ROOT = Path(__file__).resolve().parents[3]
LINE: dict[str, Any] = json.loads((ROOT / "tests" / "data" / "codecs" / "envoy-ok.json").read_text())["record"]
TOPIC = "inference.access-log"


def _read(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "emitters" / name).read_text())
    return read


def _events(record: dict[str, Any]) -> Sequence[Mapping[str, Any]]:
    return codec_for("envoy_ai_gateway", None, None).decode(RawRecord(json.dumps(record).encode())).events


def test_fluent_bit_keeps_every_field_of_a_line_and_its_timestamp_changes_nothing() -> None:
    config = _read("fluent-bit/fluent-bit.yaml")
    (tail,), (kafka,) = config["pipeline"]["inputs"], config["pipeline"]["outputs"]
    parsers = {parser.pop("name"): parser for parser in config["parsers"]}
    assert parsers[tail["parser"]] == {"format": "json"}, "a time_key would be taken out of the record"
    assert (kafka["name"], kafka["format"], kafka["topics"]) == ("kafka", "json", TOPIC)
    assert len(_events(LINE)) == 1
    assert _events({"@timestamp": 1764547200.123456, **LINE}) == _events(LINE)


def test_vector_sends_the_line_itself() -> None:
    config = _read("vector/vector.yaml")
    sink = config["sinks"]["requests"]
    assert sink["inputs"] == list(config["sources"])
    assert (sink["encoding"], sink["topic"]) == ({"codec": "raw_message"}, TOPIC)
