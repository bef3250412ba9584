"""``tokentide spikes``: what a running instance sees, and the same detector over a file."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from pipeline.alerts.feedback import Verdict, feedback_record
from pipeline.alerts.spikes.detector import Direction, Kind, SpikeDetector
from pipeline.alerts.types import AlertKind
from pipeline.cli.common import (
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
    call,
    clean_errors,
    emit,
    notice,
    settings_from,
)
from pipeline.cli.durations import parse_duration
from pipeline.cli.judged import JudgedRows
from pipeline.cli.series_options import DatesOption, DecimalOption, EncodingOption
from pipeline.errors import InputError
from pipeline.forecast.calendar.effects import to_fields
from pipeline.replay.formats import CsvFormat, DateOrder, Decimal, SeriesKind

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Spikes of demand: those of a running instance, or of a file.")

DEFAULT_URL = "http://127.0.0.1:8321"
_SPIKES = (AlertKind.SPIKE_OBSERVED, AlertKind.SPIKE_FORECAST, AlertKind.DEMAND_DROP)


#: The end of the year 9999: later times are none.
_LATEST_SECONDS = 253_402_300_799
_LEAST_GRAIN_SECONDS = 1e-3


@app.command()
@clean_errors
def show(
    since: Annotated[str, typer.Option(help="How far back to look, such as 6h.")] = "1d",
    everything: Annotated[bool, typer.Option("--all", help="Every kind of alert, not only spikes and drops.")] = False,
    url: UrlOption = DEFAULT_URL,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print spikes and drops of a running instance, newest first. Example: tokentide spikes show --since 6h"""
    data = _alerts(url, since)
    data["alerts"] = [a for a in data["alerts"] if everything or a.get("kind") in _SPIKES]
    rows = [
        (
            _moment(a.get("raised_at")),
            _moment(a.get("onset_at")),
            _moment(a.get("ended_at")) or "active",
            a.get("severity"),
            a.get("kind"),
            f"{a.get('model')}/{a.get('pool')}",
            "" if a.get("ratio") is None else f"{a['ratio']:.2f}",
            a.get("message"),
        )
        for a in data["alerts"]
    ]
    emit(output, data, ("raised (UTC)", "onset", "ended", "severity", "kind", "pool", "ratio", "message"), rows)


