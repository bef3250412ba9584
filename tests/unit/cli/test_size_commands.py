"""``size --explain``, ``whatif`` and ``calibrate``: what they print, what they write, what they refuse."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app

RUN = {
    "request_rate": 4.0,
    "duration": 100.0,
    "completed": 400,
    "total_input_tokens": 400_000,
    "total_output_tokens": 80_000,
    "request_throughput": 4.0,
    "mean_ttft_ms": 100.0,
    "median_ttft_ms": 90.0,
    "mean_tpot_ms": 10.0,
}
LLAMA = ("--model", "llama-3.1-8b", "--gpu", "H100-SXM")


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def refused(result, *words, code=2):
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    line = result.stderr.strip()
    assert "\n" not in line
    assert line.startswith("tokentide: ")
    for word in words:
        assert word in line


def ran(*args):
    result = invoke(*args)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def observed(tmp_path):
    files = []
    for number, (rate, tpot) in enumerate([(2.0, 8.0), (8.0, 14.0), (20.0, 22.0)]):
        path = tmp_path / f"run{number}.json"
        # As many requests as the rate brings in the duration, each as long as those of RUN.
        ratio = rate / RUN["request_throughput"]
        totals = {name: round(RUN[name] * ratio) for name in ("completed", "total_input_tokens", "total_output_tokens")}
        rates = {"request_rate": rate, "request_throughput": rate}
        path.write_text(json.dumps(RUN | totals | rates | {"mean_tpot_ms": tpot}))
        files.append(path)
    out = tmp_path / "observed.csv"
    ran("calibrate", "import-loadtest", *files, "--tool", "vllm", *LLAMA, "--out", out)
    return out


@pytest.mark.parametrize("command", [["whatif"], ["calibrate", "import-loadtest"], ["calibrate", "show"]], ids=" ".join)
def test_every_command_has_help_with_an_example(command):
    assert "Example: tokentide " + " ".join(command) in " ".join(ran(*command, "--help").output.split())


def test_an_explanation_in_thirteen_steps(tmp_path):
    page = tmp_path / "e.html"
    asked = ("size", *LLAMA, "--rate", 20, "--rate-p10", 15, "--rate-p90", 30, "--input-scv", 0.5, "--explain")
    text = ran(*asked).stdout
    for words in ("1. Characterise", "13. Monitor", "p90 of 30 req/s", "Sources", "Lambda"):
        assert words in text
    data = json.loads(ran(*asked, "-o", "json").stdout)
    assert [step["number"] for step in data["steps"]] == list(range(1, 14))
    result = ran(*asked, "--html", page, "--api-input-price", 0.2, "--api-output-price", 0.8)
    assert page.read_text().startswith("<!doctype html>")
    assert "break-even" in page.read_text()
    assert "replicas" in result.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--explain"], "--rate"),
        (["--rate", "5", "--rate-p90", "4", "--explain"], "ascend"),
        (["--rate", "5", "--rate-p90", "9"], "--explain"),
        (["--rate", "5", "--explain", "--api-input-price", "1"], "two prices"),
        (["--rate", "5", "--explain", "--lead-time", "soon"], "soon"),
        (["--rate", "5", "--explain", "--html", "/nowhere/at/all.html"], "cannot write"),
        (["--catalog", "absent.yaml"], "absent.yaml"),
        (["--observed", "absent.csv"], "absent.csv"),
    ],
)
def test_what_cannot_be_explained_is_said(args, words):
    refused(invoke("size", *LLAMA, *args), words)


def test_measurements_change_the_answer_and_its_confidence(observed):
    asked = ("size", *LLAMA, "--input-tokens", 1000, "--output-tokens", 200, "--rate", 20, "--max-num-seqs", 100)
    asked = (*asked, "-o", "json")
    before = json.loads(ran(*asked).stdout)
    after = json.loads(ran(*asked, "--observed", observed).stdout)
    assert (before["confidence"], after["confidence"]) == ("interpolated", "calibrated")
    assert after["operating_point"]["requests_per_second"] != before["operating_point"]["requests_per_second"]
    explained = ran("size", *LLAMA, "--rate", 20, "--observed", observed, "--explain").stdout
    assert "calibrated on 3 measured points" in explained
    refused(
        invoke("size", "--model", "qwen3-8b", "--gpu", "h100", "--observed", observed), "no point of this deployment"
    )


def test_a_table_is_answered_with_what_was_measured(tmp_path, observed):
    asked, out = tmp_path / "in.csv", tmp_path / "out.csv"
    asked.write_text("id,model,gpu,isl,osl,request_rate\na,llama-3.1-8b,h100,1000,200,8\nb,qwen3-8b,h100,1000,200,4\n")
    ran("size", "--points", asked, "--out", out, "--observed", observed)
    assert list(pd.read_csv(out)["confidence"]) == ["calibrated", "interpolated"]


def test_a_catalogue_of_ones_own(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "gpus:\n  h100-ours:\n    like: h100-sxm\n"
        "    price: {dollars_per_gpu_hour: 1.5, source: contract, as_of: 2026-11}\n"
    )
    data = json.loads(
        ran(
            "size", "--model", "llama-3.1-8b", "--gpu", "h100-ours", "--rate", 5, "--catalog", mine, "-o", "json"
        ).stdout
    )
    assert data["price"] == {"dollars_per_gpu_hour": 1.5, "source": "contract", "as_of": "2026-11"}
    assert "h100-ours" in ran("size", "--list", "--catalog", mine).stdout
    mine.write_text("gpus: [")
    refused(invoke("size", *LLAMA, "--catalog", mine), "not YAML")
    mine.write_text("- a\n")
    refused(invoke("size", *LLAMA, "--catalog", mine), "must hold a mapping")
    mine.write_text("gpus: {x: {colour: red}}\n")
    refused(invoke("size", *LLAMA, "--catalog", mine), "colour")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[1, 2]", "not a model configuration"),
        (b"{", "not JSON"),
        (b"{}", "num_hidden_layers"),
        (b'{"num_hidden_layers": 1e999}', "num_hidden_layers"),
    ],
)
def test_configurations_from_outside(tmp_path, content, words):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    refused(invoke("size", "--model", path, "--gpu", "h100", "--rate", 1), words)
    refused(invoke("size", "--model", tmp_path, "--gpu", "h100", "--rate", 1), "unknown model")


@pytest.mark.slow
def test_an_import_can_be_shown_and_added_to(tmp_path, observed):
    shown = ran("calibrate", "show", observed).stdout
    assert "3 points" in shown
    assert "median error of TPOT" in shown
    (entry,) = json.loads(ran("calibrate", "show", observed, "-o", "json").stdout)
    assert entry["points"] == len(entry["rows"]) == 3
    assert entry["median_error"]["tpot_left_out"] is not None
    again = ("calibrate", "import-loadtest", tmp_path / "run0.json", *LLAMA, "--out", observed)
    refused(invoke(*again), "exists", "--append")
    ran(*again, "--append", "--tp", 2)
    assert len(json.loads(ran("calibrate", "show", observed, "-o", "json").stdout)) == 2
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    refused(
        invoke("calibrate", "import-loadtest", tmp_path / "run0.json", *LLAMA, "--out", other, "--append"), "columns"
    )


@pytest.mark.parametrize("content", ["", "[]", "null", '{"benchmarks": 3}', "[" * 90_000])
def test_reports_that_are_none(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)
    result = invoke("calibrate", "import-loadtest", path, *LLAMA, "--out", tmp_path / "o.csv")
    refused(result, "run.json")
    assert not (tmp_path / "o.csv").exists()


def test_the_report_of_another_tool_is_told(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(RUN))
    refused(invoke("calibrate", "import-loadtest", path, "--tool", "guidellm", *LLAMA), "not a GuideLLM report")
    refused(invoke("calibrate", "import-loadtest", path, "--model", "lama", "--gpu", "h100"), "unknown model")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("model,gpu\n", "no rows"),
        ("model,gpu\nllama-3.1-8b,h100,3\n", "more cells"),
        ("model,gpu,isl,osl,request_rate,tpot_ms\nllama-3.1-8b,h100,10,10,1,fast\n", "tpot_ms must be a number"),
        ("model,gpu,isl,osl,request_rate,tpot_ms\n,h100,10,10,1,5\n", "model is missing"),
        ('model,gpu\n"unclosed,h100\n', "not CSV"),
    ],
)
def test_tables_of_measurements_that_cannot_be(tmp_path, content, words):
    path = tmp_path / "observed.csv"
    path.write_text(content)
    refused(invoke("calibrate", "show", path), words)
    refused(invoke("size", *LLAMA, "--observed", path), words)


def test_plans_side_by_side():
    asked = (
        "whatif",
        *LLAMA,
        "--rate",
        40,
        "--demand",
        "2,0.5",
        "--gpus",
        "h200",
        "--precisions",
        "fp8",
        "--prices",
        1,
    )
    text = ran(*asked).stdout
    for words in ("now", "demand × 2", "1 × h200-sxm, bf16", "1 × h100-sxm, fp8", "$1 per GPU-hour", "$/1M out"):
        assert words in text
    data = json.loads(ran(*asked, "-o", "json").stdout)
    plans = {plan["plan"]: plan for plan in data}
    assert plans["demand × 2"]["replicas"] > plans["now"]["replicas"] > plans["demand × 0.5"]["replicas"]
    assert plans["$1 per GPU-hour"]["dollars_per_hour"] == plans["now"]["gpus"]
    assert plans["1 × h200-sxm, bf16"]["price"]["source"].startswith("RunPod")


@pytest.mark.slow
def test_ways_of_serving_parallelism_engines_lead_times_and_an_api_side_by_side():
    asked = ["whatif", *LLAMA, "--rate", 60, "--demand", "2", "--pps", 2, "--dps", 2, "--engines", "sglang", "--apart"]
    asked += ["--acceptances", "0.2,0.8", "--draft-tokens", 4, "--draft-cost", 0.05, "--precisions", "fp8"]
    asked += ["--lead-times", "1m,10m", "--api-prices", "0.05/0.1"]
    plans = {plan["plan"]: plan for plan in json.loads(ran(*asked, "-o", "json").stdout)}
    assert list(plans) == [
        "now",
        "1 × h100-sxm, fp8",
        "1 × h100-sxm, bf16, PP 2",
        "1 × h100-sxm, bf16, DP 2",
        "engine sglang",
        "4 drafts, 0.2 accepted",
        "4 drafts, 0.8 accepted",
        "prefill and decode apart",
        "demand × 2",
        "demand × 2 at once, 60 s later",
        "demand × 2 at once, 600 s later",
        "API at $0.05 in, $0.1 out",
    ]
    assert (plans["now"]["caveats"], plans["now"]["acceptance"], plans["now"]["prefill_replicas"]) == ([], None, None)
    assert plans["1 × h100-sxm, fp8"]["caveats"] == ["the quality of the answers is not judged"]
    assert plans["engine sglang"]["engine"] == "sglang"
    assert plans["1 × h100-sxm, bf16, PP 2"]["pipeline_parallel"] == 2
    fast, slow = plans["4 drafts, 0.8 accepted"], plans["4 drafts, 0.2 accepted"]
    assert (fast["draft_tokens"], fast["acceptance"], fast["confidence"]) == (4, 0.8, "extrapolated")
    assert slow["capacity_requests_per_second"] < plans["now"]["capacity_requests_per_second"]
    assert fast["capacity_requests_per_second"] > plans["now"]["capacity_requests_per_second"]
    assert "above an acceptance of 0." in fast["caveats"][0]
    assert 0 < plans["prefill and decode apart"]["prefill_replicas"] < plans["prefill and decode apart"]["replicas"]
    late = [plans[f"demand × 2 at once, {seconds} s later"]["late_requests"] for seconds in (60, 600)]
    assert 0 < 9 * late[0] < late[1]
    # 216,000 requests an hour of 2,000 and 300 tokens at 130 millionths of a dollar each: 28.08 dollars.
    api = plans["API at $0.05 in, $0.1 out"]
    assert api["dollars_per_hour"] == pytest.approx(60 * 3_600 * (2_000 * 0.05 + 300 * 0.1) / 1e6)
    now = plans["now"]
    capacity = now["replicas"] * now["capacity_requests_per_second"]
    assert api["break_even_utilisation"] == pytest.approx(
        now["dollars_per_hour"] / (api["dollars_per_hour"] * capacity / 60)
    )
    text = ran(*asked).stdout
    apart = plans["prefill and decode apart"]
    decode = apart["replicas"] - apart["prefill_replicas"]
    assert f"prefill and decode apart: {apart['prefill_replicas']} for prefill, {decode} for decode" in text
    assert "4 drafts, 0.2 accepted; 4 drafts, 0.8 accepted: the draft model's memory" in text
    assert f"now is cheaper above {api['break_even_utilisation']:.0%} use" in text
    assert text.count("late: ") == 2


def test_combinations_are_ranked():
    asked = (
        "whatif",
        *LLAMA,
        "--rate",
        40,
        "--gpus",
        "all",
        "--precisions",
        "fp8",
        "--combine",
        "--top",
        5,
        "-o",
        "json",
    )
    costs = [plan["dollars_per_hour"] for plan in json.loads(ran(*asked).stdout)]
    assert len(costs) == 5
    assert costs == sorted(costs)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "nothing to compare"),
        (["--demand", "many"], "many"),
        (["--demand", "-1"], "above 0"),
        (["--demand", "nan"], "above 0"),
        (["--cached-shares", "0.5,2"], "--cached-shares must be from 0 to 1, not 2"),
        (["--cached-shares", "-0.1"], "at least 0"),
        (["--tps", "1.5"], "whole"),
        (["--gpus", "abacus"], "abacus"),
        (["--gpus", "all", "--combine", "--by", "beauty"], "beauty"),
        (["--pps", "0"], "above 0"),
        (["--acceptances", "0.7"], "have no default"),
        (["--acceptances", "0.7", "--draft-tokens", "4"], "have no default"),
        (["--acceptances", "1", "--draft-tokens", "4", "--draft-cost", "0.1"], "acceptance 1.0"),
        (["--draft-tokens", "4"], "need --acceptances"),
        (["--transfer-gigabytes-per-second", "5"], "needs --apart"),
        (["--lead-times", "5m"], "needs a --demand above 1"),
        (["--lead-times", "soon", "--demand", "2"], "is not a duration"),
        (["--api-prices", "0.5"], "such as 0.5/1.5"),
        (["--api-prices", "0.5/x"], "is not a number"),
        (["--api-prices", "0/0"], "such as 0.5/1.5"),
        (["--apart", "--combine"], "cannot be combined"),
        (["--api-prices", "1/2", "--combine"], "cannot be combined"),
    ],
)
def test_comparisons_that_cannot_be(args, words):
    refused(invoke("whatif", *LLAMA, "--rate", 4, *args), words)


def test_when_no_plan_can_be_had_it_fails():
    result = invoke("whatif", "--model", "deepseek-v3", "--gpu", "l4", "--rate", 4, "--demand", 2)
    assert result.exit_code == 1
    assert "GiB more" in result.stdout
