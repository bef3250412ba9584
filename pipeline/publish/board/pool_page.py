"""What the board's page of one pool shows: what is known of it now, and what was forecast for times that have come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.forecast.calendar.effects import CalendarRecord, to_fields
from pipeline.forecast.outlook import Outlook
from pipeline.publish.board.overview import pool_row
from pipeline.publish.views import PoolView

__all__ = ["past_forecasts", "pool_page"]


#: Announced events are shown from so long before now until so long after it.
CALENDAR_SECONDS = (86_400.0, 14 * 86_400.0)
MAX_EVENTS = 100


def pool_page(
    view: PoolView, now: float, announced: Iterable[CalendarRecord] = (), *, bridged: bool = False
) -> dict[str, Any]:
    """Return a pool as it is now: its row of the overview, the whole advice, forecasts of all grains, its record.

    ``announced`` are the events that concern it; ``bridged`` as for ``pool_row``.
    """
    before, after = CALENDAR_SECONDS
    near = [event for event in announced if event.ends_at > now - before and event.starts_at < now + after]
    settings = view.settings
    return {
        "row": pool_row(view, None, daily=False, bridged=bridged),
        "slo": None
        if settings is None
        else {"ttft_seconds": settings.ttft_seconds, "tpot_seconds": settings.tpot_seconds},
        "window": view.window,
        "recommendation": view.recommendation,
        "expired_at": view.expired.expires_at if view.expired else None,
        "forecasts": view.forecasts,
        "outlooks": [_outlook(outlook) for outlook in view.outlooks],
        "scores": view.scores,
        "tenants": [
            {"tenant": told.tenant, "requests_per_second": told.requests_per_second, "share": told.share}
            for told in view.tenants
        ],
        "scorecards": [asdict(card) for card in view.scorecards],
        "alerts": view.alerts,
        "calendar": [to_fields(event) for event in near[:MAX_EVENTS]],
    }


def past_forecasts(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Return [target time, q05, q50, q95] of the rows of ``Reader.forecasts_at``, oldest first."""
    return [[row["target_at"], row["q05"], row["q50"], row["q95"]] for row in rows]


def _outlook(outlook: Outlook) -> dict[str, Any]:
    return {
        "signal": str(outlook.series.signal),
        "grain": str(outlook.grain),
        "issued_at": outlook.issued_at,
        "forecasts": outlook.forecasts,
        "peak_ratio": outlook.peak_ratio,
    }
