"""``tokentide calibrate``: load tests as measured points, and what they teach."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.common import Output, OutputOption, clean_errors, emit, notice, say
from pipeline.cli.files import read_csv_rows, read_json, write_csv_rows
from pipeline.cli.sizing_options import (
    CatalogOption,
    DpOption,
    EpOption,
    KvPrecisionOption,
    PpOption,
    PrecisionOption,
    TpOption,
    catalog_from,
    learned_from,
)
from pipeline.errors import InputError
from sizing import loadtest
from sizing.errors import SizingError
from sizing.explain.text import columns_text
from sizing.memory import resolve
from sizing.model import Deployment
from sizing.observations import OBSERVATION_COLUMNS, observation_row, review
from sizing.steptime import StepCoefficients

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Learn from load tests.")


class Tool(StrEnum):
    """The load-test tools whose reports can be read."""

    AUTO = "auto"
    GUIDELLM = "guidellm"
    AIPERF = "aiperf"
    INFERENCE_PERF = "inference-perf"
    VLLM = "vllm"


_READERS = {
    Tool.AUTO: loadtest.load_test_points,
    Tool.GUIDELLM: loadtest.guidellm_points,
    Tool.AIPERF: loadtest.aiperf_points,
    Tool.INFERENCE_PERF: loadtest.inference_perf_points,
    Tool.VLLM: loadtest.vllm_bench_points,
}


@app.command("import-loadtest")
@clean_errors
def import_loadtest(
    files: Annotated[list[Path], typer.Argument(help="Reports of one deployment, JSON.")],
    model: Annotated[str, typer.Option(help="Catalogue name, or the path of a Hugging Face config.json.")],
    gpu: Annotated[str, typer.Option(help="GPU by name.")],
    tool: Annotated[
        Tool, typer.Option("--engine", "--tool", help="The load-test tool that wrote the reports.")
    ] = Tool.AUTO,
    serving_engine: Annotated[str, typer.Option(help="What was tested: vllm, sglang, tensorrt-llm.")] = "vllm",
    tensor_parallel: TpOption = 1,
    pipeline_parallel: PpOption = 1,
    expert_parallel: EpOption = 1,
    data_parallel: DpOption = 1,
    precision: PrecisionOption = "bf16",
    kv_precision: KvPrecisionOption = None,
    replicas: Annotated[int, typer.Option(min=1, max=100_000, help="Replicas that shared the load.")] = 1,
    out: Annotated[Path, typer.Option(help="CSV of measured points to write.")] = Path("observed.csv"),
    append: Annotated[bool, typer.Option("--append", help="Keep the rows that the file already has.")] = False,
    catalog_file: CatalogOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Read load-test reports.

    Example: tokentide calibrate import-loadtest run.json --engine guidellm --model llama-3.1-8b --gpu H100-SXM
    """
    deployment = Deployment(
        model=model,
        gpu=gpu,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        expert_parallel=expert_parallel,
        data_parallel=data_parallel,
        precision=precision,
        kv_precision=kv_precision,
        engine=serving_engine,
    )
    resolve(deployment, catalog_from([model], catalog_file))
    rows: list[dict[str, Any]] = []
    for path in files:
        content = read_json(path)
        try:
            points = _READERS[tool](content, replicas=replicas)
        except SizingError as error:
            raise InputError(f"{path}: {error}") from error
        rows += [
            observation_row(deployment, point, f"{path.stem}-{number}", f"{path.name} ({tool.value})")
            for number, point in enumerate(points, 1)
        ]
    kept: list[dict[str, Any]] = []
    if append and out.exists():
        kept = _kept(out)
    elif out.exists():
        raise InputError(f"{out} exists; --append adds to it")
    write_csv_rows(out, OBSERVATION_COLUMNS, [*kept, *rows])
    notice(f"{len(rows)} measured points{f' added to {len(kept)}' if kept else ''}, written to {out}")
    shown = ("id", "isl", "osl", "concurrency", "request_rate", "tpot_ms", "ttft_ms")
    if output is Output.JSON:
        emit(output, rows)
    else:
        say("\n".join(columns_text(shown, [tuple(row[name] for name in shown) for row in rows])))


