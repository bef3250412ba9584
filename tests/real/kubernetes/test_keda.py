"""The real KEDA on our ScaledObjects, each trigger from its own source: without advice no pool is made smaller."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.publish import PublishSettings
from pipeline.kafka.embedded_broker import free_port
from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.real.kubernetes.advised import advise
from tests.real.kubernetes.cluster import Cluster, Refused
from tests.real.kubernetes.conftest import MANIFESTS, documents, need
from tests.real.kubernetes.test_fleet import DEPLOYMENT, workload
from tests.waiting import scaled, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

TRIGGERS = ("prometheus", "metrics-api", "external")
TOKEN = "a-token-of-the-test"
SCALED = "/apis/keda.sh/v1alpha1/namespaces/inference/scaledobjects/llama-chat"


@pytest.fixture(scope="module")
def keda(cluster: Cluster, programs: Path) -> Iterator[Cluster]:
    """KEDA's operator and its metrics adapter, beside the cluster."""
    need(programs, "keda-operator", "keda-adapter")
    certificates = cluster.folder / "keda"
    certificates.mkdir()
    for name, source in (("ca.crt", "ca.crt"), ("tls.crt", "server.crt"), ("tls.key", "server.key")):
        shutil.copy(cluster.folder / source, certificates / name)
    metrics, secure = free_port(), free_port()
    environment = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "WATCH_NAMESPACE": "",
        "POD_NAMESPACE": "keda",
        "KEDA_CLUSTER_OBJECT_NAMESPACE": "keda",
        "PATH": os.environ["PATH"],
        "HOME": str(cluster.folder),
    }
    operator = cluster.start(
        "keda-operator",
        f"--metrics-service-bind-address=127.0.0.1:{metrics}",
        "--metrics-bind-address=0",
        "--health-probe-bind-address=0",
        f"--cert-dir={certificates}",
        f"--ca-dir={certificates}",
        **environment,
    )
    adapter = cluster.start(
        "keda-adapter",
        f"--lister-kubeconfig={cluster.kubeconfig}",
        f"--metrics-service-address=localhost:{metrics}",
        f"--secure-port={secure}",
        "--bind-address=127.0.0.1",
        f"--port={free_port()}",
        f"--cert-dir={certificates}",
        f"--tls-cert-file={certificates / 'tls.crt'}",
        f"--tls-private-key-file={certificates / 'tls.key'}",
        f"--authentication-kubeconfig={cluster.kubeconfig}",
        f"--authorization-kubeconfig={cluster.kubeconfig}",
        **environment,
    )
    route = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "keda-metrics", "namespace": "keda"},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": secure}]},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
            "spec": {
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "service": {"name": "keda-metrics", "namespace": "keda", "port": secure},
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]
    for document in route:
        cluster.apply(document)

    def available() -> bool:
        assert operator.poll() is None, cluster.log("keda-operator")
        assert adapter.poll() is None, cluster.log("keda-adapter")
        with contextlib.suppress(KeyError):
            found = cluster.get("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io")
            return all(one["status"] == "True" for one in found["status"]["conditions"] if one["type"] == "Available")
        return False

    wait_until(available, 120, "KEDA's metrics adapter")
    yield cluster
    for document in reversed(route):
        cluster.delete(document)


