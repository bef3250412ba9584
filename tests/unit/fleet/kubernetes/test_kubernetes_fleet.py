"""The fleet of Kubernetes objects, against an API server of the tests (tests/kubernetes_api.py)."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import ManualClock
from pipeline.config.settings import PoolSettings, Settings
from pipeline.engine.telemetry_gaps import GapGuard
from pipeline.errors import CodecError, ConfigError
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus
from pipeline.fleet.kubernetes.api import KubernetesError
from pipeline.fleet.kubernetes.fleet import KubernetesFleet
from pipeline.fleet.registry import configured_fleet
from pipeline.fleet.router.pages import RouterPages
from pipeline.testing import RecordedReports, check_fleet, closed_window
from pipeline.windows.types import PoolKey
from tests.certificates import make_certificates
from tests.kubernetes_api import KubernetesApi
from tests.waiting import eventually

START = 1_795_981_560.0
CHAT, BATCH, OWN = PoolKey("org/llama", "chat"), PoolKey("org/llama", "batch"), PoolKey("org/llama", "own")
DEPLOYMENT = "/apis/apps/v1/namespaces/inference/deployments/llama-chat"
GROUPS = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/big/leaderworkersets/llama-batch"
CUSTOM = "/apis/serving.example.com/v1beta1/namespaces/inference/engines/llama-own"
TARGETS: list[dict[str, Any]] = [
    {"model": "org/llama", "pool": "chat", "name": "llama-chat", "max_replicas": 16},
    {"model": "org/llama", "pool": "batch", "name": "llama-batch", "namespace": "big", "kind": "LeaderWorkerSet"},
    {
        "model": "org/llama",
        "pool": "own",
        "name": "llama-own",
        "kind": "Engine",
        "api_version": "serving.example.com/v1beta1",
        "resource": "engines",
    },
]


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with KubernetesApi() as server:
        server.add(DEPLOYMENT, "Deployment", 4, 3)
        server.add(GROUPS, "LeaderWorkerSet", 2, 0)
        server.add(CUSTOM, "Engine", 0)
        yield server


def settings(url: str, *, actuate: bool = False, pools: tuple[PoolSettings, ...] = (), **options: Any) -> Settings:
    given = {"server": url, "namespace": "inference", "every_seconds": 0.01, "targets": TARGETS, **options}
    return Settings(fleet={"source": "kubernetes", "actuate": actuate, "options": given}, pools=pools)


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


@pytest.mark.parametrize("key", [CHAT, BATCH, OWN], ids=str)
@pytest.mark.parametrize("actuate", [False, True], ids=["reports", "scales"])
def test_it_keeps_the_promises_of_a_fleet(api: KubernetesApi, key: PoolKey, actuate: bool) -> None:
    made = settings(api.url, actuate=actuate)
    check_fleet(lambda context: configured_fleet(made, context.clock, context.book), key, ManualClock(START), 6, made)
    changes = [url for method, url in api.requests if method == "PATCH"]
    assert len(changes) == int(actuate), "the same number again changes nothing, and a fleet that reports never does"


def test_what_is_reported_is_what_the_objects_say(api: KubernetesApi) -> None:
    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await eventually(lambda: len(book.last) == 3, 20, "reports of all targets")
        found = {key: (status.current, status.ready, status.at) for key, status in book.last.items()}
        # A count that is left out is 0; ready replicas of a resource of another kind are not known.
        assert found == {CHAT: (4, 3, START), BATCH: (2, 0, START), OWN: (0, None, START)}
        api.add(GROUPS, "LeaderWorkerSet", 2, None)
        await eventually(lambda: book.last[BATCH].ready is None, 20, "an object without a status")

    with_fleet(settings(api.url), work)


def test_requests_are_reported_where_a_target_names_its_router(
    api: KubernetesApi, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {"a": 'total{pool="chat"} 40\nrunning{pool="chat"} 3\n'}

    async def fetched(pages: RouterPages, urls: tuple[str, ...], token_file: Path | None) -> Any:
        if not page:
            raise CodecError(f"{urls[0]}: it answers with status 503")
        return START - 0.5, page

    monkeypatch.setattr(RouterPages, "of", fetched)
    router = {"urls": ["http://gateway/metrics"], "total": 'total{pool="chat"}', "running": 'running{pool="chat"}'}

    def told(status: ReplicaStatus) -> tuple[Any, ...]:
        return (status.at, status.current, status.requests_total, status.running_requests, status.queued_requests)

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await eventually(lambda: len(book.last) == 3, 20, "reports of all targets")
        assert told(book.last[CHAT]) == (START - 0.5, 4, 40, 3, None)
        assert told(book.last[BATCH]) == (START, 2, None, None, None)
        await fleet.scale(CHAT, 5)
        assert told(book.last[CHAT]) == (START - 0.5, 5, 40, 3, None), "scaling leaves no report without the count"
        page.clear()
        await eventually(lambda: book.last[CHAT].requests_total is None, 20, "a report without requests")
        assert told(book.last[CHAT]) == (START, 5, None, None, None), "replicas are known all the same"

    with caplog.at_level("WARNING"):
        with_fleet(settings(api.url, actuate=True, targets=[{**TARGETS[0], "router": router}, *TARGETS[1:]]), work)
    said = [record.getMessage() for record in caplog.records]
    assert said.count("org/llama/chat: requests are not known: http://gateway/metrics: it answers with status 503") == 1


@pytest.mark.parametrize(("came", "silent"), [(0, True), (3, False)])
def test_a_router_that_counts_nothing_lets_a_silent_minute_be_told_from_an_outage(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch, came: int, silent: bool
) -> None:
    clock, book = ManualClock(START), ReplicaBook()
    window = int(START) + 60
    total = {"now": 40}

    async def fetched(pages: RouterPages, urls: tuple[str, ...], token_file: Path | None) -> Any:
        return clock.now(), {"a": f"total {total['now']}\nrunning 0\n"}

    monkeypatch.setattr(RouterPages, "of", fetched)
    router = {"urls": ["http://gateway/metrics"], "total": "total", "running": "running"}
    made = settings(api.url, targets=[{**TARGETS[0], "router": router}])

    async def run() -> None:
        fleet = configured_fleet(made, clock, book)
        await fleet.start()
        for second in range(0, 135, 15):
            clock.set(START + second)
            total["now"] += 100 if second == 45 else came if second == 90 else 0
            until = START + second
            found = lambda until=until: book.report(CHAT, until - 1, until)  # noqa: E731
            await eventually(lambda found=found, until=until: found() and found().reported_at == until, 20, "a look")
        await fleet.stop()

    asyncio.run(run())
    busy = book.report(CHAT, START, window + 60, (START, window))
    quiet = book.report(CHAT, window, window + 60, (window, window + 60))
    assert busy is not None
    assert quiet is not None
    assert busy.counted is not None
    assert quiet.counted is not None
    assert busy.counted.around == 100
    assert (quiet.counted.around, quiet.counted.inside) == (came, came)
    assert quiet.counted.idle
    guard = GapGuard(20.0, 3_600.0)
    assert not guard.is_gap(closed_window(int(START), 100, fleet=busy, current_replicas=4))
    assert guard.is_gap(closed_window(window, 0, fleet=quiet, current_replicas=4)) is not silent


@pytest.mark.slow
def test_hostile_answers_are_problems_of_one_target_and_pass(
    api: KubernetesApi, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [
        (500, b"<html>"),
        (200, b"{"),
        (200, b"[]"),
        (200, b"[" * 100_000),
        (200, b'{"kind": "Deployment", "spec": {"replicas": 9}}'),
        (200, b'{"kind": "Scale", "spec": {"replicas": NaN}}'),
        (200, b'{"kind": "Scale", "spec": {"replicas": 1e400}}'),
        (200, b'{"kind": "Scale", "spec": {"replicas": -3}}'),
        (200, b" " * 5_000_000),
        (302, b""),
        (403, json.dumps({"kind": "Status", "message": "deployments/scale is forbidden"}).encode()),
    ]

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await eventually(lambda: len(book.last) == 3, 20, "reports of all targets")
        for answer in answers:
            api.broken[f"{DEPLOYMENT}/scale"] = answer
            seen = len(api.requests)
            await eventually(lambda seen=seen: len(api.requests) > seen + 12, 20, "more looks")
        assert {status.current for status in book.last.values()} == {4, 2, 0}, "nothing of it was believed"
        del api.broken[f"{DEPLOYMENT}/scale"]
        api.add(DEPLOYMENT, "Deployment", 5, 5)
        await eventually(lambda: book.last[CHAT].current == 5, 20, "the report after the trouble")
        assert fleet.rejected > 0, "the negative count"

    with caplog.at_level("INFO"):
        with_fleet(settings(api.url), work)
    said = [record.getMessage() for record in caplog.records if "org/llama/chat" in record.getMessage()]
    assert any("deployments/scale is forbidden" in line for line in said)
    assert said[-1].endswith("known again")
    assert len(said) <= len(answers) + 1, "a problem is logged once, not with every look"


def test_limits_hold_whatever_is_asked_and_every_decision_is_recorded(api: KubernetesApi, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    pool = PoolSettings(model="org/llama", pool="batch", profile="llama-3.1-8b", accelerator="L40S", max_replicas=8)

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await fleet.scale(CHAT, 40)
        await fleet.scale(CHAT, 16)
        await fleet.scale(CHAT, 0)
        await fleet.scale(BATCH, 40)
        api.most[CUSTOM] = 3
        with pytest.raises(KubernetesError, match="asked for 5 replicas, the API server made it 3"):
            await fleet.scale(OWN, 5)
        del api.objects[CUSTOM]
        with pytest.raises(KubernetesError, match='404 "llama-own" not found'):
            await fleet.scale(OWN, 5)
        await fleet.scale(PoolKey("org/llama", "not handed over"), 5)

    with_fleet(settings(api.url, actuate=True, pools=(pool,), audit_file=str(audit)), work)
    assert (api.objects[DEPLOYMENT]["replicas"], api.objects[GROUPS]["replicas"]) == (1, 8)
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    fields = ("pool", "asked", "wanted", "before", "outcome")
    assert [tuple(line[name] for name in fields) for line in lines] == [
        ("chat", 40, 16, 4, "scaled"),
        ("chat", 16, 16, 16, "unchanged"),
        ("chat", 0, 1, 16, "scaled"),
        ("batch", 40, 8, 2, "scaled"),
        ("own", 5, 5, 0, "failed"),
        ("own", 5, 5, None, "failed"),
    ]
    assert {line["at"] for line in lines} == {START}
    assert lines[0]["target"] == DEPLOYMENT
    assert "404" in lines[-1]["detail"]


def test_a_dry_run_asks_the_server_and_changes_nothing(api: KubernetesApi, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        await fleet.scale(CHAT, 9)

    with_fleet(settings(api.url, actuate=True, dry_run=True, audit_file=str(audit)), work)
    assert api.objects[DEPLOYMENT]["replicas"] == 4
    assert ("PATCH", f"{DEPLOYMENT}/scale?fieldManager=tokentide&dryRun=All") in api.requests
    assert json.loads(audit.read_text())["outcome"] == "dry_run"


def test_what_cannot_be_recorded_is_not_done(api: KubernetesApi, tmp_path: Path) -> None:
    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        with pytest.raises(OSError, match="missing"):
            await fleet.scale(CHAT, 9)

    with_fleet(settings(api.url, actuate=True, audit_file=str(tmp_path / "missing" / "audit.jsonl")), work)
    assert api.objects[DEPLOYMENT]["replicas"] == 4


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_is_checked_and_a_rotated_token_is_taken_up(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    token = tmp_path / "token"
    token.write_text("first\n")
    options: dict[str, Any] = {"token_file": str(token), "ca_file": str(tmp_path / "ca.crt")}
    with KubernetesApi(tmp_path, "first") as api:
        api.add(DEPLOYMENT, "Deployment", 4, 3)

        async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
            await eventually(lambda: CHAT in book.last, 20, "a report through TLS")
            api.token = "second"
            with pytest.raises(KubernetesError, match="401 Unauthorized"):
                await fleet.scale(CHAT, 9)
            token.write_text("second")
            await fleet.scale(CHAT, 9)

        with_fleet(settings(api.url, actuate=True, **options), work)
        assert api.objects[DEPLOYMENT]["replicas"] == 9

        async def refused(fleet: KubernetesFleet, book: RecordedReports) -> None:
            with pytest.raises(KubernetesError, match="certificate"):
                await fleet.scale(CHAT, 3)

        with_fleet(settings(api.url, actuate=True, token_file=str(token), ca_file=None), refused)
        assert api.objects[DEPLOYMENT]["replicas"] == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": []}, "fleet.options.targets"),
        ({"targets": [{**TARGETS[0], "name": "../../secrets/x"}]}, "fleet.options.targets.0.name"),
        ({"targets": [{**TARGETS[0], "kind": "Engine"}]}, "kind 'Engine' needs api_version and resource"),
        ({"targets": [{**TARGETS[2], "resource": None}]}, "api_version and resource go together"),
        ({"targets": [{**TARGETS[0], "min_replicas": 20}]}, r"min_replicas \(20\) must not exceed max_replicas \(16\)"),
        ({"targets": [TARGETS[0], TARGETS[0]]}, "name the same pool twice: org/llama/chat"),
        ({"targets": [TARGETS[0], {**TARGETS[0], "pool": "x"}]}, f"name the same object twice: {DEPLOYMENT}"),
        ({"server": "ftp://x"}, "not an http or https URL"),
        ({"server": "https://u:p@x"}, "no user or password in the URL"),
        ({"replicas": 3}, "fleet.options.replicas"),
        ({"targets": [{**TARGETS[0], "router": {"urls": ["http://x/m"], "total": "sum(x)"}}]}, "router.total: 'sum"),
        (
            {"targets": [{**TARGETS[0], "router": {"urls": ["http://x/m"], "total": "x"}}], "every_seconds": 20},
            r"every_seconds: 20 .* a quarter of windows.grain_seconds \(60\)",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured_fleet(settings("http://127.0.0.1:1", **options), ManualClock(START), RecordedReports())


@pytest.mark.parametrize(
    ("server", "message"),
    [("http://192.0.2.1:8001", "by https only"), (None, "not in a cluster"), ("http://127.0.0.1:1", "connect")],
    ids=str,
)
def test_a_server_that_cannot_be_asked_is_an_error_that_says_why(
    server: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    async def work(fleet: KubernetesFleet, book: RecordedReports) -> None:
        with pytest.raises(KubernetesError, match=message):
            await fleet.scale(CHAT, 3)

    with_fleet(settings(server, actuate=True) if server else settings("", actuate=True, server=None), work)
