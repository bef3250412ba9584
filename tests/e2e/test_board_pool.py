"""The board's page of one pool, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.config.settings import PoolSettings
from pipeline.engine.types import StepOutput
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.outlook import HOUR_HORIZONS, Grain, Outlook
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey, Signal
from pipeline.publish.views import PoolView
from tests.e2e.conftest import Tab
from tests.publish_feed import PER_REPLICA, POOLS, Feed
from tests.publish_server import Server

CHAT = POOLS[0]
LARGE = POOLS[2]

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Feed, Server]]:
    feed = Feed()
    feed.step(180)
    for signal in Signal:
        series, at = SeriesKey(CHAT.model, CHAT.pool, signal), float(feed.as_of)
        values = tuple(20.0 + level for level in LEVELS)
        hours = tuple(Forecast(series, at, hour * 3_600, values) for hour in HOUR_HORIZONS)
        feed.live.update(StepOutput(feed.as_of, outlooks=(Outlook(series, Grain.HOUR, at, hours),)))
    launch = CalendarRecord(
        "a", "launch", feed.as_of + 1_200.0, feed.as_of + 2_400.0, expected_size=2.0, note="<b>x</b>"
    )
    feed.live.set_calendar([launch])
    with Server(feed) as server:
        yield feed, server


def _address(pool: PoolSettings, query: str = "") -> str:
    return f"/#/pool/{pool.model.replace('/', '%2F')}/{pool.pool}{query}"


def _view(feed: Feed, pool: PoolSettings) -> PoolView:
    view = feed.live.pool(pool.model, pool.pool)
    assert view is not None
    return view


def _open(tabs: Callable[..., Tab], server: Server, pool: PoolSettings, query: str = "") -> tuple[Tab, dict[str, Any]]:
    tab = tabs(server.url + _address(pool, query))
    tab.until(lambda: tab.drawn().get("key"), "the pool is drawn")
    return tab, tab.drawn()


def test_the_chart_draws_demand_fan_capacity_and_the_expected_spike(
    tabs: Callable[..., Tab], served: tuple[Feed, Server]
) -> None:
    feed, server = served
    tab, drawn = _open(tabs, server, CHAT)
    view = _view(feed, CHAT)
    assert len(drawn["actual"]) >= 178
    assert drawn["actual"][-1][0] == feed.as_of
    fan = drawn["fan"][1:]
    forecasts = [f for f in view.forecasts if f.series.signal == "requests_per_second"]
    assert [f["at"] for f in fan] == [f.target_at for f in forecasts]
    assert [f["q95"] for f in fan] == pytest.approx([f.quantiles[6] for f in forecasts])
    assert view.window is not None
    assert view.recommendation is not None
    assert drawn["capacity"][-2][1] == view.window.current_replicas * PER_REPLICA
    assert drawn["recommended"][-1][1] == view.recommendation.desired * PER_REPLICA
    (spike,) = drawn["spikes"]
    assert (spike["kind"], spike["at"]) == ("forecast", feed.start + 3 * 3600 + 1500)
    assert drawn["top"] > max(f["q95"] for f in fan)
    assert drawn["announced"] == [{"kind": "launch", "from": feed.as_of + 1_200, "until": feed.as_of + 2_400}]
    assert "launch: <b>x</b>" in tab.text("calendar")
    traces = dict(tab.page.evaluate(
        "document.querySelector('[data-testid=chart]').data.map((t) => [t.name, t.x.length])"))  # fmt: skip
    assert traces["demand"] >= 178
    assert traces["forecast median"] == traces["5–95 %"] == 6
    assert traces["spikes"] == 1
    assert tab.page.locator('[data-testid="chart"] .scatterlayer .trace').count() >= 6
    assert tab.get("chart").bounding_box()["height"] > 250
    assert "median forecast reaches" in tab.text("described")
    assert tab.problems == []


def test_it_says_when_why_and_what_to_do(tabs: Callable[..., Tab], served: tuple[Feed, Server]) -> None:
    feed, server = served
    tab, drawn = _open(tabs, server, LARGE)
    advice = _view(feed, LARGE).recommendation
    assert advice is not None
    assert advice.current is not None
    sentence = tab.text("sentence")
    assert sentence.startswith("Runs out now")
    assert f"add {advice.desired - advice.current} replicas" in sentence
    assert [spike["kind"] for spike in drawn["spikes"]] == ["observed"]
    why = tab.text("panel-why")
    assert advice.message in why
    assert "binds" in tab.text("needs").splitlines()[2], "the largest need comes first and is marked"
    assert "decode latency" in why
    assert "TTFT 400 ms" in why
    assert "91.0 %" in tab.text("scorecard")
    assert "5.2 %" in tab.text("scores")
    assert "spike observed" in tab.text("panel-alerts").lower()
    assert "$" in tab.text("cost")


def test_past_forecasts_and_latencies_stand_beside_what_came(
    tabs: Callable[..., Tab], served: tuple[Feed, Server]
) -> None:
    feed, server = served
    tab, drawn = _open(tabs, server, CHAT, "?ahead=300")
    said = [f for f in feed.said[(CHAT.model, CHAT.pool, "requests_per_second", 300)] if f.target_at <= feed.as_of]
    assert [f["q50"] for f in drawn["past"]["fan"]] == pytest.approx([f.quantiles[3] for f in said])
    assert drawn["past"]["actual"][-1][0] == drawn["past"]["fan"][-1]["at"] == feed.as_of
    assert drawn["ttft"]["observed"][-1][1] == 0.8
    assert drawn["ttft"]["predicted"][-1][1] == 0.4
    assert drawn["ttft"]["objective"] == CHAT.ttft_seconds
    tab.get("horizon").select_option("3600")
    tab.until(lambda: tab.drawn()["past"]["fan"][0]["at"] >= feed.start + 3_660)
    assert "ahead=3600" in tab.page.url
    assert "acme" in tab.text("tenants")


def test_signal_and_span_can_be_chosen_and_linked(tabs: Callable[..., Tab], served: tuple[Feed, Server]) -> None:
    feed, server = served
    tab, drawn = _open(tabs, server, CHAT)
    assert drawn["fan"][-1]["at"] == feed.as_of + 3_600
    view = _view(feed, CHAT)
    assert view.window is not None
    assert view.window.current_replicas is not None
    for signal, each in (
        ("prefill_tokens_per_second", 2_100),
        ("decode_tokens_per_second", 720),
        ("kv_tokens", 60_000),
    ):
        tab.get(f"signal-{signal}").click()
        tab.until(lambda signal=signal: tab.drawn()["signal"] == signal)
        drawn = tab.drawn()
        forecasts = [f for f in view.forecasts if f.series.signal == signal]
        assert [f["q50"] for f in drawn["fan"][1:]] == pytest.approx([f.quantiles[3] for f in forecasts])
        assert drawn["capacity"][-2][1] == pytest.approx(view.window.current_replicas * each)
    for span, hours in (("24h", 24), ("14d", 336)):
        tab.get(f"span-{span}").click()
        tab.until(lambda span=span: tab.drawn()["span"] == span)
        assert tab.drawn()["fan"][-1]["at"] == feed.as_of + hours * 3_600
    assert tab.page.url.endswith("?signal=kv_tokens&span=14d"), "a link shows the same"


def test_money_rules_and_counterfactuals_are_shown_where_they_are_told(
    tabs: Callable[..., Tab], served: tuple[Feed, Server]
) -> None:
    _, server = served
    price = {"dollars_per_gpu_hour": 1.5, "source": "own contract", "as_of": "2026-11-01", "stale": False}
    money = {"model": CHAT.model, "pool": CHAT.pool, "price": price, "dollars_per_hour_now": 12.0,
             "dollars_per_hour_advised": 15.0, "spans": []}  # fmt: skip

    def answer(route: Any) -> None:
        told = route.fetch().json()
        told["recommendation"]["evidence"]["rule_weight_forecast_q95"] = 0.62
        told["recommendation"]["evidence"]["rule_weight_peak_10_x1.2"] = 0.2
        told["recommendation"]["evidence"]["rule_weight_of_our_own"] = 0.1
        told["recommendation"]["counterfactuals"] = [
            {"text": "FP8 KV cache: 2 fewer", "caveat": "quality unknown"},
            {"text": "max_num_seqs 512: nothing", "caveat": None},
            {"text": "TTFT 2 s: nothing", "caveat": "a weaker promise to clients"},
        ]
        route.fulfill(json=told)

    tab = tabs(server.url)
    tab.page.route("**/v1/money", lambda route: route.fulfill(json={"pools": [money]}))
    tab.page.route("**/board/pools/*/*", answer)
    tab.page.reload()
    tab.until(lambda: "$12" in tab.row(f"{CHAT.model}|{CHAT.pool}").inner_text())
    tab.go(_address(CHAT)[2:])
    tab.until(lambda: tab.drawn().get("key"))
    assert "own contract, 2026-11-01" in tab.text("cost")
    assert "$15.00 an hour" in tab.text("cost")
    facts = tab.text("facts")
    assert "the forecast's 95 % quantile (62 %), the peak of the last 10 windows × 1.2 (20 %)" in facts
    assert "of our own (10 %)" in facts
    assert tab.text("counterfactuals") == "FP8 KV cache: 2 fewer (quality unknown)"
    assert tab.text("without-effect") == "Would not change it: max_num_seqs 512, TTFT 2 s."


def test_a_store_that_fails_is_told_and_does_not_stop_the_page(tabs: Callable[..., Tab]) -> None:
    feed = Feed()
    feed.step(30)
    with Server(feed) as server:
        tab, _ = _open(tabs, server, CHAT)
        feed.fail = OSError("disk")
        feed.step()
        tab.until(tab.get("notice").is_visible)
        assert tab.get("banner").is_hidden(), "the advice is still live"
        feed.fail = None
        tab.until(tab.get("notice").is_hidden)
        tab.until(lambda: tab.drawn()["actual"][-1][0] == feed.as_of)
