"""The dashboards as a person sees them: drawn by Grafana's own packages from a real Prometheus; opt-in, `make preview`.

``PREVIEW_IMAGES`` names a folder for pictures of every board.
"""

from __future__ import annotations

import functools
import os
import shutil
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.prometheus_server import CHAT, Prometheus, running_prometheus
from tests.waiting import scaled, wait_until

DASHBOARDS = Path(__file__).resolve().parents[2] / "dashboards"
BOARDS = sorted(path.stem for path in (DASHBOARDS / "grafana").glob("*.json"))
CHROMIUM = Path("/usr/bin/chromium")
#: Panels that are rightly empty when all is well.
EMPTY = {
    "tokentide-audit": {"Limits", "Input problems"},
    "tokentide-overview": set[str](),
    "tokentide-pool": set[str](),
    "tokentide-slo": set[str](),
    "tokentide-health": {"Clock offsets of servers"},
}

pytestmark = [
    pytest.mark.preview,
    pytest.mark.skipif(not (DASHBOARDS / "preview" / "build" / "app.js").exists(), reason="run `make preview`"),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        wait_until(
            lambda: server.get("/api/v1/query", query='ALERTS{alertstate="firing"}')["result"], 90, "a firing alert"
        )
        yield server


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    """The address of the folder of the dashboards."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(DASHBOARDS)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"], timeout=1000.0 * scaled(30)
        )
        yield browser
        browser.close()


def test_no_panel_is_empty(prometheus: Prometheus, files: str, browser: Any) -> None:
    for name in BOARDS:
        one = name == "tokentide-pool"
        asked = {
            "board": f"{files}/grafana/{name}.json",
            "prometheus": prometheus.url,
            "interval": "4m",  # the history has a scrape a minute
            "ahead": 3600 if one else 0,
            **(CHAT if one else {}),
        }
        found, problems = _drawn(browser, f"{files}/preview/index.html?{urllib.parse.urlencode(asked)}", name)
        assert problems == [], name
        assert found["errors"] == [], name
        assert set(found["empty"]) <= EMPTY[name], name
        assert found["panels"] >= 6, name


def _drawn(browser: Any, url: str, name: str) -> tuple[dict[str, Any], list[str]]:
    """Open the page of a board; return what it says of itself, and errors of its scripts."""
    page = browser.new_page(viewport={"width": 1536, "height": 900})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.set_default_timeout(1000.0 * scaled(30))
    page.goto(url)
    found: dict[str, Any] = wait_until(
        lambda: page.evaluate("window.preview"),
        60,
        "the board is drawn",
        sleep=lambda seconds: page.wait_for_timeout(1000.0 * seconds),
    )
    page.set_viewport_size({"width": 1536, "height": int(found["height"]) + 8})
    page.wait_for_timeout(1500)  # charts are drawn anew
    if folder := os.environ.get("PREVIEW_IMAGES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
    page.close()
    return found, problems
