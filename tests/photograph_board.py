"""Takes pictures of every page of the board at three sizes, dark and light.

``python -m tests.photograph_board FOLDER``. The board is fed with a fleet made up by the tests; nothing else needs to
run. ``python -m tests.photograph_board --docs docs/images`` takes the pictures of the documentation only, small enough
to keep.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.board_fleet import Fleet
from tests.publish_server import Server
from tests.stock_feed import share_stock

CHROMIUM = "/usr/bin/chromium"
SIZES = {"1440": (1440, 900), "1024": (1024, 768), "390": (390, 844)}
THEMES = ("dark", "light")
#: Pictures of the documentation: page, size, theme.
KEPT = (("overview", "1440", "dark"), ("pool", "1440", "light"), ("overview", "390", "dark"), ("fleet", "1440", "dark"))
DRAW_MILLISECONDS = 4_000


def main(folder: Path, pools: int, *, docs: bool) -> None:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    many, few = Fleet(pools, past_hours=24), Fleet(4, past_hours=24)
    many.step(3)
    few.step(190)
    for feed in (many, few):
        feed.tell_outlooks()
    share_stock(many, l40s=900)
    first = few.settings[0]
    with (
        TemporaryDirectory() as reports,
        Server(many, reports_folder=reports) as fleet,
        Server(few) as pool,
        sync_playwright() as running,
    ):
        for name in ("backtest-code-2026-11.html", "evaluate-chat-2026-11.html"):
            (Path(reports) / name).write_text("<title>A report</title>", encoding="utf-8")
        page_of_pool = f"{pool.url}/#/pool/{first.model}/{first.pool}"
        pages = {name: f"{fleet.url}/#/{name}" for name in ("overview", "alerts", "pipeline", "fleet", "reports")}
        pages |= {"pool": page_of_pool} | {f"pool-{span}": f"{page_of_pool}?span={span}" for span in ("24h", "14d")}
        everything = [(name, size, theme) for theme in THEMES for size in SIZES for name in pages]
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, size, theme in KEPT if docs else everything:
            where = folder / (f"board-{name}-{size}.jpg" if docs else f"{name}-{size}-{theme}.png")
            _take(browser, pages[name], SIZES[size], theme, where)
        browser.close()


def _take(browser: Any, address: str, size: tuple[int, int], theme: str, where: Path) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)
    page = context.new_page()
    page.on("pageerror", lambda error: print(f"{where.name}: {error}"))
    page.goto(address)
    page.wait_for_timeout(DRAW_MILLISECONDS)
    if where.suffix == ".jpg":
        page.screenshot(path=where, type="jpeg", quality=72)
    else:
        page.screenshot(path=where, full_page="overview" not in where.name)
    context.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pools", type=int, default=200)
    parser.add_argument("--docs", action="store_true")
    told = parser.parse_args()
    main(told.folder, told.pools, docs=told.docs)
