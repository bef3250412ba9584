"""``fleet plan``: the example, its JSON against the schema, and what is refused with file and line."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config import resources

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "fleet" / "fleet.toml"
SMALL = """\
budget_dollars_per_hour = 50.0

[[pools]]
name = "chat"
model = "llama-3.1-8b"
demand_requests_per_second = [20.0]
input_tokens = 1000
output_tokens = 200
tensor_parallel = [1]

[[stock]]
name = "h100"
gpu = "h100-sxm"
capacity_type = "on_demand"
count = 4
dollars_per_gpu_hour = 3.0
price_source = "a price list"
price_as_of = 2026-11-01
"""


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def plan(*args, code=0):
    result = CliRunner().invoke(app, ["fleet", "plan", *map(str, args), "--as-of", "2026-11-30"])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def planned(*args, code=0):
    data = json.loads(plan(*args, "-o", "json", code=code).stdout)
    schema = json.loads(resources.find("schemas/fleet-plan.v1.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(data, schema)
    return data


@pytest.mark.slow
def test_the_example_holds_every_slo_within_its_budget():
    data = planned(EXAMPLE)
    assert data["holds"]
    assert data["dollars_per_hour"] <= data["budget_dollars_per_hour"]
    assert data["saving_against_one_type_share"] > 0
    for row in data["pools"]:
        assert row["capacity_requests_per_second"] >= row["demand_requests_per_second"]
    chat = data["pools"][0]
    assert chat["api"]["dollars_per_hour"] == pytest.approx(45 * 3600 * (1200 * 0.1 + 250 * 0.2) / 1e6)
    assert data["stale_prices"] == []
    # The command's answer is the same each time.
    assert planned(EXAMPLE) == data


@pytest.mark.slow
def test_other_precisions_and_drafts_are_chosen_where_they_carry_more_and_say_what_they_leave_out(tmp_path):
    path = tmp_path / "fleet.toml"
    more = 'precisions = ["fp8"]\ndraft_tokens = 4\nacceptance = 0.8\ndraft_cost = 0.05\n'
    path.write_text(SMALL.replace("tensor_parallel = [1]\n", "tensor_parallel = [1]\n" + more))
    (choice,) = planned(path)["choices"]
    assert (choice["pool"], choice["precision"], choice["draft_tokens"], choice["acceptance"]) == (
        "chat",
        "fp8",
        4,
        0.8,
    )
    text = plan(path).stdout
    assert (
        "chat on h100, tensor parallel 1: fp8 weights and 4 drafts with 0.8 accepted; the quality of the answers is"
        in text
    )
    path.write_text(SMALL)
    assert planned(path)["choices"] == []
    path.write_text(SMALL.replace("tensor_parallel = [1]\n", "tensor_parallel = [1]\ndraft_tokens = 4\n"))
    assert "they have no defaults" in plan(path, code=2).stderr


@pytest.mark.slow
def test_a_budget_that_is_too_small_says_who_goes_short_and_what_would_do():
    data = planned(EXAMPLE, "--budget", "25", "--scenarios", "4", "--seed", "3", code=3)
    assert [row["short_share"] > 0 for row in data["pools"]] == [False, True, True]
    least = data["least_regret"]
    assert least["regret"]["expected_dollars_per_hour"] <= least["regret_of_quantile_mix"]["expected_dollars_per_hour"]
    text = plan(EXAMPLE, "--budget", "25", code=3).stdout
    assert "agents (priority 2) goes short by" in text
    assert f"The smallest budget that would do: ${data['smallest_budget_dollars_per_hour']:,.2f}/h." in text


def test_scenarios_of_the_file_and_an_old_price(tmp_path):
    path = tmp_path / "fleet.toml"
    rates = "".join(f"[[scenarios]]\nweight = 2\nrequests_per_second = {{chat = {rate}}}\n" for rate in (5, 20.0, 40))
    path.write_text(SMALL.replace("2026-11-01", "2026-08-01") + rates)
    result = plan(path)
    assert "Least expected regret over 3 scenarios" in result.stdout
    assert "the price of stock h100 of 2026-08-01 is 121 days old, more than 90" in result.stderr
    assert planned(path)["stale_prices"] == [{"stock": "h100", "as_of": "2026-08-01", "age_days": 121}]


@pytest.mark.parametrize(
    ("levels", "warned"),
    [("", False), ("demand_levels = [0.5, 0.9]\n", True), ("demand_levels = [0.5, 0.95]\n", False)],
)
def test_a_quantile_beyond_the_told_demand_is_said(tmp_path, levels, warned):
    path = tmp_path / "fleet.toml"
    rates = "[10.0, 20.0]" if levels else "[20.0]"
    path.write_text(
        SMALL.replace("demand_requests_per_second = [20.0]\n", f"{levels}demand_requests_per_second = {rates}\n")
    )
    said = plan(path).stderr
    assert ("demand_levels of chat end at 0.9: its demand at 0.95 is not told" in said) is warned
    assert "demand_levels" in plan(path, "--quantile", "0.99").stderr if levels else "demand_levels" not in said


def test_an_old_price_of_an_api_is_flagged_once_however_many_pools_compare_with_it(tmp_path):
    path = tmp_path / "fleet.toml"
    two = SMALL.replace("tensor_parallel = [1]", 'tensor_parallel = [1]\napi = "hosted"')
    second = two[two.index("[[pools]]") : two.index("[[stock]]")].replace('"chat"', '"batch"')
    api = """
