"""``fleet quarter``: the example, its JSON against the schema, its page, and what is refused with file and line."""

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config import resources

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "quarter" / "quarter.toml"


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def quarter(*args, code=0):
    result = CliRunner().invoke(app, ["fleet", "quarter", *map(str, args), "--paths", "60"])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.mark.slow
def test_the_example_as_json_and_as_a_page(tmp_path):
    page = tmp_path / "quarter.html"
    told = quarter(EXAMPLE, "--as-of", "2026-11-30", "--report", page, "-o", "json")
    data = json.loads(told.stdout)
    schema = json.loads(resources.find("schemas/fleet-quarter.v1.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(data, schema)
    (gpu,) = data["gpus"]
    assert len(gpu["gpus_by_week"]) == 13
    assert gpu["expected_dollars"] == pytest.approx(sum(gpu["expected_dollars_by_source"].values()))
    assert gpu["expected_dollars"] < min(
        gpu["expected_dollars_on_demand_only"], gpu["expected_dollars_committed_to_peak"]
    )
    assert gpu["committed_gpus"] == sum(one["gpus"] for one in gpu["commitments"])
    assert {one["name"] for one in gpu["growth_scenarios"]} == {"flat", "low", "expected", "high"}
    # 32,000 $ over 208 weeks of 168 hours, and what running them costs.
    bought = gpu["commitments"][1]["price"]["dollars_per_gpu_hour"]
    assert bought == pytest.approx(32_000 / 208 / 168 + 0.9)
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 3
    assert not any(word in text for word in ("<script", "<link", "<img", " src=", 'href="http'))


@pytest.mark.slow
def test_an_old_price_is_flagged_and_the_table_says_what_to_commit_to():
    told = quarter(EXAMPLE, "--as-of", "2027-03-15")
    assert "the price of one year of h100-sxm of 2026-11-30 is 105 days old, more than 90" in told.stderr
    assert "Commit to " in told.stdout


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('"llama-3.1-8b"', '"llama-9"', 8, "unknown model"),
        ('gpu = "h100-sxm"\ninput', 'gpu = "h999"\ninput', 9, "unknown GPU"),
        ('gpu = "h100-sxm"\ninput', 'gpu = "h100-sxm"\nprecision = "fp3"\ninput', 6, "fp3"),
        ('"chat.csv" ', '"none.csv" ', 14, "none.csv"),
        ('"requests_per_second"', '"requests"', 14, "requests"),
        ("0.40", "1.40", 21, "less than 1"),
        ("discount = 0.40", "discount = 0.40\ndollars_per_gpu_hour = 2.0", 18, "not both"),
        ("lifetime_weeks = 208", "", 26, "lifetime_weeks"),
        ("most_share = 0.2", "most_share = 2.0", 39, "less than or equal to 1"),
        ("1.90", "-1.90", 40, "greater than 0"),
        ("price_as_of = 2026-11-30", 'price_as_of = "soon"', 24, "price_as_of"),
        ('name = "own servers"', 'name = "one year"', 27, "twice"),
        ("[[spot]]", "[[spot", 37, ""),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_line(tmp_path, old, new, line, words):
    text = EXAMPLE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "quarter.toml"
    path.write_text(text.replace(old, new, 1))
    (tmp_path / "chat.csv").write_bytes((EXAMPLE.parent / "chat.csv").read_bytes())
    told = quarter(path, code=2)
    assert told.stderr.startswith(f"tokentide: {path}, line {line}: "), told.stderr
    assert words in told.stderr
