"""What a results file says about where and when it was measured."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["describe"]

_PACKAGES = (
    "tokentide",
    "faust-streaming",
    "mode-streaming",
    "aiokafka",
    "confluent-kafka",
    "quixstreams",
    "bytewax",
    "msgspec",
    "numpy",
    "duckdb",
)


def describe() -> dict[str, object]:
    """Date, cores, processor architecture and the versions of everything that takes part."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": versions,
    }
