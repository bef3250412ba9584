"""The demo as a newcomer runs it: what its board shows while it learns and live, and how it ends.

How fast that goes is measured by ``benchmarks/demo``; here a wait lasts as long as something moves.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.kafka.embedded_broker import free_port
from tests.waiting import scaled, wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
SMALL, LARGE = "llama-3.1-8b-instruct|chat", "llama-3.3-70b-instruct|chat"
#: Event seconds after live start (a full hour) at which the scenario's demand jumps.
RECURRING_ONSET, FLASH_ONSET = 40 * 60, 80 * 60
#: Quiet seconds without any progress after which a wait is given up.
STILL_SECONDS = 30
#: Event seconds after live start after which nothing more is waited for.
WATCHED_SECONDS = 110 * 60
#: Looks at advice beside busy loops, at least, however long each takes.
LOOKS = 10

#: What the overview shows.
BOARD = """(() => {
  const { live } = window.tokentide ?? {};
  return { status: live?.status ?? null, rows: Object.fromEntries(live?.rows ?? []) };
})()"""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]


class Demo:
    """A running ``tokentide demo`` and the lines it has said."""

    def __init__(self, port: int) -> None:
        self.port = port
        command = [sys.executable, "-m", "pipeline", "demo", "--port", str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)

    def until(self, word: str) -> None:
        """Read lines until one holds ``word``, as long as the demo says or uses anything."""

        def found() -> bool:
            while not self._lines.empty():
                self.said.append(self._lines.get())
                if word in self.said[-1]:
                    return True
            assert self.process.poll() is None, f"the demo ended: {''.join(self.said)}"
            return False

        wait_until(found, STILL_SECONDS, f"the demo says {word!r}", lambda: len(self.said))

    def get(self, path: str) -> Any:
        """JSON from its API."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=scaled(120)) as response:
            return json.load(response)

    def until_live(self) -> None:
        """Wait until live windows are closed, as long as learning or event time moves."""
        seen: dict[str, Any] = {}

        def live() -> bool:
            seen.update(self.get("/v1/status"))
            return seen["progress"] is None and seen["ready"] and seen["as_of"] % 3600 != 0

        moved = lambda: (seen.get("progress"), seen.get("now"), seen.get("as_of"))  # noqa: E731
        wait_until(live, STILL_SECONDS, "the demo is live", moved, passing=(OSError,))

    def end(self) -> int:
        """Ctrl-C; returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        wait_until(lambda: self.process.poll() is not None, STILL_SECONDS, "the demo ends")
        return self.process.returncode


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    demo = Demo(free_port())
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            try:
                demo.end()
            finally:
                demo.process.kill()


def test_the_board_shows_what_the_product_promises(demo: Demo) -> None:
    demo.until(f"127.0.0.1:{demo.port}/")  # said when it answers
    seen = _watch(f"http://127.0.0.1:{demo.port}/")
    live_start = seen["live_start"]

    assert seen["shares"][0] < 0.5, "the board is there long before all is learned"
    assert seen["shares"] == sorted(seen["shares"])
    assert len(set(seen["shares"])) > 10, "progress is seen"
    assert seen["progress_texts"], "in words"
    assert all("Learning 1 simulated day of history" in text for text in seen["progress_texts"])
    assert seen["without_advice"] == [], "advice was valid at every look"
    assert max(seen["speeds"]) > 1.0, "simulated time runs, and its speed is shown"
    assert all(text.endswith("× real time") for text in seen["speed_texts"])
    assert seen["actual_points"] > 100, "actual demand with a past"
    assert seen["fan_reaches_seconds"] >= 3600, "the fan into the future"
    warned = [
        a for a in seen["alerts"] if a["kind"] == "spike_forecast" and _key(a) == SMALL and a["raised_at"] > live_start
    ]
    assert warned, "the recurring spike was warned of"
    assert warned[0]["raised_at"] < live_start + RECURRING_ONSET, "before its onset"
    assert abs(warned[0]["onset_at"] - (live_start + RECURRING_ONSET)) <= 300
    detected = [
        a for a in seen["alerts"] if a["kind"] == "spike_observed" and _key(a) == LARGE and a["raised_at"] > live_start
    ]
    assert detected, "the flash spike was detected"
    assert 0 < detected[0]["raised_at"] - (live_start + FLASH_ONSET) <= 120, "within two windows"
    assert {"forecast", "observed"} <= seen["markers"], "both are marked in the charts"
    assert len(seen["desired"][SMALL]) > 1, "a recommendation moved"
    assert any("replicas" in message for message in seen["messages"]), "and told its reason"
    assert seen["problems"] == []


def test_advice_stays_valid_beside_two_busy_loops_per_core(demo: Demo) -> None:
    demo.until_live()
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * len(os.sched_getaffinity(0)))
    ]
    looks: list[tuple[float, int, int]] = []
    try:

        def ten_minutes_later() -> bool:
            status, advice = demo.get("/v1/status"), demo.get("/v1/recommendations")
            looks.append((advice["now"], len(advice["recommendations"]), status["pools"]))
            return looks[-1][0] - looks[0][0] >= 600 and len(looks) >= LOOKS

        wait_until(
            ten_minutes_later, STILL_SECONDS, "ten simulated minutes pass", lambda: looks[-1][0], poll_seconds=0.5
        )
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert [look for look in looks if look[1] != look[2]] == [], "every pool had valid advice at every look"


def test_a_taken_port_is_named(demo: Demo) -> None:
    command = [sys.executable, "-m", "pipeline", "demo", "--port", str(demo.port)]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"port {demo.port} is already in use" in second.stderr
    assert "Traceback" not in second.stderr


def test_it_stops_cleanly_on_ctrl_c_and_starts_again(demo: Demo) -> None:
    assert demo.end() == 0
    again = Demo(demo.port)
    try:
        again.until("learning")
        assert again.end() == 0
    finally:
        again.process.kill()


def _key(alert: dict[str, Any]) -> str:
    return f"{alert['model']}|{alert['pool']}"


def _watch(url: str) -> dict[str, Any]:
    """Look at the board every second until all has been seen, as long as event time moves."""
    seen: dict[str, Any] = {"alerts": {}, "markers": set(), "desired": {SMALL: set(), LARGE: set()}, "messages": set()}
    seen |= {"actual_points": 0, "fan_reaches_seconds": 0.0, "live_start": None, "problems": []}
    seen |= {"shares": [], "progress_texts": set(), "without_advice": [], "speeds": [], "speed_texts": set()}
    with playwright.sync_playwright() as running:
        limit = 1_000.0 * scaled(30)
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS, timeout=limit)
        pages = {}
        for key, address in (("", ""), *((key, f"#/pool/{key.replace('|', '/')}") for key in (SMALL, LARGE))):
            page = pages[key] = browser.new_page(viewport={"width": 1440, "height": 900})
            page.on("pageerror", lambda error: seen["problems"].append(str(error)))
            page.set_default_timeout(limit)
            page.goto(f"{url}{address}")
        overview = pages[""]
        board: dict[str, Any] = {"status": None}

        def looked() -> bool:
            board.update(overview.evaluate(BOARD))
            if board["status"]:
                _look(seen, pages, board)
            return _complete(seen, board["status"])

        def moved() -> Any:
            status = board["status"]
            return status and (status["progress"], status["now"], status["as_of"])

        def sleep(seconds: float) -> None:
            """The browser's own sleep, shorter while it learns: a fast machine has soon done."""
            learning = board["status"] and board["status"]["progress"]
            page.wait_for_timeout(1_000 * (seconds / 4 if learning else seconds))

        wait_until(looked, STILL_SECONDS, "the board shows all", moved, poll_seconds=1.0, sleep=sleep)
        browser.close()
    seen["alerts"] = sorted(seen["alerts"].values(), key=lambda alert: alert["raised_at"])
    return seen


