"""The nouns of fleet planning: the pools that want capacity, the stock it can come from, and what a plan says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sizing.catalog import Price
from sizing.errors import InvalidInput
from sizing.planning.demand_needs import demand_quantile
from sizing.replica.speculative_step import Drafting
from sizing.types import CHECKPOINT_PRECISION, Confidence, Slo, Workload

__all__ = [
    "MOST_GPUS",
    "Candidate",
    "CapacityType",
    "Fleet",
    "FleetPool",
    "Mix",
    "MixKey",
    "Stock",
]

#: The largest count of one line of stock: integers of the solver stay exact far below 2**53.
MOST_GPUS = 1_000_000


class CapacityType(StrEnum):
    """How capacity is bought. Reserved is paid for whether it is used or not; spot can be taken away."""

    ON_DEMAND = "on_demand"
    RESERVED = "reserved"
    SPOT = "spot"


@dataclass(frozen=True, slots=True)
class Stock:
    """``count`` GPUs of one type that can be had in one way, each at ``price``. ``region`` None: not told.

    Raises:
        InvalidInput: a count outside [0, 1e6], a price that is not positive and finite.
    """

    name: str
    gpu: str
    capacity_type: CapacityType
    count: int
    price: Price
    region: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.count <= MOST_GPUS:
            raise InvalidInput(f"stock {self.name!r}: count must be from 0 to {MOST_GPUS:,}, not {self.count!r}")
        if not 0 < self.price.dollars_per_gpu_hour < 1e6:
            raise InvalidInput(
                f"stock {self.name!r}: dollars_per_gpu_hour must be above 0 and below 1e6, "
                f"not {self.price.dollars_per_gpu_hour!r}"
            )

    @property
    def committed_dollars_per_hour(self) -> float:
        """What is paid for it whatever is used: all of it where it is reserved, else nothing."""
        if self.capacity_type is CapacityType.RESERVED:
            return self.count * self.price.dollars_per_gpu_hour
        return 0.0

    @property
    def dollars_per_used_gpu_hour(self) -> float:
        """What using one GPU of it adds to the bill."""
        return 0.0 if self.capacity_type is CapacityType.RESERVED else self.price.dollars_per_gpu_hour


@dataclass(frozen=True, slots=True)
class FleetPool:
    """One pool: a model, its demand in requests per second at ascending quantile ``levels``, and its objective.

    ``priority`` 1 is served first. ``gpus`` and ``regions`` empty: any. ``tensor_parallel`` lists the sizes to try.
    ``precisions`` are other precisions of the weights that may be chosen, ``drafting`` speculative decoding that may.
    ``max_spot_share`` of the demand may be carried by spot capacity. ``under_to_over_cost`` is the cost of one unit of
    capacity too few over one too many, as in ``PolicyConfig``; it prices unserved demand in scenarios.

    Raises:
        InvalidInput: quantiles, shares or costs that cannot be.
    """

    name: str
    model: str
    levels: tuple[float, ...]
    requests_per_second: tuple[float, ...]
    workload: Workload
    slo: Slo = field(default_factory=Slo)
    priority: int = 1
    gpus: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    tensor_parallel: tuple[int, ...] = (1, 2, 4, 8)
    precision: str = CHECKPOINT_PRECISION
    kv_precision: str | None = None
    engine: str = "vllm"
    engine_version: str | None = None
    dispersion: float = 1.0
    max_spot_share: float = 0.0
    under_to_over_cost: float = 9.0
    precisions: tuple[str, ...] = ()
    drafting: Drafting | None = None

    def __post_init__(self) -> None:
        try:
            demand_quantile(self.levels, self.requests_per_second, 0.5)
        except InvalidInput as error:
            raise InvalidInput(f"pool {self.name!r}: {error}") from error
        if max(self.requests_per_second) >= 1e9:
            raise InvalidInput(f"pool {self.name!r}: requests_per_second must be below 1e9")
        if not 0 <= self.max_spot_share <= 1:
            raise InvalidInput(f"pool {self.name!r}: max_spot_share must be from 0 to 1, not {self.max_spot_share!r}")
        if not 0 < self.under_to_over_cost < 1e6:
            raise InvalidInput(
                f"pool {self.name!r}: under_to_over_cost must be above 0 and below 1e6, not {self.under_to_over_cost!r}"
            )
        if not self.tensor_parallel or min(self.tensor_parallel) < 1:
            raise InvalidInput(f"pool {self.name!r}: tensor_parallel must list sizes of at least 1")

    def demand_at(self, level: float) -> float:
        """Return the demand quantile at ``level``, requests per second."""
        return demand_quantile(self.levels, self.requests_per_second, level)

    def may_use(self, line: Stock) -> bool:
        """Whether a line of stock may serve it, by region and by how it is bought."""
        if line.capacity_type is CapacityType.SPOT and self.max_spot_share <= 0:
            return False
        return not self.regions or line.region in self.regions


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve a pool: replicas of ``gpus`` GPUs from one line of stock.

    Each replica carries ``requests_per_second`` within the pool's SLO. ``precision`` and ``drafting`` are what was
    chosen of those that the pool may have; None: the pool's own precision, a token per step. ``caveats`` say what that
    leaves out.
    """

    pool: str
    stock: str
    gpu: str
    tensor_parallel: int
    gpus: int
    requests_per_second: float
    confidence: Confidence = Confidence.INTERPOLATED
    precision: str | None = None
    drafting: Drafting | None = None
    caveats: tuple[str, ...] = ()

    @property
    def key(self) -> MixKey:
        """What names it in a mix."""
        return self.pool, self.stock, self.tensor_parallel


