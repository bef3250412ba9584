"""How recorded series are written and what their rows mean: options, without what reads them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ENCODINGS", "CsvFormat", "DateOrder", "Decimal", "Rows", "SeriesKind"]

#: Encodings of a CSV by the names that users give them, as DuckDB names them.
ENCODINGS = {"utf-8": "utf-8", "utf8": "utf-8", "utf-16": "utf-16", "utf16": "utf-16", "latin-1": "latin-1"}
ENCODINGS |= {"latin1": "latin-1", "iso-8859-1": "latin-1"}


class Decimal(StrEnum):
    """What separates the fraction of a number in a CSV."""

    POINT = "point"
    COMMA = "comma"


class DateOrder(StrEnum):
    """How a CSV writes dates: ISO 8601, day before month, or month before day."""

    ISO = "iso"
    DAY_FIRST = "day-first"
    MONTH_FIRST = "month-first"


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """How a CSV file is written; ``encoding`` None: recognised (UTF-8, UTF-16)."""

    encoding: str | None = None
    decimal: Decimal = Decimal.POINT
    dates: DateOrder = DateOrder.ISO

    def __post_init__(self) -> None:
        if self.encoding is not None and self.encoding.lower() not in ENCODINGS:
            raise InputError(f"unknown encoding {self.encoding!r}; known: utf-8, utf-16, latin-1")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in memory under a name, as columns of a frame.

    ``series_column`` names the series that one row belongs to (each with its own counter); None: there is one.
    """

    name: str
    frame: pd.DataFrame
    series_column: str | None = None
    notes: tuple[str, ...] = ()


class SeriesKind(StrEnum):
    """How rows become a window's demand.

    ``counts``: a row counts what happened up to the next row; rows add up. ``gauge``: a row samples a rate or a level;
    a window is their mean. ``counter``: a row is a running total since some start; a window is its increase.
    ``events``: a row is one request. ``auto``: recognised, and printed.
    """

    AUTO = "auto"
    COUNTS = "counts"
    GAUGE = "gauge"
    COUNTER = "counter"
    EVENTS = "events"
