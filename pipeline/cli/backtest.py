"""``tokentide backtest``: forecasts over a recorded series, as they would have been issued."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import ConfigOption, Output, OutputOption, clean_errors, emit, notice, settings_from
from pipeline.cli.durations import parse_duration, parse_durations
from pipeline.cli.series_options import (
    DatesOption,
    DecimalOption,
    Demand,
    DuplicatesOption,
    EncodingOption,
    EndOption,
    KindOption,
    PrometheusOption,
    QueryOption,
    StartOption,
    TokenOption,
    range_of,
)
from pipeline.errors import ConfigError, InputError
from pipeline.forecast.exogenous.rows import ExogenousRow, ExternalForecast, SignalValue
from pipeline.forecast.types import Signal
from pipeline.replay.formats import CsvFormat, DateOrder, Decimal, Rows, SeriesKind

if TYPE_CHECKING:
    from pipeline.replay.grid import DemandSeries

__all__ = ["backtest", "default_horizons"]

#: More lines of one sort than this are not read.
_MOST_NOTICES = 20
#: How far ahead where nobody says: 5 min, 15 min, 1 h.
_HORIZONS_SECONDS = (300, 900, 3600)


def default_horizons(step_seconds: int) -> tuple[int, ...]:
    """Horizons in seconds where none are named: the usual ones, or as many steps where the step does not fit them."""
    if all(horizon % step_seconds == 0 for horizon in _HORIZONS_SECONDS):
        return _HORIZONS_SECONDS
    return tuple(horizon // _HORIZONS_SECONDS[0] * step_seconds for horizon in _HORIZONS_SECONDS)


@clean_errors
def backtest(
    source: Annotated[
        Path | None, typer.Argument(help="Parquet, CSV, or a saved answer of Prometheus query_range (.json).")
    ] = None,
    step: Annotated[str, typer.Option(help="Width of a window.")] = "5m",
    horizons: Annotated[
        str | None,
        typer.Option(
            help="How far ahead, comma-separated. Default: 5m,15m,1h; 1, 3 and 12 steps where those are no whole steps."
        ),
    ] = None,
    kind: KindOption = SeriesKind.AUTO,
    time_column: Annotated[str, typer.Option(help="Column of times.")] = "timestamp",
    value_column: Annotated[
        list[str] | None,
        typer.Option(help="Column of values; give it several times for several. Without it each row is a request."),
    ] = None,
    group_column: Annotated[str | None, typer.Option(help="Column that distinguishes series.")] = None,
    zeros_are_gaps: Annotated[bool, typer.Option(help="Take windows that sum to zero as missing telemetry.")] = False,
    drop_duplicates: DuplicatesOption = False,
    encoding: EncodingOption = None,
    decimal: DecimalOption = Decimal.POINT,
    dates: DatesOption = DateOrder.ISO,
    prometheus: PrometheusOption = None,
    query: QueryOption = None,
    token: TokenOption = None,
    store: Annotated[
        Path | None, typer.Option(help="Read the windows that a controller recorded in this DuckDB file.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Read request events from this topic (kafka settings: -c).")] = None,
    start: StartOption = None,
    end: EndOption = None,
    signal: Annotated[Demand, typer.Option(help="Which demand of a pool, for --store and --topic.")] = Demand.REQUESTS,
    model: Annotated[str | None, typer.Option(help="Only this model, for --store and --topic.")] = None,
    pool: Annotated[str | None, typer.Option(help="Only this pool, for --store and --topic.")] = None,
    config: ConfigOption = None,
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
    experts: Annotated[
        str,
        typer.Option(
            help="Experts of the pool, comma-separated: default and others; each gets a column. external=FILE adds "
            "forecasts of another program (.csv or .jsonl)."
        ),
    ] = "default",
    signals: Annotated[
        Path | None, typer.Option(help="Signals for the regression and tree experts: .csv or .jsonl, with known_at.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Has no effect.", hidden=True)] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Forecast a recorded series as it would have been live.

    Example: tokentide backtest t.parquet --step 5m
    Example: tokentide backtest --prometheus http://prometheus:9090 --query 'sum(rate(x_total[5m]))' --start 30d
    """
    from pipeline.cli.announced import announced_events
    from pipeline.replay.backtest import run_backtest, write_forecasts
    from pipeline.replay.experts import expert_columns, expert_rows
    from pipeline.replay.policies import evaluate_policies
    from pipeline.replay.report import POLICY_COLUMNS, SCORE_COLUMNS, policy_rows, score_rows, write_report
    from pipeline.replay.unscored import unscored

    step_seconds = parse_duration(step)
    sources = {"a file": source, "--prometheus": prometheus, "--store": store, "--topic": topic}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        named = f"; given: {', '.join(given)}" if given else ""
        raise InputError(f"name one source: {', '.join(sources)}{named}")
    if store is not None:
        from pipeline.replay.recorded_demand import read_store

        low, high = (None, None) if start is None and end is None else range_of(start or "1970-01-01", end)
        series = read_store(
            store, step_seconds=step_seconds, signal=signal.signal, model=model, pool=pool, start=low, end=high
        )
        title = store.name
    elif topic is not None:
        from pipeline.replay.topic_demand import read_topic

        low, high = range_of(start, end)
        reading = read_topic(
            settings_from(config),
            topic,
            start=low,
            end=high,
            step_seconds=step_seconds,
            signal=signal.signal,
            model=model,
            pool=pool,
            notice=notice,
        )
        series, title = asyncio.run(reading), topic
    else:
        rows = _asked(prometheus, query, token, start, end, step_seconds) if prometheus is not None else source
        assert rows is not None
        series = _table(
            rows,
            step_seconds,
            kind,
            time_column,
            value_column or (),
            group_column,
            zeros_are_gaps,
            drop_duplicates,
            CsvFormat(encoding, decimal, dates),
        )
        title = rows.name
    shown_at = 0.0

    def progress(name: str, share: float) -> None:
        nonlocal shown_at
        if sys.stderr.isatty() and time.monotonic() - shown_at > 1.0:
            shown_at = time.monotonic()
            notice(f"{name}: {share:.0%}")

    events = []
    if calendar is not None:
        events = announced_events(calendar, max(float(item.ends()[-1]) for item in series))
    if seed is not None:
        notice("--seed has no effect: forecasters draw no random numbers; the next minor version refuses it")
    names, external = _expert_names(experts)
    result = run_backtest(
        series,
        calendar=events,
        horizons_seconds=default_horizons(step_seconds) if horizons is None else parse_durations(horizons),
        warmup_seconds=float(parse_duration(warmup)) if warmup else None,
        season_seconds=parse_duration(season),
        experts=names,
        exogenous=_exogenous(external, signals, signal.signal if store or topic else None),
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
        write_report(result, report, outcomes, title=f"Backtest of {title}")
        notice(f"report written to {report}")
    emit(output, data, SCORE_COLUMNS, score_rows(result.scores))
    if result.experts and output is Output.TABLE:
        emit(output, None, expert_columns(result.experts), expert_rows(result.experts))
    if outcomes and output is Output.TABLE:
        emit(output, None, POLICY_COLUMNS, policy_rows(outcomes))


def _expert_names(text: str) -> tuple[tuple[str, ...], Path | None]:
    """Split and check the names of experts; return them and the file of ``external=FILE``.

    Raises:
        InputError: a name does not exist, needs a library that is not installed, or lacks its file.
    """
    from pipeline.forecast.experts.registry import check_expert_names

    external = None
    names = []
    for part in (part.strip() for part in text.split(",")):
        name, equals, file = part.partition("=")
        if name == "external":
            if not file or external is not None:
                raise InputError("--experts: external needs one file, such as external=forecasts.csv")
            external = Path(file)
        elif equals:
            raise InputError(f"--experts: only external takes a file, not {name!r}")
        if name:
            names.append(name)
    try:
        check_expert_names(names)
    except ConfigError as error:
        raise InputError(f"--experts: {error}") from error
    return tuple(names), external


def _exogenous(external: Path | None, signals: Path | None, demand: Signal | None) -> list[ExogenousRow]:
    """Read external forecasts (of one demand, where it is known) and signals.

    Raises:
        InputError: a file cannot be read, or holds rows of the other kind.
    """
    from pipeline.stream.exogenous.files import read_rows

    rows: list[ExogenousRow] = []
    if external is not None:
        found = [row for row in read_rows(external) if isinstance(row, ExternalForecast)]
        rows += [row for row in found if demand is None or row.series.signal == demand]
        if not rows:
            raise InputError(f"{external} has no external forecasts{f' of {demand}' if demand and found else ''}")
    if signals is not None:
        values = [row for row in read_rows(signals) if isinstance(row, SignalValue)]
        if not values:
            raise InputError(f"{signals} has no values of signals")
        rows += values
    return rows


def _asked(
    url: str, query: str | None, token: str | None, start: str | None, end: str | None, step_seconds: int
) -> Rows:
    """Return what a Prometheus answers."""
    from pipeline.replay.prometheus import query_range

    if query is None:
        raise InputError("--prometheus needs --query, such as --query 'sum(rate(vllm:request_success_total[5m]))'")
    low, high = range_of(start, end)
    rows, warnings = query_range(url, query, low, high, step_seconds, token=token)
    for text in warnings:
        notice(f"Prometheus warns: {text}")
    return rows


def _table(
    source: Path | Rows,
    step_seconds: int,
    kind: SeriesKind,
    time_column: str,
    value_columns: Sequence[str],
    group_column: str | None,
    zeros_are_gaps: bool,
    drop_duplicates: bool,
    csv: CsvFormat,
) -> list[DemandSeries]:
    from pipeline.replay.sources import read_demand

    if isinstance(source, Rows) or source.suffix.lower() == ".json":
        # A Prometheus answer: its columns are known, and each series is one.
        value_columns, group_column = value_columns or ("value",), group_column or "series"
    return read_demand(
        source,
        step_seconds=step_seconds,
        time_column=time_column,
        value_column=value_columns,
        group_column=group_column,
        zeros_are_gaps=zeros_are_gaps,
        kind=kind,
        csv=csv,
        drop_duplicates=drop_duplicates,
        notice=notice,
    )