def _kept(path: Path) -> list[dict[str, Any]]:
    rows = read_csv_rows(path)
    if rows and set(rows[0]) != set(OBSERVATION_COLUMNS):
        raise InputError(f"{path} has other columns than a file of measured points; write to another file")
    return [dict(row) for row in rows]


@app.command("show")
@clean_errors
def show(
    file: Annotated[Path, typer.Argument(help="CSV of measured points.")],
    catalog_file: CatalogOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what measured points teach, and how far off it is. Example: tokentide calibrate show observed.csv"""
    learned = learned_from(file, catalog_file)
    rows = read_csv_rows(file)
    catalog = catalog_from({row.get("model") for row in rows}, catalog_file)
    reviews = review(rows, catalog)
    prior = StepCoefficients()
    data = []
    for calibration, found in zip(learned.values(), reviews.values(), strict=True):
        deployment, resolved = calibration.resolved.deployment, calibration.resolved
        data.append(
            {
                "model": resolved.model.name,
                "gpu": resolved.gpu.name,
                "gpus_per_replica": deployment.gpus,
                "precision": resolved.precision,
                "kv_precision": resolved.kv_precision,
                "engine": deployment.engine,
                "points": len(calibration.points),
                "coefficients": {
                    name: {
                        "ratio_to_prior": getattr(calibration.coefficients, name) / getattr(prior, name),
                        "log_spread": spread,
                    }
                    for name, spread in calibration.log_spread.items()
                },
                "median_error": {
                    "tpot_before": _median_error([(r.tpot_ms, r.before_tpot_ms) for r in found]),
                    "tpot_left_out": _median_error([(r.tpot_ms, r.left_out_tpot_ms) for r in found]),
                    "ttft_before": _median_error([(r.ttft_ms, r.before_ttft_ms) for r in found]),
                    "ttft_left_out": _median_error([(r.ttft_ms, r.left_out_ttft_ms) for r in found]),
                },
                "rows": [
                    {
                        "id": r.id,
                        "tpot_ms": r.tpot_ms,
                        "tpot_ms_before": r.before_tpot_ms,
                        "tpot_ms_left_out": r.left_out_tpot_ms,
                        "ttft_ms": r.ttft_ms,
                        "ttft_ms_before": r.before_ttft_ms,
                        "ttft_ms_left_out": r.left_out_ttft_ms,
                    }
                    for r in found
                ],
            }
        )
    if output is Output.JSON:
        emit(output, data)
        return
    for entry in data:
        _print(entry)


def _median_error(pairs: list[tuple[float | None, float | None]]) -> float | None:
    from statistics import median

    errors = [abs(predicted / seen - 1) for seen, predicted in pairs if seen and predicted is not None]
    return median(errors) if errors else None


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _print(entry: dict[str, Any]) -> None:
    errors = entry["median_error"]
    say(
        f"{entry['model']} ({entry['precision']}, KV {entry['kv_precision']}) on {entry['gpus_per_replica']} × "
        f"{entry['gpu']}, {entry['engine']}: {entry['points']} points"
    )
    say(
        f"  median error of TPOT: {_percent(errors['tpot_before'])} before, "
        f"{_percent(errors['tpot_left_out'])} with each point left out of what is learned"
    )
    before, left_out = _percent(errors["ttft_before"]), _percent(errors["ttft_left_out"])
    say(f"  median error of TTFT: {before} before, {left_out} with each point left out")
    found = entry["coefficients"]
    rows = [(name, value["ratio_to_prior"], value["log_spread"]) for name, value in found.items()]
    say("\n".join(["", *columns_text(("coefficient", "× prior", "log spread"), rows), ""]))
    columns = ("id", "TPOT ms", "before", "left out", "TTFT ms", "before", "left out")
    say("\n".join([*columns_text(columns, [tuple(row.values()) for row in entry["rows"]]), ""]))
