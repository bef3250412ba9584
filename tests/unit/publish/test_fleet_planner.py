"""The live split: what the advice asks for, kept until the advice changes, over stock that is short, and no advice."""

import json
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from pipeline.publish.exporter import Exporter
from pipeline.publish.fleet_planner import FleetPlanner
from sizing.catalog import Catalog
from sizing.errors import SizingError
from tests.publish_server import Server
from tests.stock_feed import share_stock
from tests.waiting import scaled

LENGTHS = {"input_tokens": 900.0, "output_tokens": 240.0, "cached_share": 0.1, "dispersion": 1.3}


def told(feed, planner):
    at = feed.live.snapshot()
    return planner.data(at.pools, float(at.as_of))


def get(url):
    with urllib.request.urlopen(url + "/v1/fleet", timeout=scaled(20)) as response:
        return json.load(response)


def again(planner, feed):
    """A planner for the same stock that knows nothing."""
    return FleetPlanner(planner.shared, feed.settings, Catalog())


def any_gpu(planner, feed):
    pools = {key: replace(terms, gpus=()) for key, terms in planner.shared.pools.items()}
    return FleetPlanner(replace(planner.shared, pools=pools), feed.settings, Catalog())


def test_each_pool_gets_its_advised_replicas_and_the_split_is_kept_until_the_advice_changes(feed):
    planner = share_stock(feed)
    data = told(feed, planner)
    assert data["holds"]
    advised = {key: advice[-1].desired for key, advice in feed.advice.items()}
    assert {(p["model"], p["pool"]): sum(s["replicas"] for s in p["split"]) for p in data["pools"]} == advised
    assert next(line for line in data["stock"] if line["stock"] == "l40s-reserved")["used"] == 4
    assert [price["stock"] for price in data["stale_prices"]] == ["h100"]
    state, advice = planner.state, feed.live.snapshot().pools[0].recommendation
    planner.take([replace(advice, issued_at=advice.issued_at + 60)])
    assert planner.split(feed.as_of + 60) is None
    assert planner.state is state
    planner.take([replace(advice, generation=99)])
    assert planner.split(feed.as_of + 120) is not None
    assert planner.state.as_of == feed.as_of + 120


def test_the_stock_is_split_at_most_once_a_minute(feed):
    planner = share_stock(feed)
    first, advice = planner.state.plan, feed.live.snapshot().pools[0].recommendation
    planner.take([replace(advice, generation=99, desired=advice.desired + 1)])
    assert planner.split(feed.as_of + 20) is not None  # what was advised is kept, should the process end
    assert planner.state.plan is first
    assert planner.split(feed.as_of + 40) is None
    assert planner.split(feed.as_of + 60) is not None
    before, after = (sum(pool["advised_replicas"] for pool in plan["pools"]) for plan in (first, planner.state.plan))
    assert after == before + 1
    assert planner.split(feed.as_of + 120) is None


def test_what_is_short_is_told_by_priority_with_the_smallest_budget(feed):
    data = told(feed, share_stock(feed, budget=8.0))  # no replica of the larger model
    short = {(p["model"][0], p["pool"], p["priority"]): p["short_share"] for p in data["pools"]}
    assert not data["holds"]
    assert short["l", "chat", 1] == 0
    assert short["m", "chat", 1] == 1
    assert short["l", "batch", 2] < 1
    assert data["smallest_budget_dollars_per_hour"] > 8.0
    assert told(feed, share_stock(feed, l40s=0))["smallest_budget_dollars_per_hour"] is None


def test_expired_advice_keeps_its_stock_and_a_pool_without_advice_takes_none(feed):
    planner = share_stock(feed)
    fresh = told(feed, planner)
    assert not any(p["advice_expired"] for p in fresh["pools"])
    feed.clock.set(feed.as_of + 10_000)
    stale = told(feed, planner)
    assert all(p["advice_expired"] for p in stale["pools"])
    assert [p["split"] for p in stale["pools"]] == [p["split"] for p in fresh["pools"]]
    nothing = again(planner, feed).data((), 0.0)
    assert nothing["holds"] is None
    assert len(nothing["without_advice"]) == 3


def test_a_cheaper_gpu_takes_over_and_advice_that_only_holds_does_not_move_the_mix(feed):
    planner = any_gpu(share_stock(feed), feed)
    advice = feed.live.snapshot().pools[0].recommendation
    lengths = advice.evidence | LENGTHS
    planner.take([replace(advice, evidence=lengths)])
    planner.split(0)
    first = planner.state.plan
    planner.take([replace(advice, evidence={"lead_time_seconds": 900.0}, generation=9)])
    planner.split(60)
    assert first["pools"][0]["split"] == planner.state.plan["pools"][0]["split"]
    assert planner.state.plan["changes"] == 0
    planner.take([replace(advice, evidence=lengths | {"input_tokens": 1e30}, generation=10)])
    planner.split(120)
    assert planner.state.plan["holds"]
    assert planner.state.plan["excluded"]


