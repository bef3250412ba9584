"""A real Prometheus and a real Alertmanager on a live pipeline: the webhook tells of a spike before it comes.

Windows of a simulated pool go through the advice engine, its output through the exporter, ``/metrics`` through
Prometheus with the project's rules, its alerts through Alertmanager with the project's configuration, and the
notifications into a webhook of this test. Event time runs 150 times as fast as the clock, so only the durations are
shortened (``for``, ``group_wait``); expressions, labels, routes and inhibitions are the shipped ones.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.config.settings import PoolSettings, Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.kafka.embedded_broker import free_port
from pipeline.publish.health import PipelineHealth
from pipeline.publish.state import LiveState
from pipeline.testing import closed_window
from pipeline.windows.types import ClosedWindow
from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.waiting import core_slowness, scaled, wait_until

ROOT = Path(__file__).resolve().parents[2]
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
MODEL, POOL = "llama-3.1-8b-instruct", "chat"
POOLS = (
    PoolSettings(
        model=MODEL, pool=POOL, profile="llama-3.1-8b", accelerator="L40S", initial_replicas=4, max_replicas=64
    ),
)
START = 1_790_000_000 // 86_400 * 86_400
DAY = 1440
SPIKE_MINUTE, SPIKE_MINUTES = 120, 45
#: Seconds of the clock for one window of a minute, at least; a scrape has to fit in.
PACE = 0.4 * max(1.0, core_slowness() / 2.0)
PACE_TEXT = f"{1000 * PACE:.0f}ms"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("prometheus") is None or ALERTMANAGER is None, reason="Prometheus or Alertmanager is not installed"
    ),
]


def demand(minute: int) -> float:
    """Requests/s: steady, and 2.5 times as much at the same time every day; on the third day a flash before it."""
    of_day = minute % DAY
    recurring = SPIKE_MINUTE <= of_day < SPIKE_MINUTE + SPIKE_MINUTES
    flash = minute >= 2 * DAY and 60 <= of_day < 75
    return 8.0 * (2.5 if recurring else 4.0 if flash else 1.0)


def window(minute: int, replicas: int) -> ClosedWindow:
    count = int(np.random.default_rng([3, minute]).poisson(60.0 * demand(minute)))
    return closed_window(
        START + 60 * minute, count, model=MODEL, pool=POOL, current_replicas=replicas, ready_replicas=replicas
    )


class Live(Feed):
    """The engine in place of the synthetic feed: what it says is what is served."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(POOLS, START)
        self.live = LiveState(self.clock, POOLS, "c0ffee123456")
        self.advisor = Advisor(settings)
        self.minute = 0
        self.ready = True
        self.replicas = 4

    def advance(self) -> None:
        made = window(self.minute, self.replicas)  # the fleet follows the advice, so no shortfall mutes the spikes
        self.minute += 1
        self.as_of = made.end
        output = self.advisor.step(StepInput(made.end, (made,)))
        self.clock.set(made.end + 5.0)
        self.episodes |= {alert.alert_id: alert for alert in output.alerts}
        self.replicas = output.recommendations[0].desired
        self.live.update(output)
        self.report()

    def report(self) -> None:
        self.live.set_health(
            PipelineHealth(
                ready=self.ready,
                watermark=float(self.as_of),
                records=self.minute * 500,
                events=self.minute * 500,
                last_success={"store": self.clock.now(), "advise": self.clock.now()},
            )
        )


