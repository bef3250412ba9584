"""What the GPUs of each pool cost, and which API it is compared with: the user's file over the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.config.located_toml import Section, read_located
from pipeline.config.price_sections import ApiSection, GpuPriceSection, Name, api_prices, named_api
from pipeline.config.settings import Settings
from pipeline.windows.types import PoolKey
from sizing.catalog import Catalog, Price
from sizing.economics import ApiPrice
from sizing.errors import InvalidInput

__all__ = ["PoolPrice", "pool_prices"]


class _Gpu(GpuPriceSection):
    gpu: Name


class _Pool(GpuPriceSection):
    model: Name
    pool: Name = "default"
    api: Name | None = None


class _File(Section):
    gpus: Annotated[list[_Gpu], Field(max_length=1000, default_factory=list)]
    pools: Annotated[list[_Pool], Field(max_length=10_000, default_factory=list)]
    apis: Annotated[list[ApiSection], Field(max_length=1000, default_factory=list)]


@dataclass(frozen=True, slots=True)
class PoolPrice:
    """What one GPU of a pool costs (None: not known), and the API that it is compared with (None: none)."""

    gpu: Price | None = None
    api_name: str | None = None
    api: ApiPrice | None = None


def pool_prices(settings: Settings, catalog: Catalog) -> dict[PoolKey, PoolPrice]:
    """Return the prices of the configured pools.

    The price of a GPU is that of the pool in the file, else that of its GPU there, else the catalogue's on demand.

    Raises:
        InputError: the file cannot be read or understood, or names a GPU, a pool or an API that there is not; the text
            names the file and the line.
    """
    found = {PoolKey(p.model, p.pool): PoolPrice(catalog.gpu(p.accelerator).price) for p in settings.pools}
    if settings.money.prices is None:
        return found
    file = read_located(Path(settings.money.prices), _File)
    content = file.content
    file.check_once("apis", "name", [entry.name for entry in content.apis])
    gpus: dict[str, Price] = {}
    for number, gpu in enumerate(content.gpus):
        with file.at("gpus", number, "gpu"):
            gpus[catalog.gpu(gpu.gpu).name] = gpu.own_price()
    file.check_once("gpus", "gpu", [catalog.gpu(entry.gpu).name for entry in content.gpus])
    for pool in settings.pools:
        own = gpus.get(catalog.gpu(pool.accelerator).name)
        if own is not None:
            found[PoolKey(pool.model, pool.pool)] = PoolPrice(own)
    file.check_once("pools", "model", [(entry.model, entry.pool) for entry in content.pools])
    apis = api_prices(content.apis)
    for number, entry in enumerate(content.pools):
        key = PoolKey(entry.model, entry.pool)
        with file.at("pools", number, "api"):
            api = None if entry.api is None else named_api(entry.api, apis)
        with file.at("pools", number):
            if key not in settings.pool_names():
                raise InvalidInput(f"{entry.model}/{entry.pool} is not one of the [[pools]] of the settings")
            price = None if entry.dollars_per_gpu_hour is None else entry.own_price()
        if key in found:  # else it belongs to another shard
            found[key] = PoolPrice(price or found[key].gpu, entry.api, api)
    return found
