"""Every manifest of deploy/kubernetes is taken by a real API server, unknown fields refused, and makes pods."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.kubernetes.cluster import Cluster
from tests.real.kubernetes.conftest import MANIFESTS, documents
from tests.waiting import scaled, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

_OF_OPERATORS = {"monitoring.coreos.com", "keda.sh"}


@pytest.fixture(scope="module")
def kubectl(programs: Path) -> str:
    built = programs / "kubectl"
    found = str(built) if built.exists() else shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is neither built nor installed")
    return found


def built(kubectl: str, folder: str) -> list[dict[str, Any]]:
    """The manifests of a kustomization."""
    command = [kubectl, "kustomize", str(MANIFESTS / folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=scaled(60))
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def applied(cluster: Cluster, manifests: list[dict[str, Any]]) -> None:
    """Try and then apply manifests; those of an operator only where its kinds are defined."""
    groups = {group["name"] for group in cluster.get("/apis")["groups"]}
    for document in manifests:
        group = document["apiVersion"].rpartition("/")[0]
        if group in _OF_OPERATORS - groups:
            pytest.skip(f"the definitions of {group} were not built")
        cluster.apply(document, dry_run=True)
        kept = cluster.apply(document)
        assert kept["metadata"]["uid"]


@pytest.mark.parametrize("folder", ["base", "fleet", "monitoring"])
def test_the_server_takes_what_kustomize_builds(cluster: Cluster, kubectl: str, folder: str) -> None:
    applied(cluster, built(kubectl, folder))


@pytest.mark.parametrize("path", sorted((MANIFESTS / "autoscalers").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_server_takes_each_file_of_autoscalers(cluster: Cluster, path: Path) -> None:
    manifests = documents(path)
    if not all("kind" in document for document in manifests):
        pytest.skip("values of a chart, no manifest")
    applied(cluster, manifests)
    for document in reversed(manifests):
        cluster.delete(document)


def test_an_unknown_field_is_refused(cluster: Cluster) -> None:
    """Otherwise the tests above would say little."""
    (hpa,) = documents(MANIFESTS / "autoscalers" / "hpa-external.yaml")
    hpa["spec"]["behaviour"] = {}
    with pytest.raises(Exception, match=r"behaviour"):
        cluster.apply(hpa, dry_run=True)


def test_the_account_may_make_the_pods_of_both_workloads(cluster: Cluster, kubectl: str) -> None:
    applied(cluster, built(kubectl, "fleet"))

    def pods() -> dict[str, Any]:
        cluster.make_ready("tokentide", 3)  # a StatefulSet goes on with an update only from a pod that is ready
        found = cluster.get("/api/v1/namespaces/tokentide/pods")["items"]
        return {pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["spec"] for pod in found}

    def accounts() -> dict[str, str]:
        return {component: spec["serviceAccountName"] for component, spec in pods().items()}

    expected = {"aggregator": "tokentide", "controller": "tokentide-fleet"}
    wait_until(lambda: accounts() == expected, 60, "pods of both workloads with their accounts", progress=accounts)
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    mounts = {
        component: [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]]
        for component, spec in pods().items()
    }
    assert token in mounts["controller"]
    assert token not in mounts["aggregator"]
