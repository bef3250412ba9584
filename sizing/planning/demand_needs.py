"""What a demand needs, one currency at a time: a quantile of the demand over what one replica carries of it.

Also how both numbers are written, so that a reader who divides them gets the replicas that the text names.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

from sizing.errors import InvalidInput
from sizing.planning.operating_point import OperatingPoint
from sizing.replica.replica_model import MAX_UTILISATION
from sizing.types import Demand, Provision

__all__ = [
    "MOST_REPLICAS",
    "OBSERVED_REQUESTS",
    "Need",
    "demand_needs",
    "demand_quantile",
    "most_needed_at",
    "provision_needs",
    "replicas_text",
    "whole",
]

#: Needs are counted up to here.
MOST_REPLICAS = 10**9
#: Name of the need by requests of the newest window, which competes with those by the forecast.
OBSERVED_REQUESTS = "observed_requests"
#: A need that exceeds a whole number by less is that number: it comes from rounding errors.
_TOLERANCE = 1e-6
_UNITS = {
    "requests": "req/s",
    OBSERVED_REQUESTS: "req/s",
    "prefill_tokens": "uncached input tokens/s",
    "decode_tokens": "output tokens/s",
    "kv_tokens": "resident KV tokens",
}
#: Significant digits that a number is written with: the fewest that do, and all that a float has.
_DIGITS = range(3, 18)


@dataclass(frozen=True, slots=True)
class Need:
    """``demand`` (a quantile) of one currency and the ``capacity`` of one replica for it, both in ``unit``."""

    currency: str
    demand: float
    capacity: float

    @property
    def unit(self) -> str:
        """The unit of demand and capacity, in words."""
        return _UNITS[self.currency]

    @property
    def exact(self) -> float:
        """Replicas, not rounded; infinite when one replica carries nothing."""
        return self.demand / self.capacity if self.capacity > 0 else math.inf

    @property
    def replicas(self) -> int:
        """Replicas, rounded up."""
        return whole(self.exact)

    def figures(self) -> tuple[str, str]:
        """Return demand and capacity as text, without the unit.

        Both have the fewest significant digits, three at least, whose ratio rounds up to ``replicas``; needs beyond
        ``MOST_REPLICAS`` are no ratios, and have three.
        """
        for digits in _DIGITS:
            demand, capacity = _figure(self.demand, digits), _figure(self.capacity, digits)
            printed = Need(self.currency, _value(demand), _value(capacity))
            if printed.replicas == self.replicas or self.exact >= MOST_REPLICAS:
                break
        return demand, capacity


def demand_quantile(levels: tuple[float, ...], values: tuple[float, ...], level: float) -> float:
    """Return the quantile at ``level``, linear between the given ones and flat beyond them.

    Raises:
        InvalidInput: no or unequal numbers of levels and values, levels not ascending in (0, 1), a value that is
            negative or not finite.
    """
    return _at(levels, _ascending(levels, values), level)


@lru_cache(maxsize=64)
def _are_levels(levels: tuple[float, ...]) -> bool:
    return levels[0] > 0 and levels[-1] < 1 and all(below < above for below, above in pairwise(levels))


def _ascending(levels: tuple[float, ...], values: tuple[float, ...]) -> list[float]:
    """Return checked quantiles, none below the one before; see ``demand_quantile``."""
    if not levels or len(levels) != len(values):
        raise InvalidInput(f"{len(levels)} quantile levels with {len(values)} values")
    if not _are_levels(levels):
        raise InvalidInput("quantile levels must ascend within (0, 1)")
    # A sum that is finite has no term that is not.
    if not (min(values) >= 0 and sum(values) < math.inf) and not all(0 <= value < math.inf for value in values):
        raise InvalidInput("demand must be finite and not negative")
    return list(accumulate(values, max))


def _at(levels: tuple[float, ...], quantiles: list[float], level: float) -> float:
    right = bisect_right(levels, level)
    if right == 0 or right == len(levels):
        return float(quantiles[max(right - 1, 0)])
    slope = (quantiles[right] - quantiles[right - 1]) / (levels[right] - levels[right - 1])
    return float(slope * (level - levels[right - 1]) + quantiles[right - 1])


def demand_needs(demand: Demand, level: float, point: OperatingPoint) -> tuple[Need, ...]:
    """Return what each known currency of a demand needs at quantile ``level``, requests first.

    Raises:
        InvalidInput: the demand is invalid (NaN, negative, unordered levels).
    """
    levels = demand.levels
    return tuple(
        [
            Need(name, _at(levels, quantiles, level), capacity)
            for name, quantiles, capacity in _currencies(demand, point)
        ]
    )


def most_needed_at(demand: Demand, wanted: Sequence[float], point: OperatingPoint) -> list[float]:
    """Return the replicas, not rounded, that the greatest of ``demand_needs`` comes to at every quantile ``wanted``.

    Raises:
        InvalidInput: the demand is invalid (NaN, negative, unordered levels).
    """
    levels, currencies = demand.levels, _currencies(demand, point)
    return [
        max(
            [
                _at(levels, quantiles, level) / capacity if capacity > 0 else math.inf
                for _, quantiles, capacity in currencies
            ]
        )
        for level in wanted
    ]


def _currencies(demand: Demand, point: OperatingPoint) -> list[tuple[str, list[float], float]]:
    """Return name, quantiles and what a replica carries of every currency that is known."""
    levels = demand.levels
    return [
        (name, _ascending(levels, values), capacity)
        for name, values, capacity in (
            ("requests", demand.requests_per_second, point.requests_per_second),
            ("prefill_tokens", demand.prefill_tokens_per_second, point.prefill_tokens_per_second),
            ("decode_tokens", demand.decode_tokens_per_second, point.decode_tokens_per_second),
            ("kv_tokens", demand.kv_tokens, point.kv_capacity_tokens * MAX_UTILISATION),
        )
        if values is not None
    ]


def provision_needs(provision: Provision, point: OperatingPoint) -> tuple[Need, ...]:
    """Return what each currency of a demand to provision for needs, requests first.

    Raises:
        InvalidInput: the demand is negative or not finite.
    """
    needs = (
        Need("requests", provision.requests_per_second, point.requests_per_second),
        Need("prefill_tokens", provision.prefill_tokens_per_second, point.prefill_tokens_per_second),
        Need("decode_tokens", provision.decode_tokens_per_second, point.decode_tokens_per_second),
        Need("kv_tokens", provision.kv_tokens, point.kv_capacity_tokens * MAX_UTILISATION),
    )
    if not all(0 <= need.demand < math.inf for need in needs):
        raise InvalidInput("demand must be finite and not negative")
    return needs


def whole(replicas: float) -> int:
    """Round a need up; a need of 3.0000001 from rounding errors is 3."""
    return math.ceil(replicas - _TOLERANCE) if replicas < MOST_REPLICAS else MOST_REPLICAS


def replicas_text(count: int) -> str:
    """Return the count with its noun."""
    return f"{count:,} replica{'' if count == 1 else 's'}"


def _figure(value: float, digits: int) -> str:
    """Write a number with so many significant digits, thousands apart; very small and very large ones as powers."""
    if value == 0:
        return "0"
    if not 1e-4 <= value < 1e15:
        return f"{value:.{digits}g}"
    decimals = digits - 1 - math.floor(math.log10(value))
    if decimals <= 0:
        return f"{round(value, decimals):,.0f}"
    return f"{value:,.{decimals}f}".rstrip("0").rstrip(".")


def _value(figure: str) -> float:
    return float(figure.replace(",", ""))
