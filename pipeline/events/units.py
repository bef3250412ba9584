"""Recognises numbers in another unit than seconds, for messages only: no value is ever rescaled by guessing."""

from __future__ import annotations

__all__ = ["looks_like"]

#: Epoch seconds of 2001-09-09 and 2286-11-20: what a present time lies between, in any unit.
_EARLIEST, _LATEST = 1e9, 1e10
_UNITS = ((1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds"))


def looks_like(value: float, *, duration: bool = False) -> str:
    """Return ``; 1795981517000 looks like milliseconds``, or nothing where no other unit makes sense.

    Args:
        value: epoch seconds, or seconds of a duration, as they came.
        duration: whether it is a duration: one beyond a day is a plausible request in milliseconds below 100 days.

    >>> looks_like(1795981517000), looks_like(1795981517.0), looks_like(6_400_000, duration=True)
    ('; 1795981517000 looks like milliseconds', '', '; 6400000 looks like milliseconds')
    """
    if not abs(value) < 1e24:
        return ""
    if duration:
        unit = next((unit for scale, unit in _UNITS if value / scale <= 86_400.0), None)
    else:
        unit = next((unit for scale, unit in _UNITS if _EARLIEST <= value / scale < _LATEST), None)
    return f"; {value:.0f} looks like {unit}" if unit else ""
