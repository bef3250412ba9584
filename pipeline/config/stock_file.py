"""The stock that the configured pools share: lines of GPUs, a budget, and what each pool may use, as TOML.

Every refusal names the file and the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.config.located_toml import Section, read_located
from pipeline.config.price_sections import Name
from pipeline.config.settings import Settings
from pipeline.config.stock_section import StockSection, stock_line
from pipeline.errors import InputError
from pipeline.windows.types import PoolKey
from sizing.catalog import Catalog
from sizing.errors import InvalidInput
from sizing.planning.fleet_types import Stock

__all__ = ["PoolTerms", "SharedStock", "shared_stock"]

#: Pools that are planned together at most: an answer takes seconds of a processor with so many.
_MOST_POOLS = 200


class _Pool(Section):
    model: Name
    pool: Name = "default"
    priority: Annotated[int, Field(ge=1, le=1000)] = 1
    gpus: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    regions: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    tensor_parallel: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(strict=False, max_length=16)] = (
        1,
        2,
        4,
        8,
    )
    max_spot_share: Annotated[float, Field(ge=0, le=1)] = 0.0


class _File(Section):
    budget_dollars_per_hour: Annotated[float, Field(ge=0, lt=1e12)] | None = None
    change_dollars: Annotated[float, Field(ge=0, lt=1e9)] | None = None
    hold_hours: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    stock: Annotated[list[StockSection], Field(min_length=1, max_length=100)]
    pools: Annotated[list[_Pool], Field(max_length=1000, default_factory=list)]


@dataclass(frozen=True, slots=True)
class PoolTerms:
    """What may serve a pool, as in ``sizing.planning.fleet_types.FleetPool``."""

    priority: int = 1
    gpus: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    tensor_parallel: tuple[int, ...] = (1, 2, 4, 8)
    max_spot_share: float = 0.0


@dataclass(frozen=True, slots=True)
class SharedStock:
    """The stock of the configured pools. ``change_dollars`` and ``hold_hours`` as in a ``Fleet``."""

    stock: tuple[Stock, ...]
    budget_dollars_per_hour: float | None
    change_dollars: float
    hold_hours: float
    pools: Mapping[PoolKey, PoolTerms]


def shared_stock(settings: Settings, catalog: Catalog) -> SharedStock | None:
    """Return what the file ``fleet.stock`` says; None where it is not set.

    Without ``change_dollars`` a change costs what the dearest replica costs while it starts: the GPUs and the lead time
    of the pools' own shapes at the dearest price of the stock.

    Raises:
        InputError: the file cannot be read or understood, or names a GPU or a pool that there is not; the text names
            the file and the line.
    """
    if settings.fleet.stock is None:
        return None
    file = read_located(Path(settings.fleet.stock), _File)
    content = file.content
    if len(settings.pools) > _MOST_POOLS:
        raise InputError(f"{file.path}: {len(settings.pools)} pools share the stock; at most {_MOST_POOLS} may")
    lines = []
    for number, entry in enumerate(content.stock):
        with file.at("stock", number):
            lines.append(stock_line(entry, catalog))
    file.check_once("stock", "name", [line.name for line in lines])
    file.check_once("pools", "model", [(entry.model, entry.pool) for entry in content.pools])
    committed = sum(line.committed_dollars_per_hour for line in lines)
    budget = content.budget_dollars_per_hour
    with file.at("", 0, "budget_dollars_per_hour"):
        if budget is not None and budget < committed:
            raise InvalidInput(
                f"budget_dollars_per_hour ({budget:g}) must not be below the cost of the reserved stock ({committed:g})"
            )
    terms = {PoolKey(pool.model, pool.pool): PoolTerms() for pool in settings.pools}
    for number, told in enumerate(content.pools):
        key = PoolKey(told.model, told.pool)
        with file.at("pools", number):
            if key not in terms:
                raise InvalidInput(f"{told.model}/{told.pool} is not one of the [[pools]] of the settings")
            gpus = tuple(catalog.gpu(gpu).name for gpu in told.gpus)
        terms[key] = PoolTerms(told.priority, gpus, told.regions, told.tensor_parallel, told.max_spot_share)
    change = content.change_dollars
    if change is None:
        hours = max((p.deployment().gpus * p.lead_time_seconds / 3600 for p in settings.pools), default=0.0)
        change = hours * max(line.price.dollars_per_gpu_hour for line in lines)
    return SharedStock(tuple(lines), budget, change, content.hold_hours, terms)