def history(feed, grain):
    """Advice of some hours: changes of each pool at times of its own, silence of one, and renewals in between."""
    views = feed.live.snapshot().pools
    for number in range(40):
        advice = []
        for place, view in enumerate(views):
            base = view.recommendation
            change = number // (3 + place)
            told = base.evidence | LENGTHS | {"output_tokens": 240.0 + 13 * number}
            if not (place == 1 and number > 20):
                advice.append(replace(base, desired=1 + (7 * change + place) % 9, generation=change, evidence=told))
        yield 1_700_000_000 + grain * number, advice


@pytest.mark.slow
@pytest.mark.parametrize("grain", [60, 20])
@pytest.mark.parametrize("lost", [False, True], ids=["stopped", "killed before the split was kept"])
def test_live_restart_and_replay_split_alike(feed, lost, grain):
    model = share_stock(feed)
    live, replayed = any_gpu(model, feed), any_gpu(model, feed)
    kept = ""
    plans, moved = [], 0
    for as_of, advice in history(feed, grain):
        live.take(advice)
        live.split(as_of)
        live.data((), as_of)  # a reader in between
        plans.append(json.dumps(live.state.plan))
        moved += live.state.plan["changes"] > 0 and live.state.as_of == as_of
        restarted = any_gpu(model, feed)
        restarted.restore(kept)
        restarted.take(advice)
        body = restarted.split(as_of)
        if body is not None and lost:  # the split was not written: the last step is told again
            restarted = any_gpu(model, feed)
            restarted.restore(kept)
            restarted.take(advice)
            assert restarted.split(as_of) == body
        kept = kept if body is None else body
        assert json.dumps(restarted.state.plan) == plans[-1]
    assert moved > (5 if grain == 60 else 2)
    for (as_of, advice), plan in zip(history(feed, grain), plans, strict=True):
        replayed.take(advice)
        replayed.split(as_of)
        assert json.dumps(replayed.state.plan) == plan


def test_a_restart_with_another_stock_counts_changes_against_the_split_before(feed):
    planner = share_stock(feed)
    body = planner_body(planner, feed)
    smaller = replace(planner.shared, stock=planner.shared.stock[:2])
    restarted = FleetPlanner(smaller, feed.settings, Catalog())
    restarted.restore(body)
    restarted.take([])
    restarted.split(feed.as_of)
    assert restarted.state.plan["changes"] == 0
    assert not restarted.state.plan["holds"]  # nothing is left for the larger model
    for hostile in ("", "{", '{"made_for": 1}', "[]", "null"):
        fresh = again(planner, feed)
        fresh.restore(hostile)
        assert fresh.state is None


def planner_body(planner, feed):
    fresh = again(planner, feed)
    fresh.take(view.recommendation for view in feed.live.snapshot().pools)
    return fresh.split(feed.as_of)


def test_the_api_and_the_metrics_say_the_same(feed):
    share_stock(feed, budget=8.0)
    with Server(feed) as server:
        answer = get(server.url)
    assert answer["as_of"] == feed.as_of
    lines = Exporter(feed.live).render().decode().splitlines()
    for pool in answer["pools"]:
        labels = f'model="{pool["model"]}",pool="{pool["pool"]}"'
        assert f"tokentide_fleet_split_short_ratio{{{labels}}} {pool['short_share']!r}" in lines
        for part in pool["split"]:
            where = f'stock="{part["stock"]}",tensor_parallel="{part["tensor_parallel"]}"'
            assert f"tokentide_fleet_split_replicas{{{labels},{where}}} {float(part['replicas'])}" in lines
    for line in answer["stock"]:
        where = f'stock="{line["stock"]}",gpu="{line["gpu"]}",capacity_type="{line["capacity_type"]}"'
        assert f"tokentide_fleet_stock_used_gpus{{{where}}} {float(line['used'])}" in lines
        assert f"tokentide_fleet_stock_gpus{{{where}}} {float(line['count'])}" in lines
    assert f"tokentide_fleet_split_dollars_per_hour {answer['dollars_per_hour']!r}" in lines
    assert "tokentide_fleet_budget_dollars_per_hour 8.0" in lines
    assert "tokentide_fleet_split_found 1.0" in lines


def test_without_a_stock_or_before_advice_there_are_no_such_metrics(feed):
    assert "tokentide_fleet_split" not in Exporter(feed.live).render().decode()
    feed.live.fleet = again(share_stock(feed), feed)
    text = Exporter(feed.live).render().decode()
    assert "tokentide_fleet_split" not in text
    assert "tokentide_fleet_stock_gpus{" in text


@pytest.mark.parametrize("error", [SizingError, ValueError, OverflowError])
def test_a_plan_that_cannot_be_made_and_no_stock_are_problem_documents(feed, monkeypatch, error):
    with Server(feed) as server:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(server.url)

        def fail(*_, **__):
            raise error("the solver ended without an answer")

        monkeypatch.setattr("pipeline.publish.fleet_planner.split_fleet", fail)
        share_stock(feed)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            get(server.url)
        text = Exporter(feed.live).render().decode()
        assert "tokentide_fleet_split_found 0.0" in text
        assert "tokentide_fleet_split_dollars_per_hour" not in text
        monkeypatch.undo()
        feed.step(30)  # the advice changes
        assert get(server.url)["pools"]
