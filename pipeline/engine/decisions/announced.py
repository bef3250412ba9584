"""What is provisioned for while an announced event acts: at least the forecast's quantile.

The rules that look back at what was observed cannot know of the first event; the forecast does, by the calendar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.types import LEVELS, Signal
from pipeline.windows.types import PoolKey
from sizing.planning.demand_needs import demand_quantile
from sizing.types import Provision

__all__ = ["RULE", "announced_at", "at_least_forecast"]

#: The name that the evidence and the message have for it.
RULE = "announced_event"
#: Effects are learned from so long before an event on (``pipeline.forecast.calendar.effects``).
_BEFORE_SECONDS = 3600.0


def announced_at(calendar: Sequence[CalendarRecord], key: PoolKey, at: float) -> bool:
    """Whether an announced event of a pool acts at a time (epoch seconds): from an hour before it to its end."""
    return any(
        record.starts_at - _BEFORE_SECONDS <= at <= record.ends_at and record.scope.includes(*key)
        for record in calendar
    )


def at_least_forecast(
    provision: Provision | None, quantiles: Mapping[Signal, tuple[float, ...]], level: float
) -> Provision | None:
    """Return a provision that is no less than the forecasts at ``level``; None: they are planned for anyway."""
    if provision is None:
        return None
    least = [demand_quantile(LEVELS, quantiles[signal], level) for signal in Signal]
    said = (
        provision.requests_per_second,
        provision.prefill_tokens_per_second,
        provision.decode_tokens_per_second,
        provision.kv_tokens,
    )
    if all(value >= floor for value, floor in zip(said, least, strict=True)):
        return provision
    requests, prefill, decode, kv = (max(pair) for pair in zip(said, least, strict=True))
    return Provision(requests, prefill, decode, kv, ((RULE, 1.0),))
