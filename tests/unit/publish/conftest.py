from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from publish_feed import Feed


@pytest.fixture
def feed() -> Feed:
    """A fleet of three pools after 20 minutes."""
    feed = Feed()
    feed.step(20)
    return feed
