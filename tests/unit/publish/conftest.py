from __future__ import annotations

import pytest

from tests.publish_feed import Feed


@pytest.fixture
def feed() -> Feed:
    """A fleet of three pools after 20 minutes."""
    feed = Feed()
    feed.step(20)
    return feed
