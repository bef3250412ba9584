"""``tokentide alerts``, and what ``config validate`` finds wrong with rules and fleets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli.main import app

ROOT = Path(__file__).resolve().parents[3]


def test_the_rule_file_without_changes_is_the_one_of_the_project() -> None:
    done = CliRunner().invoke(app, ["alerts", "rules"])
    assert done.stdout == (ROOT / "dashboards" / "prometheus" / "tokentide.rules.yml").read_text(encoding="utf-8")


def test_alerts_link_to_their_runbooks_where_these_are_served() -> None:
    done = CliRunner().invoke(app, ["alerts", "rules", "--runbooks", "https://git.example/docs/runbooks/"])
    rules = [rule for group in yaml.safe_load(done.stdout)["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["annotations"]["runbook_url"] for rule in rules} == {
        f"https://git.example/docs/runbooks/{rule['alert'].lower()}.md" for rule in rules
    }


def test_rules_are_listed_and_written_as_the_settings_have_them(tmp_path: Path) -> None:
    config = tmp_path / "tokentide.toml"
    config.write_text("[alerts.rules]\ndown = {enabled = false}\nevents_late = {thresholds = {share = 0.2}}\n")
    done = CliRunner().invoke(app, ["alerts", "list", "-c", str(config), "-o", "json"])
    listed = {rule["name"]: rule for rule in json.loads(done.stdout)["rules"]}
    assert "down" not in listed
    assert listed["events_late"]["thresholds"] == {"share": 0.2, "least_events": 100}
    assert listed["telemetry_gap"]["engine"]
    assert "events_late" in CliRunner().invoke(app, ["alerts", "list", "-c", str(config)]).stdout
    written = yaml.safe_load(CliRunner().invoke(app, ["alerts", "rules", "-c", str(config)]).stdout)
    alerts = {rule["alert"] for group in written["groups"] for rule in group["rules"] if "alert" in rule}
    assert alerts == {rule["alert"] for rule in listed.values()}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[alerts.rules.dwon]\nenabled = false\n", "unknown alert rule 'dwon'; did you mean 'down'?"),
        ("[alerts.rules.down]\nthresholds.share = 1\n", "unknown share; the rule has none"),
        ("[alerts.rules.down]\nseverity = 'fatal'\n", "alerts.rules.down.severity"),
        ("[fleet]\nsource = 'kafak'\n", "unknown fleet source 'kafak'; did you mean 'kafka'?"),
        ("[fleet]\nactuate = true\n", "only reports and cannot scale"),
    ],
)
def test_validation_names_what_is_wrong(tmp_path: Path, text: str, found: str) -> None:
    config = tmp_path / "tokentide.toml"
    config.write_text(text)
    done = CliRunner().invoke(app, ["config", "validate", str(config)])
    assert (done.exit_code, found in done.stderr) == (78, True), done.stderr
