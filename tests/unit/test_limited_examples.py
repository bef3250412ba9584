from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.limited_examples import limit_examples


def test_a_property_tries_no_more_examples_than_it_is_left_and_no_fewer_than_it_wants() -> None:
    tried: list[int] = []

    def tries(wanted: int, most: int) -> int:
        @settings(max_examples=wanted, deadline=None)
        @given(st.integers())
        def any_property(value: int) -> None:
            tried.append(value)

        limit_examples(any_property, most)
        tried.clear()
        any_property()
        return len(tried)

    assert tries(wanted=90, most=7) == 7
    assert tries(wanted=7, most=90) == 7


def test_what_is_no_property_is_left_alone() -> None:
    limit_examples(None, 3)
    limit_examples(len, 3)
