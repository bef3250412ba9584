"""Windows by the values of a dimension: bounded, adding up, and the same however deltas are cut."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from pipeline.testing import closed_window
from pipeline.windows.breakdown import MAX_NAMED, PART_MEASURES, RANKS, breakdown, value_of
from pipeline.windows.rollup import rollup
from pipeline.windows.types import MEASURES, REST, Breakdown, DeltaRows, Part, WindowKey


def window(*sums):
    return replace(closed_window(0, 0), **dict(zip(PART_MEASURES, sums, strict=True)))


def total(parts):
    return tuple(sum(part[i] for part in parts) for i in range(1, 5))


@pytest.mark.parametrize(
    ("dims", "dimension", "value"),
    [
        ("tenant=acme|region=eu", "tenant", "acme"),
        ("tenant=acme|region=eu", "region", "eu"),
        ("workload=tenant", "tenant", ""),
        ("tenant=", "tenant", ""),
        ("__other__", "tenant", ""),
        ("", "tenant", ""),
    ],
)
def test_a_value_is_found_in_the_text_of_a_key(dims, dimension, value):
    assert value_of(dims, dimension) == value


def test_heaviest_first_and_the_rest_adds_up_to_the_window():
    told = breakdown("tenant", {"b": (5, 50, 5, 10), "a": (5, 10, 0, 70), "c": (9, 1, 1, 1)}, window(30, 100, 6, 81))
    assert told == Breakdown(
        "tenant", 3, (Part("c", 9, 1, 1, 1), Part("a", 5, 10, 0, 70), Part("b", 5, 50, 5, 10), Part(REST, 11, 39, 0, 0))
    )


def test_nothing_is_left_when_every_request_names_a_value():
    told = breakdown("tenant", {"a": (5, 10, 0, 7)}, window(5, 10, 0, 7))
    assert told.parts == (Part("a", 5, 10, 0, 7),)


def test_a_value_that_is_called_like_the_rest_is_not_the_rest():
    told = breakdown("tenant", {REST: (5, 10, 0, 7)}, window(6, 10, 0, 7))
    assert told.parts == (Part("%2a;", 5, 10, 0, 7), Part(REST, 1, 0, 0, 0))


def test_any_number_of_values_is_bounded_and_the_heavy_ones_of_each_measure_are_named():
    values = {f"t{number:05d}": (2, 20, 0, 4) for number in range(20_000)}
    values |= {"many": (5_000, 5, 0, 5), "long": (1, 300_000, 0, 1), "talkative": (1, 1, 0, 90_000)}
    sums = [sum(column) for column in zip(*values.values(), strict=True)]
    told = breakdown("tenant", values, window(*sums))
    names = [part.value for part in told.parts]
    assert {"many", "long", "talkative"} <= set(names)
    assert len(told.parts) <= MAX_NAMED + 1
    assert told.values == 20_003
    assert told.parts[-1].value == REST
    assert total(told.parts) == tuple(sums)
    assert names[:2] == ["many", "t00000"], "ties go by name"


def rows(cells):
    """Base rows of one request each: (window, key number, input tokens, output tokens)."""
    columns = [[0] * len(cells) for _ in MEASURES]
    for at, (_, _, inputs, outputs) in enumerate(cells):
        for name, value in (("requests", 1), ("input_tokens", inputs), ("output_tokens", outputs)):
            columns[MEASURES.index(name)][at] = value
    return DeltaRows([c[0] for c in cells], [c[1] for c in cells], columns, [0] * len(cells))


def test_how_rows_are_cut_and_ordered_does_not_matter():
    source = random.Random(1)
    keys = [WindowKey("m", "p", f"tenant=t{source.randrange(60)}|region=r{source.randrange(3)}") for _ in range(400)]
    keys.append(WindowKey("m", "p", "region=r1"))
    cells = [(source.randrange(12) * 10, source.randrange(401), source.randrange(99), 3) for _ in range(3_000)]
    whole = rollup([(keys, rows(cells))], 60, ("tenant", "region"))
    shuffled = source.sample(cells, len(cells))
    cuts = [0, *sorted(source.sample(range(1, 3_000), 9)), 3_000]
    cut = [(keys, rows(shuffled[a:b])) for a, b in pairwise(cuts)]
    assert rollup(cut, 60, ("tenant", "region")) == whole
    assert [replace(w, breakdown=()) for w in whole] == rollup(cut, 60)
    for found in whole:
        assert [told.dimension for told in found.breakdown] == ["tenant", "region"]
        for told in found.breakdown:
            assert total(told.parts) == tuple(getattr(found, name) for name in PART_MEASURES)
        assert len(found.breakdown[1].parts) == 3
        assert max(RANKS.values()) < len(found.breakdown[0].parts) <= MAX_NAMED + 1
