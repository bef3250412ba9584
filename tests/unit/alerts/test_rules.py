"""Alert rules: one module each; everything that names a rule follows from it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline import extensions
from pipeline.alerts import rules as rules_package
from pipeline.alerts.episodes import Condition
from pipeline.alerts.rule import AlertRule, EngineRule, PoolFacts
from pipeline.alerts.rule_evaluation import RuleSet
from pipeline.alerts.rule_registry import alert_rules, builtin_rules, check_rule, engine_kinds, rule_names
from pipeline.alerts.types import AlertKind
from pipeline.config.settings import Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.errors import ConfigError
from pipeline.publish import board
from pipeline.publish.prometheus_rules import rule_file
from pipeline.testing import check_alert_rule, closed_window, raised_alerts
from pipeline.windows.types import PoolKey
from sizing.types import Constraint

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "alert_rules" / "tokentide_requests_refused"
START = 1_795_981_560
KEY = PoolKey("m", "p")


def facts(number: int = 0, **fields: Any) -> PoolFacts:
    window = closed_window(START + 60 * number, fields.pop("requests", 60), **fields)
    return PoolFacts(window, {}, {}, None)


def condition(severity: str = "warning") -> Condition:
    return Condition(float(START), severity, 2.0, None, "m/p: demand rose")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> str:
    """The example, as if its package was installed; returns its name."""
    monkeypatch.syspath_prepend(EXAMPLE)
    importlib.import_module("tokentide_requests_refused")
    point = EntryPoint("requests_refused", "tokentide_requests_refused:RULE", "tokentide.alert_rules")
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point] if group == "tokentide.alert_rules" else [])
    return "requests_refused"


def test_what_version_0_1_0_had_keeps_its_names_and_labels() -> None:
    """Dashboards, silences and routes of users name alerts, recorded series and their labels."""

    def named(text: str) -> dict[str, Any]:
        rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
        return {r.get("alert") or r["record"]: (r.get("labels"), r["expr"].split("(")[0]) for r in rules}

    old = named((ROOT / "tests" / "data" / "tokentide-0.1.0.rules.yml").read_text(encoding="utf-8"))
    new = named(rule_file(alert_rules()))
    assert "model_pool:tokentide_recommended_replicas:valid" in old
    assert {name: new.get(name) for name in old} == old


@pytest.mark.parametrize(
    "rule", [r for r in builtin_rules().values() if r.cases and r.engine is None], ids=lambda rule: rule.name
)
def test_rules_of_prometheus_keep_their_promises(rule: AlertRule) -> None:
    check_alert_rule(rule, runbooks=ROOT)


def test_rules_of_the_engine_keep_their_promises() -> None:
    advice: Any = SimpleNamespace(constraint=Constraint.SLO_INFEASIBLE, message="m/p: the objective cannot be held")
    raising = {
        "spike_observed": replace(facts(), spike_observed=condition()),
        "spike_forecast": replace(facts(), spike_forecast=condition()),
        "slo_infeasible": replace(facts(), recommendation=advice),
        "telemetry_gap": facts(gap=True),
        "demand_drop": replace(facts(), demand_drop=condition()),
        "kv_pressure": facts(preemptions=4),
    }
    engine = engine_kinds(alert_rules())
    assert [rule.name for rule in engine] == [*raising] == [*AlertKind]
    for rule in engine:
        check_alert_rule(rule, [facts(-1), raising[rule.name], *(facts(n) for n in range(1, 4))], ROOT)


def test_missing_telemetry_is_told_as_such_and_not_as_a_drop() -> None:
    drop = next(rule.engine for rule in alert_rules() if rule.name == "demand_drop")
    assert drop is not None
    assert drop.condition(replace(facts(), demand_drop=condition()), {}) == condition()
    assert drop.condition(replace(facts(gap=True), demand_drop=condition()), {}) is None


def test_settings_switch_rules_off_and_change_their_numbers(tmp_path: Path) -> None:
    file = tmp_path / "tokentide.toml"
    file.write_text(
        "[alerts.rules.events_lost]\nenabled = false\n"
        '[alerts.rules.events_late]\nfor_seconds = 5400\nseverity = "critical"\nthresholds.share = 0.025\n'
    )
    rules = {rule.name: rule for rule in alert_rules(load(file).alerts.rules)}
    assert builtin_rules().keys() - rules.keys() == {"events_lost"}
    written = {
        rule["alert"]: rule
        for group in yaml.safe_load(rule_file(tuple(rules.values())))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    late = written["TokentideEventsLate"]
    assert "TokentideEventsLost" not in written
    assert (late["for"], late["labels"]) == ("1h30m", {"severity": "critical"})
    assert "> 0.025 and" in late["expr"]
    assert late["annotations"]["summary"] == "More than 2.5 % of the events arrive after their window has closed."


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"event_late": {}}, "unknown alert rule 'event_late'; did you mean 'events_late'?"),
        (
            {"events_late": {"thresholds": {"shares": 1}}},
            "alerts.rules.events_late.thresholds: unknown shares; ",
        ),
        ({"events_late": {"enabled": True, "thresholds": {"x": 1}}}, "least_events, share"),
    ],
)
def test_wrong_overrides_name_the_rule(rules: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match="alert") as refused:
        Advisor(Settings(alerts={"rules": rules}))
    assert text in str(refused.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", '"much"'])
def test_thresholds_are_numbers(tmp_path: Path, value: str) -> None:
    file = tmp_path / "tokentide.toml"
    file.write_text(f"[alerts.rules.events_late]\nthresholds.share = {value}\n")
    with pytest.raises(ConfigError, match=r"alerts\.rules\.events_late\.thresholds\.share"):
        load(file)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Events Late"},
        {"alert": "tokentide late"},
        {"group": "other"},
        {"severity": "fatal"},
        {"for_seconds": float("nan")},
        {"labels": {"severity": "x"}},
        {"labels": {"no label": "x"}},
        {"summary": "no full stop"},
        {"summary": "{{ $value }} events."},
        {"description": ""},
        {"thresholds": {}},
        {"expr": "", "panel": None},
    ],
    ids=str,
)
def test_malformed_rules_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_rule(replace(builtin_rules()["events_late"], **change))


NEW_RULE = """
from pipeline.alerts.episodes import Condition
from pipeline.alerts.rule import AlertRule, EngineRule, Panel, RuleCase

