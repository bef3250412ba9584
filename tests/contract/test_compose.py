from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.settings import load
from pipeline.demo.scenario import scenario
from pipeline.publish.prometheus.handlers import PROMETHEUS_PATH
from pipeline.windows.types import PoolKey
from sizing.catalog import Catalog
from tests.waiting import scaled

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def _yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_services_tell_their_health(name):
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert service["healthcheck"] == {"disable": True} if name == "simulate" else service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_dependencies_wait_for_health_and_are_optional_where_a_profile_may_lack_them(name):
    profiles = set(SERVICES[name].get("profiles", ()))
    for other, condition in SERVICES[name].get("depends_on", {}).items():
        assert condition["condition"] == "service_healthy"
        others = SERVICES[other].get("profiles")
        always = others is None or (profiles and profiles <= set(others))
        assert condition.get("required", True) == bool(always)


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


BASE = {"tokentide"}
PROFILES = {
    (): BASE,
    ("kafka",): BASE | {"kafka"},
    ("prometheus",): BASE | {"prometheus"},
    ("alerting",): BASE | {"prometheus", "alertmanager"},
    ("grafana",): BASE | {"prometheus", "grafana"},
    ("kafka", "alerting"): BASE | {"kafka", "prometheus", "alertmanager"},
    ("full",): BASE | {"kafka", "prometheus", "alertmanager", "grafana"},
    ("demo",): set(SERVICES),
}


@pytest.mark.parametrize("profiles", PROFILES, ids=lambda names: "+".join(names) or "none")
def test_profiles_start_what_they_say(profiles):
    started = {
        name
        for name, service in SERVICES.items()
        if "profiles" not in service or set(service["profiles"]) & set(profiles)
    }
    assert started == PROFILES[profiles]


def _compose() -> list[str]:
    """The command of Docker Compose, which parses without a daemon."""
    for command in (["docker", "compose"], ["docker-compose"]):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([*command, "version"], check=True, capture_output=True, timeout=scaled(20))
            return command
    pytest.skip("Docker Compose is not installed")


@pytest.mark.parametrize("bootstrap", [None, "broker.example:9093"], ids=["its Kafka", "yours"])
def test_docker_compose_itself_reads_the_file(bootstrap):
    command = [*_compose(), "--project-directory", str(ROOT), "--file", str(ROOT / "docker-compose.yml")]
    environment = {**os.environ, **({"KAFKA_BOOTSTRAP": bootstrap} if bootstrap else {})}

    def config(*options: str) -> str:
        done = subprocess.run(
            [*command, *options],
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=scaled(30),
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, "no warning either"
        return done.stdout

    for profiles, expected in PROFILES.items():
        chosen = [option for name in profiles for option in ("--profile", name)]
        assert set(config(*chosen, "config", "--services").split()) == expected
    read = json.loads(config("--profile", "demo", "config", "--format", "json"))["services"]
    for name in ("tokentide", "simulate"):
        assert read[name]["environment"]["TOKENTIDE_KAFKA__BOOTSTRAP"] == (bootstrap or "kafka:9092")
    assert all(port["host_ip"] == "127.0.0.1" for service in read.values() for port in service.get("ports", ()))


def test_the_simulated_fleet_is_of_the_pools_of_the_settings():
    settings = load(ROOT / "deploy" / "tokentide.toml")
    simulated = {pool.key for pool in scenario("demo", 1_795_981_560.0).pools}
    assert {PoolKey(pool.model, pool.pool) for pool in settings.pools} == simulated


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


def test_grafana_draws_forecasts_from_the_api_itself():
    (datasource,) = _yaml("dashboards/provisioning/datasources/tokentide.yml")["datasources"]
    assert f"{datasource['url']}/api/v1" == f"http://tokentide:8321{PROMETHEUS_PATH}"
    assert not datasource["isDefault"]


def test_the_image_copies_what_the_package_needs():
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = [source for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE) for source in line.split()]
    for source in [*wheel["packages"], *wheel["force-include"], project["project"]["readme"]]:
        assert source in copied or Path(source).parts[0] in copied, source
        assert (ROOT / source).exists()
    assert re.search(r"^USER (?!root)", dockerfile, re.MULTILINE)


@pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool is not installed")
def test_amtool_accepts_the_routes():
    path = ROOT / "deploy" / "alertmanager.yml"
    done = subprocess.run(
        ["amtool", "check-config", str(path)], check=False, capture_output=True, text=True, timeout=scaled(30)
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
        timeout=scaled(30),
    )
    assert done.returncode == 0, done.stdout + done.stderr
