"""Parameters as Prometheus takes them: from the query or from a form, times and durations in its notations."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from datetime import datetime

import promql_parser as grammar
from aiohttp import web
from multidict import MultiDict

from pipeline.publish.prometheus.errors import QueryError, bad_data
from pipeline.publish.prometheus.promql import MAX_LENGTH

__all__ = ["duration", "limit_of", "needed", "read_form", "time_of"]

#: A form must have come whole by then.
FORM_SECONDS = 10.0
_LARGEST_SECONDS = 1e11


async def read_form(request: web.Request) -> MultiDict[str]:
    """The parameters: those of a form before those of the query, as in Prometheus."""
    form: MultiDict[str] = MultiDict()
    if request.method == "POST" and request.content_type == "application/x-www-form-urlencoded":
        try:
            async with asyncio.timeout(FORM_SECONDS):
                told = await request.post()
        except TimeoutError:
            raise QueryError(503, "timeout", f"the form did not come within {FORM_SECONDS:g} s") from None
        except web.HTTPRequestEntityTooLarge:
            raise bad_data("the form is too long") from None
        except ValueError:
            raise bad_data("the form is not valid") from None
        form.extend((name, value) for name, value in told.items() if isinstance(value, str))
    form.extend(request.query)
    for name, value in form.items():
        if len(value) > MAX_LENGTH:
            raise bad_data(f'invalid parameter "{name[:64]}": it has more than {MAX_LENGTH} characters')
    return form


def needed(form: MultiDict[str], name: str) -> str:
    """The value of a parameter without which there is no answer."""
    found = form.get(name)
    if not found:
        raise bad_data(f'invalid parameter "{name}": it is missing or empty')
    return found


def limit_of(form: MultiDict[str]) -> int | None:
    """The value of ``limit``; None: there is none."""
    told = form.get("limit") or "0"
    if not (told.isascii() and told.isdigit() and len(told) <= 9):
        raise bad_data('invalid parameter "limit": a whole number is needed')
    return int(told) or None


def time_of(told: str | None, name: str, default: float) -> float:
    """A time: epoch seconds or RFC 3339."""
    if not told:
        return default
    value = math.nan
    with suppress(ValueError, OverflowError):
        value = float(told) if "T" not in told else _rfc3339(told)
    if not 0 <= value <= _LARGEST_SECONDS:
        raise bad_data(f'invalid parameter "{name}": cannot parse {told[:64]!r} to a valid timestamp')
    return round(value, 3)


def _rfc3339(told: str) -> float:
    at = datetime.fromisoformat(told)
    if at.tzinfo is None:
        raise ValueError("a time zone is needed")
    return at.timestamp()


def duration(told: str) -> float:
    """A step: seconds or a duration of Prometheus."""
    try:
        value = float(told)
    except ValueError:
        try:
            value = grammar.parse_duration(told).total_seconds()
        except (ValueError, OverflowError):
            value = math.nan
    if not math.isfinite(value) or value > _LARGEST_SECONDS:
        raise bad_data(f'invalid parameter "step": cannot parse {told[:64]!r} to a valid duration')
    if value < 0.001:
        raise bad_data(
            'invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive '
            "integer"
        )
    return value
