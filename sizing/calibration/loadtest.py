"""Load-test reports as observed points, by tool: short names for ``sizing.calibration.loadtests``.

Each function takes a parsed report and returns its points, one replica's share each, and raises ``InvalidInput`` where
the report is of another tool or holds no usable measurement.
"""

from __future__ import annotations

from typing import Any

from sizing.calibration.loadtests.registry import read_report
from sizing.calibration.measurement import ObservedPoint

__all__ = ["aiperf_points", "guidellm_points", "inference_perf_points", "load_test_points", "vllm_bench_points"]


def load_test_points(report: Any, *, replicas: int = 1) -> list[ObservedPoint]:
    """Return the points of a report of any known kind, recognised by its keys; loads divided by ``replicas``."""
    return list(read_report(report, replicas=replicas).points)


def guidellm_points(report: Any, *, replicas: int = 1) -> list[ObservedPoint]:
    """Return one point per benchmark of a GuideLLM report."""
    return list(read_report(report, tool="guidellm", replicas=replicas).points)


def aiperf_points(report: Any, *, replicas: int = 1) -> list[ObservedPoint]:
    """Return the point of an aiperf run."""
    return list(read_report(report, tool="aiperf", replicas=replicas).points)


def inference_perf_points(report: Any, *, replicas: int = 1) -> list[ObservedPoint]:
    """Return the point of one inference-perf stage."""
    return list(read_report(report, tool="inference-perf", replicas=replicas).points)


def vllm_bench_points(report: Any, *, replicas: int = 1) -> list[ObservedPoint]:
    """Return one point per run of ``vllm bench serve``."""
    return list(read_report(report, tool="vllm", replicas=replicas).points)
