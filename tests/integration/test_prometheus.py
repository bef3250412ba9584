"""A real Prometheus: scrapes the application, loads the rules, and answers every query of the dashboards."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.prometheus_server import CHAT, Prometheus, running_prometheus
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
#: Queries that rightly have no answer when all is well.
MAY_BE_EMPTY = (
    "ALERTS{",
    "tokentide_recommendation_clamped",
    "tokentide_recommendation_input_problem",
    "tokentide_server_clock_offset_seconds",
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("prometheus") is None or shutil.which("promtool") is None, reason="Prometheus is not installed"
    ),
]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


def _queries() -> list[tuple[str, str]]:
    found = []
    for path in sorted((ROOT / "dashboards" / "grafana").glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                found.append((f"{path.stem}: {panel['title']} {target['refId']}", target["expr"]))  # noqa: PERF401
        found += [(f"{path.stem}: {note['name']}", note["expr"]) for note in board["annotations"]["list"]]
    return [(title, _filled(expr)) for title, expr in found]


def _filled(expression: str) -> str:
    """An expression with the variables that Grafana would fill in; the history has one scrape a minute."""
    one = f'model="{CHAT["model"]}",pool="{CHAT["pool"]}"'
    expression = expression.replace('model="$model",pool="$pool"', one).replace("$__rate_interval", "4m")
    return expression.replace("$model", ".*").replace("$pool", ".*")


def _range(prometheus: Prometheus, expression: str) -> list[dict[str, Any]]:
    now = time.time()
    answer = prometheus.get("/api/v1/query_range", query=expression, start=now - 10_800, end=now + 3600, step=60)
    return list(answer["result"])


@pytest.mark.parametrize(("title", "expression"), _queries(), ids=[title for title, _ in _queries()])
def test_every_dashboard_query_is_answered_with_series(prometheus, title, expression):
    result = _range(prometheus, expression)
    if not any(name in expression for name in MAY_BE_EMPTY):
        assert result, expression


def test_the_forecast_reaches_an_hour_into_the_future(prometheus):
    (expression,) = (expr for title, expr in _queries() if title == "tokentide-pool: Requests C")
    assert "p50" in expression
    now = time.time()
    (line,) = (s["values"] for s in _range(prometheus, expression) if s["metric"] == CHAT)
    by_time = {float(at): float(value) for at, value in line}
    assert max(by_time) > now + 50 * 60
    # The rise that is expected 25 minutes from now is drawn there, not here.
    before = [v for at, v in by_time.items() if now + 120 < at < now + 600]
    after = [v for at, v in by_time.items() if at > now + 2400]
    assert before
    assert min(after) > 1.8 * max(before)


def test_the_rules_load_evaluate_and_see_the_spikes(prometheus):
    def groups() -> list[dict[str, Any]]:
        return list(prometheus.get("/api/v1/rules")["groups"])

    wait_until(lambda: all(r["health"] == "ok" for g in groups() for r in g["rules"]), 20, "every rule evaluated")
    assert {g["name"] for g in groups()} >= {"tokentide-demand", "tokentide-capacity", "tokentide-pipeline"}

    def states() -> dict[str, str]:
        return {r["name"]: r["state"] for g in groups() for r in g["rules"] if r["type"] == "alerting"}

    raised = {"pending", "firing"}
    wait_until(lambda: states()["TokentideDemandSpikeObserved"] in raised, 10, "the observed spike raised")
    wait_until(lambda: states()["TokentideDemandSpikeForecast"] in raised, 10, "the forecast spike raised")
    # Before the first scrape the target was absent: that must pass.
    wait_until(lambda: states()["TokentideDown"] == "inactive", 10, "the target up")
    assert states()["TokentideEventsLost"] == "inactive"
