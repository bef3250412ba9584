"""How fluid the board is: frame times and the work of the browser's main thread, with many pools and a day.

``python -m benchmarks.board [--page overview|fleet] [--pools 200] [--seconds 10]``: the page is scrolled all the time
while a step of all pools comes every second, in headless Chromium without a GPU; the page of the fleet asks for a step
every five seconds at most, and shows the split of a shared stock, too. Prints one line of JSON. On a machine that does
other things, too, frame times tell of those; the seconds of the main thread hardly do.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from typing import Any

from tests.board_fleet import Fleet
from tests.publish_server import Server
from tests.stock_feed import share_stock

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WORK = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration", "TaskDuration")

#: Scrolls up and down, a few pixels every frame, and returns the milliseconds between frames.
SCROLL = """
(seconds) => new Promise((done) => {
  const frames = [], began = performance.now();
  let last = began, step = 8;
  const next = (now) => {
    frames.push(now - last);
    last = now;
    const end = document.documentElement.scrollHeight - innerHeight;
    if (scrollY >= end - 1) step = -8;
    if (scrollY <= 0) step = 8;
    scrollBy(0, step);
    if (now - began < 1000 * seconds) requestAnimationFrame(next);
    else done(frames.slice(1));
  };
  requestAnimationFrame(next);
})
"""


#: By page: its address, and what is there once it is drawn.
PAGES = {
    "overview": ("#/overview?span=24h", '[data-testid="pool-row"]'),
    "fleet": ("#/fleet", '[data-testid="split-pools"]'),
}


def main(name: str, pools: int, seconds: float) -> dict[str, Any]:
    """Return what was measured."""
    from playwright.sync_api import sync_playwright

    fleet = Fleet(pools, past_hours=24)
    fleet.step(2)
    fleet.tell_outlooks()
    if name == "fleet":
        share_stock(fleet, l40s=900)
    address, drawn = PAGES[name]
    stop = threading.Event()

    def steps() -> None:
        while not stop.wait(1.0):
            fleet.step()

    with Server(fleet) as server, sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{server.url}/{address}")
        page.wait_for_selector(drawn)
        page.wait_for_timeout(2_000)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU, so that other processes do not count
        measured: dict[str, Any] = {"page": name, "pools": pools, "seconds": seconds}
        for what in ("scrolling", "scrolling_with_steps"):
            if what == "scrolling_with_steps":
                threading.Thread(target=steps, daemon=True).start()
            before, renders = _work(session), page.evaluate("window.tokentide.renders")
            frames = page.evaluate(SCROLL, seconds)
            after = _work(session)
            shown = page.evaluate("window.tokentide.renders") - renders
            measured[what] = _told(frames, {key: after[key] - before[key] for key in WORK}, shown)
        stop.set()
        browser.close()
    measured["at"] = time.strftime("%Y-%m-%d")
    return measured


def _work(session: Any) -> dict[str, float]:
    found = session.send("Performance.getMetrics")["metrics"]
    return {metric["name"]: metric["value"] for metric in found}


def _told(frames: list[float], work: dict[str, float], renders: int) -> dict[str, Any]:
    ordered = sorted(frames)
    quantile = lambda q: round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 1)  # noqa: E731
    return {
        "frames": len(frames),
        "frames_per_second": round(1_000 * len(frames) / sum(frames), 1),
        "frame_milliseconds": {
            "p50": quantile(0.5),
            "p95": quantile(0.95),
            "p99": quantile(0.99),
            "max": quantile(1.0),
        },
        "updates": renders,
        "main_thread_milliseconds_per_frame": {
            key.removesuffix("Duration"): round(1_000 * value / len(frames), 2) for key, value in work.items()
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", choices=PAGES, default="overview")
    parser.add_argument("--pools", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    told = parser.parse_args()
    print(json.dumps(main(told.page, told.pools, told.seconds), indent=1))
