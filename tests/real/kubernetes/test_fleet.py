"""The fleet ``kubernetes`` against a real API server, with an account that may do what our manifests allow."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import ManualClock
from pipeline.config.settings import Settings
from pipeline.fleet.kubernetes.api import KubernetesError
from pipeline.fleet.kubernetes.fleet import KubernetesFleet
from pipeline.fleet.registry import configured_fleet
from pipeline.sinks.fleet import FleetSink
from pipeline.testing import RecordedReports, check_fleet
from pipeline.windows.types import PoolKey
from tests.real.kubernetes.cluster import Cluster, Refused
from tests.real.kubernetes.conftest import MANIFESTS, documents
from tests.unit.fleet.test_fleets import advice, step
from tests.waiting import eventually, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

START = 1_795_981_560.0
MODEL = "llama-3.1-8b-instruct"
CHAT, GROUPS, STATEFUL = (PoolKey(MODEL, name) for name in ("chat", "groups", "stateful"))
TARGETS: list[dict[str, Any]] = [
    {"model": MODEL, "pool": "chat", "name": "llama-chat", "max_replicas": 16},
    {"model": MODEL, "pool": "groups", "name": "llama-groups", "kind": "LeaderWorkerSet"},
    {"model": MODEL, "pool": "stateful", "name": "llama-stateful", "kind": "StatefulSet", "min_replicas": 0},
]
DEPLOYMENT = "/apis/apps/v1/namespaces/inference/deployments/llama-chat"


def workload(kind: str, name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    pod = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "server", "image": "server"}], "terminationGracePeriodSeconds": 0},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod}
    if kind == "LeaderWorkerSet":
        return {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": "inference"},
            "spec": {"replicas": replicas, "leaderWorkerTemplate": {"size": 2, "workerTemplate": pod}},
        }
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "inference"},
        "spec": spec,
    }


@pytest.fixture
def objects(cluster: Cluster) -> Iterator[None]:
    """A pool of each kind, and the rights to read them; nothing else is allowed."""
    found = [
        workload("Deployment", "llama-chat", 3),
        workload("LeaderWorkerSet", "llama-groups", 2),
        workload("StatefulSet", "llama-stateful", 0),
    ]
    rights = documents(MANIFESTS / "fleet" / "read.yaml")
    for document in (*found, *rights):
        cluster.apply(document)
    wait_until(lambda: cluster.get(DEPLOYMENT)["status"].get("replicas") == 3, 60, "the pods of the Deployment")
    yield
    for document in (*found, *rights, *documents(MANIFESTS / "fleet" / "scale.yaml")):
        with contextlib.suppress(Refused):  # not every test has applied or left them all
            cluster.delete(document)
    wait_until(lambda: not cluster.get("/api/v1/namespaces/inference/pods")["items"], 60, "the end of the pods")


@pytest.fixture
def may_scale(cluster: Cluster, objects: None) -> None:
    for document in documents(MANIFESTS / "fleet" / "scale.yaml"):
        cluster.apply(document)


@pytest.fixture
def token_file(cluster: Cluster, objects: None, tmp_path: Path) -> Path:
    """A token of the controller's account, where the kubelet would put it."""
    (tmp_path / "token").write_text(cluster.account_token("tokentide", "tokentide-fleet"))
    return tmp_path / "token"


def fleet_settings(cluster: Cluster, token_file: Path, *, actuate: bool = False, **options: Any) -> Settings:
    given = {
        "server": cluster.url,
        "ca_file": str(cluster.ca_file),
        "token_file": str(token_file),
        "namespace": "inference",
        "every_seconds": 0.05,
        "targets": TARGETS,
        **options,
    }
    return Settings(fleet={"source": "kubernetes", "actuate": actuate, "options": given})


def with_fleet(made: Settings, work: Callable[[KubernetesFleet, RecordedReports], Awaitable[None]]) -> None:
    book = RecordedReports()

    async def run() -> None:
        fleet = configured_fleet(made, ManualClock(START), book)
        assert isinstance(fleet, KubernetesFleet)
        await fleet.start()
        try:
            await work(fleet, book)
        finally:
            await fleet.stop()

    asyncio.run(run())


def replicas(cluster: Cluster, path: str = DEPLOYMENT) -> int:
    return int(cluster.get(f"{path}/scale")["spec"].get("replicas", 0))


