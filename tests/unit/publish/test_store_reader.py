"""The API over the real store: what was recorded comes back in the shape of what is live."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from pipeline.publish.recent_demand import KEPT_SECONDS, STEP_SECONDS
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from tests.publish_feed import Feed, recorded
from tests.publish_server import Server
from tests.waiting import scaled

CHAT = "llama-3.1-8b-instruct/chat"


@pytest.fixture
def answers(tmp_path: Path) -> dict[str, Any]:
    feed = Feed()
    with Store.open(tmp_path / "t.duckdb") as store:
        recorded(feed, store, ("history", "recommendations", "alerts", "forecasts_at"))
        feed.step(40)
        again = LiveState(feed.clock, feed.settings)
        again.recall_demand(store.recent_rates(KEPT_SECONDS, STEP_SECONDS))
        with Server(feed) as server:
            paths = {
                "windows": f"/v1/windows/{CHAT}",
                "coarse": f"/v1/windows/{CHAT}?grain_seconds=600&start={feed.as_of - 1800}",
                "history": f"/v1/recommendations/{CHAT}/history?limit=5",
                "live": f"/v1/recommendations/{CHAT}",
                "alerts": "/v1/alerts",
                "past": f"/board/pools/{CHAT}/past-forecasts?horizon_seconds=300",
            }
            found: dict[str, Any] = {"feed": feed, "recalled": again.recent_demand("3h")}
            for name, path in paths.items():
                with urllib.request.urlopen(server.url + path, timeout=scaled(10)) as response:
                    found[name] = json.load(response)
    return found | {"feed": feed}


@pytest.mark.slow
def test_history_has_the_shape_of_what_is_live(answers):
    assert answers["history"]["recommendations"][0] == answers["live"]
    issued = [r["issued_at"] for r in answers["history"]["recommendations"]]
    assert issued == sorted(issued, reverse=True)
    assert len(issued) == 5


@pytest.mark.slow
def test_windows_are_the_recorded_ones(answers):
    windows = answers["windows"]["windows"]
    recorded = answers["feed"].windows["llama-3.1-8b-instruct", "chat"]
    assert [w["requests"] for w in windows] == [w.requests for w in recorded]
    assert [w["rates"]["requests_per_second"] for w in windows] == [w.requests / 60 for w in recorded]
    assert windows[-1]["current_replicas"] == recorded[-1].current_replicas
    assert all(w["finished"] for w in windows)


@pytest.mark.slow
def test_a_coarser_grain_adds_up_and_leaves_the_unfinished_end_without_rates(answers):
    feed = answers["feed"]
    recorded = feed.windows["llama-3.1-8b-instruct", "chat"]
    for window in answers["coarse"]["windows"]:
        inside = [w for w in recorded if window["start"] <= w.start < window["end"]]
        assert window["requests"] == sum(w.requests for w in inside)
        assert window["finished"] == (window["end"] <= feed.as_of)
        assert (window["rates"]["requests_per_second"] is None) == (not window["finished"])


@pytest.mark.slow
def test_alerts_come_from_the_store(answers):
    assert [a["alert_id"] for a in answers["alerts"]["alerts"]] == ["test-ended"]


@pytest.mark.slow
def test_what_was_forecast_then_comes_from_the_store(answers: dict[str, Any]) -> None:
    feed, model_pool = answers["feed"], tuple(CHAT.split("/"))
    said = [f for f in feed.said[(*model_pool, "requests_per_second", 300)] if f.target_at <= feed.as_of]
    assert answers["past"]["forecasts"] == [[f.target_at, f.quantiles[0], f.quantiles[3], f.quantiles[6]] for f in said]


@pytest.mark.slow
def test_the_demand_of_the_past_is_there_after_a_restart(answers: dict[str, Any]) -> None:
    before, after = answers["feed"].live.recent_demand("3h"), answers["recalled"]
    assert after.keys() == before.keys()
    for key, recalled in after.items():
        kept = [rate for rate in before[key].requests_per_second if rate is not None]
        found = [rate for rate in recalled.requests_per_second if rate is not None]
        assert len(kept) > 10
        assert found == pytest.approx(kept)


@pytest.mark.slow
def test_what_is_kept_in_memory_does_not_change_a_byte(tmp_path: Path) -> None:
    feed = Feed()
    with Store.open(tmp_path / "t.duckdb") as store:
        recorded(feed, store, ("history", "history_span", "latencies", "samples", "pools", "full_matches"))
        feed.step(40)
        with Server(feed) as server:
            times = f"start={feed.as_of - 1_800}&end={feed.as_of}"
            query = "query=tokentide_demand_requests_per_second{pool=%22chat%22}"
            paths = [
                f"/v1/windows/{CHAT}?{times}",
                f"/v1/windows/{CHAT}?start={feed.as_of - 600}",
                f"/v1/windows/{CHAT}?{times}&limit=7",
                f"/prometheus/api/v1/query_range?{query}&{times}&step=60",
            ]

            def read() -> list[bytes]:
                found = []
                for path in paths:
                    with urllib.request.urlopen(server.url + path, timeout=scaled(10)) as response:
                        found.append(response.read())
                return found

            before = read()
            store.keep_recent()
            assert store._recent.oldest() < feed.as_of
            assert read() == before
            assert all(len(body) > 500 for body in before)
