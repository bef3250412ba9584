from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "dashboards"))

import builder

from pipeline.alerts.rule_registry import builtin_rules
from pipeline.publish.metric_catalogue import METRICS
from tests.waiting import scaled

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = ROOT / "dashboards"
RULES = DASHBOARDS / "prometheus" / "tokentide.rules.yml"
TESTS = sorted(RULES.parent.glob("*.rules.test.yml"))
VARIABLES = {"$model": ".*", "$pool": ".*", "$__rate_interval": "5m"}


def _expressions(board: dict[str, Any]) -> list[str]:
    found = [t["expr"] for panel in board["panels"] for t in panel.get("targets", [])]
    return found + [a["expr"] for a in board["annotations"]["list"]]


def _parsed(expression: str) -> Any:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return promql_parser.parse(expression)


@pytest.fixture(scope="module")
def boards() -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (DASHBOARDS / "grafana").glob("*.json")}


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    return [r for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for r in group["rules"]]


@pytest.mark.slow
def test_the_committed_dashboards_are_what_is_generated():
    done = subprocess.run(
        [sys.executable, str(DASHBOARDS / "generate.py"), "--check"],
        check=False,
        capture_output=True,
        text=True,
        timeout=scaled(60),
    )
    assert done.returncode == 0, done.stderr


def test_unknown_metrics_and_labels_stop_the_generation():
    builder.query('tokentide_forecast_requests_per_second{model="m",horizon_seconds=~"9.."}')
    with pytest.raises(builder.DashboardError, match="tokentide_love"):
        builder.query("sum(tokentide_love)")
    with pytest.raises(builder.DashboardError, match="no label colour"):
        builder.query('tokentide_ready{colour="red"}')


def test_every_expression_is_promql(boards):
    expressions = [expression for board in boards.values() for expression in _expressions(board)]
    assert len(expressions) > 100
    for expression in expressions:
        _parsed(expression)


def test_five_boards_are_joined_by_links_that_keep_time_and_variables(boards):
    assert set(boards) == {f"tokentide-{name}.json" for name in ("overview", "pool", "audit", "slo", "health")}
    for board in boards.values():
        (link,) = board["links"]
        assert link["keepTime"]
        assert link["includeVars"]
        assert set(link["tags"]) <= set(board["tags"])
        assert [v["name"] for v in board["templating"]["list"]] == ["datasource", "model", "pool"]


def test_every_metric_is_on_a_panel_or_in_a_rule(boards, rules):
    text = "\n".join(e for board in boards.values() for e in _expressions(board))
    text += "\n".join(rule["expr"] for rule in rules)
    used = set(re.findall(r"tokentide_[a-z0-9_]+", text))
    assert set(METRICS) <= used


def test_rates_follow_the_scrape_interval_and_no_zero_is_made_up(boards, rules):
    losses = {rule.filled(rule.panel.expr) for rule in builtin_rules().values() if rule.panel is not None}
    for board in boards.values():
        for expression in set(_expressions(board)) - losses:
            assert "vector(0)" not in expression  # a Tokentide that is down would look calm
            for span in re.findall(r"(?:rate|increase|deriv)\([^\[]*\[([^\]]+)\]", expression):
                assert span == "$__rate_interval", expression


def test_only_the_board_of_one_pool_reaches_into_the_future(boards):
    reach = {name: board["time"]["to"] for name, board in boards.items()}
    assert {name for name, to in reach.items() if to != "now"} == {"tokentide-pool.json"}


def test_panels_have_ids_titles_descriptions_and_do_not_overlap(boards):
    for board in boards.values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            assert panel["title"]
            if panel["type"] != "row":
                assert panel["description"]
                assert [t["refId"] for t in panel["targets"]] == sorted({t["refId"] for t in panel["targets"]})
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert at["x"] + at["w"] <= 24
            assert not cells & taken, panel["title"]
            taken |= cells


def test_the_fan_chains_horizons_shortest_first_and_fills_between_its_own_legends(boards):
    (panel,) = (p for p in boards["tokentide-pool.json"]["panels"] if p["title"] == "Requests")
    legends = {t["legendFormat"]: t["expr"] for t in panel["targets"]}
    assert re.findall(r"offset (\d+)m", legends["forecast p90"]) == ["5", "15", "30", "60"]
    fills = {
        override["matcher"]["options"]: prop["value"]
        for override in panel["fieldConfig"]["overrides"]
        for prop in override["properties"]
        if prop["id"] == "custom.fillBelowTo"
    }
    assert fills == {"forecast p90": "forecast p10"}
    assert set(fills) | set(fills.values()) <= set(legends)


def test_every_rule_names_known_metrics_and_parses(rules):
    recorded = {rule["record"] for rule in rules if "record" in rule}
    for rule in rules:
        _parsed(rule["expr"])
        for name in re.findall(r"(?<![:\w])tokentide_[a-z0-9_]+", rule["expr"]):
            assert name in METRICS or name in recorded, rule


def test_every_alert_has_a_severity_texts_and_a_runbook(rules):
    alerts = [rule for rule in rules if "alert" in rule]
    assert len(alerts) >= 12
    for alert in alerts:
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}
        assert alert["for"]
        assert alert["annotations"]["summary"].endswith(".")
        assert "{{" not in alert["annotations"]["summary"]
        runbook = ROOT / alert["annotations"]["runbook"]
        assert runbook.name == f"{alert['alert'].lower()}.md"
        page = runbook.read_text(encoding="utf-8")
        heading = (
            f"{alert['annotations']['summary']} Severity: {alert['labels']['severity']}; fires after {alert['for']}."
        )
        assert page.startswith(f"# {alert['alert']}\n\n{heading}\n\n```promql\n{alert['expr']}\n```\n")
    pages = {p.stem for p in (ROOT / "docs" / "runbooks").glob("*.md")} - {"README"}
    assert pages == {alert["alert"].lower() for alert in alerts}


def test_every_alert_is_tested(rules):
    tests = [t for path in TESTS for t in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    assert silent == alerts
    assert fired == alerts


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("command", [["check", "rules", RULES.name], ["test", "rules", *(path.name for path in TESTS)]])
def test_promtool_agrees(command):
    done = subprocess.run(
        ["promtool", *command], cwd=RULES.parent, check=False, capture_output=True, text=True, timeout=scaled(60)
    )
    assert done.returncode == 0, done.stdout + done.stderr
