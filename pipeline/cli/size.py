"""``tokentide size``: one sizing question offline, or a whole table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.common import Output, OutputOption, clean_errors, counted, emit, notice, say
from pipeline.cli.durations import parse_duration
from pipeline.cli.files import write_text
from pipeline.cli.sizing_options import (
    CachedOption,
    CatalogOption,
    DpOption,
    EngineVersionOption,
    EpOption,
    GpuOption,
    InputOption,
    KvPrecisionOption,
    ModelOption,
    ObservedOption,
    OutputTokensOption,
    PercentileOption,
    PpOption,
    PrecisionOption,
    PriceOption,
    TpOption,
    TpotOption,
    TtftOption,
    catalog_from,
    learned_from,
    measured,
    price_from,
)
from pipeline.errors import InputError
from sizing.calibration.table import Calibrations
from sizing.catalog import Catalog
from sizing.catalog.engines import engine_defaults
from sizing.economics import ApiPrice
from sizing.errors import SizingError
from sizing.replica.memory import resolve
from sizing.types import CHECKPOINT_PRECISION, Demand, Deployment, PolicyConfig, Slo, Workload

__all__ = ["size"]


@clean_errors
def size(
    model: ModelOption = None,
    gpu: GpuOption = None,
    input_tokens: InputOption = 2000,
    output_tokens: OutputTokensOption = 300,
    input_scv: Annotated[
        float, typer.Option(min=0, max=1e4, help="Squared coefficient of variation of input lengths (0: all equal).")
    ] = 0.0,
    output_scv: Annotated[
        float, typer.Option(min=0, max=1e4, help="Squared coefficient of variation of output lengths.")
    ] = 0.0,
    rate: Annotated[float | None, typer.Option(min=0, help="Requests per second to size for (median).")] = None,
    rate_p10: Annotated[float | None, typer.Option(min=0, help="10 % quantile of the rate at the lead time.")] = None,
    rate_p90: Annotated[float | None, typer.Option(min=0, help="90 % quantile of the rate at the lead time.")] = None,
    lead_time: Annotated[str, typer.Option(help="From asking for a replica to its first request, such as 2m.")] = "2m",
    cost_ratio: Annotated[
        float, typer.Option(min=0.01, max=1e4, help="Cost of one replica too few over one too many.")
    ] = 9.0,
    dispersion: Annotated[
        float, typer.Option(min=0, max=1e6, help="Index of dispersion of arrivals (1: Poisson).")
    ] = 1.0,
    cached_share: CachedOption = 0.0,
    tensor_parallel: TpOption = 1,
    pipeline_parallel: PpOption = 1,
    expert_parallel: EpOption = 1,
    data_parallel: DpOption = 1,
    precision: PrecisionOption = CHECKPOINT_PRECISION,
    kv_precision: KvPrecisionOption = None,
    max_num_seqs: Annotated[
        int | None,
        typer.Option(min=1, help="Engine limit of running sequences; else the engine's default on this GPU."),
    ] = None,
    max_batched_tokens: Annotated[
        int | None, typer.Option(min=1, help="Engine limit of tokens in one step; else the engine's default.")
    ] = None,
    memory_utilisation: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Share of GPU memory for the engine; else its default.")
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option(min=1, help="Longest sequence the engine is started for; else what the model allows.")
    ] = None,
    kv_tokens: Annotated[
        int | None,
        typer.Option(min=1, help='"GPU KV cache size" that the engine printed, in tokens; wins over the formula.'),
    ] = None,
    engine: Annotated[str, typer.Option(help="Inference engine: vllm, sglang, tensorrt-llm.")] = "vllm",
    engine_version: EngineVersionOption = None,
    ttft: TtftOption = 1.0,
    tpot: TpotOption = 0.05,
    percentile: PercentileOption = 0.95,
    price: PriceOption = None,
    api_input_price: Annotated[
        float | None, typer.Option(min=0, help="API to compare with: dollars per 1M input tokens.")
    ] = None,
    api_output_price: Annotated[
        float | None, typer.Option(min=0, help="API to compare with: dollars per 1M output tokens.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the 13 steps with the source of every number.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write the explanation as an HTML page.")] = None,
    observed: ObservedOption = None,
    catalog_file: CatalogOption = None,
    points: Annotated[Path | None, typer.Option(help="CSV of questions, one a row; see --out.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV of answers to --points.")] = None,
    list_names: Annotated[bool, typer.Option("--list", help="Name the models and GPUs of the catalogue.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what one deployment needs. Example: tokentide size --model llama-3.1-8b --gpu H100-SXM --rate 20 --explain"""
    if list_names:
        _list(catalog_from((), catalog_file), output)
        return
    if points is not None:
        if out is None:
            raise InputError("--points needs --out")
        _answer_table(points, out, learned_from(observed, catalog_file), catalog_file)
        return
    if model is None or gpu is None:
        raise InputError("--model and --gpu are needed (or --points with --out, or --list)")
    catalog = catalog_from([model], catalog_file)
    unset = engine_defaults(engine, catalog.gpu(gpu), engine_version)
    deployment = Deployment(
        model=model,
        gpu=gpu,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        expert_parallel=expert_parallel,
        data_parallel=data_parallel,
        precision=precision,
        kv_precision=kv_precision,
        max_num_seqs=max_num_seqs or unset.max_num_seqs,
        max_batched_tokens=max_batched_tokens or unset.max_batched_tokens,
        memory_utilisation=memory_utilisation or unset.memory_utilisation,
        observed_kv_tokens=kv_tokens,
        engine=engine,
        engine_version=engine_version,
        max_model_len=max_model_len,
    )
    workload = Workload(
        input_tokens,
        output_tokens,
        input_tokens_squared=(1 + input_scv) * input_tokens**2,
        output_tokens_squared=(1 + output_scv) * output_tokens**2,
        cached_share=cached_share,
    )
    slo = Slo(ttft, tpot, percentile)
    policy = PolicyConfig(
        max_replicas=1_000_000, lead_time_seconds=parse_duration(lead_time), under_to_over_cost=cost_ratio
    )
    calibration = measured(resolve(deployment, catalog), learned_from(observed, catalog_file), observed)
    if explain or html is not None:
        from sizing.explain import Question
        from sizing.explain import explain as work_out

        question = Question(
            deployment,
            slo,
            _demand(rate, rate_p10, rate_p90, workload, dispersion, policy.lead_time_seconds),
            policy,
            price_from(price),
            _api(api_input_price, api_output_price),
            calibration,
        )
        _show(work_out(question, catalog), html, output)
        return
    from sizing.report import render_text, size_report

    if rate_p10 is not None or rate_p90 is not None:
        raise InputError("--rate-p10 and --rate-p90 need --explain")
    report = size_report(
        deployment,
        workload,
        slo,
        rate,
        policy,
        dispersion=dispersion,
        catalog=catalog,
        calibration=calibration,
        price=price_from(price),
    )
    if output is Output.JSON:
        emit(output, report.to_dict())
    else:
        say(render_text(report))


