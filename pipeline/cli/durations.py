"""Durations as people write them: ``90s``, ``5m``, ``1h``, ``2d``."""

from __future__ import annotations

import re

from pipeline.errors import InputError
from sizing.start_up import StartUp

__all__ = ["parse_duration", "parse_durations", "parse_start_up"]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str, *, least_seconds: int = 1) -> int:
    """Return whole seconds, ``least_seconds`` or more.

    >>> parse_duration("5m")
    300

    Raises:
        InputError: it is not a whole number of s, m, h or d, or less than that.
    """
    match = re.fullmatch(r"(\d{1,9})\s*([smhd]?)", text.strip())
    if match is None:
        raise InputError(f"{text!r} is not a duration such as 90s, 5m, 1h or 2d")
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds < least_seconds:
        raise InputError(f"{text!r} is not a duration of {least_seconds} s or more, such as 90s, 5m, 1h or 2d")
    return seconds


def parse_durations(text: str) -> tuple[int, ...]:
    """Return the durations of a comma-separated list.

    >>> parse_durations("5m,1h")
    (300, 3600)

    Raises:
        InputError: one of them is not a duration.
    """
    return tuple(parse_duration(part) for part in text.split(","))


def parse_start_up(text: str) -> StartUp:
    """Return how long a replica takes to start: one duration (0s: it is there at once), or its three parts.

    >>> parse_start_up("100s").total_seconds, parse_start_up("provisioning=5m,weights=4m,warm-up=60s").total_seconds
    (100.0, 600.0)

    Raises:
        InputError: it is neither, or a part is missing, unknown or told twice.
    """
    if "=" not in text:
        return StartUp(float(parse_duration(text, least_seconds=0)))
    parts: dict[str, float] = {}
    for name, _, duration in (part.partition("=") for part in text.split(",")):
        if name.strip() in parts:
            raise InputError(f"{name.strip()[:40]} of the start-up is given twice")
        parts[name.strip()] = float(parse_duration(duration))
    if parts.keys() != {"provisioning", "weights", "warm-up"}:
        raise InputError(f"a start-up in parts is provisioning=5m,weights=4m,warm-up=60s, not {text[:80]!r}")
    return StartUp.of_parts(parts["provisioning"], parts["weights"], parts["warm-up"])
