"""Between two windows reports of the fleet raise advice, never lower it, and leave no trace where they say nothing."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.settings import PoolSettings, Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import Reading, RevisionInput, StepInput, StepOutput
from pipeline.windows.types import PoolKey
from sizing.types import Reason
from tests.unit.engine.fleet_reports import START, Reports

KEY = PoolKey("m", "p")
SETTINGS = load().model_copy(
    update={
        "pools": (
            PoolSettings(
                model="m", pool="p", profile="llama-3.1-8b", accelerator="L40S", max_replicas=40, initial_replicas=3
            ),
        )
    }
)
#: The last window of the steady time, and the next one.
LAST, NEXT = 23 * 60, 24 * 60
#: Demand jumps as the reports of the last step end.
JUMP = LAST + 60


def steady(_: int) -> float:
    return 10.0


def jump(second: int) -> float:
    return 10.0 if second < JUMP else 30.0


@cache
def stepped() -> bytes:
    """After 23 windows of a steady demand."""
    advisor, reports = Advisor(SETTINGS), Reports(KEY, steady)
    for end in range(60, LAST + 1, 60):
        said = advisor.step(reports.step(end)).recommendations[0]
        reports.replicas = max(said.desired, 1)
    return pickle.dumps((advisor.snapshot(), reports.replicas, reports.total, reports.at, reports.book))


def begun(rate: Callable[[int], float] = jump) -> tuple[Advisor, Reports]:
    snapshot, replicas, total, at, book = pickle.loads(stepped())
    return Advisor.restore(SETTINGS, snapshot), Reports(KEY, rate, replicas, book=book, total=total, at=at)


def test_a_steady_demand_is_not_revised_and_leaves_no_trace() -> None:
    advisor, reports = begun(steady)
    before = advisor.snapshot()
    for after in (15, 30, 45):
        said = advisor.revise(reports.revision(LAST, after))
        assert (said.recommendations, said.readings, said.windows) == ((), (), ())
        assert advisor.snapshot() == before


def test_what_the_router_counts_raises_once_enough_of_a_window_was_counted() -> None:
    advisor, reports = begun()
    assert advisor.revise(reports.revision(LAST, 15)).recommendations == ()
    assert advisor.revise(reports.revision(LAST, 30)).recommendations == ()
    asked = reports.revision(LAST, 45)
    said = advisor.revise(asked)
    (advice,) = said.recommendations
    assert said.readings == asked.readings
    assert (advice.reason, advice.direction) == (Reason.OBSERVED_UP, "up")
    assert advice.desired > reports.replicas
    assert advice.issued_at == START + LAST + 45
    assert advice.expires_at == advice.issued_at + 300
    assert advice.evidence["observed_requests_per_second"] == pytest.approx(30.0, rel=0.1)
    assert advice.message.startswith("between two windows")


def test_a_queue_raises_at_once() -> None:
    advisor, reports = begun()
    reports.queued = 600
    (advice,) = advisor.revise(reports.revision(LAST, 15)).recommendations
    assert advice.reason is Reason.QUEUE_UP
    assert advice.desired > reports.replicas


def test_the_next_step_goes_on_from_what_was_raised() -> None:
    advisor, reports = begun()
    reports.queued = 600
    (raised,) = advisor.revise(reports.revision(LAST, 15)).recommendations
    reports.queued, reports.replicas = 0, raised.desired
    (next_one,) = advisor.step(reports.step(NEXT)).recommendations
    assert next_one.desired >= raised.desired
    assert next_one.generation >= raised.generation


def test_the_same_report_raises_once() -> None:
    advisor, reports = begun()
    reports.queued = 600
    asked = reports.revision(LAST, 15)
    assert advisor.revise(asked).recommendations
    after = advisor.snapshot()
    assert advisor.revise(replace(asked, as_of=asked.as_of + 15)).recommendations == ()
    assert advisor.snapshot() == after


@pytest.mark.parametrize("queued", [600, 6_000, 10**9])
def test_a_gauge_that_is_stuck_raises_no_more_than_steps_alone_would(queued: int) -> None:
    """Twelve minutes of steps and revisions, with replicas that follow at once."""

    def most(*, revised: bool) -> int:
        advisor, reports = begun(steady)
        reports.queued, highest = queued, 0
        for end in range(LAST, LAST + 12 * 60, 60):
            for after in (15, 30, 45) if revised else ():
                for one in advisor.revise(reports.revision(end, after)).recommendations:
                    highest = max(highest, one.desired)
                    reports.replicas = one.desired
            reports.replicas = advisor.step(reports.step(end + 60)).recommendations[0].desired
            highest = max(highest, reports.replicas)
        return highest

    assert most(revised=True) <= most(revised=False)


def test_the_order_of_steps_and_revisions_is_that_of_time() -> None:
    advisor, reports = begun()
    with pytest.raises(ValueError, match="follows step"):
        advisor.revise(reports.revision(LAST - 60, 45))
    with pytest.raises(ValueError, match="does not follow"):
        advisor.revise(reports.revision(LAST, 0))
    advisor.revise(reports.revision(LAST, 30))
    with pytest.raises(ValueError, match="does not follow"):
        advisor.revise(reports.revision(LAST, 30))
    step: StepInput = reports.step(NEXT)
    advisor.begin(step.as_of)
    with pytest.raises(ValueError, match="under way"):
        advisor.revise(reports.revision(LAST, 45))
    advisor.advise(step.windows)
    advisor.finish()
    assert advisor.revise(reports.revision(NEXT, 15)).as_of == START + NEXT + 15


def test_pools_that_are_unknown_or_not_configured_are_left_out() -> None:
    advisor, reports = begun()
    reports.queued = 600
    asked = reports.revision(LAST, 15)
    before = advisor.snapshot()
    others = tuple(replace(asked.readings[0], key=PoolKey(name, "p")) for name in ("x", "y"))
    assert advisor.revise(replace(asked, readings=others)).recommendations == ()
    assert advisor.snapshot() == before


@pytest.mark.parametrize("cut", range(4))
def test_a_restart_between_steps_and_revisions_changes_nothing(cut: int) -> None:
    """Restored after ``cut`` of them, and stepped on; also by what the store keeps, which is what changed something."""

    def run(restored_after: int | None, *, kept: bool = False) -> list[StepOutput]:
        advisor, reports = begun()
        said: list[StepOutput] = []
        for turn, after in enumerate((15, 30, 45, None)):
            reports.queued = 600 if turn == 1 else 0
            if after is None:
                said.append(advisor.step(reports.step(NEXT)))
            else:
                asked = reports.revision(LAST, after)
                found = pickle.loads(pickle.dumps(advisor)).revise(asked) if kept else advisor.revise(asked)
                if kept and found.recommendations:
                    advisor.revise(replace(asked, readings=found.readings))
                said.append(found)
            if turn == restored_after:
                advisor = Advisor.restore(SETTINGS, advisor.snapshot())
        said += [advisor.step(reports.step(NEXT + 60 * minute)) for minute in (1, 2)]
        return said

    whole = run(None)
    assert sum(len(output.recommendations) for output in whole) > 3
    assert run(cut) == whole
    assert run(None, kept=True) == whole


def test_a_pool_of_a_later_step_does_not_see_a_revision_twice() -> None:
    advisor, reports = begun()
    reports.queued = 600
    shared, inputs = advisor.shared_snapshot(), reports.revision(LAST, 15)
    older = {key: (START + LAST, advisor.pool_snapshot(key)) for key in advisor.pools}
    advisor.revise(inputs)
    reports.queued = 0
    step = reports.step(NEXT)
    first = advisor.step(step)
    newer = {key: (START + NEXT, advisor.pool_snapshot(key)) for key in advisor.pools}
    following = reports.step(NEXT + 60)
    second = advisor.step(following)
    for pools in (older, newer):
        again = Advisor.restore(SETTINGS, shared, newer=pools)
        assert len(again.revise(inputs).recommendations) == (pools is older)
        said = again.step(step)
        assert said == (first if pools is older else replace(said, windows=()))
        assert again.step(following) == second


def test_before_the_first_window_a_fleet_that_is_full_is_raised_by_a_queue_of_two_reports() -> None:
    advisor, reports = Advisor(SETTINGS), Reports(KEY, lambda _: 2.0, replicas=1)
    before = advisor.snapshot()
    reports.running, reports.queued = 8, 25
    assert advisor.revise(reports.revision(None, -45)).recommendations == (), "all of it may have come since"
    reports.queued = 20
    assert advisor.revise(reports.revision(None, -30)).recommendations == (), "30 requests came since"
    assert advisor.snapshot() == before
    reports.queued = 40
    (said,) = advisor.revise(reports.revision(None, -15)).recommendations
    assert (said.reason, said.desired) == (Reason.COLD_START, 4), "four times what serves; 1 * (8 + 40) / 8 are six"
    (first,) = advisor.step(reports.step(60)).recommendations
    assert first.desired >= 4


def test_what_was_raised_is_what_is_scored() -> None:
    """The raised advice takes the place of the step's: each step is scored once."""
    advisor, reports = begun()
    pool = advisor._pools[KEY]
    count = len(pool._advice._pending)
    reports.queued = 600
    (raised,) = advisor.revise(reports.revision(LAST, 15)).recommendations
    assert len(pool._advice._pending) == count
    newest = pool._advice._pending[-1]
    assert (newest.desired, newest.at) == (raised.desired, raised.issued_at + raised.evidence["lead_time_seconds"])


