"""The live board in a real browser: the overview, the alerts, the pipeline, lost and stale data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.config.settings import PoolSettings
from pipeline.engine.types import Reading, StepOutput
from pipeline.kafka.embedded_broker import free_port
from pipeline.publish.views import Progress
from tests.e2e.conftest import Tab
from tests.publish_feed import POOLS, Feed
from tests.publish_server import Server

CHAT = "llama-3.1-8b-instruct|chat"
LARGE = "meta-llama/Llama-3.3-70B-Instruct|chat"

pytestmark = pytest.mark.e2e


def test_a_row_says_what_the_recommendation_says(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    for pool in POOLS:
        advice = feed.live.pool(pool.model, pool.pool).recommendation
        row = tab.row(f"{pool.model}|{pool.pool}")
        assert row.get_attribute("data-desired") == str(advice.desired)
        assert row.get_attribute("data-direction") == advice.direction
        text = row.inner_text()
        assert f"{advice.lower}–{advice.upper}" in text
        assert f"{advice.current}→{advice.desired}" in text.replace(" ", "").replace("\n", "")
        assert "97.0 %" in text, "SLO attainment"
        assert "fresh" in text
        line = row.locator("svg.spark")
        assert "requests/s" in line.get_attribute("aria-label")
        for part in ("demand", "median", "band"):  # a line is drawn when the browser says that its row is near
            drawn = line.locator(f".spark-{part}")
            tab.until(lambda drawn=drawn: len(drawn.get_attribute("d") or "") > 20, f"the {part} is drawn")
    assert tab.problems == []


def test_the_summary_says_what_to_do_and_who_needs_it_comes_first(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    summary = tab.text("summary")
    assert "1 spike observed" in summary
    assert "1 spike forecast" in summary
    advised = [feed.live.pool(p.model, p.pool).recommendation for p in POOLS]
    missing = sum(max(0, advice.desired - advice.current) for advice in advised)
    assert missing > 0
    assert f"add {missing} replica" in summary
    assert tab.text("valid-advice").splitlines()[-1] == "3 of 3"
    assert tab.drawn()["pools"][0] == LARGE, "its alert is critical"
    assert tab.row(LARGE).get_attribute("data-level") == "critical"
    assert "now" in tab.row(LARGE).inner_text(), "it has run out"


def test_new_windows_appear_without_a_reload(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    before = tab.until(lambda: tab.row(CHAT).locator(".spark-demand").get_attribute("d"), "the demand is drawn")
    feed.step(9)
    tab.until(lambda: tab.page.evaluate("window.tokentide.live.overview.as_of") == feed.as_of)
    tab.until(lambda: tab.row(CHAT).locator(".spark-demand").get_attribute("d") != before)
    assert tab.page.evaluate("window.tokentide.live.failures") == 0
    assert tab.problems == []


def test_advice_that_was_raised_between_two_windows_appears(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    view = feed.live.pool(*CHAT.split("|"))
    raised = replace(view.recommendation, issued_at=feed.as_of + 15.0, desired=view.recommendation.desired + 3)
    feed.live.update(
        StepOutput(feed.as_of + 15, recommendations=(raised,), readings=(Reading(view.key, None, None, None),))
    )
    tab.until(lambda: tab.row(CHAT).get_attribute("data-desired") == str(raised.desired))
    assert tab.page.evaluate("window.tokentide.live.status.as_of") == feed.as_of
    assert tab.problems == []


def test_expired_advice_is_not_shown_as_advice(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    feed.clock.advance(400)
    row = tab.row(CHAT)
    tab.until(lambda: row.get_attribute("data-state") == "expired")
    assert row.get_attribute("data-desired") == ""
    assert "hold" in row.inner_text()
    tab.until(lambda: "without valid advice: hold" in tab.text("summary"))
    tab.until(lambda: "behind" in tab.text("ready"), "the lag of the watermark is told")


def test_a_lost_connection_is_told_and_healed(tabs: Callable[..., Tab], feed: Feed) -> None:
    # A port of its own: one of those that connections get could be taken, by the browser's own attempts even.
    with Server(feed, port=free_port()) as server:
        tab = tabs(server.url)
        tab.until_drawn()
        banner = tab.get("banner")
        assert banner.is_hidden()
        server.stop()
        tab.until(banner.is_visible)
        assert "Connection lost" in banner.inner_text()
        assert "do not act" in banner.inner_text()
        assert tab.text("ready") == "no connection", "what was ready then may not be now"
        feed.step()
        server.start_again()
        tab.until(banner.is_hidden)
        tab.until(lambda: tab.page.evaluate("window.tokentide.live.overview.as_of") == feed.as_of)


def test_without_the_stream_the_status_is_asked_for(
    tabs: Callable[..., Tab], feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.publish.board.stream.MAX_LISTENERS", 0)
    with Server(feed) as server:
        tab = tabs(server.url)
        tab.until_drawn()
        feed.step()
        tab.until(lambda: tab.page.evaluate("window.tokentide.live.overview.as_of") == feed.as_of)
        assert tab.get("banner").is_hidden()


def test_hostile_names_are_only_text(tabs: Callable[..., Tab]) -> None:
    name, pool = "<img src=x onerror=window.hacked=1>/model", '"><b>?#&%2F'
    feed = Feed((PoolSettings(model=name, pool=pool, profile="llama-3.1-8b", accelerator="L40S"),))
    feed.step(175)
    with Server(feed) as server:
        tab = tabs(server.url)
        tab.until_drawn()
        assert name in tab.get("pool-row").inner_text()
        tab.get("pool-link").click()
        tab.until(lambda: len(tab.drawn().get("actual", [])) > 100, "its page is drawn")
        assert name in tab.page.locator("h1").inner_text()
        assert tab.drawn()["key"] == f"{name}|{pool}"
        tab.go("/alerts?show=all")
        tab.until(lambda: tab.get("alert").count() > 0)
        assert name in tab.get("alert").first.inner_text()
        assert tab.page.evaluate("window.hacked") is None
        assert tab.page.locator("main img").count() == 0
        assert tab.problems == []


def test_alerts_read_at_a_glance_and_in_full_on_demand(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    alert = next(a for a in feed.episodes.values() if a.kind == "spike_observed")
    long = replace(alert, alert_id="long", message="demand rose. " * 30 + "the end")
    feed.episodes["long"] = long
    feed.live.update(StepOutput(feed.as_of, alerts=(long,)))
    feed.step()
    tab.go("/alerts?show=all")
    alerts = tab.get("alert")
    tab.until(lambda: alerts.count() == 4)
    told = [(alerts.nth(i).get_attribute("data-kind"), alerts.nth(i).get_attribute("data-active")) for i in range(4)]
    assert told[-1] == ("telemetry_gap", "false"), "ended ones come last"
    assert {kind for kind, active in told if active == "true"} == {"spike_forecast", "spike_observed"}
    assert "onset in" in tab.page.locator('[data-kind="spike_forecast"]').inner_text()
    whole = tab.page.locator('[data-id="long"]')
    assert not whole.locator("p", has_text="the end").is_visible()
    whole.locator("summary").click()
    assert whole.locator("p", has_text="the end").is_visible()
    tab.page.fill('[data-testid="filter"]', "telemetry")
    tab.until(lambda: alerts.count() == 1)
    assert "q=telemetry" in tab.page.url


def test_the_pipeline_page_shows_health(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    tab.go("/pipeline")
    tab.until_drawn()
    health = feed.live.health()
    assert f"{health.events:,}" in tab.text("ledger")
    assert "malformed" in tab.page.locator("main").inner_text()
    for figure, text in (("watermark-lag", "65 s"), ("duplicates", "25"), ("dead-letters", "9"), ("ready", "ready")):
        assert tab.text(f"figure-{figure}").splitlines()[-1] == text


def test_before_the_first_window_the_board_says_so(tabs: Callable[..., Tab]) -> None:
    with Server(Feed()) as server:
        tab = tabs(server.url)
        tab.until_drawn()
        assert tab.get("pool-row").count() == 3
        assert "no advice yet" in tab.row(CHAT).inner_text()
        assert tab.text("ready") == "not ready"
        tab.go("/pool/nobody/knows")
        tab.until(lambda: "no such pool" in tab.page.locator("main").inner_text())
        assert not tab.get("figure-advised").is_visible()


def test_learning_speed_and_validity_are_shown(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    bar = tab.get("progress")
    assert not bar.is_visible(), "nothing is being learned"
    assert tab.text("speed") == "", "real time needs no speed"
    feed.live.set_progress(Progress("learning 2 simulated days of history", 0.426, 37.4))
    tab.until(bar.is_visible)
    assert tab.text("progress-text").startswith("Learning 2 simulated days of history: 42 % · about 37 s left.")
    assert bar.get_attribute("aria-valuenow") == "42"
    assert tab.text("ready") == "learning"
    tab.go("#/pipeline")
    tab.until(tab.get("figure-ready").is_visible)
    assert "bad" not in (tab.get("figure-ready").get_attribute("class") or ""), "that it learns is no fault"
    feed.live.set_progress(None)
    tab.until(lambda: not bar.is_visible())
    joining = replace(feed.live.health(), ready=False, starting=True, detail="joining the stream")
    feed.live.set_health(joining)
    tab.until(lambda: tab.text("ready") == "starting", "a start is no fault")
    assert "bad" not in (tab.get("ready").get_attribute("class") or "")
    assert "bad" not in (tab.get("figure-ready").get_attribute("class") or "")
    feed.live.set_health(replace(joining, starting=False))
    tab.until(lambda: tab.text("ready") == "not ready", "that it goes on is one")
    assert tab.problems == []


def test_the_link_past_the_header_stays_on_its_page(board: tuple[Tab, Server]) -> None:
    tab, _ = board
    tab.go("#/alerts")
    tab.until(tab.get("alerts-told").is_visible)
    tab.page.locator("a.skip").focus()
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("document.activeElement.id") == "page"
    assert tab.page.url.endswith("#/alerts")
    assert tab.get("alerts-told").is_visible()


def test_the_theme_is_chosen_and_kept(board: tuple[Tab, Server]) -> None:
    tab, _ = board
    theme: Callable[[], Any] = lambda: tab.page.evaluate("document.documentElement.dataset.theme")  # noqa: E731
    assert theme() == "dark", "the system's"
    tab.get("theme").click()
    tab.get("theme").click()
    assert theme() == "light"
    tab.page.reload()
    tab.until_drawn()
    assert theme() == "light"
