"""The file that names a large and a small deployment, as TOML; every refusal names the file and the line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.config.catalog import catalog_from
from pipeline.config.located_toml import Section, read_located
from pipeline.config.price_sections import GpuPriceSection, Name
from sizing.catalog import Catalog
from sizing.catalog.engines import engine_defaults
from sizing.errors import DoesNotFit, InvalidInput
from sizing.planning.length_routing import DeploymentChoice
from sizing.replica.memory import resolve
from sizing.types import CHECKPOINT_PRECISION, Deployment, Slo

__all__ = ["Choices", "read_choices_file"]


class _Deployment(GpuPriceSection):
    model: Name
    gpu: Name
    tensor_parallel: Annotated[int, Field(ge=1, le=1024)] = 1
    precision: Name = CHECKPOINT_PRECISION
    kv_precision: Name | None = None
    engine: Name = "vllm"
    engine_version: Name | None = None


class _Slo(Section):
    ttft_seconds: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    tpot_seconds: Annotated[float, Field(gt=0, le=1e6)] = 0.05
    percentile: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95


class _File(Section):
    large: _Deployment
    small: _Deployment
    slo: _Slo = _Slo()


@dataclass(frozen=True, slots=True)
class Choices:
    """The two deployments, and the catalogue that knows them."""

    large: DeploymentChoice
    small: DeploymentChoice
    catalog: Catalog


def read_choices_file(path: Path, catalog_path: Path | None = None) -> Choices:
    """Return the deployments that a TOML file names.

    Raises:
        InputError: it cannot be read or understood; the text names the file and the line.
    """
    file = read_located(path, _File)
    content = file.content
    slo = Slo(content.slo.ttft_seconds, content.slo.tpot_seconds, content.slo.percentile)
    found = []
    for name in ("large", "small"):
        entry: _Deployment = getattr(content, name)
        with file.at(name, 0, "model"):
            catalog_from([entry.model], catalog_path).checkpoint(entry.model)
        with file.at(name, 0):
            found.append(_choice(entry, slo, catalog_from([entry.model], catalog_path)))
    large, small = found
    return Choices(large, small, catalog_from([content.large.model, content.small.model], catalog_path))


def _choice(entry: _Deployment, slo: Slo, catalog: Catalog) -> DeploymentChoice:
    gpu = catalog.gpu(entry.gpu)
    price = gpu.price if entry.dollars_per_gpu_hour is None else entry.own_price()
    if price is None:
        raise InvalidInput(f"dollars_per_gpu_hour is missing: the catalogue has no price of {gpu.name}")
    unset = engine_defaults(entry.engine, gpu, entry.engine_version)
    deployment = Deployment(
        model=entry.model,
        gpu=gpu.name,
        tensor_parallel=entry.tensor_parallel,
        precision=entry.precision,
        kv_precision=entry.kv_precision,
        max_num_seqs=unset.max_num_seqs,
        max_batched_tokens=unset.max_batched_tokens,
        memory_utilisation=unset.memory_utilisation,
        engine=entry.engine,
        engine_version=entry.engine_version,
    )
    try:
        resolve(deployment, catalog)
    except DoesNotFit as error:
        raise InvalidInput(f"it does not fit: {error}") from error
    return DeploymentChoice(deployment, price, slo)