NUMBERS = st.sampled_from((None, 0, 1, 40, 600, 10**9, -5, float("nan"), float("inf")))


def broken(reading: Reading, draw: dict[str, Any]) -> Reading:
    """A reading with fields replaced by what no fleet reports."""
    fleet = reading.fleet
    assert fleet is not None
    assert fleet.counted is not None
    counts = {name: draw[name] for name in ("after", "newest") if name in draw}
    seconds = {name: draw[name] for name in ("after_seconds", "newest_seconds") if draw.get(name) is not None}
    counted = None if "counted" in draw else fleet.counted._replace(**counts, **seconds)
    told = {name: draw[name] for name in ("queued_requests", "running_requests") if name in draw}
    return replace(
        reading,
        fleet=fleet._replace(counted=counted, reported_at=fleet.reported_at + draw.get("later", 0.0), **told),
        current_replicas=draw.get("current", reading.current_replicas),
        ready_replicas=draw.get("ready", reading.ready_replicas),
    )


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "after": NUMBERS,
            "newest": NUMBERS,
            "after_seconds": NUMBERS,
            "newest_seconds": NUMBERS,
            "queued_requests": st.sampled_from((None, 0, 40, 600, 10**9, -5)),
            "running_requests": st.sampled_from((None, 0, 40, -5)),
            "counted": st.none(),
            "current": st.sampled_from((None, 0, 1, 3, 1_000)),
            "ready": st.sampled_from((None, 0, 1, 3, 1_000)),
            "later": st.sampled_from((0.0, -1_000.0, 16.0, 1e9, float("nan"))),
        },
    )
)
def test_reports_that_cannot_be_never_lower_and_never_break(draw: dict[str, Any]) -> None:
    advisor, reports = begun(steady)
    held = advisor._pools[KEY]._desired
    assert held is not None
    before = advisor.snapshot()
    asked = reports.revision(LAST, 45)
    said = advisor.revise(replace(asked, readings=(broken(asked.readings[0], draw),)))
    if said.recommendations:
        assert held < said.recommendations[0].desired <= 40
        assert not draw.get("later", 0.0) > 15.0, "of the future"
        assert draw.get("later", 0.0) != -1_000.0, "known already"
    else:
        assert advisor.snapshot() == before
    reports.until(NEXT + 60)
    (stepped_on,) = advisor.step(reports.step(NEXT)).recommendations
    assert stepped_on.desired >= held


def test_a_count_that_was_not_believed_raises_nothing() -> None:
    advisor, reports = begun()
    advisor._pools[KEY]._basis = replace(advisor._pools[KEY]._basis, counts=False)  # type: ignore[type-var]
    assert advisor.revise(reports.revision(LAST, 45)).recommendations == ()


def test_reports_that_contradict_what_was_served_raise_nothing() -> None:
    """The step found that the fleet reports no replica and yet serves."""
    advisor, reports = begun()
    reports.replicas, reports.queued = 0, 600
    advisor.step(reports.step(NEXT))
    assert advisor.revise(reports.revision(NEXT, 45)).recommendations == ()


def test_off_is_part_of_the_settings_that_shape_advice() -> None:
    off = Settings(advise={"revise_every_seconds": 0})
    assert off.config_hash() != Settings().config_hash()
    assert Settings().advise.revise_every_seconds == 15


def test_a_revision_holds_no_windows() -> None:
    assert RevisionInput(1, None, ()).readings == ()
    assert Advisor(SETTINGS).revise(RevisionInput(1, None, ())).recommendations == ()
