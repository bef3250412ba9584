"""Samples as lines, and what is kept of them."""

from __future__ import annotations

import math

from pipeline.publish.exposition import FAMILIES, Writer, lines_of
from pipeline.windows.types import PoolKey


def test_pools_of_the_same_series_share_them_and_have_their_own_lines() -> None:
    writer = Writer()
    first, second = (writer.written([("current_replicas", (), value)]) for value in (1, 2.5))
    assert first.series is second.series
    family = FAMILIES["current_replicas"]
    assert lines_of(first, PoolKey("m", "a")) == {family: b'tokentide_current_replicas{model="m",pool="a"} 1.0'}
    assert lines_of(second, PoolKey('m"', "b")) == {family: b'tokentide_current_replicas{model="m\\"",pool="b"} 2.5'}


def test_what_has_no_number_has_no_line() -> None:
    writer = Writer()
    samples = [("alert_active", (kind,), value) for kind, value in (("a", 1), ("b", None), ("c", math.nan), ("d", 0))]
    lines = lines_of(writer.written(samples), PoolKey("m", "p"))[FAMILIES["alert_active"]].split(b"\n")
    assert [line.split(b'kind="')[1][:1] for line in lines] == [b"a", b"d"]
    assert lines_of(writer.written([("current_replicas", (), None)]), PoolKey("m", "p")) == {}
    assert lines_of(writer.written([]), PoolKey("m", "p")) == {}


def test_series_are_forgotten_when_there_are_more_than_pools() -> None:
    writer = Writer()
    first = writer.written([("current_replicas", (), 1)])
    writer.share_no_more_than(1)
    assert writer.written([("current_replicas", (), 1)]).series is first.series
    writer.share_no_more_than(0)
    assert writer.written([("current_replicas", (), 1)]).series is not first.series
