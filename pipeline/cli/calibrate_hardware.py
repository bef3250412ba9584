"""``tokentide calibrate hardware``: a catalogue entry for a device of one's own, from load tests of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from pipeline.cli.calibrate import Load, Tool, app, read_loadtest
from pipeline.cli.common import Output, OutputOption, clean_errors, emit, notice
from pipeline.cli.files import read_csv_rows, write_text
from pipeline.cli.sizing_options import CatalogOption, KvPrecisionOption, PrecisionOption, catalog_from
from pipeline.config.user_files import read_mapping
from pipeline.errors import InputError
from sizing.calibration.hardware import HardwareFit, fit_hardware
from sizing.calibration.measurement import ObservedPoint
from sizing.calibration.table import observed_point
from sizing.types import CHECKPOINT_PRECISION, Deployment

__all__ = ["app", "hardware"]

_HEADER = """# A device fitted by `tokentide calibrate hardware`. Use it with --catalog {name}.
# compute_efficiency is 1: flops_per_second are those that large products reach, not the data sheet's.
"""


@app.command("hardware")
@clean_errors
def hardware(
    files: Annotated[
        list[Path],
        typer.Argument(help="Two or more load tests of one device: reports, or a CSV of measured points."),
    ],
    name: Annotated[str, typer.Option(help="Name of the new entry.")],
    memory_gib: Annotated[float, typer.Option(min=0.1, max=1e6, help="Memory of the device that an engine may use.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="What was tested: one model for all reports, or one per report in their order."),
    ] = None,
    tool: Annotated[Tool, typer.Option(help="The load-test tool; recognised without it.")] = Tool.AUTO,
    load: Annotated[Load, typer.Option(help="Open or closed loop; default: as the reports say.")] = Load.AUTO,
    serving_engine: Annotated[str, typer.Option(help="What served: vllm, sglang, tensorrt-llm.")] = "vllm",
    precision: PrecisionOption = CHECKPOINT_PRECISION,
    kv_precision: KvPrecisionOption = None,
    reserve_gib: Annotated[
        float, typer.Option(min=0, max=1e6, help="Memory that the engine keeps for neither weights nor KV cache.")
    ] = 0.0,
    as_of: Annotated[str | None, typer.Option(help="Month of the tests, such as 2026-11; default: this month.")] = None,
    out: Annotated[Path, typer.Option(help="User catalogue to write (YAML).")] = Path("catalog.yaml"),
    append: Annotated[bool, typer.Option("--append", help="Keep what the file already has.")] = False,
    catalog_file: CatalogOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Fit a device from load tests: bandwidth, FLOP/s and overheads, each with its uncertainty.

    Example: tokentide calibrate hardware c1.json c8.json --name our-box --memory-gib 24 --model config.json
    """
    content = _existing(out, append, name)
    models = list(model or ())
    reports = [path for path in files if not _is_points(path)]
    if reports and len(models) not in (1, len(reports)):
        raise InputError(f"{len(reports)} reports need one --model for all or one each, got {len(models)}")
    rows = {path: read_csv_rows(path) for path in files if path not in reports}
    named = [*models, *(row.get("model") for found in rows.values() for row in found)]
    catalog = catalog_from(named, catalog_file)
    tests: list[tuple[Deployment, ObservedPoint]] = []
    for number, path in enumerate(reports):
        test = read_loadtest(path, tool.value, load.value)
        for text in test.notes:
            notice(f"{path.name}: {text}")
        given = models[number if len(models) > 1 else 0]
        deployment = Deployment(given, name, precision=precision, kv_precision=kv_precision, engine=serving_engine)
        tests += [(deployment, point) for point in test.points]
    for path, found in rows.items():
        tests += _of_rows(path, found, name)
    month = as_of or datetime.now(UTC).strftime("%Y-%m")
    fit = fit_hardware(
        name,
        tests,
        memory_bytes=memory_gib * 2**30,
        reserve_bytes=reserve_gib * 2**30,
        as_of=month,
        catalog=catalog,
    )
    entry: dict[str, Any] = fit.fields()
    content["gpus"] = {**content.get("gpus", {}), name: entry}
    write_text(out, _HEADER.format(name=out.name) + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    for text in fit.notes():
        notice(text)
    notice(f"entry {name} written to {out}; size with --gpu {name} --catalog {out}")
    _print(fit, entry, output)


def _existing(out: Path, append: bool, name: str) -> dict[str, Any]:
    if not out.exists():
        return {}
    if not append:
        raise InputError(f"{out} exists; --append adds to it")
    content = dict(read_mapping(out))
    gpus = content.get("gpus") or {}
    if not isinstance(gpus, Mapping):
        raise InputError(f"{out}: gpus must be a mapping")
    if name in gpus:
        raise InputError(f"{out} already has an entry {name}; choose another --name")
    return content | {"gpus": dict(gpus)}


def _is_points(path: Path) -> bool:
    """Whether a file is a table of measured points, not a tool's CSV."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = {cell.strip() for cell in file.readline(10_000).split(",")}
    return {"isl", "osl", "tpot_ms"} <= header


def _of_rows(path: Path, rows: Sequence[Mapping[str, str]], name: str) -> Iterator[tuple[Deployment, ObservedPoint]]:
    for number, row in enumerate(rows, 1):
        if not row.get("model"):
            raise InputError(f"{path}, row {number}: no model")
        deployment = Deployment(
            row["model"],
            name,
            precision=row.get("precision") or CHECKPOINT_PRECISION,
            kv_precision=row.get("kv_precision") or None,
            engine=row.get("engine") or "vllm",
        )
        yield deployment, observed_point(row)


def _print(fit: HardwareFit, entry: dict[str, Any], output: Output) -> None:
    points = [
        {
            "tpot_ms": p.tpot_seconds * 1e3,
            "tpot_ms_fitted": p.predicted_tpot_seconds * 1e3,
            "ttft_ms": None if p.ttft_seconds is None else p.ttft_seconds * 1e3,
            "ttft_ms_fitted": p.predicted_ttft_seconds * 1e3,
        }
        for p in fit.points
    ]
    values = [
        {"name": v.name, "value": v.value, "lower": v.lower, "upper": v.upper, "determined": v.determined}
        for v in fit.values
    ]
    columns = ("number", "fitted", "90 % from", "to", "")
    rows = [
        (v.name, f"{v.value:.3g}", f"{v.lower:.3g}", f"{v.upper:.3g}", "" if v.determined else "not determined")
        for v in fit.values
    ]
    emit(output, {"entry": entry, "values": values, "points": points}, columns, rows)
    if output is Output.TABLE:
        emit(
            output,
            None,
            tuple(points[0]),
            [tuple(None if x is None else f"{x:.4g}" for x in p.values()) for p in points],
        )
