"""``tokentide alerts``: the alert rules in force, and the rule file of Prometheus."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.common import ConfigOption, Output, OutputOption, clean_errors, emit

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The alert rules in force, and Prometheus' rule file.")


@app.command("list")
@clean_errors
def list_rules(config: ConfigOption = None, output: OutputOption = Output.TABLE) -> None:
    """Print the alert rules in force with their thresholds. Example: tokentide alerts list -c tokentide.toml"""
    from pipeline.alerts.rule import prometheus_duration

    rules = _rules(config)
    data: list[dict[str, Any]] = [
        {
            "name": rule.name,
            "alert": rule.alert,
            "severity": rule.severity,
            "for_seconds": rule.for_seconds,
            "thresholds": dict(rule.thresholds),
            "engine": rule.engine is not None,
            "summary": rule.filled(rule.summary),
            "expr": rule.promql,
            "runbook": rule.runbook_path,
        }
        for rule in rules
    ]
    rows = [
        (
            found["name"],
            found["alert"],
            found["severity"],
            prometheus_duration(found["for_seconds"]),
            ", ".join(f"{name}={value:g}" for name, value in found["thresholds"].items()),
            found["summary"],
        )
        for found in data
    ]
    emit(output, {"rules": data}, ("rule", "alert", "severity", "after", "thresholds", "says"), rows)


@app.command("rules")
@clean_errors
def rule_file_text(
    config: ConfigOption = None,
    runbooks: Annotated[
        str, typer.Option(help="Address under which docs/runbooks is served; alerts then carry runbook_url.")
    ] = "",
) -> None:
    """Print Prometheus' rule file of the rules in force. Example: tokentide alerts rules > tokentide.rules.yml"""
    from pipeline.publish.prometheus_rules import rule_file

    print(rule_file(_rules(config), runbooks), end="")


def _rules(config: Any) -> Any:
    from pipeline.alerts.rule_registry import alert_rules
    from pipeline.config.settings import load

    return alert_rules(load(config).alerts.rules)
