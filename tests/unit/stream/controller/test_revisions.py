"""When advice is revised between two steps: by event time, once, not while a window is due, with what was reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pipeline.clock import ManualClock
from pipeline.config.settings import PoolSettings, Settings, load
from pipeline.engine.types import Reading, RevisionInput
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus
from pipeline.store.apply import SourcePosition
from pipeline.stream.controller.event_time import EventTime
from pipeline.stream.controller.revisions import Revisions
from pipeline.windows.fleet import CountedRequests, FleetReport, ReplicaCount
from pipeline.windows.types import PoolKey

STEP = 1_700_000_040  # the start of a minute
LATENESS = 30.0


@dataclass
class Steps:
    """What ``Revisions`` asks of a store."""

    closed: int | None = STEP
    revised: int | None = None
    first: int | None = STEP

    def last_closed(self) -> int | None:
        return self.closed

    def last_advised(self) -> int | None:
        return max((at for at in (self.closed, self.revised) if at is not None), default=None)

    def first_open_window(self) -> int | None:
        return self.first


def settings(every: int = 15, *pools: str) -> Settings:
    made = load(None, windows={"allowed_lateness_seconds": LATENESS}, advise={"revise_every_seconds": every})
    named = tuple(PoolSettings(model=m, profile="llama-3.1-8b", accelerator="L40S") for m in pools or ("m",))
    return made.model_copy(update={"pools": named})


def book(*times: float, model: str = "m", **fields: int) -> ReplicaBook:
    made = ReplicaBook()
    for at in times:
        made.add(ReplicaStatus(model=model, at=STEP + at, current=2, ready=1, **fields))
    return made


def asked(revisions: Revisions, *seconds: float) -> list[int | None]:
    """When the revisions are, after the step, that are due at event times so long after the step was."""
    due = (revisions.due(STEP + LATENESS + after, STEP + LATENESS + after + 5) for after in seconds)
    return [None if inputs is None else inputs.as_of - STEP for inputs in due]


def test_a_revision_is_due_once_in_so_many_seconds_of_event_time() -> None:
    subject = Revisions(settings(), Steps(), book(40.0))
    assert subject.due(None, STEP) is None
    assert asked(subject, 0, 14.9, 15, 15.1, 29.9) == [None, None, 15, None, None]
    assert asked(subject, 58, 59, 44) == [45, None, None], "the newest of those that are due; none goes back"


def test_none_is_due_while_a_window_is() -> None:
    assert asked(Revisions(settings(), Steps(), book(40.0)), 60, 75, 600) == [None, None, None]


def test_none_is_due_while_event_time_is_behind_the_clock() -> None:
    subject, reached = Revisions(settings(), Steps(), book(40.0)), STEP + LATENESS + 20
    assert subject.due(reached, reached + 60) is None
    assert subject.due(reached, reached + 59) is not None


def test_a_revision_does_not_wait_for_the_next_event() -> None:
    """Partitions that are silent say so every two seconds, and event time goes on with the clock."""
    clock = ManualClock(STEP + LATENESS + 1.0)
    event_time = EventTime(clock, 2, 3_600.0)
    subject = Revisions(settings(), Steps(), book(40.0))
    for partition in range(2):
        event_time.observe(partition, SourcePosition(0, STEP + LATENESS + 1.0, idle=False))
    late: dict[int, float] = {}
    for _ in range(28):
        clock.advance(2.0)
        for partition in range(2):
            event_time.observe(partition, SourcePosition(0, None, idle=True))
        inputs = subject.due(event_time.advance(caught_up=True), clock.now())
        if inputs is not None:
            late[inputs.as_of - STEP] = clock.now() - LATENESS - inputs.as_of
    assert list(late) == [15, 30, 45]
    assert max(late.values()) <= 4.0


def test_the_next_step_begins_anew() -> None:
    steps = Steps()
    subject = Revisions(settings(20), steps, book(40.0, 90.0))
    assert asked(subject, 21, 59.9) == [20, 40]
    steps.closed = steps.first = STEP + 60
    assert asked(subject, 61, 81, 119) == [None, 80, 100]


def test_what_the_store_has_is_not_asked_again() -> None:
    subject = Revisions(settings(), Steps(revised=STEP + 30), book(40.0))
    assert asked(subject, 16, 31, 46) == [None, None, 45]


@pytest.mark.parametrize(
    "change",
    [
        lambda: Revisions(settings(0), Steps(), book(40.0)),
        lambda: Revisions(settings(), Steps(None, None, None), book(40.0)),
        lambda: Revisions(settings(), Steps(), book()),
        lambda: Revisions(settings(15, "other"), Steps(), book(40.0)),
        lambda: Revisions(settings(), Steps(), book(-300.0)),
    ],
    ids=["switched off", "no event yet", "no report", "no pool with settings", "reports too old"],
)
def test_there_is_nothing_to_ask(change: Callable[[], Revisions]) -> None:
    assert asked(change(), 20, 50) == [None, None]


def test_a_reading_is_what_a_window_would_carry_if_it_closed_now() -> None:
    reports = ReplicaBook()
    for at in range(-90, 120, 15):
        reports.add(
            ReplicaStatus(
                model="m",
                at=STEP + at,
                current=2 if at < 30 else 3,
                ready=2,
                queued_requests=max(0, at),
                running_requests=8,
                requests_total=1_000 + 2 * at,
            )
        )
    inputs = Revisions(settings(), Steps(), reports).due(STEP + LATENESS + 17, STEP + LATENESS + 17)
    counted = CountedRequests(120, 120, 60.0, False, 30, 15.0, 90, 45.0)
    counts = (ReplicaCount(STEP + 30, 3, 2), ReplicaCount(STEP + 45, 3, 2))
    fleet = FleetReport(STEP + 45.0, 45, 8, counts, counted)
    assert inputs == RevisionInput(STEP + 15, STEP, (Reading(PoolKey("m", "default"), fleet, 3, 2),))


def test_before_the_first_step_the_first_open_window_counts() -> None:
    """From the start of that window on: what waits need not wait for the window."""
    subject = Revisions(settings(), Steps(None, None, STEP), book(-40.0, 14.0, 40.0, queued_requests=5))
    assert asked(subject, -31, -30, -16, -14) == [None, -30, None, -15]
    assert asked(subject, 16, 59, 60) == [15, 45, None]
    subject = Revisions(settings(), Steps(None, STEP - 15, STEP), book(14.0, 40.0, queued_requests=5))
    inputs = subject.due(STEP + LATENESS, STEP + LATENESS)
    assert inputs is not None
    assert (inputs.as_of, inputs.after) == (STEP, None)
    assert inputs.readings[0].fleet is not None
    assert inputs.readings[0].fleet.queued_requests == 5
