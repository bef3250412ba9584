"""``tokentide whatif``: change one thing or several, see the plans side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from pipeline.cli.common import EXIT_FAILED, Output, OutputOption, clean_errors, emit, fail, say
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
from pipeline.errors import InputError
from sizing.catalog import Catalog
from sizing.catalog.engines import engine_defaults
from sizing.compare import RANKINGS, Option, Outcome, compare, configurations, rank
from sizing.explain.model import Value
from sizing.explain.text import columns_text
from sizing.replica.memory import resolve
from sizing.types import CHECKPOINT_PRECISION, Deployment, PolicyConfig, Slo, Workload

__all__ = ["whatif"]

COLUMNS = ("plan", "replicas", "10–90 %", "GPUs", "req/s each", "TTFT s", "TPOT ms", "binds", "$/h", "$/1M out", "note")
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
    combine: Annotated[
        bool, typer.Option("--combine", help="Every combination of GPUs, precisions and tensor parallelism.")
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
    names = _gpus(gpus, catalog)
    if combine:
        options = _combined(base, names, precisions, kv_precisions, tps)
    else:
        options = [base, *_single(base, names, precisions, kv_precisions, tps)]
        options += [replace(base, name=f"demand × {k:g}", requests_per_second=rate * k) for k in _numbers(demand)]
        options += [_slo(base, ttft_seconds=value) for value in _numbers(ttfts)]
        options += [_slo(base, tpot_seconds=value) for value in _numbers(tpots)]
        options += [_cached(base, value) for value in _shares(cached_shares)]
        options += [
            replace(base, name=f"${value:g} per GPU-hour", price=price_from(value)) for value in _numbers(prices)
        ]
        if len(options) == 1:
            raise InputError(
                "nothing to compare with: give --demand, --gpus, --precisions, --tps, --ttfts, … or --combine"
            )
    if len(options) > MAX_PLANS:
        raise InputError(f"{len(options):,} plans are too many; {MAX_PLANS:,} at most")
    outcomes = compare(options, PolicyConfig(max_replicas=1_000_000), catalog)
    if combine:
        outcomes = rank(outcomes, by)[:top]
    if output is Output.JSON:
        emit(output, [_plain(o) for o in outcomes])
    else:
        say("\n".join(columns_text(COLUMNS, [_row(o) for o in outcomes])))
        problems = [f"{o.option.name}: {o.problem}" for o in outcomes if o.problem is not None]
        say("\n".join(["", *problems]) if problems else "")
    if all(o.replicas is None for o in outcomes):
        fail("none of the plans can be had; the notes say why", EXIT_FAILED)


def _items(text: str | None) -> list[str]:
    return [] if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str | None, *, zero: bool = False) -> list[float]:
    values = []
    for part in _items(text):
        try:
            value = float(part)
        except ValueError:
            raise InputError(f"{part[:40]!r} is not a number") from None
        if value < 0 or (value == 0 and not zero) or not value < 1e9:
            raise InputError(f"{part[:40]!r} must be {'at least 0' if zero else 'above 0'} and below 1e9")
        values.append(value)
    return values


def _shares(text: str | None) -> list[float]:
    values = _numbers(text, zero=True)
    for value in values:
        if value > 1:
            raise InputError(f"--cached-shares must be from 0 to 1, not {value:g}")
    return values


def _sizes(text: str | None) -> list[int]:
    if any(value % 1 for value in _numbers(text)):
        raise InputError(f"--tps must be whole numbers, not {text!r}")
    return [int(value) for value in _numbers(text)]


def _gpus(text: str | None, catalog: Catalog) -> list[str]:
    if text is not None and text.strip().lower() == "all":
        return list(catalog.gpu_names())
    return [catalog.gpu(name).name for name in _items(text)]


def _single(
    base: Option, gpus: list[str], precisions: str | None, kv_precisions: str | None, tps: str | None
) -> list[Option]:
    """Return the options that change one thing each."""
    options = configurations(base, gpus=gpus) if gpus else []
    options += configurations(base, precisions=_items(precisions)) if precisions else []
    options += configurations(base, kv_precisions=_items(kv_precisions)) if kv_precisions else []
    options += configurations(base, tensor_parallel=_sizes(tps)) if tps else []
    return options


def _combined(
    base: Option, gpus: list[str], precisions: str | None, kv_precisions: str | None, tps: str | None
) -> list[Option]:
    deployment = base.deployment
    return configurations(
        base,
        gpus=list(dict.fromkeys([deployment.gpu, *gpus])),
        precisions=list(dict.fromkeys([deployment.precision, *_items(precisions)])),
        kv_precisions=list(dict.fromkeys([deployment.kv_precision, *_items(kv_precisions)])),
        tensor_parallel=sorted({deployment.tensor_parallel, *_sizes(tps)}),
    )


def _slo(base: Option, **change: float) -> Option:
    ((field, value),) = change.items()
    name = f"TTFT ≤ {value:g} s" if field == "ttft_seconds" else f"TPOT ≤ {value * 1e3:g} ms"
    return replace(base, name=name, slo=replace(base.slo, **change))


def _cached(base: Option, share: float) -> Option:
    return replace(base, name=f"{share:.0%} from the cache", workload=replace(base.workload, cached_share=share))


def _row(outcome: Outcome) -> tuple[Value, ...]:
    cost = outcome.cost
    missed = "not possible" if outcome.replicas is None else "SLO out of reach"
    return (
        outcome.option.name,
        outcome.replicas,
        None if outcome.replicas is None else f"{outcome.replicas_lower}–{outcome.replicas_upper}",
        outcome.gpus,
        outcome.capacity_requests_per_second,
        outcome.ttft_seconds,
        None if outcome.tpot_seconds is None else outcome.tpot_seconds * 1e3,
        None if outcome.binding is None else outcome.binding.value,
        None if cost is None else cost.dollars_per_hour,
        None if cost is None else cost.dollars_per_million_output_tokens,
        outcome.confidence.value if outcome.feasible else missed,
    )


def _plain(outcome: Outcome) -> dict[str, Any]:
    cost, price, option = outcome.cost, outcome.price, outcome.option
    return {
        "plan": option.name,
        "gpu": option.deployment.gpu,
        "tensor_parallel": option.deployment.tensor_parallel,
        "precision": option.deployment.precision,
        "kv_precision": option.deployment.kv_precision,
        "requests_per_second": option.requests_per_second,
        "fits": outcome.fits,
        "feasible": outcome.feasible,
        "replicas": outcome.replicas,
        "replicas_lower": outcome.replicas_lower,
        "replicas_upper": outcome.replicas_upper,
        "gpus": outcome.gpus,
        "capacity_requests_per_second": outcome.capacity_requests_per_second,
        "ttft_seconds": outcome.ttft_seconds,
        "tpot_seconds": outcome.tpot_seconds,
        "binding": outcome.binding,
        "confidence": outcome.confidence,
        "price": None
        if price is None
        else {
            "dollars_per_gpu_hour": price.dollars_per_gpu_hour,
            "source": price.source,
            "as_of": price.as_of,
        },
        "dollars_per_hour": None if cost is None else cost.dollars_per_hour,
        "dollars_per_million_output_tokens": None if cost is None else cost.dollars_per_million_output_tokens,
        "dollars_per_million_tokens": None if cost is None else cost.dollars_per_million_tokens,
        "utilisation": None if cost is None else cost.utilisation,
        "problem": outcome.problem,
    }
