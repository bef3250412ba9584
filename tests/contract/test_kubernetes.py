"""The manifests of deploy/kubernetes, and what KEDA and the HPA make of them.

The rules of KEDA 2.20.2 (pkg/scalers/prometheus_scaler.go, pkg/fallback, pkg/scaling/executor) and of the HPA's
calculator (kubernetes 1.36, pkg/controller/podautoscaler/replica_calculator.go) are restated here in a few lines.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.publish import PublishSettings
from pipeline.config.settings import load
from pipeline.fleet.kubernetes.options import Target
from pipeline.publish.metric_catalogue import METRICS
from sizing.catalog import Catalog
from tests.waiting import scaled

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
AUTOSCALERS = FOLDER / "autoscalers"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [d for path in sorted(FOLDER.rglob("*.yaml")) for d in documents(path) if d.get("kind") == kind]


# ---- what the autoscalers do ----------------------------------------------------------------------------------------


def keda_value(trigger: dict[str, Any], answer: float | Exception | None) -> float | Exception:
    """What the scaler reports for an ``answer`` of Prometheus or the API (None: an empty result)."""
    if isinstance(answer, Exception):
        return answer
    if answer is None:
        ignored = trigger["metadata"].get("ignoreNullValues", "true") == "true" and trigger["type"] == "prometheus"
        return 0.0 if ignored else ValueError("no value")
    return answer


def keda_desired(scaled: dict[str, Any], answer: float | Exception | None, running: int, failures: int) -> int:
    """Replicas after one evaluation: the fallback after so many failures, the HPA, the bounds."""
    spec = scaled["spec"]
    (trigger,) = spec["triggers"]
    value = keda_value(trigger, answer)
    minimum, maximum = spec.get("minReplicaCount", 0), spec["maxReplicaCount"]
    if isinstance(value, Exception):
        fallback = spec.get("fallback")
        if fallback is None or failures < fallback["failureThreshold"]:
            return running
        replicas = fallback["replicas"]
        if replicas == 0 and minimum == 0:
            return 0
        value = {
            "static": replicas,
            "currentReplicas": running,
            "currentReplicasIfHigher": max(running, replicas),
            "currentReplicasIfLower": min(running, replicas),
        }[fallback.get("behavior", "static")]
    elif value == 0 and minimum == 0:
        return 0
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    return max(minimum, min(maximum, hpa_desired(trigger["metricType"], behavior, value, running)))


def hpa_desired(target: str, behavior: dict[str, Any], value: float, running: int) -> int:
    """The calculator for an external metric with target 1."""
    ratio = value if target == "Value" else value / running
    up, down = behavior["scaleUp"], behavior["scaleDown"]
    assert up["stabilizationWindowSeconds"] == down["stabilizationWindowSeconds"] == 0, (
        "the advice is stabilised already"
    )
    if 1 - float(down.get("tolerance", 0.1)) <= ratio <= 1 + float(up.get("tolerance", 0.1)):
        return running
    return math.ceil(value * running) if target == "Value" else math.ceil(value)


SCALED = {
    path.stem: d for path in AUTOSCALERS.glob("*.yaml") for d in documents(path) if d.get("kind") == "ScaledObject"
}


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize(("running", "advised"), [(4, 7), (10, 11), (15, 16), (16, 15), (12, 2), (3, 3)])
def test_advice_is_followed_to_the_replica(name: str, running: int, advised: int) -> None:
    assert keda_desired(SCALED[name], float(advised), running, 0) == advised


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("answer", [None, ConnectionError("refused"), ValueError("410")], ids=str)
def test_without_advice_what_runs_is_held_or_raised(name: str, answer: Any) -> None:
    fallback = SCALED[name]["spec"]["fallback"]["replicas"]
    for failures in range(10):
        assert keda_desired(SCALED[name], answer, 12, failures) == 12
        assert keda_desired(SCALED[name], answer, 3, failures) in (3, fallback)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"triggers": {"ignoreNullValues": "true"}}, 1),
        ({"fallback": {"behavior": "static"}}, 6),
        ({"fallback": {"replicas": 0}, "minReplicaCount": 0}, 0),
    ],
    ids=["ignoreNullValues", "static fallback", "fallback to 0"],
)
def test_what_each_line_prevents(change: dict[str, Any], outcome: int) -> None:
    """The outcomes that were observed with KEDA itself at 12 replicas without advice."""
    scaled = yaml.safe_load(yaml.safe_dump(SCALED["keda-prometheus"]))
    scaled["spec"]["triggers"][0]["metadata"].update(change.pop("triggers", {}))
    scaled["spec"]["fallback"].update(change.pop("fallback", {}))
    scaled["spec"].update(change)
    assert keda_desired(scaled, None, 12, 9) == outcome


def test_the_calculator_is_the_one_that_was_observed() -> None:
    default: dict[str, Any] = {kind: {"stabilizationWindowSeconds": 0} for kind in ("scaleUp", "scaleDown")}
    cases = [(4, 7, 7, 28), (10, 11, 10, 110), (20, 23, 23, 460), (40, 37, 40, 1480), (100, 109, 100, 10_900)]
    for running, advised, average, value in cases:
        assert hpa_desired("AverageValue", default, advised, running) == average
        assert hpa_desired("Value", default, advised, running) == value


def test_the_plain_hpa_has_the_same_behavior_and_target() -> None:
    (hpa,) = of_kind("HorizontalPodAutoscaler")
    (scaled,) = (d for name, d in SCALED.items() if name == "keda-prometheus")
    assert hpa["spec"]["behavior"] == scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (metric,) = hpa["spec"]["metrics"]
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}


def test_autoscalers_read_series_that_exist() -> None:
    for path in AUTOSCALERS.glob("*.yaml"):
        for name in re.findall(r"tokentide_\w+", path.read_text(encoding="utf-8")):
            assert name in METRICS, f"{path.name}: {name}"
    for found in SCALED.values():
        for url in re.findall(r"http://tokentide\S+", yaml.safe_dump(found)):
            assert "/v1/recommendations/" in url


def test_the_external_scaler_is_reached_where_the_service_serves_it() -> None:
    (trigger,) = SCALED["keda-external"]["spec"]["triggers"]
    (service,), (policy,), (controller,) = of_kind("Service"), of_kind("NetworkPolicy"), of_kind("StatefulSet")
    ports = {port["name"]: (port["port"], port["targetPort"]) for port in service["spec"]["ports"]}
    address, port = trigger["metadata"]["scalerAddress"].split(":")
    assert (address, ports["keda"]) == ("tokentide.tokentide", (int(port), "keda"))
    (container,) = controller["spec"]["template"]["spec"]["containers"]
    assert {"name": "keda", "containerPort": 8322} in container["ports"]
    assert any({"port": "keda", "protocol": "TCP"} in rule["ports"] for rule in policy["spec"]["ingress"])
    text = (AUTOSCALERS / "keda-external.yaml").read_text(encoding="utf-8")
    publish = tomllib.loads("\n".join(re.findall(r"^#   (.*)$", text, re.MULTILINE)))["publish"]
    settings = PublishSettings(host="0.0.0.0", **publish)
    assert settings.keda_port == int(port)
    folders = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(file.parent) for file in settings.keda_tls_files() or ()} <= folders
    (authentication,) = (d for d in of_kind("TriggerAuthentication") if d["metadata"]["name"] == "tokentide-external")
    # The authentication parameters of KEDA's external scaler (pkg/scalers/external_scaler.go).
    given = {ref["parameter"] for ref in authentication["spec"]["secretTargetRef"]}
    assert given == {"caCert", "tlsClientCert", "tlsClientKey"}


# ---- the manifests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["base", "monitoring"])
def test_a_kustomization_names_every_file_of_its_folder(folder: str) -> None:
    (kustomization,) = documents(FOLDER / folder / "kustomization.yaml")
    files = {path.name for path in (FOLDER / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    for generator in kustomization.get("configMapGenerator", []):
        assert all((FOLDER / folder / name).exists() for name in generator["files"])


def test_the_settings_are_valid_and_hold_no_secret() -> None:
    path = FOLDER / "base" / "tokentide.toml"
    settings = load(path)
    assert settings.publish.host == "0.0.0.0"
    for pool in settings.pools:
        Catalog().model(pool.profile)
    assert not re.search(r"^\s*\w*(password|secret|token)\s*=", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_workloads_run_without_rights_and_stop_in_order() -> None:
    workloads = [*of_kind("Deployment"), *of_kind("StatefulSet")]
    settings = load(FOLDER / "base" / "tokentide.toml")
    assert {w["metadata"]["name"] for w in workloads} == {"tokentide-aggregator", "tokentide-controller"}
    for workload in workloads:
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert pod["terminationGracePeriodSeconds"] > settings.stream.shutdown_seconds
        (container,) = pod["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"].keys() == {"memory"}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        assert mounted == {volume["name"] for volume in pod["volumes"]} | claims
        stage = container["args"][container["args"].index("--stage") + 1]
        assert stage in ("aggregate", "control")
    (controller,) = of_kind("StatefulSet")
    assert controller["spec"]["replicas"] == 1, "the store has one owner"


def test_services_and_monitors_select_the_controller() -> None:
    (service,), (monitor,) = of_kind("Service"), of_kind("ServiceMonitor")
    (controller,) = of_kind("StatefulSet")
    labels = controller["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] == "controller"


def test_the_operators_rules_are_prometheus_rules() -> None:
    (rule,) = of_kind("PrometheusRule")
    own = yaml.safe_load((ROOT / "dashboards" / "prometheus" / "tokentide.rules.yml").read_text(encoding="utf-8"))
    assert rule["spec"] == own


def test_the_account_of_the_fleet_may_do_what_the_fleet_does_and_no_more() -> None:
    roles = {role["metadata"]["name"]: role["rules"] for role in of_kind("Role")}
    bound = {binding["roleRef"]["name"]: binding["subjects"] for binding in of_kind("RoleBinding")}
    account = {"kind": "ServiceAccount", "name": "tokentide-fleet", "namespace": "tokentide"}
    assert bound == {"tokentide-fleet-read": [account], "tokentide-fleet-scale": [account]}
    allowed = {
        name: {
            (verb, f"{group}/{resource}")
            for rule in rules
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        for name, rules in roles.items()
    }
    needed: dict[str, set[tuple[str, str]]] = {"tokentide-fleet-read": set(), "tokentide-fleet-scale": set()}
    for kind in ("Deployment", "StatefulSet", "LeaderWorkerSet"):
        path = Target(model="m", name="x", kind=kind).path("n")
        ((group, resource),) = re.findall(r"^/apis/([^/]+)/v1/namespaces/n/(\w+)/x$", path)
        needed["tokentide-fleet-read"] |= {("get", f"{group}/{resource}{part}") for part in ("", "/scale")}
        needed["tokentide-fleet-scale"] |= {("patch", f"{group}/{resource}/scale")}
    assert allowed == needed


def test_reading_is_the_default_of_the_fleet_and_only_the_controller_gets_a_token() -> None:
    (overlay,) = documents(FOLDER / "fleet" / "kustomization.yaml")
    assert overlay["resources"] == ["../base", "read.yaml"]
    (patch,) = overlay["patches"]
    assert patch["target"] == {"kind": "StatefulSet", "name": "tokentide-controller"}
    (controller,) = of_kind("StatefulSet")
    for operation in yaml.safe_load(patch["patch"]):
        part: Any = controller
        for step in operation["path"].strip("/").split("/"):
            part = part[step]  # what is replaced must be there
    assert {operation["value"] for operation in yaml.safe_load(patch["patch"])} == {"tokentide-fleet", True}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("folder", ["base", "fleet", "monitoring"])
def test_kubectl_builds_every_kustomization(folder: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / folder)], check=False, capture_output=True, text=True, timeout=scaled(30)
    )
    assert done.returncode == 0, done.stderr
    pods = {
        d["metadata"]["name"]: d["spec"]["template"]["spec"]
        for d in yaml.safe_load_all(done.stdout)
        if d["kind"] in ("Deployment", "StatefulSet")
    }
    tokens = {name: pod["automountServiceAccountToken"] for name, pod in pods.items()}
    assert tokens.get("tokentide-aggregator", False) is False
    assert tokens.get("tokentide-controller", False) is (folder == "fleet")
