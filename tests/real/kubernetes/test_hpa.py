"""The real HPA controller on our manifest: it follows fresh advice at once and holds without it, within its limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sizing.types import RecommendationState
from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.real.kubernetes.advised import advise
from tests.real.kubernetes.cluster import Cluster
from tests.real.kubernetes.conftest import MANIFESTS, documents
from tests.real.kubernetes.external_metrics import ExternalMetrics
from tests.real.kubernetes.test_fleet import workload
from tests.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

DEPLOYMENT = "/apis/apps/v1/namespaces/inference/deployments/llama-chat"
#: How often the HPA must have asked and answered the same to be believed.
LOOKS = 4


@dataclass
class Scaled:
    """A Deployment of three replicas that the HPA scales by what Tokentide says."""

    cluster: Cluster
    feed: Feed
    server: Server
    adapter: ExternalMetrics
    hpa: str

    def replicas(self) -> int:
        return int(self.cluster.get(DEPLOYMENT)["spec"]["replicas"])

    def running(self) -> int:
        return int(self.cluster.get(DEPLOYMENT)["status"].get("replicas", 0))

    def becomes(self, replicas: int) -> None:
        wait_until(
            lambda: self.replicas() == self.running() == replicas,
            60,
            f"{replicas} replicas",
            progress=lambda: (self.replicas(), self.running()),
        )

    def stays(self, replicas: int, *, says: list[float] | None) -> None:
        """The number stays while the HPA looks some times more and is told ``says`` (None: an error)."""
        seen = len(self.adapter.answers)
        wait_until(
            lambda: self.adapter.answers[seen:].count(says) >= LOOKS,
            60,
            f"looks that say {says}",
            progress=lambda: len(self.adapter.answers),
        )
        assert self.replicas() == replicas

    def condition(self, kind: str) -> dict[str, Any]:
        conditions = self.cluster.get(self.hpa)["status"]["conditions"]
        found: dict[str, Any] = next(found for found in conditions if found["type"] == kind)
        return found


@pytest.fixture
def scaled(cluster: Cluster) -> Iterator[Scaled]:
    feed = Feed()
    advise(feed, 3, 3)
    pool, (hpa,) = workload("Deployment", "llama-chat", 3), documents(MANIFESTS / "autoscalers" / "hpa-external.yaml")
    with Server(feed) as server, ExternalMetrics(cluster.folder, f"{server.url}/metrics") as adapter:
        for document in (*adapter.manifests(), pool, hpa):
            cluster.apply(document)
        yield Scaled(cluster, feed, server, adapter, cluster.path(hpa))
        for document in (hpa, pool, *reversed(adapter.manifests())):
            cluster.delete(document)
        pods = "/api/v1/namespaces/inference/pods"
        wait_until(lambda: not cluster.get(pods)["items"], 60, "the end of the pods")


def test_fresh_advice_is_followed_at_once_to_the_replica_both_ways(scaled: Scaled) -> None:
    scaled.stays(3, says=[3.0])
    # 12 → 13 and 13 → 12 are within the tolerance that the HPA has where none is set.
    for before, wanted in ((3, 12), (12, 13), (13, 12), (12, 4)):
        advise(scaled.feed, wanted, before)
        scaled.becomes(wanted)
    assert scaled.condition("ScalingActive")["status"] == "True"


def test_the_limits_of_the_hpa_hold(scaled: Scaled) -> None:
    advise(scaled.feed, 40, 3)
    scaled.becomes(16)
    assert scaled.condition("ScalingLimited")["reason"] == "TooManyReplicas"
    advise(scaled.feed, 0, 16)
    scaled.becomes(1)


def test_what_runs_is_held_by_advice_that_has_expired_or_is_not_fresh(scaled: Scaled) -> None:
    advise(scaled.feed, 9, 3)
    scaled.becomes(9)
    advise(scaled.feed, 2, 9, RecommendationState.HOLD)
    scaled.stays(9, says=[9.0])
    advise(scaled.feed, 8, 9, RecommendationState.DEGRADED)
    scaled.stays(9, says=[9.0])
    scaled.feed.clock.advance(3_600)
    scaled.stays(9, says=[9.0])


def test_a_metric_that_is_absent_and_a_tokentide_that_is_away_hold_what_runs(scaled: Scaled) -> None:
    advise(scaled.feed, 7, 3)
    scaled.becomes(7)
    source, empty = scaled.adapter.source, Feed()
    with Server(empty) as silent:  # started a moment ago: no advice yet, so no series
        scaled.adapter.source = f"{silent.url}/metrics"
        scaled.stays(7, says=[])
        assert scaled.condition("ScalingActive")["reason"] == "FailedGetExternalMetric"
    scaled.stays(7, says=None)
    scaled.adapter.source = source
    advise(scaled.feed, 5, 7)
    scaled.becomes(5)
