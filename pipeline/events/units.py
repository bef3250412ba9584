"""Recognises numbers in another unit than seconds, for messages only: no value is ever rescaled by guessing."""

from __future__ import annotations

__all__ = ["looks_like", "looks_too_small", "of_the_same"]

#: Epoch seconds of 2001-09-09 and 2286-11-20: what a present time lies between, in any unit.
_EARLIEST, _LATEST = 1e9, 1e10
#: Epoch seconds of 2020-09-13 and 2033-05-18: nearer to the present, where a clock that counts from its start could be
#: taken for a time that was divided once too often.
_NOW_EARLIEST, _NOW_LATEST = 1.6e9, 2.0e9
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


def looks_too_small(value: float) -> str:
    """Return what epoch seconds before 2001 probably are, as ``looks_like`` does.

    >>> looks_too_small(1795981.517)
    '; 1795981.517 looks like seconds divided by 1000'
    >>> looks_too_small(4052.5)
    '; 4052.5 looks like seconds since the host or process started'
    >>> looks_too_small(0.0), looks_too_small(1795981517.0)
    ('; 0 looks like a time that was never set', '')
    """
    if value == 0.0:
        return "; 0 looks like a time that was never set"
    if not 0.0 < value < _EARLIEST:
        return ""
    for scale, _ in _UNITS:
        if _NOW_EARLIEST <= value * scale < _NOW_LATEST:
            return f"; {value:.10g} looks like seconds divided by {scale:.0f}"
    return f"; {value:.10g} looks like seconds since the host or process started"


def of_the_same(value: float, other: float) -> str:
    """Return in which unit a duration probably is, where ``other`` is the same one in seconds.

    >>> of_the_same(6400.0, 6.4), of_the_same(6.4, 6.4), of_the_same(0.0064, 6.4)
    ('; 6400 looks like milliseconds', '', '; 0.0064 looks like seconds divided by 1000')
    """
    if value <= 0.0 or other <= 0.0:
        return ""
    for scale, unit in _UNITS:
        if abs(value / scale - other) <= 0.1 * other:
            return f"; {value:.10g} looks like {unit}"
        if abs(value * scale - other) <= 0.1 * other:
            return f"; {value:.10g} looks like seconds divided by {scale:.0f}"
    return ""
