"""A real Prometheus: scrapes the application, loads the rules, and answers every query of the dashboards."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prometheus_client.parser import text_string_to_metric_families
from publish_feed import Feed, Server

from pipeline.publish.exporter import Exporter

ROOT = Path(__file__).resolve().parents[2]
HISTORY_MINUTES = 180
#: Queries that rightly have no answer when all is well.
MAY_BE_EMPTY = ("tokentide_recommendation_clamped", "tokentide_recommendation_state")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("prometheus") is None or shutil.which("promtool") is None, reason="Prometheus is not installed"
    ),
]


class Prometheus:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: Any) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=20) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/-/ready", timeout=2):
                return True
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(condition: Any, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.2)
    pytest.fail(f"{what} did not happen within {seconds} s")


def _history(feed: Feed, path: Path) -> None:
    """Three hours of scrapes of the application, as OpenMetrics with timestamps."""
    lines: dict[str, list[str]] = defaultdict(list)
    exporter = Exporter(feed.live)
    for _ in range(HISTORY_MINUTES):
        feed.step()
        at = int(feed.clock.now())
        for family in text_string_to_metric_families(exporter.render().decode()):
            for sample in family.samples:
                labels = {**sample.labels, "job": "tokentide", "instance": "history"}
                text = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
                lines[sample.name].append(f"{sample.name}{{{text}}} {sample.value} {at}")
    path.write_text("\n".join(line for name in sorted(lines) for line in lines[name]) + "\n# EOF\n", encoding="utf-8")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    now = int(time.time())
    feed = Feed(start=(now - 65) // 60 * 60 - HISTORY_MINUTES * 60)
    _history(feed, folder / "history.om")
    blocks = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", "history.om", "data"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert blocks.returncode == 0, blocks.stderr
    port = _free_port()
    with Server(feed) as server, (folder / "log").open("wb") as log:
        feed.clock.set(time.time())
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ROOT / "dashboards" / "prometheus" / "tokentide.rules.yml")],
            "scrape_configs": [
                {"job_name": "tokentide", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
        process = subprocess.Popen(
            [
                "prometheus",
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            server_under_test = Prometheus(port)
            _until(server_under_test.ready, 30, "Prometheus ready")
            _until(
                lambda: server_under_test.get("/api/v1/query", query='up{job="tokentide"} == 1')["result"],
                30,
                "a scrape",
            )
            yield server_under_test
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _queries() -> list[tuple[str, str]]:
    found = []
    for path in sorted((ROOT / "dashboards" / "grafana").glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                found.append((f"{panel['title']} {target['refId']}", target["expr"]))  # noqa: PERF401
        found += [(note["name"], note["expr"]) for note in board["annotations"]["list"]]
    return [(title, expr.replace("$model", ".*").replace("$pool", ".*")) for title, expr in found]


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
    (expression,) = (expr for title, expr in _queries() if title == "Requests: $pool C")
    assert "p50" in expression
    now = time.time()
    chat = {"model": "llama-3.1-8b-instruct", "pool": "chat"}
    (line,) = (s["values"] for s in _range(prometheus, expression) if s["metric"] == chat)
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

    _until(lambda: all(r["health"] == "ok" for g in groups() for r in g["rules"]), 20, "every rule evaluated")
    assert {g["name"] for g in groups()} >= {"tokentide-demand", "tokentide-capacity", "tokentide-pipeline"}

    def states() -> dict[str, str]:
        return {r["name"]: r["state"] for g in groups() for r in g["rules"] if r["type"] == "alerting"}

    raised = {"pending", "firing"}
    _until(lambda: states()["TokentideDemandSpikeObserved"] in raised, 10, "the observed spike raised")
    _until(lambda: states()["TokentideDemandSpikeForecast"] in raised, 10, "the forecast spike raised")
    # Before the first scrape the target was absent: that must pass.
    _until(lambda: states()["TokentideDown"] == "inactive", 10, "the target up")
    assert states()["TokentideEventsLost"] == "inactive"


def test_scraping_is_quick(prometheus):
    (sample,) = prometheus.get("/api/v1/query", query='scrape_duration_seconds{job="tokentide"}')["result"]
    assert float(sample["value"][1]) < 1.0
