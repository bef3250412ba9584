"""What the sizing commands share: how a deployment, a workload and an objective are said, and the files behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import notice
from pipeline.cli.files import read_csv_rows
from pipeline.config.catalog import catalog_from
from pipeline.errors import InputError
from sizing.calibration.calibrator import Calibration
from sizing.calibration.csv_rows import calibration_for
from sizing.calibration.table import Calibrations, calibrations
from sizing.catalog import Price
from sizing.errors import SizingError
from sizing.replica.memory import Resolved

__all__ = [
    "CachedOption",
    "CatalogOption",
    "DpOption",
    "EngineVersionOption",
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
PrecisionOption = Annotated[
    str, typer.Option(help="Weights: bf16, fp8, int8, int4, nvfp4, mxfp4; auto: as the checkpoint has them.")
]
KvPrecisionOption = Annotated[
    str | None, typer.Option(help="KV cache: bf16, fp8, int8; else as the checkpoint asks, or bf16.")
]
EngineVersionOption = Annotated[
    str | None, typer.Option(help="Release of the engine, such as 0.18.0; else the newest that is known.")
]
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
        learned = calibrations(rows, catalog=catalog)
    except SizingError as error:
        raise InputError(f"{path}: {error}") from error
    for calibration in learned.values():
        if calibration.entry_warning is not None:
            notice(f"{calibration.entry_warning}; fit an entry of your own: tokentide calibrate hardware {path}")
    return learned


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
