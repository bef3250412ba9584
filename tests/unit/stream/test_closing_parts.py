"""Dimensions from events to alerts: through the aggregator, the store and the closer, and again after a restart."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.alerts.types import AlertKind
from pipeline.config.settings import Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepOutput
from pipeline.events.validation import EventLimits
from pipeline.fleet.kafka_reports import ReplicaBook
from pipeline.store.store import Store
from pipeline.stream.controller.window_closer import WindowCloser
from pipeline.testing import request_event
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.types import REST

NOW = 1_700_000_040  # the start of a minute
QUIET_MINUTES, MINUTES = 45, 50


@pytest.fixture
def settings() -> Settings:
    return load(
        None,
        windows={"allowed_lateness_seconds": 30.0, "dimensions": ("tenant", "region")},
        forecast={"tenant_series": 4, "horizons_seconds": (60, 300)},
        store={"snapshot_every_steps": 7},
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(Path(":memory:"), settings.store, settings.windows) as store:
        yield store


def events() -> Iterator[dict[str, Any]]:
    """Three named tenants and a crowd; from a minute on acme asks eight times as often, all of it from one region."""
    source = random.Random(11)
    number = 0
    for minute in range(MINUTES):
        loud = minute >= QUIET_MINUTES
        for tenant, per_minute in (("acme", 240 if loud else 30), ("bolt", 40), ("coil", 20), (None, 15)):
            for _ in range(max(0, round(source.gauss(per_minute, per_minute**0.5 / 4)))):
                yield request_event(
                    f"e{number}",
                    NOW + 60 * minute + source.random() * 60,
                    tenant=tenant or f"small-{source.randrange(200)}",
                    region="eu" if loud and tenant == "acme" else source.choice(["eu", "us"]),
                )
                number += 1


def fill(store: Store, settings: Settings, cuts: int) -> None:
    values = [json.dumps(event).encode() for event in events()]
    limits = EventLimits(max_age_seconds=1e9)
    aggregator = PartitionAggregator(settings.kafka.requests_topic, 0, "p", limits, 0, settings.windows.dimensions)
    size = -(-len(values) // cuts)
    for offset, first in enumerate(range(0, len(values), size)):
        part = values[first : first + size]
        offsets = range(first, first + len(part))
        delta, _ = aggregator.fold(part, offsets, [-1] * len(part), first, first + len(part), NOW + 1e6)
        store.apply([(0, offset, delta)])


def close_all(closer: WindowCloser) -> list[StepOutput]:
    outputs = []
    while (output := closer.close_next(NOW + 60.0 * MINUTES + 30)) is not None:
        outputs.append(output)
    return outputs


@pytest.mark.slow
def test_a_spike_of_one_tenant_is_told_as_one(settings: Settings, store: Store) -> None:
    fill(store, settings, 3)
    outputs = close_all(WindowCloser(settings, store, Advisor(settings), ReplicaBook()))
    assert len(outputs) == MINUTES
    observed = [alert for o in outputs for alert in o.alerts if alert.kind is AlertKind.SPIKE_OBSERVED]
    assert observed[0].raised_at == NOW + 60 * (QUIET_MINUTES + 1)
    assert "(cause: tenant)" in observed[0].message
    assert "tenant acme: 0.5 to 4.0 requests/s, " in observed[0].message
    assert "region eu: " in observed[0].message
    assert any("(cause: tenant)" in alert["message"] for alert in store.alerts(0.0))
    (window,) = outputs[-1].windows
    tenants, regions = window.breakdown
    assert [part.value for part in tenants.parts[:3]] == ["acme", "bolt", "coil"]
    assert tenants.parts[-1].value == REST
    assert {part.value for part in regions.parts} == {"eu", "us"}


@pytest.mark.slow
def test_how_deltas_are_cut_changes_nothing(settings: Settings, store: Store) -> None:
    fill(store, settings, 1)
    whole = close_all(WindowCloser(settings, store, Advisor(settings), ReplicaBook()))
    with Store.open(Path(":memory:"), settings.store, settings.windows) as other:
        fill(other, settings, 23)
        assert close_all(WindowCloser(settings, other, Advisor(settings), ReplicaBook())) == whole


@pytest.mark.slow
def test_a_restart_and_a_replay_say_the_same_bit_for_bit(settings: Settings, store: Store) -> None:
    fill(store, settings, 3)
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    live = []
    for _ in range(QUIET_MINUTES + 2):  # in the midst of the episode
        output = closer.close_next(NOW + 1e6)
        assert output is not None
        live.append(output)
    again = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    again.restore()
    assert again.close_next(NOW + 1e6) == closer._advisor.step(next(store.closed_since(live[-1].as_of)))
    replay = Advisor(settings)
    assert [replay.step(inputs) for inputs in store.closed_since(-1)][: len(live)] == live
