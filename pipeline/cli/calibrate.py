"""``tokentide calibrate``: load tests as measured points, and what they teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.common import Output, OutputOption, clean_errors, emit, notice, say
from pipeline.cli.files import read_csv_rows, write_csv_rows
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
from pipeline.config.user_files import read_text
from pipeline.errors import InputError
from sizing.calibration.csv_rows import OBSERVATION_COLUMNS, observation_row, review
from sizing.calibration.loadtests import LoadKind, LoadTest, read_report
from sizing.calibration.loadtests.subject import differences
from sizing.calibration.loadtests.text import parse_report
from sizing.errors import SizingError
from sizing.explain.text import columns_text
from sizing.replica.memory import resolve
from sizing.replica.step_time import StepCoefficients
from sizing.types import CHECKPOINT_PRECISION, Deployment

__all__ = ["app", "read_loadtest"]

app = typer.Typer(no_args_is_help=True, help="Learn from load tests.")


class Tool(StrEnum):
    """The load-test tools whose reports can be read."""

    AUTO = "auto"
    GUIDELLM = "guidellm"
    AIPERF = "aiperf"
    GENAI_PERF = "genai-perf"
    INFERENCE_PERF = "inference-perf"
    VLLM = "vllm"
    SGLANG = "sglang"
    LLMPERF = "llmperf"
    INFERENCEX = "inferencex"
    LLMD = "llm-d"


class Load(StrEnum):
    """Who set the pace of a load test."""

    AUTO = "auto"
    OPEN = "open"
    CLOSED = "closed"


@app.command("import-loadtest")
@clean_errors
def import_loadtest(
    files: Annotated[
        list[Path], typer.Argument(help="Reports of one deployment: JSON, JSON lines, YAML or CSV, also as .gz.")
    ],
    model: Annotated[str, typer.Option(help="Catalogue name, or the path of a Hugging Face config.json.")],
    gpu: Annotated[str, typer.Option(help="GPU by name.")],
    tool: Annotated[
        Tool, typer.Option("--tool", help="The load-test tool that wrote the reports; recognised without it.")
    ] = Tool.AUTO,
    serving_engine: Annotated[
        str | None,
        typer.Option(help="What was tested: vllm, sglang, tensorrt-llm. Default: as the report says, else vllm."),
    ] = None,
    engine: Annotated[Tool | None, typer.Option("--engine", hidden=True, help="Deprecated name of --tool.")] = None,
    tensor_parallel: TpOption = 1,
    pipeline_parallel: PpOption = 1,
    expert_parallel: EpOption = 1,
    data_parallel: DpOption = 1,
    precision: PrecisionOption = CHECKPOINT_PRECISION,
    kv_precision: KvPrecisionOption = None,
    replicas: Annotated[int, typer.Option(min=1, max=100_000, help="Replicas that shared the load.")] = 1,
    cached_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of input tokens that came from the prefix cache during the tests."),
    ] = None,
    load: Annotated[
        Load,
        typer.Option(help="Clients sent at a rate (open) or waited for answers (closed); default: as the report says."),
    ] = Load.AUTO,
    out: Annotated[Path, typer.Option(help="CSV of measured points to write.")] = Path("observed.csv"),
    append: Annotated[bool, typer.Option("--append", help="Keep the rows that the file already has.")] = False,
    catalog_file: CatalogOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Read load-test reports into a table of measured points.

    Example: tokentide calibrate import-loadtest run.json --tool guidellm --model llama-3.1-8b --gpu H100-SXM
    """
    if engine is not None:
        notice(
            "--engine is deprecated here and will be removed; use --tool for the load-test tool, "
            "--serving-engine for the server"
        )
        tool = engine if tool is Tool.AUTO else tool
    catalog = catalog_from([model], catalog_file)
    deployment = Deployment(
        model=model,
        gpu=gpu,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        expert_parallel=expert_parallel,
        data_parallel=data_parallel,
        precision=precision,
        kv_precision=kv_precision,
        engine=serving_engine or "vllm",
    )
    tested = replace(deployment, precision=resolve(deployment, catalog).precision)
    tests = [
        (path, read_loadtest(path, tool.value, load.value, replicas=replicas, cached_share=cached_share))
        for path in files
    ]
    if serving_engine is None:
        deployment = replace(deployment, engine=_engine_named(tests) or deployment.engine)
    rows: list[dict[str, Any]] = []
    for path, test in tests:
        named = replace(tested, engine=deployment.engine)
        for text in (*differences(test.subject, named, catalog), *test.notes):
            notice(f"{path.name}: {text}")
        stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
        rows += [
            observation_row(deployment, point, f"{stem}-{number}", f"{path.name} ({test.tool})")
            for number, point in enumerate(test.points, 1)
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


def read_loadtest(
    path: Path, tool: str = "auto", load: str = "auto", *, replicas: int = 1, cached_share: float | None = None
) -> LoadTest:
    """Read one load-test report.

    Raises:
        InputError: the file cannot be read, or is no report with a usable measurement.
    """
    text = read_text(path)
    try:
        return read_report(
            parse_report(text, path.name),
            tool=None if tool == "auto" else tool,
            replicas=replicas,
            kind=None if load == "auto" else LoadKind(load),
            cached_share=cached_share,
        )
    except SizingError as error:
        beside = ""
        if "stage_<n>" in str(error):
            stages = sorted(path.parent.glob("stage_*_lifecycle_metrics.json"))
            names = ", ".join(stage.name for stage in stages[:12])
            beside = f" (beside it: {names})" if stages else ""
        raise InputError(f"{path}: {error}{beside}") from error


def _engine_named(tests: Sequence[tuple[Path, LoadTest]]) -> str | None:
    """Return the serving engine that the reports name; None where they name none.

    Raises:
        InputError: they name several.
    """
    named = {test.subject.engine: path for path, test in tests if test.subject.engine is not None}
    if len(named) > 1:
        raise InputError(
            f"the reports are of different serving engines ({', '.join(sorted(named))}); import each engine's by itself"
        )
    return next(iter(named), None)


def _kept(path: Path) -> list[dict[str, Any]]:
    rows = read_csv_rows(path)
    optional = {"cached_share"}  # newer than the others
    if rows and not set(OBSERVATION_COLUMNS) - optional <= set(rows[0]) <= set(OBSERVATION_COLUMNS):
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
