"""What a metric of Tokentide is, and how tables of metrics are written."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BANDS", "POOL", "TOKEN_TYPES", "Metric", "counters", "gauges"]

#: Forecast bands that are exposed, and their quantile levels. More bands cost 20 series per pool each.
BANDS = {"p10": 0.1, "p50": 0.5, "p90": 0.9}

#: Disjoint kinds of tokens, so that a sum over the label is the total.
TOKEN_TYPES = ("uncached_input", "cached_input", "output")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family: full name (counters end in ``_total``), ``gauge`` or ``counter``, its labels and its help."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    group: str


#: The labels of a series of one pool.
POOL = ("model", "pool")


def gauges(group: str, *rows: tuple[str, tuple[str, ...], str]) -> tuple[Metric, ...]:
    """Return gauges of a group, from name (without ``tokentide_``), labels and help."""
    return tuple(Metric(f"tokentide_{name}", "gauge", labels, text, group) for name, labels, text in rows)


def counters(group: str, *rows: tuple[str, tuple[str, ...], str]) -> tuple[Metric, ...]:
    """Return counters of a group, from name (without ``tokentide_`` and ``_total``), labels and help."""
    return tuple(Metric(f"tokentide_{name}_total", "counter", labels, text, group) for name, labels, text in rows)
