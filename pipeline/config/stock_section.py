"""One line of stock in the files that users write: GPUs of one type that can be had in one way."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.config.price_sections import GpuPriceSection, Name
from sizing.catalog import Catalog
from sizing.errors import InvalidInput
from sizing.planning.fleet_types import MOST_GPUS, CapacityType, Stock

__all__ = ["StockSection", "stock_line"]


class StockSection(GpuPriceSection):
    """Its name, GPU, count, how it is bought, where, and at which price."""

    name: Name
    gpu: Name
    capacity_type: Annotated[CapacityType, Field(strict=False)] = CapacityType.ON_DEMAND
    count: Annotated[int, Field(ge=0, le=MOST_GPUS)]
    region: Name | None = None


def stock_line(entry: StockSection, catalog: Catalog) -> Stock:
    """Return the stock that a section describes; on demand without a price: at the catalogue's.

    Raises:
        InvalidInput: the GPU is not known, or no price of it.
    """
    gpu = catalog.gpu(entry.gpu)
    if entry.dollars_per_gpu_hour is not None:
        price = entry.own_price()
    elif entry.capacity_type is not CapacityType.ON_DEMAND:
        raise InvalidInput(
            f"{entry.capacity_type.value} stock needs dollars_per_gpu_hour: the catalogue's is on demand"
        )
    elif gpu.price is None:
        raise InvalidInput(f"dollars_per_gpu_hour is missing: the catalogue has no price of {gpu.name}")
    else:
        price = gpu.price
    return Stock(entry.name, gpu.name, entry.capacity_type, entry.count, price, entry.region)
