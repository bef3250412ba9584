"""A real Prometheus with the rules of the project, three hours of history and a running application to scrape."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pipeline.kafka.embedded_broker import free_port
from pipeline.publish.exporter import Exporter
from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.stock_feed import share_stock
from tests.waiting import scaled, wait_until

ROOT = Path(__file__).resolve().parents[1]
HISTORY_MINUTES = 180
CHAT = {"model": "llama-3.1-8b-instruct", "pool": "chat"}


class Prometheus:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: Any) -> Any:
        with urllib.request.urlopen(
            f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=scaled(20)
        ) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/-/ready", timeout=scaled(2)):
                return True
        except OSError:
            return False


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


@contextlib.contextmanager
def running_prometheus(folder: Path) -> Iterator[Prometheus]:
    """A Prometheus in a folder of its own, with three hours of history up to now, that scrapes the application."""
    now = int(time.time())
    feed = Feed(start=(now - 65) // 60 * 60 - HISTORY_MINUTES * 60)
    share_stock(feed, budget=20.0)
    _history(feed, folder / "history.om")
    blocks = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", "history.om", "data"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=scaled(120),
    )
    assert blocks.returncode == 0, blocks.stderr
    port = free_port()
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
            wait_until(server_under_test.ready, 30, "Prometheus ready")
            wait_until(
                lambda: server_under_test.get("/api/v1/query", query='up{job="tokentide"} == 1')["result"],
                30,
                "a scrape",
            )
            yield server_under_test
        finally:
            process.terminate()
            try:
                process.wait(scaled(20))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(scaled(10))
