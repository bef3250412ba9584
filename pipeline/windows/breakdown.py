"""A window by the values of one dimension, bounded: the heaviest by name, the rest as one.

Which values are named depends on the window's sums alone, not on how they came about, so live, restart and replay
agree. However many values there are, at most ``MAX_NAMED`` are named.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from pipeline.windows.types import REST, Breakdown, ClosedWindow, Part

__all__ = ["MAX_NAMED", "PART_MEASURES", "RANKS", "breakdown", "value_of"]

#: The measures of a part, in the order of its fields.
PART_MEASURES = ("requests", "input_tokens", "cached_input_tokens", "output_tokens")

#: How many of the heaviest are named by which measure. A value with more than 1/17 of the requests, or more than 1/9 of
#: the tokens, is always among them.
RANKS = {"requests": 16, "input_tokens": 8, "output_tokens": 8}

#: Most values that a breakdown names.
MAX_NAMED = sum(RANKS.values())


def value_of(dims: str, dimension: str) -> str:
    """Return the value of a dimension in the text of a window key; empty where events did not tell it.

    >>> value_of("tenant=acme|region=eu", "region")
    'eu'
    """
    for part in dims.split("|"):
        name, _, value = part.partition("=")
        if name == dimension:
            return value
    return ""


def breakdown(
    dimension: str, by_value: Mapping[str, Sequence[int]], window: ClosedWindow, values: int | None = None
) -> Breakdown:
    """Return a window by the values of a dimension.

    Args:
        dimension: its name.
        by_value: sums in the order of ``PART_MEASURES`` by value; those that cannot be among the heaviest may be left
            out. What it does not hold (values left out, requests without a value) is in the rest.
        window: the window, for its sums.
        values: how many values there are; None: those in ``by_value``.
    """
    named: set[str] = set()
    for measure, limit in RANKS.items():
        at = PART_MEASURES.index(measure)
        heaviest = heapq.nsmallest(limit, ((-sums[at], value) for value, sums in by_value.items()))
        named.update(value for _, value in heaviest)
    ordered = sorted(named, key=lambda value: (-by_value[value][0], value))
    rest = [
        getattr(window, measure) - sum(by_value[value][at] for value in ordered)
        for at, measure in enumerate(PART_MEASURES)
    ]
    parts = [Part(_shown(value), *by_value[value]) for value in ordered]
    if any(rest):
        parts.append(Part(REST, *rest))
    return Breakdown(dimension, len(by_value) if values is None else values, tuple(parts))


def _shown(value: str) -> str:
    """A value that is called like the rest is written as keys write such characters."""
    return f"%{ord(REST):x};" if value == REST else value