def test_what_the_objects_say_is_reported_with_the_rights_to_read_alone(cluster: Cluster, token_file: Path) -> None:
    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await eventually(lambda: len(book.last) == 3, 60, "reports of all targets")
        assert {key: (status.current, status.ready) for key, status in book.last.items()} == {
            CHAT: (3, 0),
            GROUPS: (2, None),  # nobody has written its status
            STATEFUL: (0, 0),
        }
        await asyncio.to_thread(cluster.make_ready, "inference", 2)
        await eventually(lambda: book.last[CHAT].ready == 2, 60, "ready replicas")
        counts = {"status": {"replicas": 2, "readyReplicas": 1, "hpaPodSelector": "app=llama-groups"}}
        path = cluster.path(workload("LeaderWorkerSet", "llama-groups", 2))
        await asyncio.to_thread(cluster.request, "PATCH", f"{path}/status", counts, "application/merge-patch+json")
        await eventually(lambda: book.last[GROUPS].ready == 1, 60, "ready groups")
        assert fleet.rejected == 0

    with_fleet(fleet_settings(cluster, token_file), work)


def test_the_cluster_that_it_runs_in_is_found_by_its_environment(
    cluster: Cluster, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = cluster.url.removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await eventually(lambda: len(book.last) == 3, 60, "reports of all targets")

    with_fleet(fleet_settings(cluster, token_file, server=None), work)


@pytest.mark.usefixtures("may_scale")
def test_advice_scales_the_pool_and_expired_advice_does_not(cluster: Cluster, token_file: Path) -> None:
    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await eventually(lambda: len(book.last) == 3, 60, "reports of all targets")
        clock = ManualClock(START)
        sink = FleetSink(fleet, clock)
        await sink.start()
        await sink.publish(step(advice(1, 5, model=MODEL, pool="chat")))
        await eventually(lambda: book.last[CHAT].current == 5, 60, "the replicas that were advised")
        clock.advance(3_600)
        await sink.publish(step(advice(2, 9, model=MODEL, pool="chat"), advice(1, 4, model=MODEL, pool="groups")))
        await sink.publish(step(advice(3, 6, model=MODEL, pool="chat", expires_at=START + 7_200)))
        await eventually(lambda: book.last[CHAT].current == 6, 60, "the advice that has not expired")
        assert book.last[GROUPS].current == 2
        await sink.stop()

    with_fleet(fleet_settings(cluster, token_file, actuate=True), work)
    assert replicas(cluster) == 6


def test_the_rights_to_read_are_not_those_to_scale(cluster: Cluster, token_file: Path, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        with pytest.raises(KubernetesError, match=r"403 .*cannot patch resource .deployments/scale."):
            await fleet.scale(CHAT, 5)

    with_fleet(fleet_settings(cluster, token_file, actuate=True, audit_file=str(audit)), work)
    assert replicas(cluster) == 3
    assert json.loads(audit.read_text())["outcome"] == "failed"


@pytest.mark.usefixtures("may_scale")
@pytest.mark.parametrize("key", [CHAT, GROUPS, STATEFUL], ids=lambda key: key.pool)
def test_it_keeps_the_promises_of_a_fleet(cluster: Cluster, token_file: Path, key: PoolKey) -> None:
    made = fleet_settings(cluster, token_file, actuate=True)
    check_fleet(lambda context: configured_fleet(made, context.clock, context.book), key, ManualClock(START), 6, made)


@pytest.mark.usefixtures("may_scale")
def test_the_scale_subresource_is_changed_within_limits_and_each_decision_is_recorded(
    cluster: Cluster, token_file: Path, tmp_path: Path
) -> None:
    audit = tmp_path / "audit.jsonl"

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        for wanted in (40, 16, 0, 4):
            await fleet.scale(CHAT, wanted)

    with_fleet(fleet_settings(cluster, token_file, actuate=True, audit_file=str(audit)), work)
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["asked"], line["wanted"], line["before"], line["outcome"]) for line in lines] == [
        (40, 16, 3, "scaled"),
        (16, 16, 16, "unchanged"),
        (0, 1, 16, "scaled"),
        (4, 4, 1, "scaled"),
    ]
    wait_until(lambda: cluster.get(DEPLOYMENT)["status"].get("replicas") == 4, 60, "the pods that were asked for")
    owners = {entry["manager"] for entry in cluster.get(DEPLOYMENT)["metadata"]["managedFields"]}
    assert "tokentide" in owners, "who has set the replicas can be seen in the object"


@pytest.mark.usefixtures("may_scale")
def test_a_dry_run_is_admitted_by_the_server_and_changes_nothing(
    cluster: Cluster, token_file: Path, tmp_path: Path
) -> None:
    audit = tmp_path / "audit.jsonl"
    before = cluster.get(DEPLOYMENT)["metadata"]["generation"]

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await fleet.scale(CHAT, 9)

    with_fleet(fleet_settings(cluster, token_file, actuate=True, dry_run=True, audit_file=str(audit)), work)
    assert (replicas(cluster), cluster.get(DEPLOYMENT)["metadata"]["generation"]) == (3, before)
    assert json.loads(audit.read_text())["outcome"] == "dry_run"


