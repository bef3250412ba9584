"""Options that say where recorded series are and what their rows mean."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from pipeline.cli.durations import parse_duration
from pipeline.errors import InputError
from pipeline.forecast.types import Signal
from pipeline.replay.formats import DateOrder, Decimal, SeriesKind

__all__ = [
    "DatesOption",
    "DecimalOption",
    "Demand",
    "DuplicatesOption",
    "EncodingOption",
    "EndOption",
    "KindOption",
    "PrometheusOption",
    "QueryOption",
    "StartOption",
    "TokenOption",
    "range_of",
]


class Demand(StrEnum):
    """Which demand of a pool is read."""

    REQUESTS = "requests"
    PREFILL_TOKENS = "prefill-tokens"
    DECODE_TOKENS = "decode-tokens"
    KV_TOKENS = "kv-tokens"

    @property
    def signal(self) -> Signal:
        """The signal of that name."""
        return Signal[self.name]


KindOption = Annotated[
    SeriesKind,
    typer.Option(
        "--kind",
        help="What values are: counts (rows add up), gauge (a sampled rate or level: mean), counter (a running total: "
        "its increase), events (a row is a request).",
    ),
]
EncodingOption = Annotated[
    str | None, typer.Option(help="Encoding of a CSV: utf-8, utf-16, latin-1; recognised between the first two.")
]
DecimalOption = Annotated[Decimal, typer.Option(help="What separates fractions in a CSV.")]
DatesOption = Annotated[
    DateOrder,
    typer.Option(help="How a CSV writes dates: 2026-02-01, 01.02.2026 (day first), 02/01/2026 (month first)."),
]
DuplicatesOption = Annotated[
    bool, typer.Option("--drop-duplicates", help="Leave out rows that repeat another one exactly.")
]
PrometheusOption = Annotated[
    str | None, typer.Option("--prometheus", help="Read history from this Prometheus, such as http://prometheus:9090.")
]
QueryOption = Annotated[str | None, typer.Option(help="PromQL of the demand, such as 'sum(rate(x_total[5m]))'.")]
StartOption = Annotated[
    str | None,
    typer.Option("--start", "--from", help="First time: ISO 8601 (UTC without an offset), or 30d for 30 days ago."),
]
EndOption = Annotated[str | None, typer.Option("--end", "--to", help="Last time, as --start; default: now.")]
TokenOption = Annotated[
    str | None,
    typer.Option(envvar="PROMETHEUS_TOKEN", help="Bearer token of the Prometheus; better from the environment."),
]


def range_of(start: str | None, end: str | None) -> tuple[float, float]:
    """Return a range in epoch seconds; both ends may be relative to now.

    Raises:
        InputError: a time cannot be read, there is no start, or the range is empty.
    """
    if start is None:
        raise InputError("--start is missing: a time in ISO 8601, or 30d for 30 days ago")
    now = time.time()
    low, high = _moment("--start", start, now), now if end is None else _moment("--end", end, now)
    if low >= high:
        raise InputError(f"--start {start} is not before --end {end or 'now'}")
    return low, high


def _moment(option: str, text: str, now: float) -> float:
    if text == "now":
        return now
    if re.fullmatch(r"\d{1,9}\s*[smhd]", text.strip()):
        return now - parse_duration(text)
    if re.fullmatch(r"\d{9,11}(\.\d+)?", text.strip()):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{option} {text!r} is neither an ISO 8601 time, epoch seconds nor a duration such as 30d"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
