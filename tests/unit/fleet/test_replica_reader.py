"""The reader of reports: what is refused is counted, and a flood of it does not fill the log."""

from __future__ import annotations

import logging

import pytest

from pipeline.config.settings import load
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaReader


def test_a_flood_of_refused_reports_is_counted_and_logged_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    reader = ReplicaReader(load(), ReplicaBook(now=lambda: 1_000.0))
    with caplog.at_level(logging.WARNING):
        for _ in range(1_000):
            reader._take(b'{"model": "m", "at": 5000.0, "current": 1}')
    assert reader.rejected == 1_000
    assert len(caplog.records) == 10
    assert "future" in caplog.text