@pytest.mark.usefixtures("may_scale")
def test_others_that_change_the_object_meanwhile_are_no_conflict(cluster: Cluster, token_file: Path) -> None:
    async def annotate(done: asyncio.Event) -> int:
        number = 0
        while not done.is_set():
            number += 1
            change = {"metadata": {"annotations": {"number": str(number)}}}
            await asyncio.to_thread(cluster.request, "PATCH", DEPLOYMENT, change, "application/merge-patch+json")
        return number

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        done = asyncio.Event()
        others = [asyncio.create_task(annotate(done)) for _ in range(3)]
        for wanted in (5, 7, 5, 7, 5, 7):
            await fleet.scale(CHAT, wanted)
        done.set()
        assert min(await asyncio.gather(*others)) > 0

    with_fleet(fleet_settings(cluster, token_file, actuate=True), work)
    assert replicas(cluster) == 7


def test_an_object_that_is_deleted_and_made_again_is_no_zero(
    cluster: Cluster, token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await eventually(lambda: len(book.last) == 3, 60, "reports of all targets")
        await asyncio.to_thread(cluster.delete, workload("Deployment", "llama-chat", 3))
        await eventually(lambda: 'deployments.apps "llama-chat" not found' in caplog.text, 60, "the loss to be told")
        assert book.last[CHAT].current == 3, "what is not there is not known, and no report says 0"
        await asyncio.to_thread(cluster.apply, workload("Deployment", "llama-chat", 2))
        await eventually(lambda: book.last[CHAT].current == 2, 60, "the report of the new object")

    with caplog.at_level("INFO"):
        with_fleet(fleet_settings(cluster, token_file), work)


def test_a_token_that_ended_is_a_problem_until_the_next_one_is_there(
    cluster: Cluster, token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tokentide-fleet"}}

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await eventually(lambda: len(book.last) == 3, 60, "reports of all targets")
        await asyncio.to_thread(cluster.delete, account, "tokentide")  # ends every token of it
        await eventually(lambda: "401 Unauthorized" in caplog.text, 120, "the end of the token")
        await asyncio.to_thread(cluster.apply, account, namespace="tokentide")
        book.last.clear()
        token_file.write_text(await asyncio.to_thread(cluster.account_token, "tokentide", "tokentide-fleet"))
        await eventually(lambda: len(book.last) == 3, 60, "reports with the new token")

    with caplog.at_level("INFO"):
        with_fleet(fleet_settings(cluster, token_file), work)


def test_a_right_that_is_taken_away_stops_the_reports_of_it_and_nothing_else(
    cluster: Cluster, token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, role, _ = documents(MANIFESTS / "fleet" / "read.yaml")

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await eventually(lambda: len(book.last) == 3, 60, "reports of all targets")
        fewer = {**role, "rules": [rule for rule in role["rules"] if rule["apiGroups"] != ["apps"]]}
        await asyncio.to_thread(cluster.apply, fewer)
        await eventually(lambda: caplog.text.count("cannot get resource") >= 2, 60, "refusals")
        book.last.clear()
        await eventually(lambda: GROUPS in book.last, 60, "the report of what may be read")
        await asyncio.sleep(0.3)
        assert CHAT not in book.last
        await asyncio.to_thread(cluster.apply, role)
        await eventually(lambda: len(book.last) == 3, 60, "reports of all targets")

    with caplog.at_level("INFO"):
        with_fleet(fleet_settings(cluster, token_file), work)


@pytest.mark.usefixtures("may_scale")
def test_a_restart_of_the_api_server_is_outlived(
    cluster: Cluster, token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await eventually(lambda: len(book.last) == 3, 60, "reports of all targets")
        await asyncio.to_thread(cluster.stop_apiserver)
        await eventually(lambda: "replicas are not known" in caplog.text, 60, "the loss to be told")
        with pytest.raises(KubernetesError):
            await fleet.scale(CHAT, 5)
        book.last.clear()
        await asyncio.to_thread(cluster.start_apiserver)
        await eventually(lambda: len(book.last) == 3, 60, "reports after the restart")
        await fleet.scale(CHAT, 5)

    with caplog.at_level("INFO"):
        with_fleet(fleet_settings(cluster, token_file, actuate=True), work)
    assert replicas(cluster) == 5
