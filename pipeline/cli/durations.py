"""Durations as people write them: ``90s``, ``5m``, ``1h``, ``2d``."""

from __future__ import annotations

import re

from pipeline.errors import InputError

__all__ = ["parse_duration", "parse_durations"]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str) -> int:
    """Return whole seconds.

    >>> parse_duration("5m")
    300

    Raises:
        InputError: it is not a positive whole number of s, m, h or d.
    """
    match = re.fullmatch(r"(\d{1,9})\s*([smhd]?)", text.strip())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if seconds <= 0:
        raise InputError(f"{text!r} is not a duration such as 90s, 5m, 1h or 2d")
    return seconds


def parse_durations(text: str) -> tuple[int, ...]:
    """Return the durations of a comma-separated list.

    >>> parse_durations("5m,1h")
    (300, 3600)

    Raises:
        InputError: one of them is not a duration.
    """
    return tuple(parse_duration(part) for part in text.split(","))
