"""What the requests of a trace are like: lengths, reasoning, prefix-cache reuse, dimensions, week and day.

Every share carries the interval that its variation over time shows (``sizing.block_bootstrap``). Nothing here says
anything about the quality of answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sizing.block_bootstrap import Blocks, Estimate
from sizing.errors import InvalidInput

__all__ = [
    "INPUT_BOUNDS",
    "OUTPUT_BOUNDS",
    "DemandShape",
    "DimensionValue",
    "HourShape",
    "LengthShare",
    "RequestColumns",
    "demand_shape",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Tokens up to which requests are counted as short.
INPUT_BOUNDS = (128, 256, 512, 1024, 2048, 4096, 8192, 32_768)
OUTPUT_BOUNDS = (32, 64, 128, 256, 512, 1024, 2048, 8192)
_DAY_SECONDS, _HOUR_SECONDS = 86_400, 3_600
#: The first day of the epoch was a Thursday; weekdays count from Monday.
_EPOCH_WEEKDAY = 3
#: Values of a dimension that are told apart; the rest is "*".
MOST_VALUES = 12
REST = "*"


@dataclass(frozen=True, slots=True)
class RequestColumns:
    """Requests in order of arrival, one array for each column; None: the trace does not tell.

    NaN in ``cached_tokens`` or ``reasoning_tokens``: not told of this request. ``dimensions`` hold the values of each
    request by name.
    """

    at_seconds: Floats
    input_tokens: Floats
    output_tokens: Floats
    cached_tokens: Floats | None = None
    reasoning_tokens: Floats | None = None
    dimensions: Mapping[str, NDArray[np.str_]] | None = None


@dataclass(frozen=True, slots=True)
class LengthShare:
    """Of requests with at most ``tokens``: their share of all requests, and of all input and output tokens."""

    tokens: int
    requests: Estimate
    input_tokens: Estimate
    output_tokens: Estimate


@dataclass(frozen=True, slots=True)
class DimensionValue:
    """One value of a dimension: its share of requests and of tokens, mean lengths, and its share of cached input."""

    value: str
    requests: Estimate
    tokens: Estimate
    mean_input_tokens: float
    mean_output_tokens: float
    cached_share: Estimate | None


@dataclass(frozen=True, slots=True)
class HourShape:
    """Requests per second by weekday (Monday first) and by UTC hour, over the mean of all hours; None: not seen.

    ``below_half_of_p95_share`` is the share of hours with less than half of the demand of the 95 % hour.
    """

    weekdays: tuple[float | None, ...]
    hours: tuple[float | None, ...]
    peak_to_mean: float
    p95_to_mean: float
    below_half_of_p95_share: float


@dataclass(frozen=True, slots=True)
class DemandShape:
    """The shape of a trace. ``block_seconds`` is what intervals were drawn by, ``blocks`` how many there are.

    ``cached_share`` is of input tokens, ``reused_share`` of requests with any cached token, ``reasoning_share`` of
    output tokens; each of the requests that tell it (``…_told_share``).
    """

    requests: int
    seconds: float
    block_seconds: int
    blocks: int
    mean_input_tokens: Estimate
    mean_output_tokens: Estimate
    by_input: tuple[LengthShare, ...]
    by_output: tuple[LengthShare, ...]
    cached_told_share: float
    cached_share: Estimate | None
    reused_share: Estimate | None
    reasoning_told_share: float
    reasoning_share: Estimate | None
    dimensions: Mapping[str, tuple[DimensionValue, ...]]
    shape: HourShape


def demand_shape(columns: RequestColumns) -> DemandShape:
    """Describe the requests of a trace.

    Raises:
        InvalidInput: there are none, or columns differ in length or are out of order.
    """
    at, given, got = columns.at_seconds, columns.input_tokens, columns.output_tokens
    if not len(at) or not len(at) == len(given) == len(got) or (np.diff(at) < 0).any():
        raise InvalidInput("requests must be in order of arrival, at least one, with lengths of each")
    blocks = Blocks(at)
    ones = np.ones(len(at))
    cached, reasoning = columns.cached_tokens, columns.reasoning_tokens
    return DemandShape(
        requests=len(at),
        seconds=float(at[-1] - at[0]),
        block_seconds=blocks.seconds,
        blocks=blocks.count,
        mean_input_tokens=_sure(blocks.ratio(blocks.sums(given), blocks.sums(ones))),
        mean_output_tokens=_sure(blocks.ratio(blocks.sums(got), blocks.sums(ones))),
        by_input=_lengths(blocks, given, INPUT_BOUNDS, given, got),
        by_output=_lengths(blocks, got, OUTPUT_BOUNDS, given, got),
        cached_told_share=_told(cached),
        cached_share=_part(blocks, cached, given),
        reused_share=None if cached is None else _part(blocks, np.where(np.isnan(cached), np.nan, cached > 0), ones),
        reasoning_told_share=_told(reasoning),
        reasoning_share=_part(blocks, reasoning, got),
        dimensions={name: _values(blocks, values, columns) for name, values in (columns.dimensions or {}).items()},
        shape=_hour_shape(at),
    )


def _sure(estimate: Estimate | None) -> Estimate:
    return Estimate(0.0, None, None) if estimate is None else estimate


def _told(values: Floats | None) -> float:
    return 0.0 if values is None else float(np.isfinite(values).mean())


def _part(blocks: Blocks, part: Floats | None, whole: Floats) -> Estimate | None:
    """Σ part / Σ whole over the requests that tell the part."""
    if part is None:
        return None
    known = np.isfinite(part)
    return blocks.ratio(blocks.sums(np.where(known, part, 0.0)), blocks.sums(np.where(known, whole, 0.0)))


def _lengths(
    blocks: Blocks, lengths: Floats, bounds: tuple[int, ...], given: Floats, got: Floats
) -> tuple[LengthShare, ...]:
    found = []
    for bound in bounds:
        short = lengths <= bound
        shares = (blocks.share(short), blocks.share(short, given), blocks.share(short, got))
        found.append(LengthShare(bound, *(_sure(share) for share in shares)))
    return tuple(found)


def _values(blocks: Blocks, values: NDArray[np.str_], columns: RequestColumns) -> tuple[DimensionValue, ...]:
    names, counts = np.unique(values, return_counts=True)
    heaviest = [str(names[i]) for i in np.lexsort((names, -counts))[:MOST_VALUES]]
    named = np.isin(values, heaviest)
    groups = [(name, values == name) for name in heaviest]
    if not named.all():
        groups.append((REST, ~named))
    tokens = columns.input_tokens + columns.output_tokens
    return tuple(
        DimensionValue(
            value=name,
            requests=_sure(blocks.share(mine)),
            tokens=_sure(blocks.share(mine, tokens)),
            mean_input_tokens=float(columns.input_tokens[mine].mean()),
            mean_output_tokens=float(columns.output_tokens[mine].mean()),
            cached_share=None
            if columns.cached_tokens is None
            else _part(blocks, np.where(mine, columns.cached_tokens, np.nan), columns.input_tokens),
        )
        for name, mine in groups
    )


def _hour_shape(at: Floats) -> HourShape:
    number = (at // _HOUR_SECONDS).astype(np.int64)
    counts = np.bincount(number - number[0]).astype(np.float64)
    if len(counts) > 2:  # the first and the last hour are not whole
        counts, first = counts[1:-1], int(number[0]) + 1
    else:
        first = int(number[0])
    hours = first + np.arange(len(counts))
    mean = float(counts.mean()) or 1.0
    p95 = float(np.quantile(counts, 0.95))
    weekday = (hours * _HOUR_SECONDS // _DAY_SECONDS + _EPOCH_WEEKDAY) % 7

    def over_mean(slots: Ints, size: int) -> tuple[float | None, ...]:
        seen = np.bincount(slots, minlength=size)
        sums = np.bincount(slots, counts, size)
        return tuple(float(sums[i] / seen[i] / mean) if seen[i] else None for i in range(size))

    return HourShape(
        weekdays=over_mean(weekday, 7),
        hours=over_mean(hours % 24, 24),
        peak_to_mean=float(counts.max()) / mean,
        p95_to_mean=p95 / mean,
        below_half_of_p95_share=float((counts < 0.5 * p95).mean()),
    )
