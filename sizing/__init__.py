"""Sizing physics: how much GPU capacity a stream of LLM requests needs, and how sure that is.

A library of its own: no I/O, no clock, no import of the pipeline. The names below are its public interface; everything
else may move between versions. They are imported when they are first used, so that ``import sizing`` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sizing.calibration.calibrator import Calibrator, calibrated
    from sizing.calibration.measurement import ObservedPoint
    from sizing.catalog import Catalog
    from sizing.errors import DoesNotFit, InvalidInput, SizingError
    from sizing.planning.operating_point import OperatingPoint, operating_point
    from sizing.planning.plan import Plan, Planner, plan
    from sizing.scaling.controller import ReplicaController
    from sizing.types import Counterfactual, Demand, Deployment, PolicyConfig, Recommendation, Slo, Workload

__all__ = [
    "Calibrator",
    "Catalog",
    "Counterfactual",
    "Demand",
    "Deployment",
    "DoesNotFit",
    "InvalidInput",
    "ObservedPoint",
    "OperatingPoint",
    "Plan",
    "Planner",
    "PolicyConfig",
    "Recommendation",
    "ReplicaController",
    "SizingError",
    "Slo",
    "Workload",
    "calibrated",
    "operating_point",
    "plan",
]

_MODULES = {
    "sizing.calibration.calibrator": ("Calibrator", "calibrated"),
    "sizing.calibration.measurement": ("ObservedPoint",),
    "sizing.catalog": ("Catalog",),
    "sizing.errors": ("DoesNotFit", "InvalidInput", "SizingError"),
    "sizing.planning.operating_point": ("OperatingPoint", "operating_point"),
    "sizing.planning.plan": ("Plan", "Planner", "plan"),
    "sizing.scaling.controller": ("ReplicaController",),
    "sizing.types": ("Counterfactual", "Demand", "Deployment", "PolicyConfig", "Recommendation", "Slo", "Workload"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'sizing' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