def _look(seen: dict[str, Any], pages: dict[str, Any], board: dict[str, Any]) -> None:
    """``pages``: the overview under "", the pages of two pools under their keys."""
    status, page = board["status"], pages[""]
    if status["progress"] is not None:
        seen["shares"].append(status["progress"]["share"])
        text = page.locator('[data-testid="progress-text"]').inner_text()
        seen["progress_texts"] |= {text} if text else set()
        return
    if seen["live_start"] is None:
        if status["as_of"] is None:
            return
        seen["live_start"] = status["as_of"] // 3600 * 3600
    if status["now"] == seen["live_start"]:
        return  # time does not run yet
    seen["speeds"].append(status["speed"]["actual"])
    seen["speed_texts"].add(page.locator('[data-testid="speed"]').inner_text())
    seen["without_advice"] += [
        (status["now"], key) for key, row in board["rows"].items() if row["configured"] and row["desired"] is None
    ]
    for key in (SMALL, LARGE):
        _note(seen, pages[key], board["rows"][key], key)


def _note(seen: dict[str, Any], page: Any, row: dict[str, Any], key: str) -> None:
    seen["desired"][key].add(row["desired"])
    seen["messages"].add(row["message"])
    drawn = page.evaluate("window.tokentide.drawn")
    if drawn.get("key") != key:
        return  # nothing is drawn yet
    seen["actual_points"] = max(seen["actual_points"], len(drawn["actual"]))
    if drawn["fan"]:
        seen["fan_reaches_seconds"] = max(seen["fan_reaches_seconds"], drawn["fan"][-1]["at"] - drawn["actual"][-1][0])
    seen["markers"] |= {spike["kind"] for spike in drawn["spikes"]}
    for alert in drawn["alerts"]:
        seen["alerts"].setdefault(alert["alert_id"], alert)


def _complete(seen: dict[str, Any], status: dict[str, Any] | None) -> bool:
    if status is None or seen["live_start"] is None:
        return False
    live = {(a["kind"], _key(a)) for a in seen["alerts"].values() if a["raised_at"] > seen["live_start"]}
    wanted = {("spike_forecast", SMALL), ("spike_observed", LARGE)}
    all_seen = wanted <= live and {"forecast", "observed"} <= seen["markers"]
    return all_seen or status["now"] - seen["live_start"] > WATCHED_SECONDS
