"""What the board says in bad states, and with names and numbers that are hard to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.config.prices import PoolPrice
from pipeline.config.settings import PoolSettings
from pipeline.publish.health import PipelineHealth
from pipeline.publish.views import Progress
from pipeline.windows.types import PoolKey
from sizing.types import Recommendation
from tests.board_fleet import Fleet
from tests.e2e.conftest import Tab
from tests.e2e.test_board_sizes import CUT
from tests.money_feed import PRICE
from tests.publish_feed import POOLS, Feed
from tests.publish_server import Server

CHAT = "llama-3.1-8b-instruct|chat"
LARGE = "meta-llama/Llama-3.3-70B-Instruct|chat"
DISK_FULL = "the store has refused writes for 73 s: could not write to /var/lib/tokentide/tokentide.duckdb"

pytestmark = pytest.mark.e2e


class Extremes(Feed):
    """Pools with long names, with millions of replicas, with few requests a day, and scaled to zero."""

    LARGE, TINY, ZERO = 1, 2, 3
    SCALES = (1.0, 1e6, 2e-4, 0.0)

    def __init__(self) -> None:
        names = (
            ("model/" + "long-name-" * 12, "pool-" + "with-a-long-name-" * 4),
            ("m", "huge"),
            ("m", "tiny"),
            ("m", "zero"),
        )
        super().__init__(tuple(
            PoolSettings(model=model, pool=pool, profile="llama-3.1-8b", accelerator="L40S") for model, pool in names
        ))  # fmt: skip

    def rate(self, index: int, elapsed: float) -> float:
        return super().rate(0, elapsed) * self.SCALES[index]

    def current(self, index: int) -> int:
        return 0 if index == self.ZERO else super().current(index)

    def _recommendation(self, pool: PoolSettings, index: int, rate: float) -> Recommendation:
        advice = super()._recommendation(pool, index, rate)
        if index != self.ZERO:
            return advice
        needs = {name: 0.0 for name in advice.evidence if name.startswith("replicas_needed_by_")}
        return replace(
            advice, desired=0, lower=0, upper=1, min_replicas=0, direction="hold", evidence=advice.evidence | needs
        )


@pytest.fixture(scope="module")
def extremes() -> Iterator[tuple[Extremes, Server]]:
    feed = Extremes()
    feed.step(40)
    with Server(feed) as server:
        yield feed, server


def ticks(tab: Tab, chart: str) -> list[str]:
    return list(tab.page.locator(f'[data-testid="{chart}"] .ytick text').all_text_contents())


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1366, 768), (390, 844)])
def test_no_name_or_number_is_cut_or_broken(
    tabs: Callable[..., Tab], extremes: tuple[Extremes, Server], width: int, height: int
) -> None:
    _, server = extremes
    tab = tabs(server.url, width=width, height=height, theme="light")
    for address in ("/overview", "/alerts", "/fleet", "/pipeline", "/pool/m/huge", "/pool/m/tiny", "/pool/m/zero"):
        tab.go(address)
        tab.until_drawn()
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width, address
        assert tab.page.evaluate(CUT) == [], address
    tab.go("/overview")
    tab.until_drawn()
    moved = tab.row("m|huge").locator(".move")
    assert moved.bounding_box()["height"] < 30, "running and advised are on one line"
    assert tab.row("m|zero").locator('[data-testid="desired"]').inner_text() == "0"
    assert tab.problems == []


def test_axes_have_units_and_no_prefix_of_thousandths(
    tabs: Callable[..., Tab], extremes: tuple[Extremes, Server]
) -> None:
    _, server = extremes
    tab = tabs(server.url + "/#/pool/m/tiny")
    tab.until(lambda: len(ticks(tab, "chart")) > 1)
    assert all(float(text) >= 0 for text in ticks(tab, "past-chart")), "0.002, not 2m"
    headings = tab.page.locator("h2").all_inner_texts()
    assert "Demand and forecast, requests/s" in headings
    assert "What was forecast, and what came, requests/s" in headings
    assert all(text.endswith("s") for text in ticks(tab, "ttft-chart"))
    tab.go("/pool/m/huge")
    tab.until(lambda: any(text.endswith("M") for text in ticks(tab, "chart")), "large numbers are short")


def test_a_pool_scaled_to_zero_binds_on_nothing(tabs: Callable[..., Tab], extremes: tuple[Extremes, Server]) -> None:
    _, server = extremes
    tab = tabs(server.url + "/#/pool/m/zero")
    tab.until(lambda: tab.drawn().get("key"))
    assert "binds" not in tab.text("needs")
    assert tab.text("figure-advised").endswith("between 0 and 1")


def test_a_row_and_a_page_name_the_alert_that_marks_them(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    chip = tab.row(LARGE).locator('[data-testid="alert-title"]')
    assert chip.inner_text() == "Spike observed"
    assert "bad" in chip.get_attribute("class")
    assert tab.row("llama-3.1-8b-instruct|batch").locator('[data-testid="alert-title"]').is_hidden()
    assert tab.page.locator("#summary").get_attribute("class") == "bad"
    assert "out within the hour" in tab.text("summary")
    tab.row(LARGE).locator("a").click()
    tab.until(lambda: tab.drawn().get("key") == LARGE)
    assert tab.text("sentence").endswith("Alert: Spike observed.")
    assert int(tab.get("sentence").evaluate("e => getComputedStyle(e).fontWeight")) >= 600


def test_why_it_is_not_ready_and_how_old_it_is_stands_on_every_page(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    trouble = tab.get("trouble")
    assert trouble.is_hidden()
    feed.live.set_health(replace(feed.live.health(), ready=False, detail=DISK_FULL))
    tab.until(trouble.is_visible)
    assert trouble.inner_text() == f"Not ready: {DISK_FULL}"
    tab.go("/fleet")
    tab.until_drawn()
    assert trouble.is_visible()
    feed.live.set_health(replace(feed.live.health(), ready=True, detail=""))
    feed.clock.advance(400)
    tab.until(lambda: "ended" in trouble.inner_text())
    feed.live.set_progress(Progress("learning", 0.1, None))
    tab.until(trouble.is_hidden, "what is learned is of the past")


def test_of_expired_advice_nothing_is_said_as_if_it_held(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    feed.clock.advance(400)
    tab.go("/pool/llama-3.1-8b-instruct/chat")
    tab.until(lambda: tab.drawn().get("key") == CHAT)
    tab.until(lambda: tab.get("pool-page").get_attribute("data-state") == "expired")
    assert tab.text("figure-runs-out").splitlines()[-1].strip() == "–", "not known, not 'not expected'"
    described = tab.text("described")
    assert "what is advised" not in described
    assert described.startswith("Demand was")


def test_what_cannot_be_read_is_not_said_to_be_nothing(tabs: Callable[..., Tab]) -> None:
    feed = Fleet(2, past_hours=3)
    feed.step(5)
    feed.fail = OSError("disk")
    pool = feed.settings[0]
    with Server(feed) as server:
        tab = tabs(f"{server.url}/#/pool/{pool.model}/{pool.pool}")
        tab.until(tab.get("notice").is_visible)
        assert "?" not in tab.text("notice"), "the address is told without its details"
        tab.until(lambda: len(tab.drawn().get("actual", [])) > 30, "the demand that the overview has is drawn")
        assert tab.drawn()["capacity"], "and what runs"
        assert "could not be read" in tab.text("panel-alerts")
        tab.go("/alerts")
        tab.until(tab.get("notice").is_visible)
        assert "not known" in tab.text("notice")


def test_without_pools_there_is_nothing_to_search_or_to_sort(tabs: Callable[..., Tab]) -> None:
    feed = Feed(pools=())
    feed.live.set_health(PipelineHealth(ready=True))
    with Server(feed) as server:
        tab = tabs(server.url)
        tab.until_drawn()
        assert "no pool yet" in tab.text("summary")
        for part in ("filter", "sort", "rows", "valid-advice"):
            assert not tab.get(part).is_visible(), part


def test_prices_that_are_known_only_after_learning_are_shown(tabs: Callable[..., Tab], feed: Feed) -> None:
    keys = [PoolKey(pool.model, pool.pool) for pool in feed.settings]
    feed.live.set_prices(dict.fromkeys(keys, PoolPrice()))
    feed.live.set_progress(Progress("learning", 0.5, None))
    with Server(feed) as server:
        tab = tabs(server.url)
        tab.until_drawn()
        cost = tab.row(CHAT).locator('[data-testid="cost"]')
        assert not cost.is_visible()
        feed.live.set_prices(dict.fromkeys(keys, PRICE))
        feed.live.set_progress(None)
        feed.step()
        tab.until(lambda: cost.inner_text().startswith("$"))


def test_changes_between_steady_reasons_are_no_changes(tabs: Callable[..., Tab]) -> None:
    feed = Feed(pools=POOLS[1:2])
    steady = feed._recommendation

    def alternating(pool: PoolSettings, index: int, rate: float) -> Recommendation:
        advice = steady(pool, index, rate)
        return replace(advice, desired=4, reason="within_band" if feed.as_of // 60 % 2 else "stabilising")  # type: ignore[arg-type]

    feed._recommendation = alternating  # type: ignore[method-assign]
    feed.step(20)
    with Server(feed) as server:
        tab = tabs(f"{server.url}/#/pool/{POOLS[1].model}/{POOLS[1].pool}")
        tab.until(lambda: tab.drawn().get("key"))
        assert tab.get("changes").locator("tbody tr").count() == 1


def test_why_there_is_nothing_to_do_yet_is_said(board: tuple[Tab, Server], feed: Feed) -> None:
    tab, _ = board
    now = float(feed.as_of)
    row = {"configured": True, "state": "fresh", "current": 4, "desired": 4, "constraint": None, "clamped_by": [],
           "lead_time_seconds": 300.0, "alerts": [],
           "run_out": {"signal": "kv_tokens", "expected_at": now + 1_500, "possible_at": now + 900}}  # fmt: skip
    latest = datetime.fromtimestamp((now + 1_200) // 60 * 60, UTC).strftime("%H:%M")

    def said(**changes: object) -> str:
        sentence = "async ([row, now]) => (await import('/static/attention.js')).sentence(row, now, new Map())"
        return str(tab.page.evaluate(sentence, [row | changes, now]))

    assert said().startswith("Runs out in 25 min (")
    assert said().endswith(f": nothing to do yet (a replica ordered by {latest} is ready in time).")
    for lead in (1_800.0, None):
        planned = "nothing to do yet (the demand that is planned for fits what runs)."
        assert said(lead_time_seconds=lead).endswith(planned)
    assert said(clamped_by=["max_replicas"]).endswith("nothing to do yet (the maximum of replicas runs).")
    assert said(run_out=None) == "Nothing to do."
