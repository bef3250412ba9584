from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.settings import load
from sizing.catalog import Catalog

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def _yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_services_tell_their_health(name):
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_dependencies_wait_for_health_and_exist(name):
    for other, condition in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        assert condition == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name):
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_every_mounted_path_exists_and_every_volume_is_declared(name):
    for mount in SERVICES[name].get("volumes", []):
        source, target = mount.split(":")[:2]
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mount.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_nothing_secret_is_written_down():
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8").lower()
    assert not re.search(r"(password|secret|token)\s*[:=]", text)


def test_the_settings_load_and_their_pools_can_be_sized():
    settings = load(ROOT / "deploy" / "tokentide.toml")
    assert settings.kafka.bootstrap == "kafka:9092"
    assert f"127.0.0.1:{settings.publish.port}:{settings.publish.port}" in SERVICES["tokentide"]["ports"]
    assert str(settings.store.path.parent) in {v.split(":")[1] for v in SERVICES["tokentide"]["volumes"]}
    catalog = Catalog()
    for pool in settings.pools:
        catalog.gpu(pool.accelerator)
        catalog.model(pool.profile)


def test_prometheus_scrapes_what_compose_runs():
    config = _yaml("deploy/prometheus.yml")
    targets = [t for job in config["scrape_configs"] for static in job["static_configs"] for t in static["targets"]]
    targets += [
        t for a in config["alerting"]["alertmanagers"] for static in a["static_configs"] for t in static["targets"]
    ]
    for target in targets:
        host, port = target.split(":")
        service = SERVICES["prometheus" if host == "localhost" else host]
        assert any(published.endswith(f":{port}") for published in service["ports"])
    (rules,) = config["rule_files"]
    mounts = dict(volume.split(":")[1::-1] for volume in SERVICES["prometheus"]["volumes"])
    assert (ROOT / mounts[str(Path(rules).parent)]).is_dir()
    assert list((ROOT / mounts[str(Path(rules).parent)]).glob(Path(rules).name))


def test_grafana_finds_its_datasource_and_dashboards():
    (datasource,) = _yaml("dashboards/provisioning/datasources/prometheus.yml")["datasources"]
    assert datasource["url"] == "http://prometheus:9090"
    (provider,) = _yaml("dashboards/provisioning/dashboards/tokentide.yml")["providers"]
    mounts = {volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounts


def test_the_image_copies_what_the_package_needs():
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    for source in [*wheel["packages"], *wheel["force-include"], project["project"]["readme"]]:
        assert re.search(rf"^COPY .*\b{re.escape(source)}\b", dockerfile, re.MULTILINE), source
        assert (ROOT / source).exists()
    assert re.search(r"^USER (?!root)", dockerfile, re.MULTILINE)


@pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool is not installed")
def test_amtool_accepts_the_routes():
    path = ROOT / "deploy" / "alertmanager.yml"
    done = subprocess.run(
        ["amtool", "check-config", str(path)], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_scrape_configuration():
    path = ROOT / "deploy" / "prometheus.yml"
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout + done.stderr
