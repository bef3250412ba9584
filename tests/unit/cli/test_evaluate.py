from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.main import app
from pipeline.config import resources

POOL = '[[pools]]\nmodel = "m"\nprofile = "llama-3.1-8b"\naccelerator = "h100-sxm"\nlead_time_seconds = 60\n'


def evaluate(folder: Path, rows: str, *args: str) -> Result:
    (folder / "trace.csv").write_text("arrived_at,input_tokens,output_tokens\n" + rows, encoding="utf-8")
    (folder / "pool.toml").write_text(POOL, encoding="utf-8")
    return CliRunner().invoke(app, ["evaluate", str(folder / "trace.csv"), "--pool", str(folder / "pool.toml"), *args])


@pytest.mark.slow
def test_results_go_to_stdout_and_the_verdict_to_stderr(tmp_path: Path) -> None:
    rows = "".join(f"{second},1000,100\n" for second in range(240))
    page = tmp_path / "report.html"
    args = ("--policies", "tokentide,static-peak", "--lead-time", "2m", "--start-up", "30s", "--report", str(page))
    result = evaluate(tmp_path, rows, *args, "--json", "-")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [policy["policy"] for policy in found["policies"]] == ["tokentide", "static-peak"]
    assert (found["start_up_seconds"], found["pool"]["lead_time_seconds"]) == (30.0, 120.0)
    assert all(policy["slo_attainment"] == 1.0 for policy in found["policies"])
    assert found["verdict"].startswith("A simple rule is as good here: static-peak")
    assert found["verdict"] in result.stderr
    assert found["verdict"] in page.read_text(encoding="utf-8")
    table = evaluate(tmp_path, rows, *args)
    assert "100.00%" in table.stdout
    assert "regret" in table.stdout


@pytest.mark.slow
def test_a_single_request_and_one_that_no_replica_can_take(tmp_path: Path) -> None:
    result = evaluate(tmp_path, "7,1000,100\n", "--policies", "tokentide,oracle,static-mean", "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert [policy["unserved_requests"] for policy in json.loads(result.stdout)["policies"]] == [0, 0, 0]
    instant = evaluate(tmp_path, "7,1000,100\n" * 20, "--policies", "static-mean,hpa-kv", "--json", "-")
    for found in json.loads(result.stdout)["policies"] + json.loads(instant.stdout)["policies"]:
        assert (found["mean_replicas"], found["max_replicas"], found["late_requests"]) == (1.0, 1, 0)
        assert found["replica_hours"] == pytest.approx(53 / 3600), "to the end of the minute"
    result = evaluate(tmp_path, "7,9000000,100\n", "--policies", "tokentide,static-mean", "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert [policy["unserved_requests"] for policy in json.loads(result.stdout)["policies"]] == [1, 1]


@pytest.mark.slow
def test_replicas_may_be_there_at_once(tmp_path: Path) -> None:
    rows = "".join(f"{second},1000,100\n" for second in range(180))
    result = evaluate(tmp_path, rows, "--policies", "reactive", "--start-up", "0s", "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["start_up_seconds"] == 0.0


@pytest.mark.slow
def test_a_score_that_begins_after_the_end_is_refused(tmp_path: Path) -> None:
    result = evaluate(tmp_path, "0,10,10\n60,10,10\n", "--score-from", "1h")
    assert result.exit_code == 2
    assert "before anything is scored" in result.stderr


@pytest.mark.slow
def test_loading_before_an_announced_event_is_told(tmp_path: Path) -> None:
    rows = "".join(f"{second},1000,100\n" for second in range(900))
    events = tmp_path / "events.csv"
    events.write_text(
        "id,kind,starts_at,ends_at,expected_size\nsale,sale,2026-01-05T00:10:00Z,2026-01-05T01:00:00Z,30\n",
        encoding="utf-8",
    )
    told = ("--calendar", str(events), "--start-up", "provisioning=2m,weights=90s,warm-up=30s", "--json", "-")
    result = evaluate(tmp_path, rows, "--policies", "reactive,preload", *told)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["start_up"] == {"total_seconds": 240.0, "weights_seconds": 90.0, "warm_up_seconds": 30.0}
    (event,) = found["preloading"]["events"]
    assert event["begin_at"] == event["starts_at"] - 300
    assert "sale at 2026-01-05 00:10:00 UTC: 1 replica beside 1 loaded from 2026-01-05 00:05:00 UTC on" in result.stderr
    assert "preload beside reactive: 0 fewer requests outside the SLO, +" in result.stderr


def test_policies_that_lack_what_they_need_and_start_ups_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for args, words in (
        (("--policies", "warm-pool"), "the policy warm-pool needs --start-up in parts"),
        (("--policies", "preload"), "the policy preload needs --calendar"),
        (("--start-up", "weights=10s"), "a start-up in parts is"),
        (("--start-up", "weights=10s,weights=10s"), "is given twice"),
        (("--start-up", "provisioning=0s,weights=1s,warm-up=1s"), "is not a duration"),
    ):
        result = evaluate(tmp_path, "0,10,10\n60,10,10\n", *args)
        assert result.exit_code == 2
        assert words in result.stderr


@pytest.mark.slow
def test_a_world_with_spot_capacity_says_how_much_of_it(tmp_path: Path) -> None:
    rows = "".join(f"{second},1000,100\n" for second in range(240))
    args = ("--policies", "static-peak", "--world", "spot-interrupt=.2,spot-share=.5,spot-notice=60", "--json", "-")
    result = evaluate(tmp_path, rows, *args)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["world"]["spot_notice"] == 60.0
    assert json.loads(result.stdout)["spot"]["together"]["missing_share"] == 12 / 3_612
    assert "may be on spot capacity if all of it can go at once" in result.stderr


@pytest.mark.slow
def test_with_work_that_may_wait_every_policy_is_there_twice(tmp_path: Path) -> None:
    rows = "".join(f"{second},1000,100\n" for second in range(0, 600, 2))
    args = ("--policies", "tokentide,static-mean", "--defer-share", "0.4", "--defer-deadline", "5m")
    result = evaluate(tmp_path, rows, *args, "--json", "-")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    jsonschema.validate(found, json.loads(resources.find("schemas/evaluation.v1.schema.json").read_text()))
    assert [row["policy"] for row in found["deferral"]["policies"]] == ["tokentide", "static-mean"]
    assert found["deferral"]["late"] == 0
    assert found["deferral"]["wait_max_seconds"] <= 300
    assert "counts them from their release" in result.stderr
    refused = evaluate(tmp_path, rows, "--policies", "static-mean", "--defer-share", "0.4", "--defer-deadline", "3d")
    assert refused.exit_code == 2
    assert "a deadline must be up to a day" in refused.stderr
