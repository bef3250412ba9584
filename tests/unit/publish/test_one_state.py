"""Every answer is of one state of the pipeline, whatever others read and however many steps come meanwhile."""

from __future__ import annotations

import gzip
import http.client
import json
import random
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pipeline.alerts.types import Alert, AlertKind
from pipeline.engine.types import StepOutput
from pipeline.forecast.rates import signal_rates
from pipeline.publish.exporter import Exporter
from pipeline.store.store import Store
from pipeline.testing import request_event
from tests.publish_feed import Feed, recorded
from tests.publish_server import Server
from tests.unit.store.test_rollups import delta
from tests.waiting import scaled

CHAT = "llama-3.1-8b-instruct/chat"
ANSWERS = 30  # of each reader
MERGED = 8  # requests of a delta
QUERY = "/prometheus/api/v1/query?query=" + quote(
    '{__name__=~"tokentide_(demand_requests_per_second|recommended_replicas(_lower)?)"}'
)
RANGE = "/prometheus/api/v1/query_range?step=60&query=" + quote('{__name__=~"tokentide_recommended_replicas(_lower)?"}')
PATHS = (
    "/metrics",
    "/v1/pools",
    "/v1/pools?limit=2",
    "/v1/recommendations",
    "/v1/scorecards",
    "/v1/money",
    "/v1/status",
    "/v1/alerts",
    "/v1/openapi.json",
    "/board/overview",
    f"/v1/recommendations/{CHAT}",
    f"/v1/recommendations/{CHAT}/history?limit=3",
    f"/v1/forecasts/{CHAT}",
    f"/v1/windows/{CHAT}",
    QUERY,
    RANGE,
)


