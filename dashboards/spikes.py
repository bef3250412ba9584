"""Spikes as annotations of a dashboard."""

from __future__ import annotations

from typing import Any

from builder import DATASOURCE, LEGEND, query

__all__ = ["spikes"]


def spikes(pools: str) -> dict[str, Any]:
    """Return the annotation: the time in which a spike of the pools is observed or forecast."""
    return {
        "name": "Spikes",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "orange",
        "expr": query(f"max by (model, pool, kind) (tokentide_spike_active{{{pools}}}) == 1")["expr"],
        "titleFormat": "spike {{kind}}",
        "textFormat": LEGEND,
        "step": "60s",
        "useValueForTime": False,
    }
