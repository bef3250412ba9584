"""Reading numbers and texts out of untrusted, nested report content; whatever is absent or odd is None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["at", "count", "first", "items", "number", "quantiles", "scaled", "text"]


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
