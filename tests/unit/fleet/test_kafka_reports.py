from __future__ import annotations

import json
import threading
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import CodecError
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus, decode_status
from pipeline.windows.fleet import CountedRequests, FleetReport
from pipeline.windows.types import PoolKey

KEY = PoolKey("m", "default")


def newest(book: ReplicaBook, key: PoolKey, time: float) -> tuple[int | None, int | None]:
    found = book.report(key, time, time)
    return (None, None) if found is None else found.counts[-1][1:]


def test_the_report_that_held_at_a_time() -> None:
    book = ReplicaBook()
    for at, current, ready in ((300.0, 5, 4), (100.0, 2, None), (200.0, 3, 3)):
        book.add(ReplicaStatus(model="m", at=at, current=current, ready=ready))
    assert newest(book, KEY, 99.0) == (None, None)
    assert newest(book, KEY, 100.0) == (2, None)
    assert newest(book, KEY, 299.0) == (3, 3)
    assert newest(book, KEY, 10_000.0) == (5, 4)
    assert newest(book, PoolKey("other", "default"), 10_000.0) == (None, None)


def test_the_changes_since_a_time() -> None:
    book = ReplicaBook()
    for at, current, ready in (
        (100, 2, 2),
        (160, 2, 2),
        (170, 4, 2),
        (180, 4, 2),
        (200, 4, 4),
        (210, 4, 4),
        (215, 4, 4),
    ):
        book.add(ReplicaStatus(model="m", at=at, current=current, ready=ready, queued_requests=at, running_requests=7))
    told = book.report(KEY, 150.0, 212.0)
    assert told == FleetReport(210.0, 210, 7, ((170, 4, 2), (200, 4, 4), (210, 4, 4)))
    assert book.report(KEY, 212.0, 1_000.0) == FleetReport(215.0, 215, 7, ((215, 4, 4),)), (
        "the newest one is always told"
    )
    for at in range(1_000, 1_200):
        book.add(ReplicaStatus(model="m", at=at, current=at))
    many = book.report(KEY, 900.0, 2_000.0)
    assert many is not None
    assert [count.current for count in many.counts] == list(range(1_168, 1_200))


def counted(totals: list[int | None], running: list[int | None], until: float = 180.0) -> CountedRequests | None:
    """What is counted from 60 to 120 s by reports from 45 s on, every 15 s."""
    book = ReplicaBook()
    for number, (total, in_flight) in enumerate(zip(totals, running, strict=True)):
        at = 45.0 + 15.0 * number
        status = ReplicaStatus(model="m", at=at, current=1, requests_total=total, running_requests=in_flight)
        book.add(decode_status(msgspec.json.encode(status)))
    found = book.report(KEY, until - 60.0, until, (60.0, 120.0))
    assert found is not None
    return found.counted


def around(
    totals: list[int | None], running: list[int | None], until: float = 180.0
) -> tuple[int | None, int | None, float, bool] | None:
    found = counted(totals, running, until)
    return None if found is None else found[:4]


def test_requests_that_the_fleet_counted() -> None:
    """Reports at 45, 60, …, 120, 135 s."""
    idle, busy = [0] * 7, [3] * 7
    assert around([0, 5, 6, 7, 8, 9, 20], busy) == (4, 4, 60.0, False)
    assert around([0, 5, 5, 5, 5, 5, 20], idle) == (0, 0, 60.0, True)
    assert around([0, 5, 5, 5, 5, 5, 20], busy) == (0, 0, 60.0, False), "it may repeat what it saw last"
    assert around([0, 5, 5, 5, 5, 5, 20], [9, 9, 9, 5, 3, 1, 9]) == (0, 0, 60.0, True), "what was in flight ends"
    assert around([0, 5, 5, 5, 5, 5, 20], [None] * 7) == (0, 0, 60.0, False)
    assert around([9, 9, 0, 0, 0, 0, 0], idle) == (None, None, 60.0, True), "it began anew"
    assert around([0, 5, None, 5, 5, 5, 20], idle) == (None, None, 60.0, True)
    assert counted([None] * 7, idle) is None, "the fleet does not count"
    assert around([0, 5, 6, 7], [0] * 4) == (None, 2, 30.0, True), "nothing is told of the end"
    assert around([0, 5], [0] * 2) == (None, None, 0.0, False)
    assert around([0, 5, 6, 7, 8, 9, 20], idle, until=100.0) == (None, 2, 30.0, True), "what came later is not known"
    book = ReplicaBook()
    for at in (70, 90, 110, 130):
        book.add(ReplicaStatus(model="m", at=at, current=1, running_requests=0, requests_total=at))
    told = book.report(KEY, 120.0, 180.0, (60.0, 120.0))
    assert told is not None
    assert told.counted is not None
    assert told.counted[:4] == (None, 40, 40.0, True), "nothing is told of the beginning"


