"""``tokentide evaluate``: a closed loop of a trace, a simulated fleet and each policy that scales it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import Output, OutputOption, clean_errors, emit, notice
from pipeline.cli.durations import parse_duration, parse_start_up
from pipeline.cli.files import write_text
from pipeline.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pipeline.evaluate.result import PolicyResult
    from sizing.planning.preload import Preload

__all__ = ["evaluate"]

_COLUMNS = (
    "policy",
    "replica hours",
    "mean",
    "max",
    "within SLO",
    "TTFT p50",
    "TTFT p99",
    "TPOT p95",
    "unserved",
    "changes",
    "cost",
    "regret",
)


@clean_errors
def evaluate(
    trace: Annotated[
        Path, typer.Argument(help="CSV or Parquet: arrived_at, input_tokens, output_tokens; or counts per bin.")
    ],
    pool: Annotated[Path, typer.Option(help="TOML with one [[pools]] table of the settings (others may stand in it).")],
    policies: Annotated[str | None, typer.Option(help="Comma-separated; without it, all.")] = None,
    lead_time: Annotated[
        str | None, typer.Option(help="What the advice looks ahead; the pool's own without it.")
    ] = None,
    start_up: Annotated[
        str | None,
        typer.Option(
            help="What a replica needs to start; the lead time without it. In parts, for replicas that are held warm: "
            "provisioning=5m,weights=4m,warm-up=60s."
        ),
    ] = None,
    world: Annotated[
        str | None,
        typer.Option(
            help="How the fleet differs from the model: slow=1.4,noise=.1,stragglers=.05,start-fail=.1,crashes=.01,"
            "spot-interrupt=.1,spot-share=.5,spot-notice=120."
        ),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(help="For counts: a per-request trace to draw lengths from, or tokens such as 4000/1000."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Evaluate so many requests and no more.")] = None,
    score_from: Annotated[
        str | None, typer.Option(help="Serve and learn so long a time before anything is scored.")
    ] = None,
    frontier: Annotated[bool, typer.Option("--frontier", help="Sweep each policy's own knob, too.")] = False,
    defer_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Also evaluate with this share of requests moved into valleys.")
    ] = None,
    defer_deadline: Annotated[str, typer.Option(help="How long a moved request may wait, up to a day.")] = "8h",
    calendar: Annotated[
        Path | None,
        typer.Option(help="Announced events, as for backtest; the policies tokentide and preload heed them."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of what is drawn.")] = 0,
    json_out: Annotated[str | None, typer.Option("--json", help="Write the results as JSON; - is stdout.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with tables and charts.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Serve a trace with a simulated fleet that each policy scales, and say what each costs and attains.

    Example: tokentide evaluate requests.csv --pool pool.toml --start-up 100s --json -
    """
    from pipeline.cli.announced import announced_events
    from pipeline.config.catalog import catalog_for
    from pipeline.config.settings import load
    from pipeline.evaluate.evaluation import Question
    from pipeline.evaluate.evaluation import evaluate as evaluated
    from pipeline.evaluate.policies.base import CALENDAR, START_UP_PARTS
    from pipeline.evaluate.policies.registry import chosen_policies
    from pipeline.evaluate.run import trace_origin
    from pipeline.evaluate.trace import read_trace
    from sizing.simulate import World
    from sizing.start_up import StartUp

    settings = load(pool)
    if len(settings.pools) != 1:
        raise ConfigError(f"{pool} must have one [[pools]] table, not {len(settings.pools)}")
    configured = settings.pools[0]
    if lead_time is not None:
        configured = configured.model_copy(update={"lead_time_seconds": float(parse_duration(lead_time))})
    settings = settings.model_copy(update={"pools": (configured,)})
    starts = StartUp(configured.lead_time_seconds) if start_up is None else parse_start_up(start_up)
    given = [name for name, told in ((CALENDAR, calendar is not None), (START_UP_PARTS, starts.is_split)) if told]
    specs = chosen_policies(policies, given)
    read = read_trace(trace, lengths=_lengths(lengths), limit=limit, seed=seed)
    origin, epoch = trace_origin(read, settings.windows.grain_seconds)
    question = Question(
        trace=read,
        settings=settings,
        pool=configured,
        catalog=catalog_for(settings),
        start_up=starts,
        world=None if world is None else World.parse(world),
        score_from_seconds=0.0 if score_from is None else float(parse_duration(score_from)),
        seed=seed,
        calendar=() if calendar is None else tuple(announced_events(calendar, epoch + read.end_seconds - origin)),
    )
    found = evaluated(question, specs, frontier=frontier, progress=_progress())
    data = found.to_dict()
    rows = [_row(result) for result in found.results]
    if defer_share is not None:
        from pipeline.evaluate.deferral import Deferral, deferred_trace

        deferral = Deferral(defer_share, float(parse_duration(defer_deadline)))
        moved, outcome = deferred_trace(read, found.setup, deferral, seed)
        with_it = evaluated(replace(question, trace=moved), specs, progress=_progress())
        policies_with_it = [asdict(result) for result in with_it.results]
        data["deferral"] = asdict(deferral) | asdict(outcome) | {"policies": policies_with_it}
        rows += [(f"{result.policy}, deferred", *_row(result)[1:]) for result in with_it.results]
        notice(
            f"{outcome.deferred:,} requests may wait {defer_deadline}; they wait "
            f"{outcome.wait_mean_seconds / 3600:.1f} h on average, {outcome.late:,} beyond their deadline. Attainment "
            "counts them from their release."
        )
    if json_out is not None and json_out != "-":
        write_text(Path(json_out), json.dumps(data, indent=2, allow_nan=False) + "\n")
        notice(f"results written to {json_out}")
    if report is not None:
        from pipeline.evaluate.report import render_report

        write_text(report, render_report(found))
        notice(f"report written to {report}")
    for plan in found.preloads:
        notice(_plan(plan))
    for item in found.saved:
        notice(str(item))
    if found.spot is not None:
        notice(str(found.spot))
    if found.verdict:
        notice(found.verdict)
    if json_out == "-" or output is Output.JSON:
        emit(Output.JSON, data)
        return
    emit(output, data, _COLUMNS, rows)


