"""How many GPUs to commit to, when what is not committed is bought by the hour.

The newsvendor's rule over sampled demand: one more committed GPU is worth what it saves, the price on demand (or of
spot) in the hours in which it is used, and is taken while that exceeds its own price. With one option and no spot the
answer is the 1 − p/p_on_demand quantile of the GPUs needed over hours and paths (Arrow, Harris and Marschak 1951,
"Optimal inventory policy"). The worth falls with the number of GPUs, so several options are filled cheapest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sizing.catalog import Price
from sizing.errors import InvalidInput

__all__ = ["Commitment", "CommitmentOption", "HourlyPrices", "SpendByPath", "best_commitments", "spend"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CommitmentOption:
    """GPUs that are paid for every hour, used or not.

    ``price`` is per GPU and hour; of a purchase, what it comes to over its lifetime. ``term_weeks`` is how long it
    binds, ``most_gpus`` how many there are (None: any number).
    """

    name: str
    gpu: str
    kind: str
    price: Price
    term_weeks: float
    most_gpus: int | None = None


@dataclass(frozen=True, slots=True)
class HourlyPrices:
    """What is bought by the hour: on demand, and on spot for at most ``spot_share`` of the GPUs needed in an hour."""

    on_demand: Price
    spot: Price | None = None
    spot_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.spot_share <= 1:
            raise InvalidInput(f"the share of spot must be in [0, 1], not {self.spot_share!r}")


@dataclass(frozen=True, slots=True)
class Commitment:
    """So many GPUs of an option; ``worth_dollars_per_hour`` is what the last of them saves, at least its price."""

    option: CommitmentOption
    gpus: int
    worth_dollars_per_hour: float | None


@dataclass(frozen=True, slots=True)
class SpendByPath:
    """Dollars over the hours of each path: committed, on demand, on spot; and how much of what is committed is used."""

    committed: Floats
    on_demand: Floats
    spot: Floats
    committed_used_share: float | None

    @property
    def total(self) -> Floats:
        """All dollars by path."""
        return self.committed + self.on_demand + self.spot


def best_commitments(needed: Ints, hourly: HourlyPrices, options: Sequence[CommitmentOption]) -> tuple[Commitment, ...]:
    """Return how many GPUs of each option cost the least in expectation, in the order of ``options``.

    Args:
        needed: GPUs needed, by path and hour.
        hourly: what everything else costs.
        options: what can be committed to, of one GPU type.

    >>> from sizing.catalog import Price
    >>> year = CommitmentOption("year", "h100", "reserved", Price(2.0, "given", "2026-11"), 52.0)
    >>> hours = np.array([[1, 1, 2, 4]])
    >>> best_commitments(hours, HourlyPrices(Price(4.0, "given", "2026-11")), [year])[0].gpus  # needed half the time
    2
    """
    worth = _Worth(needed, hourly)
    gpus = dict.fromkeys(range(len(options)), 0)
    last: dict[int, float] = {}
    total = 0
    for index in sorted(gpus, key=lambda i: (options[i].price.dollars_per_gpu_hour, i)):
        option = options[index]
        most = worth.most if option.most_gpus is None else total + option.most_gpus
        while total < min(most, worth.most) and worth.of_next(total) >= option.price.dollars_per_gpu_hour:
            last[index] = worth.of_next(total)
            gpus[index] += 1
            total += 1
    return tuple(Commitment(option, gpus[i], last.get(i)) for i, option in enumerate(options))


def spend(needed: Ints, hourly: HourlyPrices, commitments: Sequence[Commitment]) -> SpendByPath:
    """Return what each path costs with commitments.

    >>> from sizing.catalog import Price
    >>> spend(np.array([[1, 3]]), HourlyPrices(Price(4.0, "given", "2026-11")), []).total
    array([16.])
    """
    hours = needed.shape[1]
    held = sum(commitment.gpus for commitment in commitments)
    per_hour = sum(c.gpus * c.option.price.dollars_per_gpu_hour for c in commitments)
    beyond = np.maximum(needed - held, 0)
    on_spot = np.zeros_like(beyond)
    if hourly.spot is not None:
        on_spot = np.minimum(beyond, np.floor(needed * hourly.spot_share).astype(np.int64))
    return SpendByPath(
        committed=np.full(len(needed), per_hour * hours),
        on_demand=np.asarray((beyond - on_spot).sum(axis=1) * hourly.on_demand.dollars_per_gpu_hour),
        spot=np.asarray(on_spot.sum(axis=1) * (0.0 if hourly.spot is None else hourly.spot.dollars_per_gpu_hour)),
        committed_used_share=float(np.minimum(needed, held).mean() / held) if held else None,
    )


class _Worth:
    """What one more committed GPU saves per hour, in expectation."""

    def __init__(self, needed: Ints, hourly: HourlyPrices) -> None:
        self._hourly = hourly
        flat = needed.ravel()
        self._needed = np.sort(flat)
        on_spot = np.zeros_like(flat) if hourly.spot is None else np.floor(flat * hourly.spot_share).astype(np.int64)
        self._dear = np.sort(flat - on_spot)  # GPUs up to which one more replaces one on demand
        self.most = int(self._needed[-1]) if flat.size else 0

    def of_next(self, held: int) -> float:
        size = self._needed.size
        used = 1.0 - np.searchsorted(self._needed, held, side="right") / size
        dear = 1.0 - np.searchsorted(self._dear, held, side="right") / size
        spot = 0.0 if self._hourly.spot is None else self._hourly.spot.dollars_per_gpu_hour
        return float(dear * self._hourly.on_demand.dollars_per_gpu_hour + (used - dear) * spot)