def test_memory_is_bounded() -> None:
    book = ReplicaBook(keep=2, max_pools=1)
    for at in range(5):
        book.add(ReplicaStatus(model="m", at=float(at), current=at))
        book.add(ReplicaStatus(model=f"x{at}", at=float(at), current=at))
        assert len(book._reports) == 1
    assert newest(book, KEY, 4.0) == (4, None), "as new as the other pool's report, and there before"
    book.add(ReplicaStatus(model="m", at=5.0, current=5))
    book.add(ReplicaStatus(model="m", at=6.0, current=6))
    assert newest(book, KEY, 4.5) == (None, None)
    book.add(ReplicaStatus(model="new", at=7.0, current=7))
    assert newest(book, KEY, 9.0) == (None, None), "it has not reported for longest"
    assert newest(book, PoolKey("new", "default"), 9.0) == (7, None)


def test_reports_of_the_future_are_refused_and_take_no_place() -> None:
    book = ReplicaBook(keep=4, now=lambda: 1_000.0, max_ahead_seconds=60.0)
    book.add(ReplicaStatus(model="m", at=1_060.0, current=1))
    for at in (1_060.5, 9e10, 9e10 + 60, 9e10 + 120, 9e10 + 180):
        with pytest.raises(CodecError, match="future"):
            book.add(ReplicaStatus(model="m", at=at, current=99))
    book.add(ReplicaStatus(model="m", at=990.0, current=3))
    assert newest(book, KEY, 1_000.0) == (3, None)
    assert newest(book, KEY, 2_000.0) == (1, None)


@pytest.mark.parametrize("order", [1, -1])
def test_of_the_reports_within_a_second_the_newest_counts(order: int) -> None:
    book = ReplicaBook()
    for number in range(1, 31)[::order]:
        book.add(ReplicaStatus(model="m", at=number / 10, current=number))
        book.add(ReplicaStatus(model="m", at=number / 10, current=number))
    assert [report.current for report in book._reports[KEY]] == [10, 20, 30]
    assert newest(book, KEY, 2.0) == (20, None)


@pytest.mark.parametrize("per_second", [1, 10, 50])
def test_a_pool_that_reports_often_is_remembered_for_long(per_second: int) -> None:
    """With 60 s of lateness a window needs the reports of three minutes, and more where the controller is behind."""
    book = ReplicaBook()
    for number in range(20 * 60 * per_second):
        at = number / per_second
        book.add(ReplicaStatus(model="m", at=at, current=1, requests_total=number))
    assert len(book._reports[KEY]) <= 256
    told = book.report(KEY, 60.0, 180.0, (60.0, 120.0))
    assert told is not None
    assert 175.0 <= told.reported_at <= 180.0
    assert told.counted is not None
    assert told.counted.around == pytest.approx(60 * per_second, rel=0.1)


