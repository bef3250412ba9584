"""``demand shape``: JSON against the schema, the page, and what is refused with file and line."""

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config import resources

CHOICES = Path(__file__).resolve().parents[3] / "examples" / "demand" / "choices.toml"


@pytest.fixture
def trace(tmp_path):
    rows = ["arrived_at,input_tokens,output_tokens,cached_input_tokens,reasoning_output_tokens,region"]
    for number in range(600):
        given, got = (200, 40) if number % 3 else (3000, 400)
        cached = "" if number % 7 == 0 else given // 2
        rows.append(f"{1_767_225_600 + 60 * number},{given},{got},{cached},{got // 4},{'eu' if number % 4 else '<b>'}")
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def shape(*args, code=0):
    result = CliRunner().invoke(app, ["demand", "shape", *map(str, args)], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.mark.slow
def test_the_shape_of_a_trace_as_json_and_as_a_page(trace, tmp_path):
    page = tmp_path / "shape.html"
    told = shape(
        trace, "--choices", CHOICES, "--dimension", "region", "--report", page, "--as-of", "2027-06-01", "-o", "json"
    )
    data = json.loads(told.stdout)
    schema = json.loads(resources.find("schemas/demand-shape.v1.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(data, schema)
    assert data["reasoning_share"]["value"] == pytest.approx(0.25)
    assert data["cached_share"]["value"] == pytest.approx(0.5)
    assert data["cached_told_share"] == pytest.approx(514 / 600)
    assert {row["value"] for row in data["dimensions"]["region"]} == {"eu", "<b>"}
    assert [split["values"] for split in data["routing"]["splits"]] == [2]
    assert any("quality" in caveat for caveat in data["caveats"])
    assert "days old, more than 90" in told.stderr
    text = page.read_text(encoding="utf-8")
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "Short requests to" in shape(trace, "--choices", CHOICES).stdout


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('"llama-3.1-8b"', '"llama-9"', 12, "unknown model"),
        ('"l40s"', '"l9"', 11, "unknown GPU"),
        ("tensor_parallel = 4", "tensor_parallel = 4\nprecision = 'fp3'", 6, "fp3"),
        ('gpu = "l40s"', 'gpu = "l40s"\ndollars_per_gpu_hour = 2.0', 11, "price_source"),
        ("0.95", "2.0", 18, "less than or equal"),
        ("[slo]", "[slo", 15, ""),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_line(trace, tmp_path, old, new, line, words):
    path = tmp_path / "choices.toml"
    path.write_text(CHOICES.read_text(encoding="utf-8").replace(old, new))
    told = shape(trace, "--choices", path, code=2)
    assert told.stderr.startswith(f"tokentide: {path}, line {line}: "), told.stderr
    assert words in told.stderr


def test_a_trace_that_cannot_be_read_is_refused(trace, tmp_path):
    assert "no column 'planet'" in shape(trace, "--dimension", "planet", code=2).stderr
    counts = tmp_path / "counts.csv"
    counts.write_text("timestamp,requests\n1767225600,5\n1767225660,6\n")
    assert shape(counts, code=2).stderr.startswith("tokentide: ")
