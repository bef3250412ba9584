"""The API over the real store: what was recorded comes back in the shape of what is live."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from publish_feed import Feed, Server

from pipeline.advise.model import StepOutput
from pipeline.store.store import Store

CHAT = "llama-3.1-8b-instruct/chat"


class _Recording:
    """A LiveState that also writes every step into a store, as the controller does."""

    def __init__(self, feed: Feed, store: Store) -> None:
        self._update = feed.live.update
        self._store = store

    def __call__(self, output: StepOutput) -> None:
        self._store.record_step(output)
        self._update(output)


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    feed = Feed()
    with Store.open(tmp_path / "t.duckdb") as store:
        monkeypatch.setattr(feed.live, "update", _Recording(feed, store))
        feed.step(40)
        for name in ("history", "recommendations", "alerts"):
            monkeypatch.setattr(feed, name, getattr(store, name))
        with Server(feed) as server:
            paths = {
                "windows": f"/v1/windows/{CHAT}",
                "coarse": f"/v1/windows/{CHAT}?grain_seconds=600&start={feed.as_of - 1800}",
                "history": f"/v1/recommendations/{CHAT}/history?limit=5",
                "live": f"/v1/recommendations/{CHAT}",
                "alerts": "/v1/alerts",
            }
            found = {}
            for name, path in paths.items():
                with urllib.request.urlopen(server.url + path, timeout=10) as response:
                    found[name] = json.load(response)
    return found | {"feed": feed}


def test_history_has_the_shape_of_what_is_live(answers):
    assert answers["history"]["recommendations"][0] == answers["live"]
    issued = [r["issued_at"] for r in answers["history"]["recommendations"]]
    assert issued == sorted(issued, reverse=True)
    assert len(issued) == 5


def test_windows_are_the_recorded_ones(answers):
    windows = answers["windows"]["windows"]
    recorded = answers["feed"].windows["llama-3.1-8b-instruct", "chat"]
    assert [w["requests"] for w in windows] == [w.requests for w in recorded]
    assert [w["rates"]["requests_per_second"] for w in windows] == [w.requests / 60 for w in recorded]
    assert windows[-1]["current_replicas"] == recorded[-1].current_replicas
    assert all(w["finished"] for w in windows)


def test_a_coarser_grain_adds_up_and_leaves_the_unfinished_end_without_rates(answers):
    feed = answers["feed"]
    recorded = feed.windows["llama-3.1-8b-instruct", "chat"]
    for window in answers["coarse"]["windows"]:
        inside = [w for w in recorded if window["start"] <= w.start < window["end"]]
        assert window["requests"] == sum(w.requests for w in inside)
        assert window["finished"] == (window["end"] <= feed.as_of)
        assert (window["rates"]["requests_per_second"] is None) == (not window["finished"])


def test_alerts_come_from_the_store(answers):
    assert [a["alert_id"] for a in answers["alerts"]["alerts"]] == ["test-ended"]