def test_pools_without_settings_do_not_take_the_place_of_those_with() -> None:
    book = ReplicaBook(max_pools=100, configured=[KEY])
    book.add(ReplicaStatus(model="m", at=1.0, current=5))
    for number in range(5_000):
        book.add(ReplicaStatus(model=f"x{number}", at=float(10 + number // 7), current=1))
        assert len(book._reports) <= 101
    assert newest(book, KEY, 9.0) == (5, None)
    assert newest(book, PoolKey("x4999", "default"), 9e9) == (1, None)
    book = ReplicaBook(max_pools=100, configured=[KEY])
    for number in range(5_000):
        book.add(ReplicaStatus(model=f"x{number}", at=10.0, current=1))
    book.add(ReplicaStatus(model="m", at=1.0, current=5))
    assert newest(book, KEY, 9.0) == (5, None)
    assert newest(book, PoolKey("x0", "default"), 20.0) == (1, None), "as new as the others, and there before"


def test_what_is_asked_is_of_one_moment_while_another_thread_adds() -> None:
    book = ReplicaBook()
    stop = threading.Event()

    def add() -> None:
        at = 0
        while not stop.is_set():
            at += 1
            book.add(ReplicaStatus(model="m", at=float(at), current=at, requests_total=at))

    writer = threading.Thread(target=add)
    writer.start()
    try:
        for _ in range(3_000):
            newest_known = book._reports.get(KEY, [])[-1:]
            if not newest_known:
                continue
            until = newest_known[0].at - 50.0
            told = book.report(KEY, until - 60.0, until, (until - 120.0, until - 60.0))
            assert told is None or (told.reported_at <= until and told.counts[-1].current == told.reported_at)
    finally:
        stop.set()
        writer.join()


GOOD: dict[str, Any] = {"schema": "tokentide.replica.status.v1", "model": "m", "pool": "p", "at": 1.5, "current": 3}


def test_a_good_one() -> None:
    status = decode_status(json.dumps({**GOOD, "ready": 2, "more": "is ignored"}).encode())
    assert (status.model, status.pool, status.at, status.current, status.ready) == ("m", "p", 1.5, 3, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"current": -1},
        {"current": 10**9},
        {"queued_requests": -1},
        {"running_requests": 10**12},
        {"at": -5},
        {"at": 1e300},
        {"model": ""},
        {"pool": "x" * 300},
        {"schema": "v9"},
    ],
)
def test_bad_ones(change: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        decode_status(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"model":"m","at":NaN,"current":1}'])
def test_no_json(value: bytes | None) -> None:
    with pytest.raises(CodecError):
        decode_status(value)


def test_requests_that_came_after_the_window_and_last() -> None:
    """By reports at 45, 60, …, 120, 135, 150 s."""
    found = counted([0, 5, 6, 7, 8, 9, 20, 50], [3] * 8)
    assert found is not None
    assert (found.after, found.after_seconds, found.newest, found.newest_seconds) == (41, 30.0, 30, 15.0)
    anew = counted([0, 5, 6, 7, 8, 9, 2, 50], [3] * 8)
    assert anew is not None
    assert (anew.after, anew.newest) == (None, 48), "it began anew in between"
    ends = counted([0, 5, 6, 7, 8, 9], [3] * 6)
    assert ends is not None
    assert (ends.after, ends.after_seconds, ends.newest) == (None, 0.0, 1)
    one = counted([0], [3])
    assert one is not None
    assert (one.newest, one.newest_seconds) == (None, 0.0)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.none() | st.integers(0, 40)), min_size=1, max_size=12),
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(1, 6),
)
def test_counts_are_those_of_the_reports_whatever_their_times(
    told: list[tuple[int, int | None]], until: int, start: int, span: int
) -> None:
    """Reports in any order, several of one time, counts that fall or are not told: by the words of ``CountedRequests``.

    Of one time the report that sorts last counts.
    """
    told = [(5 * at, total) for at, total in told]
    book, until, start, end = ReplicaBook(), 5 * until, 5 * start, 5 * (start + span)
    for at, total in told:
        book.add(ReplicaStatus(model="m", at=float(at), current=1, requests_total=total))
    reports = sorted(dict(sorted((float(at), -1 if total is None else total) for at, total in told)).items())
    times, known = [at for at, _ in reports], [report for report in reports if report[0] <= until]

    found = book.report(KEY, 0.0, float(until), (float(start), float(end)))

    if not known or known[-1][1] < 0:
        assert found is None or found.counted is None
        return
    assert found is not None
    assert found.counted is not None
    last = len(known) - 1

    def grown(first: int, final: int) -> int | None:
        totals = [total for _, total in reports[first : final + 1]]
        ascending = all(0 <= one <= other for one, other in pairwise(totals)) and totals[0] >= 0
        return totals[-1] - totals[0] if ascending else None

    before = max((i for i, at in enumerate(times) if at <= start), default=-1)
    after = min((i for i, at in enumerate(times) if at >= end), default=len(times))
    first = min((i for i, at in enumerate(times) if at >= start), default=len(times))
    final = min(max((i for i, at in enumerate(times) if at <= end), default=-1), last)
    earlier = max((i for i, at in enumerate(times) if at <= times[last] - 15.0), default=-1)
    counted = found.counted
    assert counted.around == (grown(before, after) if before >= 0 and after <= last else None)
    assert counted.inside == (grown(first, final) if first < final else None)
    assert counted.inside_seconds == (times[final] - times[first] if first < final else 0.0)
    assert counted.newest == (grown(earlier, last) if earlier >= 0 else None)
    assert counted.after == (grown(after, last) if after < last else None)
    assert counted.after_seconds == (times[last] - times[after] if after < last else 0.0)
