"""``tokentide calendar``: announce events, so that forecasts know of them beforehand."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.alerts.feedback import is_feedback
from pipeline.calendar_import.times import iso, parse_moment, zone
from pipeline.cli.common import ConfigOption, Output, OutputOption, clean_errors, counted, emit, notice, settings_from
from pipeline.cli.durations import parse_duration
from pipeline.config.settings import Settings
from pipeline.errors import InputError
from pipeline.forecast.calendar.effects import CalendarRecord, Scope, parse_record, to_fields
from pipeline.forecast.calendar.known import CalendarChange

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Announced events: launches, campaigns, holidays.")

COLUMNS = ("id", "kind", "starts (UTC)", "ends (UTC)", "size", "confidence", "model", "pool", "source")

BootstrapOption = Annotated[str | None, typer.Option(help="Kafka to connect to, host:port.")]
SizeOption = Annotated[float | None, typer.Option(help="Demand during the event over the usual one; 2 is double.")]
ConfidenceOption = Annotated[float | None, typer.Option(help="How sure the announcement is, up to 1.")]
ModelOption = Annotated[str | None, typer.Option(help="Only this model; without it all.")]
PoolOption = Annotated[str | None, typer.Option(help="Only this pool; without it all.")]
ZoneOption = Annotated[str, typer.Option("--timezone", help="Of times that name none, and of days.")]
AnnouncedOption = Annotated[
    str, typer.Option(help="Since when it is known: 'now', a time, or 'always' (for replays of the past).")
]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Print the records, send nothing.")]


def _announced_at(text: str, timezone: str) -> float | None:
    if text == "always":
        return None
    return time.time() if text == "now" else parse_moment(text, zone(timezone))


def _rows(records: Sequence[CalendarRecord]) -> list[tuple[Any, ...]]:
    return [
        (r.id, r.kind, iso(r.starts_at), iso(r.ends_at), r.expected_size, r.confidence, *r.scope, r.source)
        for r in sorted(records, key=lambda record: (record.starts_at, record.id))
    ]


def _print(output: Output, records: Sequence[CalendarRecord]) -> None:
    ordered = sorted(records, key=lambda record: (record.starts_at, record.id))
    emit(output, [to_fields(record) for record in ordered], COLUMNS, _rows(records))


def _send(settings: Settings, changes: Sequence[CalendarChange]) -> None:
    from pipeline.kafka.topics import ensure_topics
    from pipeline.stream.controller.calendar_topic import announce

    ensure_topics(settings.kafka, only=[settings.kafka.calendar_topic])
    sent = asyncio.run(announce(settings, changes))
    notice(f"{sent} record{'s' if sent != 1 else ''} written to {settings.kafka.calendar_topic}")


@app.command("add")
@clean_errors
def add(
    kind: Annotated[str, typer.Option(help="Events of one kind share what was learned, such as launch.")],
    starts: Annotated[str, typer.Option(help="ISO 8601 time.")],
    ends: Annotated[str | None, typer.Option(help="ISO 8601 time.")] = None,
    duration: Annotated[str | None, typer.Option(help="Instead of --ends, such as 2h.")] = None,
    size: SizeOption = None,
    confidence: ConfidenceOption = None,
    model: ModelOption = None,
    pool: PoolOption = None,
    event_id: Annotated[str | None, typer.Option("--id", help="An event with this id is replaced.")] = None,
    source: Annotated[str, typer.Option(help="Who announces it.")] = "tokentide calendar add",
    note: Annotated[str, typer.Option(help="For people.")] = "",
    timezone: ZoneOption = "UTC",
    announced: AnnouncedOption = "now",
    dry_run: DryOption = False,
    config: ConfigOption = None,
    bootstrap: BootstrapOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Announce one event. Example: tokentide calendar add --kind launch --starts 2026-12-01T09:00 --duration 2h"""
    from pipeline.calendar_import.files import identity

    if (ends is None) == (duration is None):
        raise InputError("give either --ends or --duration")
    settings = settings_from(config, kafka={"bootstrap": bootstrap})
    local = zone(timezone)
    starts_at = parse_moment(starts, local)
    ends_at = starts_at + parse_duration(duration) if duration is not None else parse_moment(ends or "", local)
    raw = {
        "id": event_id or identity(kind, starts_at, ends_at, model, pool),
        "kind": kind,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "expected_size": size,
        "confidence": 1.0 if confidence is None else confidence,
        "announced_at": _announced_at(announced, timezone),
        "scope": {"model": model, "pool": pool},
        "source": source,
        "note": note,
    }
    try:
        record = parse_record(raw)
    except ValueError as error:
        raise InputError(str(error)) from error
    if not dry_run:
        _send(settings, [CalendarChange(record)])
    _print(output, [record])


