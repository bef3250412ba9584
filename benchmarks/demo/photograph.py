"""Takes pictures of a board: ``photograph.py URL FOLDER BEGAN``, at ``AT`` seconds after BEGAN (monotonic seconds)."""

from __future__ import annotations

import sys
import time
import urllib.request
from pathlib import Path

AT = (5, 30, 180)


def answers(url: str) -> bool:
    """Whether the board is there."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def main(url: str, folder: Path, began: float) -> None:
    """Take the pictures; the first as soon as there is a board."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    while not answers(url):
        time.sleep(0.2)
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url)
        for at in AT:
            page.wait_for_timeout(max(1_000.0, 1_000.0 * (at - time.monotonic() + began)))
            page.screenshot(path=folder / f"board-{at}s.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
