"""``tokentide simulate`` and ``replay``: demand from a scenario or a file, to Kafka."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import ConfigOption, Output, OutputOption, clean_errors, emit, notice, settings_from
from pipeline.cli.durations import parse_duration
from pipeline.errors import InputError

__all__ = ["replay", "simulate"]

BootstrapOption = Annotated[str | None, typer.Option(help="Kafka to connect to, host:port.")]


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
    speed: Annotated[
        float,
        typer.Option(
            min=0.01, max=600, help="Simulated seconds per second; above 1, at most what a pipeline keeps up with."
        ),
    ] = 1.0,
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
    from pipeline.clock import Clock, ScaledClock, simulated_speed
    from pipeline.demo.actuator import FleetActuator
    from pipeline.demo.emit import EmitTotals
    from pipeline.demo.emit import emit as emit_events
    from pipeline.demo.scenario import scenario as build
    from pipeline.kafka.topics import ensure_topics
    from pipeline.pacing import PaceLimits, Pacemaker

    settings = settings_from(config, kafka={"bootstrap": bootstrap})
    seconds = float(parse_duration(duration)) if duration else math.inf
    # A fleet that runs faster than the wall must start in the past, or its events come from the future.
    start = time.time() - (0.0 if speed <= 1 else min(seconds, 86_400.0 * 7))
    fleet = build(scenario, start, seed)
    kafka = settings.kafka
    ensure_topics(kafka, only=[kafka.requests_topic, kafka.replicas_topic])
    notice(f"simulated time starts at {_moment(start)} UTC and runs {speed:g} times as fast at most; Ctrl-C stops")

    async def main() -> EmitTotals:
        clock: Clock = ScaledClock(start, time.time(), speed)
        if speed > 1:
            # Real time is what real servers would go on at, whatever becomes of the pipeline.
            clock = Pacemaker(start, speed, PaceLimits.of(settings), floor=1.0)

        def progress(totals: EmitTotals) -> None:
            running = simulated_speed(clock)
            shown = "" if running is None else f"  {running.actual:.3g}× real time"
            notice(f"{_moment(totals.event_time)}  {totals.events:,} events{shown}")

        return await emit_events(
            settings.kafka,
            fleet,
            clock,
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
    speed: Annotated[
        str,
        typer.Option(
            help="Event seconds per second; max: as fast as a pipeline keeps up; 0: as fast as Kafka takes events."
        ),
    ] = "max",
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
    begin, pace = _start(start_at), _speed(speed)
    if start_at == "now" and (pace is None or pace == 0 or pace > 1):
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
            speed=pace,
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


def _speed(text: str) -> float | None:
    """The number of ``--speed``; None for "max"."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and speed >= 0):
        raise InputError(f"--speed must be max, 0 or a positive number, got {text!r}")
    return speed


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
