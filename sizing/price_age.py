"""How old a price is, and when that is too old."""

from __future__ import annotations

import datetime

__all__ = ["STALE_PRICE_DAYS", "age_words", "is_stale", "price_age_days", "price_date"]

#: An older price is flagged.
STALE_PRICE_DAYS = 90


def price_date(as_of: str) -> datetime.date | None:
    """Return the day that a price was read; the first of the month where only that is told; None: not known.

    >>> price_date("2026-11")
    datetime.date(2026, 11, 1)
    """
    text = as_of.strip()
    try:
        return datetime.date.fromisoformat(text if len(text) > len("2026-11") else f"{text}-01")
    except ValueError:
        return None


def price_age_days(as_of: str, reference_date: datetime.date) -> int | None:
    """Return the age of a price in days; negative: read after the reference date; None: its date is not known."""
    day = price_date(as_of)
    return None if day is None else (reference_date - day).days


def is_stale(age_days: int | None) -> bool:
    """Whether a price of that age is flagged: older than 90 days, dated ahead, or not dated."""
    return age_days is None or not 0 <= age_days <= STALE_PRICE_DAYS


def age_words(as_of: str, age_days: int | None, reference_date: str) -> str:
    """Return what is wrong with a stale price, to follow its name.

    >>> age_words("2026-08-01", 121, "2026-11-30")
    'of 2026-08-01 is 121 days old, more than 90'
    """
    if age_days is None:
        return f"is not dated ({as_of})"
    if age_days < 0:
        return f"of {as_of} is dated after {reference_date}"
    return f"of {as_of} is {age_days} days old, more than {STALE_PRICE_DAYS}"
