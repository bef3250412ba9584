"""A control plane of Kubernetes for this folder: opt-in, ``make test-kubernetes``.

``KUBERNETES_PROGRAMS`` names the folder that ``tests/real/kubernetes/build.sh`` filled. Without it these tests are
skipped, and so are those that need a program which is not there, by its name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.kubernetes.cluster import Cluster

HERE = Path(__file__).resolve().parent
MANIFESTS = HERE.parents[2] / "deploy" / "kubernetes"
NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager")


def documents(path: Path) -> list[dict[str, Any]]:
    """The manifests of a file."""
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


@pytest.fixture(scope="session")
def programs() -> Path:
    folder = os.environ.get("KUBERNETES_PROGRAMS")
    if not folder:
        pytest.skip("KUBERNETES_PROGRAMS is not set: run `make test-kubernetes`")
    return Path(folder)


def need(programs: Path, *names: str) -> None:
    """Skip the test where one of the programs was not built."""
    missing = [name for name in names if not (programs / name).exists()]
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")


@pytest.fixture(scope="session")
def cluster(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with the namespaces of the manifests and the kinds of the operators that they are for."""
    need(programs, *NEEDED)
    with Cluster(programs, tmp_path_factory.mktemp("cluster")) as running:
        for name in ("tokentide", "inference", "monitoring", "keda"):
            running.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for path in (HERE / "leaderworkerset.yaml", *sorted((programs / "crds").glob("*.yaml"))):
            for document in documents(path):
                running.apply(document)
                running.wait_for_kind(document)
        yield running
