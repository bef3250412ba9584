from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config.settings import KafkaSettings
from pipeline.stream.kafka import membership
from pipeline.stream.kafka.membership import MembershipGuard, unassigned_seconds


class App:
    def __init__(self) -> None:
        self.conf = SimpleNamespace(id="tokentide-control")
        self.consumer = SimpleNamespace(waits_for_assignment=True, member_id="own")
        self.should_stop = False
        self.crashes: list[Exception] = []

    async def crash(self, error: Exception) -> None:
        self.crashes.append(error)


class Watched:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: Exception | None = None) -> None:
        self.app, self.told, self.evictions, self.now = App(), list[str](), list[str](), 0.0

        async def evict(kafka: Any, group: str, own: str) -> list[str]:
            self.evictions.append(f"{group} but {own}")
            if failing is not None:
                raise failing
            return ["dead"]

        monkeypatch.setattr(membership, "evict_other_members", evict)
        self.guard = MembershipGuard(self.app, KafkaSettings(), self.told.append, 60.0, lambda: self.now)

    def look(self, at: float) -> None:
        self.now = at
        asyncio.run(self.guard.look())


def test_a_rebalance_that_ends_soon_is_not_worth_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.look(0.0)
    watched.look(9.0)
    watched.app.consumer.waits_for_assignment = False
    watched.look(11.0)
    watched.app.consumer.waits_for_assignment = True
    watched.look(100.0)
    watched.look(105.0)
    assert (watched.told, watched.evictions) == ([], [])


def test_waiting_is_named_then_ended_by_eviction_then_by_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    for at in (0.0, 11.0, 61.0, 62.0):
        watched.look(at)
    assert watched.told[0] == "consumer group tokentide-control has assigned no partitions for 11 s"
    assert watched.evictions == ["tokentide-control but own"], "once"
    assert watched.app.crashes == []
    watched.look(151.0)
    assert "for 151 s" in str(watched.app.crashes[0])


def test_an_assignment_is_told_and_begins_everything_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.look(0.0)
    watched.look(70.0)
    watched.app.consumer.waits_for_assignment = False
    watched.look(71.0)
    assert watched.told[-1] == ""
    watched.app.consumer.waits_for_assignment = True
    watched.look(80.0)
    watched.look(130.0)
    assert len(watched.evictions) == 1
    watched.look(141.0)
    assert len(watched.evictions) == 2


def test_a_broker_that_refuses_the_eviction_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, OSError("gone"))
    watched.look(0.0)
    watched.look(61.0)
    watched.look(151.0)
    assert len(watched.evictions) == len(watched.app.crashes) == 1


def test_the_limit_leaves_time_for_a_rebalance_after_a_dead_member() -> None:
    assert unassigned_seconds(KafkaSettings(session_timeout_seconds=45.0)) == 150.0
