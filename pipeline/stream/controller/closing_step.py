"""A step under way: what it closes, in parts, and the engine's state after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.engine.types import StepOutput
from pipeline.forecast.calendar.known import CalendarChange
from pipeline.forecast.exogenous.rows import ExogenousRow
from pipeline.windows.types import ClosedWindow, PoolKey

__all__ = ["EngineState", "Part", "Step", "joined"]


@dataclass(slots=True)
class Step:
    """A step under way: the windows that end at ``end`` (epoch seconds), of pools that wait or have been advised.

    ``closed`` holds windows that the store has already, of a step that an earlier process did not finish; ``ahead``
    those that were read for parts to come and have not changed since.
    """

    end: int
    calendar: tuple[CalendarChange, ...]
    waiting: list[PoolKey]
    closed: Mapping[PoolKey, ClosedWindow] = field(default_factory=dict)
    ahead: dict[PoolKey, ClosedWindow] = field(default_factory=dict)
    outputs: list[StepOutput] = field(default_factory=list)
    exogenous: tuple[ExogenousRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Windows of one step that are advised together; ``new`` are those that the store does not have yet."""

    windows: tuple[ClosedWindow, ...]
    new: tuple[ClosedWindow, ...]


@dataclass(frozen=True, slots=True)
class EngineState:
    """State of the engine after the step of ``as_of``: shared, and of ``pools``.

    ``oldest`` is the step of the oldest state of a pool that the store keeps. ``seen`` is the newest revision since the
    step, which the pools have seen; None: there was none.
    """

    as_of: int
    shared: bytes
    pools: Mapping[PoolKey, bytes]
    oldest: int
    seen: int | None = None


def joined(outputs: Sequence[StepOutput]) -> StepOutput:
    """Return what the parts of one step say, in the order of their pools."""
    if len(outputs) == 1:
        return outputs[0]
    return StepOutput(
        as_of=outputs[0].as_of,
        windows=tuple(window for output in outputs for window in output.windows),
        forecasts=tuple(forecast for output in outputs for forecast in output.forecasts),
        scores=tuple(score for output in outputs for score in output.scores),
        recommendations=tuple(advice for output in outputs for advice in output.recommendations),
        alerts=tuple(alert for output in outputs for alert in output.alerts),
        outlooks=tuple(outlook for output in outputs for outlook in output.outlooks),
        tenants=tuple(tenant for output in outputs for tenant in output.tenants),
        scorecards=tuple(card for output in outputs for card in output.scorecards),
        uses=tuple(use for output in outputs for use in output.uses),
    )
