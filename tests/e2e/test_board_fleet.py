"""The board's pages of the fleet's cost and of reports: what the API says, and what is unknown is no number."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.prices import PoolPrice
from pipeline.windows.types import PoolKey
from tests.board_fleet import Fleet
from tests.e2e.conftest import Tab
from tests.publish_feed import POOLS, Feed
from tests.publish_server import Server
from tests.stock_feed import share_stock
from tests.waiting import scaled

pytestmark = pytest.mark.e2e

#: A chart drawn by a script of the page's own, and what a hostile one would try.
REPORT = """<!doctype html><title>Backtest</title><h1>Backtest</h1><p id="chart">no script ran</p>
<script>
  document.getElementById("chart").textContent = "drawn";
  const say = (id) => document.body.append(Object.assign(document.createElement("p"), { id }));
  fetch("/v1/pools").then(() => say("read"), () => say("refused"));
  try { localStorage.setItem("tokentide-theme", "light"); say("stored"); } catch { say("no-storage"); }
</script>
<script src="/static/main.js"></script>"""


@pytest.fixture
def feed() -> Feed:
    feed = Feed()
    feed.step(20)
    return feed


def told(server: Server, path: str) -> Any:
    with urllib.request.urlopen(server.url + path, timeout=scaled(20)) as response:
        return json.load(response)


def cells(tab: Tab, testid: str) -> list[list[str]]:
    rows = tab.get(testid).locator("tbody tr")
    return [[" ".join(t.split()) for t in rows.nth(n).locator("td").all_inner_texts()] for n in range(rows.count())]


def test_the_fleet_page_says_what_the_api_says_dearest_first(tabs: Callable[..., Tab], feed: Feed) -> None:
    share_stock(feed, budget=8.0)
    with Server(feed) as server:
        tab = tabs(f"{server.url}/#/fleet")
        tab.until(lambda: len(tab.drawn().get("fleet", [])) == len(POOLS))
        money = {f"{pool['model']}|{pool['pool']}": pool for pool in told(server, "/v1/money")["pools"]}
        assert tab.drawn()["fleet"] == sorted(money, key=lambda key: (-money[key]["dollars_per_hour_now"], key))
        for key, row in zip(tab.drawn()["fleet"], cells(tab, "costs"), strict=True):
            pool = money[key]
            assert row[1] == f"{pool['gpus_per_replica']} × {pool['gpu']}"
            assert row[2] == f"{pool['current_replicas']} → {pool['advised_replicas']}"
            assert row[3] == f"${pool['dollars_per_hour_now']:.2f} → ${pool['dollars_per_hour_advised']:.2f}"
            assert row[5:7] == ["25 %", "4×"], "as the use of the feed"
            even = pool["spans"][1]["ran"]["api"]["break_even_utilisation"]
            assert row[7] == f"{100 * even:.0f} %, API cheaper {'at any load' if even > 1 else 'now'}"
        now = sum(pool["dollars_per_hour_now"] for pool in money.values())
        advised = sum(pool["dollars_per_hour_advised"] for pool in money.values())
        assert f"${now:.2f} → ${advised:.2f}" in tab.text("fleet-cost")
        assert "4× that at capacity" in tab.text("fleet-utilisation")
        assert [row[4] for row in cells(tab, "prices") if row[0] == "API api"] == ["136 d, stale"]
        assert "1 stale" in tab.text("fleet-stale")

        split = told(server, "/v1/fleet")
        short = [pool for pool in split["pools"] if pool["short_share"] > 0]
        assert short, "the budget is too small"
        assert f"{len(short)} pool goes short" in tab.text("split")
        assert f"{len(short)} pool short" in tab.text("fleet-short")
        assert cells(tab, "split-pools")[0][4] == "100.0 %", "of priority 1, and nothing is left for it"
        assert "stale" in next(row for row in cells(tab, "stock") if row[0].startswith("h100"))[4]

        tab.page.keyboard.press("/")
        tab.page.keyboard.type("h100")
        tab.until(lambda: len(tab.drawn()["fleet"]) == 1)
        assert f"${now:.0f}" in tab.text("fleet-cost"), "the sums stay those of the fleet"
        tab.get("span-30d").click()
        assert "span=30d" in tab.page.url
        assert "q=h100" in tab.page.url
        tab.page.keyboard.press("1")
        tab.until(lambda: tab.page.url.endswith("#/overview"))
        tab.page.keyboard.press("4")
        tab.until(lambda: tab.page.url.endswith("#/fleet"))
        assert tab.problems == []


def test_what_is_unknown_is_no_number(tabs: Callable[..., Tab], feed: Feed) -> None:
    feed.live.set_prices({PoolKey(p.model, p.pool): PoolPrice() for p in POOLS[:2]})
    with Server(feed) as server:
        tab = tabs(f"{server.url}/#/fleet")
        tab.until(lambda: len(tab.drawn().get("fleet", [])) == len(POOLS))
        rows = cells(tab, "costs")
        assert rows[0][0].endswith(POOLS[2].model), "the only one with a price comes first"
        assert [row[3] for row in rows[1:]] == ["unknown → unknown"] * 2
        assert [row[4:] for row in rows[1:]] == [["unknown", "unknown", "unknown", "no API set", "unknown"]] * 2
        assert "1 of 3 pools" in tab.text("fleet-cost"), "of that one"
        assert "1 of 3 pools" in tab.text("fleet-per-million")
        assert "fleet.stock is not set" in tab.text("no-stock")
        assert tab.refused == [], "what is not there is not asked for: the browser would log an error"
        feed.clock.advance(400)
        tab.page.reload()
        tab.until(lambda: len(tab.drawn().get("fleet", [])) == len(POOLS))
        assert {row[2] for row in cells(tab, "costs")} == {"unknown → unknown"}, "all advice and windows are too old"
        assert tab.text("fleet-cost").splitlines()[-1].strip() == "unknown"
        text = tab.page.locator("main").inner_text()
        assert "$0 " not in text.replace("\n", " ").replace("\t", " ")
        assert "NaN" not in text
        assert "in no sum: 2 pools" in text


def test_reports_are_listed_and_run_in_a_sandbox(tabs: Callable[..., Tab], feed: Feed, tmp_path: Path) -> None:
    name = 'back"test <b>1?.html'
    (tmp_path / name).write_text(REPORT)
    with Server(feed, reports_folder=tmp_path) as server:
        tab = tabs(server.url)
        tab.until_drawn()
        tab.page.keyboard.press("5")
        tab.until(lambda: tab.get("report").count() == 1)
        assert tab.text("report") == name
        assert tab.problems == []
        with tab.context.expect_page() as opened:
            tab.get("report").click()
        page = opened.value
        tab.until(lambda: page.locator("#refused, #read").count() == 1, "its script ran")
        assert page.locator("#chart").inner_text() == "drawn"
        assert page.locator("#refused").count() == 1, "it reads nothing of this server"
        assert page.locator("#no-storage").count() == 1
        assert page.evaluate("document.scripts.length") == 2
        assert page.evaluate("typeof window.tokentide") == "undefined", "scripts of this server are elsewhere for it"
    with Server(feed) as server:
        tab = tabs(f"{server.url}/#/reports")
        tab.until(lambda: "publish.reports_folder" in tab.text("reports-told"))
        assert tab.refused == []


def test_the_dearest_pools_are_shown_first_and_all_of_them_on_demand(tabs: Callable[..., Tab]) -> None:
    fleet = Fleet(40)
    fleet.step(2)
    share_stock(fleet, l40s=100)
    with Server(fleet) as server:
        tab = tabs(f"{server.url}/#/fleet")
        tab.until(lambda: len(cells(tab, "split-pools")) == len(cells(tab, "costs")) == 25)
        assert len(tab.drawn()["fleet"]) == 40, "all of them are in the sums"
        tab.get("more-rows").first.click()
        tab.until(lambda: len(cells(tab, "split-pools")) == len(cells(tab, "costs")) == 40)
        assert tab.page.url.endswith("rows=all"), "a link shows the same"
        tab.get("more-rows").first.click()
        tab.until(lambda: len(cells(tab, "costs")) == 25)
