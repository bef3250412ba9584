"""The live split: what the advice asks for, kept until the advice changes, over stock that is short, and no advice."""

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from sizing.errors import SizingError
from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.stock_feed import share_stock
from tests.waiting import scaled


def plan(feed, planner):
    at = feed.live.snapshot()
    return planner.plan(at.pools, float(at.as_of))


def get(url):
    with urllib.request.urlopen(url + "/v1/fleet", timeout=scaled(20)) as response:
        return json.load(response)


def test_each_pool_gets_its_advised_replicas_and_the_plan_is_kept_until_the_advice_changes(feed):
    planner = share_stock(feed)
    data = plan(feed, planner)
    assert data["holds"]
    advised = {key: advice[-1].desired for key, advice in feed.advice.items()}
    assert {(p["model"], p["pool"]): sum(s["replicas"] for s in p["split"]) for p in data["pools"]} == advised
    assert next(line for line in data["stock"] if line["stock"] == "l40s-reserved")["used"] == 4
    assert [price["stock"] for price in data["stale_prices"]] == ["h100"]
    views = feed.live.snapshot().pools
    assert planner.kept(planner.key(views)) is data
    changed = replace(views[0], recommendation=replace(views[0].recommendation, generation=99))
    assert planner.kept(planner.key((changed, *views[1:]))) is None


def test_what_is_short_is_told_by_priority_with_the_smallest_budget(feed):
    data = plan(feed, share_stock(feed, budget=8.0))  # no replica of the larger model
    short = {(p["model"][0], p["pool"], p["priority"]): p["short_share"] for p in data["pools"]}
    assert not data["holds"]
    assert short["l", "chat", 1] == 0
    assert short["m", "chat", 1] == 1
    assert short["l", "batch", 2] < 1
    assert data["smallest_budget_dollars_per_hour"] > 8.0
    assert plan(feed, share_stock(feed, l40s=0))["smallest_budget_dollars_per_hour"] is None


def test_expired_advice_keeps_its_stock_and_a_pool_without_advice_takes_none(feed):
    planner = share_stock(feed)
    fresh = plan(feed, planner)
    feed.clock.set(feed.as_of + 10_000)
    stale = plan(feed, planner)
    assert all(p["advice_expired"] for p in stale["pools"])
    assert [p["split"] for p in stale["pools"]] == [p["split"] for p in fresh["pools"]]
    new = Feed()
    nothing = share_stock(new).plan(new.live.snapshot().pools, 0.0)
    assert nothing["holds"] is None
    assert len(nothing["without_advice"]) == 3


def test_a_cheaper_gpu_takes_over_and_advice_that_only_holds_does_not_move_the_mix(feed):
    planner = share_stock(feed)
    planner._shared = replace(planner._shared, pools={k: replace(t, gpus=()) for k, t in planner._shared.pools.items()})
    view = feed.live.snapshot().pools[0]
    advice = view.recommendation
    told = advice.evidence | {"input_tokens": 900.0, "output_tokens": 240.0, "cached_share": 0.1, "dispersion": 1.3}
    held = {"lead_time_seconds": 900.0}
    first = planner.plan([replace(view, recommendation=replace(advice, evidence=told))], 0.0)
    again = planner.plan([replace(view, recommendation=replace(advice, evidence=held, generation=9))], 0.0)
    assert first["pools"][0]["split"] == again["pools"][0]["split"]
    assert again["changes"] == 0
    unserved = planner.plan(
        [replace(view, recommendation=replace(advice, evidence=told | {"input_tokens": 1e30}))], 0.0
    )
    assert unserved["holds"]
    assert unserved["excluded"]


def test_many_who_ask_at_once_get_one_plan(feed, monkeypatch):
    planner = share_stock(feed)
    made, original = [], planner.plan
    monkeypatch.setattr(planner, "plan", lambda *at: made.append(1) or original(*at))
    with Server(feed) as server, ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(get, [server.url] * 5))
    assert len(made) == 1
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["as_of"] == feed.as_of


def test_a_plan_that_cannot_be_made_and_no_stock_are_problem_documents(feed, monkeypatch):
    with Server(feed) as server:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(server.url)

        def fail(*_):
            raise SizingError("the solver ended without an answer")

        monkeypatch.setattr(share_stock(feed), "plan", fail)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            get(server.url)
