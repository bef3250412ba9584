"""The file that describes a fleet: pools, stock, what runs now, demand scenarios and API prices, as TOML.

Every refusal names the file and the line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from pipeline.config.catalog import catalog_from
from pipeline.config.located_toml import Located, Section, read_located
from pipeline.config.price_sections import ApiSection, Name, api_prices, named_api
from pipeline.config.stock_section import StockSection, stock_line
from sizing.catalog import Catalog
from sizing.economics import ApiPrice
from sizing.errors import InvalidInput
from sizing.planning.fleet_regret import Scenario
from sizing.planning.fleet_types import MOST_GPUS, Fleet, FleetPool
from sizing.replica.speculative_step import Drafting
from sizing.types import CHECKPOINT_PRECISION, Slo, Workload

__all__ = ["FleetFile", "read_fleet_file"]

T = TypeVar("T")
Rate = Annotated[float, Field(ge=0, lt=1e9)]
Tokens = Annotated[float, Field(ge=1, le=1e7)]


class _Pool(Section):
    name: Name
    model: Name
    demand_levels: Annotated[tuple[float, ...], Field(strict=False)] = (0.5,)
    demand_requests_per_second: Annotated[tuple[Rate, ...], Field(strict=False)]
    input_tokens: Tokens
    output_tokens: Tokens
    input_scv: Annotated[float, Field(ge=0, le=1e4)] = 0.0
    output_scv: Annotated[float, Field(ge=0, le=1e4)] = 0.0
    cached_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    ttft_seconds: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    tpot_seconds: Annotated[float, Field(gt=0, le=1e6)] = 0.05
    percentile: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    priority: Annotated[int, Field(ge=1, le=1000)] = 1
    gpus: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    regions: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    tensor_parallel: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(strict=False, max_length=16)] = (
        1,
        2,
        4,
        8,
    )
    precision: Name = CHECKPOINT_PRECISION
    kv_precision: Name | None = None
    engine: Name = "vllm"
    engine_version: Name | None = None
    dispersion: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    max_spot_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    under_to_over_cost: Annotated[float, Field(gt=0, lt=1e6)] = 9.0
    api: Name | None = None
    precisions: Annotated[tuple[Name, ...], Field(strict=False, max_length=8)] = ()
    draft_tokens: Annotated[int, Field(ge=1, le=64)] | None = None
    acceptance: Annotated[float, Field(ge=0, lt=1)] | None = None
    draft_cost: Annotated[float, Field(ge=0, le=1)] | None = None


class _Current(Section):
    pool: Name
    stock: Name
    tensor_parallel: Annotated[int, Field(ge=1, le=1024)] = 1
    replicas: Annotated[int, Field(ge=0, le=MOST_GPUS)]


class _Scenario(Section):
    weight: Annotated[float, Field(gt=0, lt=1e9)] = 1.0
    requests_per_second: dict[Name, Rate]


class _File(Section):
    budget_dollars_per_hour: Annotated[float, Field(ge=0, lt=1e12)] | None = None
    change_dollars: Annotated[float, Field(ge=0, lt=1e9)] = 0.0
    hold_hours: Annotated[float, Field(gt=0, le=1e6)] = 24.0
    pools: Annotated[list[_Pool], Field(min_length=1, max_length=1000)]
    stock: Annotated[list[StockSection], Field(min_length=1, max_length=1000)]
    current: Annotated[list[_Current], Field(max_length=10_000, default_factory=list)]
    scenarios: Annotated[list[_Scenario], Field(max_length=500, default_factory=list)]
    apis: Annotated[list[ApiSection], Field(max_length=1000, default_factory=list)]


@dataclass(frozen=True, slots=True)
class FleetFile:
    """A fleet as its file describes it.

    ``apis`` are the API prices by pool, with the day that they were read, and ``api_names`` what the file calls them.
    """

    file: Located[Any]
    fleet: Fleet
    scenarios: tuple[Scenario, ...]
    apis: dict[str, ApiPrice]
    api_names: dict[str, str]
    catalog: Catalog


def read_fleet_file(path: Path, catalog_path: Path | None = None) -> FleetFile:
    """Return the fleet that a TOML file describes.

    Raises:
        InputError: it cannot be read or understood; the text names the file and the line.
    """
    file = read_located(path, _File)
    content = file.content
    shared = catalog_from([], catalog_path)
    for number, pool in enumerate(content.pools):
        with file.at("pools", number, "model"):
            (catalog_from([pool.model], catalog_path) if pool.model.endswith(".json") else shared).checkpoint(
                pool.model
            )
        with file.at("pools", number, "gpus"):
            for gpu in pool.gpus:
                shared.gpu(gpu)
    catalog = catalog_from([pool.model for pool in content.pools], catalog_path)

    def each(table: str, entries: list[Any], make: Callable[[Any], T]) -> tuple[T, ...]:
        made = []
        for number, entry in enumerate(entries):
            with file.at(table, number):
                made.append(make(entry))
        return tuple(made)

    pools = each("pools", content.pools, _pool)
    stock = each("stock", content.stock, lambda entry: stock_line(entry, catalog))
    for table in ("pools", "stock", "apis"):
        file.check_once(table, "name", [entry.name for entry in getattr(content, table)])
    file.check_once("current", "name", [(e.pool, e.stock, e.tensor_parallel) for e in content.current])
    with file.at("", 0, "budget_dollars_per_hour"):
        fleet = Fleet(
            pools=pools,
            stock=stock,
            budget_dollars_per_hour=content.budget_dollars_per_hour,
            change_dollars=content.change_dollars,
            hold_hours=content.hold_hours,
        )
    # Entry by entry, so that the line of the one that is wrong is named.
    each("current", content.current, lambda e: fleet.check_current((e.pool, e.stock, e.tensor_parallel), e.replicas))
    fleet = replace(fleet, current={(e.pool, e.stock, e.tensor_parallel): e.replicas for e in content.current})
    scenarios = each("scenarios", content.scenarios, lambda entry: _scenario(entry, fleet))
    prices = api_prices(content.apis)
    apis = {}
    for number, wanted in enumerate(content.pools):
        if wanted.api is not None:
            with file.at("pools", number, "api"):
                apis[wanted.name] = named_api(wanted.api, prices)
    names = {pool.name: pool.api for pool in content.pools if pool.api is not None}
    return FleetFile(file, fleet, scenarios, apis, names, catalog)


def _pool(entry: _Pool) -> FleetPool:
    workload = Workload(
        entry.input_tokens,
        entry.output_tokens,
        input_tokens_squared=(1 + entry.input_scv) * entry.input_tokens**2,
        output_tokens_squared=(1 + entry.output_scv) * entry.output_tokens**2,
        cached_share=entry.cached_share,
    )
    return FleetPool(
        name=entry.name,
        model=entry.model,
        levels=entry.demand_levels,
        requests_per_second=entry.demand_requests_per_second,
        workload=workload,
        slo=Slo(entry.ttft_seconds, entry.tpot_seconds, entry.percentile),
        priority=entry.priority,
        gpus=entry.gpus,
        regions=entry.regions,
        tensor_parallel=entry.tensor_parallel,
        precision=entry.precision,
        kv_precision=entry.kv_precision,
        engine=entry.engine,
        engine_version=entry.engine_version,
        dispersion=entry.dispersion,
        max_spot_share=entry.max_spot_share,
        under_to_over_cost=entry.under_to_over_cost,
        precisions=entry.precisions,
        drafting=_drafting(entry),
    )


def _drafting(entry: _Pool) -> Drafting | None:
    tokens, acceptance, cost = entry.draft_tokens, entry.acceptance, entry.draft_cost
    if tokens is None and acceptance is None and cost is None:
        return None
    if tokens is None or acceptance is None or cost is None:
        raise InvalidInput("speculative decoding needs draft_tokens, acceptance and draft_cost: they have no defaults")
    return Drafting(tokens, acceptance, cost)


def _scenario(entry: _Scenario, fleet: Fleet) -> Scenario:
    odd = sorted({pool.name for pool in fleet.pools} ^ entry.requests_per_second.keys())
    if odd:
        raise InvalidInput(f"requests_per_second must give a rate for each pool and no other; see {odd[0]!r}")
    return Scenario(entry.requests_per_second, entry.weight)
