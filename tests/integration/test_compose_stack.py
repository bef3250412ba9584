"""The configurations of docker-compose.yml at work: Kafka, Prometheus, Alertmanager and Tokentide as local processes.

Only names of hosts, ports, folders and the scrape interval are changed; there is no container and no Grafana.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.kafka.embedded_broker import free_port
from pipeline.prctl import death_signal
from tests.kafka_servers import ApacheKafka, KafkaMissingError
from tests.waiting import scaled, wait_until

ROOT = Path(__file__).resolve().parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("prometheus") is None or ALERTMANAGER is None, reason="Prometheus or Alertmanager is not installed"
    ),
]


class Local:
    """Addresses of compose's services on this machine."""

    def __init__(self, kafka: int, controller: int) -> None:
        self.ports = {"9092": kafka, "9093": controller, "19092": free_port()}
        self.tokentide, self.alertmanager, self.prometheus = free_port(), free_port(), free_port()

    def kafka_properties(self, log: Path) -> list[str]:
        """KAFKA_NODE_ID=1 becomes node.id=1, as the image apache/kafka does."""
        lines = []
        for name, value in SERVICES["kafka"]["environment"].items():
            here = re.sub(r"(?<=:)(9092|9093|19092)\b", lambda found: str(self.ports[found[1]]), value)
            here = re.sub(r"\bkafka:|(?<=://):", "127.0.0.1:", here)
            key = name.removeprefix("KAFKA_").lower().replace("_", ".")
            lines.append(f"{key}={log if key == 'log.dirs' else here}")
        return lines

    def prometheus_configuration(self) -> str:
        text = (ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8")
        for service, port in (
            ("tokentide:8321", self.tokentide),
            ("alertmanager:9093", self.alertmanager),
            ("localhost:9090", self.prometheus),
        ):
            assert service in text
            text = text.replace(service, f"127.0.0.1:{port}")
        config = yaml.safe_load(text.replace("/etc/prometheus/rules", str(ROOT / "dashboards" / "prometheus")))
        return json.dumps(config | {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}})


def asked(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=scaled(10)) as answer:
        return json.load(answer)


def until(condition: Any, seconds: float, what: str) -> None:
    wait_until(condition, seconds, what, poll_seconds=0.2, passing=(OSError,))


@contextlib.contextmanager
def running(folder: Path, name: str, command: list[str], **environment: str) -> Iterator[None]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            preexec_fn=death_signal(),  # noqa: PLW1509
        )
        try:
            yield
        except AssertionError as error:
            error.add_note(f"{name}: {(folder / f'{name}.log').read_text(errors='replace')[-1500:]}")
            raise
        finally:
            process.terminate()
            try:
                process.wait(scaled(30))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(scaled(10))


def test_events_of_the_simulated_fleet_reach_prometheus_and_rules_reach_alertmanager(tmp_path: Path) -> None:
    local: Local | None = None

    def properties(port: int, controller: int, log: Path) -> list[str]:
        nonlocal local
        local = Local(port, controller)
        return local.kafka_properties(log)

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(ApacheKafka(properties))
        except KafkaMissingError as error:
            pytest.skip(str(error))
        assert local is not None
        (tmp_path / "prometheus.yml").write_text(local.prometheus_configuration(), encoding="utf-8")
        own = [sys.executable, "-m", "pipeline"]
        settings = str(ROOT / "deploy" / "tokentide.toml")

        def start(name: str, command: list[str], **environment: str) -> None:
            stack.enter_context(running(tmp_path, name, command, **environment))

        start(
            "alertmanager",
            [
                str(ALERTMANAGER),
                f"--config.file={ROOT / 'deploy' / 'alertmanager.yml'}",
                f"--storage.path={tmp_path / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{local.alertmanager}",
                "--cluster.listen-address=",
            ],
        )
        start(
            "prometheus",
            [
                "prometheus",
                "--config.file=prometheus.yml",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{local.prometheus}",
            ],
        )
        start(
            "tokentide",
            [*own, "run", "--config", settings],
            TOKENTIDE_KAFKA__BOOTSTRAP=f"127.0.0.1:{local.ports['9092']}",
            TOKENTIDE_STORE__PATH=str(tmp_path / "tokentide.duckdb"),
            TOKENTIDE_PUBLISH__HOST="127.0.0.1",
            TOKENTIDE_PUBLISH__PORT=str(local.tokentide),
        )
        until(lambda: asked(local.tokentide, "/healthz"), 60, "Tokentide healthy, as compose waits for")
        # From the host's side, where whoever runs compose emits events.
        command = [part.replace("/etc/tokentide/tokentide.toml", settings) for part in SERVICES["simulate"]["command"]]
        host = f"127.0.0.1:{local.ports['19092']}"
        start("simulate", [*own, *command], TOKENTIDE_KAFKA__BOOTSTRAP=host)

        def value(query: str) -> float:
            path = f"/api/v1/query?query={urllib.parse.quote(query)}"
            found = asked(local.prometheus, path)["data"]["result"]
            return float(found[0]["value"][1]) if found else 0.0

        until(lambda: value('min(up{job=~"tokentide|prometheus"})') == 1, 60, "both targets up")
        until(lambda: value("sum(tokentide_events_accepted_total)") > 0, 90, "events in Tokentide's metrics")
        assert value("count(tokentide_pool_info)") == 3
        groups = asked(local.prometheus, "/api/v1/rules")["data"]["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
        (active,) = asked(local.prometheus, "/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
        assert urllib.parse.urlsplit(active["url"]).port == local.alertmanager
        assert asked(local.alertmanager, "/api/v2/receivers") == [{"name": "board"}]
