"""The file that describes a quarter: pools with their history, prices by the hour, what can be committed to, as TOML.

Every refusal names the file and the line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.catalog import catalog_from
from pipeline.config.located_toml import Located, Section, read_located
from pipeline.config.price_sections import Day, Dollars, GpuPriceSection, Name
from sizing.catalog import Catalog, Price
from sizing.errors import InvalidInput
from sizing.planning.commitments import CommitmentOption, HourlyPrices
from sizing.planning.fleet_types import MOST_GPUS, CapacityType, Fleet, FleetPool, Stock
from sizing.types import CHECKPOINT_PRECISION, Slo, Workload

__all__ = ["History", "QuarterFile", "QuarterPool", "read_quarter_file"]

_WEEK_HOURS = 168
Tokens = Annotated[float, Field(ge=1, le=1e7)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Pool(Section):
    name: Name
    model: Name
    gpu: Name
    tensor_parallel: Annotated[int, Field(ge=1, le=1024)] = 1
    precision: Name = CHECKPOINT_PRECISION
    kv_precision: Name | None = None
    engine: Name = "vllm"
    engine_version: Name | None = None
    input_tokens: Tokens
    output_tokens: Tokens
    input_scv: Annotated[float, Field(ge=0, le=1e4)] = 0.0
    output_scv: Annotated[float, Field(ge=0, le=1e4)] = 0.0
    cached_share: Share = 0.0
    dispersion: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    ttft_seconds: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    tpot_seconds: Annotated[float, Field(gt=0, le=1e6)] = 0.05
    percentile: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    min_replicas: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    history: Name
    time_column: Name = "timestamp"
    value_column: Name | None = None
    kind: Literal["counts", "gauge", "counter", "events"] = "counts"
    step_seconds: Annotated[int, Field(ge=60, le=3600)] = 3600
    peak_within_step_ratio: Annotated[float, Field(ge=1, le=100)] = 1.0

    @model_validator(mode="after")
    def _whole_hours(self) -> _Pool:
        if 3600 % self.step_seconds:
            raise ValueError("step_seconds must divide an hour")
        if self.value_column is None and self.kind != "events":
            raise ValueError(f"value_column is missing: rows of {self.kind} need one (kind events has none)")
        return self


class _OnDemand(GpuPriceSection):
    gpu: Name


class _Spot(GpuPriceSection):
    gpu: Name
    most_share: Share


class _Commitment(GpuPriceSection):
    name: Name
    gpu: Name
    kind: Literal["reserved", "bought"] = "reserved"
    discount: Annotated[float, Field(gt=0, lt=1)] | None = None
    term_weeks: Annotated[float, Field(gt=0, le=1040)] = 13.0
    dollars_per_gpu: Dollars | None = None
    lifetime_weeks: Annotated[float, Field(gt=0, le=1040)] | None = None
    running_dollars_per_gpu_hour: Annotated[float, Field(ge=0, lt=1e6)] = 0.0
    most_gpus: Annotated[int, Field(ge=0, le=MOST_GPUS)] | None = None
    price_source: Name
    price_as_of: Day


class _File(Section):
    pools: Annotated[list[_Pool], Field(min_length=1, max_length=200)]
    on_demand: Annotated[list[_OnDemand], Field(max_length=1000, default_factory=list)]
    spot: Annotated[list[_Spot], Field(max_length=1000, default_factory=list)]
    commitments: Annotated[list[_Commitment], Field(max_length=1000, default_factory=list)]


@dataclass(frozen=True, slots=True)
class History:
    """Where the recorded demand of a pool is, and what its rows mean; rates are multiplied by ``peak_ratio``."""

    path: Path
    time_column: str
    value_column: str | None
    kind: str
    step_seconds: int
    peak_ratio: float


@dataclass(frozen=True, slots=True)
class QuarterPool:
    """A pool on one GPU type. ``fleet`` is it alone, with as many GPUs as it wants: to be sized by."""

    pool: FleetPool
    gpu: str
    min_replicas: int
    history: History
    fleet: Fleet


@dataclass(frozen=True, slots=True)
class QuarterFile:
    """A quarter as its file describes it; prices and options by the catalogue's name of the GPU."""

    file: Located[Any]
    catalog: Catalog
    pools: tuple[QuarterPool, ...]
    hourly: dict[str, HourlyPrices]
    options: dict[str, tuple[CommitmentOption, ...]]


