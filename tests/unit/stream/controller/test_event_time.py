from __future__ import annotations

from pipeline.clock import ManualClock
from pipeline.store.apply import SourcePosition
from pipeline.stream.controller.event_time import EventTime


def active(at: float | None) -> SourcePosition:
    return SourcePosition(1, at, False)


def idle(at: float | None) -> SourcePosition:
    return SourcePosition(1, at, True)


def test_nothing_moves_before_every_partition_has_reported() -> None:
    time = EventTime(ManualClock(1_000), 2, 3_600)
    time.observe(0, active(900.0))
    assert time.advance(caught_up=True) is None
    time.observe(1, active(800.0))
    assert time.advance(caught_up=True) == 800.0


def test_the_slowest_active_partition_holds_it() -> None:
    time = EventTime(ManualClock(1_000), 2, 3_600)
    time.observe(0, active(900.0))
    time.observe(1, active(100.0))
    assert time.advance(caught_up=False) == 100.0


def test_an_idle_partition_holds_it_where_it_was_last_known_to_be_silent() -> None:
    clock = ManualClock(1_000)
    time = EventTime(clock, 2, 3_600)
    time.observe(0, active(990.0))
    time.observe(1, idle(100.0))
    assert time.advance(caught_up=False) is None, "events may lie behind a single heartbeat"
    clock.advance(60)
    time.observe(1, idle(100.0))
    time.observe(0, active(1_050.0))
    assert time.advance(caught_up=False) == 1_000.0
    clock.advance(60)
    time.observe(1, idle(100.0))
    assert time.advance(caught_up=False) == 1_050.0


def test_in_a_replay_an_idle_partition_does_not_hold_it() -> None:
    time = EventTime(ManualClock(1_000_000), 2, 3_600)
    time.observe(0, active(900.0))
    time.observe(1, idle(100.0))
    assert time.advance(caught_up=False) == 900.0


def test_an_idle_partition_must_speak_again_after_a_restart() -> None:
    clock = ManualClock(1_000)
    time = EventTime(clock, 2, 3_600, {0: active(900.0), 1: idle(None)})
    assert time.advance(caught_up=False) is None
    time.observe(1, idle(None))
    assert time.advance(caught_up=False) == 900.0


def test_silence_everywhere_lets_the_clock_move_it_one_heartbeat_behind() -> None:
    clock = ManualClock(1_000)
    time = EventTime(clock, 2, 3_600)
    for partition in (0, 1):
        time.observe(partition, idle(900.0))
    assert time.advance(caught_up=True) is None, "one heartbeat is not enough"
    clock.advance(60)
    for partition in (0, 1):
        time.observe(partition, idle(900.0))
    assert time.advance(caught_up=False) is None, "deltas wait to be read"
    assert time.advance(caught_up=True) == 1_000.0
    time.observe(1, active(950.0))
    assert time.advance(caught_up=True) == 1_000.0, "it never goes back"


def test_a_replayed_topic_waits_for_its_events() -> None:
    clock = ManualClock(1_000_000)
    time = EventTime(clock, 1, 3_600)
    for _ in range(3):
        time.observe(0, idle(900.0))
        clock.advance(2)
    assert time.advance(caught_up=True) == 900.0


def test_no_event_ever_is_no_time() -> None:
    clock = ManualClock(1_000)
    time = EventTime(clock, 1, 3_600)
    for _ in range(3):
        time.observe(0, idle(None))
        clock.advance(2)
    assert time.advance(caught_up=True) is None


def test_it_goes_on_from_stored_positions() -> None:
    time = EventTime(ManualClock(1_000), 1, 3_600, {0: active(700.0)})
    assert time.complete
    assert time.advance(caught_up=False) == 700.0


def test_a_clock_that_is_set_forward_is_not_followed() -> None:
    clock, even = ManualClock(1_000), [0.0]
    time = EventTime(clock, 1, 3_600, even=lambda: even[0])
    for passed in (0, 2, 4):
        clock.set(1_000 + passed)
        even[0] = float(passed)
        time.observe(0, idle(990.0))
    assert time.advance(caught_up=True) == 1_002.0
    clock.advance(86_400)
    for passed in (6, 8):
        even[0] = float(passed)
        time.observe(0, idle(990.0))
    assert time.advance(caught_up=True) == 1_006.0, "six seconds have passed, whatever the clock says"


