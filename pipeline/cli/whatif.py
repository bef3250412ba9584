"""``tokentide whatif``: change one thing or several, see the plans side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from pipeline.cli.common import EXIT_FAILED, Output, OutputOption, clean_errors, emit, fail, say
from pipeline.cli.durations import parse_durations
from pipeline.cli.sizing_options import (
    CachedOption,
    CatalogOption,
    DpOption,
    EngineVersionOption,
    EpOption,
    InputOption,
    KvPrecisionOption,
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
from pipeline.cli.whatif_choices import Choices, api_prices, combined, numbers, shares, single
from pipeline.cli.whatif_rows import COLUMNS, PlanRow, api_cells, api_row, late, notes_text
from pipeline.errors import InputError
from sizing.catalog.engines import engine_defaults
from sizing.compare import RANKINGS, Option, compare, rank
from sizing.explain.text import columns_text
from sizing.replica.memory import resolve
from sizing.types import CHECKPOINT_PRECISION, Deployment, PolicyConfig, Slo, Workload

__all__ = ["whatif"]

#: More plans than this are a search, not a comparison.
MAX_PLANS = 20_000


@clean_errors
def whatif(
    model: Annotated[str, typer.Option(help="Catalogue name, or the path of a Hugging Face config.json.")],
    gpu: Annotated[str, typer.Option(help="GPU that is used now.")],
    rate: Annotated[float, typer.Option(min=0, help="Requests per second now.")],
    input_tokens: InputOption = 2000,
    output_tokens: OutputTokensOption = 300,
    cached_share: CachedOption = 0.0,
    tensor_parallel: TpOption = 1,
    pipeline_parallel: PpOption = 1,
    expert_parallel: EpOption = 1,
    data_parallel: DpOption = 1,
    precision: PrecisionOption = CHECKPOINT_PRECISION,
    kv_precision: KvPrecisionOption = None,
    engine: Annotated[str, typer.Option(help="Inference engine: vllm, sglang, tensorrt-llm.")] = "vllm",
    engine_version: EngineVersionOption = None,
    ttft: TtftOption = 1.0,
    tpot: TpotOption = 0.05,
    percentile: PercentileOption = 0.95,
    price: PriceOption = None,
    demand: Annotated[str | None, typer.Option(help="Demand times these, such as 1.5,2,3.")] = None,
    gpus: Annotated[str | None, typer.Option(help="Other GPUs, such as h200,b200; all: the whole catalogue.")] = None,
    precisions: Annotated[str | None, typer.Option(help="Other precisions of the weights, such as fp8,int4.")] = None,
    kv_precisions: Annotated[str | None, typer.Option(help="Other precisions of the KV cache, such as fp8.")] = None,
    tps: Annotated[str | None, typer.Option(help="Other tensor parallelism, such as 2,4,8.")] = None,
    ttfts: Annotated[str | None, typer.Option(help="Other TTFT objectives, seconds, such as 0.5,2.")] = None,
    tpots: Annotated[str | None, typer.Option(help="Other TPOT objectives, seconds, such as 0.03,0.1.")] = None,
    cached_shares: Annotated[str | None, typer.Option(help="Other prefix-cache shares, such as 0.3,0.6.")] = None,
    prices: Annotated[str | None, typer.Option(help="Other prices of this GPU, dollars per hour, such as 2,3.")] = None,
    pps: Annotated[str | None, typer.Option(help="Other pipeline parallelism, such as 2.")] = None,
    eps: Annotated[str | None, typer.Option(help="Other expert parallelism, such as 8.")] = None,
    dps: Annotated[str | None, typer.Option(help="Other attention data parallelism, such as 2,8.")] = None,
    engines: Annotated[str | None, typer.Option(help="Other engines with their defaults, such as sglang.")] = None,
    acceptances: Annotated[
        str | None, typer.Option(help="Speculative decoding with these acceptance rates of a draft token, as 0.6,0.8.")
    ] = None,
    draft_tokens: Annotated[int | None, typer.Option(min=1, max=64, help="Tokens drafted per step.")] = None,
    draft_cost: Annotated[
        float | None, typer.Option(min=0, max=1, help="What drafting one token takes, over a plain step.")
    ] = None,
    apart: Annotated[bool, typer.Option("--apart", help="Prefill and decode on replicas of their own.")] = False,
    transfer_gigabytes_per_second: Annotated[
        float | None,
        typer.Option(min=1e-3, max=1e6, help="Link for the KV cache of --apart; else the catalogue's between nodes."),
    ] = None,
    lead_times: Annotated[
        str | None,
        typer.Option(help="What a step to each --demand costs if replicas come so much later, such as 1m,10m."),
    ] = None,
    api_price: Annotated[
        str | None, typer.Option("--api-prices", help="An API instead: dollars per 1M input/output tokens, as 0.5/1.5.")
    ] = None,
    combine: Annotated[
        bool, typer.Option("--combine", help="Every combination of GPUs, precisions and parallelism.")
    ] = False,
    by: Annotated[str, typer.Option(help=f"Order of --combine: {', '.join(RANKINGS)}.")] = "cost",
    top: Annotated[int, typer.Option(min=1, help="Plans of --combine to show.")] = 15,
    observed: ObservedOption = None,
    catalog_file: CatalogOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Compare plans for one demand.

    Example: tokentide whatif --model llama-3.3-70b --gpu h100 --tp 4 --rate 30 --demand 2 --gpus h200 --precisions fp8
    """
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
        max_num_seqs=unset.max_num_seqs,
        max_batched_tokens=unset.max_batched_tokens,
        memory_utilisation=unset.memory_utilisation,
        engine=engine,
        engine_version=engine_version,
    )
    resolved = resolve(deployment, catalog)
    deployment = replace(deployment, gpu=resolved.gpu.name, precision=resolved.precision)
    base = Option(
        name="now",
        deployment=deployment,
        workload=Workload(input_tokens, output_tokens, cached_share=cached_share),
        slo=Slo(ttft, tpot, percentile),
        requests_per_second=rate,
        price=price_from(price),
        calibration=measured(resolved, learned_from(observed, catalog_file), observed),
    )
    choices = Choices(
        gpus=gpus,
        precisions=precisions,
        kv_precisions=kv_precisions,
        tps=tps,
        pps=pps,
        eps=eps,
        dps=dps,
        engines=engines,
        acceptances=acceptances,
        draft_tokens=draft_tokens,
        draft_cost=draft_cost,
        apart=apart,
        transfer_gigabytes_per_second=transfer_gigabytes_per_second,
    )
    apis, leads = api_prices(api_price), () if lead_times is None else parse_durations(lead_times)
    factors = numbers(demand)
    if leads and not any(factor > 1 for factor in factors):
        raise InputError("--lead-times needs a --demand above 1: what comes at once while replicas start")
    if combine:
        if apis or leads:
            raise InputError("--lead-times and --api-prices cannot be combined: leave out --combine")
        options = combined(base, choices, catalog)
    else:
        options = [base, *single(base, choices, catalog)]
        options += [replace(base, name=f"demand × {k:g}", requests_per_second=rate * k) for k in factors]
        options += [_slo(base, ttft_seconds=value) for value in numbers(ttfts)]
        options += [_slo(base, tpot_seconds=value) for value in numbers(tpots)]
        options += [_cached(base, value) for value in shares("--cached-shares", cached_shares)]
        options += [
            replace(base, name=f"${value:g} per GPU-hour", price=price_from(value)) for value in numbers(prices)
        ]
        if len(options) == 1 and not apis:
            raise InputError(
                "nothing to compare with: give --demand, --gpus, --precisions, --tps, --ttfts, … or --combine"
            )
    if len(options) > MAX_PLANS:
        raise InputError(f"{len(options):,} plans are too many; {MAX_PLANS:,} at most")
    outcomes = compare(options, PolicyConfig(max_replicas=1_000_000), catalog)
    plans = [PlanRow(outcome) for outcome in (rank(outcomes, by)[:top] if combine else outcomes)]
    for step in (o for o in outcomes if leads and o.option.requests_per_second > rate):
        for lead in leads:
            name = f"{step.option.name} at once, {lead:,} s later"
            plans.append(PlanRow(step, name, late(outcomes[0], step, lead)))
    told = [api_row(price, outcomes[0]) for price in apis]
    if output is Output.JSON:
        emit(output, [plan.plain() for plan in plans] + told)
    else:
        say("\n".join(columns_text(COLUMNS, [plan.row() for plan in plans] + [api_cells(row) for row in told])))
        say(notes_text(plans))
    if all(o.replicas is None for o in outcomes):
        fail("none of the plans is possible; the notes say why", EXIT_FAILED)


def _slo(base: Option, **change: float) -> Option:
    ((field, value),) = change.items()
    name = f"TTFT ≤ {value:g} s" if field == "ttft_seconds" else f"TPOT ≤ {value * 1e3:g} ms"
    return replace(base, name=name, slo=replace(base.slo, **change))


def _cached(base: Option, share: float) -> Option:
    return replace(base, name=f"{share:.0%} from the cache", workload=replace(base.workload, cached_share=share))
