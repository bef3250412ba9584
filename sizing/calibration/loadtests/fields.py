"""Reading numbers and texts out of untrusted, nested report content; whatever is absent or odd is None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sizing.errors import InvalidInput

__all__ = ["at", "count", "first", "items", "number", "quantiles", "scaled", "text", "time_unit"]

_MICRO = dict.fromkeys(("us", "µs", "μs", "microseconds"), 1e-6)
_TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "milliseconds"), 1e-3),
    **_MICRO,
    **dict.fromkeys(("ns", "nanoseconds"), 1e-9),
}


def at(value: Any, *keys: str | int) -> Any:
    """Return the value below ``keys`` (an index for a list), None where there is none."""
    for key in keys:
        if isinstance(key, int):
            value = value[key] if isinstance(value, list) and -len(value) <= key < len(value) else None
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
    return value


def number(value: Any) -> float | None:
    """Return a finite positive number, None for anything else."""
    found = count(value)
    return found if found is not None and found > 0 else None


def count(value: Any) -> float | None:
    """Return a finite number of at least 0, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if 0 <= found < math.inf else None


def scaled(value: float | None, unit: float) -> float | None:
    """Return ``value · unit``, None for None."""
    return None if value is None else value * unit


def first(*values: float | None) -> float | None:
    """Return the first value that is not None."""
    return next((value for value in values if value is not None), None)


def time_unit(found: Any, key: str, name: str) -> float:
    """Return the seconds that a metric's values are multiples of, by the unit that it names under ``key``.

    Raises:
        InvalidInput: it has values but names no unit of time that is known: a guess would be wrong a thousandfold.
    """
    if found is None:
        return 1.0
    named = str(at(found, key)).strip().lower().removesuffix("/token")
    factor = _TIME_UNITS.get(named)
    if factor is None:
        raise InvalidInput(f"{name} is in {named[:20]!r}, no unit of time that is read: {', '.join(_TIME_UNITS)}")
    return factor


def text(value: Any) -> str | None:
    """Return a non-empty text of at most 200 characters, None for anything else."""
    return value.strip()[:200] or None if isinstance(value, str) else None


def items(value: Any) -> Sequence[Any]:
    """Return a list's items, nothing for anything else."""
    return value if isinstance(value, list) else ()


def quantiles(found: Any, names: Mapping[float, str], unit: float = 1.0) -> tuple[tuple[float, float], ...]:
    """Return the levels that ``found`` has under the keys ``names``, with their values times ``unit``."""
    known = {level: scaled(count(at(found, name)), unit) for level, name in names.items()}
    return tuple((level, value) for level, value in known.items() if value is not None)
