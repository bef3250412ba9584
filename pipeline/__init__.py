"""Tokentide's pipeline: request event → window → forecast → recommendation → publish.

The names below are its public interface; everything else may move between versions. They are imported when they are
first used, so that ``import pipeline`` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.alerts.rule import AlertRule, EngineRule
    from pipeline.alerts.spikes.detector import SpikeDetector
    from pipeline.alerts.types import Alert
    from pipeline.config.settings import Settings, load
    from pipeline.engine.advisor import Advisor
    from pipeline.engine.types import StepInput, StepOutput
    from pipeline.errors import TokentideError
    from pipeline.events.batch_decoder import decode_batch
    from pipeline.events.codecs.base import Codec
    from pipeline.events.request_event import RequestEvent
    from pipeline.fleet.base import Fleet
    from pipeline.forecast.experts.base import Expert
    from pipeline.forecast.series import SeriesForecaster
    from pipeline.forecast.types import Forecast, SeriesKey, Signal
    from pipeline.replay.backtest import run_backtest
    from pipeline.sinks.base import Sink
    from pipeline.windows.types import ClosedWindow

__all__ = [
    "Advisor",
    "Alert",
    "AlertRule",
    "ClosedWindow",
    "Codec",
    "EngineRule",
    "Expert",
    "Fleet",
    "Forecast",
    "RequestEvent",
    "SeriesForecaster",
    "SeriesKey",
    "Settings",
    "Signal",
    "Sink",
    "SpikeDetector",
    "StepInput",
    "StepOutput",
    "TokentideError",
    "__version__",
    "decode_batch",
    "load",
    "run_backtest",
]

__version__ = "0.1.0"

_MODULES = {
    "pipeline.alerts.rule": ("AlertRule", "EngineRule"),
    "pipeline.alerts.spikes.detector": ("SpikeDetector",),
    "pipeline.alerts.types": ("Alert",),
    "pipeline.config.settings": ("Settings", "load"),
    "pipeline.engine.advisor": ("Advisor",),
    "pipeline.engine.types": ("StepInput", "StepOutput"),
    "pipeline.errors": ("TokentideError",),
    "pipeline.events.batch_decoder": ("decode_batch",),
    "pipeline.events.codecs.base": ("Codec",),
    "pipeline.events.request_event": ("RequestEvent",),
    "pipeline.fleet.base": ("Fleet",),
    "pipeline.forecast.experts.base": ("Expert",),
    "pipeline.forecast.series": ("SeriesForecaster",),
    "pipeline.forecast.types": ("Forecast", "SeriesKey", "Signal"),
    "pipeline.replay.backtest": ("run_backtest",),
    "pipeline.sinks.base": ("Sink",),
    "pipeline.windows.types": ("ClosedWindow",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