#: Pool, stock, tensor parallelism.
MixKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Pools over stock.

    ``budget_dollars_per_hour`` None: no limit; it holds for everything, commitments included. ``current`` is what runs
    now, replicas by key; each replica started or stopped costs ``change_dollars``, spread over the ``hold_hours`` that
    a plan is kept for.

    Raises:
        InvalidInput: names that repeat or are unknown, a budget below the commitments, a cost that cannot be.
    """

    pools: tuple[FleetPool, ...]
    stock: tuple[Stock, ...]
    budget_dollars_per_hour: float | None = None
    current: Mapping[MixKey, int] = field(default_factory=dict)
    change_dollars: float = 0.0
    hold_hours: float = 24.0

    def __post_init__(self) -> None:
        for what, names in (("pool", [p.name for p in self.pools]), ("stock", [s.name for s in self.stock])):
            if not names:
                raise InvalidInput(f"a fleet needs at least one {what}")
            repeated = Counter(names).most_common(1)[0]
            if repeated[1] > 1:
                raise InvalidInput(f"{what} {repeated[0]!r} is named twice")
        if not 0 <= self.change_dollars < 1e9:
            raise InvalidInput(f"change_dollars must be at least 0 and below 1e9, not {self.change_dollars!r}")
        if not 0 < self.hold_hours < math.inf:
            raise InvalidInput(f"hold_hours must be positive, not {self.hold_hours!r}")
        self._check_budget()
        for key, replicas in self.current.items():
            self.check_current(key, replicas)

    def check_current(self, key: MixKey, replicas: int) -> None:
        """Refuse an entry of the current mix that cannot be.

        Raises:
            InvalidInput: an unknown pool or line of stock, numbers that cannot be.
        """
        pool, line, size = key
        if not any(p.name == pool for p in self.pools) or not any(s.name == line for s in self.stock):
            raise InvalidInput(f"the current mix names pool {pool!r} on stock {line!r}, which the fleet does not have")
        if not 0 <= replicas <= MOST_GPUS or size < 1:
            raise InvalidInput(f"the current mix cannot have {replicas!r} replicas of {size!r} GPUs")

    def _check_budget(self) -> None:
        budget = self.budget_dollars_per_hour
        if budget is None:
            return
        if not 0 <= budget < math.inf:
            raise InvalidInput(f"budget_dollars_per_hour must be at least 0 and finite, not {budget!r}")
        if budget < self.committed_dollars_per_hour:
            raise InvalidInput(
                f"budget_dollars_per_hour ({budget:g}) must not be below the cost of the reserved stock "
                f"({self.committed_dollars_per_hour:g})"
            )

    @property
    def committed_dollars_per_hour(self) -> float:
        """What the reserved stock costs, used or not."""
        return sum(line.committed_dollars_per_hour for line in self.stock)

    @property
    def change_dollars_per_hour(self) -> float:
        """What one change adds to the hourly cost of a plan."""
        return self.change_dollars / self.hold_hours


@dataclass(frozen=True, slots=True)
class Mix:
    """Replicas by candidate (those above 0), and what they do.

    ``short`` is the share of each pool's demand that is not carried, 0 where all is. ``dollars_per_hour`` includes the
    reserved stock, used or not. ``changes`` are replicas started or stopped against the current mix. A better mix, if
    there is one, is better by ``optimality_gap`` at most, as a share of what was minimised (infinite: not known).
    """

    replicas: tuple[tuple[Candidate, int], ...]
    demand_requests_per_second: Mapping[str, float]
    short: Mapping[str, float]
    dollars_per_hour: float
    changes: int
    optimality_gap: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every pool's demand is carried within its SLO."""
        return not any(self.short.values())
