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
    result = evaluate(tmp_path, "7,9000000,100\n", "--policies", "tokentide,static-mean", "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert [policy["unserved_requests"] for policy in json.loads(result.stdout)["policies"]] == [1, 1]


@pytest.mark.slow
def test_a_score_that_begins_after_the_end_is_refused(tmp_path: Path) -> None:
    result = evaluate(tmp_path, "0,10,10\n60,10,10\n", "--score-from", "1h")
    assert result.exit_code == 2
    assert "before anything is scored" in result.stderr


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