def read_quarter_file(path: Path, catalog_path: Path | None = None) -> QuarterFile:
    """Return the quarter that a TOML file describes. Histories are named relative to it, and not read.

    Raises:
        InputError: it cannot be read or understood; the text names the file and the line.
    """
    file = read_located(path, _File)
    content = file.content
    for table, key in (("pools", "name"), ("commitments", "name"), ("on_demand", "gpu"), ("spot", "gpu")):
        file.check_once(table, key, [getattr(entry, key) for entry in getattr(content, table)])
    shared = catalog_from([], catalog_path)
    for table in ("pools", "on_demand", "spot", "commitments"):
        for number, entry in enumerate(getattr(content, table)):
            with file.at(table, number, "gpu"):
                shared.gpu(entry.gpu)
    on_demand: dict[str, Price] = {}
    for number, asked in enumerate(content.on_demand):
        with file.at("on_demand", number):
            on_demand[shared.gpu(asked.gpu).name] = asked.own_price()
    pools = []
    for number, wanted in enumerate(content.pools):
        with file.at("pools", number, "model"):
            catalog_from([wanted.model], catalog_path).checkpoint(wanted.model)
        with file.at("pools", number, "gpu"):
            gpu = shared.gpu(wanted.gpu)
            if on_demand.get(gpu.name) is None and gpu.price is None:
                raise InvalidInput(f"no price of {gpu.name} is known: give one in [[on_demand]]")
            price = on_demand.setdefault(gpu.name, on_demand.get(gpu.name) or _known(gpu.price))
        with file.at("pools", number):
            pools.append(_pool(wanted, gpu.name, price, path.parent))
    hourly = {name: HourlyPrices(price) for name, price in on_demand.items()}
    for number, spot in enumerate(content.spot):
        with file.at("spot", number):
            name = shared.gpu(spot.gpu).name
            if name in hourly:
                hourly[name] = HourlyPrices(on_demand[name], spot.own_price(), spot.most_share)
    options: dict[str, tuple[CommitmentOption, ...]] = dict.fromkeys(hourly, ())
    for number, entry in enumerate(content.commitments):
        with file.at("commitments", number):
            name = shared.gpu(entry.gpu).name
            if name in hourly:
                options[name] += (_option(entry, name, on_demand[name]),)
    catalog = catalog_from([pool.model for pool in content.pools], catalog_path)
    return QuarterFile(file, catalog, tuple(pools), hourly, options)


def _known(price: Price | None) -> Price:
    assert price is not None
    return price


def _pool(entry: _Pool, gpu: str, price: Price, folder: Path) -> QuarterPool:
    workload = Workload(
        entry.input_tokens,
        entry.output_tokens,
        input_tokens_squared=(1 + entry.input_scv) * entry.input_tokens**2,
        output_tokens_squared=(1 + entry.output_scv) * entry.output_tokens**2,
        cached_share=entry.cached_share,
    )
    pool = FleetPool(
        name=entry.name,
        model=entry.model,
        levels=(0.5,),
        requests_per_second=(1.0,),
        workload=workload,
        slo=Slo(entry.ttft_seconds, entry.tpot_seconds, entry.percentile),
        tensor_parallel=(entry.tensor_parallel,),
        precision=entry.precision,
        kv_precision=entry.kv_precision,
        engine=entry.engine,
        engine_version=entry.engine_version,
        dispersion=entry.dispersion,
    )
    stock = Stock(gpu, gpu, CapacityType.ON_DEMAND, MOST_GPUS, price)
    history = History(
        path=folder / entry.history,
        time_column=entry.time_column,
        value_column=entry.value_column,
        kind=entry.kind,
        step_seconds=entry.step_seconds,
        peak_ratio=entry.peak_within_step_ratio,
    )
    return QuarterPool(pool, gpu, entry.min_replicas, history, Fleet((pool,), (stock,)))


def _option(entry: _Commitment, gpu: str, on_demand: Price) -> CommitmentOption:
    dated = (entry.price_source, str(entry.price_as_of))
    if entry.kind == "bought":
        if entry.dollars_per_gpu is None or entry.lifetime_weeks is None:
            raise InvalidInput("what is bought needs dollars_per_gpu and lifetime_weeks")
        if entry.discount is not None or entry.dollars_per_gpu_hour is not None:
            raise InvalidInput("what is bought has no discount and no dollars_per_gpu_hour: give dollars_per_gpu")
        hourly = entry.dollars_per_gpu / (entry.lifetime_weeks * _WEEK_HOURS) + entry.running_dollars_per_gpu_hour
        return CommitmentOption(
            entry.name, gpu, entry.kind, Price(hourly, *dated), entry.lifetime_weeks, entry.most_gpus
        )
    if (entry.discount is None) == (entry.dollars_per_gpu_hour is None):
        raise InvalidInput("a reservation needs discount (of the price on demand) or dollars_per_gpu_hour, not both")
    if entry.discount is not None:
        price = Price((1 - entry.discount) * on_demand.dollars_per_gpu_hour, *dated)
    else:
        price = entry.own_price()
    return CommitmentOption(entry.name, gpu, entry.kind, price, entry.term_weeks, entry.most_gpus)
