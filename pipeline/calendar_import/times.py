"""Moments and days as people and files write them, in epoch seconds."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipeline.errors import InputError

__all__ = ["epoch", "iso", "parse_moment", "zone"]


def zone(name: str) -> ZoneInfo:
    """The time zone of that name.

    Raises:
        InputError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"{name!r} is not a time zone such as Europe/Berlin") from error


def epoch(moment: date | datetime, local: ZoneInfo) -> float:
    """Epoch seconds of a moment, or of the beginning of a day; without a zone it is ``local``.

    Raises:
        InputError: it is out of the range that computers can tell.
    """
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=local)).timestamp()
    except (OverflowError, OSError, ValueError) as error:
        raise InputError(f"{moment} is out of range") from error


def parse_moment(text: str, local: ZoneInfo) -> float:
    """Epoch seconds of an ISO 8601 time or day, or of a number of them.

    >>> parse_moment("1970-01-02", ZoneInfo("UTC")), parse_moment("86400.5", ZoneInfo("UTC"))
    (86400.0, 86400.5)

    Raises:
        InputError: it is none of these.
    """
    try:
        number = float(text)
    except ValueError:
        try:
            return epoch(datetime.fromisoformat(text.strip()), local)
        except ValueError as error:
            raise InputError(f"{text[:64]!r} is neither an ISO 8601 time nor a number of epoch seconds") from error
    if not math.isfinite(number):
        raise InputError(f"{text[:64]!r} is not a time")
    return number


def iso(seconds: float) -> str:
    """The moment as text, UTC; as a number of seconds where it is beyond the calendar (which ends with 9999)."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return f"{seconds:.0f} s since 1970"
