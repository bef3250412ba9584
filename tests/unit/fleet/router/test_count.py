"""The count of a pool's requests by its routers grows by what came, and is not told where that cannot be known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import CodecError
from pipeline.fleet.router.count import RequestCount
from pipeline.fleet.router.selector import Selector

TOTAL = 'requests_total{model="m"}'


def page(*series: tuple[str, float], started: float | None = None) -> str:
    lines = [f"requests_total{{{labels}}} {value}" for labels, value in series]
    lines += [] if started is None else [f"process_start_time_seconds {started}"]
    return "\n".join(("# TYPE requests_total counter", *lines, "requests_totally 9"))


def count() -> RequestCount:
    return RequestCount(Selector.of(TOTAL))


def test_only_the_series_of_the_pool_are_added_up_over_codes_and_routers() -> None:
    one = page(('model="m",code="200"', 5), ('model="m",code="500"', 1), ('model="other"', 100))
    assert count().look({"a": one, "b": page(('model="m"', 30))}) == 36


def test_a_series_that_is_new_has_counted_requests_of_the_pool() -> None:
    counted = count()
    assert counted.look({"a": page(('model="m"', 5))}) == 5
    assert counted.look({"a": page(('model="m"', 6), ('model="m",code="500"', 2))}) == 8
    assert counted.look({"a": page(('model="m"', 6), ('model="m",code="500"', 2)), "b": page(('model="m"', 4))}) == 12


def test_a_router_that_goes_while_another_comes_is_no_count_that_stands_still() -> None:
    counted = count()
    assert counted.look({"a": page(('model="m"', 50))}) == 50
    assert counted.look({"b": page(('model="m"', 50))}) is None, "the sum is what it was, and says nothing"
    assert counted.look({"b": page(('model="m"', 50))}) == 100


@pytest.mark.parametrize("value", [3, 50, 70])
def test_a_router_that_began_anew_is_not_told_once(value: int) -> None:
    counted = count()
    assert counted.look({"a": page(('model="m"', 50), started=100.0)}) == 50
    assert counted.look({"a": page(('model="m"', value), started=160.0)}) is None
    assert counted.look({"a": page(('model="m"', value + 1), started=160.0)}) == 50 + value + 1


def test_a_counter_that_falls_began_anew_also_where_the_process_tells_no_start() -> None:
    counted = count()
    counted.look({"a": page(('model="m"', 50))})
    assert counted.look({"a": page(('model="m"', 3))}) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (page(('model="other"', 1)), "no series of requests_total counts requests of this pool"),
        ('requests_total{model="m"} 5 1700000000000', "times of its own"),
        ('requests_total{model="m"} -1', "impossible value"),
        ('requests_total{model="m"} NaN', "impossible value"),
        ('requests_total{model="m', "malformed line"),
        ("", "no series"),
    ],
)
def test_what_does_not_count_is_an_error_that_says_why(text: str, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        count().look({"a": text})


def test_a_look_that_failed_loses_nothing() -> None:
    counted = count()
    assert counted.look({"a": page(('model="m"', 50))}) == 50
    with pytest.raises(CodecError):
        counted.look({"a": page(('model="m"', 55)), "b": 'requests_total{model="m"} x'})
    assert counted.look({"a": page(('model="m"', 60))}) == 60


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 4), min_size=1), min_size=2, max_size=12))
def test_between_two_counts_that_are_told_no_request_is_missed(steps: list[dict[str, int]]) -> None:
    """Each step says which routers there are and how many requests came to each; one that is away has ended."""
    counted, values = count(), dict.fromkeys("", 0)
    told: int | None = None
    came = 0
    for step in steps:
        values = {name: values.get(name, 0) + more for name, more in step.items()}
        came += sum(step.values())
        found = counted.look({name: page(('model="m"', value)) for name, value in values.items()})
        if found is not None and told is not None:
            assert found - told == came
        if found is not None:
            told, came = found, 0
        else:
            told, came = None, 0
