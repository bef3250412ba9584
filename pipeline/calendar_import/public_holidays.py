"""Public holidays as calendar records, from the ``holidays`` package (extra ``calendar``)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from importlib.metadata import version

from pipeline.calendar_import.files import Defaults, Found
from pipeline.calendar_import.times import epoch
from pipeline.errors import InputError

__all__ = ["HOLIDAY", "public_holidays"]

#: The kind of the records: all public holidays share what was learned.
HOLIDAY = "public-holiday"


def public_holidays(country: str, subdivision: str | None, years: Sequence[int], defaults: Defaults) -> Found:
    """One record for each day off of a country, from midnight to midnight in ``defaults.zone``.

    Args:
        country: ISO 3166-1 alpha-2 code, such as DE.
        subdivision: a state or province in the package's own code, such as BY; None: the whole country's days.
        years: which years.
        defaults: kind, size, confidence, scope and time zone.

    Raises:
        InputError: the package does not know the country or subdivision, or is not installed.
    """
    try:
        import holidays
    except ImportError as error:
        raise InputError("public holidays need the holidays package: install tokentide[calendar]") from error
    if not years or not all(1900 <= year <= 2200 for year in years):
        raise InputError("years must lie between 1900 and 2200")
    try:
        days = holidays.country_holidays(country.upper(), subdiv=subdivision, years=list(years), language=None)
    except NotImplementedError as error:
        raise InputError(f"no holidays known: {str(error)[:200]}") from error
    place = country.upper() if subdivision is None else f"{country.upper()}-{subdivision}"
    found = Found()
    for day, name in sorted(days.items()):
        raw = {
            **defaults.fields(),
            "id": f"holiday:{place}:{day.isoformat()}",
            "kind": defaults.kind or HOLIDAY,
            "starts_at": epoch(day, defaults.zone),
            "ends_at": epoch(day + timedelta(days=1), defaults.zone),
            "source": f"holidays {version('holidays')}",
            "note": f"{name} ({place})"[:4096],
        }
        found.add(raw, f"{place} {day}")
    return found