@app.command()
@clean_errors
def feedback(
    alert_id: Annotated[str, typer.Argument(help="Of a spike seen or a drop, as `spikes show --output json` has it.")],
    verdict: Annotated[Verdict, typer.Option(help="What the alert was.")],
    config: ConfigOption = None,
    bootstrap: Annotated[str | None, typer.Option(help="Kafka to connect to, host:port.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Mark an alert: false raises the threshold of its pool, useful takes back what the alert raised it by.

    Example: tokentide spikes feedback 'spike_observed|m|chat|1764547200' --verdict false. A later mark replaces it.
    """
    from pipeline.kafka.topics import ensure_topics
    from pipeline.stream.controller.calendar_topic import announce_one

    settings = settings_from(config, kafka={"bootstrap": bootstrap})
    try:
        record = feedback_record(alert_id, verdict, time.time())
    except ValueError as error:
        raise InputError(str(error)) from error
    ensure_topics(settings.kafka, only=[settings.kafka.calendar_topic])
    asyncio.run(announce_one(settings, record))
    emit(
        output,
        to_fields(record),
        ("alert", "verdict", "marked (UTC)"),
        [(alert_id, verdict, _moment(record.starts_at))],
    )


@app.command()
@clean_errors
def annotate(
    grafana: Annotated[str, typer.Option(help="Address of the Grafana server.")],
    token: Annotated[
        str, typer.Option(envvar="GRAFANA_TOKEN", help="Service-account token; better from the environment.")
    ],
    since: Annotated[str, typer.Option(help="How far back to look, such as 6h.")] = "1d",
    url: UrlOption = DEFAULT_URL,
) -> None:
    """Draw the spikes of a running instance into Grafana. Example: tokentide spikes annotate --grafana http://g:3000

    Each episode becomes one annotation and is updated when the command runs again, so it may run from a timer.
    """
    from pipeline.publish.grafana import annotate as draw

    alerts = [a for a in _alerts(url, since)["alerts"] if a.get("kind") in _SPIKES]
    notice(f"{draw(grafana, token, alerts)} episodes drawn")


@app.command()
@clean_errors
def detect(
    source: Annotated[Path, typer.Option("--input", help="Parquet or CSV: series, timestamp, value.")],
    out: Annotated[Path | None, typer.Option(help="CSV or Parquet to write; without it only a summary.")] = None,
    false_alerts_per_day: Annotated[
        float, typer.Option(min=1e-6, max=1000.0, help="Wanted false alerts a day and series; the only threshold.")
    ] = 1.0,
    kind: Annotated[
        Kind, typer.Option(help="Changes of any kind (of shape, drifts, plateaus, spikes), or sudden spikes only.")
    ] = Kind.ANY,
    direction: Annotated[Direction, typer.Option(help="Rises, falls, or both.")] = Direction.BOTH,
    min_ratio: Annotated[float, typer.Option(min=1.0, help="Smallest change against the recent level.")] = 1.0,
    season: Annotated[
        str | None, typer.Option(help="Compare with the same time one season ago, too, such as 1d.")
    ] = None,
    time_column: Annotated[str, typer.Option(help="Column of times.")] = "timestamp",
    value_column: Annotated[str, typer.Option(help="Column of values.")] = "value",
    series_column: Annotated[str, typer.Option(help="Column of series names; may be absent.")] = "series",
    values_are: Annotated[
        SeriesKind,
        typer.Option(help="What values are: counts or gauge (judged as they are), counter (its increase is judged)."),
    ] = SeriesKind.AUTO,
    encoding: EncodingOption = None,
    decimal: DecimalOption = Decimal.POINT,
    dates: DatesOption = DateOrder.ISO,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run the detector over a file, as if it came live. Example: tokentide spikes detect --input s.csv --out a.csv

    Rows are judged in order of time, each with what came before it only. The file written has the columns series,
    timestamp, score, alert, one row for each row read: a score above 1 is a surprise at the wanted rate of false
    alerts; alert is 1 where one is news. For a while after an alert only a greater surprise is, and what is none has a
    score of 1 at most. A missing value is a gap and has no score. What runs live: --kind spike --min-ratio 1.25
    """
    if out is not None and out.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"{out.name}: --out must end in .csv or .parquet")
    if values_are is SeriesKind.EVENTS:
        raise InputError("--values-are events: rows are judged one by one; count them per window first")
    if out is not None and out.exists() and source.exists() and out.samefile(source):
        raise InputError(f"--out {out} is the file that is read; it would be overwritten")
    csv = CsvFormat(encoding, decimal, dates)
    season_seconds = None if season is None else float(parse_duration(season))
    summary = []
    below_zero = too_coarse = 0
    with contextlib.nullcontext() if out is None else JudgedRows(out) as rows:
        for name, at, values in _series(source, time_column, value_column, series_column, values_are, csv):
            grain = _grain(at)
            too_coarse += season_seconds is not None and round(season_seconds / grain) < 2
            if direction is Direction.UP:
                below_zero += sum(value is not None and value < 0.0 for value in values)
            detector = SpikeDetector(false_alerts_per_day, grain, min_ratio, direction, season_seconds, kind)
            scores: list[float | None] = []
            alerts: list[int] = []
            episodes = 0
            for end, value in zip(at, values, strict=True):
                state = detector.observe(end, value)
                episodes += state.began
                told = None if state.score is None else state.score if state.news else min(1.0, state.score)
                scores.append(None if told is None else round(told, 6))
                alerts.append(int(state.news))
            summary.append((name, len(at), f"{grain:g}", episodes, sum(alerts)))
            if rows is not None:
                rows.add(name, at, scores, alerts)
        if rows is not None:
            rows.finish()
            notice(f"{rows.written:,} rows written to {out}")
    if too_coarse:
        notice(f"--season {season} is not compared where rows are farther apart than half of it: {too_coarse} series")
    if below_zero:
        notice(f"{below_zero:,} negative values taken as missing; --direction down or both judges them")
    columns = ("series", "rows", "grain s", "episodes", "rows alerted")
    emit(output, [dict(zip(columns, row, strict=True)) for row in summary], columns, summary)


def _alerts(url: str, since: str) -> dict[str, Any]:
    """What the instance answers about the alerts of the last ``since``, by its own clock."""
    reach = parse_duration(since)
    now = call(url, "/v1/alerts")["now"]
    found: dict[str, Any] = call(url, "/v1/alerts", since=max(0.0, float(now) - reach))
    return found


def _series(
    source: Path,
    time_column: str,
    value_column: str,
    series_column: str,
    kind: SeriesKind,
    csv: CsvFormat,
) -> Iterator[tuple[str, list[float], list[float | None]]]:
    """Yield name, times in epoch seconds and values (None: missing), series by series, in order of time."""
    from pipeline.replay.kinds import dots_between_thousands, guess_kind, odd_rows
    from pipeline.replay.oddities import refuse_mixed_counters
    from pipeline.replay.table import Table, quoted

    with Table(source, csv) as table:
        table.require([time_column, value_column])
        for text in table.notes:
            notice(f"{table.name}: {text}")
        at, value = table.seconds(time_column), table.number(value_column)
        name = f"{quoted(series_column)}::VARCHAR" if series_column in table.types else "''"
        table.refuse_finer_times(time_column)
        table.refuse_bad(time_column, f"{at} IS NULL OR NOT abs({at}) <= {_LATEST_SECONDS}", "no time")
        table.refuse_bad(
            value_column, f"{value} IS NULL AND {quoted(value_column)} IS NOT NULL", "something that is not a number"
        )
        for text in odd_rows(table, time_column, at, name, adds_up=False):
            notice(f"{table.name}: {text}")
        dots = dots_between_thousands(table, value_column)
        if dots is not None:
            notice(f"{table.name}: {dots}")
        if kind is SeriesKind.AUTO:
            kind, why = guess_kind(table, at, value_column, name)
            if kind is SeriesKind.COUNTER:
                notice(f"{table.name}: {value_column} is read as {kind} ({why}); --values-are says otherwise")
        if kind is SeriesKind.COUNTER:
            refuse_mixed_counters(table, at, value_column, name, "--series-column")
        endless = table.one(f"SELECT count(*) FROM source WHERE isinf({value})")
        if endless is not None and endless[0]:
            notice(f"{table.name}: {endless[0]} infinite values taken as missing")
        # In one order with the place in the file, so that rows of one instant keep theirs.
        query = (
            f"SELECT coalesce({name}, '') AS name, {at} AS seconds, coalesce({value}, 'nan'::DOUBLE) AS value, "
            "row_number() OVER () AS place FROM source ORDER BY name, seconds, place"
        )
        for found, times, values in _grouped(table.chunks(query)):
            yield found, times, _increases(values) if kind is SeriesKind.COUNTER else values


def _increases(totals: list[float | None]) -> list[float | None]:
    """Return by how much a counter rose to each value; None where it or the one before is missing."""
    rises: list[float | None] = [None] * len(totals)
    for i, (before, after) in enumerate(itertools.pairwise(totals), 1):
        if before is not None and after is not None:
            rises[i] = after - before if after >= before else after  # it began anew
    return rises


def _grouped(
    chunks: Iterable[Mapping[str, NDArray[np.generic]]],
) -> Iterator[tuple[str, list[float], list[float | None]]]:
    """Cut rows that are ordered by name into series; no more than a chunk and a series is held here."""
    name: str | None = None
    times: list[float] = []
    values: list[float | None] = []
    for chunk in chunks:
        names = chunk["name"]
        seconds, numbers = (np.asarray(chunk[column], dtype=np.float64) for column in ("seconds", "value"))
        cuts = np.flatnonzero(names[1:] != names[:-1]) + 1
        for low, high in itertools.pairwise([0, *cuts.tolist(), len(names)]):
            if name is not None and names[low] != name:
                yield name, times, values
                times, values = [], []
            name = str(names[low])
            times.extend(seconds[low:high].tolist())
            values.extend(v if math.isfinite(v) else None for v in numbers[low:high].tolist())
    if name is not None:
        yield name, times, values


def _grain(times: list[float]) -> float:
    """The usual step between rows, seconds; a minute where there is none."""
    steps = np.diff(np.array(times, dtype=np.float64))
    steps = steps[steps > 0]
    return max(float(np.median(steps)), _LEAST_GRAIN_SECONDS) if steps.size else 60.0


def _moment(epoch: float | None) -> str:
    return "" if epoch is None else datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S")