def _demand(
    rate: float | None, low: float | None, high: float | None, workload: Workload, dispersion: float, horizon: float
) -> Demand:
    if rate is None:
        raise InputError("--explain needs --rate")
    if (low is not None and low > rate) or (high is not None and high < rate):
        raise InputError("the quantiles must ascend: --rate-p10, --rate, --rate-p90")
    levels = [(0.1, low), (0.5, rate), (0.9, high)]
    known = [(level, value) for level, value in levels if value is not None]
    return Demand(
        levels=tuple(level for level, _ in known),
        requests_per_second=tuple(value for _, value in known),
        workload=workload,
        horizon_seconds=horizon,
        dispersion=dispersion,
    )


def _api(input_price: float | None, output_price: float | None) -> ApiPrice | None:
    if input_price is None and output_price is None:
        return None
    if input_price is None or output_price is None:
        raise InputError("an API has two prices: --api-input-price and --api-output-price")
    return ApiPrice(input_price, output_price)


def _show(explanation: Any, html: Path | None, output: Output) -> None:
    from sizing.explain import render_html, render_text

    if html is not None:
        write_text(html, render_html(explanation))
        notice(f"written to {html}")
    if output is Output.JSON:
        emit(output, explanation.to_dict())
    elif html is None:
        say(render_text(explanation))
    else:
        say(explanation.answer)


def _list(catalog: Catalog, output: Output) -> None:
    data = {"models": list(catalog.model_names()), "gpus": list(catalog.gpu_names())}
    emit(output, data, ("kind", "name"), [(kind[:-1], name) for kind, names in data.items() for name in names])


def _answer_table(points: Path, out: Path, learned: Calibrations, catalog_file: Path | None) -> None:
    """Answer each row of a CSV; a row that cannot be answered says why in its ``error`` column."""
    import pandas as pd

    from pipeline.cli.questions import read_questions
    from sizing.calibration.table import OUTPUT_COLUMNS, predict_point

    rows, unused = read_questions(points)
    shared = catalog_from((), catalog_file)
    answers = []
    for row in rows:
        model = str(row.get("model") or "")
        try:
            catalog = catalog_from([model], catalog_file) if model.endswith(".json") else shared
            answers.append(predict_point(row, catalog=catalog, calibrations=learned))
        except (InputError, SizingError) as error:
            answers.append(dict.fromkeys(OUTPUT_COLUMNS) | {"id": row.get("id"), "error": str(error)})
    try:
        pd.DataFrame(answers, columns=list(OUTPUT_COLUMNS)).to_csv(out, index=False)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    failed = [number for number, answer in enumerate(answers, start=1) if answer["error"] is not None]
    if len(failed) == len(answers):
        raise InputError(
            f"{points}: none of {counted(len(answers), 'point')} can be answered; {out} has the reason for each, such "
            f"as point 1: {answers[0]['error']}"
        )
    notice(f"{counted(len(answers), 'point')}, {len(failed)} without an answer, written to {out}")
    if unused:
        notice(f"{points.name}: the columns {', '.join(unused)} are not used")
