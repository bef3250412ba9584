"""``tokentide size``: one sizing question offline, or a whole table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.common import EXIT_FAILED, Output, OutputOption, clean_errors, emit, fail, notice
from pipeline.errors import InputError
from pipeline.profiles import catalog_with
from sizing.catalog import Catalog
from sizing.model import Deployment, PolicyConfig, Slo, Workload

__all__ = ["size"]


@clean_errors
def size(
    model: Annotated[
        str | None, typer.Option(help="Catalogue name, or the path of a Hugging Face config.json.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU by name.")] = None,
    input_tokens: Annotated[float, typer.Option(min=1, help="Mean input length, tokens.")] = 2000,
    output_tokens: Annotated[float, typer.Option(min=1, help="Mean output length, tokens.")] = 300,
    rate: Annotated[float | None, typer.Option(min=0, help="Requests per second to size for.")] = None,
    cached_share: Annotated[float, typer.Option(min=0, max=1, help="Share of input tokens in the prefix cache.")] = 0.0,
    tensor_parallel: Annotated[int, typer.Option("--tp", min=1, help="Tensor parallelism.")] = 1,
    pipeline_parallel: Annotated[int, typer.Option("--pp", min=1, help="Pipeline parallelism.")] = 1,
    expert_parallel: Annotated[int, typer.Option("--ep", min=1, help="Expert parallelism.")] = 1,
    data_parallel: Annotated[int, typer.Option("--dp", min=1, help="Attention data parallelism.")] = 1,
    precision: Annotated[str, typer.Option(help="Weights: bf16, fp8, int8, int4, nvfp4.")] = "bf16",
    kv_precision: Annotated[str | None, typer.Option(help="KV cache; default as the engine does.")] = None,
    max_num_seqs: Annotated[int, typer.Option(min=1, help="Engine limit of running sequences.")] = 256,
    ttft: Annotated[float, typer.Option(min=0.001, help="TTFT objective, seconds.")] = 1.0,
    tpot: Annotated[float, typer.Option(min=0.0001, help="TPOT objective, seconds.")] = 0.05,
    percentile: Annotated[float, typer.Option(min=0.5, max=0.999, help="Percentile of both objectives.")] = 0.95,
    points: Annotated[Path | None, typer.Option(help="CSV of questions, one a row; see --out.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV of answers to --points.")] = None,
    list_names: Annotated[bool, typer.Option("--list", help="Name the models and GPUs of the catalogue.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what one deployment needs. Example: tokentide size --model llama-3.1-8b --gpu H100-SXM --rate 20"""
    from sizing.report import render_text, size_report

    if list_names:
        catalog = Catalog()
        data = {"models": list(catalog.model_names()), "gpus": list(catalog.gpu_names())}
        emit(output, data, ("kind", "name"), [(kind[:-1], name) for kind, names in data.items() for name in names])
        return
    if points is not None:
        if out is None:
            raise InputError("--points needs --out")
        _answer_table(points, out)
        return
    if model is None or gpu is None:
        raise InputError("--model and --gpu are needed (or --points with --out, or --list)")
    deployment = Deployment(
        model=model,
        gpu=gpu,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        expert_parallel=expert_parallel,
        data_parallel=data_parallel,
        precision=precision,
        kv_precision=kv_precision,
        max_num_seqs=max_num_seqs,
    )
    report = size_report(
        deployment,
        Workload(input_tokens, output_tokens, cached_share=cached_share),
        Slo(ttft, tpot, percentile),
        rate,
        PolicyConfig(max_replicas=1_000_000),
        catalog=catalog_with([model]),
    )
    if output is Output.JSON:
        emit(output, report.to_dict())
    else:
        print(render_text(report))


def _answer_table(points: Path, out: Path) -> None:
    """Answer each row of a CSV; a row that cannot be answered says why in its ``error`` column."""
    import pandas as pd

    from sizing.points import OUTPUT_COLUMNS, predict_point

    try:
        table = pd.read_csv(points, dtype=object, keep_default_na=True)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {points}: {error}") from error
    rows: list[dict[str, Any]] = [
        {str(k): (None if pd.isna(v) else v) for k, v in row.items()} for row in table.to_dict("records")
    ]
    answers = []
    for row in rows:
        try:
            answers.append(predict_point(row, catalog=catalog_with([str(row.get("model") or "")])))
        except InputError as error:
            answers.append(dict.fromkeys(OUTPUT_COLUMNS) | {"id": row.get("id"), "error": str(error)})
    try:
        pd.DataFrame(answers, columns=list(OUTPUT_COLUMNS)).to_csv(out, index=False)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    failed = sum(answer["error"] is not None for answer in answers)
    notice(f"{len(answers)} points, {failed} without an answer, written to {out}")
    if answers and failed == len(answers):
        fail("no point could be answered; the error column says why", EXIT_FAILED)
