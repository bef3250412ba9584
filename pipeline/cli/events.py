"""``tokentide events``: what the pipeline makes of request events, from a file or live from a topic."""

from __future__ import annotations

import json
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.common import (
    EXIT_FINDINGS,
    ConfigOption,
    Output,
    OutputOption,
    clean_errors,
    counted,
    emit,
    notice,
    settings_from,
)
from pipeline.config.user_files import read_text
from pipeline.errors import ConfigError, InputError
from pipeline.events.codecs.base import Codec
from pipeline.events.codecs.registry import AUTO, MAPPING, codec_for, codec_names
from pipeline.events.inspect import Inspected, inspect_record
from pipeline.events.validation import EventLimits
from pipeline.windows.aliases import PoolAliases

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Check request events against what the pipeline accepts.")

CodecOption = Annotated[str | None, typer.Option(help="Format of the records; without it, it is recognised.")]
MappingOption = Annotated[
    Path | None, typer.Option(help="TOML or JSON file with a mapping: event field to path, unit, constant.")
]
ModelOption = Annotated[str | None, typer.Option(help="Model of records that name none.")]
PoolOption = Annotated[str | None, typer.Option(help="Pool of records that name none.")]

#: A file is read whole; larger ones belong on a topic.
_MOST_BYTES = 512 * 1024 * 1024
#: 2001-09-09: what is older was not written as epoch seconds.
_EARLIEST_SECONDS = 1e9
#: First bytes of files that are one record: OTLP protobuf or a schema registry's header, gzip, zstd, UTF-16.
_BINARY = (b"\x0a", b"\x00", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xff\xfe", b"\xfe\xff")


@app.command()
@clean_errors
def check(
    file: Annotated[str, typer.Argument(help="JSON lines, one JSON document, or one binary record; - is stdin.")],
    codec: CodecOption = None,
    mapping: MappingOption = None,
    model: ModelOption = None,
    pool: PoolOption = None,
    at: Annotated[
        float | None, typer.Option(help="Epoch seconds to judge age and lead by; without it, each event's own time.")
    ] = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say of every record in a file whether it is accepted. Example: tokentide events check access.log --codec auto

    JSON output is a list, per record in order: line, verdict (accepted, refused or ignored), codec, events (normalised
    fields), unknown (fields), reason, detail. Exit code 3 when a record is refused. With -c, an event of an alias has
    the names of the pool that counts it, and reported_model and reported_pool besides.
    """
    reader = _reader(codec, mapping, model, pool)
    records = list(_records(_content(file), binary=reader.name == "otlp_proto"))
    now = time.time() if at is None else at
    limits = EventLimits() if at is not None else EventLimits(max_age_seconds=now - _EARLIEST_SECONDS)
    aliases = settings_from(config).aliases() if config is not None else PoolAliases({})
    results = [(line, _folded(inspect_record(value, reader, limits, now), aliases)) for line, value in records]
    _print(output, results)
    refused = sum(result.verdict == "refused" for _, result in results)
    notice(
        f"{counted(len(results), 'record')}: {sum(result.verdict == 'accepted' for _, result in results)} accepted, "
        f"{refused} refused, {sum(result.verdict == 'ignored' for _, result in results)} ignored; "
        f"{counted(sum(len(result.events) for _, result in results), 'event')}"
    )
    if refused:
        raise typer.Exit(EXIT_FINDINGS)


@app.command()
@clean_errors
def tap(
    topic: Annotated[str | None, typer.Option(help="Topic; without it the first source of the settings.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Stop after so many records.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.1, help="Stop after so long.")] = 60.0,
    newest: Annotated[bool, typer.Option(help="Only records that come from now on.")] = False,
    codec: CodecOption = None,
    mapping: MappingOption = None,
    model: ModelOption = None,
    pool: PoolOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what the pipeline makes of the records of a topic. Example: tokentide events tap -c tokentide.toml --count 5

    Reads outside every consumer group: nothing is acknowledged or moved. ``line`` is the offset.
    """
    from pipeline.kafka.tap import read_topic

    settings = settings_from(config)
    source = next((s for s in settings.sources() if topic in (None, s.topic)), None)
    name = topic or settings.sources()[0].topic
    given = codec is not None or mapping is not None or source is None
    reader = _reader(codec, mapping, model, pool) if given or source is None else source.reader()
    stream = settings.stream
    limits = EventLimits(stream.max_event_bytes, stream.max_age_seconds, stream.max_ahead_seconds)
    results, aliases = [], settings.aliases()
    for record in read_topic(settings.kafka, name, count, seconds, newest=newest):
        found = inspect_record(record.value, reader, limits, time.time(), record.timestamp, record.headers)
        results.append((record.offset, _folded(found, aliases)))
    _print(output, results)
    notice(f"{len(results)} records of {name}")


def _folded(result: Inspected, aliases: PoolAliases) -> Inspected:
    """The result with each event under the names of the pool that counts it."""
    for event in result.events:
        model, pool = aliases.pool_of(event["model"], event["pool"])
        if (model, pool) != (event["model"], event["pool"]):
            event |= {"reported_model": event["model"], "reported_pool": event["pool"], "model": model, "pool": pool}
    return result


def _reader(codec: str | None, mapping: Path | None, model: str | None, pool: str | None) -> Codec:
    name = codec or (MAPPING if mapping is not None else AUTO)
    if mapping is not None and name != MAPPING:
        raise InputError(f"--mapping is for --codec {MAPPING}, not {name}")
    if name == MAPPING and mapping is None:
        raise InputError(f"--codec {MAPPING} needs --mapping FILE")
    if name not in codec_names():
        raise InputError(f"there is no codec {name!r}; there are {', '.join(codec_names())}")
    try:
        return codec_for(name, _mapping(mapping) if mapping is not None else None, {"model": model, "pool": pool})
    except ConfigError as error:
        raise InputError(str(error)) from error


def _mapping(path: Path) -> dict[str, Any]:
    """The table of a mapping: the whole file, or what it has at ``mapping`` or ``stream.mapping``."""
    text = read_text(path)
    try:
        table = json.loads(text) if text.lstrip()[:1] == "{" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot read the mapping {path}: {error}") from error
    for names in (("stream", "mapping"), ("mapping",)):
        found: Any = table
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, dict):
            return found
    return dict(table)


def _content(file: str) -> bytes:
    try:
        content = sys.stdin.buffer.read(_MOST_BYTES + 1) if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    if len(content) > _MOST_BYTES:
        raise InputError(f"{file} is larger than {_MOST_BYTES} bytes; send it to a topic and use events tap")
    return content


def _records(content: bytes, *, binary: bool) -> Iterator[tuple[int, bytes]]:
    """The records of a file, by the line where each begins: one document over several lines, or a record per line."""
    if binary or (content.startswith(_BINARY) and _is_binary(content)):
        yield 1, content
        return
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.count(b"\n") and _is_one_document(content):
        yield 1, content.strip()
        return
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _is_binary(content: bytes) -> bool:
    return any(byte < 0x09 for byte in content[:4_096])


def _is_one_document(content: bytes) -> bool:
    """Whether the file is one JSON document that spans lines: its first line alone is none."""
    first = content.lstrip().split(b"\n", 1)[0]
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        pass
    else:
        return False
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _print(output: Output, results: Sequence[tuple[int, Inspected]]) -> None:
    data = [{"line": line, **asdict(result)} for line, result in results]
    rows: Iterable[Sequence[Any]] = (
        (
            line,
            result.verdict,
            result.codec,
            len(result.events),
            ", ".join(result.unknown),
            result.reason,
            result.detail,
        )
        for line, result in results
    )
    emit(output, data, ("line", "verdict", "codec", "events", "unknown", "reason", "detail"), rows)