class Told:
    """What every state said, and what has been answered so far: shared by all readers."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.lock = threading.Lock()
        self.newest = self.begun = feed.as_of  # end of the step that is published, and of the one that is on its way
        self.steps: dict[int, int] = {}
        self.rates: dict[tuple[str, str], dict[int, float]] = {}
        self.texts: dict[tuple[Any, ...], bytes] = {}
        self.open_windows = 0  # that were looked at
        update = feed.live.update

        def publish(output: StepOutput) -> None:
            self.steps[output.as_of] = len(self.steps) + 1
            for window in output.windows:
                rates = self.rates.setdefault((window.model, window.pool), {})
                rates[output.as_of] = float(signal_rates(window)["requests_per_second"] or 0.0)
            self.begun = output.as_of
            update(output)
            self.newest = output.as_of

        feed.live.update = publish  # type: ignore[method-assign, assignment]

    def same(self, of: tuple[Any, ...], body: bytes) -> None:
        """What is told of one state by one name is always the same."""
        with self.lock:
            known = self.texts.setdefault(of, body)
        assert known == body, of


def read_on(told: Told, port: int, seed: int) -> None:
    """Read this and that, in all forms, and look at every answer."""
    rng = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=scaled(30))
    tags: dict[str, str] = {}
    for _ in range(ANSWERS):
        path = rng.choice(PATHS)
        accepted = rng.choice(("gzip", "gzip, zstd", "zstd", "identity", "*"))
        headers = {"Accept-Encoding": accepted}
        if path in tags and rng.random() < 0.5:
            headers["If-None-Match"] = f'"other", {tags[path]}'
        if rng.random() < 0.1:
            headers["Range"] = "bytes=5-99"
        method = rng.choice(("GET",) * 9 + ("HEAD",))
        asked = f"{path}&time={told.feed.as_of}" if path == QUERY else path
        if path == RANGE:
            asked = f"{path}&start={told.feed.as_of - 300}&end={told.feed.as_of + 300}"
        earliest = told.newest
        connection.request(method, asked, headers=headers)
        response = connection.getresponse()
        body = response.read()
        tag = response.headers["ETag"]
        if response.status == 304:
            assert tag == tags[path]
            assert "If-None-Match" in headers
            assert not body
            continue
        if response.status == 503:  # too many read the store
            assert response.headers["Retry-After"]
            continue
        assert response.status == 200, (path, body)
        assert response.headers.get("Content-Encoding") in (None, "gzip" if accepted[0] in "g*" else None)
        if method == "HEAD":
            assert not body
            continue
        if response.headers["Content-Encoding"]:
            body = gzip.decompress(body)
        if tag is not None:
            tags[path] = tag
            told.same((path, tag), re.sub(rb'^\{"now":[^,]*,', b"{", body))
        look_at(told, path, body, range(earliest, told.begun + 1))
    connection.close()


def look_at(told: Told, path: str, body: bytes, states: range) -> None:
    if path == "/metrics":
        lines = body.decode().splitlines()
        ends = {float(line.split()[-1]) for line in lines if line.startswith("tokentide_window_end_timestamp_seconds{")}
        (end,) = ends
        assert end in states
        assert f"tokentide_steps_total {told.steps[int(end)]}" in [line.removesuffix(".0") for line in lines]
        told.same((path, end), "\n".join(line for line in lines if 'pool="' in line).encode())
        return
    data = json.loads(body)
    as_of = data.get("as_of")
    if path.startswith("/v1/pools"):
        assert {pool["window"]["start"] + 60 for pool in data["pools"]} == {as_of}
        assert {pool["recommendation"]["issued_at"] for pool in data["pools"]} == {as_of}
    elif path == "/v1/recommendations":
        assert {advice["issued_at"] for advice in data["recommendations"]} == {as_of}
    elif path == f"/v1/forecasts/{CHAT}":
        assert len({forecast["issued_at"] for forecast in data["forecasts"]}) == 1
    elif path == "/board/overview":
        assert {pool["window_end"] for pool in data["pools"]} == {as_of}
    elif path == f"/v1/windows/{CHAT}":
        starts = [w["start"] for w in data["windows"]]
        assert starts == list(range(starts[0], starts[-1] + 60, 60))
        assert all(w["finished"] == bool(w["closed"]) for w in data["windows"])
        counted = [(w["ok"] // MERGED, w["ttft_seconds"]) for w in data["windows"] if not w["closed"]]
        for deltas, mean in counted:  # each delta's requests took four times as long as those of the one before
            assert mean == pytest.approx(0.01 * (4**deltas - 1) / 3 / deltas, rel=0.05)
        told.open_windows += len(counted)
    elif path == RANGE:
        matrix = {(r["metric"]["__name__"], r["metric"]["model"], r["metric"]["pool"]): dict(r["values"])
                  for r in data["data"]["result"]}  # fmt: skip
        for (name, *pool), values in matrix.items():
            if name == "tokentide_recommended_replicas":
                lower = matrix["tokentide_recommended_replicas_lower", pool[0], pool[1]]
                assert lower.keys() == values.keys()
                assert all(float(lower[at]) == max(1, float(values[at]) - 1) for at in values)
    elif path == QUERY:
        values = {(r["metric"]["__name__"], r["metric"]["model"], r["metric"]["pool"]): float(r["value"][1])
                  for r in data["data"]["result"]}  # fmt: skip
        ends_of = [
            {end for end, rate in told.rates[key[1:]].items() if abs(rate - value) < 1e-9}
            for key, value in values.items()
            if key[0] == "tokentide_demand_requests_per_second"
        ]
        assert set.intersection(*ends_of)
        for (name, *pool), value in values.items():
            if name == "tokentide_recommended_replicas":
                assert values["tokentide_recommended_replicas_lower", pool[0], pool[1]] == max(1, value - 1)
    if as_of is not None:
        assert as_of in states


def in_parts(store: Store) -> None:
    """Have every step close one pool first, and then the others."""
    record = store.record_step

    def close(output: StepOutput) -> None:
        store.close_windows(output.as_of, output.windows[:1], ())
        record(output)

    store.record_step = close  # type: ignore[method-assign]


def merge(store: Store, start: int, first: int, ttft_seconds: float) -> None:
    """Merge a delta of requests of the minute that is open; ``first`` is how many there were before."""
    model, pool = CHAT.split("/")
    events = [
        request_event(f"{first + i}", start + 7 * i, model=model, pool=pool, ttft_seconds=ttft_seconds, e2e_seconds=9.0)
        for i in range(MERGED)
    ]
    told = delta(events, first)  # type: ignore[no-untyped-call]
    store.apply([(0, store.delta_positions().get(0, 0), told)])


@pytest.mark.slow
@pytest.mark.parametrize("readers", [2, 16])
def test_answers_to_many_readers_while_steps_come_are_each_of_one_state(readers: int, tmp_path: Path) -> None:
    feed = Feed()
    with Store.open(tmp_path / "t.duckdb") as store:
        recorded(feed, store)
        in_parts(store)
        told = Told(feed)
        feed.step(3)
        events = 0
        with Server(feed) as server, ThreadPoolExecutor(readers) as threads:
            reads = [threads.submit(read_on, told, server.port, seed) for seed in range(readers)]
            while not all(read.done() for read in reads):
                for number in range(5):  # so that a state is read more than once
                    merge(store, feed.as_of, events, 0.01 * 4**number)
                    events += MERGED
                    threading.Event().wait(0.004)
                feed.step()
            for read in reads:
                read.result()
    assert len(told.texts) > len(PATHS)
    assert told.open_windows or readers == 2  # few readers may meet none


def stepping(feed: Feed, asked: Callable[..., Any]) -> Callable[..., Any]:
    """``asked``, and a step before who asked can ask for something else."""

    def ask(*args: Any, **named: Any) -> Any:
        found = asked(*args, **named)
        feed.step()
        return found

    return ask


@pytest.fixture
def feed() -> Feed:
    feed = Feed()
    feed.step(3)
    return feed


def get(server: Server, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=scaled(20))
    connection.request("GET", path)
    found = json.loads(connection.getresponse().read())
    connection.close()
    return found


def test_totals_of_metrics_are_those_of_their_pools(feed: Feed) -> None:
    end = feed.as_of
    feed.live.changes = stepping(feed, feed.live.changes)  # type: ignore[method-assign]
    lines = Exporter(feed.live).render().decode().splitlines()
    assert {line.split()[-1] for line in lines if line.startswith("tokentide_window_end_")} == {f"{end:.1f}"}
    assert "tokentide_steps_total 3.0" in lines


def test_a_step_without_pools_is_counted() -> None:
    feed = Feed(())
    exporter = Exporter(feed.live)
    for steps in (1.0, 2.0):
        feed.live.update(StepOutput(feed.as_of))
        assert f"tokentide_steps_total {steps}" in exporter.render().decode().splitlines()


def test_the_time_of_a_list_is_that_of_its_pools(feed: Feed) -> None:
    now, end = feed.clock.now(), feed.as_of
    with Server(feed) as server:
        feed.live.changes = stepping(feed, feed.live.changes)  # type: ignore[method-assign]
        found = get(server, "/v1/recommendations")
    assert (found["now"], found["as_of"]) == (now, end)
    assert {advice["issued_at"] for advice in found["recommendations"]} == {end}


def test_a_window_that_closed_after_the_request_came_is_finished(feed: Feed) -> None:
    history = feed.history

    def later(*args: Any) -> Any:
        feed.step()
        return history(*args)

    feed.history = later  # type: ignore[method-assign, assignment]
    with Server(feed) as server:
        windows = get(server, f"/v1/windows/{CHAT}?end={feed.as_of + 60}")["windows"]
    assert [window["finished"] for window in windows if window["closed"]] == [True] * 4


def test_an_alert_that_ended_after_the_request_came_has_ended(feed: Feed) -> None:
    at, (model, pool) = float(feed.as_of), CHAT.split("/")
    alert = Alert("a1", AlertKind.SPIKE_OBSERVED, model, pool, at, at, None, "warning", 2.0, None, "text")
    feed.episodes = {"a1": alert}
    feed.live.update(StepOutput(feed.as_of, alerts=(alert,)))
    alerts = feed.alerts

    def later(since: float) -> Any:
        feed.episodes["a1"] = replace(alert, ended_at=at + 30)
        return alerts(since)

    feed.alerts = later  # type: ignore[method-assign]
    with Server(feed) as server:
        (found,) = get(server, "/v1/alerts")["alerts"]
    assert found["ended_at"] == at + 30


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("*;q=0, gzip", "gzip"),
        ("gzip;q=0, *", None),
        ("identity, *;q=0.5", "gzip"),
        ("zstd, br", None),
        ("*;q=0", None),
    ],
)
def test_gzip_by_name_counts_more_than_a_star(feed: Feed, accepted: str, encoding: str | None) -> None:
    with Server(feed) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=scaled(20))
        connection.request("GET", "/metrics", headers={"Accept-Encoding": accepted})
        response = connection.getresponse()
        assert response.headers["Content-Encoding"] == encoding
        response.read()
        connection.close()
