"""The live board in a real browser, against the application fed with a synthetic fleet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from publish_feed import POOLS, Feed, Server

from pipeline.advise.model import StepOutput
from pipeline.settings import PoolSettings

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
CHAT = "llama-3.1-8b-instruct|chat"
LARGE = "meta-llama/Llama-3.3-70B-Instruct|chat"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def feed() -> Feed:
    feed = Feed()
    feed.step(180)
    return feed


@pytest.fixture
def board(browser: Any, feed: Feed) -> Iterator[tuple[Any, Server]]:
    with Server(feed) as server:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on(
            "console",
            lambda message: page.problems.append(message.text) if "Content Security Policy" in message.text else None,
        )
        page.goto(server.url)
        _until(page, lambda: page.evaluate("window.tokentide?.connected && window.tokentide.polls >= 1"))
        yield page, server
        page.close()


def _until(page: Any, condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Poll from here: the page's policy forbids the evaluation that ``wait_for_function`` needs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        page.wait_for_timeout(100)
    pytest.fail(f"the board did not get there within {seconds} s; problems: {page.problems}")


def _card(page: Any, key: str) -> Any:
    return page.locator(f'[data-testid="pool-card"][data-key="{key}"]')


def _drawn(page: Any, key: str) -> dict[str, Any]:
    return page.evaluate("key => window.tokentide.pools[key].drawn", key)  # type: ignore[no-any-return]


def _text(page: Any, testid: str) -> str:
    return str(page.locator(f'[data-testid="{testid}"]').inner_text())


def test_a_card_says_what_the_recommendation_says(board, feed):
    page, _ = board
    for pool in POOLS:
        advice = feed.live.pool(pool.model, pool.pool).recommendation
        card = _card(page, f"{pool.model}|{pool.pool}")
        assert card.get_attribute("data-desired") == str(advice.desired)
        assert card.get_attribute("data-direction") == advice.direction
        text = card.inner_text()
        assert f"{advice.lower}–{advice.upper} replicas" in text
        assert f"running {advice.current}" in text
        assert advice.message in text
        assert "fresh" in text
        assert "expires in 4 min" in text
        assert ("acme 25 %" in text and "bolt 10 %" in text) == (pool is POOLS[0])
    assert page.problems == []


def test_the_chart_draws_demand_fan_capacity_and_the_expected_spike(board, feed):
    page, _ = board
    drawn = _drawn(page, CHAT)
    view = feed.live.pool(*CHAT.split("|"))
    assert len(drawn["actual"]) >= 118
    assert drawn["actual"][-1][0] == feed.as_of
    fan = drawn["fan"][1:]
    forecasts = [f for f in view.forecasts if f.series.signal == "requests_per_second"]
    assert [f["at"] for f in fan] == [f.target_at for f in forecasts]
    assert [f["q95"] for f in fan] == pytest.approx([f.quantiles[6] for f in forecasts])
    assert drawn["capacity"][-2][1] == view.window.current_replicas * 3.0
    assert drawn["recommended"][-1][1] == view.recommendation.desired * 3.0
    (spike,) = drawn["spikes"]
    assert (spike["kind"], spike["at"]) == ("forecast", feed.start + 3 * 3600 + 1500)
    assert drawn["top"] > max(f["q95"] for f in fan)


def test_what_was_computed_is_on_the_screen(board):
    page, _ = board
    for key, kinds in ((CHAT, "forecast"), (LARGE, "observed")):
        chart = _card(page, key).locator('[data-testid="chart"]')
        assert chart.get_attribute("data-spikes") == kinds
        traces = page.evaluate("element => element.data.map((t) => [t.name, t.x.length])", chart.element_handle())
        lengths = dict(traces)
        assert lengths["demand"] >= 118
        assert lengths["forecast median"] == lengths["5–95 %"] == 6
        assert lengths["capacity now"] > 100
        assert lengths["spikes"] == 1
        assert chart.locator(".scatterlayer .trace").count() >= 6
        assert chart.bounding_box()["height"] > 150


def test_the_header_shows_health_and_the_summary_says_what_to_do(board, feed):
    page, _ = board
    health = feed.live.health()
    assert page.locator('[data-testid="events"]').get_attribute("data-value") == str(health.events)
    assert "9" in _text(page, "dead-letters")
    assert "25" in _text(page, "duplicates")
    assert "65 s" in _text(page, "watermark-lag")
    assert _text(page, "ready") == "ready"
    summary = _text(page, "summary")
    assert "1 spike observed" in summary
    assert "1 spike forecast" in summary
    advised = [feed.live.pool(p.model, p.pool).recommendation for p in POOLS]
    missing = sum(max(0, advice.desired - advice.current) for advice in advised)
    assert missing > 0
    assert f"add {missing} replica" in summary


def test_alerts_are_listed_newest_first(board):
    page, _ = board
    alerts = page.locator('[data-testid="alert"]')
    kinds = [alerts.nth(i).get_attribute("data-kind") for i in range(alerts.count())]
    assert kinds == ["spike_forecast", "spike_observed", "telemetry_gap"]
    assert [alerts.nth(i).get_attribute("data-active") for i in range(3)] == ["true", "true", "false"]


def test_new_windows_appear_without_a_reload(board, feed):
    page, _ = board
    before = _drawn(page, CHAT)
    feed.step(3)
    _until(page, lambda: page.evaluate("window.tokentide.status.as_of") == feed.as_of)
    _until(page, lambda: _drawn(page, CHAT)["actual"][-1][0] == feed.as_of)
    times = [at for at, _ in _drawn(page, CHAT)["actual"]]
    assert times == sorted(set(times))
    assert len(times) == pytest.approx(len(before["actual"]), abs=3)
    assert page.problems == []


@pytest.mark.parametrize(
    ("button", "signal"),
    [
        ("signal-prefill", "prefill_tokens_per_second"),
        ("signal-decode", "decode_tokens_per_second"),
        ("signal-kv", "kv_tokens"),
    ],
)
def test_another_signal_can_be_chosen(board, feed, button, signal):
    page, _ = board
    page.click(f'[data-testid="{button}"]')
    _until(page, lambda: len(_drawn(page, CHAT)["fan"]) > 2 and _drawn(page, CHAT)["signal"] == signal)
    drawn = _drawn(page, CHAT)
    forecasts = [f for f in feed.live.pool(*CHAT.split("|")).forecasts if f.series.signal == signal]
    assert [f["q50"] for f in drawn["fan"][1:]] == pytest.approx([f.quantiles[3] for f in forecasts])
    per_replica = {"prefill_tokens_per_second": 2_100, "decode_tokens_per_second": 720, "kv_tokens": 60_000}[signal]
    view = feed.live.pool(*CHAT.split("|"))
    assert drawn["capacity"][-2][1] == pytest.approx(view.window.current_replicas * per_replica)
    assert drawn["recommended"][-1][1] == pytest.approx(view.recommendation.desired * per_replica)


def test_expired_advice_is_not_shown_as_advice(board, feed):
    page, _ = board
    feed.clock.advance(400)
    card = _card(page, CHAT)
    _until(page, lambda: card.get_attribute("data-state") == "none", 8.0)
    assert card.get_attribute("data-desired") == ""
    assert "hold" in card.inner_text()
    assert "without valid advice" in _text(page, "summary")


def test_a_lost_connection_is_told_and_healed(board, feed):
    page, server = board
    banner = page.locator('[data-testid="banner"]')
    assert banner.is_hidden()
    server.stop()
    _until(page, banner.is_visible)
    assert "Connection lost" in banner.inner_text()
    feed.step()
    server.start_again()
    _until(page, banner.is_hidden)
    assert page.evaluate("window.tokentide.status.as_of") == feed.as_of


def test_a_store_that_fails_does_not_stop_the_board(board, feed):
    page, _ = board
    feed.fail = OSError("disk")
    feed.step()
    _until(page, page.locator('[data-testid="banner"]').is_visible)
    feed.fail = None
    _until(page, page.locator('[data-testid="banner"]').is_hidden)
    _until(page, lambda: _drawn(page, CHAT)["actual"][-1][0] == feed.as_of)


def test_hostile_names_are_only_text(browser):
    name = "<img src=x onerror=window.hacked=1>/model"
    feed = Feed((PoolSettings(model=name, pool='"><b>', profile="llama-3.1-8b", accelerator="L40S"),))
    feed.step(30)
    with Server(feed) as server:
        page = browser.new_page()
        page.problems = []
        page.goto(server.url)
        _until(page, lambda: page.evaluate("Object.keys(window.tokentide?.pools ?? {}).length"))
        assert page.evaluate("window.hacked") is None
        assert page.locator(".card img").count() == 0
        assert name in page.locator('[data-testid="pool-card"]').inner_text()
        assert len(_drawn(page, f'{name}|"><b>')["actual"]) == 30
        page.close()


def test_many_pools_are_cut_to_the_most_urgent_and_can_be_filtered(browser):
    pools = tuple(_named(f"model-{n:02d}") for n in range(30))
    feed = Feed(pools)
    feed.step(175)
    model = "model-29"
    advice = feed.live.pool(model, "chat").recommendation
    alert = replace(next(iter(feed.episodes.values())), alert_id="z", model=model, ended_at=None, severity="critical")
    feed.episodes["z"] = alert
    feed.live.update(StepOutput(feed.as_of, recommendations=(advice,), alerts=(alert,)))
    with Server(feed) as server:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.problems = []
        page.goto(server.url)
        cards = page.locator('[data-testid="pool-card"]')
        _until(page, lambda: cards.count() == 12)
        assert _card(page, f"{model}|chat").count() == 1
        page.fill('[data-testid="filter"]', "model-07")
        _until(page, lambda: cards.count() == 1)
        assert cards.first.get_attribute("data-model") == "model-07"
        page.close()


def _named(model: str) -> PoolSettings:
    return PoolSettings(model=model, pool="chat", profile="llama-3.1-8b", accelerator="L40S")


def test_before_the_first_window_the_board_says_so(browser):
    with Server(Feed()) as server:
        page = browser.new_page()
        page.problems = []
        page.goto(server.url)
        _until(page, lambda: page.evaluate("window.tokentide?.connected"))
        assert page.locator('[data-testid="pool-card"]').count() == 3
        assert "no advice yet" in _card(page, CHAT).inner_text()
        assert _text(page, "ready") == "not ready"
        page.close()
