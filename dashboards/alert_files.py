"""Files written from the alert rules: Prometheus' rules and their tests, the index of runbooks, the schema, panels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder import Add, query, row, series

from pipeline.alerts.rule import AlertRule
from pipeline.alerts.rule_registry import builtin_rules, engine_kinds
from pipeline.publish.prometheus_rules import RULE_FILE, rule_file, rule_tests

__all__ = ["RULES", "alert_files", "losses"]

ROOT = Path(__file__).resolve().parents[1]
#: Prometheus' rule file.
RULES = ROOT / "dashboards" / "prometheus" / RULE_FILE
SCHEMA = ROOT / "schemas" / "alert.v1.schema.json"


def alert_files() -> dict[Path, str]:
    """Return the text of every file that is written from the alert rules."""
    rules = tuple(builtin_rules().values())
    return {
        RULES: rule_file(rules),
        RULES.parent / "tokentide.cases.rules.test.yml": rule_tests(rules),
        ROOT / "docs" / "runbooks" / "README.md": _index(rules),
        SCHEMA: _schema(rules),
    }


def losses(add: Add) -> None:
    """The charts of the rules that have one."""
    add(row("Losses"), 24, 1)
    for rule in builtin_rules().values():
        panel = rule.panel
        if panel is not None:
            title, description = rule.filled(panel.title), rule.filled(panel.description)
            add(series(title, description, [query(rule.filled(panel.expr), panel.legend)], panel.unit), 8, 7)


def _index(rules: Sequence[AlertRule]) -> str:
    lines = [
        "# Runbooks",
        "",
        "One page for each alert in `dashboards/prometheus/tokentide.rules.yml`.",
        "",
        "| alert | severity | says |",
        "|---|---|---|",
    ]
    lines += [f"| [{r.alert}]({Path(r.runbook_path).name}) | {r.severity} | {r.filled(r.summary)} |" for r in rules]
    return "\n".join(lines) + "\n"


def _schema(rules: Sequence[AlertRule]) -> str:
    """The committed schema of alerts with today's kinds."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    schema["properties"]["kind"] = {
        "anyOf": [
            {"enum": [rule.name for rule in engine_kinds(rules)]},
            {
                "type": "string",
                "pattern": "^[a-z][a-z0-9_]{0,63}$",
                "description": "Name of a rule that another package registers",
            },
        ]
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
