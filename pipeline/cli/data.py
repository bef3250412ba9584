"""``tokentide simulate``, ``replay`` and ``backtest``: demand from a scenario or a file."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import ConfigOption, Output, OutputOption, clean_errors, emit, notice, settings_from
from pipeline.cli.durations import parse_duration, parse_durations
from pipeline.errors import InputError

__all__ = ["backtest", "replay", "simulate"]

BootstrapOption = Annotated[str | None, typer.Option(help="Kafka to connect to, host:port.")]

#: More lines of one sort than this are not read.
_MOST_NOTICES = 20


def _stop_event() -> asyncio.Event:
    """An event that Ctrl-C and SIGTERM set; only inside a running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


def _moment(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S")


@clean_errors
def simulate(
    scenario: Annotated[str, typer.Option(help="Which built-in fleet.")] = "demo",
    speed: Annotated[float, typer.Option(min=0.01, max=600, help="Simulated seconds per second.")] = 1.0,
    duration: Annotated[
        str | None, typer.Option(help="Simulated time to run, such as 2h; without it until Ctrl-C.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another fleet.")] = 7,
    follow: Annotated[bool, typer.Option(help="Scale the fleet as recommended.")] = True,
    config: ConfigOption = None,
    bootstrap: BootstrapOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send a simulated fleet's request events to Kafka. Example: tokentide simulate --speed 10 --duration 1h"""
    from pipeline.clock import ScaledClock
    from pipeline.demo.actuator import FleetActuator
    from pipeline.demo.emit import EmitTotals
    from pipeline.demo.emit import emit as emit_events
    from pipeline.demo.scenario import scenario as build
    from pipeline.stream.topics import ensure_topics

    settings = settings_from(config, kafka={"bootstrap": bootstrap})
    seconds = float(parse_duration(duration)) if duration else math.inf
    # A fleet that runs faster than the wall must start in the past, or its events come from the future.
    start = time.time() - (0.0 if speed <= 1 else min(seconds, 86_400.0 * 7))
    fleet = build(scenario, start, seed)
    ensure_topics(settings.kafka)
    notice(f"simulated time starts at {_moment(start)} UTC and runs {speed:g} times as fast; Ctrl-C stops")

    async def main() -> EmitTotals:
        def progress(totals: EmitTotals) -> None:
            notice(f"{_moment(totals.event_time)}  {totals.events:,} events")

        return await emit_events(
            settings.kafka,
            fleet,
            ScaledClock(start, time.time(), speed),
            FleetActuator(fleet),
            end=start + seconds,
            follow=follow,
            stop=_stop_event(),
            progress=progress,
        )

    totals = asyncio.run(main())
    data = {
        "events": totals.events,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "requests_by_pool": totals.requests_by_pool,
    }
    emit(output, data, ("what", "value"), data.items())


@clean_errors
def replay(
    trace: Annotated[Path, typer.Argument(help="Parquet or CSV: one row per request, or counts per interval.")],
    model: Annotated[str, typer.Option(help="Model that the events name.")],
    pool: Annotated[str, typer.Option(help="Pool that the events name.")] = "default",
    lengths: Annotated[Path | None, typer.Option(help="Per-request trace to draw token lengths from.")] = None,
    speed: Annotated[float, typer.Option(min=0, help="Event seconds per second; 0: as fast as possible.")] = 0.0,
    start_at: Annotated[
        str | None,
        typer.Option(help="Move the trace to begin then: ISO 8601 time, or 'now'; without it its own dates."),
    ] = None,
    seed: Annotated[int, typer.Option(help="For what is drawn: arrivals within an interval, lengths.")] = 7,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    time_column: Annotated[str | None, typer.Option(help="Column of times; recognised without it.")] = None,
    input_column: Annotated[str | None, typer.Option(help="Column of input tokens; recognised without it.")] = None,
    output_column: Annotated[str | None, typer.Option(help="Column of output tokens; recognised without it.")] = None,
    count_column: Annotated[str | None, typer.Option(help="Column of counts; recognised without it.")] = None,
    config: ConfigOption = None,
    bootstrap: BootstrapOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send a recorded trace to Kafka as events. Example: tokentide replay conv.parquet --model m --speed 60"""
    from pipeline.replay.to_kafka import ReplayTotals, replay_trace
    from pipeline.replay.trace import Trace

    settings = settings_from(config, kafka={"bootstrap": bootstrap})
    opened = Trace.open(
        trace,
        lengths=lengths,
        time_column=time_column,
        input_column=input_column,
        output_column=output_column,
        count_column=count_column,
    )
    begin = _start(start_at)
    if start_at == "now" and (speed == 0 or speed > 1):
        raise InputError("--start-at now needs --speed between 0 and 1, or the events would come from the future")

    async def main() -> ReplayTotals:
        def progress(totals: ReplayTotals) -> None:
            reached = _moment(totals.last_completed_at) if totals.last_completed_at is not None else "-"
            notice(f"{reached}  {totals.events:,} events  {totals.events_per_second:,.0f}/s")

        return await replay_trace(
            settings,
            opened,
            model,
            pool,
            speed=speed,
            start_at=begin,
            seed=seed,
            limit=limit,
            stop=_stop_event(),
            progress=progress,
        )

    totals = asyncio.run(main())
    data = {
        "events": totals.events,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "first_arrived_at": totals.first_arrived_at,
        "last_arrived_at": totals.last_arrived_at,
        "wall_seconds": round(totals.wall_seconds, 3),
    }
    emit(output, data, ("what", "value"), data.items())


@clean_errors
def backtest(
    source: Annotated[Path, typer.Argument(help="Parquet or CSV.")],
    step: Annotated[str, typer.Option(help="Width of a window.")] = "5m",
    horizons: Annotated[str, typer.Option(help="How far ahead, comma-separated.")] = "5m,15m,1h",
    time_column: Annotated[str, typer.Option(help="Column of times.")] = "timestamp",
    value_column: Annotated[
        str | None, typer.Option(help="Column of counts; without it each row is a request.")
    ] = None,
    group_column: Annotated[str | None, typer.Option(help="Column that tells series apart.")] = None,
    zeros_are_gaps: Annotated[bool, typer.Option(help="Take windows that sum to zero as missing telemetry.")] = False,
    season: Annotated[str, typer.Option(help="Cycle to learn.")] = "1d",
    warmup: Annotated[str | None, typer.Option(help="Left out of the scores; default two seasons.")] = None,
    calendar: Annotated[
        Path | None, typer.Option(help="Announced events: .csv, .json, .jsonl or .ics; their announced_at counts.")
    ] = None,
    policies: Annotated[bool, typer.Option(help="Compare scaling by forecast with simple rules.")] = False,
    capacity_per_replica: Annotated[
        float | None, typer.Option(min=1e-9, help="Demand per window that one replica takes, for --policies.")
    ] = None,
    forecasts_out: Annotated[Path | None, typer.Option(help="Write every forecast to this Parquet file.")] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write scores and settings to this JSON file.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report with charts.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the forecasters.")] = 7,
    output: OutputOption = Output.TABLE,
) -> None:
    """Forecast a recorded series as it would have been live. Example: tokentide backtest t.parquet --step 5m"""
    from pipeline.announce.files import Defaults, read_records
    from pipeline.replay.backtest import run_backtest, write_forecasts
    from pipeline.replay.policies import evaluate_policies
    from pipeline.replay.report import POLICY_COLUMNS, SCORE_COLUMNS, policy_rows, score_rows, write_report
    from pipeline.replay.sources import read_demand
    from pipeline.replay.unscored import unscored

    series = read_demand(
        source,
        step_seconds=parse_duration(step),
        time_column=time_column,
        value_column=value_column,
        group_column=group_column,
        zeros_are_gaps=zeros_are_gaps,
    )
    told = 0.0

    def progress(name: str, share: float) -> None:
        nonlocal told
        if sys.stderr.isatty() and time.monotonic() - told > 1.0:
            told = time.monotonic()
            notice(f"{name}: {share:.0%}")

    events = []
    if calendar is not None:
        found = read_records(calendar, Defaults(), max(float(item.ends()[-1]) for item in series) + 86_400.0 * 90)
        events = found.records
        for reason in found.skipped:
            notice(f"skipped: {reason}")
        notice(f"{len(events)} announced events from {calendar.name}")
    result = run_backtest(
        series,
        calendar=events,
        horizons_seconds=parse_durations(horizons),
        warmup_seconds=float(parse_duration(warmup)) if warmup else None,
        season_seconds=parse_duration(season),
        seed=seed,
        progress=progress,
    )
    missing = unscored(result)
    for reason in missing[:_MOST_NOTICES]:
        notice(reason)
    if len(missing) > _MOST_NOTICES:
        notice(f"… and {len(missing) - _MOST_NOTICES:,} more like these")
    outcomes = evaluate_policies(result, capacity_per_replica) if policies else ()
    if forecasts_out is not None:
        notice(f"{write_forecasts(result, forecasts_out):,} forecasts written to {forecasts_out}")
    data = result.to_dict() | {"policies": [asdict(outcome) for outcome in outcomes]}
    if json_out is not None:
        try:
            json_out.write_text(json.dumps(data, indent=2, allow_nan=False, default=str) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {json_out}: {error.strerror or error}") from error
    if report is not None:
        write_report(result, report, outcomes, title=f"Backtest of {source.name}")
        notice(f"report written to {report}")
    emit(output, data, SCORE_COLUMNS, score_rows(result.scores))
    if outcomes and output is Output.TABLE:
        emit(output, None, POLICY_COLUMNS, policy_rows(outcomes))


def _start(text: str | None) -> float | None:
    """Epoch seconds of ``--start-at``; a time without a zone is UTC."""
    if text is None:
        return None
    if text == "now":
        return time.time()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"--start-at {text!r} is neither 'now' nor an ISO 8601 time") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