def test_a_clock_that_events_agree_with_is_followed() -> None:
    clock, even = ManualClock(1_000), [0.0]
    time = EventTime(clock, 2, 3_600, even=lambda: even[0])
    clock.set(5_000)  # it was wrong before
    time.observe(0, active(4_999.0))
    for passed in (1, 2):
        even[0] = float(passed)
        clock.set(5_000 + passed)
        time.observe(1, idle(None))
    time.observe(0, active(5_001.0))
    assert time.advance(caught_up=True) == 5_000.0, "the heartbeat before the newest, less what was even"


def test_a_clock_that_is_set_back_moves_nothing() -> None:
    clock, even = ManualClock(1_000), [0.0]
    time = EventTime(clock, 1, 3_600, even=lambda: even[0])
    for passed in (0, 2):
        clock.set(1_000 + passed)
        even[0] = float(passed)
        time.observe(0, idle(990.0))
    assert time.advance(caught_up=True) == 1_000.0
    clock.set(10)
    for _ in range(2):
        time.observe(0, idle(990.0))
    assert time.advance(caught_up=True) == 1_000.0


def test_silence_after_a_break_counts_only_once_what_was_held_up_could_come() -> None:
    clock = ManualClock(1_000)
    time = EventTime(clock, 1, 3_600, break_seconds=5.0, settle_seconds=20.0)
    for _ in range(2):
        time.observe(0, idle(990.0))
        clock.advance(2)
    assert time.advance(caught_up=True) == 1_000.0
    clock.advance(60)  # the broker stands still
    for _ in range(5):
        time.observe(0, idle(990.0))
        clock.advance(2)
    assert time.advance(caught_up=True) == 1_000.0, "emitters have not had the time to deliver"
    for _ in range(8):
        clock.advance(2)
        time.observe(0, idle(990.0))
    assert time.advance(caught_up=True) == clock.now() - 2


def test_silence_after_a_break_counts_at_once_where_breaks_are_not_looked_for() -> None:
    """A paced clock stands still until windows are closed: what waits for it to move would wait for ever."""

    def after_a_break(**breaks: float) -> float | None:
        clock = ManualClock(1_000)
        time = EventTime(clock, 2, 3_600, **breaks)
        for _ in range(2):
            time.observe(0, active(990.0))
            time.observe(1, idle(None))
        clock.advance(1_000)  # nothing was heard meanwhile, and time stands still from here on
        for _ in range(5):
            time.observe(0, active(1_990.0))
            time.observe(1, idle(None))
            reached = time.advance(caught_up=False)
        return reached

    assert after_a_break(break_seconds=float("inf"), settle_seconds=20.0) == 1_990.0
    assert after_a_break(break_seconds=5.0, settle_seconds=20.0) is None


def test_it_never_passes_the_clock_however_far_ahead_events_are() -> None:
    clock = ManualClock(1_000)
    time = EventTime(clock, 1, 3_600, {0: active(1_055.0)})
    assert time.advance(caught_up=True) == 1_000.0, "as an older version stored it"
    clock.advance(30)
    time.observe(0, active(1_085.0))
    assert time.advance(caught_up=True) == 1_030.0
    clock.advance(-600)
    assert time.advance(caught_up=True) == 1_030.0, "it never goes back"


def test_a_clock_that_is_set_back_while_it_runs_holds_nothing_up() -> None:
    clock, even = ManualClock(1_000), [0.0]
    time = EventTime(clock, 1, 3_600, even=lambda: even[0])
    time.observe(0, active(990.0))
    assert time.advance(caught_up=False) == 990.0
    clock.set(10)
    even[0] = 60.0
    time.observe(0, active(1_055.0))
    assert time.advance(caught_up=False) == 1_055.0
    time.observe(0, active(1_500.0))
    assert time.advance(caught_up=False) == 1_060.0, "no further than time has passed"
