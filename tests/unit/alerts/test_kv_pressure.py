"""A KV cache that fills is told of before it is full; what is not known raises nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.alerts.rule import PoolFacts
from pipeline.alerts.rules.kv_pressure import RULE
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey, Signal
from pipeline.testing import closed_window

START = 1_795_981_560
SERIES = SeriesKey("m", "p", Signal.KV_TOKENS)
ENGINE = RULE.engine
assert ENGINE is not None


def said(kv_tokens: float, replicas: int | None = 2, missing: tuple[str, ...] = (), **fields: Any) -> Any:
    """A replica holds 1,000 tokens; later forecasts are ten times as high."""
    window = closed_window(START, fields.pop("requests", 60), current_replicas=replicas, **fields)
    advice: Any = SimpleNamespace(evidence={"capacity_kv_tokens_per_replica": 1_000.0, "lead_time_seconds": 240.0})
    ahead = tuple(
        Forecast(SERIES, float(window.end), horizon, tuple(by * kv_tokens * (0.5 + level) for level in LEVELS))
        for horizon, by in ((60, 0.1), (300, 1.0), (900, 10.0))
    )
    assert ENGINE is not None
    return ENGINE.condition(PoolFacts(window, {}, {Signal.KV_TOKENS: ahead}, advice, missing=missing), RULE.thresholds)


def test_the_median_at_the_lead_time_counts() -> None:
    assert said(1_799.0) is None
    found = said(1_900.0)
    assert (found.severity, found.ratio, found.onset_at) == ("warning", pytest.approx(0.95), START + 60 + 300)
    assert "m/p: 95% of the KV cache of the 2 replicas in place is expected to be in use in 5 min" in found.message
    assert said(2_001.0).severity == "critical"
    assert said(1_900.0, replicas=3) is None


def test_preemptions_count_where_there_are_requests() -> None:
    assert said(0.0, preemptions=3) is None, "one request in twenty"
    found = said(0.0, preemptions=4)
    assert (found.severity, found.ratio, found.onset_at) == ("warning", None, START)
    assert "4 preemptions in 60 requests" in found.message
    assert said(0.0, requests=19, preemptions=19) is None
    assert said(0.0, replicas=None, preemptions=4) is not None


@pytest.mark.parametrize("fields", [{"replicas": None}, {"replicas": 0}, {"gap": True}, {"missing": ("half of it",)}])
def test_what_is_not_known_raises_nothing(fields: Any) -> None:
    assert said(1e9, **fields) is None


def test_a_pool_without_advice_or_forecasts_raises_nothing() -> None:
    assert ENGINE is not None
    window = closed_window(START, 60, current_replicas=1)
    assert ENGINE.condition(PoolFacts(window, {}, {}, None), RULE.thresholds) is None
    bare: Any = SimpleNamespace(evidence={})
    ahead = (Forecast(SERIES, float(window.end), 60, (1e9,) * len(LEVELS)),)
    assert ENGINE.condition(PoolFacts(window, {}, {Signal.KV_TOKENS: ahead}, bare), RULE.thresholds) is None