def _condition(facts, thresholds):
    if facts.window.requests < thresholds["requests"]:
        return None
    return Condition(float(facts.window.start), "warning", None, None, "m/p: many")

RULE = AlertRule(
    name="too_many",
    alert="TokentideTooMany",
    group="demand",
    severity="info",
    summary="More than <requests> requests.",
    description="{{ $value }} pools.",
    thresholds={"requests": 1000},
    panel=Panel(title="Too many", description="Pools.", expr='tokentide_alert_active{kind="too_many"}', unit="short"),
    engine=EngineRule(condition=_condition, title="Too many", one="pool too many", many="pools too many", colour="red"),
    cases=(RuleCase(name="fires", series={'tokentide_alert_active{model="m",pool="p",kind="too_many"}': "1x9"},
                    fires_at=(5,), labels={"model": "m", "pool": "p"}, description="1 pools."),),
)
"""


@pytest.fixture
def new_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more module in ``pipeline.alerts.rules``."""
    (tmp_path / "too_many.py").write_text(NEW_RULE, encoding="utf-8")
    monkeypatch.setattr(rules_package, "__path__", [*rules_package.__path__, str(tmp_path)])
    builtin_rules.cache_clear()
    yield
    builtin_rules.cache_clear()
    sys.modules.pop("pipeline.alerts.rules.too_many", None)
    vars(rules_package).pop("too_many", None)


@pytest.mark.usefixtures("new_rule")
def test_a_new_rule_is_one_new_file_and_its_runbook() -> None:
    """Everything else follows: written files, the dashboard, the board, the engine and its schema."""
    from alert_files import alert_files
    from health_board import health_board

    texts = {path.name: text for path, text in alert_files().items()}
    assert 'expr: max by (model, pool) (tokentide_alert_active{kind="too_many"}) == 1' in texts["tokentide.rules.yml"]
    assert "TokentideTooMany: fires" in texts["tokentide.cases.rules.test.yml"]
    assert "(tokentidetoomany.md) | info | More than 1000 requests. |" in texts["README.md"]
    kinds = json.loads(texts["alert.v1.schema.json"])["properties"]["kind"]["anyOf"][0]["enum"]
    assert kinds == [*AlertKind, "too_many"]
    assert "Too many" in {panel["title"] for panel in health_board()["panels"]}
    assert board.alert_kinds(alert_rules())[-1]["title"] == "Too many"

    settings = Settings(alerts={"rules": {"too_many": {"thresholds": {"requests": 50}}}})
    output = Advisor(settings).step(StepInput(START + 60, (closed_window(START, 60),)))
    assert [(alert.kind, alert.message) for alert in output.alerts] == [("too_many", "m/p: many")]
    check_alert_rule(builtin_rules()["too_many"], [facts(requests=1000)])
    missing = ROOT / "docs" / "runbooks" / "tokentidetoomany.md"
    with pytest.raises(AssertionError, match=f"there is no runbook {missing}"):
        check_alert_rule(builtin_rules()["too_many"], [facts(requests=1000)], ROOT)


