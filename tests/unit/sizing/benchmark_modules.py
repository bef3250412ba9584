"""Scripts of ``benchmarks/sizing`` as modules: they import each other by their bare names."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks" / "sizing"


@cache
def benchmark_module(name: str) -> ModuleType:
    """Return ``benchmarks/sizing/NAME.py``, loaded once."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location(f"benchmarks_sizing_{name}", BENCHMARKS / f"{name}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module
