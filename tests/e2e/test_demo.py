"""The demo as a newcomer runs it: what its board must have shown within three minutes, and how it ends."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.stream.broker import free_port

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
SMALL, LARGE = "llama-3.1-8b-instruct|chat", "llama-3.3-70b-instruct|chat"
#: Event seconds after live start (a full hour) at which the scenario's demand jumps.
RECURRING_ONSET, FLASH_ONSET = 40 * 60, 80 * 60
SHOWN_WITHIN_SECONDS = 180

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
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

    def until(self, word: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self.said.append(self._lines.get(timeout=0.5))
            except queue.Empty:
                if self.process.poll() is not None:
                    break
                continue
            if word in self.said[-1]:
                return
        pytest.fail(f"the demo did not say {word!r} within {seconds} s: {''.join(self.said)}")


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    demo = Demo(free_port())
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.send_signal(signal.SIGINT)
            try:
                demo.process.wait(60)
            except subprocess.TimeoutExpired:
                demo.process.kill()


def test_the_board_shows_what_the_product_promises(demo: Demo) -> None:
    demo.until("learning", 120)  # it shows progress
    demo.until("metrics", 240)
    seen = _watch(f"http://127.0.0.1:{demo.port}/")
    live_start = seen["first_as_of"] // 3600 * 3600

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


def test_a_taken_port_is_named(demo: Demo) -> None:
    command = [sys.executable, "-m", "pipeline", "demo", "--port", str(demo.port)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert second.returncode == 1
    assert f"port {demo.port} is taken" in second.stderr
    assert "Traceback" not in second.stderr


def test_it_stops_cleanly_on_ctrl_c_and_starts_again(demo: Demo) -> None:
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0
    again = Demo(demo.port)
    try:
        again.until("learning", 120)
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(60) == 0
    finally:
        again.process.kill()


def _key(alert: dict[str, Any]) -> str:
    return f"{alert['model']}|{alert['pool']}"


def _watch(url: str) -> dict[str, Any]:
    """Look at the board every second until all has been seen or the three minutes are over."""
    seen: dict[str, Any] = {"alerts": {}, "markers": set(), "desired": {SMALL: set(), LARGE: set()}, "messages": set()}
    seen |= {"actual_points": 0, "fan_reaches_seconds": 0.0, "first_as_of": None, "problems": []}
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.on("pageerror", lambda error: seen["problems"].append(str(error)))
        page.goto(url)
        deadline = time.monotonic() + SHOWN_WITHIN_SECONDS
        while time.monotonic() < deadline and not _complete(seen):
            page.wait_for_timeout(1000)
            board = page.evaluate("window.tokentide")
            if not board["status"] or not board["pools"]:
                continue
            if seen["first_as_of"] is None:
                seen["first_as_of"] = board["status"]["as_of"]
            for key in (SMALL, LARGE):
                _note(seen, page, key, board["pools"][key]["drawn"], board["status"]["as_of"])
            for alert in board["alerts"]:
                seen["alerts"].setdefault(alert["alert_id"], alert)
        browser.close()
    seen["alerts"] = sorted(seen["alerts"].values(), key=lambda alert: alert["raised_at"])
    return seen


def _note(seen: dict[str, Any], page: Any, key: str, drawn: dict[str, Any], as_of: float) -> None:
    seen["actual_points"] = max(seen["actual_points"], len(drawn["actual"]))
    if drawn["fan"]:
        seen["fan_reaches_seconds"] = max(seen["fan_reaches_seconds"], drawn["fan"][-1]["at"] - as_of)
    seen["markers"] |= {spike["kind"] for spike in drawn["spikes"]}
    card = page.locator(f'[data-testid="pool-card"][data-key="{key}"]')
    seen["desired"][key].add(card.get_attribute("data-desired"))
    seen["messages"].add(card.locator('[data-testid="message"]').inner_text())


def _complete(seen: dict[str, Any]) -> bool:
    if seen["first_as_of"] is None:
        return False
    live_start = seen["first_as_of"] // 3600 * 3600
    live = {(a["kind"], _key(a)) for a in seen["alerts"].values() if a["raised_at"] > live_start}
    return {("spike_forecast", SMALL), ("spike_observed", LARGE)} <= live and {"forecast", "observed"} <= seen[
        "markers"
    ]
