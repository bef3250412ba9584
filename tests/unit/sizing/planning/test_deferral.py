"""Deferral: the lowest level is feasible and tight, deadlines hold, and nothing is released without a forecast."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.errors import InvalidInput
from sizing.planning.deferral import DeferralQueue, lowest_level, room_now

STEP = 60.0


def placed(urgent, level, due):
    """Whether work can be served below a level, by serving the earliest deadline first, step by step."""
    left = [[at, work] for at, work in sorted(due)]
    for step, busy in enumerate(urgent):
        room = max(level - busy, 0.0) * STEP
        for one in left:
            done = min(room, one[1])
            one[1] -= done
            room -= done
        # What is due by the end of this step must be done, at the end of the forecast everything.
        ended = (step + 1) * STEP if step + 1 < len(urgent) else np.inf
        if any(work > 1e-6 for at, work in left if max(at, STEP) <= ended):
            return False
    return True


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=8).map(np.array),
    st.lists(st.tuples(st.floats(-60, 700), st.floats(0.1, 500)), min_size=1, max_size=6),
)
def test_the_level_is_enough_and_no_less_is(urgent, due):
    due = sorted((float(np.ceil(at / STEP) * STEP), work) for at, work in due)  # at whole steps
    level = lowest_level(urgent, STEP, np.array([at for at, _ in due]), np.array([work for _, work in due]))
    assert placed(urgent, level + 1e-6, due)
    if level > 1e-3:
        assert not placed(urgent, level * (1 - 1e-3) - 1e-4, due)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16))
def test_every_job_is_released_once_and_by_its_deadline_whatever_the_forecast(seed):
    random = np.random.default_rng(seed)
    queue, seen = DeferralQueue(), []
    deadlines = {job: float(random.uniform(0, 1200)) for job in range(20)}
    for job, deadline in deadlines.items():
        queue.add(job, deadline, float(random.uniform(0, 200)))
    for step in range(21):
        now = step * STEP
        urgent = random.uniform(0, 5, 10) if random.random() < 0.7 else None
        lease = queue.lease(now, STEP, urgent)
        assert (lease.starts_at, lease.expires_at) == (now, now + STEP)
        if urgent is None:  # only what is due
            assert all(deadlines[job] < now + STEP for job in lease.jobs)
        assert all(deadlines[job] >= now for job in lease.jobs)
        seen += lease.jobs
    assert sorted(seen) == list(range(20))
    assert len(queue) == 0


def test_capacity_that_is_paid_for_is_used_at_once():
    queue = DeferralQueue()
    queue.add(1, 36_000.0, 60.0)
    quiet = np.array([1.0, 1.0, 0.0])
    assert queue.lease(0.0, STEP, quiet, spare_replicas=1.5).jobs == ()
    assert queue.lease(0.0, STEP, quiet, spare_replicas=2.0).jobs == (1,)


@pytest.mark.parametrize(
    ("deadline", "work"), [(float("nan"), 1.0), (1.0, -1.0), (float("inf"), 1.0), (1.0, float("inf"))]
)
def test_what_cannot_be_is_refused(deadline, work):
    with pytest.raises(InvalidInput, match="job 7"):
        DeferralQueue().add(7, deadline, work)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0, 50),
    st.floats(0, 50),
    st.none() | st.floats(0, 1e4),
    st.floats(0, 900),
    st.lists(st.floats(0, 9), max_size=9),
)
def test_only_spare_replicas_are_given_away_until_the_work_is_due(running, urgent_now, work, due, path):
    room = room_now(running, urgent_now, STEP, urgent=np.array(path), work=work, due_seconds=due)
    assert room.spare_replicas == max(running - urgent_now, 0.0)
    assert room.due == (work is not None and due < STEP)
    if room.due:
        assert room.released == work
    else:
        assert room.released <= room.spare_replicas * STEP
        assert work is None or room.released <= work
    assert (room.level_replicas is None) == (work is None or not path)
    if room.level_replicas is not None:  # enough, as the queue would have it
        assert placed(path, room.level_replicas + 1e-5, [(float(np.ceil(due / STEP) * STEP), work)])


def test_where_the_urgent_demand_is_not_known_nothing_starts_but_what_is_due():
    assert room_now(9.0, np.inf, STEP, work=5.0, due_seconds=600.0).released == 0
    assert room_now(9.0, np.inf, STEP, work=5.0, due_seconds=59.0).released == 5.0
    for running, work in ((-1.0, 1.0), (np.nan, 1.0), (1.0, np.inf), (1.0, -1.0)):
        with pytest.raises(InvalidInput, match="at least 0"):
            room_now(running, 0.0, STEP, work=work)
