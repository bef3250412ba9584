"""One JSON shape per noun, used by the HTTP API and by the Kafka topics alike.

The shapes are fixed by ``schemas/{recommendation,forecast,alert}.v1.schema.json``. Times are epoch seconds, unknown is
``null``, and a number that is not finite never gets out: it becomes ``null``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from typing import Any

import msgspec

from pipeline.alerts.types import Alert
from pipeline.engine.types import StepOutput
from pipeline.forecast.day_model import Growth
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.types import LEVELS, Forecast, Score
from pipeline.windows.types import ClosedWindow
from sizing.types import Recommendation

__all__ = ["QUANTILE_NAMES", "plain_json", "to_data", "to_json"]

#: Names of the forecast quantiles, in the order of ``LEVELS``: q05, q10, …
QUANTILE_NAMES = tuple(f"q{round(level * 100):02d}" for level in LEVELS)


def to_json(obj: Any) -> bytes:
    """Encode a Recommendation, Forecast, Alert, Score, ClosedWindow, StepOutput, or plain data holding them, as JSON.

    >>> to_json({"rate": float("nan"), "at": 1.5})
    b'{"rate":null,"at":1.5}'

    Raises:
        TypeError: something in ``obj`` has no JSON shape.
    """
    try:
        return _ENCODER.encode(_shaped(obj))
    except (UnicodeEncodeError, OverflowError, TypeError):
        # Lone surrogates, integers beyond 64 bits, numpy's own types: rare, and plain data can say them all.
        return json.dumps(to_data(obj), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(
            "utf-8", "replace"
        )


def plain_json(data: Any) -> bytes:
    """Encode plain dicts, lists and scalars: ``to_json`` without a look at each value, a fifth of its time."""
    try:
        return _ENCODER.encode(data)
    except (UnicodeEncodeError, OverflowError, TypeError):
        return to_json(data)


def to_data(obj: Any) -> Any:
    """Return ``obj`` as plain dicts, lists, strings, finite numbers and None; a Recommendation as its own fields."""
    if obj is None or (isinstance(obj, (bool, int)) and not isinstance(obj, Enum)):
        return obj
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if isinstance(obj, Enum):
        return obj.value
    if isinstance(obj, str):
        return obj
    if isinstance(obj, Mapping):
        return {str(to_data(key)): to_data(value) for key, value in obj.items()}
    noun = _NOUNS.get(type(obj))
    if noun is not None:
        return to_data(noun(obj))
    if isinstance(obj, msgspec.Struct):
        return {name: to_data(getattr(obj, name)) for name in obj.__struct_fields__}
    if is_dataclass(obj) and not isinstance(obj, type):
        return {name.name: to_data(getattr(obj, name.name)) for name in fields(obj)}
    if isinstance(obj, (list, tuple, set, frozenset)):
        return [to_data(item) for item in obj]
    if hasattr(obj, "item"):  # a numpy scalar
        return to_data(obj.item())
    raise TypeError(f"{type(obj).__name__} has no JSON shape")


def _shaped(obj: Any) -> Any:
    """``obj`` with its nouns as what msgspec encodes in their shape; what holds no noun is left as it is."""
    kind = type(obj)
    if kind in _PLAIN:
        return obj
    if kind is dict:
        return {key: _shaped(value) for key, value in obj.items()}
    if kind is list or kind is tuple:
        return [_shaped(item) for item in obj]
    noun = _NOUNS.get(kind)
    return to_data(obj) if noun is None else _shaped(noun(obj))


_Quantiles: Callable[..., Any] = msgspec.defstruct("_Quantiles", [(name, float) for name in QUANTILE_NAMES])


class _Forecast(msgspec.Struct):
    """The shape of a Forecast: there are more of them than of everything else."""

    schema: str
    model: str
    pool: str
    signal: str
    issued_at: float
    horizon_seconds: int
    target_at: float
    quantiles: Any


def _forecast(forecast: Forecast) -> _Forecast:
    series = forecast.series
    return _Forecast(
        "tokentide.forecast.v1",
        series.model,
        series.pool,
        series.signal,
        forecast.issued_at,
        forecast.horizon_seconds,
        forecast.target_at,
        _Quantiles(*forecast.quantiles),
    )


def _alert(alert: Alert) -> dict[str, Any]:
    return {"schema": "tokentide.alert.v1", **asdict(alert), "active": alert.ended_at is None}


def _score(score: Score) -> dict[str, Any]:
    return {
        "signal": score.series.signal,
        "horizon_seconds": score.horizon_seconds,
        "matured": score.matured,
        "wape": score.wape,
        "coverage_90": score.coverage_90,
        "coverage_95": score.coverage_95,
        "pinball_95": score.pinball_95,
        "coverage_95_busy": score.coverage_95_busy,
        "coverage_95_after_spike": score.coverage_95_after_spike,
        "regret": score.regret,
    }


def _growth(growth: Growth) -> dict[str, Any]:
    return {"name": growth.name, "per_day": growth.per_day, "medians": growth.medians}


#: Fields of a window that have a shape of their own.
_SHAPED = ("breakdown", "fleet", "service")
_WINDOW_FIELDS = tuple(field.name for field in fields(ClosedWindow) if field.name not in _SHAPED)

_FLEET_FIELDS = ("reported_at", "queued_requests", "running_requests")


def _window(window: ClosedWindow) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(window, name) for name in _WINDOW_FIELDS}
    fleet = window.fleet
    values["fleet"] = None if fleet is None else {name: getattr(fleet, name) for name in _FLEET_FIELDS}
    told = window.service
    values["service"] = (
        None if told is None else {n: None if v is None else v._asdict() for n, v in told._asdict().items()}
    )
    if window.breakdown:
        values["breakdown"] = {
            told.dimension: {"values": told.values, "parts": [part._asdict() for part in told.parts]}
            for told in window.breakdown
        }
    return {"schema": "tokentide.window.v1", **values, "end": window.end, "rates": signal_rates(window)}


def _step(output: StepOutput) -> dict[str, Any]:
    return {
        "as_of": output.as_of,
        "windows": output.windows,
        "forecasts": output.forecasts,
        "scores": output.scores,
        "recommendations": output.recommendations,
        "alerts": output.alerts,
    }


_NOUNS: dict[type, Any] = {
    Forecast: _forecast,
    Alert: _alert,
    Score: _score,
    ClosedWindow: _window,
    Growth: _growth,
    StepOutput: _step,
}

#: Encoded as they are: scalars (a number that is not finite becomes null), and dataclasses that hold no other noun.
_PLAIN = frozenset({type(None), bool, int, float, str, Recommendation, _Forecast})
_ENCODER = msgspec.json.Encoder()
