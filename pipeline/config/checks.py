"""What settings have to fulfil beyond their types: names that Kafka takes, figures that fit together.

Every check takes plain values, and raises ``ValueError`` with a text that says what would do.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

__all__ = ["check_bootstrap", "check_forecast_grid", "check_horizons", "check_memory_limit", "check_topics"]

#: Windows of a season that are kept for every signal of every pool: two years of minutes.
_MOST_SEASON_WINDOWS = 2 * 366 * 1_440
_LEAST_SEASON_WINDOWS = 3

#: As Kafka's own check of topic names (org.apache.kafka.common.internals.Topic).
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}", re.ASCII)
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[a-zA-Z0-9._-]+))(?::(?P<port>\d{1,5}))?", re.ASCII)

#: The units that DuckDB knows, in bytes, by every name that it takes for them.
_UNITS = {
    name: factor
    for names, factor in (
        (("b", "byte", "bytes"), 1),
        (("k", "kb", "kilobyte", "kilobytes"), 1000),
        (("m", "mb", "megabyte", "megabytes"), 1000**2),
        (("g", "gb", "gigabyte", "gigabytes"), 1000**3),
        (("t", "tb", "terabyte", "terabytes"), 1000**4),
        (("kib",), 1024),
        (("mib",), 1024**2),
        (("gib",), 1024**3),
        (("tib",), 1024**4),
    )
    for name in names
}
_MEMORY = re.compile(r"\s*(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>%|[a-zA-Z]+)\s*", re.ASCII)
#: DuckDB 2.0.0 cannot even make the store's tables with 2 MB; it can with 4 MB.
_LEAST_MEMORY_BYTES = 4_000_000
_MOST_MEMORY_BYTES = 2**60


def check_bootstrap(bootstrap: str) -> None:
    """Make sure that ``bootstrap`` is ``host:port`` of brokers, comma-separated; a port may be left out.

    Raises:
        ValueError: there is no address, or one that cannot be.
    """
    addresses = [part.strip() for part in bootstrap.split(",") if part.strip()]
    if not addresses:
        raise ValueError("no broker is named; host:port would do, several separated by commas")
    for address in addresses:
        if not _is_address(address):
            raise ValueError(f"{address!r} is not the address of a broker; host:port would do")


def _is_address(text: str) -> bool:
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return _is_ipv6(text)
    if match["ipv6"] is not None and not _is_ipv6(match["ipv6"]):
        return False
    return match["port"] is None or 1 <= int(match["port"]) <= 65_535


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def check_topics(topics: Mapping[str, str]) -> None:
    """Make sure that Kafka takes the names of all topics, and that no two are the same.

    Args:
        topics: the name of each topic, by the setting that it comes from.

    Raises:
        ValueError: a name that Kafka refuses, or one that is given to two topics.
    """
    owners: dict[str, str] = {}
    for setting, name in topics.items():
        if not _TOPIC.fullmatch(name) or name in (".", ".."):
            raise ValueError(
                f"{setting} {name!r} is not a name for a topic; 1 to 249 letters (a to z), digits, '.', '_' or '-' "
                "would do, but not '.' or '..'"
            )
        owner = owners.setdefault(name, setting)
        if owner != setting:
            raise ValueError(f"{owner} and {setting} are both {name!r}; every topic needs a name of its own")


def check_memory_limit(limit: str) -> None:
    """Make sure that DuckDB takes ``limit`` and that a store can be opened with it.

    Raises:
        ValueError: DuckDB does not understand it, or it is too little.
    """
    if limit.strip().lower() in ("-1", "none"):  # DuckDB's words for its own default
        return
    match = _MEMORY.fullmatch(limit)
    number = float(match["number"]) if match else 0.0
    unit = match["unit"].lower() if match else ""
    if unit == "%" and 0 < number <= 100:
        return
    if unit not in _UNITS or not _LEAST_MEMORY_BYTES <= number * _UNITS[unit] <= _MOST_MEMORY_BYTES:
        raise ValueError(
            f"memory_limit {limit!r} is not an amount of memory of at least 4MB; 2GB, 512MiB or 50% would do"
        )


def check_horizons(horizons_seconds: Sequence[int], season_seconds: int) -> None:
    """Make sure that there are horizons, ascending, within a season.

    Raises:
        ValueError: there is none, they do not ascend, or one is beyond the season.
    """
    if not horizons_seconds:
        raise ValueError("horizons_seconds is empty; one horizon at least is needed, such as [60, 300, 900]")
    if any(later <= earlier for earlier, later in pairwise(horizons_seconds)):
        would = sorted(set(horizons_seconds))
        raise ValueError(f"horizons_seconds {list(horizons_seconds)} must ascend without repeats, as {would}")
    if horizons_seconds[-1] > season_seconds:
        raise ValueError(
            f"season_seconds {season_seconds} is shorter than the longest of horizons_seconds, {horizons_seconds[-1]}; "
            "a season must be as long at least"
        )


def check_forecast_grid(horizons_seconds: Sequence[int], season_seconds: int, grain_seconds: int) -> None:
    """Make sure that horizons and season are made of whole windows, and the season of a number that can be kept.

    Raises:
        ValueError: they are not.
    """
    uneven = [horizon for horizon in horizons_seconds if horizon % grain_seconds]
    if uneven:
        raise ValueError(
            f"forecast.horizons_seconds {uneven} must be multiples of windows.grain_seconds, {grain_seconds}; "
            f"{_rounded_up(uneven, grain_seconds)} would do"
        )
    if season_seconds % grain_seconds:
        raise ValueError(
            f"forecast.season_seconds {season_seconds} must be a multiple of windows.grain_seconds, {grain_seconds}; "
            f"{_rounded_up([season_seconds], grain_seconds)[0]} would do"
        )
    windows = season_seconds // grain_seconds
    if not _LEAST_SEASON_WINDOWS <= windows <= _MOST_SEASON_WINDOWS:
        raise ValueError(
            f"forecast.season_seconds {season_seconds} is {windows} windows of windows.grain_seconds, {grain_seconds}; "
            f"{_LEAST_SEASON_WINDOWS} to {_MOST_SEASON_WINDOWS} would do"
        )


def _rounded_up(seconds: Iterable[int], grain_seconds: int) -> list[int]:
    return sorted({math.ceil(value / grain_seconds) * grain_seconds for value in seconds})