@dataclass
class Tokentide:
    """The API with a token, Prometheus that scrapes it, and the external scaler with mutual TLS; all may be away."""

    feed: Feed
    folder: Path
    server: Server = field(init=False)
    prometheus: str = ""
    keda_port: int = field(default_factory=free_port)
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self) -> None:
        self.server = self._running.enter_context(Server(self.feed, TOKEN))
        self._running.enter_context(self._external_scaler())
        self._running.enter_context(self._prometheus())

    def stop(self) -> None:
        self._running.close()

    @contextlib.contextmanager
    def _external_scaler(self) -> Iterator[None]:
        pytest.importorskip("grpc")
        from pipeline.publish.keda.server import KedaServer

        settings = PublishSettings(
            keda_port=self.keda_port,
            keda_certificate_file=self.folder / "server.crt",
            keda_key_file=self.folder / "server.key",
            keda_client_ca_file=self.folder / "ca.crt",
        )
        scaler, loop = KedaServer(self.feed.live, settings), asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(scaler.start(), loop).result(scaled(20))
            yield
        finally:
            asyncio.run_coroutine_threadsafe(scaler.stop(), loop).result(scaled(20))
            loop.call_soon_threadsafe(loop.stop)
            thread.join(scaled(10))
            loop.close()

    @contextlib.contextmanager
    def _prometheus(self) -> Iterator[None]:
        if shutil.which("prometheus") is None:
            pytest.skip("prometheus is not installed")
        import subprocess

        port, folder = free_port(), self.folder / f"prometheus-{self.keda_port}"
        folder.mkdir(exist_ok=True)
        job = {
            "job_name": "tokentide",
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "authorization": {"credentials": TOKEN},
            "static_configs": [{"targets": [self.server.url.removeprefix("http://")]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
        command = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*command, "--storage.tsdb.path=data"], cwd=folder, stdout=log, stderr=log)
        self.prometheus = f"http://127.0.0.1:{port}"
        try:
            yield
        finally:
            process.terminate()
            process.wait(scaled(30))


@pytest.fixture
def tokentide(keda: Cluster) -> Iterator[Tokentide]:
    """Three replicas run and are advised."""
    feed = Feed()
    advise(feed, 3, 3)
    running = Tokentide(feed, keda.folder)
    with contextlib.ExitStack() as stack:
        stack.callback(running.stop)
        running.start()
        yield running


def manifests(trigger: str, tokentide: Tokentide) -> list[dict[str, Any]]:
    """The file of a trigger with addresses and secrets of the test, asked every second; the rest as it stands."""
    found = copy.deepcopy(documents(MANIFESTS / "autoscalers" / f"keda-{trigger}.yaml"))
    for document in found:
        if document["kind"] == "Secret":
            given = {"token": TOKEN}
            if trigger == "external":
                files = {"ca.crt": "ca.crt", "tls.crt": "client.crt", "tls.key": "client.key"}
                given = {key: (tokentide.folder / name).read_text() for key, name in files.items()}
            assert document.pop("stringData").keys() == given.keys()
            document["data"] = {key: base64.b64encode(text.encode()).decode() for key, text in given.items()}
        if document["kind"] == "ScaledObject":
            document["spec"]["pollingInterval"] = 1
            metadata = document["spec"]["triggers"][0]["metadata"]
            address = {
                "prometheus": ("serverAddress", tokentide.prometheus),
                "metrics-api": (
                    "url",
                    metadata.get("url", "").replace("http://tokentide.tokentide:8321", tokentide.server.url),
                ),
                "external": ("scalerAddress", f"localhost:{tokentide.keda_port}"),
            }
            key, value = address[trigger]
            assert metadata[key] != value
            metadata[key] = value
    return found


@dataclass
class Pool:
    """A Deployment that KEDA scales."""

    cluster: Cluster

    def replicas(self) -> int:
        return int(self.cluster.get(DEPLOYMENT)["spec"]["replicas"])

    def running(self) -> int:
        return int(self.cluster.get(DEPLOYMENT)["status"].get("replicas", 0))

    def failures(self) -> int:
        """How often in a row KEDA could not get the metric."""
        health = self.cluster.get(SCALED).get("status", {}).get("health", {})
        return max((one.get("numberOfFailures", 0) for one in health.values()), default=0)

    def condition(self, kind: str) -> str:
        """The status of a condition of the ScaledObject."""
        conditions = self.cluster.get(SCALED).get("status", {}).get("conditions", [])
        return next((str(one["status"]) for one in conditions if one["type"] == kind), "Unknown")

    def stays_for_looks(self, replicas: int, looks: int = 10) -> None:
        """The number stays while the HPA asks KEDA so many times more."""
        asked = lambda: self.cluster.requests_for("/apis/external.metrics.k8s.io/v1beta1/namespaces/inference/")  # noqa: E731
        before = asked()
        wait_until(lambda: asked() >= before + looks, 120, "questions of the HPA", progress=asked)
        assert self.replicas() == replicas

    def becomes(self, replicas: int) -> None:
        wait_until(
            lambda: self.replicas() == self.running() == replicas,
            90,
            f"{replicas} replicas",
            progress=lambda: (self.replicas(), self.running()),
        )

    def stays(self, replicas: int, failures: int) -> None:
        """The number is the same at each look, until KEDA has failed to get the metric so often in a row."""
        seen: set[int] = set()

        def failed() -> bool:
            seen.add(self.replicas())
            return self.failures() >= failures

        wait_until(failed, 90, f"{failures} failures of KEDA", progress=self.failures)
        assert seen | {self.replicas()} == {replicas}


@contextlib.contextmanager
def scaled_by(cluster: Cluster, found: list[dict[str, Any]], replicas: int) -> Iterator[Pool]:
    deployment = workload("Deployment", "llama-chat", replicas)
    for document in (deployment, *found):
        cluster.apply(document)
    try:
        yield Pool(cluster)
    finally:
        for document in (*reversed(found), deployment):
            cluster.delete(document)

        def gone() -> bool:
            with contextlib.suppress(Refused):
                cluster.get(SCALED)
                return False
            return not cluster.get("/api/v1/namespaces/inference/pods")["items"]

        wait_until(gone, 120, "the end of the ScaledObject and the pods")


def follows(pool: Pool, tokentide: Tokentide) -> None:
    """Bring the pool from 3 to 12 replicas by advice, in steps of which two are within the HPA's own tolerance."""
    for before, wanted in ((3, 12), (12, 13), (13, 12)):
        advise(tokentide.feed, wanted, before)
        pool.becomes(wanted)
    advise(tokentide.feed, 12, 12)  # the fleet reports what runs now


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_fresh_advice_is_followed_and_expired_advice_lowers_nothing(
    keda: Cluster, tokentide: Tokentide, trigger: str
) -> None:
    with scaled_by(keda, manifests(trigger, tokentide), 3) as pool:
        follows(pool, tokentide)
        tokentide.feed.clock.advance(3_600)
        if trigger == "prometheus":  # the series goes on and says what holds
            pool.stays_for_looks(12)
        else:
            pool.stays(12, failures=6)  # twice the threshold of the fallback
            assert pool.condition("Fallback") == "True"


@pytest.mark.parametrize("trigger", ["prometheus", "metrics-api"])
def test_a_tokentide_that_is_away_lowers_nothing_and_raises_a_small_pool(
    keda: Cluster, tokentide: Tokentide, trigger: str
) -> None:
    with scaled_by(keda, manifests(trigger, tokentide), 3) as pool:
        follows(pool, tokentide)
        tokentide.stop()
        pool.stays(12, failures=6)
        assert pool.condition("Fallback") == "True"
        change = {"spec": {"replicas": 3}}
        keda.request("PATCH", DEPLOYMENT, change, "application/merge-patch+json")
        pool.becomes(6)


def test_an_external_scaler_that_is_away_is_held_without_a_fallback(keda: Cluster, tokentide: Tokentide) -> None:
    """KEDA asks it for the metric's name first, and counts no failure of a metric that it does not know."""
    with scaled_by(keda, manifests("external", tokentide), 3) as pool:
        follows(pool, tokentide)
        tokentide.stop()
        pool.stays_for_looks(12)
        assert pool.condition("HPAActive") == "False"
        assert pool.condition("Fallback") == "False"


def test_an_external_scaler_without_advice_raises_a_small_pool(keda: Cluster, tokentide: Tokentide) -> None:
    with scaled_by(keda, manifests("external", tokentide), 3) as pool:
        pool.becomes(3)
        wait_until(lambda: pool.condition("HPAActive") == "True", 90, "the first metric")
        tokentide.feed.clock.advance(3_600)
        pool.becomes(6)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [({"ignoreNullValues": "true"}, 1), ({"ignoreNullValues": "false"}, 12)],
    ids=["KEDA's default", "as in our file"],
)
def test_a_series_that_is_absent(keda: Cluster, tokentide: Tokentide, change: dict[str, str], outcome: int) -> None:
    """What the line ``ignoreNullValues: "false"`` prevents: an absent series is 0 replicas by KEDA's default."""
    found = manifests("prometheus", tokentide)
    (document,) = found
    document["spec"]["triggers"][0]["metadata"] |= change
    with scaled_by(keda, found, 3) as pool:
        advise(tokentide.feed, 12, 3)
        pool.becomes(12)
        tokentide.server.stop()  # Prometheus goes on, and the series ends
        if outcome == 12:
            pool.stays(12, failures=6)
        else:
            pool.becomes(outcome)