@app.command("list")
@clean_errors
def list_events(
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None,
    past: Annotated[bool, typer.Option("--all", help="Also what is over.")] = False,
    config: ConfigOption = None,
    bootstrap: BootstrapOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the announced events. Example: tokentide calendar list --kind launch"""
    from pipeline.kafka.topics import ensure_topics
    from pipeline.stream.controller.calendar_topic import read_calendar

    settings = settings_from(config, kafka={"bootstrap": bootstrap})
    ensure_topics(settings.kafka, only=[settings.kafka.calendar_topic])
    book = asyncio.run(read_calendar(settings))
    if book.rejected:
        notice(f"{book.rejected} records of {settings.kafka.calendar_topic} are no calendar records; they are ignored")
    now = time.time()
    records = [record for record in book.records().values() if not is_feedback(record)]
    _print(output, [r for r in records if (past or r.ends_at > now) and kind in (None, r.kind)])


@app.command("remove")
@clean_errors
def remove(
    ids: Annotated[list[str], typer.Argument(help="Ids as `calendar list` prints them.")],
    config: ConfigOption = None,
    bootstrap: BootstrapOption = None,
) -> None:
    """Take events back. Example: tokentide calendar remove launch-1"""
    from pipeline.kafka.topics import ensure_topics
    from pipeline.stream.controller.calendar_topic import read_calendar

    settings = settings_from(config, kafka={"bootstrap": bootstrap})
    ensure_topics(settings.kafka, only=[settings.kafka.calendar_topic])
    known = asyncio.run(read_calendar(settings)).records()
    unknown = sorted(set(ids) - known.keys())
    if unknown:
        raise InputError(f"no event is called {', '.join(unknown)[:300]}; nothing was removed")
    _send(settings, [CalendarChange(known[name], removed=True) for name in dict.fromkeys(ids)])


@app.command("import")
@clean_errors
def import_events(
    file: Annotated[Path | None, typer.Argument(help=".ics, .csv, .json or .jsonl.")] = None,
    holidays: Annotated[str | None, typer.Option(help="Instead: public holidays of a country, such as DE.")] = None,
    subdivision: Annotated[str | None, typer.Option(help="A state or province, for --holidays.")] = None,
    years: Annotated[str | None, typer.Option(help="For --holidays, such as 2026,2027; default this and next.")] = None,
    until: Annotated[str | None, typer.Option(help="Follow recurring events until then; default a year.")] = None,
    kind: Annotated[str | None, typer.Option(help="Kind of all records; without it what the file says.")] = None,
    size: SizeOption = None,
    confidence: ConfidenceOption = None,
    model: ModelOption = None,
    pool: PoolOption = None,
    timezone: ZoneOption = "UTC",
    announced: AnnouncedOption = "now",
    dry_run: DryOption = False,
    config: ConfigOption = None,
    bootstrap: BootstrapOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Announce the events of a file or the holidays of a country. Example: tokentide calendar import team.ics"""
    from pipeline.calendar_import.files import Defaults, read_records
    from pipeline.calendar_import.public_holidays import public_holidays

    if (file is None) == (holidays is None):
        raise InputError("give either a file or --holidays")
    settings = settings_from(config, kafka={"bootstrap": bootstrap})
    local = zone(timezone)
    defaults = Defaults(kind, size, confidence, model, pool, _announced_at(announced, timezone), local)
    if file is not None:
        found = read_records(file, defaults, parse_moment(until, local) if until else time.time() + 366 * 86_400.0)
    else:
        now = datetime.now(UTC).year
        found = public_holidays(holidays or "", subdivision, _years(years) or (now, now + 1), defaults)
    if not found.records and found.skipped:
        raise InputError(f"none of {counted(len(found.skipped), 'record')} can be imported, such as {found.skipped[0]}")
    if not found.records:
        raise InputError(f"{file or holidays}: there is no record to import")
    for reason in found.skipped:
        notice(f"skipped: {reason}")
    if not dry_run:
        _send(settings, [CalendarChange(record) for record in found.records])
    _print(output, found.records)


@app.command("read")
@clean_errors
def read_announcement(
    files: Annotated[list[Path], typer.Argument(help="Text files with one announcement each; - is standard input.")],
    model: ModelOption = None,
    pool: PoolOption = None,
    dry_run: DryOption = False,
    config: ConfigOption = None,
    bootstrap: BootstrapOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a language model find the events of a text. Example: tokentide calendar read news.txt --dry-run"""
    from pipeline.calendar_import.announcement_llm import EventReader

    settings = settings_from(config, kafka={"bootstrap": bootstrap})
    reader = EventReader(settings.reader)
    texts = [_text(file) for file in files]

    async def read() -> list[CalendarRecord]:
        records: dict[str, CalendarRecord] = {}
        for file, text in zip(files, texts, strict=True):
            reading = await reader.read(text, time.time())
            for reason in reading.refused:
                notice(f"refused: {file.name}: {reason}")
            for found in reading.records:
                scope = Scope(model or found.scope.model, pool or found.scope.pool)
                records[found.id] = replace(found, scope=scope)
        return list(records.values())

    try:
        records = asyncio.run(read())
    finally:
        notice(f"{reader.calls} calls, {reader.tokens} tokens")
    if records and not dry_run:
        _send(settings, [CalendarChange(record) for record in records])
    _print(output, records)


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error


def _years(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise InputError(f"--years {text!r} is not a list such as 2026,2027") from error
