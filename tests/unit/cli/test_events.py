"""``tokentide events check``: a stable answer for every record of a file."""

import gzip
import json

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from tests.unit.events.codecs.test_golden import GOLDEN, record
from tests.unit.events.codecs.test_mapping import MAPPING, RECORD
from tests.unit.events.codecs.test_otlp import as_protobuf

KEYS = ["line", "verdict", "codec", "events", "unknown", "reason", "detail"]


def check(*arguments, stdin=None):
    result = CliRunner().invoke(app, ["events", "check", *map(str, arguments), "-o", "json"], input=stdin)
    return result.exit_code, json.loads(result.stdout) if result.exit_code in (0, 3) else result.output


def test_every_record_in_order_with_its_line(tmp_path):
    file = tmp_path / "mixed.jsonl"
    names = ["litellm-success", "otlp-no-requests", "openai-usage-no-duration", "otlp-old-names-and-errors"]
    file.write_bytes(b"\n\n".join(record(GOLDEN[name]) for name in names) + b"\n{\n")
    code, found = check(file)
    assert code == 3
    assert all(list(entry) == KEYS for entry in found)
    assert [(e["line"], e["verdict"], e["codec"], len(e["events"])) for e in found] == [
        (1, "accepted", "litellm", 1),
        (3, "ignored", "otlp_json", 0),
        (5, "refused", "openai_usage", 0),
        (7, "accepted", "otlp_json", 4),
        (8, "refused", None, 0),
    ]
    assert found[3]["unknown"] == ["input_tokens", "output_tokens"]


def test_events_of_an_alias_are_shown_in_the_pool_that_counts_them(tmp_path):
    event = {"event_id": "e1", "model": "sql-lora", "pool": "chat", "status": "ok", "input_tokens": 1}
    event |= {"output_tokens": 1, "arrived_at": 1.7e9, "e2e_seconds": 1.0}
    settings = tmp_path / "t.toml"
    settings.write_text(
        '[[pools]]\nmodel = "m"\npool = "chat"\naliases = ["sql-*"]\nprofile = "llama-3.1-8b"\naccelerator = "L40S"\n'
    )
    code, found = check("-", "-c", settings, stdin=json.dumps(event))
    assert code == 0
    shown = found[0]["events"][0]
    names = {name: shown[name] for name in ("model", "pool", "reported_model", "reported_pool")}
    assert names == {"model": "m", "pool": "chat", "reported_model": "sql-lora", "reported_pool": "chat"}
    assert "reported_model" not in check("-", stdin=json.dumps(event))[1][0]["events"][0]


def test_one_document_over_several_lines_from_stdin():
    code, found = check("-", stdin=json.dumps(GOLDEN["envoy-ok"]["record"], indent=2))
    assert (code, found[0]["line"], found[0]["codec"]) == (0, 1, "envoy_ai_gateway")


def test_a_binary_record(tmp_path):
    file = tmp_path / "batch.bin"
    file.write_bytes(as_protobuf(GOLDEN["otlp-client-and-server"]["record"]))
    for arguments in ((), ("--codec", "otlp_proto")):
        code, found = check(file, *arguments)
        assert (code, found[0]["codec"], len(found[0]["events"])) == (0, "otlp_proto", 1)


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_a_mapping_is_tried_on_a_file(tmp_path, suffix):
    file, mapping = tmp_path / "log.jsonl", tmp_path / f"mapping.{suffix}"
    file.write_text(json.dumps(RECORD))
    simple = {"model": "request.model", "arrived_at": {"path": "ts", "unit": "ms"}, "e2e_seconds": "timing.steps[0]"}
    lines = [f"{name} = {json.dumps(source)}" for name, source in simple.items() if isinstance(source, str)]
    lines.append('arrived_at = { path = "ts", unit = "ms" }')
    mapping.write_text(json.dumps({"mapping": simple}) if suffix == "json" else "[stream.mapping]\n" + "\n".join(lines))
    code, found = check(file, "--mapping", mapping)
    assert (code, found[0]["verdict"], found[0]["codec"]) == (0, "accepted", "mapping")
    assert MAPPING["model"] == simple["model"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--codec", "nope"),
        ("--codec", "mapping"),
        ("--codec", "litellm", "--mapping", "m.toml"),
        ("--mapping", "gone.toml"),
    ],
)
def test_wrong_usage_exits_2(tmp_path, arguments):
    file = tmp_path / "log.jsonl"
    file.write_text("{}")
    assert check(file, *arguments)[0] == 2


def test_a_file_that_is_not_there_exits_2(tmp_path):
    assert check(tmp_path / "gone")[0] == 2


def test_defaults_for_records_without_a_model(tmp_path):
    file = tmp_path / "sglang.log"
    file.write_bytes(record(GOLDEN["sglang-no-model"]))
    assert check(file)[1][0]["verdict"] == "refused"
    assert check(file, "--model", "m")[1][0]["events"][0]["model"] == "m"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1}\n{"a": 2}\n'.encode("utf-16"), "UTF-16"),
        (gzip.compress(b'{"a": 1}\n' * 9, mtime=0), "gzip"),
    ],
)
def test_a_file_that_is_no_text_is_one_record_that_says_so(tmp_path, content, words):
    file = tmp_path / "f"
    file.write_bytes(content)
    code, found = check(file)
    assert (code, len(found)) == (3, 1)
    assert words in found[0]["detail"]


def test_a_time_before_2001_is_no_epoch_time_however_old_events_may_be():
    event = {"event_id": "e1", "model": "m", "status": "ok", "arrived_at": 4052.5, "e2e_seconds": 1.0}
    code, (found,) = check("-", stdin=json.dumps(event))
    assert (code, found["reason"]) == (3, "too_old")
    assert "since the host or process started" in found["detail"]
