"""What the sizing commands share: how a deployment, a workload and an objective are said, and the files behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.files import read_csv_rows, read_json, read_mapping
from pipeline.errors import InputError
from sizing.calibrate import Calibration
from sizing.catalog import Catalog, Price
from sizing.catalog.user import catalog_from_mapping
from sizing.errors import SizingError
from sizing.memory import Resolved
from sizing.observations import calibration_for
from sizing.points import Calibrations, calibrations

__all__ = [
    "CachedOption",
    "CatalogOption",
    "DpOption",
    "EpOption",
    "GpuOption",
    "InputOption",
    "KvPrecisionOption",
    "ModelOption",
    "ObservedOption",
    "OutputTokensOption",
    "PercentileOption",
    "PpOption",
    "PrecisionOption",
    "PriceOption",
    "TpOption",
    "TpotOption",
    "TtftOption",
    "catalog_from",
    "learned_from",
    "measured",
    "price_from",
]

ModelOption = Annotated[str | None, typer.Option(help="Catalogue name, or the path of a Hugging Face config.json.")]
GpuOption = Annotated[str | None, typer.Option(help="GPU by name.")]
InputOption = Annotated[float, typer.Option("--input-tokens", min=1, help="Mean input length, tokens.")]
OutputTokensOption = Annotated[float, typer.Option("--output-tokens", min=1, help="Mean output length, tokens.")]
CachedOption = Annotated[float, typer.Option(min=0, max=1, help="Share of input tokens in the prefix cache.")]
TpOption = Annotated[int, typer.Option("--tp", min=1, help="Tensor parallelism.")]
PpOption = Annotated[int, typer.Option("--pp", min=1, help="Pipeline parallelism.")]
EpOption = Annotated[int, typer.Option("--ep", min=1, help="Expert parallelism.")]
DpOption = Annotated[int, typer.Option("--dp", min=1, help="Attention data parallelism.")]
PrecisionOption = Annotated[str, typer.Option(help="Weights: bf16, fp8, int8, int4, nvfp4, mxfp4.")]
KvPrecisionOption = Annotated[str | None, typer.Option(help="KV cache; default as the engine does.")]
TtftOption = Annotated[float, typer.Option(min=0.001, help="TTFT objective, seconds.")]
TpotOption = Annotated[float, typer.Option(min=0.0001, help="TPOT objective, seconds.")]
PercentileOption = Annotated[float, typer.Option(min=0.5, max=0.999, help="Percentile of both objectives.")]
PriceOption = Annotated[
    float | None, typer.Option(min=0.0001, max=1e6, help="Dollars per GPU and hour, instead of the catalogue's.")
]
CatalogOption = Annotated[
    Path | None, typer.Option("--catalog", help="YAML or JSON with GPUs and models of your own (docs/sizing.md).")
]
ObservedOption = Annotated[
    Path | None,
    typer.Option(help="CSV of measured points (from `tokentide calibrate import-loadtest`) to learn first."),
]


def catalog_from(models: Iterable[str | None], path: Path | None = None) -> Catalog:
    """Return the catalogue with the user's file, and every model that is the path of a ``config.json``.

    Raises:
        InputError, SizingError: a file cannot be read or understood.
    """
    configs: dict[str, Mapping[str, Any]] = {}
    for name in models:
        if name is None or not name.lower().endswith(".json"):
            continue
        content = read_json(Path(name))
        if not isinstance(content, Mapping):
            raise InputError(f"{name} is not a model configuration: it holds a {type(content).__name__}")
        configs[name] = content
    content = read_mapping(path) if path is not None else {}
    return catalog_from_mapping(content, configs)


def learned_from(path: Path | None, catalog_path: Path | None = None) -> Calibrations:
    """Return what a table of measured points teaches, by deployment; nothing without a file.

    Raises:
        InputError, SizingError: the file or a row cannot be understood.
    """
    if path is None:
        return {}
    rows = read_csv_rows(path)
    if not rows:
        raise InputError(f"{path} has no rows")
    catalog = catalog_from({row.get("model") for row in rows}, catalog_path)
    try:
        return calibrations(rows, catalog=catalog)
    except SizingError as error:
        raise InputError(f"{path}: {error}") from error


def measured(resolved: Resolved, learned: Calibrations, path: Path | None) -> Calibration | None:
    """Return the calibration of one deployment.

    Raises:
        InputError: measurements were given, but none of this deployment.
    """
    if path is None:
        return None
    found = calibration_for(resolved, learned)
    if found is None:
        known = sorted({f"{c.resolved.model.name} on {c.resolved.gpu.name}" for c in learned.values()})
        raise InputError(
            f"{path} has no point of this deployment (model, GPU, parallel shape, precisions, engine); "
            f"it has {', '.join(known)}"
        )
    return found


def price_from(dollars: float | None) -> Price | None:
    """Return the price that the user gave."""
    return None if dollars is None else Price(dollars, "given", "now")
