"""A headless browser for the tests of the board, one per test process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.waiting import scaled, wait_until

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS, timeout=1000.0 * scaled(30))
        yield browser
        browser.close()


class Tab:
    """A tab of the browser: what it shows, the errors that its scripts and its security policy told, and the answers
    that a browser logs as errors.
    """

    def __init__(self, browser: Any, url: str, width: int = 1440, height: int = 900, theme: str = "dark") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        self.context.set_default_timeout(1000.0 * scaled(30))
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._note)
        self.refused: list[str] = []
        self.page.on("response", self._note_refusal)
        self.page.goto(url)

    def _note(self, message: Any) -> None:
        if "Content Security Policy" in message.text:
            self.problems.append(message.text)

    def _note_refusal(self, response: Any) -> None:
        if response.status >= 400:
            self.refused.append(f"{response.status} {response.url}")

    def until(self, condition: Callable[[], Any], what: str = "the board gets there", seconds: float = 20.0) -> Any:
        """Poll from here: the page's policy forbids the evaluation that ``wait_for_function`` needs."""
        sleep = lambda seconds: self.page.wait_for_timeout(1000.0 * seconds)  # noqa: E731
        return wait_until(condition, seconds, f"{what} (problems: {self.problems})", sleep=sleep)

    def until_drawn(self) -> dict[str, Any]:
        """Wait until the page has drawn what it was given; returns what that is."""
        return self.until(lambda: self.drawn() or None, "the page draws")  # type: ignore[no-any-return]

    def drawn(self) -> dict[str, Any]:
        drawn = self.page.evaluate("window.tokentide?.drawn ?? {}")
        return drawn if isinstance(drawn, dict) else {}

    def get(self, testid: str) -> Any:
        return self.page.locator(f'[data-testid="{testid}"]')

    def text(self, testid: str) -> str:
        return str(self.get(testid).first.inner_text())

    def row(self, key: str) -> Any:
        return self.page.locator(f'[data-testid="pool-row"][data-key="{key}"]')

    def go(self, address: str) -> None:
        """Go to another page of the board; ``address`` is what stands after ``#``, and another one than now.

        ``drawn`` is emptied once that page is there: until then the one of before may draw again.
        """
        self.page.evaluate(
            """address => new Promise((there) => {
                 addEventListener("hashchange", () => { window.tokentide.drawn = {}; there(); }, { once: true });
                 location.hash = address;
               })""",
            address,
        )

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def tabs(browser: Any) -> Iterator[Callable[..., Tab]]:
    """Opens tabs that are closed after the test."""
    opened: list[Tab] = []

    def open_tab(url: str, **how: Any) -> Tab:
        opened.append(Tab(browser, url, **how))
        return opened[-1]

    yield open_tab
    for tab in opened:
        tab.close()


@pytest.fixture
def feed() -> Feed:
    """A feed of three hours."""
    feed = Feed()
    feed.step(180)
    return feed


@pytest.fixture
def board(tabs: Callable[..., Tab], feed: Feed) -> Iterator[tuple[Tab, Server]]:
    """The overview of that feed, drawn."""
    with Server(feed) as server:
        tab = tabs(server.url)
        tab.until_drawn()
        yield tab, server
