"""The stories of docs/stories.md: their commands give their figures."""

import json
import runpy
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app

ROOT = Path(__file__).resolve().parents[3]
STORIES = ROOT / "examples" / "stories"
TEXT = (ROOT / "docs" / "stories.md").read_text(encoding="utf-8")


def told(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def row(title):
    """The cells of a table's row in the guide."""
    (line,) = (line for line in TEXT.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.mark.slow
def test_a_launch_that_is_announced_finds_its_capacity(tmp_path):
    runpy.run_path(str(STORIES / "launch.py"))["write"](tmp_path / "launch.csv")
    pool = STORIES / "launch-pool.toml"
    command = ["evaluate", tmp_path / "launch.csv", "--pool", pool, "--policies", "tokentide", "--score-from", "2h"]
    for title, more in (
        ("not announced", []),
        ("announced on Tuesday", ["--calendar", STORIES / "launch-events.csv"]),
    ):
        (result,) = told(*command, *more, "--json", "-")["policies"]
        attained = result["slo_attainment"]
        figures = [f"{attained:.2%}", f"{result['ttft_p99_seconds']:.2f} s", f"{result['replica_hours']:.2f}"]
        assert figures == row(title)
        assert (attained >= 0.95) == bool(more)


@pytest.mark.slow
def test_a_plain_rule_that_loads_before_the_launch_saves_what_the_guide_says(tmp_path):
    runpy.run_path(str(STORIES / "launch.py"))["write"](tmp_path / "launch.csv")
    pool, events = STORIES / "launch-pool.toml", STORIES / "launch-events.csv"
    told_of = ["--calendar", events, "--start-up", "provisioning=5m,weights=4m,warm-up=1m", "--score-from", "2h"]
    names = "reactive,preload,warm-pool"
    found = told("evaluate", tmp_path / "launch.csv", "--pool", pool, "--policies", names, *told_of, "--json", "-")
    titles = ("observed demand alone", "loaded before the event", "one replica held warm")
    for title, result in zip(titles, found["policies"], strict=True):
        figures = [f"{result['slo_attainment']:.2%}", f"{result['ttft_p99_seconds']:.2f} s"]
        assert [*figures, f"{result['replica_hours']:.2f}", f"${result['cost']:.2f}"] == row(title)
    (event,) = found["preloading"]["events"]
    onset = datetime(2026, 12, 3, 9, tzinfo=UTC).timestamp()
    assert (event["replicas"], event["running"], event["begin_at"]) == (1, 1, onset - 660)
    saved = found["preloading"]["policies"][0]
    words = (
        f"{event['idle_replica_hours']:.2f} replica-hours (${event['idle_dollars']:.2f})",
        f"saves {saved['late_requests_saved']:,} requests for ${saved['cost_more']:.2f} more",
        f"{event['late_requests_without']:,.0f} requests",
    )
    flowing = " ".join(TEXT.split())
    assert all(told in flowing for told in words)


@pytest.mark.slow
def test_a_quarter_for_a_team_with_three_models(tmp_path):
    runpy.run_path(str(STORIES / "three_models.py"))["write"](tmp_path)
    shutil.copy(STORIES / "three_models.toml", tmp_path)
    data = told("fleet", "quarter", tmp_path / "three_models.toml", "--as-of", "2026-12-01", "-o", "json")
    assert {pool["name"] if "name" in pool else pool["pool"] for pool in data["pools"]} == {
        "assistant",
        "search",
        "code",
    }
    gpus = data["gpus"]
    assert [gpu["gpu"] for gpu in gpus] == ["h100-sxm", "l40s"]
    for week, title in ((0, "busiest hour, week 1, P50 and P95"), (12, "busiest hour, week 13, P50 and P95")):
        peaks = [gpu["gpus_by_week"][week]["peak"] for gpu in gpus]
        assert [f"{peak['p50']:.0f} and {peak['p95']:.0f}" for peak in peaks] == row(title)
    assert [str(gpu["committed_gpus"]) for gpu in gpus] == row("commit to")
    assert [f"{gpu['committed_used_share']:.0%}" for gpu in gpus] == row("used share of the commitment")
    for key, title in (
        ("expected_dollars", "expected cost of the quarter"),
        ("expected_dollars_on_demand_only", "everything on demand"),
        ("expected_dollars_committed_to_peak", "committed to the peak"),
    ):
        assert [f"${gpu[key]:,.0f}" for gpu in gpus] == row(title)
    assert all(gpu["expected_dollars"] < gpu["expected_dollars_on_demand_only"] for gpu in gpus)
    beyond = [gpu["gpus_beyond_commitments"] for gpu in gpus]
    assert [f"{b['p50']:.0f} and {b['p95']:.0f}" for b in beyond] == row("beyond it in the busiest hour, P50 and P95")
    assert sum(gpu["dollars_bound_after_quarter"] for gpu in gpus) == pytest.approx(376_452 + 51_597, abs=1.5)