def _lengths(text: str | None) -> Path | tuple[int, int] | None:
    """Return the tokens of ``4000/1000``, or the path of a trace.

    Raises:
        InputError: tokens that cannot be.
    """
    if text is None:
        return None
    first, slash, second = text.partition("/")
    if not (slash and first.strip().isdecimal() and second.strip().isdecimal()):
        return Path(text)
    tokens = int(first), int(second)
    if not all(1 <= n <= 10_000_000 for n in tokens):
        raise InputError(f"--lengths {text}: input and output tokens must be between 1 and 10,000,000")
    return tokens


def _plan(plan: Preload) -> str:
    """Say what was loaded before an announced event."""
    spike = plan.spike
    if plan.begin_at is None:
        return f"{spike.name}: {spike.running} replicas carry it"
    begin, onset = (
        datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") for at in (plan.begin_at, spike.starts_at)
    )
    replicas = f"{plan.replicas} replica{'' if plan.replicas == 1 else 's'}"
    idle = "" if plan.idle_dollars is None else f", ${plan.idle_dollars:,.2f}"
    late = "" if not plan.delay_seconds else f"; known too late: ready {plan.delay_seconds:,.0f} s after the onset"
    return (
        f"{spike.name} at {onset} UTC: {replicas} beside {spike.running} loaded from {begin} UTC on, "
        f"{plan.idle_replica_seconds / 3_600:.2f} replica-hours before it{idle}; by a fluid queue "
        f"{plan.late_requests_without:,.0f} requests wait beyond the objective if ordered at the onset, "
        f"{plan.late_requests_with:,.0f} so{late}"
    )


def _progress() -> Callable[[str, float], None] | None:
    """Return what shows the progress on a terminal; None where there is no terminal."""
    if not sys.stderr.isatty():
        return None
    shown_at = 0.0

    def show(name: str, share: float) -> None:
        nonlocal shown_at
        now = time.monotonic()
        if now - shown_at > 0.2 or share >= 1.0:
            shown_at = now
            done = round(30 * share)
            end = "\n" if share >= 1.0 else ""
            print(f"\r{name:<20} [{'#' * done}{'.' * (30 - done)}] {share:>4.0%}", end=end, file=sys.stderr, flush=True)

    return show


def _row(result: PolicyResult) -> tuple[Any, ...]:
    def text(value: float | None, form: str) -> str:
        return "unknown" if value is None else format(value, form)

    return (
        result.policy,
        f"{result.replica_hours:.2f}",
        f"{result.mean_replicas:.2f}",
        result.max_replicas,
        text(result.slo_attainment, ".2%"),
        text(result.ttft_p50_seconds, ".2f"),
        text(result.ttft_p99_seconds, ".2f"),
        text(result.tpot_p95_seconds, ".4f"),
        result.unserved_requests,
        result.scale_events,
        text(result.cost, ",.2f"),
        text(result.regret, ".2f"),
    )