class Webhook:
    """Receives what Alertmanager sends, with the event time of the pipeline at its arrival."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seen: list[tuple[float, str, dict[str, Any]]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.seen += [(clock(), alert["status"], alert) for alert in body["alerts"]]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def first(self, name: str, status: str) -> tuple[float, dict[str, Any]] | None:
        return next(((at, a) for at, s, a in self.seen if s == status and a["labels"]["alertname"] == name), None)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


class Stack:
    """The pipeline, Prometheus, Alertmanager and the webhook."""

    def __init__(self, live: Live, hook: Webhook, prometheus: str, alertmanager: str) -> None:
        self.live = live
        self.hook = hook
        self.prometheus = prometheus
        self.alertmanager = alertmanager

    def play(self, until: Callable[[], bool], minutes: int) -> None:
        """Let event time run until ``until`` holds, at most so many minutes of it.

        A window lasts ``PACE`` or until the rules have been evaluated on it, whatever is later: on a slow machine event
        time does not run away from Prometheus.
        """
        for _ in range(minutes):
            if until():
                return
            began = time.monotonic()
            self.live.advance()
            wait_until(self.scraped, 60, "a scrape of this window", poll_seconds=0.05, passing=(OSError,))
            at = datetime.now(UTC)
            wait_until(lambda: self.evaluated(at), 60, "the rules on it", poll_seconds=0.05, passing=(OSError,))  # noqa: B023
            time.sleep(max(0.0, PACE - (time.monotonic() - began)))

    def tell(self, name: str, status: str, minutes: int) -> tuple[float, dict[str, Any]]:
        """Play until an alert fires (``firing``) or is over (``resolved``), then wait for the webhook to be told.

        Event time stands still meanwhile: how long Alertmanager takes is no matter of the alert's.
        """
        fires = status == "firing"
        self.play(lambda: (name in self.firing()) == fires or self.hook.first(name, status) is not None, minutes)
        told: Callable[[], Any] = lambda: self.hook.first(name, status)  # noqa: E731
        return wait_until(told, 60, f"{name} {status} at the webhook: {self.hook.seen}", poll_seconds=0.05)

    def firing(self) -> set[str]:
        """Names of the alerts that fire at Prometheus."""
        return {a["labels"]["alertname"] for a in self._asked("alerts")["alerts"] if a["state"] == "firing"}

    def state(self, name: str) -> str | None:
        """The state of an alert at Alertmanager; None: it has none such, since it holds those only that come again."""
        alert = self.alerts().get(name)
        return None if alert is None else str(alert["status"]["state"])

    def scraped(self) -> bool:
        """Whether Prometheus has the present window."""
        samples = self._asked("query?query=tokentide_watermark_timestamp_seconds")["result"]
        return [float(sample["value"][1]) for sample in samples] == [self.live.as_of]

    def evaluated(self, since: datetime) -> bool:
        """Whether every rule has been evaluated since then."""
        return all(datetime.fromisoformat(g["lastEvaluation"]) > since for g in self._asked("rules")["groups"])

    def _asked(self, question: str) -> Any:
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/{question}", timeout=scaled(10)) as response:
            return json.load(response)["data"]

    def alerts(self) -> dict[str, dict[str, Any]]:
        with urllib.request.urlopen(f"{self.alertmanager}/api/v2/alerts", timeout=scaled(10)) as response:
            return {alert["labels"]["alertname"]: alert for alert in json.load(response)}


def _quick_rules(folder: Path) -> Path:
    rules = yaml.safe_load((ROOT / "dashboards/prometheus/tokentide.rules.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "1s"
    path = folder / "quick.rules.yml"
    path.write_text(yaml.safe_dump(rules), encoding="utf-8")
    return path


def _quick_routes(folder: Path, hook: str) -> Path:
    config = yaml.safe_load((ROOT / "deploy/alertmanager.yml").read_text(encoding="utf-8"))
    config["route"] |= {"group_wait": "200ms", "group_interval": "1s"}
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": hook, "send_resolved": True}]
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    wait_until(condition, seconds, what, poll_seconds=0.2, passing=(OSError,))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("alerting")
    live = Live(load().model_copy(update={"pools": POOLS}))
    for _ in range(2 * DAY + 50):
        live.advance()
    hook = Webhook(live.clock.now)
    prometheus, alertmanager = free_port(), free_port()
    processes: list[subprocess.Popen[bytes]] = []
    with Server(live) as server, (folder / "log").open("wb") as log:
        config = {
            "global": {"scrape_interval": PACE_TEXT, "evaluation_interval": PACE_TEXT, "scrape_timeout": PACE_TEXT},
            "rule_files": [str(_quick_rules(folder))],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}],
            },
            "scrape_configs": [
                {"job_name": "tokentide", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
        commands = [
            [
                str(ALERTMANAGER),
                f"--config.file={_quick_routes(folder, f'http://127.0.0.1:{hook.server.server_port}/')}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{alertmanager}",
                "--cluster.listen-address=",
            ],
            [
                "prometheus",
                "--config.file=prometheus.yml",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{prometheus}",
                "--rules.alert.resend-delay=1s",
            ],
        ]
        try:
            processes += [
                subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT) for command in commands
            ]
            for port in (alertmanager, prometheus):
                address = f"http://127.0.0.1:{port}/-/ready"
                _until(lambda a=address: urllib.request.urlopen(a, timeout=scaled(2)).status == 200, 60, address)
            stack = Stack(live, hook, f"http://127.0.0.1:{prometheus}", f"http://127.0.0.1:{alertmanager}")
            up = f"http://127.0.0.1:{prometheus}/api/v1/query?query=up"
            _until(lambda: b'"1"' in urllib.request.urlopen(up, timeout=scaled(2)).read(), 30, "a scrape")
            _until(lambda: "TokentideDown" not in stack.alerts(), 60, "the alert of before the first scrape over")
            yield stack
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                try:
                    process.wait(scaled(20))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(scaled(10))
            hook.close()


def test_an_unannounced_spike_reaches_the_webhook_and_is_taken_back(stack: Stack) -> None:
    name = "TokentideDemandSpikeObserved"
    assert stack.live.minute < 2 * DAY + 60
    at, alert = stack.tell(name, "firing", 30)
    onset = START + 60 * (2 * DAY + 60)
    assert onset < at <= onset + 15 * 60  # within the flash, although scraping and rules took event time
    assert alert["labels"]["model"] == MODEL
    assert alert["labels"]["pool"] == POOL
    assert alert["annotations"]["runbook"].endswith(f"{name.lower()}.md")
    stack.tell(name, "resolved", 40)
    episodes = [a for a in stack.live.episodes.values() if a.raised_at >= onset and a.kind == "spike_observed"]
    assert len(episodes) == 1
    assert episodes[0].ended_at is not None
    assert "requests" in episodes[0].message


def test_a_spike_that_comes_daily_reaches_the_webhook_before_its_onset(stack: Stack) -> None:
    name = "TokentideDemandSpikeForecast"
    onset = START + 60 * (2 * DAY + SPIKE_MINUTE)
    at, alert = stack.tell(name, "firing", 60)
    assert at < onset, (at - onset, alert)
    assert alert["labels"]["severity"] == "warning"
    assert "Demand" in alert["annotations"]["summary"]


def test_without_a_working_pipeline_its_spikes_are_muted(stack: Stack) -> None:
    # The warning stands and event time does not move; only the readiness changes.
    name = "TokentideDemandSpikeForecast"
    _until(lambda: stack.state(name) == "active", 20, "the warning active")
    stack.live.ready = False
    stack.live.report()
    _until(lambda: stack.state("TokentideNotReady") == "active", 30, "TokentideNotReady")

    def muted_by_it() -> bool:
        alerts = stack.alerts()
        if not {name, "TokentideNotReady"} <= alerts.keys():
            return False
        return alerts[name]["status"]["inhibitedBy"] == [alerts["TokentideNotReady"]["fingerprint"]]

    _until(muted_by_it, 20, "the warning muted by it")
    stack.live.ready = True
    stack.live.report()
    _until(lambda: stack.state(name) == "active", 30, "the warning back")