[[apis]]
name = "hosted"
dollars_per_million_input_tokens = 0.1
dollars_per_million_output_tokens = 0.3
price_source = "a price list"
price_as_of = 2026-08-01
"""
    path.write_text(two + second + api)
    told = plan(path)
    assert told.stderr.count("the price of API hosted of 2026-08-01 is 121 days old, more than 90") == 1
    assert "stock" not in told.stderr
    asked = [pool["api"] for pool in planned(path)["pools"]]
    assert [(a["name"], a["price_age_days"], a["price_stale"]) for a in asked] == [("hosted", 121, True)] * 2
    path.write_text(two + second + api.replace("2026-08-01", "2026-11-01"))
    assert plan(path).stderr == ""
    assert not planned(path)["pools"][0]["api"]["price_stale"]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("[20.0]", "[nan]", 6, "finite"),
        ("[20.0]", "[-1.0]", 6, "greater than or equal to 0"),
        ("[20.0]", "[1.0, 2.0]", 3, "1 quantile levels with 2 values"),
        ('"llama-3.1-8b"', '"llama-9"', 5, "unknown model"),
        ('"llama-3.1-8b"', '"/nowhere/config.json"', 5, "cannot read"),
        ("input_tokens = 1000", 'input_tokens = "many"', 7, "valid number"),
        ("output_tokens = 200", "output_tokens = 200\nprecision = 'fp3'", 3, "fp3"),
        ("output_tokens = 200", "output_tokens = 200\ngpus = ['h9']", 9, "unknown GPU"),
        ("output_tokens = 200", "output_tokens = 200\napi = 'x'", 9, "api 'x' is not one of the [[apis]]"),
        ('"h100-sxm"', '"h999"', 11, "unknown GPU"),
        ("count = 4", "count = -1", 15, "greater than or equal to 0"),
        ("count = 4", "count = 4.5", 15, "integer"),
        ("count = 4", "counts = 4", 11, "count: Field required"),
        ("3.0", "inf", 16, "finite"),
        ("3.0", "0.0", 16, "greater than 0"),
        ('price_source = "a price list"', "", 11, "needs price_source and price_as_of"),
        ("2026-11-01", '"yesterday"', 18, "price_as_of"),
        ("on_demand", "leased", 14, "reserved"),
        ("50.0", "-5.0", 1, "greater than or equal to 0"),
        ("[[stock]]", "[[stock", 11, ""),
        ('name = "chat"', 'name = "chat" x', 4, ""),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_line(tmp_path, old, new, line, words):
    path = tmp_path / "fleet.toml"
    assert SMALL.count(old) >= 1
    path.write_text(SMALL.replace(old, new, 1))
    text = plan(path, code=2).stderr.strip()
    assert f"{path}, line {line}: " in text
    assert words in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("more", "line", "words"),
    [
        ('[[stock]]\nname = "h100"\ngpu = "l40s"\ncount = 1\n', 20, "'h100' is there twice"),
        ('[[current]]\npool = "chat"\nstock = "x"\nreplicas = 1\n', 19, "which the fleet does not have"),
        ("[[scenarios]]\nrequests_per_second = {chats = 1}\n", 19, "see 'chat'"),
        ('[[stock]]\nname = "b"\ngpu = "l40s"\ncapacity_type = "spot"\ncount = 1\n', 19, "spot stock needs"),
        ("[[other]]\n", 1, "other"),
    ],
)
def test_entries_that_contradict_others_are_refused(tmp_path, more, line, words):
    path = tmp_path / "fleet.toml"
    path.write_text(SMALL + more)
    text = plan(path, code=2).stderr
    assert words in text
    assert f"line {line}: " in text


def test_no_stock_and_a_budget_below_the_reserved_stock(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text(SMALL.replace("count = 4", "count = 0"))
    data = planned(path, code=3)
    assert (data["mix"], data["pools"][0]["short_share"]) == ([], 1.0)
    assert data["smallest_budget_dollars_per_hour"] is None
    path.write_text(SMALL.replace("on_demand", "reserved"))
    text = plan(path, "--budget", "5", code=2).stderr
    assert "budget_dollars_per_hour (5) must not be below the cost of the reserved stock (12)" in text


@pytest.mark.slow
def test_a_search_that_ends_at_its_limit_still_answers(monkeypatch):
    monkeypatch.setattr("pipeline.cli.fleet.MOST_WORK", 1)
    data = planned(EXAMPLE, "--budget", "30", code=3)
    assert data["optimality_gap"] is None or data["optimality_gap"] >= 0
    assert data["dollars_per_hour"] <= 30 + 1e-6


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    line=st.integers(0, SMALL.count("\n") - 1),
    value=st.sampled_from(
        [
            "",
            "x",
            "= 1",
            "[[",
            "1e308",
            "-0.0",
            "9" * 400,
            "true",
            "[]",
            "{}",
            "[[1]]",
            "'\\u202e'",
            "1979-05-27",
            "nan",
        ]
    ),
)
def test_a_damaged_file_is_planned_or_refused_with_its_line(tmp_path, line, value):
    lines = SMALL.splitlines()
    key = lines[line].partition("=")[0]
    lines[line] = f"{key}= {value}" if "=" in lines[line] else value
    path = tmp_path / "fleet.toml"
    path.write_text("\n".join(lines))
    result = CliRunner().invoke(app, ["fleet", "plan", str(path), "--as-of", "2026-11-30"])
    assert result.exit_code in (0, 2, 3), result.output
    assert isinstance(result.exception, SystemExit | None)
    if result.exit_code == 2:
        assert f"{path}, line " in result.stderr
