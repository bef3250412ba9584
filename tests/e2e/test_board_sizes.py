"""The board with 200 pools, and what is drawn of it at three sizes, dark and light, to everybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pipeline.clock import Speed
from pipeline.publish import state
from tests.axe import AxeMissingError, axe_source, violations
from tests.board_fleet import Fleet
from tests.e2e.conftest import Tab
from tests.publish_server import Server
from tests.stock_feed import share_stock

SIZES = {1440: 900, 1024: 768, 768: 1024, 390: 844}
POOLS = 200

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def fleet() -> Iterator[tuple[Fleet, Server]]:
    fleet = Fleet(POOLS, past_hours=24)
    fleet.step(2)
    fleet.tell_outlooks()
    with Server(fleet) as server:
        yield fleet, server


def test_200_pools_are_shown_searched_filtered_and_linked(
    tabs: Callable[..., Tab], fleet: tuple[Fleet, Server]
) -> None:
    feed, server = fleet
    tab = tabs(server.url)
    tab.until_drawn()
    rows = tab.get("pool-row")
    assert rows.count() == POOLS
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("qwen3-32b chat")
    tab.until(lambda: 0 < rows.count() < POOLS)
    assert all("qwen3-32b|chat" in key for key in tab.drawn()["pools"])
    found, address = tab.drawn()["pools"], tab.page.url
    tab.page.keyboard.press("Escape")
    tab.until(lambda: rows.count() == POOLS, "the search is cleared")
    tab.get("show-add").click()
    raised = {
        f"{view.key.model}|{view.key.pool}"
        for view in feed.live.snapshot().pools
        if (advice := view.recommendation) is not None and advice.current is not None
        if advice.desired > advice.current
    }
    tab.until(lambda: set(tab.drawn()["pools"]) == raised)
    assert "show=add" in tab.page.url

    tab.get("span-24h").click()
    tab.until(lambda: tab.page.evaluate("window.tokentide.live.overview.span") == "24h")
    demand = tab.page.evaluate("window.tokentide.live.overview.pools[0].demand.requests_per_second")
    assert sum(value is not None for value in demand) >= 90, "a day of it"
    assert tab.page.evaluate("window.tokentide.live.overview.pools[0].forecast").pop()[0] == feed.as_of + 86_400

    again = tabs(address)
    again.until_drawn()
    assert again.drawn()["pools"] == found, "a link shows the same"


def test_the_keyboard_alone_reaches_a_pool_and_comes_back(
    tabs: Callable[..., Tab], fleet: tuple[Fleet, Server]
) -> None:
    _, server = fleet
    tab = tabs(server.url)
    tab.until_drawn()
    for key in "jjk":
        tab.page.keyboard.press(key)
    first = tab.page.evaluate("document.activeElement.closest('.row').dataset.key")
    assert first == tab.drawn()["pools"][0]
    tab.page.keyboard.press("Enter")
    tab.until(lambda: tab.drawn().get("key") == first)
    tab.page.keyboard.press("Escape")
    tab.until(lambda: tab.get("pool-row").count() == POOLS)
    tab.page.keyboard.press("2")
    tab.until(lambda: tab.page.url.endswith("#/alerts"))
    tab.page.keyboard.press("?")
    assert tab.page.locator("dialog").is_visible()


#: Texts that reach out of the window or of their own box; the name of a model may end in an ellipsis (and has a title).
CUT = """
[...document.querySelectorAll('header *, main *')].filter((e) => {
  if (!e.checkVisibility() || !e.getClientRects().length) return false;
  if (e.closest('svg, .visually-hidden, .chart, option')) return false;
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) return false;
  const box = e.getBoundingClientRect();
  const out = box.right > innerWidth + 1 || box.left < -1;
  const inside = getComputedStyle(e).overflowX !== 'visible' && e.scrollWidth > e.clientWidth + 1;
  return out || (inside && !e.title);
}).slice(0, 5).map((e) => `${e.className} ${e.textContent.slice(0, 60)}`)
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Server]]:
    fleet, reports = Fleet(12), tmp_path_factory.mktemp("reports")
    (reports / ("backtest-of-a-trace-with-a-long-name-" * 3 + "2026.html")).write_text("<title>Backtest</title>")
    fleet.step(30)
    fleet.tell_outlooks()
    share_stock(fleet, budget=30.0)
    fleet.tell_bridged(*fleet.settings[:3])
    with pytest.MonkeyPatch.context() as patch, Server(fleet, reports_folder=reports) as server:
        patch.setattr(state, "simulated_speed", lambda _: Speed(7.94, 60.0))  # the header of the demo is the longest
        yield fleet, server


@pytest.mark.parametrize(("width", "theme"), [(1440, "dark"), (1024, "light"), (768, "dark"), (390, "light")])
def test_nothing_is_cut_off_and_axe_finds_nothing(
    tabs: Callable[..., Tab], small: tuple[Fleet, Server], width: int, theme: str
) -> None:
    fleet, server = small
    pool = fleet.settings[0]
    tab = tabs(server.url, width=width, height=SIZES[width], theme=theme)
    try:
        axe_source()
        axe = True
    except AxeMissingError as error:
        axe, reason = False, str(error)
    for address in ("/overview", "/alerts", "/pipeline", "/fleet", "/reports", f"/pool/{pool.model}/{pool.pool}"):
        tab.go(address)
        tab.until_drawn()
        wide = tab.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{address} is {wide} pixels wide on a screen of {width}"
        assert tab.page.evaluate(CUT) == [], f"{address} at {width} pixels"
        if axe:
            assert violations(tab.page) == [], f"{address} at {width} pixels, {theme}"
        if address == "/overview":
            marked = tab.page.locator('[data-testid="bridged"]:visible')
            assert marked.all_inner_texts() == ["from metrics"] * 3
            assert "no request events" in marked.first.get_attribute("title")
            assert "real time" in tab.page.locator("#speed").inner_text()
        elif address.startswith("/pool/"):
            assert "tenants, regions and requests" in tab.text("bridged")
    assert tab.problems == []
    if not axe:
        pytest.skip(f"checked without axe: {reason}")