def test_the_example_of_another_package_is_in_force_where_settings_name_it(example: str) -> None:
    assert example in rule_names()
    assert example not in {rule.name for rule in alert_rules()}
    settings = Settings(alerts={"rules": {example: {"thresholds": {"share": 0.05}}}})
    (rule,) = [rule for rule in alert_rules(settings.alerts.rules) if rule.name == example]
    refused = [facts(n, rejected=rejected) for n, rejected in enumerate([0, 3, 4, 50, 0, 0, 0])]
    check_alert_rule(rule, refused)
    told = [(alert.severity, alert.ended_at is None, alert.ratio) for alert in raised_alerts(rule, refused)]
    assert told == [("warning", True, 4 / 60), ("critical", True, 50 / 60), ("critical", False, 50 / 60)]
    assert "RequestsRefused" in rule_file(alert_rules(settings.alerts.rules))


def test_what_is_no_rule_behind_an_entry_point_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("odd", "json:dumps", "tokentide.alert_rules")
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point])
    with pytest.raises(ConfigError, match="alert rule 'odd': the entry point names a function, not an AlertRule"):
        alert_rules(Settings(alerts={"rules": {"odd": {}}}).alerts.rules)


def run(settings: Settings, blob: bytes | None = None, first: int = 0, last: int = 12) -> tuple[list[Any], Advisor]:
    """Advise steps in which 40 of 60 requests are refused from the fourth to the seventh minute."""
    advisor = Advisor(settings) if blob is None else Advisor.restore(settings, blob)
    alerts = []
    for n in range(first, last):
        window = closed_window(START + 60 * n, 60, rejected=40 if 3 <= n < 7 else 0)
        alerts += advisor.step(StepInput(window.end, (window,))).alerts
    return alerts, advisor


def test_a_restart_in_the_middle_of_an_episode_changes_nothing(example: str) -> None:
    settings = Settings(alerts={"rules": {example: {}}})
    whole, _ = run(settings)
    before, advisor = run(settings, last=5)
    after, _ = run(settings, advisor.snapshot(), first=5)
    assert before + after == whole
    assert [alert.ended_at is None for alert in whole] == [True, False]


def test_the_alert_of_a_rule_that_is_switched_off_ends(example: str) -> None:
    _, advisor = run(Settings(alerts={"rules": {example: {}}}), last=5)
    after, restored = run(Settings(), advisor.snapshot(), first=5)
    assert [(alert.kind, alert.ended_at) for alert in after] == [(example, START + 60 * 8.0)]
    assert restored.rules.errors.keys() == set(AlertKind)


@pytest.mark.parametrize(
    "wrong",
    [
        ZeroDivisionError("bug"),
        "spike",
        replace(condition(), severity="fatal"),
        replace(condition(), ratio=float("nan")),
        replace(condition(), onset_at=-1.0),
        replace(condition(), message="x" * 5_000),
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_a_rule_that_fails_is_counted_and_leaves_its_alert_as_it_is(wrong: Any) -> None:
    answers = iter([condition(), wrong, None, wrong, None, None])

    def check(*_: Any) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    engine = EngineRule(condition=check, title="Odd", one="odd", many="odd")
    odd = replace(builtin_rules()["telemetry_gap"], name="odd", alert="Odd", engine=engine)
    rules = RuleSet((odd, builtin_rules()["telemetry_gap"]))
    episodes: dict[str, Any] = {}
    told = [rules.step(KEY, episodes, facts(n, gap=n == 1)) for n in range(6)]
    assert rules.errors == {"odd": 2, "telemetry_gap": 0}
    assert [[(a.kind, a.ended_at is None) for a in step] for step in told] == [
        [("odd", True)],
        [("telemetry_gap", True)],
        [],
        [],
        [("telemetry_gap", False)],
        [("odd", False)],
    ]
