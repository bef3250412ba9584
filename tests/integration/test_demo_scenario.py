"""What the demo promises, without a clock: its day of history and its first 95 minutes through the engine.

``tests/e2e/test_demo.py`` looks at the same on the board, in real time; a machine too busy for that can still tell here
whether the advice is right.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.alerts.types import Alert, AlertKind
from pipeline.config.settings import load
from pipeline.demo.fleet import history
from pipeline.demo.scenario import scenario
from pipeline.engine.advisor import Advisor

pytestmark = pytest.mark.integration

LIVE_START = datetime(2026, 11, 1, 21, tzinfo=UTC).timestamp()
RECURRING_ONSET, FLASH_ONSET = LIVE_START + 40 * 60, LIVE_START + 80 * 60
SMALL, LARGE = ("llama-3.1-8b-instruct", "chat"), ("llama-3.3-70b-instruct", "chat")


def test_the_recurring_spike_is_warned_of_and_the_flash_is_seen_at_once() -> None:
    fleet = scenario("demo", LIVE_START, seed=7)
    settings = load(None).model_copy(update={"pools": fleet.pool_settings()})
    advisor = Advisor(settings)
    first: dict[str, Alert] = {}
    for chunk in history(fleet, LIVE_START - 86_400, LIVE_START + 95 * 60):
        for step in chunk.steps(settings.windows.grain_seconds):
            for alert in advisor.step(step).alerts:
                if alert.raised_at > LIVE_START:
                    first.setdefault(alert.alert_id, alert)

    def of(kind: AlertKind, key: tuple[str, str]) -> list[Alert]:
        return [a for a in first.values() if a.kind is kind and (a.model, a.pool) == key]

    (warning,) = of(AlertKind.SPIKE_FORECAST, SMALL)
    assert warning.raised_at <= RECURRING_ONSET - 600, "at least ten minutes ahead"
    assert warning.onset_at == pytest.approx(RECURRING_ONSET, abs=300)
    assert {a.severity for a in of(AlertKind.SPIKE_OBSERVED, SMALL)} <= {"info"}, "what was warned of is no news"

    assert of(AlertKind.SPIKE_FORECAST, LARGE) == [], "nobody can foresee the flash"
    (flash,) = of(AlertKind.SPIKE_OBSERVED, LARGE)
    assert 0 < flash.raised_at - FLASH_ONSET <= 120, "within two windows"
    assert all((a.model, a.pool) in (SMALL, LARGE) for a in first.values()), "the third pool is quiet"
